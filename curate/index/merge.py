"""Makes one run of all runs of an index, front to back: what was removed is left out, changes are settled."""

import numpy as np

from curate.index.index import GONE, KEPT, Index
from curate.index.runs import Documents


def merge(index: Index) -> Index:
    """The index as one run, with the same answers; memory is bounded. The caller holds the lock."""
    if len(index.runs) < 2 and not index.manifest.changes:
        return index
    writer = index.writer()
    for run in index.runs:
        for documents in run.documents():
            writer.add(_settled(index, documents))
    for edges in index.edges():
        writer.add_edges(edges)
    parts = [part for one in index.manifest.runs for part in one.parts]
    stored = writer.close("merged", parts)
    return index.commit(runs=(stored,) if stored.documents else (), changes=())


def _settled(index: Index, d: Documents) -> Documents:
    """Those that are not gone, with their fates of now."""
    fates = index.fates(d.numbers)
    left = fates != GONE
    kept = (fates == KEPT)[left]
    if left.all():
        return d._replace(kept=kept)
    set_ends, sets = _taken(d.sets, d.set_offsets, left)
    id_ends, ids = _taken(d.ids, d.id_offsets, left)
    return Documents(d.numbers[left], d.digests[left], kept, d.bands[left], sets, set_ends, ids, id_ends)


def _taken(values: np.ndarray, offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pieces of some rows, one after the other: their offsets and values."""
    sizes = np.diff(offsets)
    inside = np.repeat(rows, sizes)
    return np.append(0, np.cumsum(sizes[rows])), values[offsets[0] : offsets[-1]][inside]
