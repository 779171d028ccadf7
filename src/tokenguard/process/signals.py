"""The signals that would end this process without a word: it ends in order, and dies of them then.

Python runs a handler in the main thread, between two steps of it. A main thread that waits in C code which does not
return for a signal (a consumer's `poll`, a shell's command, a long computation), or that took the signal just before
it began to wait, runs none: a process that would have died at once would not die at all, and a pool that has
terminated its worker would wait for it for ever. So a thread hears of these signals, too, and ends the process itself
where the main thread does not.

It hears of them through the wakeup file of `signal.set_wakeup_fd`: Python writes the number of each signal there. Where
the program has such a file of its own, as event loops have, that loop wakes up and the handler runs.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time

from tokenguard.process import ends
from tokenguard.process.forks import at_fork, at_rest, forking, leads
from tokenguard.process.native import Lock, read, sleep
from tokenguard.process.threads import start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

SIGNALS: Final = ("SIGTERM", "SIGHUP")
"""What ends a process without a word to it, where the program itself has no handler: `kill`, a pool's `terminate()`,
the end of a terminal."""
PAUSE_S: Final = 0.02
"""Between two looks; a program may be sent signals by the thousand, which are none of ours."""
_STOP: Final = b"\0"
_HIGH: Final = (960, 192, 64, 3)
"""Where the files are put, the first that the limit of files allows: programs that close their files do so from below,
and would be given the number of a closed one anew."""

_numbers: Final = {number for name in SIGNALS if (number := getattr(signal, name, None)) is not None}
_set_wakeup_fd: Final = signal.set_wakeup_fd
_ears = _mouth = -1
"""The file that the thread reads, and the one that Python writes to."""
_seat = Lock()
"""The thread's, as long as it runs."""


def heed() -> None:
    """Be told of the signals that would end this process without a word. Handlers of the program's own stay.

    A server that has one of its own puts the default back at its end, and raises the signal anew (uvicorn): then the
    default is ours. So is no wakeup file: who asks for one sees that there is none.
    """
    if signal.signal is ends.set_handler:
        signal.signal = _ours_for_the_default
        signal.set_wakeup_fd = _ours_for_none
    if threading.current_thread() is threading.main_thread():  # only there may handlers be set
        for number in _numbers:
            if signal.getsignal(number) is signal.SIG_DFL:
                with contextlib.suppress(ValueError):  # a subinterpreter
                    ends.set_handler(number, ends.die)
                    if _mouth == -1:
                        _open()
    watch()


def watch() -> None:
    """See to it that the thread runs, where one may. A fork ends it: Python warns of a fork among threads."""
    if not (_seat.locked() or ends.ending or forking()):
        _start()


def _start() -> None:
    if _ears != -1 and leads():
        start(_listen)


def _open() -> None:
    """Two files of this process's own; those of the parent are left alone, as their numbers may be others' by now."""
    global _ears, _mouth
    if os.name != "posix":
        return  # signals end a process there without any handler
    with contextlib.suppress(OSError):  # no file left: Python's own handler is all there is
        ears, mouth = (_higher(file) for file in os.pipe())
        os.set_blocking(mouth, False)
        before, _ears, _mouth = _mouth, ears, mouth
        theirs = _set_wakeup_fd(mouth, warn_on_full_buffer=False)
        if theirs not in (-1, before):
            _set_wakeup_fd(theirs)


def _higher(file: int) -> int:
    import fcntl

    for least in _HIGH:
        with contextlib.suppress(OSError):
            higher = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, least)
            os.close(file)
            return higher
    return file


@functools.wraps(ends.set_handler)
def _ours_for_the_default(signalnum: Any, handler: Any) -> Any:
    default = isinstance(handler, int) and handler == signal.SIG_DFL
    return ends.set_handler(signalnum, ends.die if default and signalnum in _numbers else handler)


@functools.wraps(_set_wakeup_fd)
def _ours_for_none(fd: int, /, **options: Any) -> int:
    theirs = _set_wakeup_fd(fd, **options)
    if fd == -1 and _mouth != -1:
        with contextlib.suppress(OSError, ValueError):  # the program has closed it
            _set_wakeup_fd(_mouth, warn_on_full_buffer=False)
    return -1 if theirs == _mouth else theirs


def _listen() -> None:
    if not _seat.acquire(blocking=False):
        return  # there is one
    try:
        while True:
            heard = read(_ears, 512)
            for number in _numbers.intersection(heard):
                _see_to(number)
            if _STOP in heard:
                return
            sleep(PAUSE_S)
    except OSError:
        pass  # the program has closed it
    finally:
        _seat.release()


def _see_to(number: int) -> None:
    """Give the main thread its time, and end the process then."""
    until = time.monotonic() + ends.PATIENCE_S
    while not ends.heard and signal.getsignal(number) is ends.die:
        if time.monotonic() > until:
            ends.die_elsewhere(number)
        sleep(PAUSE_S)


def _rest() -> int:
    if not _seat.locked():
        return 0
    with contextlib.suppress(OSError):
        os.write(_mouth, _STOP)
    return 1


def _in_child() -> None:
    global _seat
    _seat = Lock()
    if _mouth != -1:
        _open()
        _start()


at_fork(_in_child)
at_rest(_rest)
