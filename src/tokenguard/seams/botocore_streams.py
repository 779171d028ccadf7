"""What botocore and aiobotocore hand out to be read later, watched: an event stream, or a body.

Each gets a subclass of its own class, named as that is, with the methods wrapped by which it is read.
"""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from functools import lru_cache
from typing import Any

from tokenguard.call.call import Call
from tokenguard.providers import Reading
from tokenguard.providers.bedrock import read_headers
from tokenguard.seams.common.tap import Content
from tokenguard.seams.common.watch import Watch


class EventWatch(Watch):
    """Watches an event stream, whose reader may take its events apart: langchain-aws takes the usage out of them."""

    __slots__ = ()

    def _keeping(self) -> Callable[[Any], None]:
        keep = self._items.append

        def keep_copy(event: Mapping[str, Any]) -> None:
            try:
                keep({name: copy(value) for name, value in event.items()})
            except Exception as error:
                self._call.internal_error("keeping an event", error)

        return keep_copy


class Pieces:
    """What is told of the pieces of a body as they are read, which is the application's to do, or not."""

    __slots__ = ()

    def keep(self, item: Any) -> None:
        """A piece was read."""
        raise NotImplementedError

    def over(self, ending: BaseException | None) -> None:
        """There are no more: `None` is the body's own end."""
        raise NotImplementedError

    def wrong(self, error: Exception) -> None:
        """What is ours has failed."""
        raise NotImplementedError

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """A piece of the body is read meanwhile; if that fails, the body is over."""
        try:
            yield
        except BaseException as error:
            self.over(error)
            raise

    def read_of(self, body: Any, piece: bytes, amount: int | None) -> None:
        """A piece of the body was read: `amount` was asked for, or all of the rest. Never raises."""
        try:
            self.keep(bytes(piece))
            size = getattr(body, "_content_length", None)
            left = getattr(body, "length_remaining", None)  # of what is below a body: urllib3's
            whole = left == 0 or (size is not None and body._amount_read >= int(size))
            if whole or amount is None or amount < 0 or (amount > 0 and not piece):
                self.over(None)
        except Exception as error:
            self.wrong(error)


class BodyWatch(Pieces, Watch):
    """Watches the body of an `InvokeModel` response."""

    __slots__ = ()
    keep = Watch.keep
    over = Watch.over

    def __init__(self, call: Call, headers: Mapping[str, str]) -> None:
        usage = read_headers(headers)
        super().__init__(call, bytes, None if usage is None else Reading(usage=usage))

    def wrong(self, error: Exception) -> None:
        """Tell it of the call."""
        self._call.internal_error("watching a body", error)

    def _events(self, items: list[bytes]) -> bytes:
        return b"".join(items)

    def _fold(self, events: bytes) -> Reading:
        if self._otherwise is not None and not self._call.api.caps and self._call.api.units is None:
            return self._otherwise  # no need to decode vectors
        return self._call.read(json.loads(events))


class Handed(Pieces):
    """Hands what is read of a body to who wants its content."""

    __slots__ = ("_contain", "_content", "_over")

    def __init__(self, content: Content, contain: Callable[..., object]) -> None:
        self._content = content
        self._contain = contain
        self._over = False

    def keep(self, item: bytes) -> None:
        """Hand it on."""
        self._contain("reading a batch", self._content.feed, item)

    def over(self, ending: BaseException | None) -> None:
        """Say whether that was all, once."""
        if not self._over:
            self._over = True
            self._contain("reading a batch", self._content.over, ending is None)

    def closed(self) -> None:
        """The body was closed."""
        self.over(GeneratorExit())

    def wrong(self, error: Exception) -> None:
        """It is contained where it happens."""

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # an interpreter that is half gone
            self.over(GeneratorExit())


# --- subclasses of the SDK's streams ---------------------------------------------------------------------------------


def watch_stream(stream: Any, watch: Any, methods: Mapping[str, Callable[[Any], Any]]) -> None:
    """Have a stream watched from now on."""
    kind: Any = type(stream)
    try:
        stream.__class__ = _watched(kind, tuple(methods.items()))
    except TypeError:  # aiobotocore 2's bodies are proxies of another object: what the headers said must do
        watch.over(None)
    else:
        stream._tokenguard_watch = watch


@lru_cache(maxsize=64)
def _watched(base: Any, methods: tuple[tuple[str, Callable[[Any], Any]], ...]) -> Any:
    """A subclass that is named like its base, with those of the methods wrapped that it has."""
    own = {name: make(getattr(base, name)) for name, make in methods if hasattr(base, name)}
    return type(base.__name__, (base,), {**own, "__module__": base.__module__, "__qualname__": base.__qualname__})


def _iterating(original: Any) -> Any:
    def iterate(self: Any) -> Any:
        return self._tokenguard_watch.read(original(self))

    return iterate


def _aiterating(original: Any) -> Any:
    def iterate(self: Any) -> Any:
        return self._tokenguard_watch.aread(original(self))

    return iterate


def _closing(original: Any) -> Any:
    def close(self: Any) -> Any:
        closed = original(self)  # a coroutine, in one of aiobotocore's transports
        self._tokenguard_watch.closed()
        return closed

    return close


def _reading(original: Any) -> Any:
    """`read`, of either kind: what it returns is a piece of the body, all of the rest of it without an amount."""

    def read(self: Any, amt: int | None = None, *args: Any, **kwargs: Any) -> Any:
        with self._tokenguard_watch.failing():
            piece = original(self, amt, *args, **kwargs)
        self._tokenguard_watch.read_of(self, piece, amt)
        return piece

    async def aread(self: Any, amt: int | None = None) -> Any:
        with self._tokenguard_watch.failing():
            piece = await original(self, amt)
        self._tokenguard_watch.read_of(self, piece, amt)
        return piece

    return aread if inspect.iscoroutinefunction(original) else read


def _reading_into(original: Any) -> Any:
    """`readinto`, of either kind."""

    def readinto(self: Any, b: Any) -> Any:
        with self._tokenguard_watch.failing():
            size = original(self, b)
        self._tokenguard_watch.read_of(self, b[:size], len(b))
        return size

    async def areadinto(self: Any, b: Any) -> Any:
        with self._tokenguard_watch.failing():
            size = await original(self, b)
        self._tokenguard_watch.read_of(self, b[:size], len(b))
        return size

    return areadinto if inspect.iscoroutinefunction(original) else readinto


def _reading_lines(original: Any) -> Any:
    """Botocore's `readlines`, which reads below `read`; aiobotocore's reads by it."""

    def readlines(self: Any) -> Any:
        with self._tokenguard_watch.failing():
            lines = original(self)
        self._tokenguard_watch.read_of(self, b"".join(lines), None)
        return lines

    return original if inspect.iscoroutinefunction(original) else readlines


def _entering(original: Any) -> Any:
    """Botocore's `__enter__`, which hands out what is below the body."""

    def enter(self: Any) -> Any:
        raw = original(self)
        watch_stream(raw, self._tokenguard_watch, RAW_METHODS)
        return raw

    return enter


STREAM_METHODS = {"__iter__": _iterating, "__aiter__": _aiterating, "close": _closing}
RAW_METHODS = {"read": _reading, "readinto": _reading_into, "close": _closing, "aclose": _closing}
BODY_METHODS = {**RAW_METHODS, "readlines": _reading_lines, "__enter__": _entering}
