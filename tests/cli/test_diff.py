"""`curate diff`: recipes by hand, corpora against their own files."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyarrow import compute as pc

A = """\
name: one
input: {path: docs/}
stages:
  - language_id: {}
  - select: "lang = 'en'"
  - gopher_quality: {min_words: 50}
  - select: "gopher_quality_pass"
output: {path: out/one}
"""


@pytest.fixture
def recipes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(A)

    def other(*changes):
        text = A
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "b.yaml").write_text(text)

    return other


def test_the_same_recipe(curate, recipes):
    recipes(("{min_words: 50}", "{min_words: 50}  # a comment, and a default given: 100000"))
    done = curate("diff", "a.yaml", "b.yaml")
    assert (done.returncode, done.stdout) == (0, "recipes: the same\n")


def test_recipes_whose_input_comes_with_the_run(curate):
    folder = Path(__file__).parents[2] / "recipes"
    done = curate("diff", folder / "refinedweb.yaml", folder / "dclm.yaml")
    assert done.returncode == 1
    assert "refinedweb" in done.stdout
    assert "dclm" in done.stdout


def test_a_key_and_a_step(curate, recipes):
    recipes(("min_words: 50", "min_words: 30"), ("  - select: \"lang = 'en'\"\n", ""), ("out/one", "out/two"))
    done = curate("diff", "a.yaml", "b.yaml")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "recipes: - a.yaml  + b.yaml",
        "  output.path: out/one -> out/two",
        "    0/0  language_id",
        "-   1/-  select",
        "~   2/1  gopher_quality",
        "           min_words: 50 -> 30",
        "    3/2  select",
    ]


def test_a_default_that_is_given_is_no_difference(curate, recipes):
    recipes(("min_words: 50", "max_words: 100000"))
    assert curate("diff", "a.yaml", "b.yaml").returncode == 0


def test_json(curate, recipes):
    recipes(("min_words: 50", "min_words: 30"))
    found = json.loads(curate("diff", "a.yaml", "b.yaml", "--json").stdout)
    assert (found["schema"], found["status"], found["exit"], found["corpora"]) == (
        "curate.diff/1",
        "different",
        1,
        None,
    )
    changed = [pair for pair in found["recipes"]["steps"] if pair["changes"]]
    assert changed == [
        {"name": "gopher_quality", "a": 2, "b": 2, "changes": [{"key": "min_words", "a": 50, "b": 30}]}
    ]


@pytest.mark.parametrize(
    ("a", "b", "what"),
    [("none.yaml", "a.yaml", "cannot read the recipe"), ("a.yaml", ".", "not the output of a run")],
)
def test_bad_arguments(curate, recipes, a, b, what):
    done = curate("diff", a, b)
    assert done.returncode == 2
    assert what in done.stderr


@pytest.fixture(scope="module")
def stricter(project: Path, process, tmp_path_factory) -> Path:
    """`made` again, with another cut, no dedup, and a stage that changes some texts."""
    folder = tmp_path_factory.mktemp("stricter")
    text = (
        (project / "recipe.yaml")
        .read_text()
        .replace("score >= 0.2", "score >= 0.5")
        .replace("  - exact_dedup: {}\n", "  - clean_text: {}\n")
    )
    (folder / "recipe.yaml").write_text(text)
    done = process("run", folder / "recipe.yaml", "-o", folder / "out", "--workers", 1)
    assert done.returncode == 4, done.stderr
    return folder / "out"


def test_corpora(curate, made: Path, stricter: Path):
    """Rows 12 to 29 are below the new cut; 30, 40 and 50 are copies of 15 that only the dedup drops; 25, 33 go anyway."""
    done = curate("diff", made, stricter, "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)["corpora"]
    a, b = (
        pq.ParquetDataset([str(p) for p in sorted(f.glob("part-*.parquet"))]).read(["id", "text"])
        for f in (made, stricter)
    )
    both = set(a["id"].to_pylist()) & set(b["id"].to_pylist())
    texts = [dict(zip(t["id"].to_pylist(), t["text"].to_pylist(), strict=True)) for t in (a, b)]
    same = sum(texts[0][i] == texts[1][i] for i in both)
    assert found["rows"] == {"a": a.num_rows, "b": b.num_rows}
    assert (found["same"], found["changed"]) == (same, len(both) - same)
    assert [(f["fate"], f["stage"], f["reason"], f["rows"]) for f in found["only_a"]] == [
        ("dropped", "input", "score >= 0.5", len(set(a["id"].to_pylist()) - both))
    ]
    assert [(f["fate"], f["stage"], f["reason"], f["rows"]) for f in found["only_b"]] == [
        ("dropped", "exact_dedup", "duplicate", 3)
    ]
    assert {shown["id"] for shown in found["only_b"][0]["sample"]} == {"doc-030", "doc-040", "doc-050"}


def test_corpora_in_words(curate, made: Path, stricter: Path):
    done = curate("diff", made, stricter)
    assert done.returncode == 1
    assert f"3 rows only in {stricter}; what the other did:" in done.stdout
    assert "dropped by exact_dedup: duplicate" in done.stdout
    assert "+   -/2  clean_text" in done.stdout or "clean_text" in done.stdout


def test_both_ways_round_are_one(curate, made: Path, stricter: Path):
    one, other = (
        json.loads(curate("diff", *pair, "--json").stdout)["corpora"]
        for pair in ((made, stricter), (stricter, made))
    )
    assert (one["only_a"], one["only_b"], one["same"]) == (other["only_b"], other["only_a"], other["same"])


def test_many_buckets_are_one(made: Path, stricter: Path, monkeypatch):
    """Ids are joined bucket by bucket where there are many; the sums do not change."""
    from curate.report import difference
    from curate.report.facts import read_facts

    def counted():
        found = difference.compare(read_facts(str(made)), read_facts(str(stricter)))
        return (found.same, found.changed, [(f.reason, f.rows) for f in (*found.only_a, *found.only_b)])

    whole = counted()
    monkeypatch.setattr(difference, "_ROWS_PER_BUCKET", 7)
    assert counted() == whole


def test_a_corpus_and_itself(curate, made: Path):
    done = curate("diff", made, made)
    assert done.returncode == 0
    rows = sum(pq.read_metadata(p).num_rows for p in made.glob("part-*.parquet"))
    assert f"{rows:,} kept by both, the same text (100.0%" in done.stdout


def test_strangers(curate, made: Path, dataset: Path):
    for part in dataset.glob("**/part-*.parquet"):
        table = pq.read_table(part, partitioning=None)
        at = table.schema.get_field_index("id")
        pq.write_table(
            table.set_column(at, table.schema.field(at), pc.binary_join_element_wise(table["id"], "x", "-")),
            part,
        )
    done = curate("diff", made, dataset)
    assert done.returncode == 2
    assert "no id in common" in done.stderr
