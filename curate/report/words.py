"""Where the words of a text are: the splitting that every rule on words counts by, for the few texts that are shown."""

import numpy as np

Span = tuple[int, int]  # of characters


def word_spans(text: str) -> list[Span]:
    """First character and end of every word."""
    from curate.kernels import words  # numba is loaded only where it runs
    from curate.kernels.unicode import SPACE, kinds

    data = np.frombuffer(text.encode("utf-8", "replace"), np.uint8)
    kind = np.empty(len(data) + 1, np.uint8)
    at, chars = np.empty(len(data) + 1, np.int64), np.empty(len(data) + 1, np.int64)
    number, _ = words.split_units(data, *kinds(), kind, at, chars)
    found: list[Span] = []
    core, i = 0, 0
    while i < number:
        if kind[i] <= SPACE:
            i += 1
            continue
        end, core = words.next_word(kind, i, core)
        found.append((int(chars[i]), int(chars[end])))
        i = end
    return found
