"""What `curate.kernels.words` promises, in slow Python: whole chunks, regular expressions, no tables, no state."""

import re
import unicodedata
from functools import lru_cache
from itertools import accumulate

ALONE = [
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF), (0x1A20, 0x1AAF), (0x3005, 0x3007),
    (0x3021, 0x3029), (0x3041, 0x309F), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA9E0, 0xA9FF), (0xAA60, 0xAADF),
    (0xF900, 0xFAFF),
]  # fmt: skip


@lru_cache(None)
def letter_for(c: str) -> str:
    """One letter per kind: l and u letters, A alone, 1 digit, M mark, I pictograph, s any other symbol."""
    category = unicodedata.category(c)
    if 0x20000 <= ord(c) < 0x40000:
        return "A"
    if category[0] == "M" or category == "Cf":
        return "M"
    if category[0] == "L":
        if any(a <= ord(c) <= b for a, b in ALONE):
            return "A"
        return "u" if category == "Lu" else "l"
    if category[0] == "N":
        return "1"
    for group in "-~", "/", "@\\|^+", ".", "–—", ":", "<>=", ",", "'’":
        if c in group:
            return group[0]
    return "I" if c == "…" or category == "So" else "s"


PREFIX = re.compile(r"\.+|[–:<,'Is]")
SUFFIX = re.compile(r"(?:\.+|[–:<,'Is])$")
KEPT_DOT = re.compile(r"(?:^|[^lu1'])[lu]\.$")
URL = re.compile(r"[lu]+://")
CUT = re.compile(
    r"""(?<=[lu1])[-–/:<](?=[lu]) | (?<=1)-(?=1) | (?<=[lu]),(?=[lu]) | (?<=l)\.(?=u) | (?<=[lu])(?='[lu]{1,2}$)
      | \.\.+ | I | (?<=[lu])[-–]{2,}(?=[lu])""",
    re.X,
)


UNSPLIT = [
    (0x0F00, 0x0FFF), (0x1950, 0x19DF), (0x1A20, 0x1AAF), (0x1B00, 0x1B7F), (0xA000, 0xA4CF), (0xA980, 0xA9DF),
    (0x17000, 0x18DFF), (0x1B170, 0x1B2FF),
]  # fmt: skip


def writing(text: str) -> str:
    """`spaced`, `dictionary` or `unsplit`, by the majority of letters."""
    letters = [c for c in text if letter_for(c) in "luA"]
    unsplit = [c for c in letters if any(a <= ord(c) <= b for a, b in UNSPLIT)]
    dense = [c for c in letters if letter_for(c) == "A" and not 0xAA80 <= ord(c) <= 0xAADF]
    if 2 * len(unsplit) > len(letters):
        return "unsplit"
    without_spaces = [c for c in letters if c in dense or c in unsplit]
    return "dictionary" if 2 * len(without_spaces) > len(letters) else "spaced"


def words_of_any_script(text: str) -> list[str]:
    """Words of a text, by ICU's dictionaries where its script asks for it."""
    if writing(text) != "dictionary":
        return words(text)
    from icu4py.breakers import WordBreaker

    starts = set(accumulate(map(len, WordBreaker(text, "en")), initial=0))
    found = []
    for chunk in re.finditer(r"\S+", text):
        for i, c in enumerate(chunk.group()):
            if i == 0 or (chunk.start() + i in starts and letter_for(c) != "M"):
                found.append("")
            found[-1] += c
    return found


def words(text: str) -> list[str]:
    """Words of a text, split without a dictionary."""
    found: list[str] = []
    for chunk in text.split():
        units = re.findall(r"[\s\S]M*", _leading_mark(chunk))
        characters = _regroup(chunk, [len(unit) for unit in units])
        kinds = "".join(unit[0] for unit in units)
        for run in re.finditer(r"A|[^A]+", kinds):
            part = characters[run.start() : run.end()]
            if run.group() == "A":
                found.append(part[0])
            else:
                found += ["".join(part[a:b]) for a, b in _run(run.group())]
    return found


def _leading_mark(chunk: str) -> str:
    kinds = "".join(map(letter_for, chunk))
    return re.sub("^M", "@", kinds)


def _regroup(chunk: str, sizes: list[int]) -> list[str]:
    return [chunk[end - size : end] for end, size in zip(accumulate(sizes), sizes, strict=True)]


def _run(kinds: str) -> list[tuple[int, int]]:
    """Spans of the words of a run without white space and without lone letters."""
    spans, tail, a, b = [], [], 0, len(kinds)
    while a < b and (m := PREFIX.match(kinds, a, b)):
        spans.append(m.span())
        a = m.end()
    while a < b and not KEPT_DOT.search(kinds[a:b]) and (m := SUFFIX.search(kinds[a:b])):
        tail.append((a + m.start(), b))
        b = a + m.start()
    core = kinds[a:b]
    if core and URL.match(core):
        spans.append((a, b))
    elif core:
        last = 0
        for m in CUT.finditer(core):
            spans += [(a + last, a + m.start()), (a + m.start(), a + m.end())]
            last = m.end()
        spans.append((a + last, b))
    return [(x, y) for x, y in spans + tail[::-1] if x < y]
