"""A watch on a stream that is yet to be read: of bytes, of text, or of an SDK's own events.

Whoever reads the stream reads through the watch, which keeps a reference to each item as it passes, and ends the call
exactly once: at the stream's own end, at an error, when the reader stops, closes it or is cancelled, and when it is
dropped unread. The content is looked at once, when the stream is over.

`tap.Tap` is the watch on an httpx body. A seam whose SDK hands out another stream puts a `Watch` between that stream
and its reader, by swapping what the SDK itself iterates, or its class for a subclass, so that the caller gets the type
that the SDK promises.
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from tokenguard.call.call import Call
from tokenguard.call.open import sweeper
from tokenguard.facts import names
from tokenguard.process.interrupts import interrupt
from tokenguard.providers import Reading

MAX_ITEMS = 2**18
"""A stream of more items loses its beginning here, and with it what only the beginning told."""


async def closed(items: Any) -> None:
    """Close an asynchronous generator with the one that read it, as it would be without that one.

    An event loop that ends closes all generators at once: then this one may be closing already.
    """
    if (aclose := getattr(items, "aclose", None)) is not None and not getattr(items, "ag_running", False):
        await aclose()


class ReadOnce:
    """Hands out what comes, through a generator; it is known whether that runs."""

    __slots__ = ("_reader",)

    def __init__(self) -> None:
        self._reader: Any = None

    def read(self, items: Iterator[Any]) -> Iterator[Any]:
        """The items as they come."""
        reader = self._read(items)
        self._reader = weakref.ref(reader)
        return reader

    def aread(self, items: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """The items of an asynchronous stream as they come."""
        reader = self._aread(items)
        self._reader = weakref.ref(reader)
        return reader

    def _read(self, items: Iterator[Any]) -> Iterator[Any]:
        raise NotImplementedError

    def _aread(self, items: AsyncIterator[Any]) -> AsyncIterator[Any]:
        raise NotImplementedError

    def _is_read(self) -> bool:
        """Whether the generator is being run now."""
        reader = self._reader and self._reader()
        return getattr(reader, "gi_running", False) or getattr(reader, "ag_running", False)


class Watch(ReadOnce):
    """Watches one stream on behalf of a call, and finishes the call when the stream is over.

    `encode` turns an item into the bytes of a server-sent event, `data: {...}` and an empty line, which is what an
    `Api` adds up. `otherwise` is what is known of the call where the stream itself says nothing of its usage.
    `sends_later` says that the request goes out when the stream is first read: dropped before, it never was.
    """

    __slots__ = ("__weakref__", "_call", "_encode", "_first_ns", "_items", "_otherwise", "_unsent", "put_down")

    def __init__(
        self,
        call: Call,
        encode: Callable[[Any], bytes],
        otherwise: Reading | None = None,
        *,
        sends_later: bool = False,
    ) -> None:
        self._call = call
        self._encode = encode
        self._otherwise = otherwise
        self._unsent = sends_later
        self._first_ns: int | None = None
        self._items: deque[Any] = deque(maxlen=MAX_ITEMS)
        self._reader = None
        self.put_down = False
        """Whether its reader has stopped iterating, and not begun again."""
        call.reader = weakref.ref(self)
        sweeper.wake()

    # --- reading -----------------------------------------------------------------------------------------------------

    def keep(self, item: Any) -> None:
        """An item has come that did not pass through `read`."""
        if self._first_ns is None:
            self._first_ns = time.perf_counter_ns()
        self._items.append(item)

    def _keeping(self) -> Callable[[Any], None]:
        """What keeps an item as it passes."""
        return self._items.append

    # The two below are the one place where a line of code runs for every item, so they are written out.

    def _read(self, items: Iterator[Any]) -> Iterator[Any]:
        self._unsent = False
        keep, waiting = self._keeping(), True
        ending: BaseException | None = None
        try:
            for item in items:
                keep(item)
                if waiting:
                    waiting = False
                    self._first_ns = time.perf_counter_ns()
                yield item
        except BaseException as error:
            ending = error
            raise
        finally:
            self.over(ending)
            del ending  # its traceback holds this frame, and so the SDK's stream

    async def _aread(self, items: AsyncIterator[Any]) -> AsyncIterator[Any]:
        self._unsent = False
        keep, waiting = self._keeping(), True
        ending: BaseException | None = None
        try:
            async for item in items:
                keep(item)
                if waiting:
                    waiting = False
                    self._first_ns = time.perf_counter_ns()
                yield item
        except BaseException as error:
            ending = error
            raise
        finally:
            self.over(ending)
            del ending
            await closed(items)

    # --- ending ------------------------------------------------------------------------------------------------------

    def closed(self) -> None:
        """The stream was closed; while the reader runs, it is the reader that closes it."""
        if not self._is_read():
            self.over(GeneratorExit())

    def progress(self) -> object:
        """The last item, or something in its place; `None` while the reader waits for the next one, or may begin.

        Never the watch itself: whoever remembers it would keep a stream that everybody else has dropped.
        """
        if self._is_read() or self._unsent:
            return None
        try:
            return self._items[-1]
        except IndexError:
            return self._items

    def over(self, ending: BaseException | None) -> None:
        """Finish the call with what the stream told: `None` is its own end, `GeneratorExit` a reader that stopped."""
        call = self._call
        if call.finished:
            return
        if self._unsent:
            call.drop()
            return
        call.begun = self._first_ns is not None
        events = b""
        try:
            events = self._events(list(self._items))
            call.keep_stream(events)
            reading = self._fold(events)
        except Exception as failure:  # a stream that is not what it says it is, or was cut off
            if interrupt(failure) is not None:
                raise
            reading = Reading(complete=False)
        untold = reading.usage is None or (reading.usage.output is None and call.api.units is None)
        if self._otherwise is not None and untold:
            reading = reading._replace(usage=self._otherwise.usage, complete=True)
        outcome = names.OK
        error: BaseException | str | None = None
        if isinstance(ending, Exception) and interrupt(ending) is None:
            outcome, error = names.ERROR, ending
        elif ending is not None and not reading.complete:
            outcome = names.ABANDONED
            error = None if isinstance(ending, GeneratorExit) else ending
        call.finish(
            reading,
            outcome=outcome,
            error=error,
            first_chunk_ns=self._first_ns if call.stream else None,
            generated=(lambda: call.api.words.streamed_text(events)) if call.api.generates else None,
        )
        self._items.clear()

    def _events(self, items: list[Any]) -> bytes:
        """The items as server-sent events."""
        return b"".join(map(self._encode, items))

    def _fold(self, events: bytes) -> Reading:
        """What they say of the call."""
        return self._call.api.fold(events)

    def __del__(self) -> None:
        # Dropped without ever being read, maybe by an interpreter that is half gone.
        try:
            self.over(GeneratorExit())
            self._call.span.let_go()
        except Exception:  # noqa: S110 - this module's own names may be gone by then
            pass
