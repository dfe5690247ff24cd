"""Model files that are truncated, random or lying: a ModelError that names the file, and nothing worse."""

import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import ModelError
from curate.models.fasttext import convert, load
from curate.schema import text_buffers

WORDS, LABELS, DIM = ["red", "blue", "</s>"], ["__label__warm", "__label__cold"], 2
# rows of red, blue, </s>, then output rows of warm, cold
INPUT, OUTPUT = [4.0, 0.0, 0.0, 4.0, 0.0, 0.0], [1.0, -1.0, -1.0, 1.0]


def model_bytes(**lies: int) -> bytes:
    """A softmax model by hand, with any header field replaced."""
    field = {
        "magic": 793712314, "version": 12, "dim": DIM, "ws": 5, "epoch": 5, "min_count": 1, "neg": 5, "word_ngrams": 1,
        "loss": 3, "kind": 3, "bucket": 0, "minn": 0, "maxn": 0, "lr_update": 100, "size": 5, "num_words": 3,
        "num_labels": 2, "num_tokens": 10, "pruned": -1, "rows": 3, "columns": DIM, "quantised": 0,
    } | lies  # fmt: skip
    f = list(field.values())
    head = struct.pack("<14id", *f[:14], 1e-4) + struct.pack("<3i2q", *f[14:19])
    entries = [(w, 0) for w in WORDS] + [(w, 1) for w in LABELS]
    dictionary = b"".join(w.encode() + b"\0" + struct.pack("<qb", 9, kind) for w, kind in entries)
    rows = struct.pack("<B2q6f", field["quantised"], field["rows"], field["columns"], *INPUT)
    return head + dictionary + rows + struct.pack("<B2q4f", 0, 2, DIM, *OUTPUT)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_model_by_hand(tmp_path: Path) -> None:
    import numpy as np
    import pyarrow as pa

    model = load(convert(write(tmp_path / "hand.bin", model_bytes()), tmp_path))
    assert model.labels == ["warm", "cold"]
    labels, scores = model.predict(*text_buffers(pa.array(["red red", "blue", "unknown"])))
    # red red </s>: mean (8/3, 0), scores 8/3 and -8/3, p = 1 / (1 + e^(-16/3)); then log(p + 1e-5) and exp
    # blue </s>: mean (0, 2), scores -2 and 2, p = 1 / (1 + e^-4); unknown: only </s>, the later of two equals
    assert labels.tolist() == [0, 1, 1]
    expected = [1 / (1 + np.exp(-16 / 3)), 1 / (1 + np.exp(-4)), 0.5]
    assert scores == pytest.approx([p + 1e-5 for p in expected], abs=1e-6)


@pytest.mark.parametrize(
    ("lies", "what"),
    [
        ({"magic": 1}, "first bytes"),
        ({"version": 13}, "version 13"),
        ({"kind": 1}, "no classifier"),
        ({"loss": 9}, "unknown loss 9"),
        ({"dim": 3}, "matrices"),
        ({"dim": -1}, "out of range"),
        ({"word_ngrams": 2**30}, "out of range"),
        ({"maxn": 3}, "without a bucket"),
        ({"maxn": 3, "bucket": 2**31 - 1}, "words and n-grams need"),
        ({"size": 2**31 - 1, "num_words": 2**31 - 3}, "does not fit"),
        ({"size": 6}, "6 entries with 3 words and 2 labels"),
        ({"num_words": 4, "num_labels": 1}, "marked 1"),
        ({"num_words": 5, "num_labels": 0}, "0 labels"),
        ({"pruned": 2**62}, "kept n-grams"),
        ({"pruned": 0}, "pruned but not quantised"),
        ({"rows": 2**62}, "times the file"),
        ({"rows": -1}, "-1 x 2"),
        ({"rows": 2}, "output norm flag|not 0 or 1|output"),
        ({"quantised": 7}, "not 0 or 1"),
        ({"quantised": 1}, "input"),
    ],
)
def test_a_lying_header_is_refused(lies: dict[str, int], what: str, tmp_path: Path) -> None:
    path = write(tmp_path / "lie.bin", model_bytes(**lies))
    with pytest.raises(ModelError, match=what) as caught:
        convert(path, tmp_path)
    assert caught.value.where == str(path)
    assert not list((tmp_path / "models").iterdir())  # nothing half made is left


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (b"blue\0", b"red\0x", "marked|dictionary"),
        (struct.pack("<f", 4.0), struct.pack("<f", float("nan")), "not finite"),
        (b"__label__warm", b"__label__\xff\xfe\xfd\xfc", "not UTF-8"),
    ],
)
def test_a_lying_body_is_refused(old: bytes, new: bytes, what: str, tmp_path: Path) -> None:
    path = write(tmp_path / "lie.bin", model_bytes().replace(old, new, 1))
    with pytest.raises(ModelError, match=what):
        convert(path, tmp_path)


def test_every_truncation_and_any_surplus_is_refused(tmp_path: Path) -> None:
    content = model_bytes()
    for end in range(len(content)):
        with pytest.raises(ModelError):
            convert(write(tmp_path / "cut.bin", content[:end]), tmp_path)
    with pytest.raises(ModelError, match="left over"):
        convert(write(tmp_path / "long.bin", content + b"\0"), tmp_path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.bin"):
        with pytest.raises(ModelError, match="cannot open"):
            convert(path, tmp_path)


def test_a_damaged_conversion_is_refused(tmp_path: Path) -> None:
    folder = convert(write(tmp_path / "hand.bin", model_bytes()), tmp_path)
    rows = folder / "rows.npy"
    for damage in (rows.read_bytes()[:-4], b"", b"junk"):
        rows.write_bytes(damage)
        with pytest.raises(ModelError, match="damaged") as caught:
            load(folder)
        assert "delete this folder" in caught.value.hint


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_random_bytes_are_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, with_magic: bool
) -> None:
    folder = tmp_path_factory.getbasetemp() / "random"
    folder.mkdir(exist_ok=True)
    with pytest.raises(ModelError):
        convert(write(folder / "random.bin", (model_bytes()[:8] if with_magic else b"") + content), folder)


FLIP = """
import random, resource, sys
from pathlib import Path
import pyarrow as pa
from curate.errors import ModelError
from curate.models.fasttext import convert, load
from curate.schema import text_buffers

folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
documents = text_buffers(pa.array([b"ba kore da x", "но да 語".encode(), b"\\xff\\x80 y" * 40, b""], pa.large_binary()))
rng, refused = random.Random(7), 0
for path in map(Path, sys.argv[3:]):
    load(convert(path, folder)).predict(*documents)  # compiled before memory is capped
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28), used + (1 << 28)))
for path in map(Path, sys.argv[3:]):
    whole = path.read_bytes()
    for turn in range(rounds):
        content = bytearray(whole)
        for _ in range(rng.choice([1, 1, 2, 8])):
            at = rng.randrange(120 if turn % 2 else len(content))  # every other one hits the header
            content[at] ^= 1 << rng.randrange(8)
        flipped = folder / "flipped"
        flipped.write_bytes(content)
        try:
            model = load(convert(flipped, folder))
        except ModelError as error:
            assert error.where == str(flipped), error
            refused += 1
            continue
        labels, scores = model.predict(*documents)
        assert (labels < len(model.labels)).all()
print(refused)
"""


def test_flipped_bits_never_crash_or_take_memory(trained: dict[str, Path], tmp_path: Path) -> None:
    """In a child of 256 MB: a wild read would kill it, a huge allocation fails it, a hang times out."""
    paths = [str(trained[name]) for name in ("softmax.bin", "hs.ftz", "chars.ftz", "mixed.ftz")]
    command = [sys.executable, "-c", FLIP, str(tmp_path), "120", *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 100
