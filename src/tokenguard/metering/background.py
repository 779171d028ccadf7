"""Calls that the provider goes on with in the background: measured when somebody asks for their answer.

A call with `background=True`, of the Responses API or of Google's Interactions, and a job that makes a film, return at
once, with an id and without usage. It stays open, span and reservation too, until somebody gets it (or cancels it) at
its end; one that nobody has asked for when the process ends is ended then, as an estimate.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from tokenguard.facts import names
from tokenguard.facts.patterns import lazy
from tokenguard.process.ends import Stage, at_end
from tokenguard.process.forks import at_fork
from tokenguard.process.native import RLock

if TYPE_CHECKING:
    from tokenguard.call.call import Call

REMEMBERED = 1024
ASKED = lazy(r"[/:](?:responses|interactions|videos|operations|async-invoke|jobs|fine-tunes)/([^/?:]+)")
"""The id in a path where the answer of such a call is asked for: `/responses/ID`, `/interactions/ID/cancel`."""


class Pending:
    """The open calls of this process by response id."""

    def __init__(self) -> None:
        self._forget()
        at_fork(self._forget)  # the parent's calls are the parent's to end
        at_end(Stage.CALLS, self.give_up)

    def _forget(self) -> None:
        self._calls: OrderedDict[str, Call] = OrderedDict()
        self._lock = RLock()  # a signal handler may end the process where it is held

    def __len__(self) -> int:
        return len(self._calls)

    def keep(self, response_id: str, call: Call) -> None:
        """The provider goes on with this call."""
        with self._lock:
            self._calls[response_id] = call
            oldest = self._calls.popitem(last=False)[1] if len(self._calls) > REMEMBERED else None
        if oldest is not None:
            oldest.finish(None, outcome=names.ABANDONED)

    def waits(self, path: str) -> Call | None:
        """The open call whose answer is asked for at this path, if there is one."""
        found = ASKED.search(path)
        return self._calls.get(found[1]) if found else None

    def seen(self, call: Call, response: object) -> None:
        """What was answered when somebody asked for this call: its end, or that it still goes on."""
        reading = call.read(response)
        if reading.complete and reading.id is not None:
            self.ended(reading.id)
            call.finish(reading)

    def ended(self, response_id: str) -> Call | None:
        """Take out the call that was kept under this id: nobody needs to ask for it any more."""
        with self._lock:
            return self._calls.pop(response_id, None)

    def give_up(self) -> None:
        """End what is still open; nobody will ask any more."""
        with self._lock:
            calls = list(self._calls.values())
            self._calls.clear()
        for call in calls:
            call.finish(None, outcome=names.ABANDONED)
