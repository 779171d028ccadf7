"""The threads that do what calls leave behind: nothing that they were given is lost at the end."""

from __future__ import annotations

import time
from queue import SimpleQueue

from tokenguard.process.threads import Pool


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
