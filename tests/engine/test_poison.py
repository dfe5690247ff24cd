"""Rows that no stage can survive cost themselves and nothing else: quarantined with the reason, all others kept."""

import gzip
import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.engine import workers
from curate.engine.run import run
from curate.errors import RunError
from curate.recipe.recipe import load
from curate.stages import use_file

STAGES = """
import os

import msgspec
import pyarrow as pa

from curate.child import mark_row
from curate.stage import stage


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    deadline_seconds: float = 0.3
    max_memory_mb: int = 250


def chars(text):
    if "CRASH" in text:
        os.abort()
    if "RAISE" in text:
        raise ValueError("this one does not work")
    if "NO MEMORY" in text:
        raise MemoryError
    if "HANG" in text:
        while True:
            pass
    if "EAT" in text:
        held = []
        while True:
            held.append(b"x" * (16 << 20))
    return len(text)


@stage("fragile", version=1, config=Config, reads=["text"], writes={"fragile_chars": pa.int64()}, isolate=True)
def fragile(batch, config):
    found = []
    for row, text in enumerate(batch["text"].to_pylist()):
        mark_row(row)
        found.append(chars(text))
    return batch.append_column("fragile_chars", pa.array(found, pa.int64()))


@stage("unmarked", version=1, config=Config, reads=["text"], writes={"unmarked_chars": pa.int64()}, isolate=True)
def unmarked(batch, config):
    found = [chars(text) for text in batch["text"].to_pylist()]
    return batch.append_column("unmarked_chars", pa.array(found, pa.int64()))


@stage("plain", version=1, config=Config, reads=["text"], writes={"plain_chars": pa.int64()})
def plain(batch, config):
    found = [chars(text) for text in batch["text"].to_pylist()]
    return batch.append_column("plain_chars", pa.array(found, pa.int64()))


def load_for_ever(config, store):
    while True:
        pass


@stage("never_ready", version=1, config=Config, reads=["text"], writes={"ready": pa.bool_()}, load=load_for_ever)
def never_ready(batch, config, model):
    raise AssertionError("nobody gets here")


@stage("shout", version=1, config=Config, reads=["text"],
       writes={"text": pa.large_string(), "shout_pass": pa.bool_(), "shout_chars": pa.int64()})
def shout(batch, config):
    text = batch["text"].to_pylist()
    louder = pa.array([t.upper() for t in text], pa.large_string())
    batch = batch.set_column(batch.schema.get_field_index("text"), "text", louder)
    batch = batch.append_column("shout_pass", pa.array(["quiet" not in t for t in text]))
    return batch.append_column("shout_chars", pa.array([len(t) for t in text], pa.int64()))
"""


@pytest.fixture
def user_stages(tmp_path: Path) -> Path:
    file = tmp_path / "my_stages.py"
    file.write_text(STAGES)
    return file


def good(name: str, count: int = 3) -> list[str]:
    return [f"good document {i} of {name}" for i in range(count)]


def lines(texts: Sequence[str]) -> bytes:
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)


def record(text: str, *, id: str = "", kind: str = "text/plain", length: int | None = None, headers: str = "",
           body: bytes | None = None) -> bytes:  # fmt: skip
    """A WARC response."""
    http = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{headers}\r\n".encode()
    block = http + (text.encode() if body is None else body)
    size = len(block) if length is None else length
    name = f"WARC-Record-ID: <urn:uuid:{id}>\r\n" if id else ""
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\n{name}Content-Type: application/http; msgtype=response\r\n"
        f"Content-Length: {size}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


def corrupt_page(file: Path) -> int:
    """Three row groups, the data page of the second broken; returns how many rows it had."""
    table = pa.table({"text": good("corrupt", 30)})
    pq.write_table(
        table, file, row_group_size=10, write_page_checksum=True, use_dictionary=False, compression="none"
    )
    column = pq.ParquetFile(file).metadata.row_group(1).column(0)
    data = bytearray(file.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 3] ^= 0xFF
    file.write_bytes(data)
    return 10


# What stands in each folder, the reasons on record, and the texts that are left.
Poison = tuple[dict[str, int], list[str]]
ZEROS = 160 << 20


def hangs_the_extractor(folder: Path) -> Poison:
    (folder / "nested.html").write_text("<html><body>" + "<div>" * 40_000 + "deep" + "</div>" * 40_000)
    (folder / "sound.html").write_text("<html><body><p>good page</p></body></html>")
    return {"deadline": 1}, ["good page"]


def eats_memory(folder: Path) -> Poison:
    texts = good("eats_memory")
    (folder / "eats_memory.jsonl").write_bytes(lines([*texts, "EAT"]))
    return {"memory": 1}, texts


def has_no_memory(folder: Path) -> Poison:
    texts = good("has_no_memory")
    (folder / "has_no_memory.jsonl").write_bytes(lines([*texts, "NO MEMORY"]))
    return {"memory": 1}, texts


def crashes_the_child(folder: Path) -> Poison:
    texts = good("crashes_the_child")
    (folder / "crashes_the_child.jsonl").write_bytes(lines(["CRASH", *texts]))
    return {"crash": 1}, texts


def hangs(folder: Path) -> Poison:
    texts = good("hangs")
    (folder / "hangs.jsonl").write_bytes(lines([*texts[:1], "HANG", *texts[1:]]))
    return {"deadline": 1}, texts


def raises(folder: Path) -> Poison:
    texts = good("raises")
    (folder / "raises.jsonl").write_bytes(lines([*texts, "RAISE"]))
    return {"error": 1}, texts


def invalid_utf8(folder: Path) -> Poison:
    texts = good("invalid_utf8")
    (folder / "invalid_utf8.jsonl").write_bytes(lines(texts) + b'{"text": "caf\xe9"}\n')
    return {"bad_utf8": 1}, texts


def line_of_100_mb(folder: Path) -> Poison:
    texts = good("line_of_100_mb")
    (folder / "line_of_100_mb.jsonl").write_bytes(
        lines(texts[:1]) + b'{"text": "' + b"x" * 100_000_000 + b'"}\n' + lines(texts[1:])
    )
    return {"too_long": 1}, texts


def truncated_gzip(folder: Path) -> Poison:
    texts = good("truncated_gzip")
    whole = gzip.compress(lines(texts)) + gzip.compress(lines(["never seen whole"] * 1000))
    (folder / "truncated_gzip.jsonl.gz").write_bytes(whole[:-20])
    first = zlib.decompressobj(31)
    first.decompress(whole[:-20])
    left = zlib.decompressobj(31).decompress(first.unused_data).count(b"\n")  # whole lines before the cut
    assert 0 < left < 1000
    return {"truncated": 1}, [*texts, *["never seen whole"] * left]


def truncated_warc(folder: Path) -> Poison:
    texts = good("truncated_warc")
    members = [gzip.compress(record(text)) for text in [*texts, "cut off " * 500]]
    (folder / "truncated.warc.gz").write_bytes(b"".join(members)[:-30])
    return {"truncated": 1}, texts


def corrupt_parquet_page(folder: Path) -> Poison:
    lost = corrupt_page(folder / "corrupt_page.parquet")
    texts = good("corrupt", 30)
    return {"corrupt_row_group": lost}, texts[:10] + texts[20:]


def lying_length(folder: Path) -> Poison:
    texts = good("lying_length")
    (folder / "lying.warc").write_bytes(
        record(texts[0])
        + record("liar", length=10_000_000)
        + record(texts[1])
        + record("liar", length=40)
        + record(texts[2])
    )
    return {"bad_record": 2}, texts


def bomb_in_a_warc(folder: Path) -> Poison:
    texts = good("bomb_in_a_warc")
    packer = zlib.compressobj(1, wbits=31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(ZEROS >> 20)) + packer.flush()
    (folder / "bomb.warc").write_bytes(
        record(texts[0])
        + record("", headers="Content-Encoding: gzip\r\n", body=bomb)
        + record(texts[1])
        + record(texts[2])
    )
    return {"too_long": 1}, texts


def bomb_of_lines(folder: Path) -> Poison:
    texts = good("bomb_of_lines")
    with gzip.open(folder / "bomb.jsonl.gz", "wb", compresslevel=1) as file:
        file.write(lines(texts))
        for _ in range(ZEROS >> 20):
            file.write(bytes(1 << 20))
    return {"too_long": 1}, texts


def null_text(folder: Path) -> Poison:
    texts = good("null_text")
    (folder / "null_text.jsonl").write_bytes(lines(texts) + b'{"text": null}\n')
    pq.write_table(pa.table({"text": pa.array(["good in parquet", None])}), folder / "null_text.parquet")
    return {"null_text": 2}, [*texts, "good in parquet"]


def bad_json(folder: Path) -> Poison:
    texts = good("bad_json")
    (folder / "bad_json.jsonl").write_bytes(lines(texts) + b'{"text": "never closed\n[1, 2]\n')
    return {"bad_json": 2}, texts


POISONS: list[Callable[[Path], Poison]] = [
    hangs_the_extractor, eats_memory, has_no_memory, crashes_the_child, hangs, raises, invalid_utf8,
    line_of_100_mb, truncated_gzip, truncated_warc, corrupt_parquet_page, lying_length, bomb_in_a_warc, bomb_of_lines,
    null_text, bad_json,
]  # fmt: skip


def poisoned(tmp_path: Path, poisons: Sequence[Callable[[Path], Poison]]) -> Poison:
    """Write the input; reasons and texts of all of them together."""
    reasons: dict[str, int] = {}
    texts: list[str] = []
    (tmp_path / "in").mkdir()
    for poison in poisons:
        found, left = poison(tmp_path / "in")
        texts += left
        for reason, count in found.items():
            reasons[reason] = reasons.get(reason, 0) + count
    return reasons, texts


def check(
    curate: Any,
    recipe: Any,
    dataset: Any,
    tmp_path: Path,
    user_stages: Path,
    expected: Poison,
    stage: str = "fragile",
) -> Any:
    """Run it and look at everything that is promised."""
    pages = bool(list((tmp_path / "in").glob("*.html")) or list((tmp_path / "in").glob("*.warc*")))
    stages = [*([{"extract": {"deadline_seconds": 0.3}}] if pages else []), stage]
    arguments = [
        "run",
        recipe(stages),
        "-o",
        tmp_path / "out",
        "--stages",
        user_stages,
        "--workers",
        2,
        "--json",
    ]
    ran = curate(*arguments)
    reasons, texts = expected
    out = dataset(tmp_path / "out")
    assert ran.code == 4, ran.err
    assert out.manifest["quarantined"] == reasons
    assert ran.json["rows"]["quarantined"] == len(out.quarantined) == sum(reasons.values())
    assert sorted(row["text"] for row in out.kept) == sorted(texts)
    assert out.problems == []
    for row in out.quarantined:
        assert row["id"]
        assert row["error"]
        assert row["stage"] != "read" or (row["source"] and row["offset"] is not None)
        assert len(row["raw"]) <= 4096
    assert max(one["peak_rss_bytes"] for one in out.manifest["passes"]) < 1 << 30
    assert len(out.manifest["killed_ids"]) == reasons.get("deadline", 0) + reasons.get("memory", 0)


def test_all_poisons_in_one_folder(
    curate: Any, recipe: Any, dataset: Any, tmp_path: Path, user_stages: Path
) -> None:
    check(curate, recipe, dataset, tmp_path, user_stages, poisoned(tmp_path, POISONS))
    allowed = [
        tmp_path / "recipe.yaml",
        "-o",
        tmp_path / "out",
        "--stages",
        user_stages,
        "--allow-quarantined",
        100,
    ]
    assert curate("run", *allowed).code == 0


@pytest.mark.slow
@pytest.mark.parametrize("poison", POISONS, ids=lambda poison: poison.__name__)
def test_one_poison(
    curate: Any, recipe: Any, dataset: Any, tmp_path: Path, user_stages: Path, poison: Any
) -> None:
    check(curate, recipe, dataset, tmp_path, user_stages, poisoned(tmp_path, [poison]))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["unmarked", "plain"])
def test_a_stage_that_marks_no_rows_loses_only_the_bad_ones(
    curate: Any, recipe: Any, dataset: Any, tmp_path: Path, user_stages: Path, stage: str
) -> None:
    """`plain` is not even isolated: its worker dies twice, then every stage gets a killable child."""
    poisons = [eats_memory, crashes_the_child, raises, *([hangs] if stage == "unmarked" else [])]
    check(curate, recipe, dataset, tmp_path, user_stages, poisoned(tmp_path, poisons), stage)


@pytest.mark.slow
def test_a_worker_that_hangs_on_a_row_loses_that_row(
    recipe: Any, dataset: Any, tmp_path: Path, user_stages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the stage is not isolated: killed at the same batch twice, then looked at row by row."""
    monkeypatch.setattr(workers, "STUCK_CPU_SECONDS", 2.0)
    expected, texts = poisoned(tmp_path, [hangs])
    use_file(user_stages)
    loaded = load(recipe(["plain"]), output=str(tmp_path / "out"))
    assert run(loaded, workers=1, stage_files=[str(user_stages)]).exit == 4
    assert dataset(tmp_path / "out").manifest["quarantined"] == expected
    assert [row["text"] for row in dataset(tmp_path / "out").kept] == texts


def test_a_stage_that_never_ends_loading_ends_the_run(
    recipe: Any, tmp_path: Path, user_stages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Busy before the first batch: no row is blamed, and nobody outside is."""
    monkeypatch.setattr(workers, "STUCK_CPU_SECONDS", 1.5)
    monkeypatch.setattr(workers, "MAX_DEATHS", 2)
    poisoned(tmp_path, [raises])
    use_file(user_stages)
    loaded = load(recipe(["never_ready"]), output=str(tmp_path / "out"))
    with pytest.raises(RunError, match="before its first batch 3 times and no row is to blame") as caught:
        run(loaded, workers=1, stage_files=[str(user_stages)])
    assert "seems never to end" in caught.value.hint
    assert not list((tmp_path / "out").glob("part-*"))


def test_rows_outside_when_pass_untouched(
    curate: Any, recipe: Any, dataset: Any, tmp_path: Path, user_stages: Path
) -> None:
    """`_pass` is true, the stage's other columns are null and the text is as it was; a select after it keeps them."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_bytes(lines(["loud one", "quiet one", "aside quiet", "aside"]))
    stages = [{"shout": {"when": "not starts_with(text, 'aside')"}}, {"select": "shout_pass"}]
    ran = curate("run", recipe(stages), "-o", tmp_path / "out", "--stages", user_stages)
    assert ran.code == 0, ran.err
    kept = [(row["text"], row["shout_pass"], row["shout_chars"]) for row in dataset(tmp_path / "out").kept]
    assert kept == [("LOUD ONE", True, 8), ("aside quiet", True, None), ("aside", True, None)]
    (dropped,) = dataset(tmp_path / "out").rows("_dropped/01_select/*.parquet")
    assert (dropped["text"], dropped["drop_stage"]) == ("QUIET ONE", "shout")
    assert dataset(tmp_path / "out").problems == []


def test_a_column_that_a_file_has_not_is_null_there(
    curate: Any, recipe: Any, dataset: Any, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"text": ["one"], "stars": [5]}), tmp_path / "in" / "a.parquet")
    pq.write_table(pa.table({"text": ["two"], "tags": [["x"]]}), tmp_path / "in" / "b.parquet")
    assert curate("run", recipe(["sample"]), "-o", tmp_path / "out").code == 0
    kept = [(row["text"], row["stars"], row["tags"]) for row in dataset(tmp_path / "out").kept]
    assert kept == [("one", 5, None), ("two", None, ["x"])]


def test_one_name_with_two_types_is_an_error_that_names_both_files(
    curate: Any, recipe: Any, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"text": ["one"], "stars": [5]}), tmp_path / "in" / "a.parquet")
    pq.write_table(pa.table({"text": ["two"], "stars": ["five"]}), tmp_path / "in" / "b.parquet")
    for command in ("run", "check"):
        ran = curate(command, recipe(["sample"]), "-o", tmp_path / "out")
        assert ran.code == 2
        assert "`stars`" in ran.err
        assert "a.parquet" in ran.err
        assert "b.parquet" in ran.err
        assert not (tmp_path / "out" / "_curate" / "plan.json").exists()


def keyed(count: int, twice: dict[int, str], name: str) -> pa.Table:
    """Rows of about 2 kB whose keys are their own but for those named."""
    keys = [twice.get(i, f"{name}-{i}") for i in range(count)]
    return pa.table({"key": keys, "text": [f"{name} {i} " + "word " * 400 for i in range(count)]})


def test_of_rows_with_one_id_the_first_in_input_order_stays(
    curate: Any, recipe: Any, dataset: Any, tmp_path: Path
) -> None:
    """Within a batch, across row groups, files and units, and the same rows whatever the size of a unit."""
    (tmp_path / "in").mkdir()
    first = keyed(1500, {3: "x", 5: "x", 1400: "x", 1450: "y"}, "a")
    second = keyed(1500, {0: "y", 1: "x", 1499: "z"}, "b")
    pq.write_table(first, tmp_path / "in" / "a.parquet", row_group_size=300, compression="none")
    pq.write_table(second, tmp_path / "in" / "b.parquet", row_group_size=300, compression="none")
    (tmp_path / "in" / "c.jsonl").write_text(
        "".join(json.dumps({"key": key, "text": f"c {key}"}) + "\n" for key in ("z", "new", "new"))
    )
    found = []
    for unit_mb in (1, 256):
        out = dataset(tmp_path / f"out-{unit_mb}")
        source = {"path": str(tmp_path / "in"), "id": "key"}
        ran = curate("run", recipe(["sample"], unit_mb=unit_mb, input=source), "-o", out.folder)
        assert ran.code == 4, ran.err
        assert len(list((out.folder / "_curate/journal").glob("*.json"))) == (10 if unit_mb == 1 else 1)
        assert out.problems == []
        assert sorted((row["id"], row["reason"]) for row in out.quarantined) == [
            *[("new", "duplicate_id")], *[("x", "duplicate_id")] * 3, ("y", "duplicate_id"), ("z", "duplicate_id"),
        ]  # fmt: skip
        found.append([(row["id"], row["text"][:9]) for row in out.kept])
    assert found[0] == found[1]
    assert {i: text.split()[:2] for i, text in found[0] if i in ("x", "y", "z")} == {
        "x": ["a", "3"], "y": ["a", "1450"], "z": ["b", "1499"]
    }  # fmt: skip


def test_a_warc_record_id_that_stands_twice(curate: Any, recipe: Any, dataset: Any, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.warc").write_bytes(record("first", id="1") + record("other", id="2"))
    (tmp_path / "in" / "b.warc.gz").write_bytes(gzip.compress(record("again", id="1")))
    ran = curate("run", recipe(["sample"]), "-o", tmp_path / "out")
    assert ran.code == 4, ran.err
    out = dataset(tmp_path / "out")
    assert [row["text"] for row in out.kept] == ["first", "other"]
    (row,) = out.quarantined
    assert (row["reason"], row["source"], row["raw"]) == ("duplicate_id", "b.warc.gz", b"again")
    assert out.problems == []


@pytest.mark.slow
def test_ids_that_stand_twice_in_one_stream_survive_a_kill_between_its_links(
    curate: Any, recipe: Any, dataset: Any, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    with gzip.open(tmp_path / "in" / "a.jsonl.gz", "wb", compresslevel=1) as file:
        for i in range(1600):
            key = "early" if i in (10, 1500) else f"k{i}"
            file.write(json.dumps({"key": key, "text": f"{i} " + "x" * 100_000}).encode() + b"\n")
    source = {"path": str(tmp_path / "in"), "id": "key"}
    arguments = ["run", recipe(["sample"], input=source), "-o", tmp_path / "out", "--workers", 1]
    # each worker does one link and dies in the next
    ran = curate(*arguments, env={"CURATE_FAULT": "claim:2"})
    assert ran.code == 4, ran.err
    out = dataset(tmp_path / "out")
    assert [row["id"] for row in out.quarantined] == ["early"]
    assert len(out.kept) == 1599
    assert len(list((out.folder / "_curate/journal").glob("*.json"))) > 2
    assert out.problems == []
