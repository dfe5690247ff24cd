"""What a run with `output: {columns: new}` says of the corpus its columns belong to, and the view that joins them."""

import os
from collections.abc import Sequence

from curate.engine.fingerprints import digest_of
from curate.engine.plan import Plan
from curate.errors import ConfigError
from curate.io.files import Folder, is_remote
from curate.io.inputs import InputFile
from curate.recipe.recipe import Recipe

VIEW = "_curate/view.sql"


def check_corpus(recipe: Recipe, files: Sequence[InputFile]) -> None:
    """ConfigError unless rows can be found again by id: a dataset of ours, or Parquet with ids of its own."""
    other = next((f for f in files if f.format != "parquet"), None)
    if other:
        raise ConfigError(
            f"`output.columns: new` writes beside Parquet, and `{other.name}` is {other.format}",
            hint="make a corpus of it first: a recipe without steps copies it",
            where="output",
        )
    columns = {recipe.input.of(f.entry).id_column or "id" for f in files}
    if len(columns) > 1:
        raise ConfigError(
            f"`output.columns: new` joins by one column, and the ids lie in {' and '.join(sorted(columns))}",
            hint="write each corpus its own side columns",
            where="output",
        )
    made = next((f for f in files if not (f.own_ids or recipe.input.of(f.entry).id_column)), None)
    if made:
        raise ConfigError(
            f"`output.columns: new` joins by id, and `{made.name}` is of no curate dataset",
            hint="name the column that holds the ids: `input: {id: ...}`",
            where="output",
        )


def corpus_of(plan: Plan, out: Folder) -> dict[str, str]:
    """Place and content of the corpus, for the manifest."""
    local = out.local and not is_remote(plan.root)
    place = os.path.relpath(plan.root, out.local) if local else plan.root
    return {"path": place, "digest": digest_of("corpus", {"files": [[f.name, f.digest] for f in plan.files]})}


def view_sql(plan: Plan, out: Folder) -> bytes:
    """A view `docs` for plain DuckDB: the corpus with the new columns. Where both are local it may be moved with them."""
    here = str(out.local or out.path)
    local = out.local and not is_remote(plan.root)
    first = plan.files[0].entry if plan.files else -1
    own = (plan.recipe.input.of(first).id_column or "id").replace('"', '""')
    names = ",\n    ".join(_quoted(file.name) for file in plan.files)
    side = f"coalesce(getvariable('curate_side'), {_quoted(here)})" if out.local else _quoted(here)
    corpus = f"{side} || {_quoted('/' + os.path.relpath(plan.root, here))}" if local else _quoted(plan.root)
    return f"""-- duckdb -init {here}/{VIEW}
{_MOVABLE.format(view=VIEW, here=_quoted(here), file=_quoted(f"{here}/{VIEW}")) if out.local else ""}\
-- The corpus of the day it was written: a row of another one may be missing here.
CREATE OR REPLACE VIEW docs AS
SELECT corpus.*, side.* EXCLUDE (id)
FROM read_parquet([{corpus} || '/' || name FOR name IN [
    {names}
  ]], union_by_name = true) AS corpus
LEFT JOIN read_parquet({side} || '/part-*.parquet') AS side ON CAST(corpus."{own}" AS VARCHAR) = side.id;
""".encode()


# DuckDB reads a relative path from where it was begun, not from where this file lies.
_MOVABLE = """\
-- Moved, corpus and side columns together? Begin DuckDB in the folder of the side columns (duckdb -init {view}), or say
-- where it is after this file: SET VARIABLE curate_side = 'new/place';
SET VARIABLE curate_side = (SELECT if(count(*) > 0, {here}, '.') FROM glob({file}));
"""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
