"""Batches on their way to the child."""

import os

import pyarrow as pa

from curate.engine.isolate import SharedBatch


def test_shared_batches_are_read_as_written_whatever_their_sizes() -> None:
    writer = SharedBatch()
    reader = SharedBatch(os.dup(writer.fd))
    whole = pa.record_batch(
        {
            "id": ["a", "b", "c", "d"],
            "html": pa.array([b"1" * 9, None, b"", b"2" * 70_000], pa.large_binary()),
        }
    )
    for batch in whole.slice(0, 1), whole, whole.slice(1, 2), whole.slice(0, 0), whole:
        assert reader.read(writer.write(batch)).equals(batch)


def test_a_slice_carries_only_its_own_bytes() -> None:
    batch = pa.record_batch({"html": [b"x" * 1000] * 1000})
    assert SharedBatch().write(batch.slice(7, 1)) < 3000


def test_the_reader_cannot_change_what_was_written() -> None:
    writer = SharedBatch()
    reader = SharedBatch(os.dup(writer.fd))
    found = reader.read(writer.write(pa.record_batch({"n": [1, 2]})))
    assert not found["n"].buffers()[1].is_mutable
