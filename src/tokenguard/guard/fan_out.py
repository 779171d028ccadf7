"""One answer that is still coming in, read by several: whoever is ahead reads on for all.

So nobody waits for another's reader. What has come is kept until it is over: each reader's own watch has these very
bytes anyway.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from tokenguard.call.flow import Answer
from tokenguard.process.native import RLock

if TYPE_CHECKING:
    import asyncio

MOST: Final = 2**22
"""Bytes of an answer after which nobody joins any more."""
IDLE_S: Final = 10.0
"""The same where nobody has read on for so long: the provider may have given the connection up."""


def running_loop() -> object:
    """The loop of asyncio in this thread; `None` without one."""
    asyncio = sys.modules.get("asyncio")
    return None if asyncio is None else asyncio._get_running_loop()


class FanOut:
    """The body of an answer from one `source`, which is read in the thread, or the loop, of whoever is ahead."""

    def __init__(self, source: Any, broken: Callable[[str], Exception], loop: object) -> None:
        self._source = source
        self._broken = broken
        self.loop = loop
        """Where the source is read; `None`: in any thread."""
        self._items: Any = None
        self._chunks: list[bytes] = []
        self._size = 0
        self.ended = self._closed = False
        self._failure: BaseException | None = None
        self._lock = RLock()
        self._task: asyncio.Future[None] | None = None
        self._last = time.monotonic()

    def takes_more(self) -> bool:
        """Whether somebody else may still begin to read it."""
        fresh = time.monotonic() - self._last < IDLE_S
        return not self.ended and not self._closed and self._size <= MOST and fresh

    # --- reading -----------------------------------------------------------------------------------------------------

    def read(self) -> Iterator[bytes]:
        """All of it, from the beginning."""
        at = 0
        while self._has(at):
            if at < len(self._chunks):
                yield self._chunks[at]
                at += 1
            else:
                self._read_on(at)

    async def aread(self) -> AsyncIterator[bytes]:
        """All of it, in the source's loop."""
        import asyncio

        at = 0
        while self._has(at):
            if at < len(self._chunks):
                yield self._chunks[at]
                at += 1
                continue
            if self._task is None or self._task.done():
                # A task, which goes on where the one that waits for it is cancelled: the others want it too.
                self._task = asyncio.ensure_future(self._aread_on())
            await asyncio.shield(self._task)

    def _has(self, at: int) -> bool:
        """Whether there is, or may be, a chunk at this place; raises where the source has failed."""
        if at < len(self._chunks) or not self.ended:
            return True
        if (failure := self._failure) is not None:
            self._failure = Answer(error=failure).copied().error  # each of them raises one of its own
            raise failure
        return False

    def _read_on(self, at: int) -> None:
        with self._lock:
            if at < len(self._chunks) or self.ended:  # somebody else has, meanwhile
                return
            try:
                if self._items is None:
                    self._items = iter(self._source)
                self._took(next(self._items))
            except StopIteration:
                self.ended = True
            except BaseException as error:
                self._fails(error)

    async def _aread_on(self) -> None:
        try:
            if self._items is None:
                self._items = aiter(self._source)
            self._took(await anext(self._items))
        except StopAsyncIteration:
            self.ended = True
        except BaseException as error:
            self._fails(error)

    def _took(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._size += len(chunk)
        self._last = time.monotonic()

    def _fails(self, error: BaseException) -> None:
        if isinstance(error, Exception):
            self._failure = error
            self.ended = True
            return
        self._failure = self._broken("The identical call that was reading this answer was interrupted.")
        self.ended = True
        raise error

    # --- ending ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Nobody reads on any more."""
        if not self._closed:
            self._closed = True
            if self._task is not None:
                self._task.cancel()
            self._source.close()

    async def aclose(self) -> None:
        """The same, in its loop."""
        if self._closed:
            return
        self._closed = True
        if self._task is not None and not self._task.done():
            import asyncio

            self._task.cancel()
            await asyncio.wait([self._task])
        await self._source.aclose()
