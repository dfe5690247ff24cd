def test_files_that_no_reader_opens_are_on_record(tmp_path, read_all):
    for name in ("a.txt", "b.docx", "c.arc.gz", "sub/d.unknown"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"some bytes")
    found = read_all(str(tmp_path))
    assert found.column("text") == ["some bytes"]
    assert found.log.skipped == {"unknown_ending": 2}
    assert [(row["source"], row["reason"]) for row in found.log.quarantined] == [("c.arc.gz", "arc_file")]
    assert "warcio recompress" in found.log.quarantined[0]["error"]
