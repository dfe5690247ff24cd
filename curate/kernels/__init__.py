"""Numba loops over numpy arrays, nothing else: no Arrow, no Python object per row.

numba's disk cache does not see an edit in a file that a kernel calls (a stale result, measured), so the cache lives in
a folder named by the hash of every kernel source, numba's version and the CPU. Import this room inside functions.
"""

import hashlib
import os
from importlib.metadata import version
from pathlib import Path


def _cache_folder() -> Path:
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    digest.update(version("numba").encode())
    with open("/proc/cpuinfo", "rb") as cpuinfo:
        digest.update(b"".join(line for line in cpuinfo if line.startswith((b"model name", b"flags")))[:8192])
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("CURATE_CACHE") or Path(base) / "curate") / "numba" / digest.hexdigest()[:16]


CACHE = str(_cache_folder())
os.environ["NUMBA_CACHE_DIR"] = CACHE
