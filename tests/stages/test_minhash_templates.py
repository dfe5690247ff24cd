"""minhash_dedup on pages of one template, in whole runs: chains of pages that are nearly the same, and sources wiped out."""

import itertools
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate
from curate.errors import GuardError
from curate.kernels.shingles import shingles
from curate.schema import text_buffers

HANDBOOK = (
    "html/debian_handbook_26_locales_dev.parquet"  # chapters in 26 languages, many of them half translated
)
SITE = "warc/aut-archive-org-2008.warc.gz"  # pages of archive.org, with their menus


def deduplicated(source, place, threshold):
    """Every page of a run, in order: its text and who was kept for it."""
    stages = [{"extract": {"main_content": False}}, {"minhash_dedup": {"threshold": threshold}}]
    recipe = {"input": {"path": str(source)}, "stages": stages, "output": {"path": str(place / "out")}}
    curate.run(recipe, workers=1)
    kept = pq.read_table(place / "out", columns=["id", "text"]).to_pylist()
    paths = list((place / "out/_dropped").rglob("*.parquet"))
    dropped = [
        r for path in paths for r in pq.read_table(path, columns=["id", "text", "kept_id"]).to_pylist()
    ]
    return {r["id"]: (r["text"], r.get("kept_id")) for r in kept + dropped}


def sets_of(pages):
    found = shingles(*text_buffers(pa.array([text for text, _ in pages.values()], pa.large_string())))
    sets = [frozenset(found.hashes[a:b].tolist()) for a, b in itertools.pairwise(found.offsets)]
    return dict(zip(pages, sets, strict=True))


def jaccard(a, b):
    return len(a & b) / len(a | b)


def alike_in_size(a, b):
    """Others cannot reach 0.8."""
    return 0.8 * max(len(a), len(b)) <= min(len(a), len(b))


@pytest.mark.slow
@pytest.mark.parametrize(("corpus", "threshold", "fewest"), [(HANDBOOK, 0.8, 250), (SITE, 0.7, 10)])
def test_no_page_of_a_template_goes_under_the_threshold(shared_data, tmp_path, corpus, threshold, fewest):
    pages = deduplicated(shared_data / corpus, tmp_path, threshold)
    sets = sets_of(pages)
    dropped = [(sets[name], sets[kept]) for name, (_, kept) in pages.items() if kept and sets[name]]
    assert len(dropped) > fewest
    assert min(jaccard(a, b) for a, b in dropped) >= threshold
    assert all(pages[kept][1] is None for _, kept in pages.values() if kept)


@pytest.mark.slow
def test_locales_hang_together_by_chains_that_are_not_merged(shared_data, tmp_path):
    """Who was kept, and one that goes with somebody of its cluster: chains would have merged them."""
    pages = deduplicated(shared_data / HANDBOOK, tmp_path, 0.8)
    sets = sets_of(pages)
    kept = [name for name, (_, by) in pages.items() if by is None and sets[name]]
    by_chain = [
        (other, name)
        for name, (_, by) in pages.items() if by is not None and sets[name]
        for other in kept if other != by and alike_in_size(sets[other], sets[name])
        and jaccard(sets[other], sets[name]) >= 0.8
    ]  # fmt: skip
    assert by_chain
    assert all(jaccard(sets[other], sets[pages[name][1]]) < 0.8 for other, name in by_chain)


def test_a_templated_source_that_would_be_wiped_out_stops_the_run_and_is_named(shared_data, tmp_path):
    draw = random.Random(5)
    form = "The lamp number {} is sold by our shop in {} pieces. " + " ".join(f"term{i}" for i in range(200))
    shop = [form.format(i, draw.randrange(100)) for i in range(1100)]
    table = pq.read_table(shared_data / "text/en_digitalgov_articles.parquet", columns=["text"])
    articles = [text[:500] for text in table["text"].to_pylist()[:1100]]
    (tmp_path / "in").mkdir()
    rows = {"text": shop + articles, "source": ["shop"] * 1100 + ["articles"] * 1100}
    pq.write_table(pa.table(rows), tmp_path / "in/rows.parquet")
    recipe = {
        "input": {"path": str(tmp_path / "in")}, "output": {"path": str(tmp_path / "out")},
        "stages": [{"minhash_dedup": {"max_drop_per_source": 0.5}}],
    }  # fmt: skip
    with pytest.raises(GuardError) as caught:
        curate.run(recipe, workers=1)
    first, *_, of_shop, of_articles = caught.value.what.splitlines()
    assert "(minhash_dedup) dropped 1099 of 1100 rows (99.9%) of the source `shop`, more than its" in first
    assert of_shop.split() == ["shop", "1,100", "1,099", "99.9%"]
    assert of_articles.split()[:2] == ["articles", "1,100"]
    assert not (tmp_path / "out/_curate/manifest.json").exists()
