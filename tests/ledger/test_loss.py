"""A shared ledger that goes away: calls go on or are refused as the policy says, and the sums are right afterwards."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tokenguard.ledger import Entry, LedgerError, MemoryLedger, Refusal, Reservation, nano
from tokenguard.ledger.loss import SurvivingLedger
from tokenguard.ledger.redis import RedisLedger
from tokenguard.ledger.sqlite import SqliteLedger

from .engines import START, Clock, Server

IT = Entry("b", "", int(START), int(START) + 3600, nano(1), None, (0.5,))


class Fragile(MemoryLedger):
    """A shared ledger that can be out of reach, also after it did what it was asked to."""

    down = False
    down_after = False

    def reserve(self, *args, **kwargs):
        self._check(self.down)
        answer = super().reserve(*args, **kwargs)
        self._check(self.down_after)
        return answer

    def _close(self, *args, **kwargs):
        self._check(self.down)
        return super()._close(*args, **kwargs)

    def _check(self, down: bool) -> None:
        if down:
            raise LedgerError("the line is cut")


def held(answer: Reservation | Refusal) -> Reservation:
    assert isinstance(answer, Reservation), answer
    return answer


def totals(ledger: MemoryLedger) -> tuple[int, int]:
    balance = ledger.read([IT])[0]
    return balance.spent_nano, balance.reserved_nano


def test_allow_counts_and_reconciles(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """While the ledger is lost the process keeps its own count against the limit; afterwards all is charged once."""
    shared = Fragile(clock=clock)
    ledger = SurvivingLedger(shared, retry_s=0.0)
    heard: list = []
    ledger.on_alerts = heard.extend
    before = held(ledger.reserve([IT], nano(0.2), 0))
    shared.down = True
    with caplog.at_level(logging.WARNING):
        offline = held(ledger.reserve([IT], nano(0.3), 0))
        assert ledger.lost
        assert isinstance(ledger.reserve([IT], nano(0.8), 0), Refusal), "the limit holds for the process itself"
        ledger.settle(before, nano(0.1), 0)
        ledger.settle(offline, nano(0.25), 0)
        ledger.settle(offline, nano(0.25), 0)
        still = held(ledger.reserve([IT], nano(0.2), 0))
        assert ledger.alerts([IT]) == ()
        shared.down = False
        after = held(ledger.reserve([IT], nano(0.1), 0))
    assert not ledger.lost
    assert [record.message for record in caplog.records] == [
        "the line is cut; until it is back, budgets are counted in this process",
        "the ledger can be reached again",
    ]
    assert totals(shared) == (nano(0.35), nano(0.1))
    assert [a.threshold for a in ledger.settle(still, nano(0.2), 0)] == [0.5]
    assert totals(shared) == (nano(0.55), nano(0.1))
    ledger.release(after)
    assert totals(shared) == (nano(0.55), 0)
    assert ledger._local.read([IT])[0].spent_nano == 0, "nothing is counted twice at the next loss"
    assert heard == []


def test_block(clock: Clock) -> None:
    """With "block" a lost ledger refuses calls under a budget that enforces, and only those."""
    shared = Fragile(clock=clock)
    ledger = SurvivingLedger(shared, on_loss="block", retry_s=0.0)
    before = held(ledger.reserve([IT], nano(0.2), 0))
    shared.down = True
    no = ledger.reserve([IT], nano(0.1), 0)
    assert isinstance(no, Refusal)
    assert (no.lost, no.limit, no.asked, no.spent) == (True, nano(1), nano(0.1), 0)
    held(ledger.reserve([Entry("w", "", 0, 2**31, 1, None, enforce=False)], nano(0.1), 0))
    held(ledger.reserve([], nano(0.1), 0))
    ledger.settle(before, nano(0.2), 0)
    shared.down = False
    held(ledger.reserve([IT], nano(0.1), 0))
    assert totals(shared) == (nano(0.2), nano(0.1))


def test_answer_lost(clock: Clock) -> None:
    """A reservation that was made although its answer never came is given back."""
    shared = Fragile(clock=clock)
    ledger = SurvivingLedger(shared, retry_s=0.0)
    shared.down_after = True
    offline = held(ledger.reserve([IT], nano(0.4), 0))
    assert totals(shared) == (0, nano(0.4))
    shared.down_after = False
    ledger.settle(offline, nano(0.4), 0)
    assert totals(shared) == (nano(0.4), 0)


def test_one_caller_tries(clock: Clock) -> None:
    """A lost ledger is tried once in a while, not by every call."""
    shared = Fragile(clock=clock)
    tries: list[int] = []
    shared._check = lambda down: (tries.append(1), (_ for _ in ()).throw(LedgerError("cut")))  # type: ignore[method-assign]
    ledger = SurvivingLedger(shared, retry_s=60.0)
    for _ in range(50):
        ledger.release(held(ledger.reserve([IT], 1, 0)))
    assert len(tries) == 1


@pytest.fixture
def own_server(redis_session: Server, tmp_path: Path) -> Iterator[Server]:
    """A Redis that the test may stop."""
    server = Server(tmp_path)
    yield server
    server.stop()


def test_redis_stops_and_comes_back(own_server: Server) -> None:
    """With a real Redis: calls go on while it is stopped, and their spending is there when it is back."""
    ledger = SurvivingLedger(RedisLedger(own_server.url, timeout_s=1.0), retry_s=0.05)
    it = Entry("b", "", 0, 2**32, nano(1))
    before = held(ledger.reserve([it], nano(0.2), 0))
    own_server.stop()
    offline = held(ledger.reserve([it], nano(0.2), 0))
    ledger.settle(before, nano(0.1), 0)
    ledger.settle(offline, nano(0.2), 0)
    assert ledger.lost
    with pytest.raises(LedgerError, match="Redis ledger cannot be used"):
        ledger.accounts()
    own_server.start()
    time.sleep(0.1)
    ledger.settle(held(ledger.reserve([it], nano(0.3), 0)), nano(0.3), 0)
    assert not ledger.lost
    balance = ledger.read([it])[0]
    assert (balance.spent_nano, balance.reserved_nano) == (nano(0.6), 0)
    ledger.close()


def test_sqlite_file_in_the_way(tmp_path: Path) -> None:
    """A path that cannot be a database is a loss like any other, and names the file."""
    path = tmp_path / "ledger.db"
    path.write_text("this is not a database, " * 100)
    ledger = SqliteLedger(path)
    with pytest.raises(LedgerError, match=r"ledger\.db cannot be used"):
        ledger.reserve([IT], 1, 0)
    held(SurvivingLedger(ledger).reserve([IT], 1, 0))
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match="cannot be used"):
        SqliteLedger(tmp_path / "file" / "ledger.db").reserve([IT], 1, 0)


def test_newer_sqlite_format(tmp_path: Path) -> None:
    """A file of a newer TokenGuard is left alone."""
    import sqlite3

    db = sqlite3.connect(tmp_path / "ledger.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(LedgerError, match="format 99"):
        SqliteLedger(tmp_path / "ledger.db").read([IT])
