"""A tap on a response body that is yet to be read.

Whoever reads a streamed response (the SDK's own stream, a helper on top of it, `with_streaming_response`, or the
application line by line) reads it through the response's `iter_bytes` or `aiter_bytes`, and gives it up through `close`
or `aclose`, or by dropping it. So the response, httpx's or httpx2's, gets a subclass of its own class in which these
four are watched, and everything above stays what it was. The tap keeps a reference to each chunk, of a long stream
what `merging` makes of them, and looks at the content once, when the body is over.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from functools import lru_cache
from itertools import islice, pairwise
from typing import Any, Protocol

from tokenguard.call.call import Call
from tokenguard.facts.patterns import lazy
from tokenguard.providers import Reading
from tokenguard.providers.events import decoded, in_lines, whole_answer
from tokenguard.seams.common.merging import Merger
from tokenguard.seams.common.watch import MAX_ITEMS, ReadOnce, Watch, closed

EVENT_STREAM = "application/vnd.amazon.eventstream"
EVENT_END = lazy(rb"\n\n|\r\n\r\n|\r\r")


LINES = ("application/x-ndjson", "application/stream+json")
"""Content types of streams whose events are lines of JSON."""
PIECE = 1024
"""Chunks that are kept as they come; a stream of more is shortened by so many at a time."""
BINARY = ("audio/", "video/", "image/", "application/octet-stream")
"""Content types of bodies of which nothing is looked at, and so nothing kept."""


def decoded_body(response: Any) -> Any:
    """The JSON of a response that has been read, or its text; `None` where it is something else: sound, say."""
    content_type = response.headers.get("content-type", "")
    if content_type.startswith(BINARY):
        return None
    try:
        return json.loads(response._content)
    except ValueError:
        if content_type.startswith("application/json"):
            raise
        return response.text


class Tap(Watch):
    """Watches one response body on behalf of a call."""

    __slots__ = ("_content_type", "_merger")

    def __init__(self, call: Call, content_type: str) -> None:
        super().__init__(call, bytes)
        self._content_type = content_type
        self._merger: Merger | None = None
        if content_type.startswith(BINARY):
            self._items = deque(maxlen=1)
        elif (keys := call.api.words.streamed) and not content_type.startswith(EVENT_STREAM):
            self._merger = Merger(keys, lines=content_type.startswith(LINES))

    # As in `Watch`, and keeping from the caller what only we had asked for.

    def _read(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        hiding, waiting, held = self._call.hide_usage, True, b""
        ending: BaseException | None = None
        try:
            for piece in self._pieces(iter(chunks)):
                keep = self._items.append
                for chunk in piece:
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
            del ending  # its traceback holds this frame, and so the SDK's stream

    async def _aread(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        keep, hiding, waiting, held = self._items.append, self._call.hide_usage, True, b""
        ending: BaseException | None = None
        done, full = 0, PIECE
        try:
            async for chunk in chunks:
                if len(self._items) >= full and self._shorten(done):
                    done, full, keep = done + 1, done + 1 + PIECE, self._items.append
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
            del ending
            await closed(chunks)

    def _pieces(self, chunks: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
        """The chunks by pieces: what was kept of each is shortened before the next."""
        done = 0
        while self._merger is not None:
            yield islice(chunks, PIECE)
            if len(self._items) < done + PIECE or not self._shorten(done):
                break
            done += 1
        yield chunks

    def _shorten(self, done: int) -> bool:
        """Merge what was kept behind so many pieces; whether that was done, and the next one may be."""
        if self._merger is None:
            return False
        (*items,) = self._items
        try:
            merged = self._merger.merged(items[done:])
        except Exception as error:
            self._merger = None
            self._call.internal_error("shortening a stream", error)
            return False
        self._items = deque((*items[:done], merged), MAX_ITEMS)  # at once: a signal handler may come before or after
        return True

    def _hide(self, data: bytes) -> tuple[bytes, bytes]:
        try:
            return _without_usage(data)
        except Exception as error:
            self._call.internal_error("hiding the usage chunk", error)
            return data, b""

    def _events(self, items: list[bytes]) -> bytes:
        body = b"".join(items)
        if self._content_type.startswith(EVENT_STREAM):
            from tokenguard.providers.bedrock import server_sent

            return server_sent(body)
        return body if self._content_type.startswith(LINES) else in_lines(body)

    def _fold(self, events: bytes) -> Reading:
        whole = None if self._content_type.startswith(LINES) else whole_answer(events)
        return self._call.api.fold(events) if whole is None else self._call.read(whole)


def _without_usage(data: bytes) -> tuple[bytes, bytes]:
    """The whole events in `data`, but for the one that tells the usage nobody asked for, and what is left over."""
    ends = [match.end() for match in EVENT_END.finditer(data)]
    events = (data[start:end] for start, end in pairwise((0, *ends)))
    return b"".join(event for event in events if not tells_only_usage(event)), data[ends[-1] :] if ends else data


def tells_only_usage(event: bytes) -> bool:
    """Whether an event of a chat stream has nothing but the usage."""
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


class Content(Protocol):
    """Who wants the content of a response that the caller reads."""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes; what fails in here is contained."""
        ...

    def over(self, complete: bool) -> None:
        """There are no more: the end, or its reader has stopped."""
        ...


class Spool(ReadOnce):
    """Hands the content of a response on as its caller reads it, in a tap's place."""

    def __init__(self, content: Content, contain: Callable[..., object]) -> None:
        super().__init__()
        self._content = content
        self._contain = contain

    def _read(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        complete = False
        try:
            for chunk in chunks:
                self._contain("reading a batch", self._content.feed, chunk)
                yield chunk
            complete = True
        finally:
            self._contain("reading a batch", self._content.over, complete)

    async def _aread(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        complete = False
        try:
            async for chunk in chunks:
                self._contain("reading a batch", self._content.feed, chunk)
                yield chunk
            complete = True
        finally:
            self._contain("reading a batch", self._content.over, complete)
            await closed(chunks)

    def closed(self) -> None:
        """The response was closed: by who reads it, which ends by itself, or in the middle."""
        if not self._is_read():
            self._contain("reading a batch", self._content.over, False)


def spool(response: Any, content: Content, contain: Callable[..., object]) -> None:
    """Hand the content of an httpx or httpx2 response on: at once, where it has been read, or as it is."""
    if (whole := getattr(response, "_content", None)) is not None:
        content.feed(whole)
        content.over(True)
        return
    response._tokenguard_tap = Spool(content, contain)
    kind: Any = type(response)
    response.__class__ = _tapped(kind)


def spool_lines(decoder: Any, content: Content, contain: Callable[..., object]) -> None:
    """The same for a decoder of JSON lines, which reads from an iterator that it was made with."""
    chunks = decoder._raw_iterator
    reader = Spool(content, contain)
    decoder._raw_iterator = reader.aread(chunks) if hasattr(chunks, "__aiter__") else reader.read(chunks)
