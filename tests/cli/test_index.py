"""`curate index`, from building to export."""

import json

import pyarrow as pa
import pyarrow.parquet as pq


def test_build_info_remove_add_merge_export(curate, tmp_path):
    words = [f"word{i}" for i in range(140)]
    texts = {"a": words[:100], "b": words[2:102], "c": words[4:104], "far": words[:20:-1]}
    table = pa.table({"id": list(texts), "text": pa.array(map(" ".join, texts.values()), pa.large_string())})
    pq.write_table(table, tmp_path / "docs.parquet")
    options, index, ids = tmp_path / "options.yaml", tmp_path / "index", tmp_path / "ids.txt"
    options.write_text("threshold: 0.95\nbands: 64\nrows: 2\n")
    build = ["index", "build", index, tmp_path / "docs.parquet", "--config", options, "--workers", 1]
    built = curate(*build)
    assert (built.returncode, built.stdout) == (0, "")
    assert "4 documents added, 3 of them kept" in built.stderr
    said = json.loads(curate("index", "info", index, "--json").stdout)
    assert (said["documents"], said["kept"], said["removed"], said["runs"]) == (4, 3, 0, 1)
    assert said["header"]["threshold"] == 0.95
    assert "it was there already" in curate(*build).stderr
    ids.write_text("a\nnobody\n")
    removed = curate("index", "remove", index, "--ids", ids)
    assert (removed.returncode, removed.stdout) == (1, "back\tb\ndropped\tc\tb\n")
    assert "nobody" in removed.stderr
    assert json.loads(curate("index", "merge", index, "--json").stdout)["runs"] == 1
    assert "3 documents, 2 kept, 1 removed" in curate("index", "info", index).stdout
    assert curate("index", "export", index, "--to", "datasketch", "-o", tmp_path / "lsh").returncode == 0
    assert (tmp_path / "lsh").stat().st_size


def test_what_cannot_be_is_refused(curate, tmp_path):
    (tmp_path / "file").write_text("not an index")
    assert "no index at" in curate("index", "info", tmp_path).stderr
    assert "is not empty" in curate("index", "build", tmp_path, tmp_path / "file").stderr
    assert (
        "cannot export to `faiss`" in curate("index", "export", tmp_path, "--to", "faiss", "-o", "x").stderr
    )
    options = tmp_path / "options.yaml"
    options.write_text("treshold: 0.9\n")
    assert "treshold" in curate("index", "build", tmp_path / "new", tmp_path, "--config", options).stderr
