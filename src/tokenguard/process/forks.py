"""A fork of this process: what its child takes over, and what stays the parent's.

A forked child has one thread, and a copy of everything else: of locks that other threads held, of work that the parent
will do, of connections. Whoever keeps such things says here what becomes of them.
"""

from __future__ import annotations

import _thread
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from importlib import _bootstrap  # where the locks of modules are

from tokenguard.facts.tuples import NamedTuple
from tokenguard.process.native import sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, TypeVar

    C = TypeVar("C", bound=Callable[[], Any])
_Step = Callable[[], object]


class _Steps(NamedTuple):
    """What one of them has asked for."""

    before: Callable[[], _Step | None]
    in_parent: Callable[[], _Step | None]
    in_child: Callable[[], _Step | None]


_known: list[_Steps] = []
IMPORTS_S: Final = 1.0
"""How long a fork waits for an import, at most."""
REST_S: Final = 0.05
"""How long a fork waits for a thread of ours to end; one that is at work goes on."""
ours: Final[set[int]] = set()
"""The threads of ours that run."""

_main: Final = threading.main_thread()
_leader: Final = _main if isinstance(_main, threading._MainThread) else None  # type: ignore[attr-defined]


def leads() -> bool:
    """Whether this process ends with its main thread. A child that another thread has forked ends with its last one."""
    return threading.main_thread() is _leader


def at_fork(in_child: _Step, *, before: _Step | None = None, in_parent: _Step | None = None) -> None:
    """Have `in_child` called in every forked child, before anything else runs there. Methods are held weakly.

    `before` brings into a consistent state what the fork copies, and keeps it so until `in_parent` or `in_child`.
    """
    _known[:] = [steps for steps in _known if steps.in_child() is not None]
    _known.append(_Steps(_reference(before), _reference(in_parent), _reference(in_child)))


_resting: list[Callable[[], Callable[[], int] | None]] = []


def at_rest(step: Callable[[], int]) -> None:
    """Have `step` called when this process is about to fork, before all else. Methods are held weakly.

    It has threads end that have no work, and tells how many: Python warns of a fork among threads.
    """
    _resting[:] = [reference for reference in _resting if reference() is not None]
    _resting.append(_reference(step))


_forking: dict[int, list[_Steps]] = {}
"""The threads that are in a fork, and whose `before` each has called: more may be imported meanwhile by others."""
_afterwards: list[_Step] = []


def forking() -> bool:
    """Whether this very thread is in a fork: nothing may wait for what `before` keeps."""
    return threading.get_ident() in _forking


def after_fork(step: _Step) -> None:
    """Have `step` called when a fork is over, in the parent and in the child, and nothing is kept any more."""
    _afterwards.append(step)


_left: list[object] = []


def leave(connection: object) -> None:
    """Let go of a connection without closing it.

    It came over a fork, or its file is gone: to close it would tamper with the parent's file, or with the one that
    took its place.
    """
    _left.append(connection)


def _reference(step: C | None) -> Callable[[], C | None]:
    return weakref.WeakMethod(step) if step is not None and hasattr(step, "__self__") else lambda: step


def _run(steps: Iterable[Callable[[], _Step | None]]) -> None:
    for reference in steps:
        if (step := reference()) is not None:
            step()


def _importing() -> bool:
    """Whether another thread is importing a module of ours, or one of our threads any: its child could never do so.

    A child has a copy of the module's lock, and nobody who will ever release it.
    """
    me = _thread.get_ident()
    for name, reference in list(getattr(_bootstrap, "_module_locks", {}).items()):
        owner = getattr(reference(), "owner", None)
        if owner not in (None, me) and (owner in ours or name.partition(".")[0] == "tokenguard"):
            return True
    return False


def _begin() -> None:
    begun = _forking[threading.get_ident()] = []
    running = len(ours)
    running -= sum(step() for reference in list(_resting) if (step := reference()) is not None)
    until = time.monotonic() + REST_S
    while len(ours) > running and time.monotonic() < until:
        sleep(0.001)
    until = time.monotonic() + IMPORTS_S
    while more := [steps for steps in _known if steps not in begun]:  # a thread may register what it imports
        begun += more
        _run(steps.before for steps in more)
        while _importing() and time.monotonic() < until:
            sleep(0.001)


def _end_in_parent() -> None:
    try:
        _run(steps.in_parent for steps in _forking.get(threading.get_ident(), ()))
    finally:
        _forking.pop(threading.get_ident(), None)
    _run_afterwards()


def _end_in_child() -> None:
    ours.clear()
    _run(steps.in_child for steps in list(_known))
    _forking.clear()
    _run_afterwards()


def _run_afterwards() -> None:
    for step in _afterwards:
        step()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_begin, after_in_parent=_end_in_parent, after_in_child=_end_in_child)
