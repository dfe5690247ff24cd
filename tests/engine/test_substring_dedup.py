"""substring_dedup as the engine runs it: whatever the units and workers, and after kills in each phase."""

import gzip
import hashlib
import json
import random
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

WORDS = "corpus journal harbour lantern meadow quarry thimble walnut été 雪 😀".split()


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    """150 texts, most of which hold passages of others."""
    draw = random.Random(4)
    passages = [" ".join(draw.choices(WORDS, k=draw.randint(5, 60))) for _ in range(30)]
    found = []
    for i in range(150):
        own = [" ".join(draw.choices(WORDS, k=40)) for _ in range(3)]
        text = " ".join([own[0], draw.choice(passages), own[1], draw.choice(passages), own[2]])
        found.append({"key": f"row-{i}", "text": draw.choice([text, text, text, draw.choice(passages)])})
    return found


def written(folder: Path, rows, files: int) -> Path:
    """Compressed files, each of which is a unit."""
    folder.mkdir(parents=True)
    size = -(-len(rows) // files)
    for i in range(files):
        lines = [json.dumps(row) + "\n" for row in rows[i * size : (i + 1) * size]]
        (folder / f"{i}.jsonl.gz").write_bytes(gzip.compress("".join(lines).encode()))
    return folder


def recipe_of(folder: Path) -> Path:
    tree = {"input": {"path": str(folder), "id": "key"}, "stages": ["substring_dedup"]}
    file = folder.parent / "recipe.yaml"
    file.write_text(json.dumps(tree))
    return file


def slow(rows, length=100):
    """Texts by key without the bytes of windows that came before, cut between characters."""
    seen, done = {}, {}
    for number, row in enumerate(rows):
        data = row["text"].encode()
        gone = set()
        for i in range(len(data) - length + 1):
            first = seen.setdefault(data[i : i + length], (number, i))
            if first != (number, i):
                gone |= set(range(max(i, first[1] + length) if first[0] == number else i, i + length))
        at, kept = 0, ""
        for character in row["text"]:
            end = at + len(character.encode())
            kept += character if not gone >= set(range(at, end)) else ""
            at = end
        done[row["key"]] = kept
    return done


def texts(out: Path) -> dict[str, str]:
    table = pq.read_table(sorted(out.glob("part-*.parquet")))
    return dict(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))


@pytest.mark.parametrize(("files", "workers"), [pytest.param(1, 1, marks=pytest.mark.slow), (4, 2)])
def test_texts_are_those_of_plain_python_whatever_the_units(curate, rows, files, workers, tmp_path):
    recipe, out = recipe_of(written(tmp_path / "in", rows, files)), tmp_path / "out"
    ran = curate("run", recipe, "--workers", workers, "--json", "-o", out)
    assert ran.code == 0, ran.err
    expected = slow(rows)
    empty = [key for key, text in expected.items() if not text]
    assert len(empty) > 5
    assert texts(out) == {key: text for key, text in expected.items() if text}
    assert ran.json["rows"]["dropped"] == {"substring_dedup": {"emptied": len(empty)}}
    dropped = pq.read_table(sorted(out.glob("_dropped/*/part-*.parquet")))
    assert dropped["text"].to_pylist() == [row["text"] for row in rows if row["key"] in empty]
    assert curate("verify", out).code == 0


def checksums(out: Path) -> dict[str, str]:
    parts = [p for p in sorted(out.rglob("part-*")) if "_curate" not in p.parts]
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in parts}


@pytest.mark.slow
def test_killed_in_each_phase_the_rerun_ends_with_the_same_bytes(curate, rows, tmp_path):
    recipe = recipe_of(written(tmp_path / "in", rows, 4))
    undisturbed = tmp_path / "undisturbed/out"
    assert curate("run", recipe, "--workers", 2, "-o", undisturbed).code == 0
    assert len(checksums(undisturbed)) > 4
    reached = set()
    for unit in (3, 7, 13, 17, 22, 26):  # one of the 30 in each pass
        out = tmp_path / f"{unit}/out"
        died = curate("run", recipe, "--workers", 2, "-o", out, env={"CURATE_FAULT": f"unit:{unit}"})
        assert died.code == -signal.SIGKILL, died.err
        reached.add(len(list(out.parent.glob(".curate/passes/*"))) + (out / "_curate/journal").exists())
        ran = curate("run", recipe, "--workers", 2, "-o", out)
        assert ran.code == 0, ran.err
        assert checksums(out) == checksums(undisturbed)
    assert reached == {1, 2, 3, 4, 5, 6}
    for moment in ("claim:9", "claimed:6", "rename:12"):
        out = tmp_path / moment.replace(":", "-") / "out"
        first = curate("run", recipe, "--workers", 1, "-o", out, env={"CURATE_FAULT": moment}, timeout=600)
        assert first.code in (0, 3, -9)
        assert curate("run", recipe, "--workers", 1, "-o", out).code == 0
        assert checksums(out) == checksums(undisturbed)
