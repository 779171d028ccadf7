"""aiohttp: google-genai, aiobotocore and others send with it, where it is installed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import lru_cache
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from tokenguard.call.kept import Body, HttpAnswer, LookUp, lasting
from tokenguard.metering.meter import Meter
from tokenguard.seams.common.wrapping import Restore, replace
from tokenguard.seams.transports import headers_of, wanted


def patch(module: ModuleType, meter: Meter) -> Restore:
    """Wrap what sends in `aiohttp.client`; returns what to restore."""
    restore = Restore()

    def listen(wire: LookUp, response: Any) -> Any:
        if response.status != 200:
            return response
        headers = list(response.headers.items())
        if wire.reads_later:
            source = _Source(response)
            body = wire.fans_out(headers, source, module.ClientPayloadError, waits=True, decoded=True)
            if body is not source:
                answer = HttpAnswer(lasting(headers, decoded=True), b"", body)
                response = _given(module)(response.method, response.url, answer)
        content = response.content
        wire.begins(headers, decoded=True, over=content.at_eof)  # aiohttp decodes as it reads
        content.__class__ = _heard(type(content), wire)
        return response

    def request(original: Any) -> Any:
        async def request(self: Any, method: str, str_or_url: Any, *args: Any, **kwargs: Any) -> Any:
            wire: Any = meter.look(wanted, (method, str_or_url), _where, False)
            if wire is None:
                return await original(self, method, str_or_url, *args, **kwargs)
            if wire.answer is not None:
                given = _given(module)(method, str_or_url, wire.answer)
                wire.given()
                return given
            response = await original(self, method, str_or_url, *args, **kwargs)
            return meter.contain("listening to an answer", listen, wire, response) or response

        return request

    replace(restore, module, "ClientSession._request", request)
    return restore


def _where(request: tuple[str, Any]) -> tuple[str, str | None]:
    method, url = request
    return method.upper(), urlsplit(str(url)).hostname


def _heard(base: Any, wire: LookUp) -> Any:
    """A class like `base`, whose instances have no room for more, that tells what is read of one body."""

    def read(self: Any, n: int) -> bytes:
        data: bytes = base._read_nowait_chunk(self, n)
        wire.part(data)
        return data

    return type(base.__name__, (base,), {"__slots__": (), "_read_nowait_chunk": read, "__module__": base.__module__})


class _Source:
    """The body of a response, as several read it."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def __aiter__(self) -> AsyncIterator[bytes]:
        chunks: AsyncIterator[bytes] = self._response.content.iter_any()
        return chunks

    def close(self) -> None:
        """Read no more of it."""
        self._response.close()

    async def aclose(self) -> None:
        """The same."""
        self._response.close()


@lru_cache(maxsize=1)
def _given(module: Any) -> Any:
    """The class of responses that nobody has sent to this caller, or to no other one alone."""
    import multidict
    import yarl
    from aiohttp.base_protocol import BaseProtocol
    from aiohttp.streams import StreamReader

    class Live(StreamReader):
        """Reads on in a body when it is read itself."""

        def __init__(self, body: Body, loop: asyncio.AbstractEventLoop) -> None:
            super().__init__(BaseProtocol(loop), 2**16, loop=loop)
            self._parts = aiter(body)

        async def _wait(self, func_name: str) -> None:
            try:
                self.feed_data(await anext(self._parts))
            except StopAsyncIteration:
                self.feed_eof()

    class Given(module.ClientResponse):  # type: ignore[misc] # the transport's
        _live: Body | None = None

        def __init__(self, method: str, url: Any, answer: HttpAnswer) -> None:
            self.method = method
            self._url = self._real_url = yarl.URL(str(url))
            self.status, self.reason, self.version = 200, "OK", None
            told = headers_of(answer)
            self._headers = multidict.CIMultiDictProxy(multidict.CIMultiDict(told))
            self._raw_headers = tuple((name.encode(), value.encode()) for name, value in told)
            self._cache: dict[str, Any] = {}
            self._history: tuple[Any, ...] = ()
            self._loop = asyncio.get_running_loop()
            self._live = answer.live
            if answer.live is not None:
                self.content: StreamReader = Live(answer.live, self._loop)
            else:
                self.content = StreamReader(BaseProtocol(self._loop), 2**16, loop=self._loop)
                self.content.feed_data(answer.body)
                self.content.feed_eof()
            self._body: bytes | None = None
            self._closed = True
            self._connection = None

        async def read(self) -> bytes:
            if self._body is None:
                self._body = await self.content.read()
            return self._body

        def release(self) -> Any:
            self.close()
            return _Nothing()

        def close(self) -> None:
            live, self._live = self._live, None
            if live is not None:
                live.close()

        async def wait_for_close(self) -> None:
            pass

        def __del__(self, *_: Any) -> None:
            self.close()

    Given.__name__ = Given.__qualname__ = "ClientResponse"
    return Given


class _Nothing:
    """May be awaited."""

    def __await__(self) -> Any:
        return iter(())
