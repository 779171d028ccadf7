"""A fork of this process: what its child takes over, and what stays the parent's.

A forked child has one thread, and a copy of everything else: of locks that other threads held, of work that the parent
will do, of connections. Whoever keeps such things says here what becomes of them.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable

_Step = Callable[[], object]
_before: list[Callable[[], _Step | None]] = []
_in_parent: list[Callable[[], _Step | None]] = []
_in_child: list[Callable[[], _Step | None]] = []


def at_fork(in_child: _Step, *, before: _Step | None = None, in_parent: _Step | None = None) -> None:
    """Have `in_child` called in every forked child, before anything else runs there. Methods are held weakly.

    `before` brings into a consistent state what the fork copies, and keeps it so until `in_parent` or `in_child`.
    """
    for steps, step in ((_before, before), (_in_parent, in_parent), (_in_child, in_child)):
        if step is not None:
            steps[:] = [known for known in steps if known() is not None]
            steps.append(_reference(step))


_forking: set[int] = set()
"""The threads that are in a fork, with what `before` keeps."""
_afterwards: list[_Step] = []


def forking() -> bool:
    """Whether this very thread is in a fork: nothing may wait for what `before` keeps."""
    return threading.get_ident() in _forking


def after_fork(in_parent: _Step) -> None:
    """Have `in_parent` called when a fork is over in the parent, and nothing is kept any more."""
    _afterwards.append(in_parent)


_left: list[object] = []


def leave(connection: object) -> None:
    """Let go of a connection without closing it.

    It came over a fork, or its file is gone: to close it would tamper with the parent's file, or with the one that
    took its place.
    """
    _left.append(connection)


def _reference(step: _Step) -> Callable[[], _Step | None]:
    return weakref.WeakMethod(step) if hasattr(step, "__self__") else lambda: step


def _run(steps: list[Callable[[], _Step | None]]) -> None:
    for reference in list(steps):
        if (step := reference()) is not None:
            step()


def _begin() -> None:
    _forking.add(threading.get_ident())
    _run(_before)


def _end_in_parent() -> None:
    try:
        _run(_in_parent)
    finally:
        _forking.discard(threading.get_ident())
    for step in _afterwards:
        step()


def _end_in_child() -> None:
    _run(_in_child)
    _forking.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_begin, after_in_parent=_end_in_parent, after_in_child=_end_in_child)
