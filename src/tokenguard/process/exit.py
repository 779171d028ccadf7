"""What a process does as it ends, however it was started."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable


def at_exit(leave: Callable[[], None]) -> None:
    """Have `leave` called at this process's end."""
    atexit.register(leave)
    if (util := sys.modules.get("multiprocessing.util")) is not None:
        # A forked worker of multiprocessing leaves without exit handlers, and calls its finalizers instead.
        util.Finalize(None, leave, exitpriority=10)
