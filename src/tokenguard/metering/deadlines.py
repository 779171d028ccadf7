"""Sessions that may be open for so long: one that is silent is closed in time, too."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import Any, Final, Protocol

from tokenguard.metering.meter import Meter
from tokenguard.process.forks import at_fork
from tokenguard.process.threads import Worker

LOOK_S: Final = 0.25
"""How often it is looked."""


class Timed(Protocol):
    """A session, as far as its time is watched."""

    meter: Meter
    ended: bool


class Deadlines:
    """The open sessions with a time to end."""

    def __init__(self) -> None:
        self._worker = Worker("tokenguard-deadlines", self._look)
        self._forget()
        at_fork(self._forget)

    def _forget(self) -> None:
        self._open: list[tuple[float, weakref.ref[Timed], Callable[[Any], object]]] = []

    def keep(self, session: Timed, at: float, late: Callable[[Any], object]) -> None:
        """Call `late(session)` at a time of `time.monotonic`, if it is open then; it is not kept alive."""
        self._open.append((at, weakref.ref(session), late))
        self._worker.wake()

    def _look(self) -> float | None:
        now = time.monotonic()
        for each in list(self._open):
            at, ref, late = each
            session = ref()
            if session is None or session.ended:
                self._open.remove(each)
            elif at <= now:
                self._open.remove(each)
                session.meter.contain("ending a session", late, session)
        return LOOK_S if self._open else None


deadlines: Final = Deadlines()
