"""Whatever stands in a recipe, an input file or an output folder: an exit code from 0 to 4 and a sentence.

`main` runs here in this process, so anything that is not caught fails the test with its traceback.
"""

import contextlib
import copy
import gzip
import io
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.cli.main import main

RECIPE: dict[str, Any] = {
    "name": "fuzz",
    "input": {"path": "in", "columns": {"text": "content"}, "format": "jsonl"},
    "stages": [
        {"clean_text": {"when": "length(text) > 3"}},
        {"sample": {"seed": 3}},
        {"stage": "token_count", "name": "tokens"},
        "checkpoint",
        {"select": {"where": "sample_hash < 0.9 and text is not null", "max_drop": 0.99}},
        {"exact_dedup": {"keep": "longest"}},
        {"split": {}},
        "gopher_quality",
    ],
    "output": {"path": "out", "dropped": {"sample": 0.5}},
    "seed": 1,
    "unit_mb": 1,
    "max_document_mb": 1,
    "allow_empty": True,
    "allow_quarantined": 0.5,
}
FEW = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
QUICK = settings(FEW, max_examples=50)
LONG = settings(FEW, max_examples=100)


def call(*arguments: object) -> tuple[int, str]:
    """Exit code and stderr of a command."""
    said, before = io.StringIO(), sys.argv
    sys.argv = ["curate", *map(str, arguments)]
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            main()
        code: Any = 0
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = before
    assert code in (0, 1, 2, 3, 4), said.getvalue()
    assert "Traceback" not in said.getvalue()
    return code, said.getvalue()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a little input."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text('{"content": "one two"}\n{"content": "three"}\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def paths(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a tree."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [at] * bool(at) + [path for key, value in inside for path in paths(value, (*at, key))]


numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([0, -1, 1 << 70, 1e308]))
words = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["in", "out", "text", "id", "select", "extract", "~", "no", "../..", "s3:", "memory://x", "*", "[", "%", "\0", "-"]),
)  # fmt: skip
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, words),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def recipes(draw: Callable[..., Any]) -> dict[str, Any]:
    """A sound recipe with up to three places removed, replaced or filled with something else."""
    tree = copy.deepcopy(RECIPE)
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(paths(tree)))
        node = tree
        for key in above:
            node = node[key]
        action = draw(st.sampled_from(["remove", "replace", "add"]))
        if action == "remove":
            del node[last]
        elif action == "replace":
            node[last] = draw(values)
        elif isinstance(node, dict):
            node[draw(words)] = draw(values)
        else:
            node.insert(last, draw(values))
        if not paths(tree):
            break
    return tree


def test_the_recipe_that_is_changed_here_is_sound(desk: Path) -> None:
    (desk / "recipe.yaml").write_text(json.dumps(RECIPE))
    assert call("check", "recipe.yaml") == (0, "planning: 1 files, 44 B\n")
    assert call("run", "recipe.yaml", "--quiet")[0] == 0


def check_tree(desk: Path, tree: dict[str, Any]) -> int:
    (desk / "recipe.yaml").write_text(json.dumps(tree))
    return call("check", "recipe.yaml", "-o", "out")[0]


@QUICK
@given(recipes())
def test_changed_recipes(desk: Path, tree: dict[str, Any]) -> None:
    check_tree(desk, tree)


@pytest.mark.slow
@LONG
@given(recipes())
def test_many_changed_recipes(desk: Path, tree: dict[str, Any]) -> None:
    """Those that `check` lets pass run; a guard may stop them, a setting or the input may not."""
    if check_tree(desk, tree) == 0:
        assert call("run", "recipe.yaml", "-o", "out", "--fresh", "--workers", 1)[0] in (0, 1, 4)


@QUICK
@given(
    st.one_of(
        st.binary(max_size=300), st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace"))
    )
)
def test_recipes_of_any_bytes(desk: Path, data: bytes) -> None:
    (desk / "recipe.yaml").write_bytes(data)
    assert call("check", "recipe.yaml")[0] == 2


@QUICK
@given(
    st.sampled_from([".".join(map(str, path)) for path in paths(RECIPE)]), st.text(max_size=30), st.booleans()
)
def test_any_value_by_set(desk: Path, path: str, value: str, whole: bool) -> None:
    (desk / "recipe.yaml").write_text(json.dumps(RECIPE))
    call("check", "recipe.yaml", "--set", value if whole else f"{path}={value}")


@QUICK
@given(st.text(max_size=60))
def test_any_predicate(desk: Path, predicate: str) -> None:
    (desk / "recipe.yaml").write_text(json.dumps({**RECIPE, "stages": [{"select": predicate}]}))
    call("check", "recipe.yaml")


@pytest.mark.parametrize(
    "predicate",
    [
        "text = (select content from read_text('/etc/passwd'))",
        "read_text('/etc/passwd') is not null",
        "text in (from '/etc/passwd')",
        "exists (select * from read_csv('/etc/passwd'))",
        "text = getenv('HOME')",
        "true) union all select * from '/etc/passwd' --",
        "text = 'a'; copy (select 1) to '/tmp/x'",
        "length(glob('/etc/*')) > 0",
        "text = current_setting('home_directory')",
        "sqlite_scan('x', 'y') is null",
    ],
)
@pytest.mark.parametrize("where", ["select", "when"])
def test_a_predicate_that_tries_to_read_a_file_is_refused(desk: Path, predicate: str, where: str) -> None:
    stage = {"select": predicate} if where == "select" else {"sample": {"when": predicate}}
    (desk / "recipe.yaml").write_text(json.dumps({**RECIPE, "stages": [stage]}))
    for command in ("check", "run"):
        code, said = call(command, "recipe.yaml", "-o", desk / "refused")
        assert code == 2
        assert "stages[0]" in said
    assert not (desk / "refused" / "_curate" / "plan.json").exists()


def sound_files() -> dict[str, bytes]:
    """One file of each format."""
    texts = [f"document {i} " + "word " * 20 for i in range(50)]
    lines = b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)
    parquet = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), parquet, row_group_size=10)
    head = "WARC/1.0\r\nWARC-Type: {}\r\nWARC-Record-ID: <urn:{}>\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n"
    page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html><body><p>a page</p></body></html>"
    warc = [head.format("response", 1, "application/http", len(page)) + page]
    warc += [head.format("conversion", 2, "text/plain", 4) + "text"]
    warc_bytes = "".join(f"{record}\r\n\r\n" for record in warc).encode()
    return {
        "a.jsonl": lines, "b.jsonl.gz": gzip.compress(lines), "c.jsonl.zst": zstandard.compress(lines),
        "d.parquet": parquet.getvalue(), "e.warc": warc_bytes, "f.warc.gz": gzip.compress(warc_bytes) * 2,
        "g.html": b"<html><body><p>one page</p></body></html>", "h.txt": b"plain text", "i.py": b"print('code')\n",
    }  # fmt: skip


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The bytes with something wrong: a cut, flips, a stretch gone, doubled, or replaced by noise."""
    changed = bytearray(data)
    low, high = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    kind = chance.randrange(6)
    if kind == 0:
        return bytes(changed[:high])
    if kind == 1:
        for _ in range(chance.randint(1, 8)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    elif kind == 2:
        del changed[low:high]
    elif kind == 3:
        changed[low:low] = changed[low:high]
    elif kind == 4:
        changed[low:high] = chance.randbytes(high - low)
    else:
        return chance.randbytes(chance.randrange(2000))
    return bytes(changed)


def run_damaged(curate: Any, dataset: Any, desk: Path, seed: int) -> int:
    """A run over a folder in which most files are damaged; the real processes, and the exit code."""
    chance = random.Random(seed)
    folder = desk / f"in-{seed}"
    folder.mkdir()
    for name, data in sound_files().items():
        (folder / name).write_bytes(damaged(data, chance) if chance.random() < 0.7 else data)
    tree = {"input": {"path": str(folder)}, "stages": ["extract", "sample"], "unit_mb": 1}
    (desk / f"{seed}.yaml").write_text(json.dumps(tree))
    ran = curate("run", desk / f"{seed}.yaml", "-o", desk / f"out-{seed}", "--workers", 1)
    assert ran.code in (0, 2, 4), (seed, ran.err)
    if ran.code != 2:
        assert dataset(desk / f"out-{seed}").problems == [], seed
    return int(ran.code)


def test_damaged_inputs_end_in_quarantine(curate: Any, dataset: Any, desk: Path) -> None:
    assert run_damaged(curate, dataset, desk, seed=1) == 4


@pytest.mark.slow
def test_many_damaged_inputs(curate: Any, dataset: Any, desk: Path) -> None:
    assert 4 in {run_damaged(curate, dataset, desk, seed) for seed in range(10, 16)}


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small complete dataset with dropped and quarantined rows in two passes."""
    desk = tmp_path_factory.mktemp("complete")
    (desk / "in").mkdir()
    for name, data in sound_files().items():
        (desk / "in" / name).write_bytes(data)
    (desk / "in" / "bad.jsonl").write_bytes(b'{"text": "caf\xe9"}\n')
    tree = {
        "input": {"path": str(desk / "in")}, "unit_mb": 1, "allow_quarantined": 9,
        "stages": ["extract", "sample", {"select": "sample_hash < 0.8"}, "exact_dedup"],
    }  # fmt: skip
    (desk / "recipe.yaml").write_text(json.dumps(tree))
    assert call("run", desk / "recipe.yaml", "-o", desk / "out", "--quiet")[0] == 0
    return desk / "out"


def look_at_damage(complete: Path, chance: random.Random) -> None:
    """`verify` finds damage of a data file; damage of a plan or journal is said, whatever is in it."""
    with tempfile.TemporaryDirectory() as scratch:
        copied = Path(scratch) / "out"
        shutil.copytree(complete, copied)
        files = sorted(f for f in copied.rglob("*") if f.is_file() and "log" not in f.parts)
        file = chance.choice(files)
        before = file.read_bytes()
        file.write_bytes(damaged(before, chance))
        code, _ = call("verify", copied)
        if file.read_bytes() != before and file.name.startswith("part-"):
            assert code == 1
        file.unlink()
        call("verify", copied)
        for looking in (("peek", copied), ("status", copied), ("sql", copied, "select count(*) from docs")):
            call(*looking)


@FEW
@given(st.randoms(use_true_random=False))
def test_a_damaged_dataset(complete: Path, chance: random.Random) -> None:
    assert call("verify", complete)[0] == 0
    look_at_damage(complete, chance)


@pytest.mark.slow
@LONG
@given(st.randoms(use_true_random=False))
def test_a_dataset_damaged_in_many_ways(complete: Path, chance: random.Random) -> None:
    look_at_damage(complete, chance)
