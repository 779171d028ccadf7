"""Exceptions that a signal handler has raised: they come between any two steps of ours, and are none of our faults.

Most are no `Exception`s (`KeyboardInterrupt`, `SystemExit`), and nobody here catches those. Some are: the time limits
of celery and RQ, and the `TimeoutError` that programs raise from `SIGALRM`.
"""

from __future__ import annotations

from types import FrameType, TracebackType


def interrupt(error: BaseException) -> BaseException | None:
    """The exception that a signal handler raised, if `error` is one, or was made of one; `None` for any other.

    A library may have wrapped it in an error of its own: redis-py makes a `TimeoutError` its own.
    """
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        if _from_handler(found.__traceback__):
            return found
        found = found.__cause__ or found.__context__
    return None


def _from_handler(trace: TracebackType | None) -> bool:
    """Whether it passed through a signal handler: a function that was given the very frame it interrupted."""
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_back is not None and _has(frame, frame.f_back):
            return True
        trace = trace.tb_next
    return False


def _has(frame: FrameType, interrupted: FrameType) -> bool:
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 0x04)]
    known = frame.f_locals
    for name in names:
        value = known.get(name)
        if value is interrupted or (type(value) is tuple and any(each is interrupted for each in value)):
            return True
    return False
