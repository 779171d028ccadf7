"""The key of an answer: made of all that a request is, but for what cannot change its answer.

What counts is never listed: a key that forgets one thing gives somebody the wrong answer, and one that knows too much
only misses. So the whole body is in it, and the address, the credential, every header, less a short list of each.
"""

from __future__ import annotations

import base64
import hmac
import json
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import blake2b
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tokenguard.answers.fitting import LINKING, NAMING
from tokenguard.answers.whose import by_client, headers_that_count
from tokenguard.call.call import AskedBy, Call
from tokenguard.facts.tuples import NamedTuple
from tokenguard.process.hashes import in_bytes, marshalled
from tokenguard.providers import Endpoint
from tokenguard.tokens.bounds import CACHE_MARKS

if TYPE_CHECKING:
    from tokenguard.policy import Cache

Hashing: TypeAlias = blake2b
FORMAT: Final = 7
"""Of the keys; another one finds nothing of this one's."""

MARKS: Final = frozenset({"ephemeral", "default"})
"""The types of marks of what the provider shall cache: Anthropic's, Bedrock's."""
UNUSUAL: Final = (TypeError, ValueError, RecursionError)
"""What is raised for data that is not plain."""
_AS_THEY_ARE: Final = frozenset({str, int, bool, type(None)})
_NOTHING: Final = frozenset[str]()
_STREAM: Final = frozenset({"stream"})
_new: Final = tuple.__new__
_TELLING: Final = CACHE_MARKS | NAMING | LINKING
"""Keys that tell of more than a value."""


class Body(NamedTuple):
    """A body, as it counts."""

    value: Any
    """Plain data in one form, see `_normal`, with no marks for a cache."""
    data: bytes
    """The same in bytes, equal for equal data alone."""
    telling: list[dict[str, Any]]
    """The parts of it that name input, or may."""


class Shape(NamedTuple):
    """What the keys of a mapping say of it."""

    name: bytes
    """The keys, in order."""
    values_of: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    """The values, in the same order."""
    tells: bool
    """Whether one of the keys tells of more than a value."""


@lru_cache(maxsize=4096)
def _shape(keys: tuple[str, ...], left_out: frozenset[str]) -> Shape:
    """The same for most mappings of a program: its messages, its parts, its tools."""
    for key in keys:
        if not isinstance(key, str):  # JSON has texts alone: 1 and True are not the same there
            raise TypeError(f"{key!r} is no key of JSON")
    kept = sorted(key for key in keys if key not in left_out)
    values_of: Any = itemgetter(*kept) if len(kept) > 1 else lambda value: tuple([value[key] for key in kept])
    return Shape(marshalled(kept), values_of, not _TELLING.isdisjoint(kept))


def counted(call: Call, request: Mapping[str, Any]) -> Body:
    """A body of a call as it would be sent, without what cannot change the answer.

    Raises `TypeError` or `ValueError` for what is not sent as JSON.
    """
    left_out = call.api.left_out
    if request.get("stream") is False:  # as if it were not said
        left_out = left_out | _STREAM
    telling: list[dict[str, Any]] = []
    try:
        value = _normal((request,), telling, left_out)
        data = marshalled(value)
    except UNUSUAL:
        kept = {key: value for key, value in request.items() if key not in left_out}
        value, data = _as_json(kept, telling)
    return _new(Body, (value, data, telling))


def canonical(value: object) -> bytes:
    r"""Plain data in bytes that are equal for equal data alone, whatever the order of keys; see `counted`.

    >>> canonical({"b": [1, "ü"], "a": 0.0}) == canonical({"a": 0, "b": (1.0, "ü")})
    True
    >>> canonical(1) == canonical("1")
    False
    """
    try:
        return marshalled(_normal((value,), []))
    except UNUSUAL:
        return _as_json(value, [])[1]


def _as_json(value: object, telling: list[dict[str, Any]]) -> tuple[Any, bytes]:
    """The same of an enum, a number of numpy's: as JSON has it."""
    telling.clear()
    found = _normal((json.loads(json.dumps(value, allow_nan=False, default=_plain)),), telling)
    return found, marshalled(found)


def _normal(
    values: tuple[Any, ...] | list[Any], telling: list[dict[str, Any]], left_out: frozenset[str] = _NOTHING
) -> list[Any]:
    """Plain data, each in one form: the values of a mapping, or the members of a list.

    A mapping is the name of its shape and its values, in a tuple, and a list a list; 0 is 0.0, for JSON has but one of
    them (RFC 8785). Of each mapping here, the keys in `left_out` and marks for a cache are not there. `telling` gets
    those that tell of more than values. Raises `TypeError` or `ValueError` for other data.
    """
    found: list[Any] = []
    for value in values:  # one call for all members: to call this for each of them took longer than what it does
        kind = type(value)
        if kind in _AS_THEY_ARE:
            found.append(value)
        elif kind is dict:
            name, values_of, tells = _shape(tuple(value), left_out)
            if tells:
                telling.append(value)
                if len(kept := _unmarked(value)) < len(value):
                    if kept or type(values) is tuple:  # Bedrock's marks are members of their own
                        found += _normal((kept,), telling, left_out)
                    continue
            inner = values_of(value)
            if not _AS_THEY_ARE.issuperset(map(type, inner)):
                inner = tuple(_normal(inner, telling))
            found.append((name, inner))
        elif kind is list:
            found.append(_normal(value, telling))
        elif kind is tuple:
            found.append(_normal(list(value), telling))
        elif kind is float:
            if not math.isfinite(value):
                raise ValueError(f"{value} is no JSON")
            found.append(int(value) if value.is_integer() else value)
        elif kind is bytes or kind is bytearray or kind is memoryview:
            found.append(bytes(value))
        elif isinstance(value, Mapping):
            found += _normal((dict(value),), telling, left_out)
        else:
            raise TypeError(f"{kind.__name__} is no plain data")
    return found


def _plain(value: object) -> object:
    if isinstance(value, bytes | bytearray | memoryview):
        # A key that no JSON text has: a lone surrogate is nothing that can be sent.
        return {"\ud800": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no plain data")


def _unmarked(value: dict[str, Any]) -> dict[str, Any]:
    """A mapping without the marks of what the provider shall cache."""
    return {key: inner for key, inner in value.items() if not _is_mark(key, inner)}


def _is_mark(key: str, value: object) -> bool:
    """Whether this marks what is to be cached; a tool may have a parameter of that name."""
    return key in CACHE_MARKS and type(value) is dict and value.get("type") in MARKS


def origin(asked_by: AskedBy) -> bytes:
    """Who asks whom, and how, as far as an answer may depend on it."""
    if asked_by.origin is not None:
        return asked_by.origin
    headers: dict[str, str] = {}
    for given in asked_by.headers:
        if given:
            headers.update(headers_that_count(given))
    by = (asked_by.url, sorted(headers.items()), asked_by.more, by_client(*asked_by.clients))
    asked_by.origin = in_bytes(by)[0]
    return asked_by.origin


def hashing(secret: bytes, call: Call, asked_by: AskedBy, whose: str, rule: Cache) -> tuple[Hashing, str]:
    """What has hashed all that a call's keys are made of, but for the body (see `key`); and whose its answer is."""
    by = asked_by.origin or origin(asked_by)
    tenant = call.attribution.get("tenant", "") if "tenant" in rule.per else ""
    return _hashing(secret, rule.name, rule.version, call.api.id, call.endpoint, call.stream, whose, tenant, by)


def key(begun: Hashing, body: bytes) -> bytes:
    """From a body as it counts to the key of its answer: 32 bytes that tell nothing to anybody without the secret."""
    keyed = begun.copy()
    keyed.update(body)
    return keyed.digest()


@lru_cache(maxsize=1024)
def _hashing(
    secret: bytes,
    rule: str,
    version: str,
    api: str,
    endpoint: Endpoint,
    stream: bool,
    whose: str,
    tenant: str,
    origin: bytes,
) -> tuple[Hashing, str]:
    """The same for most calls of a program. BLAKE2b is a MAC by itself (RFC 7693), and goes on from where it was."""
    before = (FORMAT, rule, version, api, *endpoint, stream, whose, origin)
    return blake2b(marshalled(before), key=secret, digest_size=32), owner(secret, tenant)


def owner(secret: bytes, tenant: str) -> str:
    """Whose an entry is, for those who clear it: a name that tells nothing without the secret."""
    return hmac.digest(secret, tenant.encode("utf-8", "surrogatepass"), "sha256").hex()[:16]
