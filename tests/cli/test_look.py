"""peek, why and sql, through the real command on a dataset that fits on paper (conftest.rows)."""

import json

import pytest


def objects(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_peek_shows_the_first_documents_in_order(curate, made):
    done = curate("peek", made, "-n", 3)
    assert done.returncode == 0
    heads = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("[")]
    assert heads == ["doc-012", "doc-013", "doc-014"]
    assert "https://example.org/12" in done.stdout
    assert "    | Document number 12, with words of its own." in done.stdout
    assert "score 0.2" in done.stdout
    assert done.stderr == ""


def test_peek_crosses_from_part_to_part(curate, made):
    rows = objects(curate("peek", made, "-n", 100, "--json").stdout)
    assert [row["row"]["id"] for row in rows] == [
        f"doc-{i:03d}" for i in range(12, 60) if i not in (20, 25, 30, 33, 40, 50)
    ]
    assert {row["part"] for row in rows} == {f"part-0000{i}.parquet" for i in range(3)}
    assert rows[0]["schema"] == "curate.peek/1"
    assert rows[0]["side"] == "kept"


def test_peek_cuts_long_text_and_says_how_long_it_is(curate, made):
    shown = curate("peek", made, "--where", "id = 'doc-019'").stdout
    assert "1,200,000 characters" in shown
    assert len(shown) < 1000


def test_peek_escapes_what_would_reach_the_terminal(curate, made):
    shown = curate("peek", made, "--where", "id = 'doc-026'").stdout
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert r"\x1b[31mred [bold]markup[/bold]\x07" in shown  # markup stands as it is


def test_peek_where_uses_columns_that_stages_wrote(curate, made):
    rows = objects(curate("peek", made, "--where", "exact_dedup_cluster_size > 1", "--json").stdout)
    assert [(r["row"]["id"], r["row"]["exact_dedup_cluster_size"]) for r in rows] == [("doc-015", 5)]


def test_peek_groups_columns_by_the_step_that_wrote_them(curate, made):
    shown = curate("peek", made, "--where", "id = 'doc-015'").stdout.splitlines()
    assert "    exact_dedup  cluster_size 5  cluster_id doc-015" in shown
    assert "    score 0.25" in shown


def test_peek_dropped_by_a_step_or_a_blamed_stage(curate, made):
    every = objects(curate("peek", made, "--dropped", "any", "-n", 100, "--json").stdout)
    assert len(every) == 12 + 1 + 4
    assert every == [row for row in every if row["side"] == "dropped"]
    by_input = objects(curate("peek", made, "--dropped", "input", "-n", 100, "--json").stdout)
    assert [row["row"]["id"] for row in by_input] == [
        f"doc-{i:03d}" for i in range(12)
    ]  # `score` came with the input
    by_step = objects(curate("peek", made, "--dropped", "select", "-n", 100, "--json").stdout)
    assert len(by_step) == 13
    duplicates = curate("peek", made, "--dropped", "exact_dedup", "-n", 1).stdout
    assert "dropped by exact_dedup: duplicate, kept is doc-015" in duplicates


def test_peek_where_reads_a_column_that_only_some_dropped_rows_have_as_null(curate, made):
    rows = objects(
        curate("peek", made, "--dropped", "any", "--where", "kept_id = 'doc-015'", "-n", 9, "--json").stdout
    )
    assert [row["row"]["id"] for row in rows] == ["doc-020", "doc-030", "doc-040", "doc-050"]


def test_peek_names_the_nearest_step(curate, made):
    done = curate("peek", made, "--dropped", "exact_dedub")
    assert done.returncode == 2
    assert "did you mean `exact_dedup`?" in done.stderr
    nothing = curate("peek", made, "--dropped", "sample")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", "no such rows\n")


@pytest.mark.parametrize(
    "where",
    ["scor > 1", "score >", "(select 1) = 1", "text = (select content from read_text('/etc/passwd'))"],
)
def test_peek_refuses_a_bad_predicate(curate, made, where):
    done = curate("peek", made, "--where", where)
    assert done.returncode == 2
    assert done.stderr.startswith("error: predicate")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_peek_of_an_unfinished_run_says_so(curate, killed):
    done = curate("peek", killed, "-n", 100, "--json")
    assert done.returncode == 0
    assert "is not complete" in done.stderr
    assert {row["part"] for row in objects(done.stdout)} == {"part-00000.parquet", "part-00001.parquet"}
    dropped = objects(curate("peek", killed, "--dropped", "select", "-n", 100, "--json").stdout)
    assert len(dropped) == 13  # they still lie in the work store


def test_peek_before_the_last_pass_has_rows(curate, killed, tmp_path):
    import shutil

    shutil.copytree(killed, tmp_path / "out")
    for part in tmp_path.glob("out/part-*"):
        part.unlink()
    done = curate("peek", tmp_path / "out", "-n", 1)
    assert "these are rows so far, after pass 1 of 4" in done.stderr
    assert "[1] doc-012" in done.stdout


def test_peek_names_a_damaged_file(curate, dataset):
    part = dataset / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-100])
    done = curate("peek", dataset)
    assert done.returncode == 2
    assert str(part) in done.stderr
    assert "curate verify" in done.stderr


def test_why_kept(curate, made):
    found = json.loads(curate("why", made, "doc-015", "--json").stdout)
    assert found["status"] == "kept"
    assert found["findings"][0]["part"] == "part-00000.parquet"
    assert found["findings"][0]["row"]["exact_dedup_cluster_size"] == 5
    assert "text" not in found["findings"][0]["row"]


def test_why_dropped_by_a_condition(curate, made):
    done = curate("why", made, "doc-006")
    assert done.returncode == 0
    lines = dict(line.split(None, 1) for line in done.stdout.splitlines() if line)
    assert lines["state"] == "dropped"
    assert lines["by"] == "input (in step 01_select)"
    assert lines["reason"] == "score >= 0.2"
    assert (lines["value"], lines["threshold"]) == ("0.1", "0.2")


def test_why_dropped_as_a_duplicate_says_whether_the_kept_one_is_there(curate, made, dataset):
    found = json.loads(curate("why", made, "doc-040", "--json").stdout)["findings"][0]
    assert found["step"] == "02_exact_dedup"
    assert found["row"]["kept_id"] == "doc-015"
    assert found["kept"] == {"status": "kept", "part": "part-00000.parquet", "drop_stage": None}
    (dataset / "part-00000.parquet").unlink()
    assert (
        json.loads(curate("why", dataset, "doc-040", "--json").stdout)["findings"][0]["kept"]["status"]
        == "unknown"
    )


def test_why_quarantined(curate, made):
    done = curate("why", made, "doc-033")
    lines = dict(line.split(None, 1) for line in done.stdout.splitlines() if line)
    assert (lines["state"], lines["reason"]) == ("quarantined", "null_text")


def test_why_unknown_offers_near_ids_and_exits_1(curate, made):
    done = curate("why", made, "oc-01")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("an id that holds it is") == 3
    assert "`doc-012`" in done.stderr
    by_url = curate("why", made, "https://example.org/3")
    assert "that is the url of `doc-003`" in by_url.stderr
    assert json.loads(curate("why", made, "nothing like it", "--json").stdout)["status"] == "unknown"


def test_why_refuses_what_is_not_text(curate, made):
    done = curate("why", made, "doc-\udcff")
    assert done.returncode == 2
    assert "write it in UTF-8" in done.stderr
    assert curate("why", made, "").returncode == 1


def test_why_in_an_unfinished_run(curate, killed):
    kept = json.loads(curate("why", killed, "doc-022", "--json").stdout)
    assert kept["status"] == "kept"
    under_way = json.loads(curate("why", killed, "doc-055", "--json").stdout)
    assert under_way["status"] == "kept so far"
    assert under_way["findings"][0]["after"] == ", after pass 1 of 4"
    assert json.loads(curate("why", killed, "doc-003", "--json").stdout)["status"] == "dropped"
    assert "the run is not complete" in curate("why", killed, "doc-999").stderr


def test_sql_prints_an_aligned_table(curate, made):
    sql = "select drop_stage, drop_reason, count(*) as n from dropped group by all order by n desc, 1"
    done = curate("sql", made, sql)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "drop_stage   drop_reason         n",
        "input        score >= 0.2       12",
        "exact_dedup  duplicate           4",
        "select       length(text) > 10   1",
    ]


def test_sql_json_lines(curate, made):
    rows = objects(
        curate(
            "sql", made, "select id, score as id, text from docs order by docs.id limit 2", "--json"
        ).stdout
    )
    assert rows[0] == {"id": "doc-012", "id_2": 0.2, "text": "Document number 12, with words of its own."}
    assert len(rows) == 2
    assert objects(curate("sql", made, "select count(*) n from quarantine", "--json").stdout) == [{"n": 1}]


def test_sql_cells_are_one_line_and_bounded(curate, made):
    done = curate(
        "sql", made, "select text, text || chr(10) || 'x' from docs where id in ('doc-019', 'doc-026')"
    )
    assert len(done.stdout.splitlines()) == 3
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) < 130


def test_sql_says_when_a_table_is_cut(curate, made):
    done = curate("sql", made, "select a.id from docs a, docs b")
    assert len(done.stdout.splitlines()) == 1001
    assert "only the first 1,000 rows are shown" in done.stderr
    assert (
        len(curate("sql", made, "select a.id from docs a, docs b", "--json").stdout.splitlines()) == 42 * 42
    )
    assert curate("sql", made, "select a.id from docs a, docs b limit 1000").stderr == ""


@pytest.mark.parametrize("sql", [
    "selct 1", "select nothing from docs", "select 1; select 2", "drop view docs", "", "select cast(text as int) from docs",
    "copy docs to '/tmp/x'", "select * from read_text('/etc/passwd')", "insert into docs values (1)",
])  # fmt: skip
def test_sql_errors_are_clean(curate, made, sql):
    done = curate("sql", made, sql)
    assert done.returncode == 2
    assert done.stderr.startswith("error:")
    assert "Traceback" not in done.stderr


def test_json_lines_output_is_read_as_well(curate, project, tmp_path):
    done = curate(
        "run",
        project / "recipe.yaml",
        "-o",
        tmp_path / "out",
        "--set",
        "output.format=jsonl.zst",
        "--store",
        project / "out/.curate",
    )
    assert done.returncode == 4, done.stderr
    rows = objects(curate("peek", tmp_path / "out", "--where", "score > 0.5", "-n", 1, "--json").stdout)
    assert (rows[0]["row"]["id"], rows[0]["part"]) == ("doc-031", "part-00001.jsonl.zst")
    assert json.loads(curate("why", tmp_path / "out", "doc-015", "--json").stdout)["status"] == "kept"
    refused = curate("sql", tmp_path / "out", "select count(*) from docs")
    assert refused.returncode == 2
    assert "JSON Lines" in refused.stderr


@pytest.mark.parametrize("command", [["peek"], ["why", "x"], ["sql", "select 1"], ["status"], ["verify"]])
def test_a_folder_that_is_no_dataset(curate, tmp_path, command):
    done = curate(command[0], tmp_path / "nosuch", *command[1:])
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "hint: " in done.stderr
    as_json = curate(command[0], tmp_path, *command[1:], "--json")
    assert json.loads(as_json.stdout)["error"]["kind"] == "data"
