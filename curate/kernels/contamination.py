"""Which evaluation items stand in a document, from the n-grams of it that `ngrams` found, and whether with an answer."""

from typing import Any, NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from curate.kernels.ngrams import GRAM, NUM_WORDS, WORD, Index, Words, characters, split_words
from curate.kernels.strings import frozen

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

ROW, SEQUENCE, FIRST, LAST = range(4)  # columns of finds; the hits between which the sequence stands


def judge(
    hits: npt.NDArray[np.int64], places: npt.NDArray[np.int64], index: Index, ngram: int, threshold: float,
    *, coverage: bool,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:  # fmt: skip
    """(finds int64 (f, 4), their scores): sequences whose score in a row is above the threshold, by row.

    A sequence is found as often as it stands there (with `coverage` once): its answer may be near any of them.
    The score is the sum of the weights of the sequence's n-grams that stand together in the row (within twice its
    length), as a share of all; with `coverage` the share of its words that n-grams anywhere in the row cover.
    """
    seen = np.zeros(len(index.keys), np.int64)
    marks, counts = np.zeros(len(index.keys), np.int64), np.zeros(len(index.keys), np.int32)
    of_row, sums = np.zeros(len(index.lengths), np.int64), np.zeros(len(index.lengths))
    return _judge(  # type: ignore[no-any-return]
        hits, places, *index[4:], ngram, threshold, coverage, seen, marks, counts, of_row, sums
    )


@nb.njit(nogil=True, cache=True)
def _judge(
    hits: Longs, places: Longs, starts: Longs, postings: Ints, gram_places: Longs, grams: Ints, lengths: Ints,
    weights: Floats, totals: Floats, ngram: int, threshold: float, coverage: bool,
    seen: Longs, marks: Longs, counts: Ints, of_row: Longs, sums: Floats,
) -> tuple[Longs, Floats]:  # fmt: skip
    finds, scores, f, mark = np.empty((64, 4), np.int64), np.empty(64, np.float64), 0, 0
    touched, mine = np.empty(64, np.int64), np.empty(len(hits), np.int64)
    for row in range(len(places) - 1):
        touched, num = _summed(
            hits[places[row] : places[row + 1], GRAM],
            row + 1,
            starts,
            postings,
            weights,
            seen,
            of_row,
            sums,
            touched,
        )
        for s in touched[:num]:
            here = grams[gram_places[s] : gram_places[s + 1]]
            if coverage:
                score = _covered(here, seen, row + 1, weights, min(ngram, lengths[s])) / lengths[s]
            else:
                score = sums[s] / totals[s] if totals[s] > 0 else 0.0
            span = 2 * max(lengths[s], ngram)
            enough = np.inf if coverage else threshold * totals[s]
            at = places[row] if score > threshold else places[row + 1]
            while at < places[row + 1]:
                mark += 1
                best, first, last = _closest(
                    here, hits, at, places[row + 1], weights, span, enough, marks, mark, counts, mine
                )
                score = score if coverage else best / totals[s]
                if score <= threshold:
                    break
                if f == len(finds):
                    finds = np.concatenate((finds, finds))
                    scores = np.concatenate((scores, scores))
                finds[f, ROW], finds[f, SEQUENCE], finds[f, FIRST], finds[f, LAST] = row, s, first, last
                scores[f] = score
                f += 1
                at = places[row + 1] if coverage else last + 1
    return finds[:f].copy(), scores[:f].copy()


@nb.njit(nogil=True, cache=True)
def _summed(
    found: Longs, row: int, starts: Longs, postings: Ints, weights: Floats, seen: Longs, of_row: Longs, sums: Floats,
    touched: Longs,
) -> tuple[Longs, int]:  # fmt: skip
    """Sum the weights of a row's distinct n-grams by sequence; which sequences these are, and how many."""
    num = 0
    for g in found:
        if seen[g] == row:
            continue
        seen[g] = row
        for p in range(starts[g], starts[g + 1]):
            s = postings[p]
            if of_row[s] != row:
                if num == len(touched):
                    touched = np.concatenate((touched, touched))
                of_row[s], sums[s], touched[num] = row, 0.0, s
                num += 1
            sums[s] += weights[g]
    return touched, num


@nb.njit(nogil=True, cache=True)
def _covered(grams: Ints, seen: Longs, row: int, weights: Floats, size: int) -> int:
    """Words of a sequence that lie in an n-gram seen in the row."""
    covered, end = 0, 0
    for p in range(len(grams)):
        if seen[grams[p]] == row and weights[grams[p]] > 0:
            covered += p + size - max(p, end)
            end = p + size
    return covered


@nb.njit(nogil=True, cache=True)
def _closest(
    grams: Ints, hits: Longs, begin: int, end: int, weights: Floats, span: int, enough: float,
    marks: Longs, mark: int, counts: Ints, mine: Longs,
) -> tuple[float, int, int]:  # fmt: skip
    """(weight, first hit, last hit) of the most that stands of a sequence within `span` words of a row.

    Once it is more than `enough`, what lies beyond the reach of its last hit is left for another call.
    """
    for g in grams:
        marks[g] = mark
    num, left, weight = 0, 0, 0.0
    best, best_first, best_last = 0.0, begin, begin
    for h in range(begin, end):
        g = hits[h, GRAM]
        if marks[g] != mark:
            continue
        if best > enough and hits[h, WORD] - hits[best_last, WORD] > span:
            break
        mine[num] = h
        num += 1
        if counts[g] == 0:
            weight += weights[g]
        counts[g] += 1
        while hits[h, WORD] + hits[h, NUM_WORDS] - hits[mine[left], WORD] > span:
            leaving = hits[mine[left], GRAM]
            counts[leaving] -= 1
            if counts[leaving] == 0:
                weight -= weights[leaving]
            left += 1
        if weight > best + 1e-9:
            best, best_first, best_last = weight, mine[left], h
    for g in grams:
        counts[g] = 0
    return best, best_first, best_last


class Answers(NamedTuple):
    """Answers by sequence: those of s are numbers places[s]:places[s + 1] of the rows of (hashes, offsets)."""

    hashes: Hashes
    offsets: Longs
    places: Longs
    own: Ints  # (answers,) how often the question itself holds the answer


def own_answers(questions: Words, answers: Words, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """How often each answer stands in its question, int32 (answers,)."""
    own = np.zeros(len(answers.offsets) - 1, np.int32)
    _own(questions.hashes, questions.offsets, answers.hashes, answers.offsets, places, own)
    return own


@nb.njit(nogil=True, cache=True)
def _own(questions: Hashes, offsets: Longs, answers: Hashes, cuts: Longs, places: Longs, own: Ints) -> None:
    for s in range(len(places) - 1):
        for a in range(places[s], places[s + 1]):
            own[a] = _occurrences(
                answers[cuts[a] : cuts[a + 1]], questions[offsets[s] : offsets[s + 1]], len(questions)
            )


@nb.njit(nogil=True, cache=True)
def _occurrences(needle: Hashes, words: Hashes, most: int) -> int:
    found = 0
    for i in range(len(words) - len(needle) + 1):
        k = 0
        while k < len(needle) and words[i + k] == needle[k]:
            k += 1
        if k == len(needle):
            found += 1
            if found == most:
                break
    return found


def answered(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], hits: npt.NDArray[np.int64],
    finds: npt.NDArray[np.int64], answers: Answers, ngram: int, near: int,
) -> npt.NDArray[np.bool_]:  # fmt: skip
    """Which finds have an answer within `near` words of the question, bool (f,); true for items without answers.

    An answer of fewer than 2 n words must stand there whole, and once more than in the question; of a longer one half
    of its n-grams must.
    """
    out = np.zeros(len(finds), np.bool_)
    _answered(frozen(data), frozen(offsets), *characters(), hits, finds, *answers, ngram, near, out)
    return out


@nb.njit(nogil=True, cache=True)
def _answered(
    data: Bytes, offsets: Longs, table: Bytes, values: Any, hits: Longs, finds: Longs,
    answers: Hashes, cuts: Longs, places: Longs, own: Ints, ngram: int, near: int, out: Any,
) -> None:  # fmt: skip
    longest = np.max(offsets[1:] - offsets[:-1]) // 2 + 1 if len(offsets) > 1 else 0
    hashes = np.empty(longest, np.uint64)
    begins, ends = np.empty(longest, np.int32), np.empty(longest, np.int32)
    read, num = -1, 0
    for f in range(len(finds)):
        row, s = finds[f, ROW], finds[f, SEQUENCE]
        if row != read:
            num = split_words(data[offsets[row] : offsets[row + 1]], table, values, hashes, begins, ends)
            read = row
        last = finds[f, LAST]
        begin, end = hits[finds[f, FIRST], WORD] - near, hits[last, WORD] + hits[last, NUM_WORDS] + near
        out[f] = places[s] == places[s + 1]
        for a in range(places[s], places[s + 1]):
            answer = answers[cuts[a] : cuts[a + 1]]
            place = hashes[max(0, begin - len(answer)) : min(num, end + len(answer))]
            if len(answer) < 2 * ngram:
                held = _occurrences(answer, place, own[a] + 1) > own[a]
            else:
                grams, hit = len(answer) - ngram + 1, 0
                for p in range(grams):
                    hit += _occurrences(answer[p : p + ngram], place, 1)
                held = 2 * hit >= grams
            if held:
                out[f] = True
                break
