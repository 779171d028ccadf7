"""Whose a request is, as far as the body does not say it: headers, credentials, and what an HTTP client adds.

Nobody may get what somebody else was told. So what is not known here by name counts, as it is; what is left out is
listed, and is what changes from one sending to the next, or tells nothing of who sends.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import sys
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import lru_cache
from pathlib import PurePath
from types import FunctionType, MethodType
from typing import Any, Final

from tokenguard.facts.sdks import SDKS
from tokenguard.facts.tuples import NamedTuple

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
CERTIFICATES: Final = "_tokenguard_certificates"
"""Of an `ssl.SSLContext`: the client certificates that it has loaded, a text for each."""
IDENTITY: Final = frozenset(
    {
        *("AWS_ACCESS_KEY_ID", "AWS_ROLE_ARN", "AWS_BEARER_TOKEN_BEDROCK", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    }
)
"""Variables that tell whose the credentials are that a cloud's SDK finds, wherever the process runs."""
SURROUNDINGS: Final = IDENTITY | {
    *("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"),
    *("AWS_WEB_IDENTITY_TOKEN_FILE", "GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG", "GCE_METADATA_HOST"),
}
"""All by which it finds them."""
DEPTH: Final = 4
"""How far into an object that gives credentials is looked."""
_SIGNED: Final = re.compile(r"AWS4-HMAC-SHA256 .*?Credential=([^/,]+)")
_IDS: Final = re.compile(r"(^|_)(u?id|user|account|tenant|org|organi[sz]ation|customer|owner|team|project|member)(_|$)")
"""Names of numbers that tell whose something is; other numbers are times, and counts."""
_OF_SENDING: Final = re.compile(r"request_?id|trace|tracing|span|correlation|log|metric|start|time")
"""Names of what a context has that tells one sending from another."""
_AS_THEY_ARE: Final = (str, bytes, bool)
_WRITTEN: Final = (uuid.UUID, PurePath)
"""What is told by its text alone."""


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


def by_name(credential: Any, depth: int = DEPTH) -> object:
    """A credential that is no text (a function that gives tokens, an object that renews them), as far as it is known.

    That is its name, and the texts in it, and those of the context that it reads. A token that expires does not count:
    each process has another one. An HTTP client is what it adds to its requests; `None` if that is nothing.
    """
    if credential is None or isinstance(credential, _AS_THEY_ARE) or type(credential) is int:
        return credential
    if isinstance(credential, _WRITTEN):
        return str(credential)
    kind: Any = type(credential)
    name = f"{kind.__module__}.{kind.__qualname__}"
    inside: dict[str, Any]
    if (adds := _adds_of(kind)) is not None:
        held = _held(credential)
        told = adds.told.split()
        inside = {key: READERS[key](held[key]) if key in READERS else held[key] for key in told if key in held}
        if _is_ordinary(kind.__module__):
            return _told(inside, depth) or None
        if depth:
            inside |= {key: value for key, value in held.items() if key not in told and key not in adds.other.split()}
            inside |= _around(_methods_of(kind))
        return name, _told(inside, max(depth - 1, 0))
    if depth == 0:
        return name
    if isinstance(credential, Mapping):
        inside = {str(key): value for key, value in credential.items()}
    elif isinstance(credential, tuple):
        inside = {f"{place}_id": value for place, value in enumerate(credential)}
    elif isinstance(credential, Sequence):  # of which what is noted down as it goes on does not count
        inside = {f"{place}": value for place, value in enumerate(credential) if callable(value)}
    elif isinstance(credential, MethodType):
        inside = {"of": credential.__self__, "function": credential.__func__}
    elif isinstance(credential, FunctionType):
        name = f"{credential.__module__}.{credential.__qualname__}"
        code, cells = credential.__code__, map(_in_cell, credential.__closure__ or ())
        given = (credential.__defaults__ or (), tuple((credential.__kwdefaults__ or {}).items()))
        written = tuple([each for each in code.co_consts if isinstance(each, str | bytes)])
        inside = dict(zip(code.co_freevars, cells, strict=True)) | _around((credential,))
        inside |= {"given": given, "written": written}
    elif isinstance(credential, functools.partial):
        inside = {"function": credential.func, "given": credential.args, **credential.keywords}
    elif isinstance(credential, ContextVar):
        inside = {"now": credential.get(None)}
    else:
        held = _held(credential)
        inside = {key: value for key, value in held.items() if key != "token" or held.get("expiry") is None}
        inside |= _around(_methods_of(kind))
    return name, _told(inside, depth - 1)


def by_client(*clients: Any) -> list[object]:
    """What HTTP clients (httpx's, requests', aiohttp's) add to their requests; `None` for one that adds nothing.

    That is headers, a query, credentials, cookies, hooks, and what it sends them through.
    """
    return [by_name(client) for client in clients]


def is_steady(client: Any) -> bool:
    """Whether what a client of httpx adds changes with its own attributes alone: it has nothing that decides anew."""
    own = client.__dict__
    senders = [own.get("_transport"), *(own.get("_mounts") or {}).values()]
    return (
        own.get("_auth") is None
        and not (own.get("_event_hooks") or {}).get("request")
        and all(_is_ordinary(type(each).__module__) for each in (client, *senders) if each is not None)
    )


def _told(inside: Mapping[str, Any], depth: int) -> list[tuple[str, str]]:
    found = [(key, by_name(value, depth)) for key, value in inside.items() if _tells(key, value)]
    return sorted([(key, repr(value)) for key, value in found if value is not None])


def _tells(key: str, value: object) -> bool:
    """Whether a value tells whose a credential is."""
    if type(value) is int:
        return _IDS.search(key) is not None
    return value is not None and not isinstance(value, bool | float)


def _held(value: Any) -> dict[str, Any]:
    """What an object holds, in its slots, too."""
    held = dict(getattr(value, "__dict__", {}))
    kind: Any = type(value)
    for slot in _slots_of(kind):
        if (inner := getattr(value, slot, None)) is not None:
            held.setdefault(slot, inner)
    return held


@lru_cache(maxsize=1024)
def _slots_of(kind: Any) -> tuple[str, ...]:
    found: list[str] = []
    for each in kind.__mro__:
        given = each.__dict__.get("__slots__", ())
        for slot in (given,) if isinstance(given, str) else given:
            hidden = slot.startswith("__") and not slot.endswith("__")
            if slot in {"__dict__", "__weakref__"}:
                continue
            found.append(f"_{each.__name__.lstrip('_')}{slot}" if hidden else slot)
    return tuple(found)


@lru_cache(maxsize=1024)
def _methods_of(kind: Any) -> tuple[FunctionType, ...]:
    """What the program's own classes do themselves."""
    owners = [each for each in kind.__mro__ if each.__module__ != "builtins" and not _is_ordinary(each.__module__)]
    return tuple([value for each in owners for value in vars(each).values() if isinstance(value, FunctionType)])


def _around(functions: Iterable[FunctionType]) -> dict[str, Any]:
    """What functions read of the context that they are called in, and of the thread."""
    return {name: value for function in functions for name, value in _read_by(function)}


def _read_by(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if isinstance(value, ContextVar | threading.local) and _OF_SENDING.search(name.lower()) is None:
            yield name, value


def _in_cell(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _text(value: object) -> str:
    """As it is sent; what says that nothing is (`Omit`) by its kind: it is at another address in each process."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return (
        str(value) if isinstance(value, str | int | float) else f"{type(value).__module__}.{type(value).__qualname__}"
    )


def by_surroundings() -> list[tuple[str, str]]:
    """Who this process is to a cloud, for clients that look for credentials by themselves when they send.

    Where no variable names a key or a role, it is this user of this machine.
    """
    said = sorted([(name, value) for name in SURROUNDINGS if (value := os.environ.get(name))])
    if IDENTITY.isdisjoint(name for name, _ in said):
        said.append((platform.node(), os.path.expanduser("~")))
    return said


def _headers(given: Any) -> object:
    return headers_that_count(given) or None if isinstance(given, Mapping) else given


def _query(given: Any) -> str | None:
    return str(given) if given else None


def _cookies(jar: Any) -> object:
    """Those that the program has set; what a server sets is of that sitting."""
    found = []
    for each in getattr(jar, "jar", jar) or ():
        if isinstance(each, str):  # a mapping's
            found.append((each, jar[each]))
        elif hasattr(each, "key"):  # aiohttp's
            found += [] if each["domain"] else [(each.key, each.value)]
        elif not each.domain:
            found.append((each.name, each.value))
    return tuple(sorted(found)) or None


def _hooks(given: Any) -> object:
    """Functions that see a request before it is sent."""
    return tuple([each for each in (given or {}).get("request") or () if not _is_ordinary(_module(each))]) or None


def _each(given: Any) -> object:
    return tuple(given) or None if isinstance(given, list | tuple) else given


def _by_pattern(given: Mapping[Any, Any]) -> object:
    """What sends, by where to."""
    named = {str(getattr(pattern, "pattern", pattern)): by_name(sender) for pattern, sender in given.items()}
    return {pattern: repr(sender) for pattern, sender in named.items() if sender is not None} or None


def _session(given: Any) -> object:
    """An aiohttp session, or what makes it; before it is needed, many have what makes an ordinary one."""
    return None if isinstance(given, FunctionType) and _is_ordinary(_module(given)) else given


def _certificates(context: Any) -> object:
    """The client certificates of a TLS context; `None` if it has none, or is none."""
    inner = getattr(context, "_ctx", None)  # truststore's, which is made around one
    return getattr(context, CERTIFICATES, None) or (None if inner is None else getattr(inner, CERTIFICATES, None))


def _pools(manager: Any) -> object:
    """The client certificates that an adapter of requests gives to its connections by itself."""
    return _certificates(getattr(manager, "connection_pool_kw", {}).get("ssl_context"))


def _module(function: Any) -> str:
    return str(getattr(function, "__module__", ""))


READERS: Final[Mapping[str, Callable[[Any], object]]] = {
    **dict.fromkeys(("headers", "_headers", "_default_headers"), _headers),
    **dict.fromkeys(("params", "_params", "_default_proxy"), _query),
    **dict.fromkeys(("cookies", "_cookies", "_cookie_jar"), _cookies),
    **dict.fromkeys(("hooks", "_event_hooks"), _hooks),
    **dict.fromkeys(("adapters", "_mounts", "proxies"), _by_pattern),
    **dict.fromkeys(("_middlewares", "_trace_configs", "_proxy_headers"), _each),
    **dict.fromkeys(("_ssl_context", "_ssl"), _certificates),
    "poolmanager": _pools,
    "client": _session,
}
"""What is read of an attribute that is more than what it adds to a request."""


class Adds(NamedTuple):
    """Where a kind of client, or a part of one, has what it adds to a request."""

    told: str
    """Names of attributes, with spaces between them."""
    other: str = ""
    """Those of the library's own that add nothing; of a class of the program's own all others count."""


_HTTPX: Final = Adds("_headers _params _cookies _auth _event_hooks _transport _mounts", "_base_url _state _timeout")
_POOL: Final = Adds(
    "_uds _proxy _proxy_url _proxy_auth _proxy_headers _ssl_context", "_connections _requests _network_backend"
)
_SESSION: Final = Adds("headers params cookies auth hooks cert proxies adapters", "verify")
_AIOHTTP: Final = Adds(
    "_default_headers _default_auth _default_proxy _default_proxy_auth _cookie_jar _connector _middlewares "
    "_trace_configs",
    "_loop _timeout _request_class _response_class _ws_response_class",
)
KINDS: Final[Mapping[str, Adds]] = {
    **{f"{package}.{name}": _HTTPX for package in ("httpx", "httpx2") for name in ("Client", "AsyncClient")},
    **{
        f"{each}.{name}": Adds("_pool")
        for each in ("httpx", "httpx2")
        for name in ("BaseTransport", "AsyncBaseTransport")
    },
    **{
        f"{each}.{name}": _POOL
        for each in ("httpcore", "httpcore2")
        for name in ("ConnectionPool", "AsyncConnectionPool")
    },
    "httpx_aiohttp.transport.AiohttpTransport": Adds("client uds proxy"),
    "litellm.llms.custom_httpx.aiohttp_transport.AiohttpTransport": Adds("client"),
    "requests.Session": _SESSION,
    "requests.adapters.BaseAdapter": Adds("poolmanager", "max_retries config proxy_manager"),
    "aiohttp.ClientSession": _AIOHTTP,
    "aiohttp.BaseConnector": Adds("_path _ssl", "_loop _conns _acquired _resolver _waiters _timeout"),
}
"""By where the class is that all of a kind have among their bases, the nearest last: SDKs rename what they export."""
_MAKERS: Final = frozenset(place.partition(".")[0] for place in KINDS)
_SDKS: Final = frozenset({sdk.module for sdk in SDKS})
_MAKE_THEIR_OWN: Final = _MAKERS | {
    sdk.module.partition(".")[0] for sdk in SDKS if not sdk.module.startswith("google.")
}


def _is_ordinary(module: str) -> bool:
    """Whether clients made there are told by what they add alone: an HTTP library's, and what SDKs make of them."""
    return module.partition(".")[0] in _MAKE_THEIR_OWN or module in _SDKS


@lru_cache(maxsize=1024)
def _adds_of(kind: Any) -> Adds | None:
    """Where a kind of client, or a part of one, has what it adds; `None` for what is neither."""
    for place in reversed(list(KINDS)):
        module, _, name = place.rpartition(".")
        if getattr(sys.modules.get(module), name, None) in kind.__mro__:
            return KINDS[place]
    return None
