"""The last prompts as chains of checksums: enough to say where two of them part, and nothing of what they say.

A text is cut into blocks of at most 256 characters, at the ends of lines where there are any, so that a change moves
only the blocks near it. A block is a CRC-32 and a length: 8 bytes.
"""

from array import array
from bisect import bisect_right
from collections import OrderedDict
from typing import Final, NamedTuple

from tokenguard.inputs.known import Cut
from tokenguard.inputs.pieces import Request

_new: Final = tuple.__new__
KEPT: Final = 8
"""Chains of one key and model: several prompts, and several conversations at a time, take turns under it."""
MAX_CHAINS: Final = 4096
MAX_BLOCKS: Final = 1_000_000
"""Blocks of all chains together: 8 MB."""
MAX_LENGTH: Final = 40_000
"""Blocks of one chain; what is longer is compared up to there."""


MOSTLY: Final = 0.9
"""The part of a prompt that a later one has from its beginning, where the later one goes on from it."""


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
    sums: "array[int]"
    """The checksum of each block."""
    firsts: list[int]
    """The first block of each piece, and how many there are in all."""
    begins: list[int]
    """The characters before each piece, and in all."""
    request: Request[Cut]
    marked: int | None
    """The characters before the last mark for the cache; `None` without one."""
    sent_ns: int
    ended_ns: int

    @property
    def chars(self) -> int:
        """The length of the prompt."""
        return self.begins[-1]

    @property
    def lasting(self) -> bool:
        """Whether a mark for the cache asks for an hour."""
        return self.request.lasting

    @property
    def media(self) -> bool:
        """Whether it has pictures or the like, which are not compared."""
        return self.request.media > 0

    def upto(self, block: int) -> int:
        """The characters before a block."""
        if block == len(self.sums):
            return self.begins[-1]
        piece = bisect_right(self.firsts, block) - 1
        within = block - self.firsts[piece]
        return self.begins[piece] + (self.request.texts[piece].ends[within - 1] if within else 0)

    def place(self, block: int) -> Place:
        """Where a block begins."""
        pieces = self.request.pieces
        piece = pieces[bisect_right(self.firsts, block) - 1]
        whole = (each.place == piece.place and each.number == piece.number for each in pieces)
        begun = next(n for n, its in enumerate(whole) if its)  # parts of a message count on
        return Place(piece.place, piece.number, self.upto(block) - self.begins[begun])


def chain(request: Request[Cut], model: str, sent_ns: int, ended_ns: int) -> Chain:
    """The chain of a request."""
    sums, firsts, begins = array("I"), [0], [0]
    blocks = chars = 0
    for cut in request.texts:
        its = cut.sums
        sums += its
        blocks += len(its)
        chars += cut.length
        firsts.append(blocks)
        begins.append(chars)
        if blocks >= MAX_LENGTH:
            break
    marked = None if request.marked is None else begins[min(request.marked, len(begins) - 1)]
    return _new(Chain, (model, sums, firsts, begins, request, marked, sent_ns, ended_ns))


def common(new: Chain, old: Chain) -> int:
    """How many blocks from the beginning two chains have in common."""
    a, b = new.sums, old.sums
    low, high = 0, min(len(a), len(b))
    if not high or (a[high - 1] == b[high - 1] and a[:high] == b[:high]):
        return high
    last = old.firsts[-2]  # prompts part in their last text more often than not
    if last < high and a[:last] == b[:last]:
        low = last
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

    def add(self, key: Key, new: Chain) -> None:
        """Keep a chain: in the place of one that it goes on from, or else of the oldest."""
        kept = self._by_key.setdefault(key, [])
        self._by_key.move_to_end(key)
        same = first = None
        many = 0
        for n, old in enumerate(kept):
            if old.model == new.model:
                if old.upto(common(new, old)) >= MOSTLY * old.chars:  # it is an earlier one with more at its end
                    same = n
                    break
                first, many = n if first is None else first, many + 1
        if same is None and many >= KEPT:
            same = first
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
