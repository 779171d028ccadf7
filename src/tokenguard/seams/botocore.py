"""boto3, which is botocore, and aiobotocore: Amazon Bedrock's runtime.

Every call of every AWS service goes through `_make_api_call` with the name of its operation; the four that run a model
are looked at, and everything else passes untouched. What is read later, an event stream or the body of `InvokeModel`,
gets a subclass of its own class. An event stream that the application stops reading counts as given up.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextvars import ContextVar
from copy import copy
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any

from tokenguard.call.call import AskedBy, Call, current_call
from tokenguard.call.flow import Flow, drive, drive_async
from tokenguard.facts.errors import GuardrailViolation
from tokenguard.metering.meter import Meter
from tokenguard.providers import Api, Reading, Sdk, located
from tokenguard.providers.bedrock import CONVERSE, invoked, read_headers, same_family
from tokenguard.providers.bedrock_media import FILM, FILMS, RANK, rank_body
from tokenguard.seams.common.watch import Watch
from tokenguard.seams.common.wrapping import Restore, replace

SERVICE = "bedrock-runtime"
RANKING = "bedrock-agent-runtime", "Rerank"
"""A service of agents, and its one operation that is a call to a model of one's own choice."""
OPERATIONS = {
    "Converse": False,
    "ConverseStream": True,
    "InvokeModel": False,
    "InvokeModelWithResponseStream": True,
    "StartAsyncInvoke": False,
    "Rerank": False,
}
"""The operations that run a model, and whether they stream."""
CLIENTS = {
    "botocore.client": ("", "botocore.endpoint"),
    "aiobotocore.client": ("Aio", "aiobotocore.endpoint"),
}
"""By watched module: what its classes' names begin with, and where the class is that resends."""

resend_cap: ContextVar[int | None] = ContextVar("tokenguard_resend_cap", default=None)
"""How often botocore may resend what it is sending now; `None` leaves that to botocore."""


class BedrockExchange:
    """One request of a Bedrock client."""

    __slots__ = ("_client", "_most", "_params", "api", "body", "endpoint", "stream")
    native_span = False

    def __init__(self, client: Any, params: Mapping[str, Any], api: Api, body: Mapping[str, Any], stream: bool) -> None:
        self._client = client
        self._params = params
        self._most: int | None = None
        self.api = api
        self.body: Mapping[str, Any] = {"model": params.get("modelId"), **body}
        self.endpoint, _ = located(client.meta.endpoint_url, "aws.bedrock")
        self.stream = stream

    def send(self, make_api_call: Callable[[Mapping[str, Any]], Any]) -> Any:
        """Have it sent, with the parameters and the resends that it has by now."""
        resend_cap.set(self._most)
        call = current_call.get()
        if call is not None and "body" in self._params:
            call.reads_later = True
        return make_api_call(self._params)

    def replace_body(self, body: Mapping[str, Any]) -> None:
        """Send this body instead; its model goes back where Bedrock wants it."""
        own = dict(body)
        model = own.pop("model", None)
        if "modelInput" in self._params:
            own = {**self._params, "modelInput": own}
        if "body" in self._params:
            if len(self.body) == 1:
                raise GuardrailViolation(
                    f"{self.body['model']}: the body of this InvokeModel request is no JSON object, so it cannot be "
                    'changed. Give it as JSON, or use a limit with then = "block".',
                    rule="",
                )
            if not same_family(self.body["model"], model):
                raise GuardrailViolation(
                    f"{self.body['model']}: the body of an InvokeModel request is in the format of its model's family, "
                    f"so it cannot be sent to {model}. Name a model of the same family, or use Converse.",
                    rule="",
                )
            own = {**self._params, "body": json.dumps(own).encode()}
        self._params = {**own, "modelId": model}

    def cap_retries(self, most: int) -> None:
        """Let botocore send the request again this often at the most."""
        self._most = most

    @property
    def shared_as(self) -> object:
        """See `Exchange.shared_as`."""
        return None if self.api.changes or self.asked_by is None else "http"

    @property
    def asked_by(self) -> AskedBy | None:
        """What an answer depends on besides the body: the other parameters, whose the key is; `None` without one."""
        if "body" in self._params and len(self.body) == 1:
            return None  # no JSON object: what is said is not known here
        own = {name: value for name, value in self._params.items() if name != "body"} if "body" in self._params else {}
        holder: Any = vars(getattr(self._client, "_request_signer", None) or self).get("_credentials")
        key = None if holder is None else vars(holder).get("access_key") or vars(holder).get("_access_key")
        return AskedBy(self._client.meta.endpoint_url, more=(sorted(own.items()), key))

    def read(self, result: Any, call: Call) -> Reading | None:
        """Read a Converse response; have the others watched."""
        if self.stream:
            stream = result["body" if "body" in self._params else "stream"]
            _watch(stream, EventWatch(call, _event), STREAM_METHODS)
        elif "body" in self._params:
            _watch(result["body"], BodyWatch(call, result["ResponseMetadata"].get("HTTPHeaders", {})), BODY_METHODS)
        else:
            return call.read(result)
        return None


class RankExchange(BedrockExchange):
    """One rank, by the service of agents: its model is named deep within the parameters."""

    __slots__ = ()

    def __init__(self, client: Any, params: Mapping[str, Any]) -> None:
        super().__init__(client, params, RANK, rank_body(params), False)

    def replace_body(self, body: Mapping[str, Any]) -> None:
        """Nothing of a rank is changed."""
        if body.get("model") != self.body.get("model"):
            raise GuardrailViolation(
                f"{self.body.get('model')}: a rank by bedrock-agent-runtime keeps its model, and cannot go to "
                f'{body.get("model")}. Name that model in the request, or use a limit with then = "block".',
                rule="",
            )


_encode = json.JSONEncoder(default=repr).encode
"""Events may hold bytes; `json.dumps` would make an encoder for each of them."""


def _event(event: Mapping[str, Any]) -> bytes:
    """An event of a stream as JSON: as it is, or the model's own within the chunk that carries it."""
    chunk = event.get("chunk")
    data = _encode(event).encode() if chunk is None else bytes(chunk["bytes"])
    return b"data: " + data + b"\n\n"


class EventWatch(Watch):
    """Watches an event stream, whose reader may take its events apart: langchain-aws takes the usage out of them."""

    __slots__ = ()

    def _keeping(self) -> Callable[[Any], None]:
        keep = self._items.append

        def keep_copy(event: Mapping[str, Any]) -> None:
            try:
                keep({name: copy(value) for name, value in event.items()})
            except Exception as error:
                self._call.internal_error("keeping an event", error)

        return keep_copy


class BodyWatch(Watch):
    """Watches the body of an `InvokeModel` response, which the application reads as it likes, or never."""

    __slots__ = ()

    def __init__(self, call: Call, headers: Mapping[str, str]) -> None:
        usage = read_headers(headers)
        super().__init__(call, bytes, None if usage is None else Reading(usage=usage))

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """A piece of the body is read meanwhile; if that fails, the body is over."""
        try:
            yield
        except BaseException as error:
            self.over(error)
            raise

    def read_of(self, body: Any, piece: bytes, amount: int | None) -> None:
        """A piece of the body was read: `amount` was asked for, or all of the rest. Never raises."""
        try:
            self.keep(bytes(piece))
            size = body._content_length
            whole = size is not None and body._amount_read >= int(size)
            if whole or amount is None or amount < 0 or (amount > 0 and not piece):
                self.over(None)
        except Exception as error:
            self._call.internal_error("watching a body", error)

    def _events(self, items: list[bytes]) -> bytes:
        return b"".join(items)

    def _fold(self, events: bytes) -> Reading:
        if self._otherwise is not None and not self._call.api.caps and self._call.api.units is None:
            return self._otherwise  # no need to decode vectors
        return self._call.read(json.loads(events))


# --- subclasses of the SDK's streams ---------------------------------------------------------------------------------


def _watch(stream: Any, watch: Watch, methods: Mapping[str, Callable[[Any], Any]]) -> None:
    """Have a stream watched from now on."""
    kind: Any = type(stream)
    try:
        stream.__class__ = _watched(kind, tuple(methods.items()))
    except TypeError:  # aiobotocore 2's bodies are proxies of another object: what the headers said must do
        watch.over(None)
    else:
        stream._tokenguard_watch = watch


@lru_cache(maxsize=64)
def _watched(base: Any, methods: tuple[tuple[str, Callable[[Any], Any]], ...]) -> Any:
    """A subclass that is named like its base, with those of the methods wrapped that it has."""
    own = {name: make(getattr(base, name)) for name, make in methods if hasattr(base, name)}
    return type(base.__name__, (base,), {**own, "__module__": base.__module__, "__qualname__": base.__qualname__})


def _iterating(original: Any) -> Any:
    def iterate(self: Any) -> Any:
        return self._tokenguard_watch.read(original(self))

    return iterate


def _aiterating(original: Any) -> Any:
    def iterate(self: Any) -> Any:
        return self._tokenguard_watch.aread(original(self))

    return iterate


def _closing(original: Any) -> Any:
    def close(self: Any) -> Any:
        closed = original(self)  # a coroutine, in one of aiobotocore's transports
        self._tokenguard_watch.closed()
        return closed

    return close


def _reading(original: Any) -> Any:
    """`read`, of either kind: what it returns is a piece of the body, all of the rest of it without an amount."""

    def read(self: Any, amt: int | None = None) -> Any:
        with self._tokenguard_watch.failing():
            piece = original(self, amt)
        self._tokenguard_watch.read_of(self, piece, amt)
        return piece

    async def aread(self: Any, amt: int | None = None) -> Any:
        with self._tokenguard_watch.failing():
            piece = await original(self, amt)
        self._tokenguard_watch.read_of(self, piece, amt)
        return piece

    return aread if inspect.iscoroutinefunction(original) else read


def _reading_into(original: Any) -> Any:
    """`readinto`, of either kind."""

    def readinto(self: Any, b: Any) -> Any:
        with self._tokenguard_watch.failing():
            size = original(self, b)
        self._tokenguard_watch.read_of(self, b[:size], len(b))
        return size

    async def areadinto(self: Any, b: Any) -> Any:
        with self._tokenguard_watch.failing():
            size = await original(self, b)
        self._tokenguard_watch.read_of(self, b[:size], len(b))
        return size

    return areadinto if inspect.iscoroutinefunction(original) else readinto


STREAM_METHODS = {"__iter__": _iterating, "__aiter__": _aiterating, "close": _closing}
BODY_METHODS = {"read": _reading, "readinto": _reading_into, "close": _closing, "aclose": _closing}


# --- the seam --------------------------------------------------------------------------------------------------------


def _exchange(client: Any, operation: str, params: Any) -> BedrockExchange | None:
    """The request as an exchange, or `None` when it is no model call."""
    service = client.meta.service_model.service_name
    if not isinstance(params, Mapping) or (service != SERVICE) is (operation != RANKING[1]):
        return None
    if operation == RANKING[1]:
        return RankExchange(client, params) if service == RANKING[0] else None
    api: Api | None
    body: Mapping[str, Any]
    if operation.startswith("Converse"):
        api, body = CONVERSE, {key: value for key, value in params.items() if key != "modelId"}
    elif operation == "StartAsyncInvoke":
        given = params.get("modelInput")
        body = given if isinstance(given, Mapping) else {}
        api = FILM if FILMS.search(str(params.get("modelId"))) else None
    else:
        body = _parsed(params.get("body"))
        api = invoked(body, str(params.get("modelId")))
    return None if api is None else BedrockExchange(client, params, api, body, OPERATIONS[operation])


def _parsed(given: Any) -> Mapping[str, Any]:
    """The JSON object in the body of an `InvokeModel` request, which may be a file; empty where it is none."""
    if hasattr(given, "read") and hasattr(given, "seek"):
        at = given.tell()
        data = given.read()
        given.seek(at)
    else:
        data = given
    try:
        body = json.loads(data) if isinstance(data, str | bytes | bytearray) else {}
    except ValueError:
        return {}
    return body if isinstance(body, Mapping) else {}


def _asked(meter: Meter, params: Mapping[str, Any], result: Any) -> None:
    """See whether somebody has asked for a film that is being made, and whether it is there."""
    call = meter.pending.waits(f"/{params['invocationArn']}")
    if call is not None:
        meter.pending.seen(call, result)


def patch(module: ModuleType, meter: Meter, sdk: Sdk) -> Restore:
    """Wrap what sends and resends in `botocore.client` or `aiobotocore.client`; returns what to restore."""
    prefix, endpoints = CLIENTS[sdk.module]
    restore = Restore()
    wrap = functools.partial(replace, restore)

    def ask(operation: str, params: Any, result: Any) -> Any:
        """Pass on the result of a request that is no model call; it may bring the end of one."""
        if operation == "GetAsyncInvoke" and meter.pending:
            meter.contain("asking for a response", _asked, meter, params, result)
        return result

    def look(client: Any, operation: str, params: Any) -> BedrockExchange | None:
        if operation not in OPERATIONS:
            return None
        return meter.look(_exchange, client, operation, params)

    def make_api_call(original: Any) -> Any:
        def call(self: Any, operation_name: str, api_params: Any) -> Any:
            exchange = look(self, operation_name, api_params)
            if exchange is None:
                return ask(operation_name, api_params, original(self, operation_name, api_params))
            make = functools.partial(original, self, operation_name)
            return drive(meter.flow(exchange), lambda: exchange.send(make))

        async def acall(self: Any, operation_name: str, api_params: Any) -> Any:
            exchange = look(self, operation_name, api_params)
            if exchange is None:
                return ask(operation_name, api_params, await original(self, operation_name, api_params))
            make = functools.partial(original, self, operation_name)
            return await drive_async(meter.flow(exchange), lambda: exchange.send(make))

        return acall if inspect.iscoroutinefunction(original) else call

    def needs_retry(original: Any) -> Any:
        # Signing a request may call another service, whose resends are its own.
        def refused(attempts: int, operation: Any) -> bool:
            most = resend_cap.get()
            return most is not None and attempts > most and _is_sending(operation)

        def resent(again: bool, operation: Any, *outcome: Any) -> Flow | None:
            call = current_call.get() if again and _is_sending(operation) else None
            return None if call is None else meter.resent(call, meter.contain("seeing a resend", _caught, *outcome))

        def ask(self: Any, attempts: int, operation_model: Any, request_dict: Any, *args: Any, **kwargs: Any) -> Any:
            if refused(attempts, operation_model):
                return False
            again = original(self, attempts, operation_model, request_dict, *args, **kwargs)
            flow = resent(again, operation_model, args, kwargs)
            return again if flow is None else drive(flow, lambda: again)

        async def aask(
            self: Any, attempts: int, operation_model: Any, request_dict: Any, *args: Any, **kwargs: Any
        ) -> Any:
            if refused(attempts, operation_model):
                return False
            again = await original(self, attempts, operation_model, request_dict, *args, **kwargs)
            flow = resent(again, operation_model, args, kwargs)
            return again if flow is None else await drive_async(flow, _same(again))

        return aask if inspect.iscoroutinefunction(original) else ask

    def create_client(original: Any) -> Any:
        def create(*args: Any, **kwargs: Any) -> Any:  # its value may be a coroutine: it is passed on as it is
            if SERVICE in (*args[1:2], kwargs.get("service_name")):  # models will be called
                meter.contain("loading the prices", meter.settling.prices.warm)
            return original(*args, **kwargs)

        return create

    wrap(module, f"{prefix}ClientCreator.create_client", create_client, optional=True)
    wrap(module, f"{prefix}BaseClient._make_api_call", make_api_call)
    wrap(import_module(endpoints), f"{prefix}Endpoint._needs_retry", needs_retry, optional=True)
    return restore


def _same(value: bool) -> Callable[[], Awaitable[bool]]:
    async def same() -> bool:
        return value

    return same


def _is_sending(operation: Any) -> bool:
    """Whether it is a call of ours that botocore sends with this operation."""
    return operation.name in OPERATIONS and current_call.get() is not None


def _caught(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BaseException | None:
    """The exception of an attempt, of `_needs_retry(..., response=None, caught_exception=None)`."""
    error = args[1] if len(args) > 1 else kwargs.get("caught_exception")
    return error if isinstance(error, BaseException) else None
