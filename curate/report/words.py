"""Where the words of a text are: the splitting that a stage counts by, for the few texts that are shown."""

import numpy as np
import pyarrow as pa

from curate.schema import text_buffers
from curate.stages._words import Options, find_words

Span = tuple[int, int]  # of characters


def word_spans(text: str, config: Options) -> list[Span]:
    """First character and end of every word, as a stage with this Config has them; none where it refuses the text."""
    from curate.kernels.words import all_words, none_given  # numba is loaded only where it runs

    texts = pa.array([text], pa.large_string())
    found = find_words(texts, config)
    if found.refused[0]:
        return []
    data, offsets = text_buffers(texts)
    begins, ends = np.empty((2, len(data)), np.int64)
    number = all_words(data, offsets, found.given or none_given(1), begins, ends, np.empty(1, np.int64))
    before = np.concatenate([[0], np.cumsum(data & 0xC0 != 0x80)])  # characters before each byte
    return list(zip(before[begins[:number]].tolist(), before[ends[:number]].tolist(), strict=True))
