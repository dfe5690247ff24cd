"""What a sample is drawn from: all slices of a plan, or pieces of its files where those are large or not here."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from curate.engine.draw import Piece, pieces_of, spread
from curate.engine.freeze import Sketch
from curate.engine.plan import Plan
from curate.engine.scale import Spent
from curate.engine.scan import ScanJob, scan_all
from curate.io import excerpt, inputs
from curate.io.download import Patience
from curate.io.excerpt import Part
from curate.io.fetched import is_fetched
from curate.io.inputs import InputFile, Slice
from curate.io.sources import compression, join

READ_BYTES = 256 << 20  # of the input, to draw from


def pieces(plan: Plan, sketch: Sketch | None, scratch: Path) -> tuple[list[Piece], list[Part]]:
    """What the sample is drawn from; with the parts of files where the input is not read in full."""
    files = _files_of(plan)
    if sketch is None and not excerpt.is_wanted(files):
        return spread(pieces_of(plan), READ_BYTES), []
    parts = sketch.parts if sketch else excerpt.take(files, scratch / "parts", Patience(0, print))
    root = plan.root if sketch else str(scratch / "parts")
    slices: dict[str, list[Slice]] = {}
    for one in (one for unit in plan.units for one in unit) if sketch else _scanned(plan, parts):
        slices.setdefault(one.path, []).append(one)
    return [
        Piece(root, tuple(slices.get(part.file.name, ())), part.read_bytes, part.bytes, part.prefix)
        for part in parts
    ], parts


def _files_of(plan: Plan) -> list[InputFile]:
    own = {one.path for unit in plan.units for one in unit if one.own_ids}
    return [
        InputFile(join(plan.root, f.name), f.name, f.format, f.size, f.name in own, entry=f.entry)
        for f in plan.files
    ]


def _scanned(plan: Plan, parts: Sequence[Part]) -> Iterator[Slice]:
    for part in parts:
        found = inputs.scan(
            part.file, plan.recipe.input, plan.input_schema(), plan.recipe.unit_mb << 20, None
        )
        yield from found.slices


def units_of(plan: Plan, sketch: Sketch | None, pieces: Sequence[Piece]) -> int:
    """Units of the whole input."""
    if not sketch:
        return len(plan.units)
    size = sum(one.bytes * piece.weight for piece in pieces for one in piece.slices)
    chains = sum(f.format == "jsonl" and compression(f.name) is not None for f in sketch.files)
    return max(int(size / (plan.recipe.unit_mb << 20)), chains, 1)


def downloaded(plan: Plan, sketch: Sketch | None) -> float:
    """Bytes that come into the work store before anything is read."""
    if sketch:
        return float(sum(f.size for f in sketch.files if f.remote))
    return float(sum(f.size for f in plan.files)) if is_fetched(plan.recipe.input) else 0.0


def planning_of(sketch: Sketch, pieces: Sequence[Piece]) -> Spent:
    """Seconds to bring and scan what the pieces stand for."""
    read, whole = sum(piece.read_bytes for piece in pieces), sum(piece.bytes for piece in pieces)
    coming = sketch.coming_seconds * sketch.to_come / max(read, 1.0)
    seconds = sketch.planning_seconds * whole / max(read, 1.0)
    return Spent(coming + seconds, coming + seconds)


def scanning(plan: Plan, scratch: Path) -> Spent:
    """Seconds of one process to scan the files of a plan."""
    files, recipe = _files_of(plan), plan.recipe
    sizes = recipe.unit_mb << 20, recipe.max_document_mb << 20
    jobs = [
        ScanJob(i, file, recipe.input, plan.input_schema(), *sizes, str(scratch))
        for i, file in enumerate(files)
    ]
    clock, cpu = time.perf_counter(), time.process_time()
    scan_all(jobs, 1, lambda file: None)
    return Spent(time.perf_counter() - clock, time.process_time() - cpu)


def notes(parts: Sequence[Part], size: float) -> list[str]:
    """How the parts stand for `size` bytes of input, in words."""
    if not parts:
        return []
    read = sum(part.read_bytes for part in parts)
    found = [
        f"{len(parts)} pieces were read, {read / 1e6:,.1f} of {size / 1e6:,.1f} MB, and stand for the rest"
    ]
    begins = [part.of for part in parts if part.prefix]
    if begins:
        named = ", ".join(begins[:3]) + (", ..." if len(begins) > 3 else "")
        found.append(
            f"compressed streams can only be read from their begin, which stands for all of them: {named}"
        )
    return found
