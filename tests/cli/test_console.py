"""What a summary says in words."""

import pyarrow as pa
import pyarrow.parquet as pq

import curate
from curate.cli.console import print_summary


def test_candidates_per_document_are_those_compared_by_those_signed(tmp_path, capsys):
    """Four documents: the second and the third are compared with the first, the fourth is like none."""
    words = [f"word{i}" for i in range(100)]
    texts = [" ".join(words[: 100 - i] + ["new"] * i) for i in range(3)] + [" ".join(words[::-1])]
    pq.write_table(pa.table({"text": texts}), tmp_path / "rows.parquet")
    recipe = {
        "input": {"path": str(tmp_path / "rows.parquet")}, "stages": ["minhash_dedup"],
        "output": {"path": str(tmp_path / "out")},
    }  # fmt: skip
    print_summary(curate.run(recipe, workers=1))
    assert "2 compared, 2 verified, 2 dropped; candidates per document: 0.50\n" in capsys.readouterr().err
