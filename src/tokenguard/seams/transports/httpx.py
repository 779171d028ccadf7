"""httpx and httpx2, with which most SDKs send."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any

from tokenguard.call.kept import HttpAnswer, LookUp
from tokenguard.guard.fan_out import running_loop
from tokenguard.metering.meter import Meter
from tokenguard.seams.common.wrapping import Restore, replace
from tokenguard.seams.transports import Following, asked, headers_of, heard_above, wanted


def patch(module: ModuleType, meter: Meter) -> Restore:
    """Wrap `send` of the clients in `httpx._client`, or its successor's; returns what to restore."""
    restore = Restore()
    package = module.__name__.partition(".")[0]

    def listen(wire: LookUp, response: Any, waits: bool) -> None:
        if response.status_code != 200:
            return
        headers = response.headers.raw
        if (body := getattr(response, "_content", None)) is not None:
            wire.comes(headers, body)
            return
        broken = import_module(package).ReadError  # whole by now: its client is wrapped while it is being imported
        response.stream = wire.fans_out(headers, response.stream, broken, waits=waits)
        wire.begins(headers, decoded=False)
        response.stream = _heard(module)(response.stream, wire)

    def merged(wire: LookUp, response: Any) -> Any:
        response._content = wire.merge(response._content)
        return response

    def send(original: Any) -> Any:
        def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
            found: Any = meter.look(wanted, request, _where, True)
            if isinstance(found, Following):
                if running_loop() is None or found.landing.done():
                    with found.waiting():
                        landed = found.landing.result()
                    meter.contain("sharing an answer", found.lands, landed)
                found = meter.look(asked, found.call)
            if (wire := found) is None:
                return original(self, request, *args, **kwargs)
            if wire.answer is not None:
                response = _given(module, self, request, wire, wire.answer)
                if not kwargs.get("stream"):
                    response.read()
                return response
            token = heard_above.set(True)
            try:
                response = original(self, request, *args, **kwargs)
            finally:
                heard_above.reset(token)
            merges = wire.merges and response.status_code == 200
            if merges:
                response.read()
            meter.contain("listening to an answer", listen, wire, response, False)
            return merged(wire, response) if merges else response

        return send

    def asend(original: Any) -> Any:
        async def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
            found: Any = meter.look(wanted, request, _where, True)
            if isinstance(found, Following):
                if running_loop() is not None:
                    from asyncio import shield, wrap_future

                    with found.waiting():  # shielded: who is cancelled must not cancel what the others wait for
                        landed = await shield(wrap_future(found.landing))
                    meter.contain("sharing an answer", found.lands, landed)
                found = meter.look(asked, found.call)
            if (wire := found) is None:
                return await original(self, request, *args, **kwargs)
            if wire.answer is not None:
                response = _given(module, self, request, wire, wire.answer)
                if not kwargs.get("stream"):
                    await response.aread()
                return response
            token = heard_above.set(True)
            try:
                response = await original(self, request, *args, **kwargs)
            finally:
                heard_above.reset(token)
            merges = wire.merges and response.status_code == 200
            if merges:
                await response.aread()
            meter.contain("listening to an answer", listen, wire, response, True)
            return merged(wire, response) if merges else response

        return send

    replace(restore, module, "Client.send", send)
    replace(restore, module, "AsyncClient.send", asend)
    return restore


def _where(request: Any) -> tuple[str, str | None]:
    return request.method, request.url.host


def _given(module: ModuleType, client: Any, request: Any, wire: LookUp, answer: HttpAnswer) -> Any:
    """The answer as the client's own kind of response, which is yet to be read."""
    kind: Any = module.Response
    body = _heard(module)(answer.live, None, answer.body)
    headers = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers_of(answer)]
    response = kind(200, headers=headers, stream=body, request=request, extensions={"http_version": b"HTTP/1.1"})
    response.elapsed = datetime.timedelta(0)
    response.default_encoding = client._default_encoding
    wire.given()
    return response


@lru_cache(maxsize=8)
def _heard(module: Any) -> Any:
    """The body of a response: one that is listened to as it is read, one that others read too, or a kept one."""

    class Heard(module.SyncByteStream, module.AsyncByteStream):  # type: ignore[misc] # the transport's
        def __init__(self, inner: Any, wire: LookUp | None, body: bytes = b"") -> None:
            self._inner = inner
            self._wire = wire
            self._body = body

        def __iter__(self) -> Iterator[bytes]:
            if self._inner is None:
                yield self._body
                return
            for chunk in self._inner:
                if self._wire is not None:
                    self._wire.part(chunk)
                yield chunk
            if self._wire is not None:
                self._wire.ends()

        async def __aiter__(self) -> AsyncIterator[bytes]:
            if self._inner is None:
                yield self._body
                return
            async for chunk in self._inner:
                if self._wire is not None:
                    self._wire.part(chunk)
                yield chunk
            if self._wire is not None:
                self._wire.ends()

        def close(self) -> None:
            if self._inner is not None:
                self._inner.close()

        async def aclose(self) -> None:
            if self._inner is not None:
                await self._inner.aclose()

    return Heard
