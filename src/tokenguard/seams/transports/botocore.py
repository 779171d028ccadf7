"""botocore's own transport, urllib3: Bedrock's answers, whole ones and event streams."""

from __future__ import annotations

import io
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from tokenguard.call.kept import Body, HttpAnswer, LookUp
from tokenguard.metering.meter import Meter
from tokenguard.seams.common.wrapping import Restore, replace
from tokenguard.seams.transports import headers_of, wanted


def patch(module: ModuleType, meter: Meter) -> Restore:
    """Wrap what sends in `botocore.httpsession`; returns what to restore."""
    restore = Restore()

    def listen(wire: LookUp, request: Any, response: Any) -> None:
        if response.status_code != 200:
            return
        headers = list(response.headers.items())
        if request.stream_output:
            broken = import_module("urllib3.exceptions").ProtocolError
            source = _Source(response.raw)
            body = wire.fans_out(headers, source, broken, waits=False)
            if body is not source:
                response.raw = _Live(body)
        wire.begins(headers, decoded=False)
        if request.stream_output:
            response.raw = _Heard(response.raw, wire)
        else:
            wire.part(response.content)
            wire.ends()

    def send(original: Any) -> Any:
        def send(self: Any, request: Any) -> Any:
            wire: Any = meter.look(wanted, request, _where, False)
            if wire is None:
                return original(self, request)
            if wire.answer is not None:
                return _given(request, wire, wire.answer)
            response = original(self, request)
            meter.contain("listening to an answer", listen, wire, request, response)
            return response

        return send

    replace(restore, module, "URLLib3Session.send", send)
    return restore


def _where(request: Any) -> tuple[str, str | None]:
    return request.method, urlsplit(request.url).hostname


def _given(request: Any, wire: LookUp, answer: HttpAnswer) -> Any:
    """The answer as a response of botocore's."""
    response_of: Any = import_module("botocore.awsrequest").AWSResponse
    from urllib3.response import HTTPResponse

    if answer.live is None:
        raw: Any = HTTPResponse(io.BytesIO(answer.body), status=200, preload_content=False, decode_content=False)
    else:
        raw = _Live(answer.live)
    response = response_of(request.url, 200, dict(headers_of(answer)), raw)
    if not request.stream_output:
        response.content  # noqa: B018 - read now, as botocore does
    wire.given()
    return response


class _Source:
    """A body of urllib3, as several read it."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def __iter__(self) -> Iterator[bytes]:
        parts: Iterator[bytes] = self._raw.stream()
        return parts

    def close(self) -> None:
        """Read no more of it."""
        self._raw.close()


class _Live(io.RawIOBase):
    """A body that others read too, as botocore reads urllib3's."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._parts = iter(body)
        self._rest = b""

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def read(self, amt: int | None = None, *_: Any, **__: Any) -> bytes | None:
        """See `urllib3.HTTPResponse`."""
        return super().read(-1 if amt is None else amt)

    def readinto(self, buffer: Any) -> int:
        """See `io.RawIOBase`."""
        data = self._rest or next(self._parts, b"")
        size = min(len(buffer), len(data))
        buffer[:size], self._rest = data[:size], data[size:]
        return size

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        """See `urllib3.HTTPResponse`."""
        if self._rest:
            yield self._rest
        self._rest = b""
        yield from self._parts

    def close(self) -> None:
        """Read no more of it."""
        if not self.closed:
            self._body.close()
        super().close()


class _Heard:
    """A body of urllib3 that is listened to as it is read."""

    def __init__(self, inner: Any, wire: LookUp) -> None:
        self._inner = inner
        self._wire = wire

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _told(self, data: bytes, amount: int | None) -> bytes:
        if data:
            self._wire.part(data)
        if amount is None or amount < 0 or (amount and not data):
            self._wire.ends()
        return data

    def read(self, amt: int | None = None, *args: Any, **kwargs: Any) -> bytes:
        """As `urllib3` does."""
        return self._told(self._inner.read(amt, *args, **kwargs), amt)

    def readinto(self, b: Any) -> int:
        """The same into a buffer."""
        size: int = self._inner.readinto(b)
        self._told(bytes(b[:size]), len(b))
        return size

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        """The same in pieces."""
        for data in self._inner.stream(*args, **kwargs):
            self._wire.part(data)
            yield data
        self._wire.ends()
