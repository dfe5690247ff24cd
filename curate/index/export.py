"""The kept documents of an index as a `datasketch.MinHashLSH`.

It proposes for a `datasketch.MinHash` of the index's `num_perm` and `seed` what the index proposes: those that share a
band with it. Its `scheme` is `legacy` where ours is `datasketch`, else `affine32`; it is updated with the shingles' words
joined by one blank, in UTF-8. Under our scheme `fast` it is made with `hashfunc=lambda number: number & 0xFFFFFFFF` and
updated with the hashes of `curate.kernels.shingles.shingles`. Documents too short for a shingle are not in it.
"""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from curate.errors import ConfigError
from curate.index.index import KEPT, Index
from curate.index.runs import Documents

SCHEMES = {"fast": "affine32", "affine32": "affine32", "datasketch": "legacy"}


def to_datasketch(index: Index, path: str) -> int:
    """Pickle it; returns how many documents are in it. It is made in memory, as datasketch has it."""
    try:
        from datasketch import MinHashLSH
    except ImportError:
        raise ConfigError("datasketch is not there", hint="pip install datasketch") from None
    header = index.manifest.header
    if header["scope"]:
        raise ConfigError(
            f"the index keeps values of `{header['scope']}` apart, and a MinHashLSH cannot",
            hint="export an index without `scope`",
        )
    lsh = MinHashLSH(num_perm=header["num_perm"], params=(header["bands"], header["rows"]))
    count = sum(_insert(lsh, index, documents) for run in index.runs for documents in run.documents())
    target = Path(path)
    temporary = target.with_name(f".{target.name}.new")
    with open(temporary, "wb") as file:
        pickle.dump(lsh, file)
    os.replace(temporary, target)
    return count


def _insert(lsh: Any, index: Index, documents: Documents) -> int:
    from datasketch import MinHash

    from curate.kernels.minhash import permutations, sign

    header = index.manifest.header
    drawn = permutations(header["scheme"], header["num_perm"], header["seed"])
    begin, end = documents.set_offsets[[0, -1]]
    shingles = documents.sets[begin:end].astype(np.uint64)
    signatures = sign(shingles, documents.set_offsets - begin, drawn)
    scheme = SCHEMES[header["scheme"]]
    kept = (index.fates(documents.numbers) == KEPT) & (np.diff(documents.set_offsets) > 0)
    ids = index.ids(documents.numbers[kept])
    for one, values in zip(ids, signatures[kept], strict=True):
        values = values.astype(np.uint64) if scheme == "legacy" else values
        sketch = MinHash(header["num_perm"], header["seed"], hashvalues=values, scheme=scheme)
        lsh.insert(one, sketch, check_duplication=False)
    return len(ids)
