"""What a session may come to next, held in budgets before anybody can refuse it.

Who sends sound asks for nothing: the provider answers when it hears that somebody has finished. So the response that it
may begin is held while sound is sent, with the sound of a minute more than was sent; it becomes that response's own
call. The ledger is asked in a thread: no frame waits for it. Where it refuses, the next event closes the session.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tokenguard.call.flow import SEND, Answer, Flow, Step, drive
from tokenguard.facts.errors import GuardrailViolation
from tokenguard.process.native import Lock
from tokenguard.process.threads import Pool

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Protocol

    from tokenguard.call.call import Call, Exchange
    from tokenguard.metering.meter import Meter
    from tokenguard.providers import Api

    class Comes(Protocol):
        """A session, as far as it is held ahead."""

        minute: int

        def coming(self, heard: int) -> Exchange | None:
            """What may come of so many tokens of sound."""

        def within(self) -> AbstractContextManager[None]:
            """What is measured meanwhile is the session's."""


AGAIN_S: Final = 45.0
"""After so long, or so much sound, a minute is held anew, before it is over: a lease must not end meanwhile, either."""
_threads: Final = Pool("tokenguard-session", 1)


class Ahead:
    """The call that may come next, reserved."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.refusal: GuardrailViolation | None = None
        """Why nothing could be held."""
        self._call: Call | None = None
        self._lock = Lock()
        self._ticket: object = None
        """Of what was asked for last; what comes too late for it is given back."""
        self._until = self._enough = 0.0
        """Until when, and for how many tokens of sound, it is held."""

    def hold(self, session: Comes, heard: float) -> None:
        """See to it that what may come of so many tokens of sound is held: at nearly every piece of it, it is."""
        now = time.monotonic()
        if (now < self._until and heard < self._enough) or self._meter.guard is None:
            return
        self._until = now + AGAIN_S
        self._enough = heard + session.minute * AGAIN_S / 60
        coming = session.coming(math.ceil(heard) + session.minute)
        if coming is None:
            return
        self._ticket = ticket = object()
        work: Callable[[], object] = partial(self._ask, session, coming, ticket)
        _threads.soon(partial(copy_context().run, self._meter.contain, "holding what may come", work))

    def _ask(self, session: Comes, coming: Exchange, ticket: object) -> None:
        with session.within():
            try:
                call: Call | None = drive(self._renewed(coming), _nothing)
            except GuardrailViolation as refusal:
                if ticket is self._ticket:
                    self.refusal = refusal
                return
        with self._lock:
            if ticket is self._ticket:
                self._call, call = call, None
        if call is not None:
            call.drop()

    def _renewed(self, coming: Exchange) -> Flow:
        yield from self._released()
        answer = yield from self._meter.held(coming)
        yield SEND
        return answer

    def take(self, api: Api) -> Call | None:
        """The call that was held, for a response that has begun."""
        held = self._call
        return None if held is not None and held.api is not api else self._pop()

    def released(self) -> Generator[Step, Answer, None]:
        """Give it back before something else is reserved."""
        self._ticket = None
        self._until = self._enough = 0.0
        yield from self._released()

    def _released(self) -> Generator[Step, Answer, None]:
        with self._lock:
            call, self._call = self._call, None
        if call is not None:
            if call.guard is not None:
                yield from call.guard.release(call)
            call.drop()

    def end(self) -> None:
        """The session is over."""
        if (call := self._pop()) is not None:
            call.drop()

    def _pop(self) -> Call | None:
        with self._lock:
            self._ticket = None
            self._until = self._enough = 0.0
            call, self._call = self._call, None
        return call


def _nothing() -> Any:
    """There is nothing to send."""
