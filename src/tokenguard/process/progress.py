"""How far a command is, on the terminal, while it works for longer than a second.

```text
/ Replaying calls ━━━━━━━━━━━━━╸━━━━━━━━━━━━━━━━━━━━ 342,000 of 1,000,000 0:00:07
```
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TextIO

AFTER_S: Final = 1.0
EVERY_S: Final = 0.2

quiet = False
"""Whether nothing is shown; `tokenguard --quiet` sets it."""


class Work:
    """What a command does, and how far it is."""

    def __init__(self, what: str, total: int | None) -> None:
        self.what = what
        self.total = total
        """Of how many pieces; `None` where nobody knows."""
        self.done = 0

    def advance(self, pieces: int = 1) -> None:
        """So many more pieces are done."""
        self.done += pieces

    @property
    def count(self) -> str:
        """`342,000 of 1,000,000`, or what is done where the end is not known."""
        if self.total is None:
            return f"{self.done:,}" if self.done else ""
        return f"{min(self.done, self.total):,} of {self.total:,}"


_shown: Work | None = None
"""The work of the command, where somebody may look at it."""


@contextmanager
def working(what: str, total: int | None = None, out: TextIO | None = None) -> Iterator[Work]:
    """Show `what`, and how far it is, on standard error from the first second on, and take it away at the end.

    Nothing is shown where standard error is no terminal, or with `--quiet`.
    """
    global _shown
    out = sys.stderr if out is None else out
    work = Work(what, total)
    if quiet or not out.isatty():
        yield work
        return
    over, before = threading.Event(), _shown
    thread = threading.Thread(target=_show, args=(work, out, over), name="tokenguard-progress", daemon=True)
    _shown = work
    thread.start()
    try:
        yield work
    finally:
        _shown = before
        over.set()
        thread.join()


def part(what: str, total: Callable[[], int]) -> Work:
    """The next part of the command's work, which has so many pieces; they are counted only where it is shown."""
    work = _shown
    if work is None:
        return Work(what, None)
    work.what, work.total, work.done = what, total(), 0
    return work


def _show(work: Work, out: TextIO, over: threading.Event) -> None:
    if over.wait(AFTER_S):
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn("line"),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
    )
    shown = Progress(
        *columns,
        console=Console(file=out),
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with shown:
        bar = shown.add_task(work.what, total=work.total, count=work.count)
        while True:
            shown.update(
                bar, description=work.what, total=work.total, completed=work.done, count=work.count, refresh=True
            )
            if over.wait(EVERY_S):
                return
