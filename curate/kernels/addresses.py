"""E-mail and IPv4 addresses in UTF-8 text, where FineWeb's two patterns find them, in linear time.

A pattern tried at every position is quadratic in a long run such as `a.a.a.a`. Here each @ is read once to both sides,
and so is each dot between digits; what lies between two of them is read by neither twice.

mail    local part: letters, digits and !#$%&'*+-/=?^_`{|}~ in pieces with single dots between, from the leftmost edge
        between a word character and another one; domain: two or more labels of letters, digits and inner hyphens, or an
        address in brackets
IP      four numbers up to 255 with dots between, also inside a longer run of digits; read from the left, each once
"""

import numba as nb
import numpy as np
import numpy.typing as npt

from curate.kernels.lanes import looped
from curate.kernels.phrases import joins_before
from curate.kernels.strings import frozen
from curate.kernels.unicode import WORDLIKE, flags

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]

MAIL, IP = 0, 1
_AT, _DOT, _HYPHEN, _ZERO = 64, 46, 45, 48
_ALNUM, _LOCAL = 1, 2

_CLASSES = np.zeros(256, np.uint8)
for _c in range(128):
    _CLASSES[_c] = _ALNUM * chr(_c).isalnum() | _LOCAL * (
        chr(_c).isalnum() or chr(_c) in "!#$%&'*+-/=?^_`{|}~"
    )
_CLASSES = frozen(_CLASSES)


def find_addresses(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    private: npt.NDArray[np.int64],
    mails: bool,
    ips: bool,
) -> npt.NDArray[np.int64]:
    """(row, begin, end, MAIL or IP) of each address of a string column, in order within a row's kind: int64 (m, 4).

    IP addresses in the ranges of `private` (first, last; int64 (r, 2)) are passed over, as are numbers written with
    leading zeros. None is sought inside an e-mail address.
    """
    index, values = flags()
    wordlike = (values & WORDLIKE).astype(np.uint8)
    data, offsets = frozen(data), frozen(offsets)
    out = np.zeros((_most(data, offsets, mails, ips), 4), np.int64)
    num = _find(data, offsets, frozen(private), _CLASSES, index, wordlike, mails, ips, out)
    return out[:num]


@nb.njit(nogil=True, cache=True)
def _most(data: Bytes, offsets: Longs, mails: bool, ips: bool) -> int:
    ats, dots = 0, 0
    for i in range(offsets[0], offsets[-1]):  # vectorised
        ats += data[i] == _AT
        dots += data[i] == _DOT
    return ats * mails + (dots // 3) * ips


@nb.njit(nogil=True, cache=True)
def _find(
    data: Bytes, offsets: Longs, private: Longs, classes: Bytes, index: Bytes, wordlike: Bytes,
    mails: bool, ips: bool, out: Longs,
) -> int:  # fmt: skip
    num = 0
    for row in range(len(offsets) - 1):
        begin, end = offsets[row], offsets[row + 1]
        first = num
        if mails:
            num = _mails(data, begin, end, classes, index, wordlike, row, out, num)
        if ips:
            gap, last = begin, num
            for mail in range(first, last):
                num = _ips(data, gap, out[mail, 1], private, row, out, num)
                gap = out[mail, 2]
            num = _ips(data, gap, end, private, row, out, num)
    return num


@looped
def _add(out: Longs, num: int, row: int, begin: int, end: int, kind: int) -> int:
    out[num, 0], out[num, 1], out[num, 2], out[num, 3] = row, begin, end, kind
    return num + 1


@looped
def _mails(
    text: Bytes,
    begin: int,
    end: int,
    classes: Bytes,
    index: Bytes,
    wordlike: Bytes,
    row: int,
    out: Longs,
    num: int,
) -> int:
    floor, i = begin, begin
    while i < end:
        if text[i] != _AT:
            i += 1
            continue
        first = _local_begin(text, begin, floor, i, classes, index, wordlike)
        behind = _domain_end(text, i + 1, end, classes) if first >= 0 else -1
        if behind >= 0:
            num = _add(out, num, row, first, behind, MAIL)
            floor = i = behind
        else:
            i += 1
    return num


@looped
def _local_begin(
    text: Bytes, begin: int, floor: int, at: int, classes: Bytes, index: Bytes, wordlike: Bytes
) -> int:
    """Leftmost place, not before `floor`, from which a local part goes to the @; -1 where there is none."""
    found, i = -1, at - 1
    while i >= floor:
        if classes[text[i]] & _LOCAL:
            if (wordlike[text[i]] != 0) != joins_before(text, begin, i, at, index, wordlike):
                found = i
        elif text[i] != _DOT or i + 1 == at or text[i + 1] == _DOT:
            break
        i -= 1
    return found


@looped
def _domain_end(text: Bytes, i: int, end: int, classes: Bytes) -> int:
    """Where the longest domain from i on ends; -1 where there is none."""
    if i < end and text[i] == 91:
        return int(_literal_end(text, i + 1, end, classes))
    found, labels = -1, 0
    while i < end and classes[text[i]] & _ALNUM:
        last = i
        while i < end and (classes[text[i]] & _ALNUM or text[i] == _HYPHEN):
            if text[i] != _HYPHEN:
                last = i
            i += 1
        labels += 1
        if labels > 1:
            found = last + 1
        if last + 1 < i or i >= end or text[i] != _DOT:
            break
        i += 1
    return found


@looped
def _literal_end(text: Bytes, i: int, end: int, classes: Bytes) -> int:
    """The same for an address in brackets, behind the first: 1.2.3.4] or 1.2.3.tag:]."""
    for _ in range(3):
        i = _number_end(text, i, end)
        if i < 0 or i >= end or text[i] != _DOT:
            return -1
        i += 1
    number = _number_end(text, i, end)
    if number >= 0 and number < end and text[number] == 93:
        return int(number) + 1
    while i < end and (classes[text[i]] & _ALNUM or text[i] == _HYPHEN):
        i += 1
    if i + 1 < end and classes[text[i - 1]] & _ALNUM and text[i] == 58 and text[i + 1] == 93:
        return int(i) + 2
    return -1


@looped
def _is_digit(c: int) -> bool:
    return _ZERO <= c <= 57


@looped
def _number_end(text: Bytes, i: int, end: int) -> int:
    """Where the digits from i on end; -1 unless they are one to three and at most 255."""
    value, first = 0, i
    while i < end and i < first + 4 and _is_digit(text[i]):
        value = 10 * value + text[i] - _ZERO
        i += 1
    return i if first < i < first + 4 and value <= 255 else -1


@looped
def _ips(text: Bytes, begin: int, end: int, private: Longs, row: int, out: Longs, num: int) -> int:
    floor, i = begin, begin
    while i < end:
        if text[i] != _DOT:
            i += 1
            continue
        dot = i
        first = dot - 3 if dot - 3 >= floor else floor
        while first < dot and _number_end(text, first, dot + 1) != dot:
            first += 1
        i += 1
        if first == dot:
            continue
        second = _number_end(text, dot + 1, end)
        if second < 0 or second >= end or text[second] != _DOT:
            continue
        third = _number_end(text, second + 1, end)
        if third < 0 or third >= end or text[third] != _DOT:
            continue
        behind, value = third + 1, 0
        while behind < end and behind < third + 4 and _is_digit(text[behind]):
            if 10 * value + text[behind] - _ZERO > 255:
                break
            value = 10 * value + text[behind] - _ZERO
            behind += 1
        if behind == third + 1:
            continue
        if _is_public(text, first, behind, private):
            num = _add(out, num, row, first, behind, IP)
        floor = i = behind
    return num


@looped
def _is_public(text: Bytes, i: int, end: int, private: Longs) -> bool:
    address, number, digits, zero = 0, 0, 0, False
    while i < end:
        if text[i] == _DOT:
            address, number, digits, zero = address * 256 + number, 0, 0, False
        else:
            if zero and digits == 1:
                return False
            zero = digits == 0 and text[i] == _ZERO
            number, digits = 10 * number + text[i] - _ZERO, digits + 1
        i += 1
    address = address * 256 + number
    public = True
    for r in range(len(private)):
        public = public and not private[r, 0] <= address <= private[r, 1]
    return public
