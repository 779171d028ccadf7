"""Work that this process and forked ones share, each taking the next piece when it is free."""

from __future__ import annotations

import os
import pickle
import select
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, BinaryIO, TypeVar

T = TypeVar("T")
MOST = 4_000
"""Pieces: the numbers of all of them wait in a pipe, which holds 16 kB everywhere."""


def shared(work: Callable[[int], T], pieces: int, processes: int) -> Iterator[tuple[int, T]]:
    """What `work` gives for 0, 1, ... `pieces` - 1, with the number, as they are done.

    The first is done before anything is forked, so that what it loads is there for all. What a forked process did not
    hand over, because it was killed or an error ended it, is done here, and raises here.
    """
    yield 0, work(0)
    left = set(range(1, pieces))
    take, give = os.pipe()
    os.write(give, b"".join(number.to_bytes(4) for number in left))
    os.close(give)
    helpers = [_fork(work, take) for _ in range(processes - 1)]
    try:
        while ticket := os.read(take, 4):
            number = int.from_bytes(ticket)
            left.remove(number)
            yield number, work(number)
            for results in select.select([results for _, results in helpers], [], [], 0)[0]:
                yield from islice(_done(results, left), 1)
        for _, results in helpers:
            yield from _done(results, left)
        for number in left:
            yield number, work(number)
    finally:
        os.close(take)
        for process, results in helpers:
            results.close()  # one that is still at work ends when it has something to say
            os.waitpid(process, 0)


def _fork(work: Callable[[int], T], take: int) -> tuple[int, BinaryIO]:
    """A process that does pieces, and the pipe that it writes what they gave to."""
    read, write = os.pipe()
    process = os.fork()
    if process:
        os.close(write)
        return process, os.fdopen(read, "rb")
    try:  # the forked one; whatever happens, it returns to nobody's code
        os.close(read)
        with os.fdopen(write, "wb") as results:
            while ticket := os.read(take, 4):
                number = int.from_bytes(ticket)
                pickle.dump((number, work(number)), results)
                results.flush()
    finally:
        os._exit(0)


def _done(results: BinaryIO, left: set[int]) -> Iterator[tuple[int, Any]]:
    """The pieces that a process hands over, which are taken from what is `left`."""
    with suppress(EOFError, pickle.UnpicklingError):  # at its end; the latter of one that was killed while it wrote
        while True:
            number, result = pickle.load(results)  # noqa: S301 - our own process wrote it
            left.remove(number)
            yield number, result
