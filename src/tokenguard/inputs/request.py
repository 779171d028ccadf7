"""A request as it was when its call began: what it is told from others by, and what is looked through afterwards.

Nearly all of a request are the texts of its messages, and texts do not change: they are held, and not copied, those of
tools' calls and results, too. Python hashes each but once, so what a conversation has said before costs its length only
the first time. What else a request has is written down at once, for the application may change it while the call is
under way.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from operator import itemgetter
from typing import Any, Final

from tokenguard.facts.tuples import NamedTuple
from tokenguard.process.hashes import canonical, in_bytes, in_tuple, is_salted, loosely, marshalled, read_back
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

Flat = tuple[str | bytes, ...]
"""A message one value after the other: a mapping begins with its keys in one order, as `marshal` writes a tuple of
them, a list with what it writes before the members. A text is itself, and any other value as it writes it.

Python keeps the hash of bytes with them, too, and those of keys are the same objects in all messages.
"""
KEYS: Final = marshalled(())[:1]
LIST: Final = marshalled([])[:1]
LISTS: Final = tuple(marshalled([None] * length)[:5] for length in range(256))
"""What is written before the members of short ones."""
NONE: Final = marshalled(None)
MOST_SIZES: Final = 2**14
"""Messages whose size is remembered."""

_sizes: Final[dict[int, int]] = {}
"""By the hash of a message that is more than a text, the bytes that it takes."""
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
    more: tuple[tuple[int, Flat], ...]
    """The messages that are more than that, by their place among all."""
    rest: bytes
    """The values of the other arguments, plain data as `marshal` writes it.

    What is no plain data is spelled out; then nothing can be read out of it.
    """
    weight: int
    """About how many bytes it holds: characters of texts, and bytes of the rest."""
    is_ascii: bool
    """Whether the texts are ASCII."""
    nested: tuple[tuple[int, bytes], ...] = ()
    """The arguments that are mappings, or lists of them (tools, a schema), as `marshal` writes them, by their place."""

    def said(self) -> tuple[str, int] | None:
        """The key of its messages and the bytes that they say, in UTF-8; `None` where they are more than texts."""
        return None if self.turns < 0 or self.more else (self.keys[self.turns], self._bytes_of_texts())

    def _bytes_of_texts(self) -> int:
        if self.is_ascii and not self.more:
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
            texts, more = iter(self.texts), dict(self.more)
            values[self.turns] = [
                unfolded(more[place]) if place in more else {"role": next(texts), "content": next(texts)}
                for place in range(len(self.texts) // 2 + len(more))
            ]
        return self.api, self.provider, dict(zip(self.keys, values, strict=True))

    def size(self) -> int:
        """Bytes of the body as `marshal` writes it, of plain data alone.

        It writes five before a list and a tuple, two around a mapping, and one for nothing. The rest is a list of the
        values.
        """
        size = len(marshalled(self.keys)) - 5 + len(self.rest) - 5 + 2
        size += sum(len(data) - 1 for _, data in self.nested)  # in whose places is a byte
        if self.turns >= 0:
            size += 5 - (1 if self.more else 2) + len(self.texts) // 2 * AROUND_TEXTS + self._bytes_of_texts()
            size += sum(_size(flat) for _, flat in self.more)
        return size


def snapshot(api: str, provider: str, body: Mapping[str, Any]) -> tuple[Request, bool]:
    """The request as it is now, and whether it is all plain data.

    The order of the arguments and of all keys in them does not matter. Of pictures and files there are some bytes.
    """
    keys, values_of, places, others = _order(tuple(body))
    values = [*values_of(body)]
    texts: tuple[str, ...] = ()
    more: tuple[tuple[int, Flat], ...] = ()
    turns, are_plain = -1, True
    for place in places:
        if type(members := values[place]) is list:
            try:
                texts, more = _told_apart(members, marshalled)
            except ValueError:
                texts, more = _told_apart(members, _spelled)
                are_plain = False
            turns, values[place] = place, None if more else {}
            break
    nested: tuple[tuple[int, bytes], ...] = ()
    for place in others:
        value, kind = values[place], type(values[place])
        if (kind is dict or (kind is list and value and type(value[0]) is dict)) and place != turns:
            data = _written(value)
            if data is not None:
                nested += ((place, data),)
                values[place] = None
    rest, is_plain = in_bytes(values)
    together = "".join(texts)
    weight = len(together) + len(rest)
    if nested:
        weight += sum(len(data) for _, data in nested)
    if more:
        weight += sum([sum(map(len, flat)) for _, flat in more])
    held = (api, provider, keys, turns, texts, more, rest, weight, together.isascii(), nested)
    return _new(Request, held), is_plain and are_plain


@functools.lru_cache(maxsize=1024)
def _order(
    keys: tuple[str, ...],
) -> tuple[tuple[str, ...], Callable[[Mapping[str, Any]], tuple[Any, ...]], list[int], list[int]]:
    """The keys of a request in order, what takes its values out so, and where messages and mappings may be."""
    ordered = tuple(sorted(keys))
    values_of: Any = itemgetter(*ordered) if len(ordered) > 1 else lambda body: [body[key] for key in ordered]
    others = [place for place, key in enumerate(ordered) if key not in FLAT and key != "messages"]
    return ordered, values_of, [ordered.index(key) for key in TURNS if key in keys], others


def _told_apart(
    members: list[Any], leaf: Callable[[Any], bytes]
) -> tuple[tuple[str, ...], tuple[tuple[int, Flat], ...]]:
    """The texts of messages that are a role and a text, and the messages that are more, by their place."""
    texts: list[str] = []
    more: list[tuple[int, Flat]] = []
    for place, each in enumerate(members):
        if type(each) is dict:
            if len(each) == 2:
                try:
                    role, content = each["role"], each["content"]
                except KeyError:
                    role = None
                if type(role) is str and type(content) is str:
                    texts.append(role)
                    texts.append(content)
                    continue
            flat: list[Any] = []
            _fold(each, flat, leaf)
        else:
            flat = []
            _fold_list((each,), flat, leaf)
            del flat[0]
        more.append((place, (*flat,)))
    return (*texts,), (*more,)


def folded(node: Mapping[str, Any]) -> Flat:
    r"""A message or a part of one with its keys in one order, however deep, and with samples in the place of its media.

    >>> folded({"content": ["hi"], "role": "user"})
    (b'(\x02\x00\x00\x00u\x04\x00\x00\x00roleu\x07\x00\x00\x00content', 'user', b'[\x01\x00\x00\x00', 'hi')
    """
    flat: list[Any] = []
    _fold(node, flat, marshalled)
    return (*flat,)


def _fold(node: Mapping[Any, Any], flat: list[Any], leaf: Callable[[Any], bytes]) -> None:
    keys, written = _in_one_order((*node,))
    if written is None:
        flat.append(leaf(node))
        return
    flat.append(written)
    for key in keys:
        value = node[key]
        kind = type(value)
        if kind is str or kind is bytes:
            if len(value) > HEAVY and key in DATA:
                sample = (len(value), value[:SAMPLE], value[-SAMPLE:], value[:: len(value) // SAMPLE])
                _fold_list(sample, flat, leaf)
            else:
                flat.append(value if kind is str else leaf(value))
        elif kind is dict:
            _fold(value, flat, leaf)
        elif kind is list or kind is tuple:
            _fold_list(value, flat, leaf)
        else:
            flat.append(NONE if value is None else leaf(value))


def _fold_list(members: Collection[Any], flat: list[Any], leaf: Callable[[Any], bytes]) -> None:
    length = len(members)
    flat.append(LISTS[length] if length < len(LISTS) else marshalled([None] * length)[:5])
    for value in members:
        kind = type(value)
        if kind is dict:
            _fold(value, flat, leaf)
        elif kind is str:
            flat.append(value)
        elif kind is list or kind is tuple:
            _fold_list(value, flat, leaf)
        else:
            flat.append(leaf(value))


def _spelled(value: object) -> bytes:
    """What stands for a value that may be no plain data."""
    return in_bytes(value)[0]


def unfolded(flat: Flat) -> Any:
    """What was `folded`.

    >>> unfolded(folded({"content": [{"text": "hi", "n": 1}], "role": "user"}))
    {'role': 'user', 'content': [{'text': 'hi', 'n': 1}]}
    """
    values = iter(flat)
    return _unfold(next(values), values)


def _unfold(first: str | bytes, values: Iterator[str | bytes]) -> Any:
    if type(first) is str:
        return first
    written: Any = first
    kind = written[:1]
    if kind == KEYS:
        return {key: its if type(its := next(values)) is str else _unfold(its, values) for key in _keys_of(written)}
    if kind == LIST:
        return [_unfold(next(values), values) for _ in range(int.from_bytes(written[1:], "little"))]
    return read_back(written)


_keys_of: Final = functools.lru_cache(maxsize=1024)(read_back)


def _size(flat: Flat) -> int:
    """Bytes of a message as `marshal` writes it: those of a conversation come again with each call."""
    key = hash(flat)
    size = _sizes.get(key)
    if size is None:
        size = sum([5 + upper_bound(each) if type(each) is str else len(each) for each in flat])
        size -= 3 * sum([each[:1] == KEYS for each in flat])  # five before a tuple, and two around a mapping
        if len(_sizes) >= MOST_SIZES:
            _sizes.clear()
        _sizes[key] = size
    return size


@functools.lru_cache(maxsize=1024)
def _in_one_order(keys: tuple[Any, ...]) -> tuple[tuple[str, ...], bytes | None]:
    """Keys in order, `role` and `type` before the rest, and written; not where they are not all texts, as in JSON."""
    if not {*map(type, keys)} <= {str}:
        return (), None
    ordered = tuple(sorted(keys, reverse=True))
    return ordered, marshalled(ordered)


def fingerprint(request: Request, is_plain: bool) -> str:
    """16 hex digits, equal for equal requests in this process, and over all that have the same salt."""
    nested = request.nested
    if not is_salted() and request.weight <= LONG:
        return in_tuple((request[:-1], *[in_one_order(data) for _, data in nested]) if nested else request)
    if nested:
        request = request._replace(nested=tuple((place, in_one_order(data)) for place, data in nested))
    return of_bytes(essence(marshalled(request.whole() if is_plain else (*request,))))


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


def _written(value: object) -> bytes | None:
    """A mapping, or a list of them, as `marshal` writes it; `None` of what is no plain data.

    A program's tools are the same in each of its requests: to write them as `loosely` does takes half the time.
    """
    try:
        seen = loosely(value)
        return _strictly(seen) if len(seen) <= MOST_IN_ORDER else marshalled(value)
    except ValueError:
        return None


@functools.lru_cache(maxsize=32)
def _strictly(seen: bytes) -> bytes:
    return _held(marshalled(read_back(seen)))


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
