"""What a complete run adds to the index of a minhash_dedup with `update_index`: the documents it saw, kept and dropped.

It comes after the run's manifest: where it was cut off, the next call of the run, which finds it complete, does it. A run
that an index has already is not added again.
"""

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.engine import journal, shuffle
from curate.engine.call import leave_pandas_out
from curate.engine.fingerprints import digest_of, recipe_digest
from curate.engine.journal import MANIFEST
from curate.engine.lock import Lock
from curate.engine.log import Listener
from curate.engine.phase import Rows, merged_records, rows_of
from curate.engine.plan import Pass, Plan
from curate.engine.unit import UNIT_ROWS, Job, pass_folder, read_plan
from curate.engine.workers import Pool
from curate.errors import DataError
from curate.index.index import Index
from curate.index.runs import Documents, Part, RunWriter
from curate.io.files import Folder
from curate.io.sources import join
from curate.recipe.recipe import Recipe, Step
from curate.schema import DROP, text_buffers

STAGE = "minhash_dedup"


def updating(recipe: Recipe) -> list[Step]:
    """Steps that add to an index."""
    return [step for step in recipe.steps if step.stage == STAGE and step.settings().update_index]


def index_of(recipe: Recipe, step: Step) -> Path:
    """Where a step's index lies."""
    return Path(recipe.base, step.settings().index).absolute()


def planned(plan: Plan, recipe: Recipe) -> Mapping[str, str]:
    """What the indexes that a complete run has added to were before."""
    paths = {str(index_of(recipe, step)) for step in updating(recipe)}
    return {file.path: file.sha256 for file in plan.named if file.path in paths}


def remember(plan: Plan, run: str, listen: Listener, pool: Pool) -> None:
    """Add a complete run to the indexes that it updates, in a worker, which has the kernels loaded.

    DataError where an index is not what it was at plan.
    """
    for step in updating(plan.recipe):
        path = index_of(plan.recipe, step)
        with Lock(Folder(path)):
            index, source = Index(str(path)), name_of(plan)
            if source in index.manifest.added:
                listen("index", {"index": str(path), "added": 0})
                continue
            if index.digest not in planned(plan, plan.recipe).values():
                raise DataError(
                    f"the index {path} is not what it was when the run was planned, so nothing is added to it",
                    hint=f"run again with --fresh, or add the output: curate index add {path} {run}",
                )
            pool.run(iter([Job(run, -1, "index", 0, remember=step.index)]), lambda _: None)
            added = Index(str(path)).documents - index.documents
            listen("index", {"index": str(path), "added": added})


def add_to_index(plan: Plan, run: str, step: Step) -> None:
    """Add a complete run to the index of a step; the caller's parent holds its lock."""
    index, source = Index(str(index_of(plan.recipe, step))), name_of(plan)
    if source not in index.manifest.added:  # by an attempt that died before it could say so
        Added(plan, run, step, index).commit(source)


def name_of(plan: Plan) -> str:
    """Name of what a run saw, whatever the index held."""
    recipe = plan.recipe
    known = {str(index_of(recipe, step)): "" for step in updating(recipe)}
    files = [f.content for f in plan.files]
    size = sum(f.size for f in plan.files)
    return digest_of("added", {"recipe": recipe_digest(recipe, size, known), "files": files})


class Added:
    """A run of the index, written from the rows that the stage read and the fates that it found."""

    def __init__(self, plan: Plan, run: str, step: Step, index: Index) -> None:
        from curate.stages._minhash_sign import Signer

        phases = [one for one in plan.passes if one.kind == "phase" and one.step == step.index]
        self._plan, self._run, self._index = plan, run, index
        self._first, self._fates = phases[0], records_of(plan, run, phases[-1])
        self._signer = Signer(step.settings())
        self._starts: list[int] = []  # number of the first row of each unit
        self._parts: list[Part] = []
        self._next = index.manifest.next
        self._writer: RunWriter = index.writer()
        for number, unit in enumerate(units_of(plan, run, self._first)):
            self._add_unit(number, unit)
        for table in merged_records(self._fates, (), ("order",), 0, shuffle.U64_MAX):
            self._writer.add_edges(self._edges(table))

    def commit(self, source: str) -> None:
        """Make it part of the index."""
        self._index.add(self._writer, source, self._parts, self._next - self._index.manifest.next)

    def _add_unit(self, number: int, unit: str) -> None:
        from curate.stages.exact_dedup import Upcoming

        job = Job(self._run, self._first.index, unit, number, self._fates.path)
        rows: Rows = rows_of(self._plan, self._first, job, ("order",))
        upcoming, start = Upcoming(rows.merged()), self._next
        self._starts.append(start)
        slices = self._plan.units[int(unit.partition("-")[0])]
        self._parts.append(Part(start, tuple(dict.fromkeys(join(self._plan.root, s.path) for s in slices))))
        for batch in rows.batches():
            if not batch.num_rows:
                continue
            order = batch.column("order").to_numpy()
            found = upcoming.up_to(int(order[-1]))
            self._writer.add(self._documents(batch, found, start - number * UNIT_ROWS))
            self._next = max(self._next, int(order[-1]) - number * UNIT_ROWS + start + 1)

    def _documents(self, batch: pa.RecordBatch, found: Any, shift: int) -> Documents:
        order = batch.column("order").to_numpy()
        kept = np.ones(len(order), np.bool_)
        if found is not None:
            kept[np.searchsorted(order, found["order"].to_numpy())] = found["size"].to_numpy() > 0
        text = batch.column("text").is_valid()
        batch, kept = batch.filter(text), kept[text.to_numpy(False)]
        from curate.stages._minhash_sign import scoped
        from curate.stages._minhash_walk import unpacked

        signed = self._signer.of(batch, sets=True)
        sets, set_offsets = unpacked(signed.shingles, np.uint32)
        ids, id_offsets = text_buffers(batch.column("id"))
        numbers = (batch.column("order").to_numpy().astype(np.int64) + shift).astype(np.uint64)
        bands = scoped(signed.bands, batch, self._signer.config)
        return Documents(numbers, signed.digests, kept, bands, sets, set_offsets, ids, id_offsets)

    def _edges(self, table: pa.Table) -> pa.Table:
        from curate.stages._minhash_index import OLD

        lost = table.filter(pc.equal(table["size"], 0))
        kept = lost["kept"].to_numpy()
        kept = np.where(kept >= OLD, kept ^ OLD, self._numbers(kept & ~OLD))
        return pa.table(
            {"dropped": self._numbers(lost["order"].to_numpy()), "kept": kept, "jaccard": lost["jaccard"]}
        )

    def _numbers(self, order: Any) -> Any:
        starts, unit = np.array(self._starts, np.uint64), (order // np.uint64(UNIT_ROWS)).astype(np.int64)
        known = np.minimum(unit, len(starts) - 1)  # numbers of the index are looked at, and not taken
        return starts[known] + order % np.uint64(UNIT_ROWS)


def units_of(plan: Plan, run: str, one: Pass) -> list[str]:
    """Units of the rows that a phase reads."""
    if one.source < 0:
        return plan.unit_names()
    return journal.units_done(pass_folder(plan, run, plan.passes[one.source]))


def records_of(plan: Plan, run: str, one: Pass) -> Folder:
    """Folder with few enough record files of a phase. DataError where the work store has lost them."""
    folder, rounds = pass_folder(plan, run, one), 0
    if not folder.exists(MANIFEST):
        raise DataError(
            f"the work store {plan.store} no longer has what the index needs of this run",
            hint="run again with --fresh",
        )
    while sum(name.endswith(".parquet") for name in folder.names()) > shuffle.MAX_FILES:
        rounds += 1
        folder = Folder(f"{pass_folder(plan, run, one).path}-merge{rounds}by{shuffle.MAX_FILES}")
    return folder


def add_corpus(index: str, corpus: str, id_column: str = "", workers: int = 0) -> None:
    """Judge the documents of a corpus against an index and each other, and add them to it; resumable.

    After what a run of ours kept comes what its minhash_dedup dropped, where the texts were written.
    """
    leave_pandas_out([])
    _add_rows(index, corpus, {}, id_column, workers)
    plan = read_plan(Folder(corpus)) if Path(corpus).is_dir() else None
    for step in plan.recipe.steps if plan else ():
        folder = Path(corpus, f"_dropped/{step.index:02d}_{step.name}")
        first = next(iter(sorted(folder.glob("*.parquet"))), None) if step.stage == STAGE else None
        if first and "text" in pq.read_schema(first).names:
            _add_rows(index, str(folder), {f"was_{name}": name for name in DROP}, id_column, workers)


def _add_rows(index: str, corpus: str, renamed: Mapping[str, str], id_column: str, workers: int) -> None:
    from curate.engine.run import run
    from curate.recipe.recipe import from_tree
    from curate.recipe.tree import Tree

    opened, column = Index(index), id_column or own_ids(corpus)
    header = {key: value for key, value in opened.manifest.header.items() if value != ""}
    name = digest_of("work", {"corpus": str(Path(corpus).absolute()), "index": opened.digest})
    work = f"{opened.path}/work/{name}"
    reading = {
        "path": corpus,
        **({"id": column} if column else {}),
        **({"columns": dict(renamed)} if renamed else {}),
    }
    step = {"stage": STAGE, "name": "index", **header, "index": index, "update_index": True}
    tree = {
        "name": "index", "input": reading, "allow_empty": True,
        "stages": [step, {"select": "id is null"}],  # no text is written
        "output": {"path": f"{work}/out", "dropped": "keys"}, "store": f"{work}/store",
        "guards": {"allow": ["empty", "max_drop", "max_drop_per_source", "max_drop_per_lang", "unchanged"]},
    }  # fmt: skip
    run(from_tree(Tree(tree, "index")), workers=workers)
    Folder(opened.path).remove_all("work")


def own_ids(corpus: str) -> str:
    """`id` where the first Parquet file of a corpus has such a column of text."""
    place = Path(corpus)
    files = (
        [place]
        if place.is_file()
        else sorted(place.rglob("*.parquet") if place.is_dir() else map(Path, glob.glob(corpus)))
    )
    first = next((file for file in files if file.suffix == ".parquet"), None)
    schema = pq.read_schema(first) if first else pa.schema({})
    texts = (pa.string(), pa.large_string())
    return "id" if "id" in schema.names and schema.field("id").type in texts else ""
