"""A tap on a response body that is yet to be read.

Whoever reads a streamed response (the SDK's own stream, a helper on top of it, `with_streaming_response`, or the
application line by line) reads it through the response's `iter_bytes` or `aiter_bytes`, and gives it up through `close`
or `aclose`, or by dropping it. So the response, httpx's or httpx2's, gets a subclass of its own class in which these
four are watched, and everything above stays what it was. The tap keeps a reference to each chunk, and looks at the
content once, when the body is over.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any

from tokenguard import names
from tokenguard.metering import Call
from tokenguard.providers import Reading
from tokenguard.providers.events import decoded, streamed_text

MAX_CHUNKS = 2**18
"""A stream of more chunks loses its beginning here, and with it what only the beginning told."""

EVENT_STREAM = "application/vnd.amazon.eventstream"
EVENT_END = re.compile(rb"\n\n|\r\n\r\n|\r\r")
EVENT_STREAM_PAYLOAD = re.compile(rb'"bytes"\s*:\s*"([A-Za-z0-9+/=]+)"')


class Tap:
    """Watches one response body on behalf of a call, and finishes the call when the body is over."""

    __slots__ = ("__weakref__", "_call", "_chunks", "_content_type", "_first_ns", "_reader")

    def __init__(self, call: Call, content_type: str) -> None:
        self._call = call
        self._content_type = content_type
        self._first_ns: int | None = None
        self._chunks: deque[bytes] = deque(maxlen=MAX_CHUNKS)
        self._reader: Any = None

    # --- reading -----------------------------------------------------------------------------------------------------

    def read(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The chunks as they come."""
        reader = self._read(chunks)
        self._reader = weakref.ref(reader)
        return reader

    def aread(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The chunks of an asynchronous body as they come."""
        reader = self._aread(chunks)
        self._reader = weakref.ref(reader)
        return reader

    # The two below are the one place where a line of code runs for every chunk, so they are written out.

    def _read(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        keep, hiding, waiting, held = self._chunks.append, self._call.hide_usage, True, b""
        ending: BaseException | None = None
        try:
            for chunk in chunks:
                keep(chunk)
                if waiting:
                    waiting = False
                    self._first_ns = time.perf_counter_ns()
                if hiding and (held or b"[]" in chunk or not chunk.endswith(b"\n\n")):
                    chunk, held = self._hide(held + chunk)
                    if not chunk:
                        continue
                yield chunk
            if held:
                yield held
        except BaseException as error:
            ending = error
            raise
        finally:
            self.over(ending)

    async def _aread(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        keep, hiding, waiting, held = self._chunks.append, self._call.hide_usage, True, b""
        ending: BaseException | None = None
        try:
            async for chunk in chunks:
                keep(chunk)
                if waiting:
                    waiting = False
                    self._first_ns = time.perf_counter_ns()
                if hiding and (held or b"[]" in chunk or not chunk.endswith(b"\n\n")):
                    chunk, held = self._hide(held + chunk)
                    if not chunk:
                        continue
                yield chunk
            if held:
                yield held
        except BaseException as error:
            ending = error
            raise
        finally:
            self.over(ending)

    def _hide(self, data: bytes) -> tuple[bytes, bytes]:
        try:
            return _without_usage(data)
        except Exception as error:
            self._call.failed("hiding the usage chunk", error)
            return data, b""

    # --- ending ------------------------------------------------------------------------------------------------------

    def closed(self) -> None:
        """The response was closed; while the reader runs, it is the reader that closes it."""
        reader = self._reader and self._reader()
        if reader is None or not (getattr(reader, "gi_running", False) or getattr(reader, "ag_running", False)):
            self.over(GeneratorExit())

    def over(self, ending: BaseException | None) -> None:
        """Finish the call with what the body told: `None` is its own end, `GeneratorExit` a reader that stopped."""
        call = self._call
        if call.finished:
            return
        body = b"".join(self._chunks)
        self._chunks.clear()
        try:
            reading, events = self._parse(body)
        except Exception:  # a body that is not what its content type says, or was cut off
            reading, events = Reading(complete=False), body
        outcome = names.OK
        error: BaseException | str | None = None
        if reading.error is not None:
            outcome, error = names.ERROR, reading.error
        elif isinstance(ending, Exception):
            outcome, error = names.ERROR, ending
        elif ending is not None and not reading.complete:
            outcome = names.ABANDONED
            error = None if isinstance(ending, GeneratorExit) else ending
        call.finish(
            reading,
            outcome=outcome,
            error=error,
            first_chunk_ns=self._first_ns if call.stream else None,
            generated=lambda: streamed_text(events),
        )

    def _parse(self, body: bytes) -> tuple[Reading, bytes]:
        if self._content_type.startswith("application/json"):
            return self._call.read(json.loads(body)), b""
        if self._content_type.startswith(EVENT_STREAM):
            body = b"".join(
                b"data: " + base64.b64decode(payload) + b"\n\n" for payload in EVENT_STREAM_PAYLOAD.findall(body)
            )
        return self._call.api.fold(body), body

    def __del__(self) -> None:
        # Dropped without ever being read, maybe by an interpreter that is half gone.
        with contextlib.suppress(Exception):
            self.over(GeneratorExit())


def _without_usage(data: bytes) -> tuple[bytes, bytes]:
    """The whole events in `data`, but for the one that tells the usage nobody asked for, and what is left over."""
    ends = [match.end() for match in EVENT_END.finditer(data)]
    events = (data[start:end] for start, end in pairwise((0, *ends)))
    return b"".join(event for event in events if not _tells_only_usage(event)), data[ends[-1] :] if ends else data


def _tells_only_usage(event: bytes) -> bool:
    if b"choices" not in event:
        return False
    chunk = decoded(event.partition(b"data:")[2].strip())
    return chunk.get("choices") == [] and bool(chunk.get("usage"))


def tap(response: Any, call: Call) -> None:
    """Put a tap on an httpx or httpx2 response that has not been read yet."""
    response._tokenguard_tap = Tap(call, response.headers.get("content-type", ""))
    kind: Any = type(response)
    response.__class__ = _tapped(kind)


@lru_cache(maxsize=64)
def _tapped(base: Any) -> Any:
    class Tapped(base):  # type: ignore[misc] # the base is the transport's
        def iter_bytes(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
            chunks: Iterator[bytes] = super().iter_bytes(*args, **kwargs)
            reader: Iterator[bytes] = self._tokenguard_tap.read(chunks)
            return reader

        def aiter_bytes(self, *args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
            chunks: AsyncIterator[bytes] = super().aiter_bytes(*args, **kwargs)
            reader: AsyncIterator[bytes] = self._tokenguard_tap.aread(chunks)
            return reader

        def close(self) -> None:
            super().close()
            self._tokenguard_tap.closed()

        async def aclose(self) -> None:
            await super().aclose()
            self._tokenguard_tap.closed()

    Tapped.__name__ = base.__name__
    Tapped.__qualname__ = base.__qualname__
    Tapped.__module__ = base.__module__
    return Tapped
