"""botocore's own transport, urllib3: Bedrock's answers, whole ones and event streams."""

from __future__ import annotations

import io
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from tokenguard.call.kept import HttpAnswer
from tokenguard.metering.meter import Meter
from tokenguard.seams.common.wrapping import Restore, replace
from tokenguard.seams.transports import Wire, asked, headers_of


def patch(module: ModuleType, meter: Meter) -> Restore:
    """Wrap what sends in `botocore.httpsession`; returns what to restore."""
    restore = Restore()

    def look(request: Any) -> Wire | None:
        return asked(request.method, urlsplit(request.url).hostname)

    def listen(wire: Wire, request: Any, response: Any) -> None:
        if response.status_code != 200:
            return
        wire.begins(response.headers.items(), decoded=False)
        if request.stream_output:
            response.raw = _Heard(response.raw, wire)
        else:
            wire.part(response.content)
            wire.ends()

    def send(original: Any) -> Any:
        def send(self: Any, request: Any) -> Any:
            wire = meter.look(look, request)
            if wire is None:
                return original(self, request)
            if wire.answer is not None and wire.answer.live is None:
                return _given(request, wire, wire.answer)
            response = original(self, request)
            meter.contain("listening to an answer", listen, wire, request, response)
            return response

        return send

    replace(restore, module, "URLLib3Session.send", send)
    return restore


def _given(request: Any, wire: Wire, answer: HttpAnswer) -> Any:
    """The answer as a response of botocore's."""
    response_of: Any = import_module("botocore.awsrequest").AWSResponse
    from urllib3.response import HTTPResponse

    raw = HTTPResponse(io.BytesIO(answer.body), status=200, preload_content=False, decode_content=False)
    response = response_of(request.url, 200, dict(headers_of(answer)), raw)
    if not request.stream_output:
        response.content  # noqa: B018 - read now, as botocore does
    wire.given()
    return response


class _Heard:
    """A body of urllib3 that is listened to as it is read."""

    def __init__(self, inner: Any, wire: Wire) -> None:
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
