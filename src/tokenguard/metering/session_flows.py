"""The flows of a session's messages: one around what is read, one around what is written, and how it is closed.

A seam drives them around the SDK's own reading and writing, with `run` or `arun`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from tokenguard.call.flow import SEND, Answer, Flow, drive, drive_async
from tokenguard.facts.errors import GuardrailViolation
from tokenguard.metering.deadlines import deadlines
from tokenguard.metering.sessions import Session, Turn

LONGEST_REASON = 120
"""Bytes of the reason in a websocket's close frame."""


def received(session: Session, said: Callable[[Any], Any] = lambda message: message) -> Flow:
    """The reading of one message, and what it tells; raises the refusal for which the session is to be closed.

    `said(message)` is what the session is told of it, where that is not the client's own message.
    """
    contain = session.meter.contain
    answer = yield SEND
    if answer.error is not None:
        if isinstance(answer.error, Exception):
            contain("ending a session", session.broken, answer.error)
        return answer if session.over is None else answer._replace(error=session.over)
    message = contain("reading an event", said, answer.value)
    refusal = contain("looking at a session", session.refusal)
    turn = contain("reading an event", _told, session, message)
    if refusal is not None:
        raise refusal
    if turn is not None:
        try:
            with session.within():
                yield from _unsent(_begun(session, turn))
        except GuardrailViolation as refusal:
            session.over = refusal
            raise
        contain("reading an event", session.flown, turn)
        contain("reading an event", session.after, message)
    return answer


def _told(session: Session, message: Any) -> Turn | None:
    return session.told(message) if session.tells(message) else None


def sent(session: Session, turn: Turn | None, heard: float = 0.0) -> Flow:
    """The writing of one message: of a response that is asked for, of so many tokens of sound, or of neither."""
    contain = session.meter.contain
    if (refusal := contain("looking at a session", session.refusal)) is not None:
        raise refusal
    if turn is None:
        if heard:
            contain("holding what may come", session.heard, heard)
        return (yield SEND)
    with session.within():
        yield from session.ahead.released()
        return (yield from session.meter.flow(turn))


def _begun(session: Session, turn: Turn) -> Flow:
    """The flow of a call that the provider has begun: of the one that was held for it, if there is one."""
    call = session.meter.contain("taking what was held", session.ahead.take, turn.api)
    return session.meter.flow(turn) if call is None else session.meter.go_on(turn, call)


def _unsent(flow: Flow) -> Flow:
    """The flow of a call for which nothing is sent: the provider has begun by itself."""
    step = next(flow)
    while True:
        try:
            answer = Answer(None) if step is SEND else (yield step)
        except BaseException as error:
            flow.throw(error)
            raise
        try:
            step = flow.send(answer)
        except StopIteration as end:
            whole: Answer = end.value
            return whole


def run(session: Session, flow: Flow, send: Callable[[], Any], shut: Callable[..., object]) -> Any:
    """Drive a flow of a session; where that is over, `shut(reason=...)` closes the SDK's connection."""
    try:
        return drive(flow, send)
    except GuardrailViolation as refusal:
        if refusal is session.over:
            close(session, refusal, shut)
        raise


async def arun(
    session: Session, flow: Flow, send: Callable[[], Awaitable[Any]], shut: Callable[..., Awaitable[object]]
) -> Any:
    """The same for a connection that is read, written and closed by coroutines."""
    try:
        return await drive_async(flow, send)
    except GuardrailViolation as refusal:
        if refusal is session.over:
            session.meter.contain("ending a session", session.closed_for, refusal)
            try:
                await shut(reason=reason(refusal))
            except Exception as failure:
                session.meter.telemetry.internal_error("closing a session", failure)
        raise


def close(session: Session, refusal: GuardrailViolation, shut: Callable[..., object]) -> None:
    """End a session for a refusal."""
    session.meter.contain("ending a session", session.closed_for, refusal)
    session.meter.contain("closing a session", lambda: shut(reason=reason(refusal)))


def reason(refusal: GuardrailViolation) -> str:
    """The refusal as a websocket's last frame may have it."""
    return str(refusal).encode()[:LONGEST_REASON].decode(errors="ignore")


def watch(session: Session, shut: Callable[[str], object]) -> None:
    """See to it that a session ends in time, though nobody reads; `shut(reason)` closes it from any thread."""
    for limit in session.limits:
        if limit.max_session_seconds is not None:
            deadlines.keep(session, session.began + limit.max_session_seconds, partial(_late, shut))


def _late(shut: Callable[[str], object], session: Session) -> None:
    if (refusal := session.refusal()) is not None:
        close(session, refusal, lambda reason: shut(reason))
