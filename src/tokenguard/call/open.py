"""The calls of this process that have begun and not ended: they end with the process, or when nobody reads them.

A stream that its consumer has given up, and a cycle, an exception or a framework holds on to, would otherwise be open
until the garbage collector comes, or for good, and what is reserved for it with it.
"""

from __future__ import annotations

import time
import weakref
from typing import Final, Protocol

from tokenguard.process.forks import at_fork
from tokenguard.process.threads import Worker

SWEEP_S: Final = 2.0
"""How often streams that are open are looked at."""
UNREAD_S: Final = 120.0
"""After so long without a reader a stream is taken to be given up. Waiting for the provider is reading."""
PUT_DOWN_S: Final = 10.0
"""The same where its reader has stopped iterating."""


class Watching(Protocol):
    """The watch on an answer that is yet to be read."""

    put_down: bool
    """Whether its reader has stopped iterating, and not begun again."""

    def progress(self) -> object:
        """Something that stays the same object while nobody reads; `None` while somebody does."""
        ...

    def over(self, ending: BaseException | None) -> None:
        """End the call by what has come so far."""
        ...


class Open(Protocol):
    """A call that has not ended."""

    reader: weakref.ref[Watching] | None

    def abandon(self) -> None:
        """End it: nobody waits for its answer."""
        ...

    def disown(self) -> None:
        """It is another process's."""
        ...


open_calls: dict[int, Open] = {}
"""By the call's id. A call takes itself out when it ends."""
_DROPPED: Final = object()
_unread: dict[int, tuple[object, float]] = {}
"""What each stream looked like when it was last read, and when that was seen."""


def end_all() -> None:
    """End all calls: the process ends."""
    for call in list(open_calls.values()):
        call.abandon()


def _sweep() -> float | None:
    """End the streams that nobody reads; again after `SWEEP_S` while there are any."""
    now = time.monotonic()
    streams = [call for call in list(open_calls.values()) if call.reader is not None]
    for call in streams:
        if _is_given_up(call, now):
            call.abandon()
    for key in _unread.keys() - open_calls.keys():
        del _unread[key]
    return SWEEP_S if streams else None


def _is_given_up(call: Open, now: float) -> bool:
    watch, key = None if call.reader is None else call.reader(), id(call)
    before, since = _unread.get(key, (None, now))
    if watch is None:
        # It was dropped: the collector is about to end it, or an exception out of a signal handler came between.
        _unread[key] = (_DROPPED, now)
        return before is _DROPPED
    progress = watch.progress()
    if progress is None or progress is not before:
        _unread[key] = (progress, now)
        return False
    return now - since >= (PUT_DOWN_S if watch.put_down else UNREAD_S)


def _leave_to_parent() -> None:
    """In a forked child: they belong to the parent, whoever reads their answers here."""
    for call in list(open_calls.values()):
        call.disown()
    open_calls.clear()
    _unread.clear()


at_fork(_leave_to_parent)
sweeper: Final = Worker("tokenguard-streams", _sweep, gather_s=SWEEP_S)
"""Woken where a stream opens."""
