"""A fork of this process: what its child takes over, and what stays the parent's.

A forked child has one thread, and a copy of everything else: of locks that other threads held, of work that the parent
will do, of connections. Whoever keeps such things says here what becomes of them.
"""

from __future__ import annotations

import os
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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _run(_before),
        after_in_parent=lambda: _run(_in_parent),
        after_in_child=lambda: _run(_in_child),
    )
