"""Common Crawl from a server that lays it out as data.commoncrawl.org does, and that fails in the ways it fails."""

import gzip
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
import pyarrow.parquet as pq
import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType

from curate.engine.check import check
from curate.engine.forecast import Limits
from curate.errors import ConfigError, DataError, GuardError, RunError
from curate.io import commoncrawl, excerpt, inputs
from curate.io.download import Patience, download, in_threads, look
from curate.io.fetched import downloads
from curate.io.slices import Input, Remote
from curate.recipe.recipe import load

CONSOLE = str(Path(sys.executable).with_name("curate"))
CRAWL = "CC-MAIN-2024-10"
MANY = "archive.org"  # of several hosts, some answers not 200
FILES = {
    "00000": "dolma-sample-0000.warc.gz",
    "00001": "resiliparse-warcfile.warc.gz",
    "00002": "iipc-IAH-urls-wget.warc.gz",
    "00003": "daft-example.warc.gz",
}


def path_of(number, kind="warc"):
    ending = "warc.gz" if kind == "warc" else "warc.wet.gz"
    return f"crawl-data/{CRAWL}/segments/17.{number[-1]}/{kind}/CC-MAIN-{number}.{ending}"


@pytest.fixture
def crawl(source, shared_data, monkeypatch):
    """The address of a mirror with one crawl: four WARC files, one WET, the lists of paths and the index."""
    for number, file in FILES.items():
        put(source.folder / path_of(number), (shared_data / "warc" / file).read_bytes())
    wet = (shared_data / "warc/commoncrawl-whirlwind.warc.wet.gz").read_bytes()
    put(source.folder / path_of("00000", "wet"), wet)
    for kind, numbers in (("warc", FILES), ("wet", ["00000"])):
        lines = "".join(f"{path_of(number, kind)}\n" for number in numbers)
        put(source.folder / f"crawl-data/{CRAWL}/{kind}.paths.gz", gzip.compress(lines.encode()))
    monkeypatch.setenv("CURATE_COMMONCRAWL", source.address)
    return source


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def listed(address, tmp_path, seed=0, say=print, **config):
    config = Input(path=address, **config)
    root, files = inputs.list_files(config, tmp_path, str(tmp_path / "store"), seed, say)
    inputs.fetch(files, config, str(tmp_path / "store"), say, lambda *progress: None)
    return root, files


def share(**options):
    return f"commoncrawl://{CRAWL}?" + "&".join(f"{k}={v}" for k, v in options.items())


def test_all_of_a_crawl_is_what_the_server_holds(crawl, tmp_path):
    root, files = listed(share(share=1), tmp_path)
    assert [f.name for f in files] == [path_of(n) for n in FILES]
    for file in files:
        there = crawl.folder / file.name
        assert Path(file.path).read_bytes() == there.read_bytes()
        assert (file.path, file.size) == (f"{root}/{file.name}", there.stat().st_size)
        assert file.stamp == str(Path(file.path).stat().st_mtime_ns)
        assert len(file.remote.etag) == 64
    assert len(crawl.asked("^GET .*segments")) == 4
    listed(share(share=1), tmp_path)  # listed and here: nobody is asked
    assert len(crawl.asked()) == 2 + 4 + 4


def test_a_share_is_drawn_by_seed_and_grows(tmp_path):
    names = [path_of(f"{n:05}") for n in range(20_000)]
    drawn = {s: {n for n in names if commoncrawl.share_of(n, 7) < s} for s in (0.01, 0.1, 1.0)}
    assert 150 < len(drawn[0.01]) < 250
    assert 1850 < len(drawn[0.1]) < 2150
    assert drawn[0.01] < drawn[0.1] < drawn[1.0] == set(names)
    assert drawn[0.1] != {n for n in names if commoncrawl.share_of(n, 8) < 0.1}


def test_seed_and_share_choose_files(crawl, tmp_path):
    for seed in range(3):
        wanted = [path_of(n) for n in FILES if commoncrawl.share_of(path_of(n), seed) < 0.5]
        if wanted:
            assert [f.name for f in listed(share(share=0.5), tmp_path, seed)[1]] == wanted
    with pytest.raises(ConfigError, match="of the 4 files of CC-MAIN-2024-10 is none"):
        listed(share(share=1e-9), tmp_path)


def test_a_mirror_in_a_store(crawl, tmp_path, monkeypatch):
    """As s3://commoncrawl/ is: any file system that fsspec opens."""
    store = fsspec.filesystem("memory")
    store.put(str(crawl.folder / "crawl-data"), "/mirror/crawl-data", recursive=True)
    monkeypatch.setenv("CURATE_COMMONCRAWL", "memory://mirror")
    crawl.fail("nothing", "short")
    _, files = listed(share(share=1), tmp_path)
    assert [Path(f.path).read_bytes() for f in files] == [(crawl.folder / f.name).read_bytes() for f in files]
    assert len(files) == 4
    assert crawl.asked() == []
    store.rm("/mirror", recursive=True)


def test_progress_is_told(crawl, tmp_path):
    config = Input(path=share(share=1))
    _, files = inputs.list_files(config, tmp_path, str(tmp_path / "store"))
    told = []
    inputs.fetch(files, config, str(tmp_path / "store"), print, lambda *progress: told.append(progress))
    size = sum(f.size for f in files)
    assert told[0] == (0, 0, 4, size)
    assert told[-1] == (4, size, 4, size)
    assert len(told) == 5


def test_extracted_text(crawl, tmp_path, read_all):
    _, files = listed(share(share=1, kind="wet"), tmp_path)
    assert [f.name for f in files] == [path_of("00000", "wet")]
    assert len(read_all(Path(files[0].path)).rows) == 1


def test_a_list_of_paths(crawl, tmp_path):
    (tmp_path / "mine.txt").write_text(f"{path_of('00002')}\n\n{path_of('00000')}\n{path_of('00002')}\n")
    assert [f.name for f in listed(share(paths="mine.txt"), tmp_path)[1]] == [
        path_of("00000"),
        path_of("00002"),
    ]


def test_what_is_missing_is_named_and_an_error_unless_allowed(crawl, tmp_path, read_all):
    gone = path_of("00009")
    (tmp_path / "mine.txt").write_text(f"{path_of('00003')}\n{gone}\n")
    with pytest.raises(DataError, match=f"1 of 2 files are not at their source: .*{gone}"):
        listed(share(paths="mine.txt"), tmp_path)
    _, files = listed(share(paths="mine.txt"), tmp_path, allow_missing=1)
    assert [(f.name, f.format) for f in files] == [(path_of("00003"), "warc"), (gone, "missing")]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("commoncrawl://CC-MAIN-2024-10", "must name one of share, paths, domain"),
        ("commoncrawl://CC-MAIN-2024-10?share=2", "above 0 and at most 1"),
        ("commoncrawl://CC-MAIN-2024-10?share=x", "share=x"),
        ("commoncrawl://CC-MAIN-2024-10?shar=0.1", "unknown `shar`"),
        ("commoncrawl://CC-MAIN-2024-10?share=1&domain=a.org", "must name one"),
        ("commoncrawl://CC-MAIN-2024-10?domain=a.org&kind=wet", "only"),
        ("commoncrawl://?share=1", "names no crawl"),
        ("commoncrawl://../etc?share=1", "no crawl"),
        ("commoncrawl://CC-MAIN-1999-10?share=1", "there is no crawl `CC-MAIN-1999-10`"),
        ("commoncrawl://CC-MAIN-1999-10?domain=a.org", "has no index"),
        (("commoncrawl://CC-MAIN-2024-10?share=1", "here.jsonl"), "different systems"),
    ],
)
def test_addresses_that_mean_nothing(crawl, tmp_path, address, message):
    with pytest.raises(ConfigError, match=message):
        listed(address, tmp_path)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "crawl-data/../../x", "a b"])
def test_a_path_that_leads_elsewhere_is_refused(crawl, tmp_path, name):
    (tmp_path / "mine.txt").write_text(name)
    with pytest.raises(DataError, match="no path of Common Crawl"):
        listed(share(paths="mine.txt"), tmp_path)


# Failures. Waits are cut short by their factor, not left out.


@pytest.fixture
def quick(monkeypatch):
    waits = []
    sleep = time.sleep
    monkeypatch.setattr("curate.io.download.time.sleep", lambda s: (waits.append(s), sleep(s / 100)))
    return waits


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("status", {"code": 429}),
        ("status", {"code": 503}),
        ("short", {}),
        ("drop", {}),
        ("whole", {"times": 9}),
    ],
)
def test_a_source_that_fails_for_a_while(crawl, tmp_path, quick, kind, how):
    crawl.fail(f"GET /.*{path_of('00000')}", kind, **{"times": 3, **how})
    said = []
    _, files = listed(share(share=1), tmp_path, say=said.append)
    assert all(Path(f.path).read_bytes() == (crawl.folder / f.name).read_bytes() for f in files)
    asked = crawl.asked(f"GET .*{path_of('00000')}")
    if kind == "whole":
        assert len(asked) == 1
        return
    assert len(asked) == 4
    assert len(quick) == len(said) == 3
    size = files[0].size
    if kind == "short":  # half, a quarter and an eighth came: it goes on from there
        rest, starts = size, []
        for _ in range(4):
            starts.append(f"bytes={size - rest}-{size - 1}")
            rest -= rest // 2
        assert [one["range"] for one in asked] == starts


def test_every_kind_of_request_is_tried_again(crawl, tmp_path, quick):
    crawl.fail(".", "status", times=8, code=503)
    assert len(listed(share(share=1), tmp_path)[1]) == 4
    assert len(quick) == 8


def test_retry_after_is_obeyed(crawl, tmp_path, quick):
    crawl.fail("GET .*paths", "status", code=429, retry_after=7)
    listed(share(share=1), tmp_path)
    assert quick == [7]


def test_waits_grow_with_jitter_and_have_an_end(crawl, tmp_path, quick):
    crawl.fail(path_of("00000"), "status", times=1000, code=503)
    with pytest.raises(RunError, match=r"gave up on http.*00000.*HTTP 503") as error:
        listed(share(share=1), tmp_path, retry_seconds=100)
    assert "retry_seconds: 100" in error.value.hint
    assert sum(quick) <= 100
    assert all(0.5 * 2**n <= wait <= 2**n for n, wait in enumerate(quick[:5]))


def test_a_retry_after_beyond_the_budget_is_not_waited_for(crawl, tmp_path, quick):
    crawl.fail(".", "status", times=9, code=503, retry_after=5000)
    with pytest.raises(RunError, match="gave up"):
        listed(share(share=1), tmp_path)
    assert quick == []


def test_a_download_goes_on_where_it_stopped(crawl, tmp_path, quick):
    crawl.fail(f"GET /{path_of('00000')}", "short", times=1)
    with pytest.raises(RunError):
        listed(share(share=1), tmp_path, retry_seconds=0)
    part = next((tmp_path / "store").rglob("CC-MAIN-00000*.part"))
    reached, size = part.stat().st_size, (crawl.folder / path_of("00000")).stat().st_size
    assert reached == size // 2
    crawl.fail("nothing", "short")
    _, files = listed(share(share=1), tmp_path)
    assert [one["range"] for one in crawl.asked(f"GET /{path_of('00000')}")] == [
        f"bytes={reached}-{size - 1}"
    ]
    assert Path(files[0].path).read_bytes() == (crawl.folder / path_of("00000")).read_bytes()
    assert not list((tmp_path / "store").rglob("*.part"))


def test_a_file_that_changes_at_its_source_is_not_put_together(crawl, tmp_path):
    there = crawl.folder / path_of("00000")
    remote = look(f"{crawl.address}/{path_of('00000')}", Patience(0, print))
    there.write_bytes(b"other" + there.read_bytes())
    with pytest.raises(DataError, match="changed at its source"):
        download(tmp_path / "a", remote, Patience(0, print))


def test_what_changed_at_its_source_is_listed_anew_by_the_same_command(crawl, tmp_path):
    config, store = Input(path=share(share=1)), str(tmp_path / "store")
    inputs.list_files(config, tmp_path, store, 0, print)
    there = crawl.folder / path_of("00000")
    there.write_bytes(b"other" + there.read_bytes())
    with pytest.raises(DataError, match="changed at its source") as error:
        listed(share(share=1), tmp_path)
    assert error.value.hint == "the same command lists it anew"
    _, files = listed(share(share=1), tmp_path)
    assert Path(files[0].path).read_bytes() == there.read_bytes()


def test_a_wrong_checksum_is_no_file(crawl, tmp_path):
    remote = look(f"{crawl.address}/{path_of('00003')}", Patience(0, print))
    wrong = Remote(remote.address, remote.size, remote.etag, sha256="0" * 64)
    with pytest.raises(DataError, match="another checksum"):
        download(tmp_path / "a", wrong, Patience(0, print))
    assert list(tmp_path.glob("a*")) == []


def test_what_does_not_fit_is_refused_before_its_first_byte(crawl, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("curate.io.download.shutil.disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(GuardError, match="are to be downloaded"):
        listed(share(share=1), tmp_path)
    assert not crawl.asked("GET .*segments")


def test_two_that_want_one_file_load_it_once(crawl, tmp_path):
    remote = look(f"{crawl.address}/{path_of('00001')}", Patience(0, print))
    jobs = [0, 1, 2]
    list(in_threads(jobs, lambda _: download(tmp_path / "a", remote, Patience(0, print))))
    assert len(crawl.asked("GET .*segments")) == 1
    assert [p.name for p in tmp_path.glob("a*")] == ["a"]


# The pages of a domain


def surt(url):
    parts = urlsplit(url)
    host = ",".join(reversed((parts.hostname or "").removeprefix("www.").split(".")))
    return f"{host}{f':{parts.port}' if parts.port else ''}){parts.path or '/'}"


@pytest.fixture
def index(crawl):
    """An index of all pages of the WARC files among pages of 6,000 other hosts; gives the pages' (url, bytes)."""
    lines, pages = [], []
    for number in FILES:
        raw = (crawl.folder / path_of(number)).read_bytes()
        records = [
            (r.stream_pos, r.record_type, r.headers.get("WARC-Target-URI", "").strip("<>"), r.http_headers)
            for r in ArchiveIterator(io.BytesIO(raw))
        ]
        for (at, kind, url, http), after in zip(
            records, [*(r[0] for r in records[1:]), len(raw)], strict=True
        ):
            if kind == WarcRecordType.response and url.startswith("http"):
                about = {"url": url, "status": str(http.status_code), "offset": str(at), "length": str(after - at), "filename": path_of(number)}  # fmt: skip
                lines.append(f"{surt(url)} 20240301120000 {json.dumps(about)}")
                pages.append((url, raw[at:after], http.status_code))
    for n in range(6000):
        about = {"url": f"http://host{n}.com", "status": "200", "offset": "0", "length": "9", "filename": "crawl-data/x/warc/other"}  # fmt: skip
        lines.append(f"com,host{n})/ 20240301120000 {json.dumps(about)}")
    robots = {**about, "filename": "crawl-data/x/robotstxt/other"}
    lines += [f"org,semanticscholar)/robots.txt 20240301120000 {json.dumps(robots)}"]
    lines.sort(key=str.encode)
    cluster, at, data, file = [], 0, bytearray(), 0
    folder = crawl.folder / f"cc-index/collections/{CRAWL}/indexes"
    for start in range(0, len(lines), 5):
        if len(data) > 200_000:
            put(folder / f"cdx-{file:05}.gz", bytes(data))
            file, at, data = file + 1, 0, bytearray()
        block = gzip.compress("".join(f"{line}\n" for line in lines[start : start + 5]).encode())
        key = " ".join(lines[start].split(" ")[:2])
        cluster.append(f"{key}\tcdx-{file:05}.gz\t{at}\t{len(block)}\t{start // 5 + 1}")
        at += len(block)
        data += block
    put(folder / f"cdx-{file:05}.gz", bytes(data))
    put(folder / "cluster.idx", "".join(f"{line}\n" for line in cluster).encode())
    return pages


def on(url, domain):
    host = urlsplit(url).hostname or ""
    return host.removeprefix("www.") == domain or host.endswith(f".{domain}")


def hosts(pages):
    return sorted({(urlsplit(url).hostname or "").removeprefix("www.") for url, _, _ in pages})


def test_the_pages_of_a_domain_are_those_of_all_pages(crawl, index, tmp_path, read_all):
    for number, domain in enumerate(["semanticscholar.org", *hosts(index)[::7]]):
        wanted = sorted(raw for url, raw, status in index if on(url, domain) and status == 200)
        if not wanted or domain.count(".") == 3:
            continue
        _, files = listed(share(domain=domain), tmp_path / str(number))
        got = b"".join(Path(f.path).read_bytes() for f in files)
        assert sorted(got) == sorted(b"".join(wanted))
        assert all(on(row["url"], domain) for f in files for row in read_all(Path(f.path)).rows)
    assert number


def test_only_their_bytes_are_read(crawl, index, tmp_path):
    crawl.fail("nothing", "short")
    _, files = listed(share(domain=f"www.{MANY}"), tmp_path)
    asked = crawl.asked("GET .*segments")
    pages = [(url, raw) for url, raw, status in index if on(url, MANY) and status == 200]
    assert len(asked) == len(pages) > 3
    assert sum(f.size for f in files) == sum(len(raw) for _, raw in pages)
    assert all(f.name.startswith(f"domain/{MANY}/crawl-data/{CRAWL}/") for f in files)
    assert len(crawl.asked("GET .*cluster.idx")) < 12  # three searches
    assert len(crawl.asked("GET .*cdx-")) < 10


def test_the_pages_of_a_domain_go_on_where_they_stopped(crawl, index, tmp_path, quick):
    whole = listed(share(domain=MANY), tmp_path / "whole")[1]
    crawl.fail("GET .*segments", "short", times=5)
    broken = listed(share(domain=MANY), tmp_path / "broken")[1]
    assert [Path(f.path).read_bytes() for f in broken] == [Path(f.path).read_bytes() for f in whole]
    assert len(quick) == 5


def test_a_domain_that_is_not_there(crawl, index, tmp_path):
    with pytest.raises(DataError, match="no page of `host9"):
        listed(share(domain="host9.co.uk"), tmp_path)
    with pytest.raises(ConfigError, match="no domain"):
        listed(share(domain="com"), tmp_path)


# Whole runs


def recipe(tmp_path, address, **more):
    file = tmp_path / "r.yaml"
    file.write_text(json.dumps({
        "input": {"path": address, **more}, "stages": [{"extract": {}}], "allow_quarantined": 1000,
        "output": {"path": str(tmp_path / "out")},
    }))  # fmt: skip
    return file


def kept(tmp_path):
    return [row for f in sorted((tmp_path / "out").glob("part-*")) for row in pq.read_table(f).to_pylist()]


@pytest.mark.slow
def test_a_run_gives_what_local_files_give_and_a_resume_asks_nobody(crawl, tmp_path):
    file = recipe(tmp_path, share(share=1))
    done = subprocess.run([CONSOLE, "run", str(file), "--json"], capture_output=True)
    assert done.returncode == 0, done.stderr
    plan = json.loads((tmp_path / "out/_curate/plan.json").read_text())
    assert all(f["size"] and len(f["etag"]) == 64 for f in plan["files"])
    ours = kept(tmp_path)
    crawl.fail("nothing", "short")
    done = subprocess.run([CONSOLE, "run", str(file), "--json"], capture_output=True)
    assert (done.returncode, crawl.asked()) == (0, [])
    (tmp_path / "local").mkdir()
    local = recipe(tmp_path / "local", f"{crawl.folder}/crawl-data/{CRAWL}/segments/*/warc/*")
    assert subprocess.run([CONSOLE, "run", str(local)], capture_output=True).returncode == 0
    local = kept(tmp_path / "local")
    assert [{**r, "source": ""} for r in ours] == [{**r, "source": ""} for r in local]
    assert len(ours) > 20


@pytest.mark.slow
def test_allowed_missing_files_are_counted_and_named(crawl, tmp_path):
    (tmp_path / "mine.txt").write_text(f"{path_of('00003')}\n{path_of('00009')}\n")
    file = recipe(tmp_path, share(paths=tmp_path / "mine.txt"), allow_missing=1)
    done = json.loads(subprocess.run([CONSOLE, "run", str(file), "--json"], capture_output=True).stdout)
    assert (done["exit"], done["rows"]["skipped"]["missing_file"], done["missing"]) == (
        0,
        1,
        [path_of("00009")],
    )


@pytest.mark.slow
def test_a_run_killed_while_it_downloads_goes_on(crawl, tmp_path):
    big = crawl.folder / path_of("00000")
    crawl.fail(f"GET /{path_of('00000')}", "short", times=40)
    file = recipe(tmp_path, share(share=1))
    running = subprocess.Popen([CONSOLE, "run", str(file)], stderr=subprocess.DEVNULL)
    while not any(p.stat().st_size for p in (tmp_path / ".curate").rglob("CC-MAIN-00000*.part")):
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    crawl.fail("nothing", "short")
    done = subprocess.run([CONSOLE, "run", str(file), "--json"], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert downloads(str(tmp_path / ".curate")).is_dir()
    ranges = [one["range"] for one in crawl.asked(f"GET /{path_of('00000')}")]
    assert ranges
    assert ranges[0] != f"bytes=0-{big.stat().st_size - 1}"


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_download_beyond_max_disk_is_refused_before_its_first_byte(crawl, tmp_path, command):
    file = recipe(tmp_path, share(share=1))
    told = subprocess.run([CONSOLE, command, str(file), "--max-disk", "1KB"], capture_output=True, text=True)
    assert told.returncode == 1
    assert "MB are to be downloaded where --max-disk allows 0.001" in told.stderr
    assert crawl.asked("HEAD .*segments")
    assert not crawl.asked("GET .*segments")
    assert not (tmp_path / "out").exists()


def test_check_reads_ranges_and_says_what_would_come(crawl, tmp_path, monkeypatch):
    monkeypatch.setattr(excerpt, "REMOTE_PIECES", 6)
    monkeypatch.setattr(excerpt, "REMOTE_PIECE_BYTES", 8 << 10)
    loaded = load(recipe(tmp_path, share(share=1)))
    said = check(loaded, (), lambda kind, data: None, False, workers=1, max_download=1e9).forecast
    size = sum((crawl.folder / path_of(number)).stat().st_size for number in FILES)
    assert said.download_bytes == size
    assert said.disk_bytes.low >= size
    assert said.rows_in.high > 50
    assert "stand for the rest" in said.notes[0]
    asked = crawl.asked("GET .*segments")
    assert asked
    assert all(one["range"] for one in asked)
    assert not list(downloads(str(tmp_path / ".curate")).rglob("*.warc.gz"))
    with pytest.raises(GuardError, match="does not fit"):
        Limits(disk=size + 1.0).refuse(said)
