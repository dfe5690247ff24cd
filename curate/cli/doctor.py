"""What `curate doctor` looks at. Each check says what it found and, where something is wrong, the next step."""

import os
import platform
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from multiprocessing.connection import Connection
from pathlib import Path

import curate
from curate.cli.console import human_bytes
from curate.errors import CurateError

GB = 1e9
MEMORY_PER_CORE = 1 * GB  # a worker's usual need
DISK_FREE = 5 * GB
OPEN_FILES = 1024  # a merge holds 256


@dataclass(frozen=True)
class Finding:
    """One line; `next` is empty where all is well."""

    name: str
    found: str
    next: str = ""

    @property
    def ok(self) -> bool:
        return not self.next


def examine() -> list[Finding]:
    """Run all checks."""
    checks: list[Callable[[], Finding]] = [
        python, libraries, cores, memory, disk_here, disk_cache, shared_memory, open_files, encoding, kernels, worker, language_model,
    ]  # fmt: skip
    return [check() for check in checks]


def python() -> Finding:
    found = f"curate {curate.__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    good = sys.version_info >= (3, 11) and sys.platform == "linux"
    return Finding("python", found, "" if good else "curate needs Linux and Python 3.11 or newer")


def libraries() -> Finding:
    """Every library that curate itself requires."""
    found, missing = [], []
    for line in requires("curate") or []:
        if "extra ==" in line:
            continue
        name = re.split(r"[<>=!~;\[ ]", line, maxsplit=1)[0]
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    return Finding(
        "libraries", ", ".join(found), f"install {', '.join(missing)}: pip install curate" if missing else ""
    )


def cores() -> Finding:
    usable = len(os.sched_getaffinity(0))
    return Finding("cores", f"{usable} of {os.cpu_count()} usable")


def memory() -> Finding:
    available = min(_available_bytes(), _cgroup_left_bytes())
    usable = len(os.sched_getaffinity(0))
    fits = max(1, int(available / MEMORY_PER_CORE))
    short = f"not 1 GB for each of {usable} cores: run with --workers {fits}" if fits < usable else ""
    return Finding("memory", f"{human_bytes(available)} available", short)


def _available_bytes() -> float:
    text = Path("/proc/meminfo").read_text()
    match = re.search(r"MemAvailable:\s+(\d+) kB", text)
    return int(match[1]) * 1024 if match else float("inf")


def _cgroup_left_bytes() -> float:
    """What a container may still take; infinite outside of one."""
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            cap, now = Path(limit).read_text().strip(), Path(used).read_text().strip()
        except OSError:
            continue
        return float("inf") if cap == "max" else max(0, int(cap) - int(now))
    return float("inf")


def disk_here() -> Finding:
    return _disk("disk here", Path.cwd(), "outputs and the work store (`curate clean`) need room")


def disk_cache() -> Finding:
    from curate.models import catalog

    return _disk("disk of the cache", catalog.folder(), "set CURATE_CACHE to a folder with room")


def _disk(name: str, folder: Path, advice: str) -> Finding:
    there = next(place for place in (folder, *folder.parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK):
        return Finding(name, f"{there} cannot be written", advice)
    return Finding(name, f"{human_bytes(free)} free at {there}", "" if free > DISK_FREE else advice)


def shared_memory() -> Finding:
    """Workers need memfd; libraries beside us need /dev/shm."""
    try:
        os.close(os.memfd_create("curate-doctor"))
        free = shutil.disk_usage("/dev/shm").free
    except OSError as error:
        return Finding("shared memory", str(error), "mount /dev/shm (docker run --shm-size=1g)")
    short = "give the container more: --shm-size=1g" if free < 64 << 20 else ""
    return Finding("shared memory", f"/dev/shm has {human_bytes(free)} free", short)


def open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Finding(
        "open files", f"at most {soft}", "" if soft >= OPEN_FILES else f"ulimit -n {min(hard, 4096)}"
    )


def encoding() -> Finding:
    name = (sys.stdout.encoding or "?").lower()
    return Finding(
        "terminal", f"encoding {name}", "" if name.replace("-", "") == "utf8" else "export PYTHONUTF8=1"
    )


def kernels() -> Finding:
    """The numba cache can be written and a kernel compiles (or comes out of it)."""
    started = time.perf_counter()
    try:
        from curate import kernels as room

        cache = Path(os.environ["NUMBA_CACHE_DIR"])
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache):
            pass
        _run_kernel()
    except OSError as error:
        return Finding("kernels", f"cache: {error}", "set CURATE_CACHE to a folder that can be written")
    except Exception as error:  # whatever numba or LLVM raise on this machine is the finding
        return Finding(
            "kernels",
            f"{type(error).__name__}: {error}".splitlines()[0],
            "reinstall numba: pip install --force-reinstall numba",
        )
    assert room
    return Finding("kernels", f"ready in {time.perf_counter() - started:.1f} s, cached in {cache}")


def _run_kernel() -> None:
    import pyarrow as pa

    from curate import stages

    spec = stages.find("gopher_quality")
    spec.function(
        pa.record_batch({"id": ["1"], "text": pa.array(["A few words. "], pa.large_string())}), spec.config()
    )


def worker() -> Finding:
    """A child process starts and answers."""
    from curate.child import Child

    started = time.perf_counter()
    child = Child("curate.cli.doctor:echo")
    try:
        child.connection.send("ready?")
        child.connection.recv()
    except (EOFError, OSError) as error:
        return Finding(
            "workers", f"a child process ended at once: {error}", f"try: {sys.executable} -m curate.child"
        )
    finally:
        child.kill()
    return Finding("workers", f"a child answers in {time.perf_counter() - started:.2f} s")


def echo(connection: Connection) -> None:
    """Loop of the child that `worker` starts."""
    while True:
        connection.send(connection.recv())


def language_model() -> Finding:
    from curate.models import catalog

    try:
        return Finding("model lid176", str(catalog.find("lid176")))
    except CurateError as error:
        return Finding("model lid176", str(error), error.hint or "curate models get lid176")
