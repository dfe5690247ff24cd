"""Documents into sequences of one length, in one of three ways; what a sequence holds and what it teaches.

A document is laid out as start token (BOS, or EOS of a tokenizer without) + prefix + text + EOS. Out of the loss are
the start token and the prefix (MeCo, arXiv:2501.01956), padding, and a token that the sequence before has taught.
chunk     documents one after the other, cut every `context` tokens: sequence k holds tokens k * context to
          (k + 1) * context of that stream, both included. Nothing is discarded; the last sequence is padded.
complete  every sequence begins with the begin of a document; what of its last document does not fit is discarded
          (MeCo's packing). A document of which no token would be taught there begins the next sequence.
best_fit  documents longer than a sequence are cut into sequences and a rest; of every `buffer` documents and rests the
          longest goes first into the fullest sequence that takes it (best-fit decreasing; Ding et al. 2024,
          arXiv:2404.10830). Nothing is discarded; room that nothing fits is padding.
Sequences of one long document would fill a step: `shuffle` of them wait, and which comes next is drawn by `seed`.
The same documents in the same order give the same sequences, and a saved `state` goes on where it was taken.
"""

import bisect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from curate.errors import ConfigError, DataError
from curate.train.tokens import Tokens, same_contract

Method = Literal["chunk", "complete", "best_fit"]


class Pick(NamedTuple):
    """A document that comes next."""

    dataset: int
    document: int
    metadata: bool = True  # False: without its prefix
    repeat: bool = False  # it was there in an earlier epoch: its tokens are not unique


class Piece(NamedTuple):
    """Tokens [begin, end) of a document as it is laid out."""

    pick: Pick
    begin: int
    end: int
    again: bool = False  # its first token is the last one of the piece before


class Packed(NamedTuple):
    """One sequence of context + 1 tokens: the first `context` go in, the last `context` are what is to come."""

    tokens: npt.NDArray[np.int64]  # (context + 1,)
    documents: npt.NDArray[np.int32]  # (context + 1,) number of the piece, from 0 on; -1 is padding
    positions: npt.NDArray[np.int64]  # (context + 1,) from 0 on in each piece; 0 in padding
    loss: npt.NDArray[np.bool_]  # (context + 1,) whether the token is to be learned from those before it


class Counts(msgspec.Struct, kw_only=True):
    """What went into the sequences that were handed out, and what never will."""

    sequences: int = 0
    tokens: int = 0  # start tokens, prefixes and EOS among them; one that two sequences hold counts once
    padding: int = 0
    loss_tokens: int = 0
    unique_tokens: int = 0  # of the loss tokens those of documents that are no repeats
    documents: int = 0  # taken from the stream
    empty: int = 0  # of them without text: left out
    cut: int = 0  # of them that more than one sequence holds, or one holds in part
    discarded: int = 0  # tokens
    by_dataset: list[int] = []  # loss tokens

    def fill_rate(self, context: int) -> float:
        """Share of the sequences' places that hold a token, 0-1."""
        places = self.sequences * (context + 1)
        return 1 - self.padding / places if places else 0.0

    def lines(self, context: int) -> str:
        """For people."""
        return (
            f"{self.sequences:,} sequences of {context:,}, {self.fill_rate(context):.2%} filled; "
            f"{self.loss_tokens:,} tokens in the loss, {self.unique_tokens:,} of them unique, "
            f"{self.discarded:,} discarded; {self.documents:,} documents, {self.cut:,} cut, {self.empty:,} empty"
        )


class Packer:
    """Takes documents from a stream as it needs them and hands out sequences, one `next` at a time."""

    def __init__(
        self, datasets: Sequence[Tokens], stream: Iterator[Pick], *, context: int, method: Method = "best_fit",
        buffer: int = 1000, shuffle: int = 1, seed: int = 0, state: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """`state` is that of a Packer of the same datasets and options; `stream` then begins where it had come to."""
        if context < 2 or buffer < 1 or shuffle < 1:
            raise ConfigError(
                f"a sequence has 2 tokens or more and a buffer 1 document, not {context} and {buffer}"
            )
        for one in datasets[1:]:
            same_contract(datasets[0].contract, one.contract, (datasets[0].folder, one.folder))
        contract = datasets[0].contract
        self._datasets, self._stream, self._room = datasets, stream, context + 1
        self._eos = contract.eos
        self._start = contract.eos if contract.bos is None else contract.bos
        self._method, self._buffer, self._shuffle, self._seed = method, buffer, shuffle, seed
        lay: dict[str, Callable[[Pick, int], None]] = {
            "chunk": self._chunk, "complete": self._complete, "best_fit": self._best_fit,
        }  # fmt: skip
        self._lay = lay[method]
        self._row: list[Piece] = []  # the open sequence ...
        self._free = self._room  # ... and the places left in it
        self._held: list[Piece] = []  # best_fit: wait for a place
        self._ready: list[list[Piece]] = []
        self._ended, self._draws = False, 0
        self.counts = Counts(by_dataset=[0] * len(datasets))
        if state is not None:
            self._restore(state)

    def __iter__(self) -> "Packer":
        return self

    def __next__(self) -> Packed:
        if not self._is_ready():
            raise StopIteration
        return self._handed_out(self._drawn())

    def skip(self) -> bool:
        """Count the next sequence and pass over it, without reading its tokens; False where there is none."""
        if not self._is_ready():
            return False
        self._count(self._drawn())
        return True

    def _is_ready(self) -> bool:
        while len(self._ready) < self._shuffle and not self._ended:
            self._take()
        return bool(self._ready)

    def _drawn(self) -> list[Piece]:
        self._draws += 1
        most = min(self._shuffle, len(self._ready))
        return self._ready.pop(xxhash.xxh3_64_intdigest(f"{self._seed} {self._draws}") % most)

    def state(self) -> dict[str, Any]:
        """What was taken from the stream and not handed out yet, with the counts; JSON as it stands."""
        return {
            "options": self._options(), "draws": self._draws,
            "row": list(self._row), "held": list(self._held), "ready": list(self._ready), "ended": self._ended,
            "counts": msgspec.to_builtins(self.counts),
        }  # fmt: skip

    def _options(self) -> list[Any]:
        return [self._method, self._room - 1, self._buffer, self._shuffle, self._seed, len(self._datasets)]

    def _restore(self, state: dict[str, Any]) -> None:
        if list(state["options"]) != self._options():
            raise DataError(
                f"the saved packing is of {state['options']}, not {self._options()}",
                hint="method, context, buffer, shuffle, seed and number of datasets stay what they were in a run that goes on",
            )
        for piece in _pieces(state["row"]):
            self._put(piece)
        self._held = _pieces(state["held"])
        self._ready = list(map(_pieces, state["ready"]))
        self._ended, self._draws = state["ended"], state["draws"]
        self.counts = msgspec.convert(state["counts"], Counts)

    def _take(self) -> None:
        pick = next(self._stream, None)
        if pick is None:
            self._ended = True
            self._flush()
            return
        self.counts.documents += 1
        text = self._texts(pick)
        if text == 0:
            self.counts.empty += 1
        else:
            self._lay(pick, 1 + self._prefix(pick) + text + 1)

    def _texts(self, pick: Pick) -> int:
        of = self._datasets[pick.dataset]
        return int(of.lengths[pick.document]) - int(of.prefix[pick.document])

    def _prefix(self, pick: Pick) -> int:
        return int(self._datasets[pick.dataset].prefix[pick.document]) if pick.metadata else 0

    def _put(self, piece: Piece) -> None:
        self._row.append(piece)
        self._free -= piece.end - piece.begin

    def _close(self) -> None:
        self._ready.append(self._row)
        self._row, self._free = [], self._room

    def _chunk(self, pick: Pick, length: int) -> None:
        begin, again = 0, False
        self.counts.cut += length > self._free
        while True:
            end = min(length, begin + self._free)
            self._put(Piece(pick, begin, end, again))
            if self._free:
                return
            self._close()
            begin, again = end - 1, True  # from it the next token is told
            if end == length:
                self._put(Piece(pick, begin, end, again))
                return

    def _complete(self, pick: Pick, length: int) -> None:
        untaught = 1 + self._prefix(pick)
        if self._row and self._free <= untaught:
            self._close()
        end = 0 if self._free <= untaught else min(length, self._free)
        self.counts.discarded += length - end
        self.counts.cut += end < length
        if end:
            self._put(Piece(pick, 0, end))
        if not self._free:
            self._close()

    def _best_fit(self, pick: Pick, length: int) -> None:
        self.counts.cut += length > self._room
        begin = 0
        while length - begin > self._room:
            self._ready.append([Piece(pick, begin, begin + self._room, begin > 0)])
            begin += self._room - 1
        self._held.append(Piece(pick, begin, length, begin > 0))
        if len(self._held) >= self._buffer:
            self._place()

    def _place(self) -> None:
        """Best-fit decreasing of what is held; sequences in the order in which their first document came."""
        held, self._held = self._held, []
        sizes = [piece.end - piece.begin for piece in held]
        bins: list[list[int]] = []
        open_: list[tuple[int, int]] = []  # (free places, bin), ascending
        for i in sorted(range(len(held)), key=lambda i: (-sizes[i], i)):
            at = bisect.bisect_left(open_, (sizes[i], 0))
            if at < len(open_):
                free, number = open_.pop(at)
                bins[number].append(i)
            else:
                free, number = self._room, len(bins)
                bins.append([i])
            if free > sizes[i]:
                bisect.insort(open_, (free - sizes[i], number))
        for chosen in sorted(map(sorted, bins)):
            self._ready.append([held[i] for i in chosen])

    def _flush(self) -> None:
        self._place()
        if any(piece.end - piece.begin > piece.again for piece in self._row):
            self._close()

    def _handed_out(self, row: list[Piece]) -> Packed:
        room = self._room
        tokens = np.full(room, self._eos, np.int64)
        documents, positions = np.full(room, -1, np.int32), np.zeros(room, np.int64)
        loss = np.zeros(room, np.bool_)
        at = 0
        for number, (pick, begin, end, _) in enumerate(row):
            to = at + end - begin
            tokens[at:to] = self._laid_out(pick, begin, end)
            documents[at:to], positions[at:to] = number, np.arange(end - begin)
            loss[at + self._untaught(pick, begin) : to] = True
            at = to
        self._count(row)
        return Packed(tokens, documents, positions, loss)

    def _untaught(self, pick: Pick, begin: int) -> int:
        """Leading places of a piece that are out of the loss: its first is told from nothing here."""
        return max(1, 1 + self._prefix(pick) - begin)

    def _count(self, row: list[Piece]) -> None:
        counts, held = self.counts, 0
        for pick, begin, end, again in row:
            taught = max(0, end - begin - self._untaught(pick, begin))
            held += end - begin
            counts.tokens += end - begin - again
            counts.loss_tokens += taught
            counts.unique_tokens += 0 if pick.repeat else taught
            counts.by_dataset[pick.dataset] += taught
        counts.sequences += 1
        counts.padding += self._room - held

    def _laid_out(self, pick: Pick, begin: int, end: int) -> npt.NDArray[np.int64]:
        of = self._datasets[pick.dataset]
        ids = of.tokens(pick.document)
        if not pick.metadata:
            ids = ids[int(of.prefix[pick.document]) :]
        laid = np.empty(end - begin, np.int64)
        body = ids[max(0, begin - 1) : end - 1]
        at = int(begin == 0)
        laid[at : at + len(body)] = body
        if begin == 0:
            laid[0] = self._start
        if end == len(ids) + 2:
            laid[-1] = self._eos
        return laid


def _pieces(saved: Any) -> list[Piece]:
    return [Piece(Pick(*pick), *rest) for pick, *rest in saved]


def allowed(documents: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """What may be attended to, (places, places): places before and at one's own, of the same document alone."""
    same = documents[:, None] == documents[None, :]
    return np.tril(same)
