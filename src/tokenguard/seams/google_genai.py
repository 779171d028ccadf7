"""google-genai: the Gemini API and Vertex AI.

Every request goes through `BaseApiClient._request` or `_async_request`, with its URL, which names the model, and its
body; chats and automatic function calling send each of theirs there. Many other things go the same way, so only the
paths of known wire formats are looked at.

A streamed answer is watched where the SDK reads it, in its own `HttpResponse`, whatever transport it came by (httpx,
httpx2, aiohttp, requests). Resends are tenacity's, and one that the SDK itself makes on aiohttp.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import lru_cache
from types import ModuleType
from typing import Any

from tokenguard.call.call import AskedBy, Call, current_call
from tokenguard.call.flow import drive, drive_async
from tokenguard.facts.patterns import lazy
from tokenguard.facts.tuples import NamedTuple
from tokenguard.metering.meter import Meter
from tokenguard.providers import Api, Endpoint, Reading, Sdk, located
from tokenguard.providers.google import EMBED, api_at, model_in, put_model
from tokenguard.providers.google_caches import CACHE
from tokenguard.seams.common.watch import Watch
from tokenguard.seams.common.wrapping import Restore, replace
from tokenguard.seams.google_batches import batch_flow, wrap_files

EMBEDDINGS_FACTS = lazy(r'"(?P<key>usageMetadata|statistics)"\s*:\s*')
"""What is looked for in an embeddings response, so that the vectors need not be decoded a second time."""


class Target(NamedTuple):
    """What a request's URL says."""

    api: Api
    endpoint: Endpoint
    model: str


class GoogleExchange:
    """One request of a google-genai client."""

    __slots__ = ("_client", "_request", "_url", "api", "body", "endpoint", "options", "stream")
    native_span = False

    def __init__(self, client: Any, request: Any, options: Any, target: Target, stream: bool) -> None:
        self._client = client
        self._request = request
        self._url: str = request.url
        self.options = options
        """The request's own `HttpOptions`, of which the SDK takes how often it may resend."""
        self.api = target.api
        self.endpoint = target.endpoint
        self.body: Mapping[str, Any] = {"model": target.model, **request.data}
        self.stream = stream

    def replace_body(self, body: Mapping[str, Any]) -> None:
        """Send this body instead; its model goes back into the URL, and into each request of a batch of embeddings."""
        if self.api is CACHE:
            self._request.data = dict(body)
        else:
            self._request.url, self._request.data = put_model(self._url, body)

    def cap_retries(self, most: int) -> None:
        """Let the SDK send the request again this often at the most."""
        retries = _retry_options(self._client, self.options)
        asked = getattr(retries, "attempts", None) or DEFAULT_ATTEMPTS
        kind: Any = sys.modules[RETRY_TYPES].HttpRetryOptions
        attempts = min(asked, most + 1) if retries is not None else 1
        capped = kind(attempts=attempts) if retries is None else retries.model_copy(update={"attempts": attempts})
        self.options = _with_retries(capped)

    @property
    def shared_as(self) -> object:
        """See `Exchange.shared_as`."""
        return None if self.api.changes else "http"

    @property
    def asked_by(self) -> AskedBy | None:
        """What an answer depends on besides the body: what the client was made with, and the headers."""
        from tokenguard.answers.whose import by_name  # only where answers are kept or shared

        own = vars(self._client)
        made = {name: value for name, value in own.items() if type(value) is str}
        given = by_name(own.get("_credentials")), by_name(own.get("_async_client_session_request_args"))
        session = getattr(own.get("_http_options"), "aiohttp_client", None)
        clients = own.get("_httpx_client"), own.get("_async_httpx_client"), session
        return AskedBy(self._request.url, [self._request.headers], (made, given), clients=clients)

    def read(self, result: Any, call: Call) -> Reading | None:
        """Read the body, which is there as text, or have its stream watched."""
        call.came_with(result.headers)
        if self.stream:
            result._tokenguard_watch = Watch(call, _event)
            return None
        body = result.response_stream[0] if result.response_stream else ""
        return call.hear(_embeddings_facts(body) if self.api is EMBED else json.loads(body or "{}"))


DEFAULT_ATTEMPTS = 5
"""Attempts of the SDK where its retry options name none (`_RETRY_ATTEMPTS`)."""
RETRY_TYPES = "google.genai.types"


def _retry_options(client: Any, options: Any) -> Any:
    """The retry options in force for a request: its own, or else its client's; `None` where nothing is resent."""
    own = options.get("retry_options") if isinstance(options, Mapping) else getattr(options, "retry_options", None)
    if isinstance(own, Mapping):
        return sys.modules[RETRY_TYPES].HttpRetryOptions(**own)
    return own or getattr(client._http_options, "retry_options", None)


def _with_retries(retries: Any) -> Any:
    """Options that hold nothing else: the SDK has put the others into the request by now."""
    return sys.modules[RETRY_TYPES].HttpOptions(retry_options=retries)


def _event(chunk: str) -> bytes:
    # Line breaks between the values of pretty-printed JSON; within its strings they are escaped.
    return b"data: " + chunk.replace("\n", " ").encode() + b"\n\n"


def _embeddings_facts(body: str) -> Mapping[str, Any]:
    """An embeddings response without its vectors."""
    decode = json.JSONDecoder().raw_decode
    predictions = []
    for found in EMBEDDINGS_FACTS.finditer(body):
        value, _ = decode(body, found.end())
        if found["key"] == "usageMetadata":
            return {"usageMetadata": value}
        predictions.append({"embeddings": {"statistics": value}})
    return {"predictions": predictions}


@lru_cache(maxsize=512)
def _target(url: str, vertex: bool) -> Target | None:
    """What a URL asks for; `None` for one that is no model call."""
    api, model = api_at(url, {}), model_in(url)
    if api is None or model is None:
        return None
    endpoint, _ = located(url, "gcp.vertex_ai" if vertex else "gcp.gemini")
    return Target(api, endpoint, model)


def _cached(request: Any, vertex: bool) -> Target | None:
    """A request that makes an explicit cache, whose model is in its body."""
    if not request.url.partition("?")[0].endswith(CACHE.paths):
        return None
    endpoint, _ = located(request.url, "gcp.vertex_ai" if vertex else "gcp.gemini")
    return Target(CACHE, endpoint, str(request.data.get("model")))


def _exchange(client: Any, request: Any, options: Any, stream: bool) -> GoogleExchange | None:
    """The request as an exchange, or `None` when it is no model call."""
    if request.method not in ("post", "POST") or not isinstance(request.data, Mapping):
        return None
    target = _target(request.url, bool(client.vertexai)) or _cached(request, bool(client.vertexai))
    if target is None:
        return None
    if (retries := _retry_options(client, options)) is not None:
        # As the request's own, so that tenacity is set up now, with the hook below.
        options = _with_retries(retries)
    return GoogleExchange(client, request, options, target, stream)


def _asked(meter: Meter, request: Any, result: Any) -> None:
    """See whether somebody has asked for a film that is being made, and whether it is there."""
    data = request.data if isinstance(request.data, Mapping) else {}
    call = meter.pending.waits(f"/{data.get('operationName') or request.url}")
    body = result.response_stream[0] if result.response_stream else ""
    if call is not None and isinstance(body, str):
        meter.pending.seen(call, json.loads(body or "{}"))


def _rented(meter: Meter, request: Any, result: Any) -> None:
    """See what becomes of a cache: it was asked for, given another lifetime, or deleted."""
    rent = meter.rents.waits(request.url)
    body = result.response_stream[0] if result.response_stream else ""
    if rent is not None and isinstance(body, str):
        meter.rents.seen(rent, str(request.method).lower() == "delete", json.loads(body or "{}"))


def patch(module: ModuleType, meter: Meter, sdk: Sdk) -> Restore:
    """Wrap what sends, resends and streams in `google.genai._api_client`; returns what to restore."""
    restore = Restore()
    wrap = functools.partial(replace, restore, module)

    def ask(request: Any, result: Any) -> Any:
        """Pass on the result of a request that is no model call; it may bring the end of one."""
        if meter.pending:
            meter.contain("asking for a response", _asked, meter, request, result)
        if meter.rents:
            meter.contain("seeing what is rented", _rented, meter, request, result)
        return result

    def request(original: Any) -> Any:
        def request(self: Any, http_request: Any, http_options: Any = None, stream: bool = False) -> Any:
            exchange = meter.look(_exchange, self, http_request, http_options, stream)
            if exchange is None and (flow := batch_flow(meter, self, http_request)) is not None:
                return drive(flow, lambda: original(self, http_request, http_options, stream))
            if exchange is None:
                return ask(http_request, original(self, http_request, http_options, stream))
            return drive(meter.flow(exchange), lambda: original(self, http_request, exchange.options, stream))

        return request

    def async_request(original: Any) -> Any:
        async def request(self: Any, http_request: Any, http_options: Any = None, stream: bool = False) -> Any:
            exchange = meter.look(_exchange, self, http_request, http_options, stream)
            if exchange is None and (flow := batch_flow(meter, self, http_request)) is not None:
                return await drive_async(flow, lambda: original(self, http_request, http_options, stream))
            if exchange is None:
                return ask(http_request, await original(self, http_request, http_options, stream))
            send: Callable[[], Any] = lambda: original(self, http_request, exchange.options, stream)  # noqa: E731
            return await drive_async(meter.flow(exchange), send)

        return request

    def request_once(original: Any) -> Any:
        def attempt(*args: Any, **kwargs: Any) -> Any:
            send = functools.partial(original, *args, **kwargs)
            call = current_call.get()
            return send() if call is None else drive(meter.attempt(call), send)

        return attempt

    def async_request_once(original: Any) -> Any:
        async def attempt(*args: Any, **kwargs: Any) -> Any:
            send = functools.partial(original, *args, **kwargs)
            call = current_call.get()
            return await (send() if call is None else drive_async(meter.attempt(call), send))

        return attempt

    def aiohttp_session(original: Any) -> Any:
        async def session(self: Any, *args: Any, **kwargs: Any) -> Any:
            # Asked for again while the SDK handles the failure of its first attempt.
            error, call = sys.exc_info()[1], current_call.get()
            send = functools.partial(original, self, *args, **kwargs)
            if error is None or call is None or not meter.contain("seeing a resend", _caught_while_sending, error):
                return await send()
            return await drive_async(meter.resent(call, error), send)

        return session

    def chunks(original: Any) -> Any:
        def iterate(self: Any) -> Iterator[str]:
            watch: Watch | None = self.__dict__.pop("_tokenguard_watch", None)
            found: Iterator[str] = original(self)
            return found if watch is None else watch.read(found)

        return iterate

    def async_chunks(original: Any) -> Any:
        def iterate(self: Any) -> AsyncIterator[str]:
            watch: Watch | None = self.__dict__.pop("_tokenguard_watch", None)
            found: AsyncIterator[str] = original(self)
            return found if watch is None else watch.aread(found)

        return iterate

    wrap_files(wrap, meter)
    wrap("BaseApiClient._request", request)
    wrap("BaseApiClient._async_request", async_request)
    wrap("BaseApiClient._get_aiohttp_session", aiohttp_session, optional=True)
    wrap("BaseApiClient._request_once", request_once)
    wrap("BaseApiClient._async_request_once", async_request_once)
    wrap("HttpResponse._iter_response_stream", chunks)
    wrap("HttpResponse._aiter_response_stream", async_chunks)
    return restore


def _caught_while_sending(error: BaseException) -> bool:
    """Whether it is the SDK's sending method that caught this error, and not the application around it."""
    trace = error.__traceback__
    return trace is not None and trace.tb_frame.f_code.co_name == "_async_request_once"
