"""Runs on disk: what is written comes back, and keys are sorted in bounded memory."""

import numpy as np
import pytest

from curate.index import runs
from curate.index.runs import Documents, Run, RunWriter, merged


@pytest.fixture
def documents():
    """300; every seventh is too short for a shingle."""
    draw = np.random.default_rng(0)
    sizes = draw.integers(1, 9, 300) * (np.arange(300) % 7 > 0)
    offsets = np.append(0, np.cumsum(sizes))
    bands = draw.integers(0, 200, (300, 4)).astype(np.uint64)
    digests = draw.integers(1000, 2000, 300).astype(np.uint64)
    bands[sizes == 0] = digests[sizes == 0, None]
    ids = np.frombuffer("".join(f"{i:03d}" for i in range(300)).encode(), np.uint8)
    sets = draw.integers(0, 9, offsets[-1]).astype(np.uint64)
    numbers, kept = np.arange(10, 610, 2).astype(np.uint64), draw.integers(0, 2, 300).astype(np.bool_)
    return Documents(numbers, digests, kept, bands, sets, offsets, ids, np.arange(301) * 3)


def test_what_was_written_comes_back(documents, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "SORTED_KEYS", 100)  # many spills
    writer = RunWriter(tmp_path / "run")
    for begin in range(0, 300, 30):
        d = documents
        rows = slice(begin, begin + 30)
        writer.add(Documents(
            d.numbers[rows], d.digests[rows], d.kept[rows], d.bands[rows], d.sets, d.set_offsets[begin : begin + 31],
            d.ids, d.id_offsets[begin : begin + 31],
        ))  # fmt: skip
    run = Run(tmp_path / "run", writer.close("test", []), 4)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == sorted([*runs.DTYPES, runs.EDGES])
    short = np.diff(documents.set_offsets) == 0
    expected = sorted(
        (k, i) for i, keys in enumerate(documents.bands.tolist()) for k in (keys[:1] if short[i] else keys)
    )
    assert sorted(zip(run.keys.tolist(), run.positions.tolist(), strict=True)) == expected
    assert run.keys.tolist() == [key for key, _ in expected]
    asked = np.array([5, 7, 1 << 40], np.uint64)
    which, positions = run.hits(asked)
    assert sorted(zip(asked[which].tolist(), positions.tolist(), strict=True)) == [
        e for e in expected if e[0] in (5, 7)
    ]
    assert (run.id_of(0), run.id_of(299)) == ("000", "299")
    pieces = list(run.documents(rows=50, most=100))
    assert max(len(p.numbers) for p in pieces) < 50
    assert np.concatenate([p.numbers for p in pieces]).tolist() == documents.numbers.tolist()
    sets = [p.sets[p.set_offsets[0] : p.set_offsets[-1]] for p in pieces]
    assert np.concatenate(sets).tolist() == documents.sets.tolist()


def test_pieces_are_merged_in_slices():
    draw = np.random.default_rng(1)
    pieces = []
    for size in (0, 5, 1000, 300):
        keys = np.sort(draw.integers(0, 50, size).astype(np.uint64))
        pieces.append((keys, np.arange(size)))
    slices = list(merged(pieces, size=64))
    assert len(slices) > 5
    found = np.concatenate([keys for keys, _ in slices])
    assert found.tolist() == sorted(key for keys, _ in pieces for key in keys.tolist())
