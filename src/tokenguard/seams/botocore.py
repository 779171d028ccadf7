"""boto3, which is botocore, and aiobotocore: Amazon Bedrock's runtime.

Every call of every AWS service goes through `_make_api_call` with the name of its operation. Those that run a model are
looked at here, those of batches in `bedrock_batches`, and everything else passes untouched. An event stream that the
application stops reading counts as given up.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from importlib import import_module
from types import ModuleType
from typing import Any

from tokenguard.call.call import AskedBy, Call, current_call
from tokenguard.call.flow import Flow, drive, drive_async
from tokenguard.facts.errors import GuardrailViolation
from tokenguard.metering.meter import Meter
from tokenguard.providers import Api, Reading, Sdk, located
from tokenguard.providers.bedrock import conversed, guarded, invoked, same_family
from tokenguard.providers.bedrock_media import FILM, FILMS, RANK, rank_body
from tokenguard.seams.bedrock_batches import BedrockBatches
from tokenguard.seams.botocore_streams import BODY_METHODS, STREAM_METHODS, BodyWatch, EventWatch, watch_stream
from tokenguard.seams.common.wrapping import Restore, replace

SERVICE = "bedrock-runtime"
AWS = frozenset({"aiobotocore", "awscrt", "boto3", "botocore", "s3transfer"})
"""Packages whose event handlers do the same for all."""
HANDLERS = "_tokenguard_handlers"
"""Where a client keeps which of its handlers are the program's own."""
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
        from tokenguard.answers.whose import by_name  # only where answers are kept or shared

        if "body" in self._params and len(self.body) == 1:
            return None  # no JSON object: what is said is not known here
        own = {name: value for name, value in self._params.items() if name != "body"} if "body" in self._params else {}
        signer: Any = getattr(self._client, "_request_signer", None)
        holder: Any = getattr(signer, "_credentials", None)
        key = None if holder is None else vars(holder).get("access_key") or vars(holder).get("_access_key")
        handlers = _handlers(self._client)
        if handlers is None:
            return None  # what they add is not known
        config = self._client.meta.config
        sends = [by_name(each) for each in (config.client_cert, config.proxies, config.proxies_config, *handlers)]
        return AskedBy(
            self._client.meta.endpoint_url,
            more=(sorted(own.items()), key, by_name(getattr(signer, "_auth_token", None)), sends),
        )

    def read(self, result: Any, call: Call) -> Reading | None:
        """Read a Converse response; have the others watched."""
        call.came_with(result.get("ResponseMetadata", {}).get("HTTPHeaders"))
        if self.stream:
            stream = result["body" if "body" in self._params else "stream"]
            watch_stream(stream, EventWatch(call, _event), STREAM_METHODS)
        elif "body" in self._params:
            watch_stream(
                result["body"], BodyWatch(call, result["ResponseMetadata"].get("HTTPHeaders", {})), BODY_METHODS
            )
        else:
            return call.hear(result)
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
        api, body = conversed(params.get("modelId")), {key: value for key, value in params.items() if key != "modelId"}
    elif operation == "StartAsyncInvoke":
        given = params.get("modelInput")
        body = given if isinstance(given, Mapping) else {}
        api = FILM if FILMS.search(str(params.get("modelId"))) else None
    else:
        body = _parsed(params.get("body"))
        api = invoked(body, str(params.get("modelId")))
        if api is not None and params.get("guardrailIdentifier"):
            api = guarded(api)
    return None if api is None else BedrockExchange(client, params, api, body, OPERATIONS[operation])


def _handlers(client: Any) -> list[Any] | None:
    """What the program has registered of its own for events of a client, which may change a request as it is made.

    Nobody tells of them but the tree they stand in. A client has some 150 of AWS's, so what was found is kept until
    something is registered: the emitter then has another `_lookup_cache`. `None` if an emitter is unlike botocore's.
    """
    emitter = getattr(client.meta.events, "_emitter", client.meta.events)
    root, stamp = getattr(getattr(emitter, "_handlers", None), "_root", None), getattr(emitter, "_lookup_cache", None)
    if root is None or stamp is None:
        return None
    kept: tuple[Any, list[Any]] = client.__dict__.get(HANDLERS, (None, []))
    before, found = kept
    if before is not stamp:
        nodes = [root]
        for node in nodes:
            nodes += node["children"].values()
        every = [handler for node in nodes for part in node["values"] or () for handler in part]
        found = [handler for handler in every if _package(handler) not in AWS]
        client.__dict__[HANDLERS] = stamp, found
    return found


def _package(handler: Any) -> str:
    while isinstance(handler, functools.partial):
        handler = handler.func
    module = getattr(handler, "__module__", None) or type(handler).__module__
    return str(module).partition(".")[0]


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
    jobs = BedrockBatches(meter)
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
            make = functools.partial(original, self, operation_name)
            if exchange is None:
                if (flow := jobs.flow(self, operation_name, api_params)) is not None:
                    return drive(flow, lambda: make(api_params))
                return ask(operation_name, api_params, make(api_params))
            return drive(meter.flow(exchange), lambda: exchange.send(make))

        async def acall(self: Any, operation_name: str, api_params: Any) -> Any:
            exchange = look(self, operation_name, api_params)
            make = functools.partial(original, self, operation_name)
            if exchange is None:
                if (flow := jobs.flow(self, operation_name, api_params)) is not None:
                    return await drive_async(flow, lambda: make(api_params))
                return ask(operation_name, api_params, await make(api_params))
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
