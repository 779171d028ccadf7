"""A watch on a stream that an SDK hands out as an iterator over its parts: lines of text, or models of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from tokenguard.call.call import current_call
from tokenguard.facts import names
from tokenguard.seams.common.tap import tells_only_usage
from tokenguard.seams.common.watch import Watch, closed

END: Final = object()


class Parts(Watch):
    """Watches an iterator; what the caller gets is a generator, as from the SDK."""

    __slots__ = ()

    def read(self, items: Iterator[Any]) -> Iterator[Any]:
        """The parts as they come, but for the usage that only we had asked for."""
        if self._call.look_up is not None or self._call.joins is not None:
            items = self._sending(items)
        return super().read(filter(self._shown, items) if self._call.hide_usage else items)

    def aread(self, items: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """The parts of an asynchronous stream as they come."""
        if self._call.look_up is not None or self._call.joins is not None:
            items = self._asending(items)
        return super().aread(self._all_shown(items) if self._call.hide_usage else items)

    # A generator sends when its first part is asked for: the call is current then, for the transport below.

    def _sending(self, items: Iterator[Any]) -> Iterator[Any]:
        before = current_call.get()
        current_call.set(self._call)
        try:
            first = next(items, END)
        finally:
            current_call.set(before)
        if first is not END:
            yield first
            yield from items

    async def _asending(self, items: AsyncIterator[Any]) -> AsyncIterator[Any]:
        before = current_call.get()
        current_call.set(self._call)
        try:
            first = await anext(items, END)
        finally:
            current_call.set(before)
        try:
            if first is not END:
                yield first
            async for item in items:
                yield item
        finally:
            await closed(items)

    async def _all_shown(self, items: AsyncIterator[Any]) -> AsyncIterator[Any]:
        try:
            async for item in items:
                if self._shown(item):
                    yield item
        finally:
            await closed(items)

    def _shown(self, item: Any) -> bool:
        try:
            if not tells_only_usage(self._encode(item)):
                return True
        except Exception as error:
            self._call.internal_error("hiding the usage chunk", error)
            return True
        self.keep(item)
        return False

    def over(self, ending: BaseException | None) -> None:
        """Finish the call; a stream that fails before its first part was sent, and refused, just then."""
        if isinstance(ending, Exception) and self._first_ns is None:
            self._call.finish(None, outcome=names.ERROR, error=ending)
        else:
            super().over(ending)
