"""A ledger in Redis where gevent has patched the program: sockets serve the thread that opened them, and no other."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .engines import Server

pytestmark = pytest.mark.apart

PROGRAM = """
import os, sys, warnings
warnings.simplefilter("ignore")
def patch():
    import gevent.monkey
    gevent.monkey.patch_all()
if sys.argv[2] == "before":
    patch()
from tokenguard.ledger.entry import Entry, Reservation
from tokenguard.ledger.redis import RedisLedger
from tokenguard.ledger.slices import SlicedLedger
from tokenguard.process import native, threads
threads.IDLE_S = 0.05
shared = ledger = RedisLedger(sys.argv[1], timeout_s=10)
if sys.argv[3] == "slices":
    ledger = SlicedLedger(ledger, share=0.01)
if sys.argv[2] == "after":
    patch()
import gevent, gevent.pool
IT = Entry("b", "", 0, 2**32, 10**9)
most, ticks = 0, 0
def files():
    return len(os.listdir("/proc/self/fd"))
def call(number):
    for _ in range(5):
        made = ledger.reserve([IT], 1000, 0)
        assert isinstance(made, Reservation), made
        gevent.sleep(0.001)
        if number % 2:
            ledger.settle_soon(made, 10, 0)
        else:
            ledger.settle(made, 10, 0)
def tick():
    global ticks
    while True:
        ticks += 1
        gevent.sleep(0)
gevent.spawn(tick)
gevent.pool.Pool(20).map(call, range(40))
before = ticks
shared._server._asked().client.client_pause(100)
ledger.read([IT])
assert ticks > before, "the other greenlets wait for the server, too"
ledger.finish()
found = ledger.read([IT])[0]
print(found.spent_nano, found.reserved_nano, flush=True)
gevent.sleep(0.5)
few = files()
for _ in range(10):  # each time in a thread of its own
    made = shared.reserve([IT], 10, 0)
    shared.release_soon(made)
    gevent.sleep(0.2)
gevent.sleep(0.5)
assert files() <= few + 1, (few, files())
ledger.close()
print("done")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files in /proc")
@pytest.mark.parametrize("slices", ["slices", "whole"])
@pytest.mark.parametrize("patched", ["before", "after"])
def test_greenlets_and_threads_of_ours(redis_server: Server, patched: str, slices: str) -> None:
    """Greenlets reserve, threads of ours settle: nothing is lost, nobody else waits, and no file stays open."""
    pytest.importorskip("gevent")
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, redis_server.url, patched, slices], capture_output=True, text=True, timeout=120
    )
    assert ran.stdout.split() == ["2000", "0", "done"], ran.stderr
    assert not ran.stderr
