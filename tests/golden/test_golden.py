"""Verdicts and numbers of the stages on the shared documents, never their text.

`make golden` writes verdicts.json anew and shows what changed; a changed output also wants a new stage version.
"""

import hashlib
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

import curate
from curate.errors import ModelError
from curate.models import catalog, fasttext
from curate.stages import (
    bad_words,
    c4_lines,
    c4_quality,
    clean_text,
    decontaminate,
    extract,
    fineweb_quality,
    gopher_quality,
    gopher_repetition,
    language_id,
    line_dedup,
    minhash_dedup,
    paragraph_dedup,
    pii_mask,
    refinedweb_lines,
    sentence_dedup,
    url_dedup,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "stages"))
import phases

GOLDEN = Path(__file__).with_name("verdicts.json")
FILES = (
    "text/en_18f_blog",
    "text/web_stackexchange_samples",
    "multilingual/opensource_guides_29_languages_dev",
)
WORDS = Path(__file__).parents[1] / "stages/lists/bad_words.txt"
VERSIONS = "dedup/powershell_docs_versions_dev"
PAGES = "html/article_extraction_benchmark_dev"


def digest(values: list[Any]) -> str:
    """Sixteen hex digits over rounded values: enough to see a change, nothing to read back."""
    rounded = [float(f"{v:.5g}") if isinstance(v, float) else v for v in values]
    return hashlib.sha256(json.dumps(rounded).encode()).hexdigest()[:16]


def judged(batch: pa.RecordBatch, model: fasttext.Model) -> pa.RecordBatch:
    batch = language_id.language_id(batch, language_id.Config(), model)
    batch = gopher_quality.gopher_quality(batch, gopher_quality.Config())
    batch = gopher_repetition.gopher_repetition(batch, gopher_repetition.Config())
    batch = fineweb_quality.fineweb_quality(batch, fineweb_quality.Config())
    batch = c4_quality.c4_quality(batch, c4_quality.Config())
    return clean_text.clean_text(batch, clean_text.Config())


def edited(batch: pa.RecordBatch) -> dict[str, str]:
    """Digests of what the stages that edit lines make of the raw text, each by itself."""
    c4 = c4_lines.c4_lines(batch, c4_lines.Config())
    refinedweb = refinedweb_lines.refinedweb_lines(batch, refinedweb_lines.Config())
    texts = {"c4_lines_text": c4["text"], "refinedweb_lines_text": refinedweb["text"]}
    columns = {c: rows[c] for rows in (c4, refinedweb) for c in rows.schema.names if c not in ("id", "text")}
    return {name: digest(column.to_pylist()) for name, column in (texts | columns).items()}


def filtered(batch: pa.RecordBatch) -> dict[str, str]:
    words = bad_words.Config(list=str(WORDS))
    rows = bad_words.bad_words(batch, words, bad_words.load(words, Path()))
    rows = pii_mask.pii_mask(rows, pii_mask.Config())
    return {c: digest(rows[c].to_pylist()) for c in rows.schema.names if c != "id"}


def contaminated(batch: pa.RecordBatch, data: Path, store: Path) -> dict[str, str]:
    """Digests of what is found of the questions of MMLU, with and without weights; the texts hold phrases of them."""
    sets = (decontaminate.Set(path=str(data / "eval/mmlu_half_of_subjects.jsonl.zst")),)
    found = {}
    for options in (
        {"threshold": 0.3, "require_answer": False},
        {"method": "coverage", "ngram": 5, "threshold": 0.3},
    ):
        config = decontaminate.Config(sets=sets, **options)
        rows = decontaminate.decontaminate(batch, config, decontaminate.load(config, store))
        found |= {f"{config.method}_{c}": digest(rows[c].to_pylist()) for c in decontaminate.WRITES}
    return found


def without_repeats(data: Path, scratch: Path) -> dict[str, dict[str, str]]:
    """Digests of kept and dropped rows, each stage by itself, on pages that stand there in several versions."""
    pages = pq.read_table(data / f"{VERSIONS}.parquet", columns=["id", "text", "cluster"]).to_pylist()[:200]
    rows = [
        {"id": p["id"], "text": p["text"], "url": f"https://docs.org/{p['cluster']}/?utm_id=1"} for p in pages
    ]
    units = [rows[:120], rows[120:]]
    every_line = line_dedup.Config(min_chars=1)
    bloom = paragraph_dedup.Config(method="bloom", remove="old-both", keep_original=True)
    found = {}
    for name, stage, config in (
        ("url_dedup", url_dedup.url_dedup, url_dedup.Config()),
        ("line_dedup", line_dedup.line_dedup, every_line),
        ("minhash_dedup", minhash_dedup.minhash_dedup, minhash_dedup.Config()),
        ("paragraph_dedup", paragraph_dedup.paragraph_dedup, paragraph_dedup.Config()),
        ("paragraph_dedup_bloom", paragraph_dedup.paragraph_dedup, bloom),
        ("sentence_dedup", sentence_dedup.sentence_dedup, sentence_dedup.Config()),
    ):
        kept, dropped, _ = phases.dedup(stage, units, config, scratch, 1_000)
        found[name] = {
            "kept": digest([list(row.values()) for row in kept]),
            "dropped": digest([list(row.values()) for row in dropped]),
        }
    return found


def semantic(data: Path, store: Path) -> dict[str, Any]:
    """What `semantic_dedup` drops of versions of the same pages, by counts of their words in 64 bins; one cluster."""
    table = pq.read_table(data / "dedup/powershell_docs_versions_dev.parquet", columns=["id", "text"])[:200]
    bins = np.zeros((len(table), 64), np.float32)
    for row, text in enumerate(table["text"].to_pylist()):
        np.add.at(bins[row], [xxhash.xxh3_64_intdigest(word) % 64 for word in text.split()], 1)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(bins.reshape(-1)), 64)
    pq.write_table(table.append_column("bins", vectors), store / "pages.parquet")
    step = {"semantic_dedup": {"column": "bins", "eps": 0.005, "keep": "first", "clusters": 1}}
    source, output = {"path": str(store / "pages.parquet"), "id": "id"}, {"path": str(store / "out")}
    curate.run({"name": "golden", "input": source, "stages": [step], "output": output}, workers=1)
    gone = [
        row for part in (store / "out/_dropped").rglob("*.parquet") for row in pq.read_table(part).to_pylist()
    ]
    ids = sorted([row["id"], row["kept_id"]] for row in gone)
    return {"rows": len(table), "dropped": len(gone), "pairs": digest([f"{a} {b}" for a, b in ids])}


def verdicts(data: Path, model: fasttext.Model, store: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in FILES:
        table = pq.read_table(data / f"{name}.parquet", columns=["id", "text"]).combine_chunks()
        batch = pa.RecordBatch.from_arrays(
            [table["id"].chunk(0), table["text"].chunk(0).cast(pa.large_string())], ["id", "text"]
        )
        rows = judged(batch, model)
        found[name] = {
            "rows": rows.num_rows,
            "languages": dict(sorted(Counter(rows["lang"].to_pylist()).items(), key=str)),
        }
        for stage in ("gopher_quality", "gopher_repetition", "fineweb_quality", "c4_quality"):
            found[name][stage] = dict(sorted(Counter(map(str, rows[f"{stage}_reason"].to_pylist())).items()))
        found[name]["columns"] = {
            c: digest(rows[c].to_pylist()) for c in rows.schema.names if c not in ("id", "lang_score")
        } | edited(batch)
        found[name]["filtered"] = filtered(batch)
        found[name]["contaminated"] = contaminated(batch, data, store)
    found["semantic_dedup"] = semantic(data, store)
    pages = pq.read_table(data / f"{PAGES}.parquet", columns=["id", "html"]).combine_chunks()
    empty = pa.nulls(pages.num_rows, pa.large_string())
    batch = pa.RecordBatch.from_arrays(
        [pages["id"].chunk(0), pages["html"].chunk(0).cast(pa.large_binary()), empty], ["id", "html", "text"]
    )
    out = extract.extract(batch, extract.Config())
    found[PAGES] = {c: digest(out[c].to_pylist()) for c in out.schema.names if c != "id"}
    found[VERSIONS] = without_repeats(data, store)
    return found


def test_verdicts_are_those_on_record(shared_data, tmp_path):
    try:
        path = catalog.find("lid176")
    except ModelError as error:
        pytest.fail(error.hint) if os.environ.get("CI") else pytest.skip(error.hint)
    found = verdicts(shared_data, fasttext.load(fasttext.convert(path, tmp_path)), tmp_path)
    if os.environ.get("CURATE_GOLDEN") == "write":
        GOLDEN.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    assert found == json.loads(GOLDEN.read_text())
