"""What minhash_dedup finds and misses, beside the truth and the peers.

`python tests/bench/bench_dedup_accuracy.py [--documents N] [--text-dedup PYTHON] [DATA]`

1. N real documents (5,000): pages in several versions and passages of all texts. Truth is by brute force: the Jaccard of
   the 5-gram sets of every two documents that share one. Ours are whole runs, with verification; datatrove is as it comes
   (14 x 8, which no threshold changes), datasketch a MinHashLSH of 128 permutations over words by a regular expression.
2. Gold clusters of pages in several versions and of books in two editions: precision, recall and F1 over pairs. PYTHON is
   one of an environment that has text-dedup (it wants older libraries than curate); without it that line is left out.
"""

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import curate
from curate.kernels.minhash import band_keys, permutations, signatures
from curate.kernels.shingles import shingles
from curate.schema import text_buffers
from curate.stages.minhash_dedup import Config, plan_of

THRESHOLDS = [i / 100 for i in range(50, 100, 5)]
NUM_PERM, NGRAM, PASSAGE, EXAMPLES, LOWEST = 128, 5, 4000, 3, 0.05
GOLD = "powershell_docs_versions", "book_editions"
Pair = tuple[int, int]
# clusters of text-dedup, of its own making
UNITED = "import json, pickle, sys; u = pickle.load(open(sys.argv[1], 'rb')); print(json.dumps({k: u.find(k) for k in u.parent}))"


class Found:
    """What somebody made of n documents."""

    def __init__(self, cluster: Sequence[int], proposed: set[Pair] | None = None, plan: str = "") -> None:
        self.cluster = cluster  # (n,) the first or the kept document of each one's cluster
        self.kept = sorted(set(cluster))
        self.proposed, self.plan = proposed, plan


def documents(data: Path, count: int) -> list[tuple[str, str]]:
    """(name, text): every version of every page, then passages of each file in turn."""
    table = pq.read_table(data / f"dedup/{GOLD[0]}_dev.parquet", columns=["id", "text"])
    found = list(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))[: count // 4]
    files = [
        pq.read_table(path, columns=["id", "text"]) for path in sorted((data / "text").glob("*.parquet"))
    ]
    for rows in itertools.zip_longest(*(zip(*f.to_pydict().values(), strict=True) for f in files)):
        found += [(name, text[:PASSAGE]) for name, text in filter(None, rows) if text]
    return found[:count]


def truth(texts: list[str]) -> dict[Pair, float]:
    """Jaccard of every two documents, from LOWEST on."""
    from scipy.sparse import csr_array

    found = shingles(*text_buffers(pa.array(texts, pa.large_string())), NGRAM)
    size, (_, number) = np.diff(found.offsets), np.unique(found.hashes, return_inverse=True)
    matrix = csr_array((np.ones(len(number), np.int32), number, found.offsets))
    jaccard = {}
    for begin in range(0, len(texts), 500):
        shared = (matrix[begin : begin + 500] @ matrix.T).tocoo()
        a, b = shared.row + begin, shared.col
        value = shared.data / (size[a] + size[b] - shared.data)
        for i in np.flatnonzero((a < b) & (value >= LOWEST)).tolist():
            jaccard[int(a[i]), int(b[i])] = float(value[i])
    return jaccard


def pairs_of(bands: Iterable[Sequence[Any]]) -> set[Pair]:
    """Pairs of documents that have a key in common; None is no key."""
    found: set[Pair] = set()
    for keys in bands:
        buckets: dict[Any, list[int]] = {}
        for document, key in enumerate(keys):
            if key is not None:
                buckets.setdefault(key, []).append(document)
        found.update(pair for members in buckets.values() for pair in itertools.combinations(members, 2))
    return found


def ours(texts: list[str], folder: Path, **options: Any) -> Found:
    """A whole run."""
    config = Config(**options)
    bands, rows = plan_of(config)
    data, offsets = text_buffers(pa.array(texts, pa.large_string()))
    signed = signatures(data, offsets, permutations(config.scheme, config.num_perm, config.seed))
    proposed = pairs_of(band_keys(signed.signatures, bands, rows).T.tolist())
    with TemporaryDirectory(dir=folder) as place:
        source, out = Path(place) / "in.parquet", Path(place) / "out"
        table = {"id": [str(i) for i in range(len(texts))], "text": pa.array(texts, pa.large_string())}
        pq.write_table(pa.table(table), source, row_group_size=1000)
        curate.run({
            "input": {"path": str(source), "id": "id"}, "stages": [{"minhash_dedup": options}],
            "output": {"path": str(out)},
        }, workers=1)  # fmt: skip
        lost = [pq.read_table(path, columns=["id", "kept_id"]) for path in out.glob("_dropped/*/*.parquet")]
    cluster = list(range(len(texts)))
    for table in lost:
        for name, kept in zip(*table.to_pydict().values(), strict=True):
            cluster[int(name)] = int(kept)
    return Found(cluster, proposed, f"{bands} x {rows}")


def datatrove(texts: list[str], folder: Path) -> Found:
    """Its signatures, buckets and clusters; the filter after them does what they say."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.utils.typeshelper import Languages

    config = MinhashConfig()
    with TemporaryDirectory(dir=folder) as place:
        signed, buckets, removed = (f"{place}/{name}" for name in ("signatures", "buckets", "removed"))
        rows = (Document(text=text, id=str(i)) for i, text in enumerate(texts))
        MinhashDedupSignature(signed, config=config, language=Languages.english).run(rows, 0, 1)
        for bucket in range(config.num_buckets):
            MinhashDedupBuckets(signed, buckets, config=config).run(None, bucket, config.num_buckets)
        MinhashDedupCluster(buckets, removed, config=config, save_cluster_id=True).run(None, 0, 1)
        record = np.dtype([("key", f"V{8 * config.hashes_per_bucket}"), ("document", "<u4")])
        bands = []
        for path in sorted(Path(signed).rglob("*.sig")):
            keys: list[bytes | None] = [None] * len(texts)
            for key, document in np.fromfile(path, record):
                keys[int(document)] = bytes(key)
            bands.append(keys)
        members = np.fromfile(f"{removed}/000000.clusters", "<u4").reshape(-1, 2).tolist()
        gone = set(np.fromfile(f"{removed}/000000.remove", "<u4").tolist())
    keeper = {number: document for document, number in members if document not in gone}
    cluster = list(range(len(texts)))
    for document, number in members:
        cluster[document] = keeper[number]
    return Found(cluster, pairs_of(bands), f"{config.num_buckets} x {config.hashes_per_bucket}")


def datasketch_signatures(texts: list[str]) -> list[Any]:
    from datasketch import MinHash

    def grams(text: str) -> list[bytes]:
        words = re.findall(r"\w+", text.lower())
        return [" ".join(words[i : i + NGRAM]).encode() for i in range(len(words) - NGRAM + 1)]

    return MinHash.bulk([grams(text) for text in texts], num_perm=NUM_PERM)


def datasketch(signed: list[Any], threshold: float) -> Found:
    """The loop of its users: a document is kept unless the index has one like it, and then goes into it."""
    from datasketch import MinHashLSH

    lsh = MinHashLSH(threshold=threshold, num_perm=NUM_PERM)
    proposed: set[Pair] = set()
    for i, signature in enumerate(signed):
        proposed.update((j, i) for j in lsh.query(signature))
        lsh.insert(i, signature)
    near: dict[int, list[int]] = {}
    for j, i in sorted(proposed):
        near.setdefault(i, []).append(j)
    cluster: list[int] = []
    for i in range(len(signed)):
        cluster.append(next((j for j in near.get(i, []) if cluster[j] == j), i))
    return Found(cluster, proposed, f"{lsh.b} x {lsh.r}")


def text_dedup(python: str, texts: list[str], folder: Path, threshold: float) -> Found:
    """Its command, with its default of 250 permutations and 5-grams."""
    with TemporaryDirectory(dir=folder) as place:
        source = f"{place}/in.parquet"
        pq.write_table(pa.table({"text": texts}), source)
        command = [python, "-m", "text_dedup.minhash", "--path", "parquet", "--data_files", source, "--split", "train",
                   "--cache_dir", f"{place}/cache", "--output", f"{place}/out", "--column", "text", "--debug",
                   "--threshold", str(threshold), "--num_proc", "1"]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, cwd=place)
        united = [python, "-c", UNITED, f"{place}/out/uf.pkl"]
        told = json.loads(subprocess.run(united, check=True, capture_output=True, text=True).stdout)
    return Found([told.get(str(i), i) for i in range(len(texts))])


def against_truth(names: list[str], texts: list[str], folder: Path) -> None:
    """The table over thresholds."""
    jaccard = truth(texts)
    fixed, signed = datatrove(texts, folder), datasketch_signatures(texts)
    print(f"{len(texts):,} documents, {sum(len(t.encode()) for t in texts) / 1e6:.1f} MB\n")
    print(
        "recall, precision: of the pairs proposed; wrong: dropped, and nobody kept is as near as the threshold;"
    )
    print("missed: pairs at the threshold or above of which both were kept\n")
    print(
        f"{'':4} {'true pairs':>10}  {'':22}{'bands':>8}{'recall':>8}{'precision':>11}{'dropped':>9}{'wrong':>7}{'missed':>8}"
    )
    missed: dict[str, list[str]] = {}
    for threshold in THRESHOLDS:
        true = {pair: value for pair, value in jaccard.items() if value >= threshold}
        for who, found in {
            "ours, fast": ours(texts, folder, threshold=threshold),
            "ours, datasketch": ours(texts, folder, threshold=threshold, scheme="datasketch"),
            "datatrove": fixed, "datasketch": datasketch(signed, threshold),
        }.items():  # fmt: skip
            hit, kept = len(found.proposed & true.keys()), set(found.kept)
            near = {a for pair in true for a, b in (pair, pair[::-1]) if b in kept}
            wrong = sum(i not in kept and i not in near for i in range(len(texts)))
            both = sorted((value, pair) for pair, value in true.items() if kept.issuperset(pair))
            print(
                f"{threshold:4} {len(true):10,}  {who:22}{found.plan:>8}{hit / len(true):8.4f}{hit / len(found.proposed):11.4f}"
                f"{len(texts) - len(kept):9,}{wrong:7,}{len(both):8,}"
            )
            some = both if len(both) <= EXAMPLES else [both[0], both[len(both) // 2], both[-1]]
            missed[f"{threshold} {who}"] = [f"{value:.3f} {names[a]}, {names[b]}" for value, (a, b) in some]
    print("\nmissed pairs, the least alike, the middle and the most alike:")
    for case, some in missed.items():
        for line in some:
            print(f"  {case:24} {line}")


def pairs_in(cluster: Sequence[Any]) -> set[Pair]:
    return pairs_of([cluster])


def against_gold(data: Path, folder: Path, python: str | None) -> None:
    """Both sets with gold clusters."""
    for name in GOLD:
        table = pq.read_table(data / f"dedup/{name}_dev.parquet", columns=["id", "text", "cluster"])
        names, texts, gold = (column.to_pylist() for column in table.columns)
        jaccard, true = truth(texts), pairs_in(gold)
        values = np.array([jaccard.get(pair, 0.0) for pair in true])
        print(
            f"\n{name}: {len(texts):,} documents, {len(true):,} gold pairs; their Jaccard, tenths of them below: ",
            end="",
        )
        print(", ".join(f"{v:.3f}" for v in np.quantile(values, np.arange(0.1, 1, 0.1))))
        print(f"{'':24}{'precision':>11}{'recall':>8}{'F1':>8}{'dropped':>9}")
        all_ours = {t: ours(texts, folder, threshold=t) for t in THRESHOLDS}
        found = {f"ours, {t}": one for t, one in all_ours.items()} | {"datatrove": datatrove(texts, folder)}
        for threshold in (0.7, 0.8) if python else ():
            found[f"text-dedup, {threshold}"] = text_dedup(python or "", texts, folder, threshold)
        for who, one in found.items():
            said = pairs_in(one.cluster)
            precision, recall = len(said & true) / max(len(said), 1), len(said & true) / len(true)
            f1 = 2 * precision * recall / max(precision + recall, 1e-9)
            print(f"{who:24}{precision:11.4f}{recall:8.4f}{f1:8.4f}{len(texts) - len(one.kept):9,}")
        errors(names, jaccard, true, all_ours[0.8], 0.8)


def errors(
    names: list[str], jaccard: dict[Pair, float], true: set[Pair], found: Found, threshold: float
) -> None:
    """What kind they are, with examples."""
    said, kept = pairs_in(found.cluster), set(found.kept)
    value = {pair: jaccard.get(pair, 0.0) for pair in said ^ true}
    kinds: dict[str, list[Pair]] = {
        "missed: less alike than the threshold": [p for p in true - said if value[p] < threshold],
        "missed: alike, not proposed, both kept": [
            p for p in true - said if value[p] >= threshold and kept.issuperset(p)
        ],
        "missed: alike, of two clusters": [
            p for p in true - said if value[p] >= threshold and not kept.issuperset(p)
        ],
        "wrong: alike, of two pages": [p for p in said - true if value[p] >= threshold],
        "wrong: both like the one kept": [p for p in said - true if value[p] < threshold],
    }
    print(f"errors of ours at {threshold}:")
    for kind, pairs in kinds.items():
        print(f"  {kind:40} {len(pairs):5,}")
        ranked = sorted(pairs, key=lambda pair: value[pair])
        for a, b in [ranked[i] for i in sorted({0, len(ranked) // 2, len(ranked) - 1})] if ranked else []:
            print(f"      {value[a, b]:.3f} {names[a]}, {names[b]}")


def main() -> None:
    """Print both parts."""
    arguments, options = sys.argv[1:], {"--documents": "5000", "--text-dedup": ""}
    for name in options:
        if name in arguments:
            at = arguments.index(name)
            options[name] = arguments[at + 1]
            del arguments[at : at + 2]
    data = Path(arguments[0]) if arguments else Path(__file__).parents[3] / "shared/data"
    with TemporaryDirectory(prefix="curate-bench-") as scratch:
        against_gold(data, Path(scratch), options["--text-dedup"] or None)
        names, texts = zip(*documents(data, int(options["--documents"])), strict=True)
        against_truth(list(names), list(texts), Path(scratch))


if __name__ == "__main__":
    main()
