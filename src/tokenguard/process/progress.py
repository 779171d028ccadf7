"""A line on the terminal while a command works for longer than a second: what it does, and for how long."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

AFTER_S = 1.0
EVERY_S = 0.2
FRAMES = "|/-\\"

quiet = False
"""Whether nothing is shown; `tokenguard --quiet` sets it."""


@contextmanager
def working(what: str, out: TextIO | None = None) -> Iterator[None]:
    """Show `what` on standard error from the first second on, and take it away at the end.

    Nothing is shown where standard error is no terminal, or with `--quiet`.
    """
    out = sys.stderr if out is None else out
    if quiet or not out.isatty():
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_show, args=(what, out, over), name="tokenguard-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _show(what: str, out: TextIO, over: threading.Event) -> None:
    began = time.monotonic()
    if over.wait(AFTER_S):
        return
    turn = 0
    while True:
        out.write(f"\r{FRAMES[turn % len(FRAMES)]} {what} ({time.monotonic() - began:.0f} s)")
        out.flush()
        if over.wait(EVERY_S):
            break
        turn += 1
    out.write("\r\x1b[K")  # the cursor to the line's beginning, and the line away
    out.flush()
