"""The last prompts as chains of checksums: enough to say where two of them part, and nothing of what they say.

A text is cut into blocks of at most 256 characters, at the ends of lines where there are any, so that a change moves
only the blocks near it. A block is a CRC-32 and a length: 8 bytes.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterator
from operator import sub
from typing import Final

from tokenguard.facts.tuples import NamedTuple
from tokenguard.inputs.known import Cut
from tokenguard.inputs.pieces import Request

_new: Final = tuple.__new__
KEPT: Final = 8
"""Chains of one key and model: several prompts, and several conversations at a time, take turns under it."""
MAX_CHAINS: Final = 4096
MAX_BLOCKS: Final = 2_000_000
"""What all chains together weigh at the most: 16 MB."""

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


class Spot(NamedTuple):
    """A place among the blocks of a request."""

    text: int
    """Which of its texts."""
    block: int
    """How many of that text's blocks stand before."""
    chars: int
    """How many characters stand before, in all."""


class Chain:
    """A prompt."""

    __slots__ = ("chars", "ended_ns", "model", "request", "sent_ns", "weight")

    def __init__(self, request: Request[Cut], model: str, weight: int, sent_ns: int, ended_ns: int) -> None:
        self.request = request
        self.model = model
        self.weight = weight
        """In blocks: what it is taken to hold, though others may hold the same."""
        self.sent_ns = sent_ns
        self.ended_ns = ended_ns
        self.chars = request.system + request.head.tools + request.history + request.results + request.last
        """The length of the prompt."""
        if request.media:
            self.chars = self._before(len(request.texts))

    @property
    def lasting(self) -> bool:
        """Whether a mark for the cache asks for an hour."""
        return self.request.lasting

    @property
    def media(self) -> bool:
        """Whether it has pictures or the like, which are not compared."""
        return bool(self.request.media)

    @property
    def marked(self) -> int | None:
        """The characters before the last mark for the cache; `None` without one."""
        return None if self.request.marked is None else self._before(self.request.marked)

    def _before(self, text: int) -> int:
        return sum(cut.length for cut in self.request.texts[:text])

    def after(self, spot: Spot) -> Iterator[tuple[int, int]]:
        """The checksum of each block that follows, and its characters."""
        block = spot.block
        for cut in self.request.texts[spot.text :]:
            ends = cut.ends[block - 1 :] if block else (0, *cut.ends)
            yield from zip(cut.sums[block:], map(sub, ends[1:], ends), strict=False)
            block = 0

    def place(self, spot: Spot) -> Place:
        """Where the block there begins."""
        texts, pieces = self.request.texts, self.request.pieces
        text, block, chars = spot
        while block == len(texts[text].sums) and text + 1 < len(texts):
            text, block = text + 1, 0
        piece = pieces[text]
        whole = (each.place == piece.place and each.number == piece.number for each in pieces)
        begun = next(n for n, its in enumerate(whole) if its)  # parts of a message count on
        return Place(piece.place, piece.number, chars - self._before(begun))


def common(new: Chain, old: Chain) -> Spot:
    """Where two prompts part. A text that came before is the same object, unless it was forgotten meanwhile."""
    text = chars = 0
    now, then = new.request.texts, old.request.texts
    if now[: len(then)] == then:
        return _new(Spot, (len(then), 0, old.chars))
    for its, others in zip(now, then, strict=False):
        if its is not others and its.sums != others.sums:
            block = _common(its.sums, others.sums)
            return _new(Spot, (text, block, chars + its.ends[block - 1] if block else chars))
        text += 1
        chars += its.length
    return _new(Spot, (text, 0, chars))


def _common(a: array[int], b: array[int]) -> int:
    """How many blocks from the beginning two texts have in common."""
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

    def add(self, key: Key, new: Chain) -> None:
        """Keep a chain: in the place of one that it goes on from, or else of the oldest."""
        kept = self._by_key.setdefault(key, [])
        self._by_key.move_to_end(key)
        same, many = None, 0
        for n in range(len(kept) - 1, -1, -1):  # most often it goes on from the last one
            old = kept[n]
            if old.model == new.model:
                first, many = n, many + 1
                if common(new, old).chars >= MOSTLY * old.chars:  # it is an earlier one with more at its end
                    same = n
                    break
        else:
            if many >= KEPT:
                same = first
        if same is not None:
            self._forget(kept.pop(same))
        kept.append(new)
        self._chains += 1
        self._blocks += new.weight
        while self._chains > MAX_CHAINS or self._blocks > MAX_BLOCKS:
            _, oldest = self._by_key.popitem(last=False)
            for old in oldest:
                self._forget(old)

    def _forget(self, old: Chain) -> None:
        self._chains -= 1
        self._blocks -= old.weight
