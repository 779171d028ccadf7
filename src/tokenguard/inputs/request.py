"""A request as it was when its call began: what it is told from others by, and what is looked through afterwards.

Nearly all of a request are the texts of its messages, and texts do not change: they are held, and not copied. Python
hashes each but once, so an instruction that every request begins with costs its length only the first time. What else
a request has is written down at once, for the application may change it while the call is under way.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, Final

from tokenguard.facts.tuples import NamedTuple
from tokenguard.process.hashes import canonical, in_bytes, in_tuple, is_salted, marshalled, read_back
from tokenguard.process.hashes import fingerprint as of_bytes
from tokenguard.tokens.text import upper_bound

TURNS: Final = ("messages", "input", "contents")
"""The keys of a request's messages; what is in one is its `content` or its `parts`."""
DATA: Final = frozenset({"b64_json", "bytes", "data", "file_data", "image_url", "url"})
"""The keys of what media parts hold; no text of a prompt stands there."""
HEAVY: Final = 2**16
"""Bytes of media of which some stand for all: to copy a picture of ten megabytes takes ten milliseconds."""
SAMPLE: Final = 1024
LONG: Final = 2**19
"""Bytes of a request of which not all are hashed: a book, a file."""
END: Final = 2**16
STRIDE: Final = 61
FLAT: Final = frozenset(
    {
        *("model", "temperature", "max_tokens", "max_completion_tokens", "max_output_tokens", "top_p", "top_k", "n"),
        *("seed", "stream", "user", "stop", "frequency_penalty", "presence_penalty", "store"),
    }
)
"""Arguments that hold no mappings."""
MOST_IN_ORDER: Final = 2**18
"""Bytes of an argument that is put in order, at the most."""
AROUND_TEXTS: Final = len(marshalled({"role": "", "content": ""}))
"""Bytes that `marshal` writes around the role and the text of a message."""

NESTED: Final = frozenset({dict, list, tuple})

_new: Final = tuple.__new__


class Request(NamedTuple):
    """A request, and whose it is. Equal for equal requests, in whatever order their arguments and keys are."""

    api: str
    provider: str
    keys: tuple[str, ...]
    """Its arguments, in order."""
    turns: int
    """The place among them of its messages; -1 where it has none."""
    texts: tuple[str, ...]
    """The role and the content of each message that is just that."""
    rest: bytes
    """The values of the arguments, plain data as `marshal` writes it; of messages those that are more, by their place.

    What is no plain data is spelled out; then nothing can be read out of it.
    """
    weight: int
    """About how many bytes it holds: characters of texts, and bytes of the rest."""
    more: int
    """How many of its messages are more than a role and a text."""
    is_ascii: bool
    """Whether the texts are ASCII."""
    nested: tuple[tuple[int, bytes], ...] = ()
    """The arguments that are mappings, or lists of them (tools, a schema), as `marshal` writes them, by their place."""

    def said(self) -> tuple[str, int] | None:
        """The key of its messages and the bytes that they say, in UTF-8; `None` where they are more than texts."""
        return None if self.turns < 0 or self.more else (self.keys[self.turns], self._bytes_of_texts())

    def _bytes_of_texts(self) -> int:
        if self.is_ascii:
            return self.weight - len(self.rest) - sum(len(data) for _, data in self.nested)
        return sum(map(upper_bound, self.texts))

    def written(self) -> Mapping[str, bytes]:
        """The arguments that are mappings, or lists of them, as `marshal` writes them, by their names."""
        return {self.keys[place]: data for place, data in self.nested}

    def whole(self) -> tuple[str, str, dict[str, Any]]:
        """The format, the provider and the body, of media some bytes; of plain data alone."""
        values = read_back(self.rest)
        for place, data in self.nested:
            values[place] = read_back(data)
        if self.turns >= 0:
            texts, more = iter(self.texts), values[self.turns]
            values[self.turns] = [
                more[place] if place in more else {"role": next(texts), "content": next(texts)}
                for place in range(len(self.texts) // 2 + self.more)
            ]
        return self.api, self.provider, dict(zip(self.keys, values, strict=True))

    def size(self) -> int:
        """Bytes of the body as `marshal` writes it, of plain data alone.

        It writes five before a list, a tuple and a number, and two around a mapping. The rest is a list of the values;
        the messages in it are a mapping with a number before each.
        """
        size = len(marshalled(self.keys)) - 5 + len(self.rest) - 5 + 2
        size += sum(len(data) - 1 for _, data in self.nested)  # in whose places is a byte
        if self.turns >= 0:
            size += 5 - 2 - 5 * self.more + len(self.texts) // 2 * AROUND_TEXTS + self._bytes_of_texts()
        return size


def snapshot(api: str, provider: str, body: Mapping[str, Any]) -> tuple[Request, bool]:
    """The request as it is now, and whether it is all plain data.

    The order of the arguments and of all keys in them does not matter. Of pictures and files there are some bytes.
    """
    keys, values_of, places, others = _order(tuple(body))
    values = [*values_of(body)]
    texts: tuple[str, ...] = ()
    turns, more = -1, 0
    for place in places:
        if type(members := values[place]) is list:
            turns, (texts, values[place]) = place, _told_apart(members)
            more = len(values[place])
            break
    nested: tuple[tuple[int, bytes], ...] = ()
    for place in others:
        value, kind = values[place], type(values[place])
        if (kind is dict or (kind is list and value and type(value[0]) is dict)) and place != turns:
            data, plain = in_bytes(value)
            if plain:
                nested += ((place, _held(data) if len(data) <= MOST_IN_ORDER else data),)
                values[place] = None
    rest, is_plain = in_bytes(values)
    together = "".join(texts)
    weight = len(together) + len(rest)
    if nested:
        weight += sum(len(data) for _, data in nested)
    held = (api, provider, keys, turns, texts, rest, weight, more, together.isascii(), nested)
    return _new(Request, held), is_plain


@functools.lru_cache(maxsize=1024)
def _order(
    keys: tuple[str, ...],
) -> tuple[tuple[str, ...], Callable[[Mapping[str, Any]], tuple[Any, ...]], list[int], list[int]]:
    """The keys of a request in order, what takes its values out so, and where messages and mappings may be."""
    ordered = tuple(sorted(keys))
    values_of: Any = itemgetter(*ordered) if len(ordered) > 1 else lambda body: [body[key] for key in ordered]
    others = [place for place, key in enumerate(ordered) if key not in FLAT and key != "messages"]
    return ordered, values_of, [ordered.index(key) for key in TURNS if key in keys], others


def _told_apart(members: list[Any]) -> tuple[tuple[str, ...], dict[int, Any]]:
    """The texts of messages that are a role and a text, and the messages that are more, by their place."""
    texts: list[str] = []
    more: dict[int, Any] = {}
    for each in members:
        if type(each) is dict and len(each) == 2:
            try:
                role, content = each["role"], each["content"]
            except KeyError:
                role = None
            if type(role) is str and type(content) is str:
                texts.append(role)
                texts.append(content)
                continue
        more[len(texts) // 2 + len(more)] = each
    for place, each in more.items():
        if type(each) is dict:
            more[place] = _in_order(each)
    return tuple(texts), more


def _in_order(node: Any) -> Any:
    """A message or a part of one with its keys in one order, however deep, and with samples in the place of its media.

    >>> _in_order({"content": [{"text": "hi", "type": "text"}], "role": "user"})
    {'role': 'user', 'content': [{'type': 'text', 'text': 'hi'}]}
    """
    if type(node) is not dict:
        return [_in_order(each) if type(each) in NESTED else each for each in node]
    found = {}
    for key in _in_one_order(tuple(node)):
        value = node[key]
        kind = type(value)
        if kind is str or kind is bytes:
            if len(value) > HEAVY and key in DATA:
                value = [len(value), value[:SAMPLE], value[-SAMPLE:], value[:: len(value) // SAMPLE]]
        elif kind in NESTED:
            value = _in_order(value)
        found[key] = value
    return found


@functools.lru_cache(maxsize=1024)
def _in_one_order(keys: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(sorted(keys, key=str, reverse=True))  # `role` and `type` before the rest


def fingerprint(request: Request, is_plain: bool) -> str:
    """16 hex digits, equal for equal requests in this process, and over all that have the same salt."""
    nested = request.nested
    if not is_salted() and request.weight <= LONG:
        return in_tuple((request[:-1], *[in_one_order(data) for _, data in nested]) if nested else request)
    if nested:
        request = request._replace(nested=tuple((place, in_one_order(data)) for place, data in nested))
    return of_bytes(essence(marshalled(request.whole()) if is_plain else request.rest))


def in_one_order(data: bytes) -> bytes:
    """Plain data that was `marshalled`, the same for any order of its keys; of what is very long as it is.

    >>> in_one_order(marshalled({"b": 1, "a": [{"d": 2, "c": 3}]})) == in_one_order(
    ...     marshalled({"a": [{"c": 3, "d": 2}], "b": 1})
    ... )
    True
    """
    return data if len(data) > MOST_IN_ORDER else _put_in_order(data)


@functools.lru_cache(maxsize=32)
def _put_in_order(data: bytes) -> bytes:
    """Remembered, as a program's tools are the same in each of its requests."""
    return marshalled(canonical(read_back(data)))


@functools.lru_cache(maxsize=32)
def _held(data: bytes) -> bytes:
    """The first of equal data, for all: to compare an object with itself takes nothing, and it is held but once."""
    return data


def essence(request: bytes) -> bytes:
    """What tells a request from others: all of it, and of a long one its length, its ends and every 61st byte.

    A megabyte takes a quarter of a millisecond to hash. Two texts of that length that differ are nearly always of two
    lengths, and compressed data differ nearly everywhere behind the first difference.
    """
    if len(request) <= LONG:
        return request
    return b"%d" % len(request) + request[:END] + request[-END:] + request[::STRIDE]


def identity(body: Mapping[str, Any]) -> bytes:
    """A digest of the request that nobody can make another request for: equal only for equal requests."""
    import hashlib  # three milliseconds, that only a policy with shared calls needs

    return hashlib.sha256(in_bytes(canonical(body))[0]).digest()
