"""The line that a long command shows on a terminal."""

from __future__ import annotations

import io
import time

import pytest

from tokenguard.process import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(progress, "AFTER_S", 0.05)
    monkeypatch.setattr(progress, "EVERY_S", 0.01)


def test_long_work_is_shown_and_taken_away():
    """After a while the line is there, goes on, and is gone at the end; so it is where the work fails."""
    out = Terminal()

    @progress.working("Reading calls", out)
    def work():
        time.sleep(0.2)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        work()
    assert "| Reading calls (0 s)" in out.getvalue()
    assert "/ Reading calls" in out.getvalue()
    assert out.getvalue().endswith("\r\x1b[K")


def test_short_work_shows_nothing():
    """What is over at once shows nothing."""
    out = Terminal()
    with progress.working("Reading calls", out):
        pass
    assert out.getvalue() == ""


@pytest.mark.parametrize("quiet", [True, False])
def test_nothing_is_shown_in_a_pipe_or_when_quiet(monkeypatch, quiet):
    """A pipe gets nothing, nor does a terminal with `--quiet`."""
    monkeypatch.setattr(progress, "quiet", quiet)
    out = Terminal() if quiet else io.StringIO()
    with progress.working("Reading calls", out):
        time.sleep(0.1)
    assert out.getvalue() == ""
