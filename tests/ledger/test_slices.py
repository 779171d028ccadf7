"""Slices: a round trip per slice, returned when they are not needed, charged when their process died."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tokenguard.ledger import Entry, MemoryLedger, Refusal, Reservation, nano
from tokenguard.ledger.slices import SlicedLedger
from tokenguard.ledger.sqlite import SqliteLedger

from .engines import START, Clock

HOT = Entry("hot", "", int(START), int(START) + 3600, nano(10), 10_000, (0.5,))


class Counting(MemoryLedger):
    """A shared ledger that counts its round trips, and says that it may block."""

    threads = 1
    trips = 0

    def reserve(self, *args, **kwargs):
        self.trips += 1
        return super().reserve(*args, **kwargs)

    def _close(self, *args, **kwargs):
        self.trips += 1
        return super()._close(*args, **kwargs)


def spend(ledger: SlicedLedger, usd: float, tokens: int = 0) -> tuple:
    made = ledger.reserve([HOT], nano(usd), tokens)
    assert isinstance(made, Reservation), made
    return ledger.settle(made, nano(usd), tokens)


def test_a_round_trip_per_slice(clock: Clock) -> None:
    """A hundred calls out of one slice cost one round trip; a second settle changes nothing."""
    shared = Counting(clock=clock)
    ledger = SlicedLedger(shared, share=0.1, idle_s=1000)
    for _ in range(100):
        spend(ledger, 0.01)
    assert shared.trips == 1
    made = ledger.reserve([HOT], nano(0.01), 0)
    assert shared.trips == 3, "the first slice is used up: it goes back, and the next one is leased"
    assert isinstance(made, Reservation)
    ledger.settle(made, nano(0.01), 0)
    ledger.settle(made, nano(0.01), 0)
    ledger.release(made)
    ledger.close()
    balance = shared.read([HOT])[0]
    assert (balance.spent_nano, balance.reserved_nano, balance.orphaned_nano) == (nano(1.01), 0, 0)


def test_the_last_cent(clock: Clock) -> None:
    """Near the limit slices shrink to the call, so the limit can be used up exactly."""
    shared = Counting(clock=clock)
    ledger = SlicedLedger(shared, share=0.3, idle_s=1000)
    for _ in range(10):
        spend(ledger, 1.0)
    no = ledger.reserve([HOT], 1, 0)
    assert isinstance(no, Refusal)
    assert no.limit == nano(10)
    ledger.close()
    assert shared.read([HOT])[0].spent_nano == nano(10)


def test_large_call(clock: Clock) -> None:
    """A call that is larger than a slice leases just what it needs."""
    shared = Counting(clock=clock)
    ledger = SlicedLedger(shared, share=0.01, idle_s=1000)
    made = ledger.reserve([HOT], nano(9), 5)
    assert isinstance(made, Reservation)
    assert shared.read([HOT])[0].reserved_nano == nano(9)
    assert isinstance(ledger.reserve([HOT], nano(2), 5), Refusal)


def test_over_the_reservation(clock: Clock) -> None:
    """A call that cost more than was reserved is told to the others at once."""
    shared = Counting(clock=clock)
    ledger = SlicedLedger(shared, share=0.01, idle_s=1000)
    made = ledger.reserve([HOT], nano(0.01), 0)
    assert isinstance(made, Reservation)
    alerts = ledger.settle(made, nano(6), 0)
    assert [alert.threshold for alert in alerts] == [0.5]
    assert shared.read([HOT])[0].spent_nano == nano(6)


def test_slices_end(clock: Clock) -> None:
    """A slice whose time is over is returned by the next call, and one of a dead process is charged in full."""
    shared = Counting(clock=clock, lease_s=100)
    ledger = SlicedLedger(shared, share=0.1, slice_lease_s=60, idle_s=1000)
    spend(ledger, 0.25)
    clock.time += 61
    spend(ledger, 0.25)
    balance = shared.read([HOT])[0]
    assert (balance.spent_nano, balance.reserved_nano) == (nano(0.25), nano(1))
    clock.time += 161
    balance = shared.read([HOT])[0]
    assert (balance.spent_nano, balance.orphaned_nano) == (nano(1.25), nano(1))


def test_idle_slices_go_back() -> None:
    """A slice that nobody uses is returned by itself, its alerts are heard, and the thread that does it ends."""
    shared = Counting()
    ledger = SlicedLedger(shared, share=0.6, idle_s=0.05)
    heard: list = []
    ledger.on_alerts = heard.extend
    spend(ledger, 5.5)
    until = time.monotonic() + 5
    while (shared.read([HOT])[0].reserved_nano or ledger._slices) and time.monotonic() < until:
        time.sleep(0.01)
    balance = shared.read([HOT])[0]
    assert (balance.spent_nano, balance.reserved_nano) == (nano(5.5), 0)
    assert [alert.threshold for alert in heard] == [0.5]
    assert not ledger._slices
    spend(ledger, 1.0)
    ledger.close()
    assert shared.read([HOT])[0].spent_nano == nano(6.5)


def test_close_with_a_call_under_way(clock: Clock) -> None:
    """Closing returns what is free; what a call still holds is returned when it is settled."""
    shared = MemoryLedger(clock=clock)
    ledger = SlicedLedger(shared, share=0.1, idle_s=1000)
    made = ledger.reserve([HOT], nano(0.5), 0)
    assert isinstance(made, Reservation)
    ledger.close()
    assert shared.read([HOT])[0].reserved_nano == nano(1)
    ledger.settle(made, nano(0.2), 0)
    balance = shared.read([HOT])[0]
    assert (balance.spent_nano, balance.reserved_nano) == (nano(0.2), 0)


@pytest.mark.blocks
async def test_async_within_a_slice(clock: Clock) -> None:
    """Within a slice the async form answers at once, without a thread; leasing happens off the event loop."""
    threads: list[int] = []

    class Watched(Counting):
        def reserve(self, *args, **kwargs):
            threads.append(threading.get_ident())
            return super().reserve(*args, **kwargs)

    shared = Watched(clock=clock)
    ledger = SlicedLedger(shared, share=0.1, idle_s=1000)
    for _ in range(20):
        made = await ledger.run(ledger.reserve, [HOT], nano(0.01), 1)
        assert isinstance(made, Reservation)
        assert await ledger.run(ledger.settle, made, nano(0.01), 1) == ()
    made = await ledger.run(ledger.reserve, [HOT], nano(0.01), 1)
    await ledger.run(ledger.release, made)
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()
    assert len(await asyncio.gather(*(ledger.run(ledger.read, [HOT]) for _ in range(3)))) == 3
    ledger.close()
    assert shared.read([HOT])[0].spent_nano == nano(0.2)


def test_threads_share_slices(clock: Clock) -> None:
    """Fifty threads at a $1 limit with $0.35 each: exactly 2 get through, slices or not."""
    small = Entry("small", "", int(START), int(START) + 3600, nano(1))
    for share in (0.01, 0.2, 0.5):
        ledger = SlicedLedger(MemoryLedger(clock=clock), share=share, idle_s=1000)
        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(lambda _, ledger=ledger: ledger.reserve([small], nano(0.35), 0), range(50)))
        assert sum(isinstance(answer, Reservation) for answer in answers) == 2, share


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_fork(tmp_path: Path, clock: Clock) -> None:
    """A forked child leases slices of its own; the parent's stay the parent's, and so do its reservations."""
    shared = SqliteLedger(tmp_path / "ledger.db", clock=clock)
    ledger = SlicedLedger(shared, share=0.1, idle_s=1000)
    made = ledger.reserve([HOT], nano(0.25), 0)
    assert isinstance(made, Reservation)
    child = os.fork()
    if not child:
        try:
            ledger.settle(made, nano(9), 0)  # a copy, of no account
            spend(ledger, 0.5)
            ledger.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    balance = shared.read([HOT])[0]
    assert (balance.spent_nano, balance.reserved_nano) == (nano(0.5), nano(1))
    ledger.settle(made, nano(0.25), 0)
    ledger.close()
    assert shared.read([HOT])[0].spent_nano == nano(0.75)
    shared.close()
