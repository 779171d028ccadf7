"""Faults of our own: counted, and told of loudly where a call went past its limits or its measurement for one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from tokenguard.facts.record import FaultRecord
from tokenguard.process.log import Log

log = Log("tokenguard")

EVERY_S: Final = 60.0
"""One error in the log in so long, however many there are."""


class Faults:
    """What has failed inside of TokenGuard in this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.count = 0
        """Internal errors so far."""
        self.unguarded = 0
        """Calls that went out though the policy could not be asked."""
        self.unmeasured = 0
        """Calls that went out without a record."""
        self.last = ""
        """The last one: the step and the error, in words."""
        self._told = (0, 0, 0)
        self._kept: dict[str, int] = {}
        """How many of each kind have been handed on as records."""
        self.losses = 0
        """How often the ledger was found out of reach, when it had been there."""
        self._is_lost = False
        self._tell_at = -EVERY_S
        self._seen: set[str] = set()

    def note(self, step: str, error: BaseException) -> None:
        """Count an internal error; the first of each step is logged, and one a minute after that.

        The first has its traceback, but for what is explained by notes: its cause is in the surroundings.
        """
        self.count += 1
        explained = getattr(error, "__notes__", ())
        self.last = ". ".join((f"{step} failed ({type(error).__name__}: {error})", *explained))
        first = step not in self._seen
        now = self._clock()
        if first or now - self._tell_at >= EVERY_S:
            self._seen.add(step)
            self._tell_at = now
            log.error(
                "tokenguard: %s. The call went on.%s",
                self.last,
                self._since(),
                exc_info=error if first and not explained else None,
            )

    def ledger_is(self, lost: float | None) -> None:
        """Whether the ledger is out of reach just now."""
        self.losses += bool(lost) and not self._is_lost
        self._is_lost = bool(lost)

    def news(self, dropped: int) -> list[FaultRecord]:
        """What is new since this was last asked; `dropped` is how many records were dropped so far."""
        now = {
            "unguarded": self.unguarded,
            "unmeasured": self.unmeasured,
            "dropped": dropped,
            "ledger_lost": self.losses,
            "errors": self.count,
        }
        if now == self._kept:
            return []
        before, self._kept, at = self._kept, now, time.time_ns()
        new = {kind: count - before.get(kind, 0) for kind, count in now.items()}
        own = ("unguarded", "unmeasured", "errors")
        return [FaultRecord(kind, at, n, self.last if kind in own else "") for kind, n in new.items() if n > 0]

    def passed(self, *, guarded: bool, measured: bool) -> None:
        """A call goes out for such an error: past the guard (if there is one), or past its measurement."""
        self.unguarded += not guarded
        self.unmeasured += not measured

    def tell_the_rest(self) -> None:
        """The process ends: what was only counted is said."""
        if self.count > self._told[0]:
            log.error("tokenguard: %s.%s", self.last, self._since())

    def missed(self) -> str:
        """What was missed so far, in words; empty where nothing was."""
        return _words(self.unguarded, self.unmeasured)

    def _since(self) -> str:
        failures, unguarded, unmeasured = self._told
        self._told = self.count, self.unguarded, self.unmeasured
        more = self.count - failures
        words = _words(self.unguarded - unguarded, self.unmeasured - unmeasured)
        said = f" {more} internal errors since the last word of it" if more > 1 else ""
        return f"{said}{';' if said and words else ''}{' ' + words if words else ''}{'.' if said or words else ''}"


def _words(unguarded: int, unmeasured: int) -> str:
    parts = []
    if unguarded:
        parts.append(f"{unguarded:,} {'call' if unguarded == 1 else 'calls'} went out unguarded")
    if unmeasured:
        parts.append(f"{unmeasured:,} {'call' if unmeasured == 1 else 'calls'} went out unmeasured")
    return ", ".join(parts)
