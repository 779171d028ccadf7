"""How far a long command is, on a terminal."""

from __future__ import annotations

import io
import time
from functools import partial

import pytest

from tokenguard.lint.run import Run
from tokenguard.process import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(progress, "AFTER_S", 0.01)
    monkeypatch.setattr(progress, "EVERY_S", 0.01)


def seen(out, text):
    """Wait until the terminal has shown this."""
    until = time.monotonic() + 10
    while text not in out.getvalue():
        assert time.monotonic() < until, out.getvalue()
        time.sleep(0.005)


def test_long_work_is_shown_and_taken_away():
    """After a while the line is there and counts; at the end it is gone, also where the work fails."""
    out = Terminal()

    def work():
        with progress.working("Linting files", 2000, out) as going:
            seen(out, "Linting files")
            seen(out, "0 of 2,000")
            going.advance(1200)
            seen(out, "1,200 of 2,000")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        work()
    assert out.getvalue().endswith("\x1b[1A\x1b[2K")


def test_parts():
    """A command's parts have their own counts, which are asked for only where somebody sees them."""
    out = Terminal()
    with progress.working("Reading calls", out=out):
        seen(out, "Reading calls")
        part = progress.part("Replaying calls", lambda: 1_000_000)
        part.advance(10_000)
        seen(out, "Replaying calls")
        seen(out, "10,000 of 1,000,000")
    assert progress.part("Replaying calls", lambda: pytest.fail("nobody looks")).total is None


def test_short_work_shows_nothing(monkeypatch):
    """What is over at once shows nothing."""
    monkeypatch.setattr(progress, "AFTER_S", 60.0)
    out = Terminal()
    with progress.working("Reading calls", out=out):
        pass
    assert out.getvalue() == ""


@pytest.mark.parametrize("quiet", [True, False])
def test_nothing_is_shown_in_a_pipe_or_when_quiet(monkeypatch, quiet):
    """A pipe gets nothing, nor does a terminal with `--quiet`."""
    monkeypatch.setattr(progress, "quiet", quiet)
    out = Terminal() if quiet else io.StringIO()
    with progress.working("Reading calls", out=out):
        time.sleep(0.05)
    assert out.getvalue() == ""


def test_linted_files_are_counted(tmp_path, monkeypatch):
    """Each file counts once, whether it is linted or known from before."""
    from tokenguard.lint.config import Config
    from tokenguard.lint.files import Found

    monkeypatch.chdir(tmp_path)
    config = Config(str(tmp_path))
    for n in range(3):
        (tmp_path / f"a{n}.py").write_text(f"x = {n}\n")
    files = [Found(f"a{n}.py", config) for n in range(3)]
    for _ in range(2):
        counted = []
        Run().lint(files, partial(counted.append, 1))
        assert len(counted) == 3
