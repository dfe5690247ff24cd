"""Outputs whose folders hold a column, lang=en/bucket=3/: the report and `threshold` see it as they see any other."""

from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate
from curate.report.cut import Cutter
from curate.report.facts import read_facts
from curate.report.page import gather

ROWS = 60


@pytest.fixture(scope="module")
def made(tmp_path_factory: Any) -> Path:
    """60 rows, row i of language i % 3 and bucket i % 2, score i / 60; the same rows in one folder and in six."""
    place = tmp_path_factory.mktemp("partitions")
    table = pa.table({
        "text": [f"document {i}" for i in range(ROWS)],
        "lang": [["en", "de", None][i % 3] for i in range(ROWS)],
        "bucket": pa.array([i % 2 for i in range(ROWS)], pa.int32()),
        "quality": [i / ROWS for i in range(ROWS)],
    })  # fmt: skip
    pq.write_table(table, place / "in.parquet")
    for name, columns in (("plain", []), ("parted", ["lang", "bucket"])):
        output = {"path": str(place / name), "partition_by": columns}
        tree = {"input": {"path": str(place / "in.parquet")}, "stages": ["sample"], "output": output}
        curate.run(tree, workers=1)
    return place


def test_sampled_documents_say_their_partition(made: Path) -> None:
    whole, parted = (gather(read_facts(str(made / name))).documents[0] for name in ("plain", "parted"))
    assert [one.id for one in parted] == [one.id for one in whole]
    assert [one.lang for one in parted] == [one.lang for one in whole]
    assert {one.lang for one in parted} > {"en"}
    for one in parted:
        number = int("".join(one.pieces).split()[1])
        assert one.values == [("bucket", str(number % 2), "")]
    assert all(one.values == [] for one in whole)


def test_a_cut_counts_the_same_rows(made: Path) -> None:
    cuts = []
    for name in ("plain", "parted"):
        cutter = Cutter(read_facts(str(made / name)), "quality")
        line = cutter.cut_for(0.5, False)
        cuts.append(msgspec.structs.replace(cutter.apply(line, asked=0.5), output=""))
    assert cuts[0] == cuts[1]
    assert (cuts[1].rows, cuts[1].kept) == (ROWS, ROWS // 2)
    assert {(g.name, g.rows, g.kept) for g in cuts[1].groups["language"]} == {
        ("", 20, 10), ("en", 20, 10), ("de", 20, 10),
    }  # fmt: skip


def test_a_column_of_folders_can_be_cut_at(made: Path) -> None:
    found = Cutter(read_facts(str(made / "parted")), "bucket").apply(1.0)
    assert (found.kept, found.nulls) == (ROWS // 2, 0)
