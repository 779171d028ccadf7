"""What the SDKs' websockets have in common: a connection with methods that read and write, functions or coroutines."""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, Final

from tokenguard.call.flow import Flow
from tokenguard.metering.session_flows import arun, received, run, sent
from tokenguard.metering.sessions import Session, Turn
from tokenguard.seams.common.wrapping import Meanwhile

ATTRIBUTE: Final = "_tokenguard_session"
"""Where a connection has its session."""

_taken: ContextVar[bool] = ContextVar("tokenguard_session_taken", default=False)

Around = Callable[..., tuple[Flow, Callable[[], Any]]]
"""From a session, the SDK's bound method and its arguments to the flow, and what it sends."""


def taken() -> Meanwhile:
    """A websocket that is opened meanwhile has its session above it: an SDK's connection, which may open it anew."""
    return Meanwhile(_taken)


def is_taken() -> bool:
    """Whether a websocket that is opened now has its session above it."""
    return _taken.get()


def through(around: Around, closes: Callable[[Any], Any] = lambda connection: connection) -> Callable[[Any], Any]:
    """Have a method of a connection run in a flow of its session; `closes(connection)` is what has the `close`."""

    def make(original: Any) -> Any:
        async def coroutine(self: Any, *args: Any, **kwargs: Any) -> Any:
            session: Session | None = self.__dict__.get(ATTRIBUTE)
            if session is None:
                return await original(self, *args, **kwargs)
            return await arun(session, *around(session, partial(original, self), *args, **kwargs), closes(self).close)

        def function(self: Any, *args: Any, **kwargs: Any) -> Any:
            session: Session | None = self.__dict__.get(ATTRIBUTE)
            if session is None:
                return original(self, *args, **kwargs)
            return run(session, *around(session, partial(original, self), *args, **kwargs), closes(self).close)

        return coroutine if inspect.iscoroutinefunction(original) else function

    return make


def reading(session: Session, receive: Any, *args: Any, **kwargs: Any) -> tuple[Flow, Callable[[], Any]]:
    """Around the reading of a message."""
    return received(session), partial(receive, *args, **kwargs)


def writing(
    asked: Callable[..., Turn | None],
    heard: Callable[..., float],
    changed: Callable[[Any, Turn, tuple[Any, ...]], tuple[Any, ...]] = lambda session, turn, args: args,
) -> Around:
    """Around the writing of one: the response that it asks for, or the tokens of sound that are in it."""

    def around(session: Session, send: Any, *args: Any, **kwargs: Any) -> tuple[Flow, Callable[[], Any]]:
        contain = session.meter.contain
        turn = contain("looking at an event", partial(asked, session, *args, **kwargs))
        if turn is not None:
            return sent(session, turn), lambda: send(*changed(session, turn, args), **kwargs)
        sound = contain("looking at an event", partial(heard, session, *args, **kwargs))
        return sent(session, None, sound or 0.0), partial(send, *args, **kwargs)

    return around


def closing(original: Any) -> Any:
    """Have a session end when its connection is closed; what is returned may be a coroutine, and passed on as it is."""

    def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        if (session := self.__dict__.get(ATTRIBUTE)) is not None:
            session.meter.contain("ending a session", session.end)
        return original(self, *args, **kwargs)

    return close


def closer(connection: Any, closes: Callable[[Any], Any] = lambda connection: connection) -> Callable[[str], object]:
    """What closes a connection from any thread, and does not keep it."""
    held = weakref.ref(connection)
    loop = asyncio._get_running_loop()

    def shut(reason: str) -> object:
        open_one = held()
        done = None if open_one is None else closes(open_one).close(reason=reason)
        return asyncio.run_coroutine_threadsafe(done, loop) if inspect.iscoroutine(done) and loop else done

    return shut
