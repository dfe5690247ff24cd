"""Language identification and a quality-style classifier beside the fastText wheel: one core, one process, same documents.

`python tests/bench/bench_language_id.py`; needs the shared data, the model lid176 and the fastText wheel. The wheel gets
its documents as it needs them (newlines replaced, one call a document) and that is not timed; ours starts each round with
an empty cache.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import fasttext
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.models import catalog
from curate.models.fasttext import convert, load
from curate.schema import text_buffers

ROUNDS = 3
DATA = Path(__file__).parents[3] / "shared" / "data"
TRAIN = """
import fasttext, sys
model = fasttext.train_supervised(input=sys.argv[1], wordNgrams=2, bucket=200_000, dim=100, thread=1, verbose=0)
model.save_model(sys.argv[2])
"""


def texts(*patterns: str) -> pa.Array:
    files = sorted(path for pattern in patterns for path in DATA.glob(pattern))
    columns = [pq.read_table(path, columns=["text"])["text"].cast(pa.large_string()) for path in files]
    return (
        pa.chunked_array([chunk for column in columns for chunk in column.chunks])
        .combine_chunks()
        .drop_null()
    )


def cpu_seconds(work: Callable[[], object]) -> float:
    """Median of the rounds."""
    spent = []
    for _ in range(ROUNDS):
        before = time.process_time()
        work()
        spent.append(time.process_time() - before)
    return statistics.median(spent)


def compare(name: str, model_file: Path, documents: pa.Array, store: Path) -> str:
    folder = convert(model_file, store)
    data, offsets = text_buffers(documents)
    megabytes = (offsets[-1] - offsets[0]) / 1e6
    load(folder).predict(data[:0], offsets[:1])  # compiled
    ours = cpu_seconds(lambda: load(folder).predict(data, offsets))
    labels, scores = (model := load(folder)).predict(data, offsets)

    library = fasttext.load_model(str(model_file))
    lines = [text.replace("\n", " ") + "\n" for text in documents.to_pylist()]
    answers: list[list[tuple[float, str]]] = []

    def peer() -> None:
        answers[:] = [library.f.predict(line, 1, 0.0, "strict") for line in lines]

    theirs = cpu_seconds(peer)
    same = [
        a[0][1].removeprefix("__label__") == model.labels[i] if a else i < 0
        for a, i in zip(answers, labels, strict=True)
    ]
    widest = max(abs(a[0][0] - score) for a, score in zip(answers, scores, strict=True) if a)
    return (
        f"{name:<34} {len(lines):>7,} {megabytes:>7.1f} {megabytes / theirs:>8.1f} {megabytes / ours:>8.1f}"
        f" {theirs / ours:>6.1f}x {np.mean(same):>8.3%} {widest:>9.1e}"
    )


def beside_datatrove(model_file: Path, documents: pa.Array) -> str:
    """Our stage and datatrove's LanguageFilter, documents in, decisions out."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import LanguageFilter
    from fasttext.FastText import _FastText

    from curate.stages import language_id

    block = LanguageFilter("en")
    block.model._model = _FastText(str(model_file))
    items = [Document(text=text, id="") for text in documents.to_pylist()]
    batches = [pa.record_batch({"text": documents.slice(i, 1024)}) for i in range(0, len(documents), 1024)]
    config = language_id.Config()
    with tempfile.TemporaryDirectory() as store:
        model = language_id.language_id.stage.load(config, Path(store))
        ours = cpu_seconds(lambda: [language_id.language_id(batch, config, model) for batch in batches])
        verdicts = [language_id.language_id(batch, config, model) for batch in batches]
    mine = [
        row["lang"] == "en" and row["lang_score"] > 0.65
        for batch in verdicts
        for row in batch.select(["lang", "lang_score"]).to_pylist()
    ]
    theirs = cpu_seconds(lambda: [block.filter(item) for item in items])
    same = np.mean([bool(block.filter(item)) == kept for item, kept in zip(items, mine, strict=True)])
    megabytes = documents.nbytes / 1e6
    return (
        f"stage beside datatrove's LanguageFilter: {megabytes / ours:.1f} MB/s, {megabytes / theirs:.1f} MB/s, "
        f"ratio {theirs / ours:.1f} x, {same:.2%} of decisions alike"
    )


def train_quality(folder: Path) -> Path:
    """Prose against technical text, word bigrams, softmax: the shape of DCLM's classifier."""
    corpus = folder / "train.txt"
    with open(corpus, "w") as file:
        for label, pattern in (
            ("prose", "text/en_books_public_domain.parquet"),
            ("technical", "text/en_python_peps.parquet"),
        ):
            for text in texts(pattern).to_pylist()[:600]:
                file.write(f"__label__{label} {text[:20_000].replace(chr(10), ' ')}\n")
    command = [sys.executable, "-c", TRAIN, str(corpus), str(folder / "quality.bin")]
    subprocess.run(command, check=True, env={**os.environ, "MALLOC_PERTURB_": "255"})
    return folder / "quality.bin"


def main() -> None:
    """Print the table."""
    english = texts("text/*.parquet")
    print(
        f"{'model, documents':<34} {'docs':>7} {'MB':>7} {'wheel':>8} {'ours':>8} {'ratio':>7} {'same':>8} {'max dp':>9}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch)
        lid = catalog.get("lid176")
        print(compare("lid176, English", lid, english, store))
        print(compare("lid176, 75 languages", lid, texts("multilingual/langid_sentences_75*.parquet"), store))
        print(compare("lid176, novels in 6 languages", lid, texts("multilingual/novels*.parquet"), store))
        print(beside_datatrove(lid, english))
        print(compare("softmax, word bigrams, English", train_quality(store), english, store))
    print(f"MB/s of CPU time on one core, medians of {ROUNDS} rounds")


if __name__ == "__main__":
    main()
