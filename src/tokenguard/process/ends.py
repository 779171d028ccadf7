"""The end of this process, whichever it is: what is under way is finished then, in order, while Python still works.

A process ends when the interpreter does (`atexit`), through `os._exit` (forked workers of multiprocessing, celery's
billiard, daemons), by becoming another program (`os.execv` and its kin), and by a signal that nobody handles
(`signals`). Of all of these `end` hears. What it cannot hear of is `kill -9`, a crash, and the machine's own end.

After `end` no thread is started and nothing is left for later: `ending` says so, and whoever gets work then does it at
once.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from enum import IntEnum

from tokenguard.process.forks import after_fork, at_fork, forking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, Final

PATIENCE_S: Final = 1.0
"""How long the end waits for any one thing: a thread that is at work, another process that has a file."""

ending = False
"""Whether `end` was called: from now on nothing may wait for a thread of ours."""


class Stage(IntEnum):
    """When something is finished, in the order of what hands on to what."""

    CALLS = 0
    """Open calls end; they hand on records and settlements."""
    LEDGERS = 1
    """Settlements are written, slices returned; that may pass thresholds."""
    RECEIVERS = 2
    """Who hears of thresholds is told."""
    RECORDS = 3
    """Records go to the metrics and the store."""


_Finish = Callable[[], object]
_steps: dict[Stage, list[Callable[[], _Finish | None]]] = {stage: [] for stage in Stage}
_hooked = False


def at_end(stage: Stage, finish: _Finish) -> None:
    """Have `finish` called when this process ends, and in a forked child's end too. A method is held weakly.

    It may be called more than once, does nothing the second time, and waits for nothing longer than `PATIENCE_S`.
    """
    _hook()
    steps = _steps[stage]
    steps[:] = [step for step in steps if step() not in (None, finish)]
    steps.append(weakref.WeakMethod(finish) if hasattr(finish, "__self__") else lambda: finish)


_at_leave: list[Callable[[], object]] = []


def at_leave(step: Callable[[], object]) -> None:
    """Have `step`, which never raises, called where a process ends without its exit handlers, after all else."""
    _at_leave.append(step)


def _leave() -> None:
    """End where no exit handler will run: `os._exit`, another program, a signal."""
    end()
    for step in _at_leave:
        step()


_ends_in: list[int] = []
"""The threads that are in `end`."""
_signals: list[int] = []
"""What has come while the main thread was in `end` or in a fork: it finishes what it does, and dies of this then."""


def end() -> None:
    """Finish what is under way. Never raises."""
    global ending
    ending = True
    _ends_in.append(threading.get_ident())
    try:
        for stage in Stage:
            for step in list(_steps[stage]):
                for _ in range(2):  # again, where a signal handler has raised in it
                    with contextlib.suppress(Exception):
                        if (finish := step()) is not None:
                            finish()
                        break
    finally:
        _ends_in.remove(threading.get_ident())
        _die_of_what_waited()


def _die_of_what_waited() -> None:
    if _signals and threading.get_ident() not in _ends_in:
        die(_signals.pop(), None)


def _forget_signals() -> None:
    global heard
    heard = False
    _signals.clear()  # they were the parent's


after_fork(_die_of_what_waited)
at_fork(_forget_signals)


def here() -> int:
    """How many ends are under way in this thread; more than before where one has come on top of what it was doing.

    What is done under a lock can be come upon in two ways, by its own thread. The garbage collector ends a stream: what
    was under way goes on afterwards, perhaps in C that a connection must not be taken away from, and can see to the
    rest. Or a signal ends the process: nobody goes on, and all is done at once.
    """
    return _ends_in.count(threading.get_ident())


def goes_on(lock: threading.RLock, since: int) -> bool:
    """Whether this very thread has the lock, further down, and goes on there afterwards; `since` is `here` of then."""
    return lock._is_owned() and since == here()  # type: ignore[attr-defined]


def call_last() -> None:
    """Run `end` before the exit handlers that are registered by now: those of OpenTelemetry's SDK, say."""
    atexit.register(end)


set_handler: Final = signal.signal
heard = False
"""Whether the main thread has taken a signal that this process dies of."""


def die(number: int, frame: FrameType | None) -> None:
    """End, and then die of the signal as if nobody had handled it. A signal handler: it runs in the main thread."""
    global heard
    heard = True
    if threading.get_ident() in _ends_in or forking():
        _signals.append(number)
        return
    try:
        _leave()
    finally:  # whatever another handler raises meanwhile
        set_handler(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def die_elsewhere(number: int) -> None:
    """The same in another thread, which may set no handler by Python's own function."""
    _leave()
    try:
        import ctypes

        ctypes.pythonapi.PyOS_setsig(number, None)  # `NULL` is `SIG_DFL`
    except ImportError:  # a Python without it
        os._exit(128 + number)  # as a shell tells of it
    os.kill(os.getpid(), number)


def _hook() -> None:
    """Once a process, and its forked children inherit it: see to it that `end` is called at each kind of end."""
    global _hooked
    if _hooked:
        return
    _hooked = True
    atexit.register(end)
    for name in ("_exit", "execv", "execve"):  # `os.execl` and the others of its kind call these
        setattr(os, name, _ending_first(getattr(os, name)))


def _ending_first(leave: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(leave)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        global ending
        _leave()
        try:
            return leave(*args, **kwargs)
        finally:
            ending = sys.is_finalizing()  # there is no such program: this one goes on

    return wrapper
