"""Files that lie in an input folder and that no reader opens: never rows, always on record.

An unknown ending is counted as `skipped` (unknown_ending), so is a file that was asked for and is not at its source, when
the recipe allows that (missing_file). An ARC archive holds pages, so it is quarantined (arc_file)
and the run says so by its exit code.
"""

import xxhash

from curate.io.slices import FileScan, InputFile, Report, Slice
from curate.schema import row_id

FORMAT = "unread"
MISSING = "missing"
FORMATS = (FORMAT, MISSING)
HOW_TO_READ_ARC = "convert it first: warcio recompress FILE.arc.gz FILE.warc.gz"


def is_arc(name: str) -> bool:
    return name.lower().endswith((".arc", ".arc.gz"))


def scan(file: InputFile) -> FileScan:
    """A slice that says the file is there; its content decides nothing."""
    digest = xxhash.xxh3_128_hexdigest(f"{file.format}\0{file.name}".encode())
    return FileScan(digest, [Slice(file.name, file.format, 0, 0, 0, 0)], None)


def read(part: Slice, report: Report) -> None:
    """Report the file."""
    if part.format == MISSING:
        report.skip("missing_file")
        return
    if not is_arc(part.path):
        report.skip("unknown_ending")
        return
    report.quarantine(
        id=row_id(part.path, 0),
        source=part.path,
        offset=0,
        reason="arc_file",
        error=f"ARC files are not read; {HOW_TO_READ_ARC}",
        raw=b"",
    )
