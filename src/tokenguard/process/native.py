"""The interpreter's own threads, queues, locks and pauses, also where gevent or eventlet has put its own in place.

What those two patch runs in a greenlet of the caller's thread. A thread of ours that waits there for work stops all
greenlets of the program; and a pause under a lock of ours lets the next greenlet into that lock, which belongs to their
common thread. A lock of eventlet's cannot be given back to another thread of the system at all: who waited for it
waits for ever. A program may be patched before TokenGuard is imported, or after it (gunicorn's gevent worker patches
itself after the fork), so the originals are asked for, and kept.
"""

from __future__ import annotations

import sys
from _queue import Empty, SimpleQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Empty", "Lock", "RLock", "SimpleQueue", "green", "here", "leave", "read", "sleep", "start_new_thread"]


def _original(module: str, name: str) -> Any:
    """A function of the standard library as it was before gevent or eventlet patched it."""
    if gevent := sys.modules.get("gevent.monkey"):
        return gevent.get_original(module, name)
    if eventlet := sys.modules.get("eventlet.patcher"):
        return getattr(eventlet.original(module), name)
    return getattr(__import__(module), name)


start_new_thread = _original("_thread", "start_new_thread")
Lock: Any = _original("_thread", "allocate_lock")
RLock: Any = _original("_thread", "RLock")
sleep = _original("time", "sleep")
read = _original("os", "read")
here: Any = _original("_thread", "_local")()
"""What belongs to this thread of the system, by name; `leave` closes it."""


def green() -> bool:
    """Whether sockets are gevent's or eventlet's by now: one serves the thread that opened it, and no other."""
    socket = sys.modules.get("socket")
    return socket is not None and socket.socket.__module__.partition(".")[0] in ("gevent", "eventlet")


def leave() -> None:
    """Close what this thread has, as it ends. gevent's hub, which a first wait has made here, keeps two files open."""
    for mine in list(vars(here).values()):
        mine.close()
    vars(here).clear()
    hub_of = getattr(sys.modules.get("gevent._hub_local"), "get_hub_if_exists", None)
    if hub_of is not None and (hub := hub_of()) is not None:
        hub.destroy(destroy_loop=True)
