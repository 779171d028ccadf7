"""Work that several processes share is done once, whatever becomes of them."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tokenguard.lint.shared import shared

PIECES = 40


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_each_piece_is_done_once(processes: int) -> None:
    """All pieces come, each once, in whatever order."""
    found = list(shared(lambda number: "x" * number * 10_000, PIECES, processes))
    assert sorted(found) == [(number, "x" * number * 10_000) for number in range(PIECES)]


def test_other_processes_take_part() -> None:
    """While one is busy, the next piece is another's."""

    def work(_: int) -> int:
        time.sleep(0.01)
        return os.getpid()

    assert len({process for _, process in shared(work, PIECES, 3)}) == 3


def test_what_a_killed_process_leaves_is_done_here() -> None:
    """A process that is killed takes no piece with it."""
    here = os.getpid()

    def work(number: int) -> int:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.001)
        return number

    assert sorted(shared(work, PIECES, 3)) == [(number, number) for number in range(PIECES)]


def test_an_error_is_raised_here() -> None:
    """What goes wrong in another process goes wrong in this one, with all that an error says."""
    here = os.getpid()

    def work(number: int) -> int:
        if os.getpid() == here:
            time.sleep(0.005)
        if number == PIECES - 1:
            raise ValueError(f"piece {number}")
        return number

    with pytest.raises(ValueError, match="piece 39"):
        list(shared(work, PIECES, 3))
