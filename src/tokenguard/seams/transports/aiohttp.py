"""aiohttp: google-genai, aiobotocore and others send with it, where it is installed."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from tokenguard.call.kept import HttpAnswer
from tokenguard.metering.meter import Meter
from tokenguard.seams.common.wrapping import Restore, replace
from tokenguard.seams.transports import Wire, asked, headers_of


def patch(module: ModuleType, meter: Meter) -> Restore:
    """Wrap what sends in `aiohttp.client`; returns what to restore."""
    restore = Restore()

    def look(method: str, url: Any) -> Wire | None:
        return asked(method.upper(), urlsplit(str(url)).hostname)

    def listen(wire: Wire, response: Any) -> None:
        if response.status != 200:
            return
        content = response.content
        wire.begins(response.headers.items(), decoded=True, over=content.at_eof)  # aiohttp decodes as it reads
        content.__class__ = _heard(type(content), wire)

    def request(original: Any) -> Any:
        async def request(self: Any, method: str, str_or_url: Any, *args: Any, **kwargs: Any) -> Any:
            wire = meter.look(look, method, str_or_url)
            if wire is None:
                return await original(self, method, str_or_url, *args, **kwargs)
            if wire.answer is not None and wire.answer.live is None:
                return _kept(module)(method, str_or_url, wire, wire.answer)
            response = await original(self, method, str_or_url, *args, **kwargs)
            meter.contain("listening to an answer", listen, wire, response)
            return response

        return request

    replace(restore, module, "ClientSession._request", request)
    return restore


def _heard(base: Any, wire: Wire) -> Any:
    """A class like `base`, whose instances have no room for more, that tells what is read of one body."""

    def read(self: Any, n: int) -> bytes:
        data: bytes = base._read_nowait_chunk(self, n)
        wire.part(data)
        return data

    return type(base.__name__, (base,), {"__slots__": (), "_read_nowait_chunk": read, "__module__": base.__module__})


@lru_cache(maxsize=1)
def _kept(module: Any) -> Any:
    """The class of responses that nobody has sent."""
    import multidict
    import yarl
    from aiohttp.base_protocol import BaseProtocol
    from aiohttp.streams import StreamReader

    class Kept(module.ClientResponse):  # type: ignore[misc] # the transport's
        def __init__(self, method: str, url: Any, wire: Wire, answer: HttpAnswer) -> None:
            self.method = method
            self._url = self._real_url = yarl.URL(str(url))
            self.status, self.reason, self.version = 200, "OK", None
            told = headers_of(answer)
            self._headers = multidict.CIMultiDictProxy(multidict.CIMultiDict(told))
            self._raw_headers = tuple((name.encode(), value.encode()) for name, value in told)
            self._cache: dict[str, Any] = {}
            self._history: tuple[Any, ...] = ()
            self._loop = asyncio.get_running_loop()
            self.content = StreamReader(BaseProtocol(self._loop), 2**16, loop=self._loop)
            self.content.feed_data(answer.body)
            self.content.feed_eof()
            self._body: bytes | None = None
            self._closed = True
            self._connection = None
            wire.given()

        async def read(self) -> bytes:
            if self._body is None:
                self._body = await self.content.read()
            return self._body

        def release(self) -> Any:
            return _Nothing()

        def close(self) -> None:
            pass

        async def wait_for_close(self) -> None:
            pass

        def __del__(self, *_: Any) -> None:
            pass

    Kept.__name__ = Kept.__qualname__ = "ClientResponse"
    return Kept


class _Nothing:
    """May be awaited."""

    def __await__(self) -> Any:
        return iter(())
