"""Keep decisions of the Gopher, FineWeb and C4 stages beside datatrove's filters: `python tests/bench/bench_parity.py`.

On 2,000 English documents with datatrove's words (every decision must be alike) and with ours, and on the documents of
other languages with ours, where datatrove's tokenizer of the language is installed: share of like decisions for each
language, and every disagreement by the two reasons. Outside English stop words are off on both sides.

datatrove gets a language with its usual script (cmn_Hani, chr_Cher), as FineWeb2 writes it: by a code without one it takes
the tokenizer of the last script that its table has (of `zh` and `chr` the Latin one). Chinese needs `pip install jieba`.
"""

import csv
import sys
from collections import Counter, defaultdict
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.utils.word_tokenizers import load_word_tokenizer

from curate.stages import c4_quality, fineweb_quality, gopher_quality, gopher_repetition

STAGES = {
    "gopher_quality": (gopher_quality, GopherQualityFilter),
    "gopher_repetition": (gopher_repetition, GopherRepetitionFilter),
    "fineweb_quality": (fineweb_quality, FineWebQualityFilter),
    "c4_quality": (c4_quality, C4QualityFilter),
}
ENGLISH, PER_LANGUAGE, CHARS = 2_000, 40, 6_000
Disagreements = Counter[tuple[str, str]]  # (our reason, theirs); `kept` for none


def english(folder: Path) -> list[str]:
    """The same number of documents of each file; short files give all they have."""
    columns = [
        pq.read_table(p, columns=["text"])["text"].drop_null().to_pylist()
        for p in sorted(folder.glob("*.parquet"))
    ]
    texts: list[str] = []
    for i, column in enumerate(sorted(columns, key=len)):
        share = (ENGLISH - len(texts)) // (len(columns) - i)
        texts += [text[:CHARS] for text in column[:: max(1, len(column) // share)][:share]]
    return texts


def by_language(folder: Path) -> dict[str, list[str]]:
    """Documents of each language that have a line of prose at least."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(folder.glob("*.parquet")):
        if "sentences" in path.name:  # single sentences: too short for every rule
            continue
        table = pq.read_table(path, columns=["text", "lang"])
        for text, lang in zip(table["text"].to_pylist(), table["lang"].to_pylist(), strict=True):
            if text and lang and len(text) > 500:
                found[lang].append(text[:CHARS])
    return {lang: texts[:: max(1, len(texts) // PER_LANGUAGE)] for lang, texts in found.items()}


def ours(stage: str, texts: list[str], **options: Any) -> list[str]:
    """Our reason for each text."""
    module, _ = STAGES[stage]
    batch = pa.record_batch({"text": pa.array(texts, pa.large_string())})
    out = getattr(module, stage)(batch, module.Config(**options))
    return [reason or "kept" for reason in out[f"{stage}_reason"].to_pylist()]


def theirs(stage: str, texts: list[str], **options: Any) -> list[str]:
    """Their reason for each text."""
    one = STAGES[stage][1](**options)
    found = []
    for text in texts:
        verdict = one.filter(Document(text=text, id=""))
        found.append(
            "kept" if verdict is True else str(verdict[1]) if isinstance(verdict, tuple) else "dropped"
        )
    return found


def disagreements(mine: list[str], others: list[str]) -> Disagreements:
    pairs = zip(mine, others, strict=True)
    return Counter((a, b) for a, b in pairs if (a == "kept") != (b == "kept"))


@cache
def codes_with_script() -> dict[str, str]:
    """Code of a language -> the same with its usual script, of datatrove's table."""
    with (files("datatrove") / "assets" / "tokenizer_assignment.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["default_script"] == "TRUE"]
    codes = {row["code_3"]: f"{row['code_3']}_{row['script']}" for row in reversed(rows)}
    short = {row["code_1"]: codes[row["code_3"]] for row in rows if row["default_code_1"] == "TRUE"}
    return codes | short


def tokenizer_is_there(lang: str) -> bool:
    try:
        load_word_tokenizer(lang).word_tokenize("a b")
    except (ValueError, ImportError, OSError):  # none assigned, its library is absent, or its model is
        return False
    return True


def compare_languages(folder: Path) -> dict[str, dict[str, tuple[int, Disagreements]]]:
    """Stage -> language -> (documents, disagreements)."""
    found: dict[str, dict[str, tuple[int, Disagreements]]] = {stage: {} for stage in STAGES}
    for lang, texts in by_language(folder).items():
        code = codes_with_script().get(lang, lang)
        if not tokenizer_is_there(code):
            continue
        for stage in STAGES:
            off = {"min_stop_words": 0} if stage == "gopher_quality" else {}
            found[stage][lang] = (
                len(texts),
                disagreements(
                    ours(stage, texts, words_lang=lang, **off), theirs(stage, texts, language=code, **off)
                ),
            )
    return found


def print_disagreements(found: Disagreements) -> None:
    for (mine, other), count in found.most_common():
        print(f"    {count:5}  curate {mine:28} datatrove {other}")


def main() -> None:
    """Print shares of like decisions and every disagreement."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[3] / "shared" / "data"
    texts = english(data / "text")
    print(f"{len(texts)} English documents")
    for stage in STAGES:
        other = theirs(stage, texts)
        for words in ("datatrove", "unicode"):
            differ = disagreements(ours(stage, texts, words=words), other)
            print(
                f"{stage:20} words: {words:10} {1 - differ.total() / len(texts):8.2%} alike, {differ.total()} differ"
            )
            print_disagreements(differ)
    for stage, languages in compare_languages(data / "multilingual").items():
        documents = sum(n for n, _ in languages.values())
        differ = sum((d for _, d in languages.values()), Counter())
        print(
            f"\n{stage}: {len(languages)} languages, {documents} documents, {1 - differ.total() / documents:.2%} alike"
        )
        print_disagreements(differ)
        low = {lang: 1 - d.total() / n for lang, (n, d) in languages.items() if d.total() > 0.02 * n}
        print(
            "    below 98%:",
            ", ".join(
                f"{lang} {share:.0%} of {languages[lang][0]}"
                for lang, share in sorted(low.items(), key=lambda x: x[1])
            ),
        )


if __name__ == "__main__":
    main()
