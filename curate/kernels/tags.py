"""Tags and attributes of HTML as bytes, and words of a page that say what it is made of: one bit for each line of words."""

import numpy as np
import numpy.typing as npt
from numba import njit

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Masks = npt.NDArray[np.uint64]

TAGS = (
    "html body div section p li ul ol dl dd dt h1 h2 h3 h4 h5 h6 table tbody thead tr td th pre blockquote article main "
    "nav footer header aside form figure figcaption address details summary fieldset center hr button select option "
    "label a code time span b strong i em script style textarea title iframe svg noscript template head br img input "
    "meta link source wbr area base col embed param track object video audio canvas math menu dialog picture tfoot "
    "caption legend optgroup"
).split()
TAG = {name: i for i, name in enumerate(TAGS)}


def _key(name: str) -> int:
    key = 0
    for byte in name.encode()[:8]:
        key = key * 256 + byte
    return key


_KEYS = np.array([_key(name) for name in TAGS], np.uint64)
_ORDER = np.argsort(_KEYS)
_SORTED = _KEYS[_ORDER]


def flagged(names: str) -> npt.NDArray[np.bool_]:
    """Whether a tag is one of those; the last place is for a tag that we do not know."""
    flags = np.zeros(len(TAGS) + 1, np.bool_)
    flags[[TAG[name] for name in names.split()]] = True
    return flags


WORDS = [  # in class, id, role: one bit for each line
    "nav menu breadcrumb tabs pager pagination toc toolbar",
    "foot copyright legal colophon",
    "header masthead topbar banner logo",
    "sidebar widget aside rail secondary complementary",
    "related recommend more- popular trending similar also- next- prev- latest",
    "comment respond reply disqus discuss",
    "share social follow newsletter subscribe signup facebook twitter",
    "modal popup cookie consent overlay gdpr dialog toast",
    "promo cta advert sponsor ad- ads banner campaign outbrain taboola",
    "author byline meta tag date time category categories bio avatar",
    "content article entry body story text prose markdown description",
    "post message thread topic answer question",
    "main primary",
    "product price cart buy sku spec review rating stock",
    "card item tile grid teaser preview thumb list",
    "title headline heading subtitle lead intro summary",
    "caption figure image gallery slide carousel media video",
    "login search form filter sort account input button btn",
    "hidden sr-only visually screen-reader skip noprint collapse accordion",
    "code highlight syntax table faq hero feature testimonial",
]
CUES = [  # in the words of a block
    ["comment", "repl", "disqus", "respond", "kommentar", "comentário", "comentario"],
    ["cookie", "consent", "privacy", "personal data", "gdpr", "datenschutz"],
    ["subscribe", "newsletter", "sign up", "inbox", "mailing list"],
    ["copyright", "all rights reserved", "terms of", "may not be"],
    [
        "read more",
        "see more",
        "see also",
        "also read",
        "related",
        "recommend",
        "more from",
        "more on",
        "read:",
    ],
    ["author", "written by", "reporter", "correspondent", "editor", "freelance", "contact", "follow"],
    ["getty", "photo", "image", "credit", "reuters", "courtesy", "picture", "file/"],
    ["headquartered", "leading", "founded", "provider of", "about us", "company", "solutions"],
    ["click here", "clique", "download", "watch", "listen", "javascript", "browser", "tap here"],
    [" ago", "posted", "published", "updated", "min read", "modified", "am ", "pm "],
    ["http", "www.", ".com", "@"],
    ["share", "facebook", "whatsapp", "pinterest", "tweet", "twitter", "instagram"],
    ["advert", "sponsor", "promo", "donat", "support us", "member", "discount", "% off"],
    ["log in", "login", "register", "password", "account", "required fields", "e-mail", "email"],
]

HINTS = [  # anywhere in the page, one bit each: what kind of page it says it is
    '"newsarticle"', '"blogposting"', '"article"', "discussionforumposting", '"product"', '="article"', '="product',
    '"itemlist"', "qapage", '"collectionpage"', '"faqpage"', "forum", "dtocart", "-to-cart",
]  # fmt: skip


def _plain(byte: int) -> int:
    """Small letter of a capital, `-` of `_`."""
    return byte | 32 if 65 <= byte <= 90 else 45 if byte == 95 else byte


_lower = njit(cache=True)(_plain)


def _table(lines: list[list[str]]) -> tuple[Bytes, Longs, Longs, Longs, Masks]:
    """Words one after the other, where they end, their bits, how many begin with a byte below each byte, and, for the
    first, second and third byte of a place, which words (modulo 64) may stand there, uint64 (3, 256).
    """
    words = sorted((word.encode(), bit) for bit, line in enumerate(lines) for word in line)
    before = [sum(word[0] < first for word, _ in words) for first in range(257)]
    ends = np.cumsum([len(word) for word, _ in words])
    may = np.zeros((3, 256), np.uint64)
    for i, (word, _) in enumerate(words):
        for j in range(3):
            fits = [len(word) <= j or _plain(byte) == word[j] for byte in range(256)]
            may[j, fits] |= np.uint64(1 << i % 64)
    return (
        np.frombuffer(b"".join(word for word, _ in words), np.uint8),
        ends.astype(np.int64),
        np.array([bit for _, bit in words], np.int64),
        np.array(before, np.int64),
        may,
    )


_CLASS_LETTERS, _CLASS_ENDS, _CLASS_BITS, _CLASS_FIRST, _CLASS_MAY = _table([line.split() for line in WORDS])
_CUE_LETTERS, _CUE_ENDS, _CUE_BITS, _CUE_FIRST, _CUE_MAY = _table(CUES)
_HINT_LETTERS, _HINT_ENDS, _HINT_BITS, _HINT_FIRST, _HINT_MAY = _table([[hint] for hint in HINTS])


@njit(cache=True)
def tag_at(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """Tag number of the name that starts at `at` (len(TAGS) when unknown), and where the name ends."""
    key = np.uint64(0)
    n = 0
    while at < end:
        c = data[at]
        if 65 <= c <= 90:
            c += 32
        if not (97 <= c <= 122 or 48 <= c <= 57 or c == 45 or c == 58):
            break
        if n < 8:
            key = key * np.uint64(256) + np.uint64(c)
        n += 1
        at += 1
    place = np.searchsorted(_SORTED, key)
    if place < len(_SORTED) and _SORTED[place] == key:
        return _ORDER[place], at
    return len(_SORTED), at


@njit(cache=True)
def _find_words(
    data: Bytes, start: int, end: int, letters: Bytes, ends: Longs, bit_of: Longs, first: Longs, may: Masks
) -> int:
    """Bits of the words that begin anywhere in a span."""
    bits = 0
    for at in range(start, end):
        if at + 2 < end and not may[0, data[at]] & may[1, data[at + 1]] & may[2, data[at + 2]]:
            continue
        c = _lower(data[at])
        for word in range(first[c], first[c + 1]):
            if bits >> bit_of[word] & 1:
                continue
            begin = ends[word - 1] if word else 0
            size = ends[word] - begin
            if at + size > end:
                continue
            k = 1
            while k < size and _lower(data[at + k]) == letters[begin + k]:
                k += 1
            if k == size:
                bits |= 1 << bit_of[word]
    return bits


@njit(cache=True)
def _class_bits(data: Bytes, start: int, end: int) -> int:
    bits: int = _find_words(
        data, start, end, _CLASS_LETTERS, _CLASS_ENDS, _CLASS_BITS, _CLASS_FIRST, _CLASS_MAY
    )
    return bits


@njit(cache=True)
def cue_bits(text: Bytes, start: int, end: int) -> int:
    """Bits of CUES in a span of text."""
    bits: int = _find_words(text, start, end, _CUE_LETTERS, _CUE_ENDS, _CUE_BITS, _CUE_FIRST, _CUE_MAY)
    return bits


@njit(cache=True)
def hint_bits(data: Bytes) -> int:
    """Bits of HINTS in a page."""
    bits: int = _find_words(data, 0, len(data), _HINT_LETTERS, _HINT_ENDS, _HINT_BITS, _HINT_FIRST, _HINT_MAY)
    return bits


@njit(cache=True)
def _is(data: Bytes, at: int, end: int, word: Bytes) -> bool:
    if end - at != len(word):
        return False
    k = 0
    while k < len(word) and data[at + k] | 32 == word[k]:
        k += 1
    return k == len(word)


@njit(cache=True)
def is_at(data: Bytes, at: int, word: Bytes) -> bool:
    k = 0
    while k < len(word) and data[at + k] == word[k]:
        k += 1
    return k == len(word)


_CLASS, _ID, _ROLE, _HREF, _STYLE, _HIDDEN, _ARIA = (
    np.frombuffer(name, np.uint8)
    for name in (b"class", b"id", b"role", b"href", b"style", b"hidden", b"aria-hidden")
)
_NONE = np.frombuffer(b"display:none", np.uint8)


@njit(cache=True)
def read_attributes(data: Bytes, at: int, end: int) -> tuple[int, int, int, bool, bool]:
    """(end of the tag, bits of class, id and role, hash of the class, has href, is hidden)."""
    bits, digest, href, hidden = 0, 0, False, False
    while at < end and data[at] != 62:
        c = data[at]
        if c <= 32 or c == 47:
            at += 1
            continue
        start = at
        while at < end and data[at] > 32 and data[at] != 61 and data[at] != 62 and data[at] != 47:
            at += 1
        stop = at
        if at == start:
            at += 1
            continue
        while at < end and data[at] <= 32:
            at += 1
        low = high = at
        if at < end and data[at] == 61:
            at += 1
            while at < end and data[at] <= 32:
                at += 1
            if at < end and (data[at] == 34 or data[at] == 39):
                quote = data[at]
                low = at + 1
                at = low
                while at < end and data[at] != quote:
                    at += 1
                high = at
                at += 1
            else:
                low = at
                while at < end and data[at] > 32 and data[at] != 62:
                    at += 1
                high = at
        if _is(data, start, stop, _CLASS):
            bits |= _class_bits(data, low, min(high, low + 200))
            for k in range(low, high):
                digest = (digest * 31 + data[k]) & 0xFFFFFF
        elif _is(data, start, stop, _ID) or _is(data, start, stop, _ROLE):
            bits |= _class_bits(data, low, min(high, low + 100))
        elif _is(data, start, stop, _HREF):
            href = True
        elif _is(data, start, stop, _HIDDEN):
            hidden = True
        elif _is(data, start, stop, _ARIA):
            hidden = hidden or high - low == 4
        elif _is(data, start, stop, _STYLE):
            k = 0
            for j in range(low, high):
                if data[j] == 32:
                    continue
                k = k + 1 if data[j] | 32 == _NONE[k] or data[j] == _NONE[k] else 0
                if k == len(_NONE):
                    hidden = True
                    break
    return min(at + 1, end), bits, digest, href, hidden
