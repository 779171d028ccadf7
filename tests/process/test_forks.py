"""Forks while other threads are busy: with imports, and with registering what a fork must not copy."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from process.programs import run
from tokenguard.process import forks
from tokenguard.process.threads import start

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")


def forked(job) -> int:
    """How a child ends that does `job`; one that hangs is killed."""
    pid = os.fork()
    if pid == 0:
        try:
            job()
        finally:
            os.kill(os.getpid(), signal.SIGKILL if sys.exc_info()[0] else signal.SIGUSR1)
    until = time.monotonic() + 20
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.WTERMSIG(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError("the child hangs")


@pytest.mark.filterwarnings("ignore:This process")
def test_while_a_thread_of_ours_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork waits for it: a child has a copy of the module's lock, which nobody would release there."""
    (tmp_path / "slow_to_import.py").write_text("import time\nfor _ in range(30): time.sleep(0.01)\nWHOLE = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert start(lambda: __import__("slow_to_import"))
    while "slow_to_import" not in sys.modules:
        time.sleep(0.001)
    assert forked(lambda: __import__("slow_to_import").WHOLE) == signal.SIGUSR1


@pytest.mark.filterwarnings("ignore:This process")
def test_what_is_registered_during_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may import a module of ours then: it is begun as well, and nothing is ended that was not begun."""
    monkeypatch.setattr(forks, "_known", [])
    ran: list[str] = []

    def before() -> None:
        ran.append("before")
        forks.at_fork(
            lambda: ran.append("late child"), before=lambda: ran.append("late before"),
            in_parent=lambda: ran.append("late after"),
        )  # fmt: skip

    forks.at_fork(lambda: None, before=before, in_parent=lambda: ran.append("after"))
    assert forked(lambda: ran.index("late child")) == signal.SIGUSR1
    assert ran == ["before", "late before", "after", "late after"]


FORKS = """
import faulthandler
one()
def job():
    pid = os.fork()
    if pid == 0:
        faulthandler.dump_traceback_later(15, exit=True)
        own = openai.OpenAI(api_key="k", http_client=httpx2.Client(transport=httpx2.MockTransport(provider)))
        own.chat.completions.create(**ASK)
        os._exit(0)
    os.waitpid(pid, 0)
    one()
threads = [threading.Thread(target=job) for _ in range(10)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("done")
"""


@pytest.mark.apart
def test_threads_that_fork(tmp_path: Path) -> None:
    """Ten threads fork at once, while the first record is on its way: each call is kept, and nobody hangs."""
    ended = run(tmp_path, FORKS)
    assert ended.output == "done\n"
    assert ended.outcomes == ["ok"] * 21
    assert (round(ended.spent, 6), ended.reserved) == (0.00735, 0)
