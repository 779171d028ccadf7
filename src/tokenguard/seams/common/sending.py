"""What the SDKs have in common that send a JSON body through an HTTP client and are not of the Stainless family.

Each has a method that gets the body among its keyword arguments and brings back an HTTP response, the SDK's own model
of it, or an iterator over the parts of a stream. A seam says where the body is (`Look`) and names the method; `wrap`
puts the meter around it, whether it is a function, a coroutine or a context manager.
"""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import Any

from tokenguard.call.call import LATER, AskedBy, Call, current_call
from tokenguard.call.failures import Refused
from tokenguard.call.flow import Flow, drive, drive_async
from tokenguard.facts import names
from tokenguard.metering.meter import Meter
from tokenguard.providers import Api, Endpoint, Reading
from tokenguard.seams.common.parts import Parts
from tokenguard.seams.common.tap import decoded_body, tap
from tokenguard.seams.common.wrapping import Restore, replace


class SentExchange:
    """One request of such an SDK."""

    __slots__ = (
        "_asked_by",
        "_cap",
        "_encode",
        "_kind",
        "_put",
        "_watch",
        "api",
        "body",
        "endpoint",
        "instead",
        "native_span",
        "sends_later",
        "stream",
    )

    def __init__(
        self,
        api: Api,
        endpoint: Endpoint,
        body: Mapping[str, Any],
        stream: bool,
        put: Callable[[Mapping[str, Any]], None],
        *,
        kind: object = None,
        cap: Callable[[int], None] | None = None,
        native_span: bool = False,
        encode: Callable[[Any], bytes] | None = None,
        watch: Callable[[Any, Call], None] | None = None,
        asked_by: Callable[[], AskedBy] | None = None,
        sends_later: bool = False,
    ) -> None:
        self.api = api
        self.endpoint = endpoint
        self.body = body
        self.stream = stream
        self._put = put
        """Sends another body."""
        self._kind = kind
        """What the result's type depends on, besides the request."""
        self._cap = cap
        """Limits the SDK's own resends, where it has any."""
        self.native_span = native_span
        self._encode = encode
        """The bytes of a part of a stream, where that is an iterator and not an HTTP body."""
        self._watch = watch
        """Watches a response that is neither httpx's nor a model, and is yet to be read."""
        self._asked_by = asked_by
        """What an answer depends on besides the body (`Exchange.asked_by`)."""
        self.sends_later = sends_later
        """Whether the request goes out when its answer is first read."""
        self.instead: Any = None
        """What the caller gets instead of the SDK's iterator: one that is watched."""

    @property
    def shared_as(self) -> object:
        """See `Exchange.shared_as`: a stream that is no HTTP body has but one reader."""
        if self.stream and self._asked_by is None:
            return None
        return LATER if self.sends_later else self._kind

    @property
    def asked_by(self) -> AskedBy | None:
        """What an answer depends on besides the body; `None` where it cannot be given back."""
        return None if self._asked_by is None else self._asked_by()

    def replace_body(self, body: Mapping[str, Any]) -> None:
        """Send this body instead."""
        self._put(body)

    def cap_retries(self, most: int) -> None:
        """Let the SDK send the request again this often at the most."""
        if self._cap is not None:
            self._cap(most)

    def hear(self, answer: Any, call: Call) -> Reading:
        """What an answer of the SDK's says; a seam that completes it reads it at once."""
        return call.hear(answer)

    def read(self, result: Any, call: Call) -> Reading | None:
        """Read a response, JSON bytes or a model; put a tap on what is yet to be read."""
        if self.stream and self._encode is not None:
            parts = Parts(call, self._encode, sends_later=self.sends_later)
            self.instead = parts.aread(result) if hasattr(result, "__aiter__") else parts.read(result)
            return None
        status = getattr(result, "status_code" if self._watch is None else "status", 200)
        if status >= 400:  # the SDK raises it later
            call.finish(None, outcome=names.ERROR, error=Refused(status))
            return None
        call.came_with(getattr(result, "headers", None))
        if self._watch is not None:
            self._watch(result, call)
            return None
        whole = result if isinstance(result, bytes) else getattr(result, "_body", None)  # aiohttp's, if it is read
        if isinstance(whole, bytes):
            return call.api.fold(whole) if self.stream else call.hear(json.loads(whole))
        if not hasattr(result, "iter_bytes"):  # a model of the SDK's
            return self.hear(result, call)
        if not self.stream and hasattr(result, "_content"):
            return call.hear(decoded_body(result))
        tap(result, call)
        return None


Look = Callable[[Any, list[Any], dict[str, Any]], SentExchange | None]
"""From an SDK's client and the arguments of its method to the exchange; `None` for what is no model call.

The arguments are the call's own: the exchange changes the request by changing them.
"""


Seen = Callable[[Mapping[str, Any], Any], None]
"""Looks at the keyword arguments and the result of a request that is no model call: it may end one that is open."""
_FlowOf = Callable[[Any, list[Any], dict[str, Any]], tuple[Flow | None, SentExchange | None]]
"""What is to run around a request, and the exchange where it is a model call."""
BatchOf = Callable[[Mapping[str, Any]], Any]
"""From the keyword arguments of a request that is no model call to what `Meter.batches` takes; `None` for any other."""


def wrap(
    owner: Any,
    path: str,
    look: Look,
    meter: Meter,
    restore: Restore,
    seen: Seen | None = None,
    *,
    batch: BatchOf | None = None,
    optional: bool = False,
) -> None:
    """Put the meter around the method at `path` of `owner`; a version of the SDK without it is left alone.

    `seen` is shown what comes of other requests while calls are open that the provider goes on with. `batch` tells
    which of them are a batch API's.
    """

    def other(kwargs: Mapping[str, Any], result: Any) -> Any:
        if seen is not None and meter.pending:
            meter.contain("asking for a response", seen, kwargs, result)
        return result

    def batched(kwargs: Mapping[str, Any]) -> Flow | None:
        if batch is None or meter.batches is None:
            return None
        sent = meter.contain("looking at a batch", batch, kwargs)
        return None if sent is None else meter.batches.flow(sent)

    def flow_of(client: Any, args: list[Any], kwargs: dict[str, Any]) -> tuple[Flow | None, SentExchange | None]:
        call = current_call.get()
        if call is not None and not call.finished:  # a send within a call: the SDK sends it again
            return meter.resent(call, sys.exc_info()[1]), None
        exchange = meter.look(look, client, args, kwargs)
        return batched(kwargs) if exchange is None else meter.flow(exchange), exchange

    make = functools.partial(_wrapper, flow_of=flow_of, other=other)
    replace(restore, owner, path, make, optional=optional)


def _wrapper(original: Any, flow_of: _FlowOf, other: Callable[[Mapping[str, Any], Any], Any]) -> Any:
    inner = inspect.unwrap(original)
    managed = inner is not original  # `@contextmanager` and its asynchronous twin leave the generator behind them
    if managed and inspect.isgeneratorfunction(inner):

        @contextmanager
        def manager(self: Any, *given: Any, **kwargs: Any) -> Iterator[Any]:
            args = list(given)
            with ExitStack() as stack:
                flow, _ = flow_of(self, args, kwargs)

                def send() -> Any:
                    return stack.enter_context(original(self, *args, **kwargs))

                yield send() if flow is None else drive(flow, send)

        return manager
    if managed and inspect.isasyncgenfunction(inner):

        @asynccontextmanager
        async def async_manager(self: Any, *given: Any, **kwargs: Any) -> AsyncIterator[Any]:
            args = list(given)
            async with AsyncExitStack() as stack:
                flow, _ = flow_of(self, args, kwargs)

                def send() -> Awaitable[Any]:
                    return stack.enter_async_context(original(self, *args, **kwargs))

                yield await (send() if flow is None else drive_async(flow, send))

        return async_manager
    if inspect.iscoroutinefunction(inner):

        async def coroutine(self: Any, *given: Any, **kwargs: Any) -> Any:
            args = list(given)
            flow, exchange = flow_of(self, args, kwargs)
            if flow is None:
                return other(kwargs, await original(self, *args, **kwargs))
            result = await drive_async(flow, lambda: original(self, *args, **kwargs))
            return result if exchange is None or exchange.instead is None else exchange.instead

        return coroutine

    def function(self: Any, *given: Any, **kwargs: Any) -> Any:
        args = list(given)
        flow, exchange = flow_of(self, args, kwargs)
        if flow is None:
            return other(kwargs, original(self, *args, **kwargs))
        result = drive(flow, lambda: original(self, *args, **kwargs))
        return result if exchange is None or exchange.instead is None else exchange.instead

    return function
