"""The threads that do what calls leave behind: nothing that they were given is lost at the end."""

from __future__ import annotations

import _thread
import importlib.util
import queue
import subprocess
import sys
import time
from queue import Empty, Queue, SimpleQueue
from types import SimpleNamespace

import pytest

from tokenguard.process import native
from tokenguard.process.threads import Pool, Worker


class Slow(SimpleQueue):
    """The thread that takes from it is kept from going on for a moment."""

    def get(self, block=True, timeout=None):
        task = super().get(block, timeout)
        time.sleep(0.05)
        return task


def test_a_task_that_was_just_taken() -> None:
    """`finish` waits for a task that a thread has taken and not begun; the next one finds nothing to wait for."""
    pool, done = Pool("test", 1), []
    pool._tasks = Slow()
    pool.soon(lambda: done.append(1))
    while not pool._tasks.empty():
        time.sleep(0.001)
    pool.finish()
    assert done == [1]
    began = time.monotonic()
    pool.stop()
    assert time.monotonic() - began < 0.9


def refuse(*_: object, **__: object) -> None:
    """What gevent puts in the place of the standard library's: it would wait in the caller's own thread."""
    raise AssertionError("a patched function was called")


@pytest.mark.parametrize("first", [False, True], ids=["at once", "after others"])
def test_a_hurry(first: bool) -> None:
    """What is in a hurry waits for no more to come, though the thread does; and what comes after it waits again."""
    done: Queue[float] = Queue()
    worker = Worker("test", lambda: done.put(time.monotonic()), gather_s=3600)
    if first:
        worker.wake()
        time.sleep(0.01)
    for _ in range(2):
        worker.wake(hurry=True)
        done.get(timeout=30)
    worker.wake()
    with pytest.raises(Empty):
        done.get(timeout=0.05)
    worker.stop()


PATCHED = (
    *((_thread, name) for name in ("start_new_thread", "allocate_lock", "RLock")),
    *((time, "sleep"), (queue, "SimpleQueue")),
)


def test_threads_in_a_patched_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that gevent patches after it has imported us has threads of ours that are the system's."""
    for module, name in PATCHED:
        monkeypatch.setattr(module, name, refuse)
    done: list[int] = []
    worker = Worker("test", lambda: done.append(_thread.get_native_id()))
    worker.wake()
    until = time.monotonic() + 10
    while not done and time.monotonic() < until:
        native.sleep(0.001)
    worker.stop()
    assert done
    assert done[0] != _thread.get_native_id()


@pytest.mark.parametrize("patcher", ["gevent.monkey", "eventlet.patcher"])
def test_a_program_that_was_patched_before(monkeypatch: pytest.MonkeyPatch, patcher: str) -> None:
    """Where gevent or eventlet came first, they are asked for the functions that they have replaced."""
    kept = {
        ("_thread", "start_new_thread"): native.start_new_thread,
        ("_thread", "_local"): _thread._local,
        ("_thread", "allocate_lock"): native.Lock,
        ("_thread", "RLock"): native.RLock,
        ("time", "sleep"): native.sleep,
        ("os", "read"): native.read,
    }
    asked = {
        "gevent.monkey": SimpleNamespace(get_original=lambda module, name: kept[module, name]),
        "eventlet.patcher": SimpleNamespace(
            original=lambda module: SimpleNamespace(
                **{name: of for (where, name), of in kept.items() if where == module}
            )
        ),
    }
    for name in ("gevent.monkey", "eventlet.patcher"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, patcher, asked[patcher])
    for module, name in PATCHED:
        monkeypatch.setattr(module, name, refuse)
    spec = importlib.util.spec_from_file_location("tokenguard_native_again", native.__file__)
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    assert (again.start_new_thread, again.sleep) == (native.start_new_thread, native.sleep)
    assert (again.Lock, again.RLock) == (native.Lock, native.RLock)
    assert again.SimpleQueue is native.SimpleQueue


LEADS = """
import os, threading, _thread
import tokenguard; tokenguard.install()
from tokenguard.process.forks import leads
{before}
def told():
    if not os.fork(): print(leads(), flush=True); os._exit(0)
    os.wait()
print(leads(), flush=True)
told(); thread = threading.Thread(target=told); thread.start(); thread.join()
"""


@pytest.mark.apart
@pytest.mark.parametrize("before", ["", "import gevent.monkey; gevent.monkey.patch_all()"], ids=["plain", "gevent"])
def test_who_ends_a_process(before: str) -> None:
    """A child of the main thread ends with it, and one of another thread with the last.

    gevent gives the main thread another identifier, and a forked child another main thread: there it is not known.
    """
    if before:
        pytest.importorskip("gevent")
    command = [sys.executable, "-W", "ignore", "-c", LEADS.format(before=before)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    assert told == ["True", "False" if before else "True", "False"]
