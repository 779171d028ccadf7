"""The last prompts as chains of checksums: enough to say where two of them part, and nothing of what they say.

A text is cut into blocks of at most 256 characters, at the ends of lines where there are any, so that a change moves
only the blocks near it. A block is a CRC-32 and a length: 8 bytes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import OrderedDict
from typing import Final

from tokenguard.facts.tuples import NamedTuple
from tokenguard.inputs.known import Cut
from tokenguard.inputs.pieces import Piece, Request

KEPT: Final = 8
"""Chains of one key and model: several prompts, and several conversations at a time, take turns under it."""
MAX_CHAINS: Final = 4096
MAX_BLOCKS: Final = 1_000_000
"""Blocks of all chains together: 8 MB."""
MAX_LENGTH: Final = 40_000
"""Blocks of one chain; what is longer is compared up to there."""


class Place(NamedTuple):
    """A spot in a request."""

    section: str
    """`tools`, `system`, `settings` or `messages`."""
    number: int
    """Which tool, or which message."""
    offset: int
    """Characters from its beginning."""


class Chain(NamedTuple):
    """A prompt."""

    model: str
    sums: array[int]
    """The checksum of each block."""
    firsts: array[int]
    """The first block of each piece."""
    begins: array[int]
    """The characters before each piece, and in all."""
    pieces: tuple[Piece[Cut], ...]
    marked: int | None
    """The characters before the last mark for the cache; `None` without one."""
    lasting: bool
    media: bool
    """Whether it has pictures or the like, which are not compared."""
    sent_ns: int
    ended_ns: int

    @property
    def chars(self) -> int:
        """The length of the prompt."""
        return self.begins[-1]

    def upto(self, block: int) -> int:
        """The characters before a block."""
        if block == len(self.sums):
            return self.begins[-1]
        piece = bisect_right(self.firsts, block) - 1
        within = block - self.firsts[piece]
        return self.begins[piece] + (self.pieces[piece].text.ends[within - 1] if within else 0)

    def place(self, block: int) -> Place:
        """Where a block begins."""
        piece = self.pieces[bisect_right(self.firsts, block) - 1]
        whole = (each.place == piece.place and each.number == piece.number for each in self.pieces)
        begun = next(n for n, its in enumerate(whole) if its)  # parts of a message count on
        return Place(piece.place, piece.number, self.upto(block) - self.begins[begun])


class Beside:
    """A chain beside others: how many blocks from the beginning it has in common with each, looked at once."""

    __slots__ = ("_common", "chain")

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self._common: dict[int, int] = {}

    def common(self, old: Chain) -> int:
        """How many, with a chain that is kept."""
        known = self._common.get(id(old))
        if known is None:
            known = self._common[id(old)] = common(self.chain, old)
        return known


def chain(request: Request[Cut], model: str, sent_ns: int, ended_ns: int) -> Chain:
    """The chain of a request."""
    sums, firsts, begins = array("I"), array("I"), array("Q", [0])
    at = 0
    marked = None if request.marked != 0 else 0
    for n, piece in enumerate(request.pieces, 1):
        if len(sums) < MAX_LENGTH:
            firsts.append(len(sums))
            text = piece.text
            sums.extend(text.sums)
            at += text.ends[-1] if text.ends else 0
            begins.append(at)
        if n == request.marked:
            marked = at
    media = any(piece.section == "media" for piece in request.pieces)
    pieces = request.pieces[: len(firsts)]
    return Chain(model, sums, firsts, begins, pieces, marked, request.lasting, media, sent_ns, ended_ns)


def common(new: Chain, old: Chain) -> int:
    """How many blocks from the beginning two chains have in common."""
    a, b = new.sums, old.sums
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while high - low > 1:  # slices compare as fast as memory does
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low


Key = tuple[object, ...]


class Chains:
    """The last chains by key, the least recently used forgotten first."""

    def __init__(self) -> None:
        self._by_key: OrderedDict[Key, list[Chain]] = OrderedDict()
        self._chains = 0
        self._blocks = 0

    def of(self, key: Key) -> list[Chain]:
        """The chains of a key, the newest last."""
        return self._by_key.get(key, [])

    def add(self, key: Key, beside: Beside) -> None:
        """Keep a chain: in the place of one that it goes on from, or else of the oldest."""
        new = beside.chain
        kept = self._by_key.setdefault(key, [])
        self._by_key.move_to_end(key)
        same = next((n for n, old in enumerate(kept) if _goes_on(beside, old)), None)
        mine = [n for n, old in enumerate(kept) if old.model == new.model]
        if same is None and len(mine) >= KEPT:
            same = mine[0]
        if same is not None:
            self._forget(kept.pop(same))
        kept.append(new)
        self._chains += 1
        self._blocks += len(new.sums)
        while self._chains > MAX_CHAINS or self._blocks > MAX_BLOCKS:
            _, oldest = self._by_key.popitem(last=False)
            for old in oldest:
                self._forget(old)

    def _forget(self, old: Chain) -> None:
        self._chains -= 1
        self._blocks -= len(old.sums)


def _goes_on(new: Beside, old: Chain) -> bool:
    """Whether a chain is an earlier one with more at its end, or nearly so."""
    return new.chain.model == old.model and old.upto(new.common(old)) >= 0.9 * old.chars
