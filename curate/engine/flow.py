"""Fused steps: rows are pushed through maps and selects, batch by batch, into the unit's files."""

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.engine import bias
from curate.engine.call import stage_call
from curate.engine.isolate import Blame, Failure, Isolated, run_alone
from curate.engine.journal import Ledger, StepCount, merge_counts
from curate.engine.limits import RowLimits
from curate.engine.parts import UnitFiles
from curate.engine.plan import Plan, column_name, schema_after, writers
from curate.recipe.recipe import CHECKPOINT, DropSample, Step
from curate.schema import DROP, RAW_CAP_BYTES, id_sum, raw_columns


class MapStep:
    """A map stage; rows it cannot do are reported, never lost."""

    def __init__(self, step: Step, plan: Plan, schema: pa.Schema, careful: int = 0) -> None:
        self.step = step
        self.seconds = 0.0
        self._blame = Blame(step)
        spec, config = step.spec(), step.settings()
        self._isolated = (
            Isolated(step, str(plan.model_store()), plan.code, RowLimits(step, careful))
            if careful or spec.isolate
            else None
        )
        self._call = None if self._isolated else stage_call(step, plan.model_store())
        self._predicate = None
        if step.when:
            from curate.io.query import Predicate

            self._predicate = Predicate(step.when, {f.name: f.type for f in schema})
            self._written = {column_name(step, spec, c): t for c, t in spec.columns_written(config).items()}
            self._removes = spec.removes

    def __call__(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[Failure]]:
        """The rows that could be done, in order, and the others by position in `batch`."""
        if self._predicate is None:
            return self._run(batch)
        inside = self._predicate.mask(batch)
        if inside.all():
            return self._run(batch)
        positions = np.flatnonzero(inside)
        done, failures = self._run(batch.take(pa.array(positions)))
        failures = [f._replace(row=int(positions[f.row])) for f in failures]
        failed = {f.row for f in failures}
        rows = np.array([i for i in range(batch.num_rows) if i not in failed], np.int64)
        return self._scatter(batch.take(pa.array(rows)), inside[rows], done), failures

    def _run(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[Failure]]:
        if self._isolated:
            return self._isolated(batch)
        assert self._call
        return run_alone(self._call, batch, self._blame)

    def _scatter(
        self, batch: pa.RecordBatch, inside: npt.NDArray[np.bool_], done: pa.RecordBatch
    ) -> pa.RecordBatch:
        """Rows outside `when`: `_pass` is true, other new columns null, `text` unchanged."""
        index = np.where(inside, np.cumsum(inside) - 1, 0)
        take = pa.array(index, mask=~inside)
        columns: dict[str, pa.Array] = {}
        for name in done.schema.names:
            if name in self._written:
                values = done.column(name).take(take)
                if name == "text" and "text" in batch.schema.names:
                    values = pc.if_else(pa.array(inside), values, batch.column("text"))
                elif name == f"{self.step.name}_pass":
                    values = (
                        values.fill_null(True)
                        if done.column(name).null_count == 0
                        else pc.if_else(pa.array(inside), values, True)
                    )
                columns[name] = values
            else:
                columns[name] = batch.column(name)
        return pa.RecordBatch.from_arrays(list(columns.values()), schema=done.schema)

    def start(self) -> None:
        """A unit begins."""
        self._blame.start()
        if self._isolated:
            self._isolated.start()

    def child_cpu_seconds(self) -> float:
        return self._isolated.cpu_seconds() if self._isolated else 0.0

    def close(self) -> None:
        if self._isolated:
            self._isolated.close()


class Flow:
    """The steps of a rows pass for one unit. Push batches in; files and counts come out."""

    def __init__(self, plan: Plan, steps: list[Step], schema: pa.Schema, careful: int = 0) -> None:
        from curate.stages.select import Selector

        self.plan = plan
        self.steps = [s for s in steps if s.stage != CHECKPOINT]
        self._maps: dict[int, MapStep] = {}
        self._selects: dict[int, Selector] = {}
        self._watches: dict[int, bias.Watch] = {}
        wrote = writers(plan.recipe)
        scores = bias.scores_of(plan.recipe, plan.input_schema())
        for step in self.steps:
            if step.stage == "select":
                self._selects[step.index] = Selector(
                    step.config["where"], {f.name: f.type for f in schema}, wrote, step.when
                )
                if watch := bias.watch(self._selects[step.index].predicate, step, scores, schema):
                    self._watches[step.index] = watch
            else:
                self._maps[step.index] = MapStep(step, plan, schema, careful)
                schema = schema_after(schema, step, step.spec(), step.settings())
        self.schema = schema

    def start(self, files: UnitFiles) -> None:
        """Begin a unit (or link): counts from zero."""
        self.files = files
        self.ledger = Ledger(sums={})
        self.counts: dict[str, StepCount] = {}
        self.quarantined: dict[str, int] = {}
        self.killed_ids: list[str] = []
        self.text_bytes = self.tokens = 0
        for step in self._maps.values():
            step.start()

    def count_in(self, batch: pa.RecordBatch) -> None:
        self.ledger.add("rows_in", batch.num_rows, id_sum(batch.column("id").to_pylist()))

    def push(self, batch: pa.RecordBatch, at: int = 0) -> None:
        """Run a batch through the steps from position `at` on."""
        for step in self.steps[at:]:
            if not batch.num_rows:
                return
            started = time.perf_counter()
            count = self._count(step, batch)
            if step.index in self._selects:
                if watch := self._watches.get(step.index):
                    watch.add(count.scores, batch)
                batch, dropped = self._selects[step.index].split(batch)
                count.seconds += time.perf_counter() - started
                count.changed |= dropped.num_rows > 0
                self.drop(step, dropped)
            else:
                before = batch
                batch, failures = self._maps[step.index](before)
                if step.spec().makes_rows:
                    self._count_made(step, batch)
                count.changed = count.changed or bool(failures) or changes(step.name, before, batch)
                count.seconds += time.perf_counter() - started
                for failure in failures:
                    self._quarantine_row(step, before, failure)
        if batch.num_rows:
            self.ledger.add("kept", batch.num_rows, id_sum(batch.column("id").to_pylist()))
            self.text_bytes += _bytes_of(batch, "text")
            if "token_count" in batch.schema.names:
                self.tokens += pc.sum(batch.column("token_count")).as_py() or 0
            elif "tokens" in batch.schema.names and pa.types.is_large_list(batch.schema.field("tokens").type):
                self.tokens += pc.sum(pc.list_value_length(batch.column("tokens"))).as_py() or 0
            self.files.keep(batch)

    def _count_made(self, step: Step, batch: pa.RecordBatch) -> None:
        parents = batch.column(column_name(step, step.spec(), "parent_id"))
        made = batch.filter(parents.is_valid()).column("id")
        self.ledger.add("made", len(made), id_sum(made.to_pylist()))

    def _count(self, step: Step, batch: pa.RecordBatch) -> StepCount:
        count = self.counts.setdefault(str(step.index), StepCount())
        count.rows += batch.num_rows
        count.bytes += document_bytes(batch)
        # only of steps that drop: a unit of many languages would make its journal entry large
        self._count_groups(count, batch, 0, ["source"] if step.index in self._maps else ["source", "lang"])
        return count

    def _count_groups(self, count: StepCount, batch: pa.RecordBatch, side: int, by: list[str]) -> None:
        for column in by:
            groups = count.langs if column == "lang" else count.sources
            if bias.is_text(batch, column) and batch.num_rows:
                for entry in batch.column(column).value_counts().to_pylist():
                    name = bias.group_name(entry["values"] or "", groups)
                    groups.setdefault(name, [0, 0])[side] += entry["counts"]

    def count_step(self, step: Step, batch: pa.RecordBatch) -> StepCount:
        """Count rows that enter a global stage's last phase."""
        return self._count(step, batch)

    def drop(self, step: Step, dropped: pa.RecordBatch) -> None:
        """Record rows a step drops; they carry the DROP columns."""
        if not dropped.num_rows:
            return
        self.ledger.add("dropped", dropped.num_rows, id_sum(dropped.column("id").to_pylist()))
        count = self.counts.setdefault(str(step.index), StepCount())
        blamed = pc.binary_join_element_wise(
            dropped.column("drop_stage"), dropped.column("drop_reason"), "\t"
        )
        merge_counts(count.dropped, {e["values"]: e["counts"] for e in blamed.value_counts().to_pylist()})
        self._count_groups(count, dropped, 1, ["source", "lang"])
        self.files.drop(
            f"{step.index:02d}_{step.name}", shaped_drop(dropped, self.plan.recipe.output.dropped)
        )

    def quarantine(self, stage: str, row: dict[str, Any]) -> None:
        """Record a row that cannot be read or worked on."""
        self.ledger.add("quarantined", 1, id_sum([row["id"]]))
        self.quarantined[row["reason"]] = self.quarantined.get(row["reason"], 0) + 1
        if row["reason"] in ("deadline", "memory"):
            self.killed_ids.append(row["id"])
        row["raw"] = (row["raw"] or b"")[:RAW_CAP_BYTES]
        row["error"] = (row["error"] or "")[:1000].encode("utf-8", "replace").decode()
        self.files.quarantine({"stage": stage, **row})

    def _quarantine_row(self, step: Step, batch: pa.RecordBatch, failure: Failure) -> None:
        self.counts[str(step.index)].failed += 1
        row = batch.slice(failure.row, 1)
        raw = b""
        for name in (*raw_columns(row.schema), "text"):
            if name in row.schema.names and row.column(name)[0].is_valid:
                value = row.column(name)[0].as_py()
                raw = value if isinstance(value, bytes) else value[:RAW_CAP_BYTES].encode()
                break
        source = row.column("source")[0].as_py() if "source" in row.schema.names else None
        self.quarantine(
            step.name,
            {"id": row.column("id")[0].as_py(), "source": source, "offset": None, "reason": failure.reason,
             "error": failure.error, "raw": raw},
        )  # fmt: skip

    def cpu_seconds(self) -> float:
        """Of this process and the children that work for it."""
        return time.process_time() + sum(step.child_cpu_seconds() for step in self._maps.values())

    def close(self) -> None:
        for step in self._maps.values():
            step.close()


def shaped_drop(dropped: pa.RecordBatch, mode: Any) -> pa.RecordBatch:
    """What of the dropped rows is kept: all but raw documents, a sample, or the keys alone."""
    names = dropped.schema.names
    keys = [n for n in ("id", "source_id", "url", "source", "lang", *DROP) if n in names]
    if mode == "keys":
        return dropped.select(keys)
    slim = dropped.drop_columns(raw_columns(dropped.schema))
    if isinstance(mode, DropSample):
        import xxhash

        hashes = [xxhash.xxh3_64_intdigest(i, seed=7) for i in slim.column("id").to_pylist()]
        chosen = np.array(hashes, np.uint64) < np.uint64(min(mode.sample * 2.0**64, 2.0**64 - 2048))
        return slim.filter(pa.array(chosen))
    return slim


def changes(name: str, before: pa.RecordBatch, after: pa.RecordBatch) -> bool:
    """Whether a map step failed a row by its verdict, or wrote a text that was not there."""
    if after.num_rows > before.num_rows:
        return True
    verdict = f"{name}_pass"
    judged = verdict in after.schema.names and verdict not in before.schema.names
    if judged and pc.all(after.column(verdict), min_count=0).as_py() is False:
        return True
    if "text" not in after.schema.names:
        return False
    return "text" not in before.schema.names or not after.column("text").equals(before.column("text"))


def document_bytes(batch: pa.RecordBatch) -> int:
    """Bytes of the documents: of `text`, and of `html` and `pdf` while there are any."""
    names = [name for name in ("text", *raw_columns(batch.schema)) if name in batch.schema.names]
    return sum(_bytes_of(batch, name) for name in names)


def _bytes_of(batch: pa.RecordBatch, name: str) -> int:
    return int(pc.sum(pc.binary_length(batch.column(name))).as_py() or 0)
