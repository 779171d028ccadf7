"""What the members of requests have been found to be: a conversation comes again with each call, and grows at its end.

Looked at once are a message and a tool. What is kept of them is by a hash: lengths, checksums, names of tools, and
nothing of what they say.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, Final, TypeVar
from zlib import crc32

from tokenguard.inputs.pieces import Plain, Said, Turn
from tokenguard.process.hashes import canonical, marshalled, stable

T = TypeVar("T")
BLOCK: Final = 256
"""Characters of a block at the most."""
LEAST: Final = 64
"""Characters of a block at the least, but for the last one of a text."""
MOST: Final = 2**19
"""Blocks of all that is remembered, and as many members: 4 MB, and half a kilobyte for each member."""
FLAT: Final = frozenset((str, int, float, bool, type(None)))
MEMBER: Final = 16
"""The blocks that a member itself counts for."""


class Cut:
    """A text, cut into blocks at the ends of lines where there are any: their checksums, and where they end."""

    __slots__ = ("ends", "sums")

    def __init__(self, text: str) -> None:
        self.sums, self.ends = array("I"), array("I")
        at, end = 0, len(text)
        while at < end:
            line = text.find("\n", at + LEAST - 1, at + BLOCK)
            until = line + 1 if line >= 0 else min(at + BLOCK, end)
            self.sums.append(crc32(text[at:until].encode("utf-8", "surrogatepass")))
            self.ends.append(until)
            at = until

    def __len__(self) -> int:
        """Its characters."""
        return self.ends[-1] if self.ends else 0


class _Member:
    """What a message or a tool has been found to be."""

    __slots__ = ("found", "is_kept", "weight")

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        self.weight = 0
        self.is_kept = True


class Known(Plain[Cut]):
    """Reads the members of requests, each the first time that it comes. Asked by one thread at a time."""

    def __init__(self) -> None:
        self._members: OrderedDict[object, _Member] = OrderedDict()
        self._here: dict[int, tuple[object, _Member]] = {}
        """Those of the request that is being read, by their identity; held, so that none gets another's."""
        self._blocks = 0
        self._cut = 0
        """The blocks of the texts of the member that is being read."""

    def request_hash(self, whole: tuple[str, str, Mapping[str, Any]]) -> str:
        """16 hex digits, equal for equal requests whatever the order of their keys."""
        api, provider, body = whole
        said = {}
        for key in sorted(body):
            value = body[key]
            if type(value) is list:
                said[key] = [self._digest(each) if type(each) is dict else canonical(each) for each in value]
            else:
                said[key] = value if type(value) in FLAT else canonical(value)
        return stable(marshalled((api, provider, said)))

    def let_go(self) -> None:
        """The request has been read."""
        self._here.clear()

    def text(self, text: str) -> Cut:
        """A text in blocks."""
        cut = Cut(text)
        self._cut += len(cut.sums)
        return cut

    def turn(self, member: object) -> Turn[Cut]:
        """A message."""
        its = self._member(member)
        return its.found.get("turn") or self._made(its, "turn", super().turn, member)

    def tool(self, tool: Mapping[str, Any]) -> Said[Cut]:
        """A tool."""
        its = self._member(tool)
        return its.found.get("tool") or self._made(its, "tool", super().tool, tool)

    def _digest(self, member: object) -> bytes:
        its = self._member(member)
        return its.found.get("digest") or self._made(its, "digest", _digest, member)

    def _made(self, its: _Member, what: str, make: Callable[[Any], T], member: object) -> T:
        self._cut = 0
        made = its.found[what] = make(member)
        if its.is_kept:
            weight = MEMBER + self._cut
            its.weight += weight
            self._blocks += weight
            while self._blocks > MOST:
                _, oldest = self._members.popitem(last=False)
                oldest.is_kept = False
                self._blocks -= oldest.weight
        return made

    def _member(self, member: object) -> _Member:
        if (here := self._here.get(id(member))) is not None:
            return here[1]
        key = _key(member)
        its = self._members.get(key)
        if its is None:
            its = self._members[key] = _Member()
        else:
            self._members.move_to_end(key)
        self._here[id(member)] = member, its
        return its


def _key(member: object) -> object:
    """What tells a member from others. Python keeps the hash of a text with it: a long one is not read again."""
    if type(member) is dict and len(member) == 2:
        role, content = member.get("role"), member.get("content")
        if type(role) is str and type(content) is str:
            return hash((role, content)), len(content)
    data = marshalled(member)
    return "", hash(data), len(data)


def _digest(member: object) -> bytes:
    return blake2b(marshalled(canonical(member)), digest_size=16).digest()
