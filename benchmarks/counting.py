"""Instructions that a piece of Python takes, counted by valgrind's callgrind: on any load.

A process that wants to be counted is started with `command`, makes a `Counter`, and asks it for `count`. Only the
calling thread counts. Needs valgrind with its headers, and a C compiler for the ten lines of `counting.c`.
"""

from __future__ import annotations

import ctypes
import gc
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("counting.c")
OUT = "callgrind.out"
SEEDS = 3
"""In how many processes a thing is counted, each with its own hash seed. Where names and types lie in memory is worth
0.3 per cent of what a process counts, by their clashes in the interpreter's caches."""
UNDISTURBED = 600.0
"""Seconds for which no other thread may ask for the interpreter while one counts. What handing it over takes depends on
how long the others hold it, so on what else the machine does."""
TOTALS = re.compile(r"^totals: (\d+)$", re.MULTILINE)


def missing() -> str | None:
    """What keeps this machine from counting; `None` for nothing."""
    absent = [tool for tool in ("valgrind", "cc") if shutil.which(tool) is None]
    return f"{' and '.join(absent)} not on PATH" if absent else None


def environ(seed: int) -> dict[str, str]:
    """What the environment of a process that is counted says."""
    return {"PYTHONHASHSEED": str(seed)}


def command(folder: Path, program: Sequence[str]) -> list[str]:
    """The program under callgrind, which writes into this folder and counts nothing until it is asked."""
    own = ("--tool=callgrind", "--instr-atstart=no", "--collect-atstart=no", f"--callgrind-out-file={folder / OUT}")
    return ["valgrind", "--quiet", *own, *program]


class Counter:
    """Counts in this process, which runs under `command`; `folder` is the one given there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        library = folder / "counting.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", str(SOURCE), "-o", str(library)], check=True)
        self._library = ctypes.PyDLL(str(library))
        self._dumps = 0
        self._between = False
        self._layers: list[Callable[..., Any]] = []
        for _ in range(2):
            self.nothing = self._counted(lambda: None)

    def count(self, work: Callable[[], object]) -> int:
        """Instructions that `work` takes in this thread, with the collector of garbage switched off."""
        return self._counted(work) - self.nothing

    def count_between(self, work: Callable[[], object]) -> int:
        """The same, but of what `work` does between two layers that were made `toggling` alone."""
        toggle = self._library.count_toggle

        def between() -> None:
            toggle()
            self._between = True
            work()
            self._between = False
            toggle()

        return self._counted(between) - self.nothing

    def toggling(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that ends the counting of `count_between`, or begins it, while it runs."""
        toggle, place = self._library.count_toggle, len(self._layers)
        self._layers.append(function)  # and not in the closure, where TokenGuard finds the SDK's own and goes below

        def toggled(*args: Any, **kwargs: Any) -> Any:
            function = self._layers[place]
            if not self._between:
                return function(*args, **kwargs)
            toggle()
            try:
                return function(*args, **kwargs)
            finally:
                toggle()

        return toggled

    def _counted(self, work: Callable[[], object]) -> int:
        interval = sys.getswitchinterval()
        gc.collect()
        gc.disable()
        sys.setswitchinterval(UNDISTURBED)
        try:
            self._library.count_begin()
            work()
            self._library.count_end(b"")
        finally:
            sys.setswitchinterval(interval)
            gc.enable()
        self._dumps += 1
        found = TOTALS.search((self._folder / f"{OUT}.{self._dumps}").read_text())
        if found is None:
            raise RuntimeError(f"callgrind has written no total into {self._folder}: does this run under valgrind?")
        return int(found[1])
