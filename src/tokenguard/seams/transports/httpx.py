"""httpx and httpx2, with which most SDKs send."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from types import ModuleType
from typing import Any

from tokenguard.call.kept import HttpAnswer, LookUp
from tokenguard.metering.meter import Meter
from tokenguard.seams.common.wrapping import Restore, replace
from tokenguard.seams.transports import asked, headers_of


def patch(module: ModuleType, meter: Meter) -> Restore:
    """Wrap `send` of the clients in `httpx._client`, or its successor's; returns what to restore."""
    restore = Restore()

    def look(request: Any) -> LookUp | None:
        return asked(request.method, request.url.host)

    def listen(found: LookUp, response: Any) -> None:
        if response.status_code != 200:
            return
        decoded = hasattr(response, "_content")
        found.begins(response.headers.multi_items(), decoded=decoded)
        if decoded:
            found.part(response._content)
            found.ends()
        else:
            response.stream = _heard(module)(response.stream, found)

    def merged(found: LookUp, response: Any) -> Any:
        if found.merges and response.status_code == 200:
            # Not contained: who asked for more than was sent must not get less.
            response._content = found.merge(response._content)
        return response

    def send(original: Any) -> Any:
        def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
            found = meter.look(look, request)
            if found is None:
                return original(self, request, *args, **kwargs)
            if found.answer is not None:
                response = _given(module, self, request, found)
                if not kwargs.get("stream"):
                    response.read()
                return response
            response = original(self, request, *args, **kwargs)
            if found.merges and response.status_code == 200:
                response.read()
            meter.contain("listening to an answer", listen, found, response)
            return merged(found, response)

        return send

    def asend(original: Any) -> Any:
        async def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
            found = meter.look(look, request)
            if found is None:
                return await original(self, request, *args, **kwargs)
            if found.answer is not None:
                response = _given(module, self, request, found)
                if not kwargs.get("stream"):
                    await response.aread()
                return response
            response = await original(self, request, *args, **kwargs)
            if found.merges and response.status_code == 200:
                await response.aread()
            meter.contain("listening to an answer", listen, found, response)
            return merged(found, response)

        return send

    replace(restore, module, "Client.send", send)
    replace(restore, module, "AsyncClient.send", asend)
    return restore


def _given(module: ModuleType, client: Any, request: Any, found: LookUp) -> Any:
    """The kept answer as the client's own kind of response, which is yet to be read."""
    answer: HttpAnswer | None = found.answer
    assert answer is not None
    kind: Any = module.Response
    body = _heard(module)(None, None, answer.body)
    response = kind(
        200, headers=headers_of(answer), stream=body, request=request, extensions={"http_version": b"HTTP/1.1"}
    )
    response.elapsed = datetime.timedelta(0)
    response.default_encoding = client._default_encoding
    found.served = True
    return response


@lru_cache(maxsize=8)
def _heard(module: Any) -> Any:
    """The body of a response: one that is listened to as it is read, or a kept one."""

    class Heard(module.SyncByteStream, module.AsyncByteStream):  # type: ignore[misc] # the transport's
        def __init__(self, inner: Any, found: LookUp | None, body: bytes = b"") -> None:
            self._inner = inner
            self._found = found
            self._body = body

        def __iter__(self) -> Iterator[bytes]:
            if self._found is None:
                yield self._body
                return
            for chunk in self._inner:
                self._found.part(chunk)
                yield chunk
            self._found.ends()

        async def __aiter__(self) -> AsyncIterator[bytes]:
            if self._found is None:
                yield self._body
                return
            async for chunk in self._inner:
                self._found.part(chunk)
                yield chunk
            self._found.ends()

        def close(self) -> None:
            if self._inner is not None:
                self._inner.close()

        async def aclose(self) -> None:
            if self._inner is not None:
                await self._inner.aclose()

    return Heard
