"""What a person reads: errors, progress, summaries. Everything here goes to stderr; stdout is data."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from curate.errors import QUARANTINED, CurateError

if TYPE_CHECKING:
    from curate.engine.result import Result

LINE_SECONDS = 30.0


def say(text: str = "") -> None:
    print(text, file=sys.stderr)


def print_error(error: CurateError, *, as_json: bool, command: str) -> None:
    """The error in words on stderr; with --json also as an object on stdout."""
    if as_json:
        print_error_object(error, command)
    say(f"error: {printable(str(error))}")
    if error.hint:
        say(f"\nhint: {printable(error.hint)}")


def print_error_object(error: CurateError, command: str) -> None:
    """What --json has instead of a result."""
    body = {"kind": error.kind, "what": error.what, "hint": error.hint, "where": error.where}
    print_json({"schema": f"curate.{command}/1", "status": "error", "exit": error.exit_code, "error": body})


def print_json(value: Any) -> None:
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def printable(text: str) -> str:
    """Text of a document or file name without terminal control sequences."""
    return "".join(c if c.isprintable() or c in "\n\t\xa0\u3000" else f"\\x{ord(c):02x}" for c in text)


def cell(value: Any, width: int = 60) -> str:
    """A value on one line: control characters escaped, long text cut."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict | list):
        value = msgspec.json.encode(value, enc_hook=str).decode()
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    text = printable(text).replace("\n", "\\n").replace("\t", "\\t")
    return text if len(text) <= width else f"{text[: width - 3]}..."


def human_bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def human_seconds(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def table(rows: Sequence[tuple[str, ...]], right: tuple[int, ...] = ()) -> list[str]:
    """Lines of aligned columns; `right` names the columns that are numbers."""
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def wrapped(items: Sequence[str], width: int = 100) -> list[str]:
    """Lines of items, two spaces between them."""
    lines = [""]
    for item in items:
        if lines[-1] and len(lines[-1]) + len(item) > width:
            lines.append("")
        lines[-1] += f"  {item}" if lines[-1] else item
    return [line for line in lines if line]


def print_summary(result: "Result") -> None:
    """Rows in, kept and dropped by stage and reason, tokens, speed, where the output is, what to do next."""
    rows = result.rows
    lines: list[tuple[str, ...]] = [("rows in", f"{rows.in_:,}", "")]
    if rows.made:
        lines.append(("made", f"{rows.made:,}", ""))
    for stage, reasons in rows.dropped.items():
        lines.append(
            (f"dropped by {stage}", f"{sum(reasons.values()):,}", share(sum(reasons.values()), rows.in_))
        )
        top = sorted(reasons.items(), key=lambda item: -item[1])
        lines += [
            (f"    {in_words(reason)}", f"{count:,}", share(count, rows.in_)) for reason, count in top[:12]
        ]
        if len(top) > 12:
            lines.append((f"    {len(top) - 12} more reasons", f"{sum(c for _, c in top[12:]):,}", ""))
    if rows.quarantined:
        lines.append(("quarantined", f"{rows.quarantined:,}", share(rows.quarantined, rows.in_)))
        lines += [(f"    {reason}", f"{count:,}", "") for reason, count in sorted(result.quarantined.items())]
    lines.append(("kept", f"{rows.kept:,}", share(rows.kept, rows.in_)))
    say()
    for line in table(lines, right=(1, 2)):
        say(line)
    documents = 0
    for one in result.passes:  # what a phase says of itself
        if counts := one.get("counts"):
            said = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())
            documents = counts.get("documents", documents)
            if documents and "compared" in counts:
                said += f"; candidates per document: {counts['compared'] / documents:.2f}"
            say(f"{one['phase'].rpartition(' ')[0]}: {said}")
    if rows.skipped:
        say(f"skipped records: {', '.join(f'{v:,} {k}' for k, v in sorted(rows.skipped.items()))}")
    tokens = f", {result.tokens:,} tokens" if result.tokens else ""
    say(f"\ntext kept  {human_bytes(result.text_bytes)}{tokens}")
    if result.fresh_units:
        speed = f", {result.fresh_bytes / result.seconds / 1e6:.1f} MB/s read" if result.fresh_bytes else ""
        say(f"time       {human_seconds(result.seconds)}{speed}")
    else:
        say("nothing was left to do: the dataset was complete")
    if result.output != "-":
        say(f"output     {result.output}")
    if result.exit == QUARANTINED:
        say(
            f"exit 4     {rows.quarantined:,} rows are quarantined, more than --allow-quarantined; see them with"
        )
        say(f'           curate sql {result.output} "select source, reason, error from quarantine"')
    elif result.next:
        say(f"next       {result.next}")


def in_canaries(counts: Mapping[str, int]) -> str:
    """What became of planted rows: none of them was ever in the run itself."""
    found = "all" if counts["found"] == counts["came"] else f"{counts['found']:,}"
    return (
        f"canaries: {counts['planted']:,} planted in a small run before this one; {counts['came']:,} came to the stage "
        f"that must find them, {found} were found"
    )


def in_words(reason: str) -> str:
    """A rule's reason is a word; the text of a condition is what the row is not."""
    return reason if reason.isidentifier() else f"not {printable(reason)[:60]}"


def share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""


class Progress:
    """Listens to a run: bars on a terminal, one plain line every 30 s otherwise, nothing when quiet."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.rows = self.bytes = self.kept = self.seen = self.units = self.units_done = 0
        self.label = ""
        self._started = self._told = time.monotonic()
        self._bar: Any = None
        if not quiet and sys.stderr.isatty():
            self._bar = _bar()

    def __call__(self, kind: str, data: Mapping[str, Any]) -> None:
        """An event of the engine."""
        if kind == "warning":
            say(f"warning: {data['message']}")
        elif kind == "resume" and not self.quiet:
            say("resuming: work that was committed is not done again")
        elif kind == "compiling" and not self.quiet:
            say("compiling kernels: once for each version of curate, about 20 s")
        elif kind == "reuse" and not self.quiet:
            say(f"pass {data['pass'] + 1} of {data['of']}: found in the work store")
        elif kind == "download" and not self.quiet:
            if not data["done"] or time.monotonic() - self._told > LINE_SECONDS:
                self._told = time.monotonic()
                sizes = f"{human_bytes(data['done_bytes'])} of {human_bytes(data['bytes'])}"
                say(f"downloading: {data['done']:,} of {data['files']:,} files, {sizes}")
        elif kind == "canaries" and not self.quiet:
            say(in_canaries(data))
        elif kind == "index" and not self.quiet:
            say(f"index {data['index']}: {data['added']:,} documents added")
        elif kind == "plan" and not self.quiet:
            say(f"planning: {data['files']:,} files, {human_bytes(data['bytes'])}")
        elif kind == "pass":
            self.label, self.units = f"pass {data['pass'] + 1} of {data['of']}", data["units"]
            self.units_done = self.rows = self.bytes = self.kept = self.seen = 0
            self._started = time.monotonic()
        elif kind == "progress":
            self.rows, self.bytes = self.rows + data["rows"], self.bytes + data["bytes"]
        elif kind == "unit":
            entry = data["entry"]
            self.units_done += int(entry.last)
            self.kept, self.seen = self.kept + entry.ledger.kept, self.seen + entry.ledger.rows_in
        self._tell()

    def _line(self) -> str:
        took = max(time.monotonic() - self._started, 1e-9)
        done = max(self.rows, self.seen)
        left = took / self.units_done * (self.units - self.units_done) if self.units_done else 0
        removed = f", {1 - self.kept / self.seen:.1%} removed" if self.seen else ""
        eta = f", {human_seconds(left)} left" if left else ""
        return f"{self.label}: {self.units_done}/{self.units} units, {done:,} rows, {done / took:,.0f} rows/s{removed}{eta}"

    def _tell(self) -> None:
        if self.quiet or not self.units:
            return
        if self._bar is not None:
            self._bar.update(0, description=self._line(), completed=self.units_done, total=self.units)
        elif time.monotonic() - self._told > LINE_SECONDS:
            self._told = time.monotonic()
            say(self._line())

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as RichProgress

    bar = RichProgress(
        BarColumn(20),
        TextColumn("{task.description}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )
    bar.add_task("", total=None)
    bar.start()
    return bar
