"""xai-sdk, which talks gRPC: every request goes through a method of the generated stubs for chat, pictures and films.

A stub keeps its methods as values of its own, made from the channel; what stands in the class in their place hands them
out metered, whenever the stub was made. The messages are read into plain values, and a request is changed in a copy.

A deferred request is a call from its start to the answer that says it is done, or to where the SDK stops asking.

The SDK starts a span for nearly every call, and has it current by the time it sends: that span gets our facts. What
gRPC itself sends again, when the provider is unavailable, happens inside its core and cannot be seen or capped.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from types import ModuleType
from typing import Any

from opentelemetry import trace

from tokenguard.call.call import AskedBy, Call
from tokenguard.call.flow import drive, drive_async
from tokenguard.facts import names
from tokenguard.metering.meter import Meter
from tokenguard.providers import Reading, Sdk, api_of, located
from tokenguard.providers.xai import SERVICE
from tokenguard.seams.common.parts import Parts
from tokenguard.seams.common.wrapping import Put, Restore, replace

PROVIDER = "x_ai"
HOST = "api.x.ai"
"""Where a client goes that says nothing else, the SDK's default."""
STUBS: Mapping[str, tuple[str, ...]] = {
    "Chat": ("GetCompletion", "GetCompletionChunk", "StartDeferredCompletion", "CompactContext"),
    "Image": ("GenerateImage",),
    "Video": ("GenerateVideo", "ExtendVideo"),
}
"""The methods of each stub that run a model; a stub's module of the SDK has its name in lower case."""
STREAMED = "GetCompletionChunk"
DEFERRED = frozenset({"StartDeferredCompletion", "GenerateVideo", "ExtendVideo"})
ASKING = {"Chat": "GetDeferredCompletion", "Video": "GetDeferredVideo"}
"""The methods that ask for what a deferred request has come to."""
OTHER_WAYS = ("with_call", "future")
"""How else a method can be called; the SDK does not, and what does is not measured."""
awaited: ContextVar[str | None] = ContextVar("tokenguard_xai_deferred", default=None)
"""The id of the deferred request that was started last, and is asked for now."""
NOTED = "tokenguard_host"
"""Where a stub has a note of its client's host."""

# --- reading and changing messages ------------------------------------------------------------------------------------


def plain(message: Any) -> dict[str, Any]:
    """A protobuf message as plain values: what is set, by its name; enumerations by the names of their values.

    Which of several fields was chosen (`oneof`) is told as `type`, as JSON formats do; a role is `user`, as there.
    """
    said: dict[str, Any] = {}
    for field, value in message.ListFields():
        said[field.name] = _value(field, value)
        chosen = field.containing_oneof
        if chosen is not None and not chosen.name.startswith("_"):  # an optional field is a oneof, too
            said.setdefault("type", field.name)
    return said


def _value(field: Any, value: Any) -> Any:
    kind = type(value)
    if kind is str or kind is bool or kind is bytes:
        return value
    if kind is int:
        return value if field.enum_type is None else _named(field, value)
    if kind is float:
        return round(value, 6)  # most are single precision: 0.7 comes back as 0.699999988
    if hasattr(value, "ListFields"):
        return plain(value)
    if hasattr(value, "items"):
        return {str(key): _value(field.message_type.fields_by_name["value"], each) for key, each in value.items()}
    return [_value(field, each) for each in value]


def _named(field: Any, number: int) -> str | int:
    known = field.enum_type.values_by_number.get(number)
    if known is None:  # newer than the SDK
        return number
    name: str = known.name
    return name.removeprefix("ROLE_").lower() if field.name == "role" else name


def _event(chunk: Any) -> bytes:
    """A chunk of a stream as an event."""
    return b"data: " + json.dumps(plain(chunk), default=str).encode() + b"\n\n"


class RpcExchange:
    """One request of a stub."""

    __slots__ = (
        *("_args", "_kwargs", "_method", "_original", "_request"),
        *("api", "body", "endpoint", "instead", "native_span", "stream"),
    )

    def __init__(self, stub: Any, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._method = method
        self._original = stub.__dict__[method]
        self._args = args
        self._kwargs = kwargs
        self._request = args[0] if args else kwargs["request"]
        self.body: Mapping[str, Any] = plain(self._request)
        api = api_of(f"{SERVICE}{type(stub).__name__.removesuffix('Stub')}/{method}", PROVIDER)
        assert api is not None, "each method has a format"
        self.api = api
        self.endpoint, _ = located(f"https://{stub.__dict__.get(NOTED, HOST).rpartition('/')[2]}", PROVIDER)
        self.stream = method == STREAMED
        self.native_span = _own_span()
        self.instead: Any = None
        """What the caller gets instead of the stream: one that is watched."""

    @property
    def shared_as(self) -> object:
        """What identical requests must agree on to share an answer; a deferred one is asked for by its own id."""
        return None if self.stream or self._method in DEFERRED else self._method

    @property
    def asked_by(self) -> AskedBy | None:
        """Nothing: an answer of gRPC cannot be given back."""
        return None

    def cap_retries(self, most: int) -> None:
        """Nothing: how often gRPC sends again is a setting of the channel."""

    def replace_body(self, body: Mapping[str, Any]) -> None:
        """Send a copy of the caller's request, with what differs from it in this body."""
        request = type(self._request)()
        request.CopyFrom(self._request)
        for key, value in body.items():
            if value is not self.body.get(key):
                setattr(request, key, value)
        if self._args:
            self._args = (request, *self._args[1:])
        else:
            self._kwargs = {**self._kwargs, "request": request}

    def send(self) -> Any:
        """Have it sent, as it is by now."""
        return self._original(*self._args, **self._kwargs)

    def read(self, result: Any, call: Call) -> Reading | None:
        """Read a message; put a watch on a stream of them."""
        if self._method in DEFERRED:
            awaited.set(result.request_id)
        if not self.stream:
            return call.hear(plain(result))
        parts = Parts(call, _event)
        self.instead = parts.aread(result) if hasattr(result, "__aiter__") else Stream(result, parts)
        return None


def _own_span() -> trace.Span | bool:
    """The span that the SDK has started for what it is about to send, if it has."""
    span = trace.get_current_span()
    scope = getattr(span, "instrumentation_scope", None)
    return span if span.is_recording() and str(getattr(scope, "name", "")).startswith("xai_sdk.") else False


# --- the seam ---------------------------------------------------------------------------------------------------------


class Method:
    """Stands in a stub's class for a method that each stub keeps as its own value."""

    def __init__(self, name: str, metered: Callable[[Any, str], Any]) -> None:
        self._name = name
        self._metered = metered

    def __get__(self, stub: Any, owner: type | None = None) -> Any:
        return self if stub is None else self._metered(stub, self._name)

    def __set__(self, stub: Any, value: Any) -> None:
        stub.__dict__[self._name] = value


class Stream:
    """A stream that is watched; whatever else it can do is gRPC's own."""

    __slots__ = ("_call", "_parts")

    def __init__(self, call: Any, watch: Parts) -> None:
        self._call = call
        self._parts = watch.read(call)

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Any:
        return next(self._parts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


class LateStream:
    """An asynchronous stream whose request takes the meter's path when the first part is asked for."""

    __slots__ = ("_open", "_parts")

    def __init__(self, start: Callable[[], Awaitable[Any]]) -> None:
        self._open = start
        self._parts: Any = None

    def __aiter__(self) -> LateStream:
        return self

    async def __anext__(self) -> Any:
        if self._parts is None:
            self._parts = aiter(await self._open())
        return await anext(self._parts)


def patch(module: ModuleType, meter: Meter, sdk: Sdk) -> Restore:
    """Wrap what is in one of the SDK's modules: the stub that it uses, its clients, or its chats."""
    restore = Restore()
    if module.__name__ == "xai_sdk.client":
        replace(restore, module, "BaseClient.__init__", lambda original: _noting_host(original, meter))
        return restore
    kind = module.__name__.rpartition(".")[2].capitalize()
    if module.__name__.count(".") > 1:  # of the synchronous, or of the asynchronous clients
        replace(restore, module, "Chat._defer", lambda original: _deferring(original, meter), optional=True)
        return restore
    generated, asking = getattr(module, f"{kind.lower()}_pb2_grpc"), ASKING.get(kind)
    for name in filter(None, (*STUBS[kind], asking)):
        if hasattr(getattr(generated, f"{kind}Servicer"), name):  # a version without it has it nowhere
            make = _asking if name == asking else _metered
            stub = getattr(generated, f"{kind}Stub")
            restore.placed.append(Put(stub, name, Method(name, functools.partial(make, meter))))
    return restore


def _noting_host(original: Callable[..., None], meter: Meter) -> Callable[..., None]:
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        meter.contain("noting a host", _note_host, self, kwargs.get("api_host") or HOST)

    return init


def _note_host(client: Any, host: str) -> None:
    for kind in STUBS:
        made = getattr(client, kind.lower(), None)
        if made is not None:  # a version without it has none
            setattr(made._stub, NOTED, host)


def _asynchronous(method: Any) -> bool:
    return any(kind.__module__.startswith("grpc.aio") for kind in type(method).__mro__)


def _metered(meter: Meter, stub: Any, name: str) -> Any:
    original = stub.__dict__[name]

    def look(args: tuple[Any, ...], kwargs: dict[str, Any]) -> RpcExchange | None:
        return meter.look(RpcExchange, stub, name, args, kwargs)

    def call(*args: Any, **kwargs: Any) -> Any:
        exchange = look(args, kwargs)
        if exchange is None:
            return original(*args, **kwargs)
        result = drive(meter.flow(exchange), exchange.send)
        return result if exchange.instead is None else exchange.instead

    async def acall(*args: Any, **kwargs: Any) -> Any:
        exchange = look(args, kwargs)
        if exchange is None:
            return await original(*args, **kwargs)
        return await drive_async(meter.flow(exchange), exchange.send)

    def astream(*args: Any, **kwargs: Any) -> Any:
        async def start() -> Any:
            exchange = look(args, kwargs)
            if exchange is None:
                return original(*args, **kwargs)

            async def send() -> Any:
                return exchange.send()

            result = await drive_async(meter.flow(exchange), send)
            return result if exchange.instead is None else exchange.instead

        return LateStream(start)

    if _asynchronous(original):
        return astream if name == STREAMED else acall
    for way in OTHER_WAYS:
        if hasattr(original, way):
            setattr(call, way, getattr(original, way))
    return call


def _asking(meter: Meter, stub: Any, name: str) -> Any:
    """What asks for a deferred completion; its answer may bring the end of a call."""
    original = stub.__dict__[name]

    def asked(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
        if meter.pending:
            meter.contain("asking for a response", _asked, meter, args[0] if args else kwargs["request"], result)
        return result

    def call(*args: Any, **kwargs: Any) -> Any:
        return asked(args, kwargs, original(*args, **kwargs))

    async def acall(*args: Any, **kwargs: Any) -> Any:
        return asked(args, kwargs, await original(*args, **kwargs))

    return acall if _asynchronous(original) else call


def _asked(meter: Meter, request: Any, result: Any) -> None:
    status = plain(result).get("status")
    if status == "PENDING" or (call := meter.pending.ended(request.request_id)) is None:
        return
    said = plain(result.response)
    if status == "DONE" or "error" in said:
        call.finish(call.read(said))
    else:
        call.finish(None, outcome=names.ERROR, error=str(status).lower())


def _deferring(original: Callable[..., Any], meter: Meter) -> Callable[..., Any]:
    """What starts a deferred request and asks until it is done; where it gives up, nobody will ask any more."""

    def defer(*args: Any, **kwargs: Any) -> Any:
        awaited.set(None)
        try:
            return original(*args, **kwargs)
        except BaseException as error:
            meter.contain("giving up", _given_up, meter, error)
            raise

    async def adefer(*args: Any, **kwargs: Any) -> Any:
        awaited.set(None)
        try:
            return await original(*args, **kwargs)
        except BaseException as error:
            meter.contain("giving up", _given_up, meter, error)
            raise

    return adefer if inspect.iscoroutinefunction(original) else defer


def _given_up(meter: Meter, error: BaseException) -> None:
    started = awaited.get()
    if started is not None and (call := meter.pending.ended(started)) is not None:
        call.finish(None, outcome=names.ERROR if isinstance(error, Exception) else names.ABANDONED, error=error)
