"""The key of an answer: made of all that a request is, but for what cannot change its answer.

What counts is never listed: a key that forgets one thing gives somebody the wrong answer, and one that knows too much
only misses. So the whole body is in it, and the address, the credential, every header, less a short list of each.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

from tokenguard.call.call import AskedBy, Call
from tokenguard.tokens.bounds import CACHE_MARKS

FORMAT: Final = 1
"""Of the keys; another one finds nothing of this one's."""

HEADERS_LEFT_OUT: Final = frozenset(
    {
        *("accept", "accept-encoding", "connection", "content-length", "content-type", "host", "user-agent"),
        *("traceparent", "tracestate", "baggage", "idempotency-key", "x-idempotency-key", "x-request-id"),
        *("x-client-request-id", "date", "x-amz-date", "x-amz-security-token", "x-amzn-trace-id"),
    }
)
"""Of a request: what tells one sending of it from another, and how it is carried."""
HEADER_STEMS_LEFT_OUT: Final = ("x-stainless-", "x-fern-", "x-b3-")
"""What SDKs say of themselves."""

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, default=lambda value: _plain(value))
_SIGNED: Final = re.compile(r"AWS4-HMAC-SHA256 .*?Credential=([^/,]+)")
_WHOLE: Final = re.compile(r"[:\[,]-?\d+(?:\.0|e\+?\d+)[,}\]]")
"""Where there may be such a number; it may be within a text, too."""
_MARKED: Final = tuple(f'"{mark}":' for mark in CACHE_MARKS)


def canonical(value: object) -> str:
    r"""Plain data as JSON that is equal for equal data, whatever the order of keys.

    Raises `TypeError` or `ValueError` for what is no plain data.

    >>> canonical({"b": [1, "ü"], "a": None})
    '{"a":null,"b":[1,"\\u00fc"]}'
    """
    return _encode.encode(value)


def _plain(value: object) -> object:
    if isinstance(value, bytes | bytearray | memoryview):
        # A key that no JSON text has: a lone surrogate is nothing that can be sent.
        return {"\ud800": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no plain data")


def body_text(call: Call, request: Mapping[str, Any]) -> str:
    """A body of a call as it would be sent, canonical, without what cannot change the answer."""
    left_out = call.api.left_out
    body = {key: value for key, value in request.items() if key not in left_out}
    if body.get("stream") is False:  # as if it were not said
        del body["stream"]
    text = canonical(body)
    if any(mark in text for mark in _MARKED):
        text = canonical(body := _unmarked(body))
    return canonical(_whole_numbers(body)) if (".0" in text or "e+" in text) and _WHOLE.search(text) else text


def _unmarked(value: Any) -> Any:
    """The value without the marks of what the provider shall cache."""
    if isinstance(value, Mapping):
        return {key: _unmarked(inner) for key, inner in value.items() if key not in CACHE_MARKS}
    if isinstance(value, list | tuple):  # Bedrock's marks are members of their own
        return [_unmarked(each) for each in value if not (isinstance(each, Mapping) and CACHE_MARKS.issuperset(each))]
    return value


def _whole_numbers(value: Any) -> Any:
    """The value with 0 for 0.0: JSON has but one of them (RFC 8785), and a temperature is written either way."""
    if type(value) is float:
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        return {key: _whole_numbers(inner) for key, inner in value.items()}
    return [_whole_numbers(each) for each in value] if isinstance(value, list | tuple) else value


def headers_that_count(headers: Mapping[Any, Any]) -> dict[str, str]:
    """The headers of a request that are part of its key, by their names in lower case."""
    named = {_text(name).lower(): _text(value) for name, value in headers.items()}
    if (signed := _SIGNED.match(named.get("authorization", ""))) is not None:  # by the second; the key stays
        named["authorization"] = signed[1]
    return {
        name: value
        for name, value in named.items()
        if name not in HEADERS_LEFT_OUT and not name.startswith(HEADER_STEMS_LEFT_OUT)
    }


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def origin(asked_by: AskedBy) -> str:
    """Who asks whom, and how, as far as an answer may depend on it."""
    headers: dict[str, str] = {}
    for given in asked_by.headers:
        if given:
            headers.update(headers_that_count(given))
    return repr((asked_by.url, sorted(headers.items()), asked_by.more))


def key_of(secret: bytes, call: Call, asked_by: AskedBy, whose: str, rule: str, body: str) -> bytes:
    """The key of a call's answer, 32 bytes of which nobody without the secret learns anything."""
    endpoint = call.endpoint
    whose_is_it = (FORMAT, rule, call.api.id, endpoint.provider, endpoint.host, endpoint.port, call.stream, whose)
    by = f"{whose_is_it!r}{origin(asked_by)}"
    # Hashed first: over a long body that is five times as fast as the MAC itself.
    mac = _mac(secret).copy()
    mac.update(blake2b(f"{by}\n{body}".encode("utf-8", "backslashreplace")).digest())
    return mac.digest()


@lru_cache(maxsize=8)
def _mac(secret: bytes) -> hmac.HMAC:
    """The HMAC of a secret, to be copied: OpenSSL takes longer to begin one than to compute it."""
    return hmac.new(secret, digestmod="sha256")
