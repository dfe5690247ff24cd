"""`curate run --allow`, as its user meets it."""

import pyarrow as pa
import pyarrow.parquet as pq


def test_a_run_stops_with_a_table_and_goes_on_with_allow(curate, recipe, tmp_path):
    (tmp_path / "in").mkdir()
    lang = ["en", "de"] * 1000
    texts = [f"{name} {i % 4}" for i, name in enumerate(lang)]
    pq.write_table(pa.table({"text": texts, "lang": lang}), tmp_path / "in/rows.parquet")
    file = recipe([{"select": {"where": "text <> 'de 1'", "max_drop_per_lang": 0.2}}])
    out = tmp_path / "out"
    ran = curate("run", file, "-o", out)
    assert ran.code == 1
    assert (
        "dropped 500 of 1000 rows (50.0%) of the language `de`, more than its max_drop_per_lang of 20.0%"
        in ran.err
    )
    assert "  language   rows  dropped  share\n  de        1,000      500  50.0%\n  en" in ran.err
    assert "let it through with `--allow max_drop_per_lang`" in ran.err
    wrong = curate("run", file, "-o", out, "--allow", "max_dorp")
    assert wrong.code == 2
    assert "no guard is called `max_dorp`" in wrong.err
    allowed = curate("run", file, "-o", out, "--allow", "max_drop_per_lang, empty")
    assert allowed.code == 0
    assert "of the language `de`, more than its max_drop_per_lang of 20.0% (allowed)" in allowed.err
