"""What the members of requests have been found to be: a conversation comes again with each call, and grows at its end.

Looked at once are a message, a tool, and all that a request says beside its messages. What is kept of them is by a
hash: lengths, checksums, names of tools, and nothing of what they say.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from operator import itemgetter
from typing import Any, Final
from zlib import crc32

from tokenguard.facts.record import ToolsetRecord
from tokenguard.facts.tuples import NamedTuple
from tokenguard.inputs.pieces import Head, Plain, Request, Turn, head_of
from tokenguard.inputs.request import Request as Sent
from tokenguard.inputs.request import unfolded
from tokenguard.inputs.sections import tool_shares
from tokenguard.process.hashes import canonical, marshalled, read_back, stable
from tokenguard.providers.messages import members
from tokenguard.providers.reading import fields

BLOCK: Final = 256
"""Characters of a block at the most."""
LEAST: Final = 64
"""Characters of a block at the least, but for the last one of a text."""
MOST: Final = 2**19
"""Blocks of all that is remembered, and as many members: 4 MB, and half a kilobyte for each member."""
MEMBER: Final = 16
"""The blocks that a member itself counts for."""
LONG: Final = 8
"""Messages of a conversation of which it is worth while to remember how it has begun."""
TURNS: Final = 2**16
"""Messages of all conversations that are remembered so: 2 MB."""
LATELY: Final = 8
"""Messages by which a conversation has grown at the most, where it is known again: an answer, and results of tools."""
HERE: Final = {"role": "here"}
"""Stands for the messages of a request where its other arguments are looked at."""
_new: Final = tuple.__new__
_place: Final = itemgetter(0)


class Cut:
    """A text, cut into blocks at the ends of lines where there are any: their checksums, and where they end."""

    __slots__ = ("ends", "length", "sums")

    def __init__(self, text: str) -> None:
        sums, ends = [], []
        at, end = 0, len(text)
        while at < end:
            line = text.find("\n", at + LEAST - 1, at + BLOCK)
            until = line + 1 if line >= 0 else at + BLOCK
            if until > end:
                until = end
            sums.append(crc32(text[at:until].encode("utf-8", "surrogatepass")))
            ends.append(until)
            at = until
        self.sums, self.ends, self.length = array("I", sums), array("I", ends), end

    def __len__(self) -> int:
        """Its characters."""
        return self.length


class Whole(NamedTuple):
    """What a request has been found to be."""

    hash: str
    """16 hex digits, equal for equal requests whatever the order of their keys."""
    request: Request[Cut]
    toolset: ToolsetRecord | None
    weight: int
    """In blocks."""


class Begun(NamedTuple):
    """What a conversation has been found to be, so far."""

    messages: int
    digests: bytes
    request: Request[Cut]
    weight: int
    """In blocks."""


class Known(Plain[Cut]):
    """Reads requests, each member of them the first time that it comes. Asked by one thread at a time."""

    def __init__(self) -> None:
        self.young: dict[object, tuple[Any, ...]] = {}
        """What was found or asked for lately, by its key; last comes its weight in blocks."""
        self.old: dict[object, tuple[Any, ...]] = {}
        """What was, before that."""
        self.weight = 0
        """Of all that is young."""
        self._begun: OrderedDict[object, Begun] = OrderedDict()
        """The last conversations, by a hash."""
        self._turns = 0
        """Messages of all of these."""
        self._cut = 0
        """The blocks of the texts that are being read."""

    def read(self, sent: Sent) -> Whole:
        """A request."""
        rest = sent.rest
        get, texts, more = self.young.get, sent.texts, sent.more
        first: object = (sent[:4], hash(rest), hash(sent.nested))
        digest, head, own, toolset, weight = get(first) or self._found(first, self._rest, sent, rest)
        digests, turns, before, known = [digest], [], None, 0
        # Python keeps the hash of a text with it: a long one is not read again.
        keys = [*map(hash, zip(texts[::2], texts[1::2], strict=True))]
        for place, flat in more:
            keys.insert(place, hash(flat))
        goes_on = own is None and len(keys) >= LONG
        if goes_on and (begun := self._begin(first, keys)) is not None:
            known, digest, before, weight = begun
            digests, turns = [digest], [*before.turns]
        for place, key in enumerate(keys[known:], known):
            digest, turn, its = get(key) or self._found(key, self._member, sent, place)
            digests.append(digest)
            if turn is not None:
                turns.append(turn)
            weight += its
        digest, request = b"".join(digests), Request(head, turns if own is None else own, before)
        if goes_on:
            self._keep((first, len(keys), hash((*keys,))), _new(Begun, (len(keys), digest, request, weight)))
        return _new(Whole, (stable(digest), request, toolset, weight))

    def _begin(self, first: object, keys: list[int]) -> Begun | None:
        """What is remembered of a conversation as it is, or when it was shorter by a few messages."""
        known = self._begun
        for count in range(len(keys), max(len(keys) - LATELY, LONG) - 1, -1):
            begun = known.pop((first, count, hash((*keys[:count],))), None)
            if begun is not None:
                self._turns -= len(begun.request.turns)
                return begun
        return None

    def _keep(self, key: object, begun: Begun) -> None:
        """Remember how a conversation has begun."""
        if key not in self._begun:
            self._turns += len(begun.request.turns)
        self._begun[key] = begun
        while self._turns > TURNS:
            _, oldest = self._begun.popitem(last=False)
            self._turns -= len(oldest.request.turns)

    def text(self, text: str) -> Cut:
        """A text in blocks."""
        cut = Cut(text)
        self._cut += len(cut.sums)
        return cut

    def tool(self, tool: Mapping[str, Any]) -> tuple[str, Cut]:
        """A tool's name, and its definition."""
        name, text, _ = self._known("tool", marshalled(tool), super().tool, tool)
        return name, text

    def _member(self, sent: Sent, place: int) -> tuple[bytes, Turn[Cut] | None]:
        """A message; `None` where it is none that a model could read."""
        after = bisect_left(sent.more, place, key=_place) if sent.more else 0
        if after == len(sent.more) or sent.more[after][0] != place:
            role, said = sent.texts[2 * (place - after) : 2 * (place - after) + 2]
            return _digest((role, said)), self.words(role, said)
        member = unfolded(sent.more[after][1])
        is_one = isinstance(member, str) or fields(member)
        return _digest(canonical(member)), self.turn(member) if is_one else None

    def _rest(
        self, sent: Sent, rest: bytes
    ) -> tuple[bytes, Head[Cut], Sequence[Turn[Cut]] | None, ToolsetRecord | None]:
        """Of what a request says beside its messages: also its conversation, where that is not in these."""
        values = read_back(rest)
        nested = [self._known("argument", data, _in_order, data)[0] for _, data in sent.nested]
        digest = _digest((*sent[:4], canonical(values), nested))
        for place, data in sent.nested:
            values[place] = read_back(data)
        if sent.turns >= 0:
            values[sent.turns] = [HERE]
        body = dict(zip(sent.keys, values, strict=True))
        head, own = head_of(body, self), members(body)
        turns = None if any(each is HERE for each in own) else [*map(self.turn, own)]
        self._cut = sum(len(text.sums) for text in Request(head, turns or ()).texts)
        return digest, head, turns, _toolset(tool_shares(head))

    def _known(self, what: str, data: bytes, make: Callable[[Any], tuple[Any, ...]], of: object) -> tuple[Any, ...]:
        key = (what, hash(data))
        return self.young.get(key) or self._found(key, make, of)

    def _found(self, key: object, make: Callable[..., tuple[Any, ...]], *of: object) -> tuple[Any, ...]:
        """What was found before, and is young again, or what is found now."""
        its = self.old.pop(key, None)
        if its is None:
            around, self._cut = self._cut, 0
            its = (*make(*of), MEMBER + self._cut)
            self._cut = around
        self.young[key] = its
        self.weight += its[-1]
        if self.weight > MOST // 2:
            self.old, self.young = self.young if self.weight <= MOST else {}, {}
            self.weight = 0
        return its


def _toolset(shares: Mapping[str, float]) -> ToolsetRecord | None:
    if not shares:
        return None
    told = repr(shares).encode("utf-8", "backslashreplace")
    return ToolsetRecord(blake2b(told, digest_size=8).hexdigest(), shares)


def _digest(value: object) -> bytes:
    return blake2b(marshalled(value), digest_size=16).digest()


def _in_order(data: bytes) -> tuple[bytes]:
    return (_digest(canonical(read_back(data))),)
