"""What the SDKs' websockets have in common: a connection with methods that read and write, functions or coroutines."""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from tokenguard.call.flow import Flow
from tokenguard.metering.session_flows import arun, received, run, sent
from tokenguard.metering.sessions import Session, Turn

ATTRIBUTE: Final = "_tokenguard_session"
"""Where a connection has its session."""

Around = Callable[..., tuple[Flow, Callable[[], Any]]]
"""From a session, the SDK's bound method and its arguments to the flow, and what it sends."""


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


def reading(session: Session, receive: Callable[[], Any]) -> tuple[Flow, Callable[[], Any]]:
    """Around the reading of a message."""
    return received(session), receive


def writing(
    asked: Callable[..., Turn | None],
    heard: Callable[..., float],
    changed: Callable[[Turn, tuple[Any, ...]], tuple[Any, ...]] = lambda turn, args: args,
) -> Around:
    """Around the writing of one: the response that it asks for, or the tokens of sound that are in it."""

    def around(session: Session, send: Any, *args: Any, **kwargs: Any) -> tuple[Flow, Callable[[], Any]]:
        contain = session.meter.contain
        turn = contain("looking at an event", partial(asked, session, *args, **kwargs))
        if turn is not None:
            return sent(session, turn), lambda: send(*changed(turn, args), **kwargs)
        sound = contain("looking at an event", partial(heard, session, *args, **kwargs))
        return sent(session, None, sound or 0.0), partial(send, *args, **kwargs)

    return around


def closer(connection: Any) -> Callable[[str], object]:
    """What closes a connection from any thread, and does not keep it."""
    held = weakref.ref(connection)
    loop = asyncio._get_running_loop()

    def shut(reason: str) -> object:
        open_one = held()
        closing = None if open_one is None else open_one.close(reason=reason)
        return asyncio.run_coroutine_threadsafe(closing, loop) if inspect.iscoroutine(closing) and loop else closing

    return shut
