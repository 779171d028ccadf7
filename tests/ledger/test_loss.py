"""A shared ledger that goes away: calls go on or are refused as the policy says, and the sums are right afterwards."""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
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

    def read(self, entries):
        self._check(self.down)
        return super().read(entries)

    def _check(self, down: bool) -> None:
        if down:
            raise LedgerError("the line is cut")


def found(ledger: SurvivingLedger) -> None:
    """Wait until the ledger is found again, and knows what it has missed."""
    until = time.monotonic() + 10
    while (ledger.lost or ledger._closes or ledger._charges) and time.monotonic() < until:
        time.sleep(0.005)
    assert not ledger.lost


def held(answer: Reservation | Refusal) -> Reservation:
    assert isinstance(answer, Reservation), answer
    return answer


def totals(ledger: MemoryLedger) -> tuple[int, int]:
    balance = ledger.read([IT])[0]
    return balance.spent_nano, balance.reserved_nano


def test_allow_counts_and_reconciles(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """While the ledger is lost the process keeps its own count against the limit; afterwards all is charged once."""
    shared = Fragile(clock=clock)
    ledger = SurvivingLedger(shared, retry_s=0.01)
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
        found(ledger)
        after = held(ledger.reserve([IT], nano(0.1), 0))
    assert [record.message for record in caplog.records] == [
        "the line is cut; until it is back, budgets are counted in this process",
        "the ledger can be reached again",
    ]
    assert totals(shared) == (nano(0.35), nano(0.1))
    ledger.settle(still, nano(0.2), 0)
    found(ledger)
    assert [alert.threshold for alert in heard] == [0.5]
    assert totals(shared) == (nano(0.55), nano(0.1))
    ledger.release(after)
    assert totals(shared) == (nano(0.55), 0)


def test_block(clock: Clock) -> None:
    """With "block" a lost ledger refuses calls under a budget that enforces, and only those."""
    shared = Fragile(clock=clock)
    ledger = SurvivingLedger(shared, on_loss="block", retry_s=0.01)
    before = held(ledger.reserve([IT], nano(0.2), 0))
    shared.down = True
    no = ledger.reserve([IT], nano(0.1), 0)
    assert isinstance(no, Refusal)
    assert (no.lost, no.limit, no.asked, no.spent) == (True, nano(1), nano(0.1), 0)
    held(ledger.reserve([Entry("w", "", 0, 2**31, 1, None, enforce=False)], nano(0.1), 0))
    held(ledger.reserve([], nano(0.1), 0))
    ledger.settle(before, nano(0.2), 0)
    shared.down = False
    found(ledger)
    held(ledger.reserve([IT], nano(0.1), 0))
    assert totals(shared) == (nano(0.2), nano(0.1))


def test_answer_lost(clock: Clock) -> None:
    """A reservation that was made although its answer never came is given back."""
    shared = Fragile(clock=clock)
    ledger = SurvivingLedger(shared, retry_s=0.01)
    shared.down_after = True
    offline = held(ledger.reserve([IT], nano(0.4), 0))
    assert totals(shared) == (0, nano(0.4))
    shared.down_after = False
    ledger.settle(offline, nano(0.4), 0)
    found(ledger)
    assert totals(shared) == (nano(0.4), 0)


def test_no_caller_tries(clock: Clock) -> None:
    """A lost ledger is tried by a thread, ever more seldom, and by no call."""
    shared = Fragile(clock=clock)
    ledger = SurvivingLedger(shared, retry_s=0.05)
    callers: list[bool] = []
    shared._check = lambda down: (  # type: ignore[method-assign]
        callers.append(threading.current_thread() is threading.main_thread()),
        (_ for _ in ()).throw(LedgerError("cut")),
    )
    until = time.monotonic() + 1
    while time.monotonic() < until:
        ledger.release(held(ledger.reserve([IT], 1, 0)))
        time.sleep(0.001)
    assert callers[0]
    assert not any(callers[1:])
    assert 2 <= len(callers) <= 8


def test_outages_grant_no_new_limit(clock: Clock) -> None:
    """Each outage begins at the last balance seen: four of them do not let out four limits more."""
    shared = Fragile(clock=clock)
    ledger = SurvivingLedger(shared, retry_s=0.01)
    spent = 0.0
    for _ in range(5):
        for down in (False, True):
            shared.down = down
            for _ in range(3):
                made = ledger.reserve([IT], nano(0.35), 0)
                if isinstance(made, Reservation):
                    spent += 0.35
                    ledger.settle(made, nano(0.35), 0)
        shared.down = False
        found(ledger)
    assert spent == pytest.approx(0.7)
    assert totals(shared) == (nano(0.7), 0)


def test_what_was_under_way_is_not_counted_twice(clock: Clock) -> None:
    """A call that began before the outage and ends in it gives back what it had reserved, here too."""
    shared = Fragile(clock=clock)
    ledger = SurvivingLedger(shared, retry_s=0.01)
    before = held(ledger.reserve([IT], nano(0.9), 0))
    shared.down = True
    assert isinstance(ledger.reserve([IT], nano(0.2), 0), Reservation | Refusal)
    ledger.settle(before, nano(0.1), 0)
    held(ledger.reserve([IT], nano(0.8), 0))


@pytest.fixture
def own_server(redis_session: Server, tmp_path: Path) -> Iterator[Server]:
    """A Redis that the test may stop."""
    server = Server(tmp_path)
    yield server
    server.stop()


def test_redis_stops_and_comes_back(own_server: Server) -> None:
    """With a real Redis: calls go on while it is stopped, and their spending is there when it is back."""
    ledger = SurvivingLedger(RedisLedger(own_server.url, timeout_s=1.0), retry_s=0.015)
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
    found(ledger)
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


FIRST = """
CREATE TABLE account (
    id TEXT PRIMARY KEY, budget TEXT NOT NULL, key TEXT NOT NULL,
    window_start INTEGER NOT NULL, window_end INTEGER NOT NULL,
    spent_nano INTEGER NOT NULL DEFAULT 0, spent_tokens INTEGER NOT NULL DEFAULT 0,
    reserved_nano INTEGER NOT NULL DEFAULT 0, reserved_tokens INTEGER NOT NULL DEFAULT 0,
    orphaned_nano INTEGER NOT NULL DEFAULT 0, orphaned_tokens INTEGER NOT NULL DEFAULT 0,
    alerted REAL NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE reservation (
    id TEXT PRIMARY KEY, expires REAL NOT NULL, nano INTEGER NOT NULL, tokens INTEGER NOT NULL,
    orphaned INTEGER NOT NULL DEFAULT 0, accounts TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX reservation_lease ON reservation (orphaned, expires);
INSERT INTO account VALUES ('b\x1f\x1f0', 'b', '', 0, 4294967296, 250000000, 0, 500000000, 0, 0, 0, 0);
INSERT INTO reservation VALUES ('before-1', 4294967296.0, 500000000, 0, 0, 'b\x1f\x1f0');
PRAGMA user_version = 1;
"""


def test_older_sqlite_format(tmp_path: Path) -> None:
    """What a file of the first version holds stays, and a process of that version can write to it no more.

    It would not see what is reserved from here on.
    """
    it = Entry("b", "", 0, 2**32, nano(1))
    old = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    old.execute("PRAGMA journal_mode = WAL")
    old.executescript(FIRST)
    assert old.execute("SELECT count(*) FROM reservation").fetchone() == (1,)
    ledgers = [SqliteLedger(tmp_path / "ledger.db") for _ in range(2)]
    made = held(ledgers[0].reserve([it], nano(0.2), 0))
    assert isinstance(ledgers[1].reserve([it], nano(0.1), 0), Refusal)
    ledgers[1].settle(made, nano(0.1), 0)
    ledgers[0].settle(Reservation("before-1", (it,), nano(0.5), 0, 0.0), nano(0.25), 0)
    balance = ledgers[1].read([it])[0]
    assert (balance.spent_nano, balance.reserved_nano) == (nano(0.6), 0)
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        old.execute("INSERT INTO reservation (id, expires, nano, tokens, accounts) VALUES ('x', 0, 1, 1, '')")
    old.close()
    for ledger in ledgers:
        ledger.close()


def test_redis_that_forgot(own_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A Redis that comes back without its data says so, once."""
    ledger = RedisLedger(own_server.url, timeout_s=1.0)
    it = Entry("b", "", 0, 2**32, nano(1))
    held(ledger.reserve([it], nano(0.2), 0))
    ledger._server._shared.client.flushall()
    with caplog.at_level(logging.WARNING):
        held(ledger.reserve([it], nano(0.2), 0))
        held(ledger.reserve([it], nano(0.2), 0))
    assert len(caplog.records) == 1
    assert "has lost its data" in caplog.text
    ledger.close()


def test_threads_give_up_together(tmp_path: Path) -> None:
    """While another connection holds the file, eight threads wait one timeout together, not in single file."""
    ledger = SurvivingLedger(SqliteLedger(tmp_path / "ledger.db", timeout_s=1))
    ledger.release(held(ledger.reserve([IT], 1, 0)))
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waited: list[float] = []

    def call() -> None:
        since = time.monotonic()
        held(ledger.reserve([IT], 1, 0))
        waited.append(time.monotonic() - since)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.execute("ROLLBACK")
    other.close()
    assert len(waited) == 8
    assert max(waited) < 4, "in single file, the last one waits 8 s"
    found(ledger)
    ledger.close()


@pytest.mark.parametrize("replaced", [False, True])
def test_file_taken_away(replaced: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A ledger whose file was deleted or replaced says so, and goes on with the one that all others see."""
    path = tmp_path / "ledger.db"
    mine, others = SqliteLedger(path), SqliteLedger(path)
    mine.settle(held(mine.reserve([IT], nano(0.2), 0)), nano(0.2), 0)
    for file in tmp_path.iterdir():
        file.unlink()
    if replaced:
        others.settle(held(others.reserve([IT], nano(0.3), 0)), nano(0.3), 0)
    with caplog.at_level(logging.WARNING):
        mine.settle(held(mine.reserve([IT], nano(0.1), 0)), nano(0.1), 0)
    assert "was deleted or replaced" in caplog.text
    assert others.read([IT])[0].spent_nano == nano(0.4 if replaced else 0.1)
    mine.close()
    others.close()


def test_private_files(tmp_path: Path) -> None:
    """The ledger's folder and files are its owner's alone, whatever the umask; a symbolic link is refused."""
    umask = os.umask(0)
    try:
        ledger = SqliteLedger(tmp_path / "guard" / "ledger.db")
        held(ledger.reserve([IT], 1, 0))
        modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "guard").iterdir()}
        assert (tmp_path / "guard").stat().st_mode & 0o777 == 0o700
        assert set(modes.values()) == {0o600}
        assert "ledger.db-wal" in modes
        ledger.close()
    finally:
        os.umask(umask)
    (tmp_path / "link.db").symlink_to(tmp_path / "elsewhere.db")
    with pytest.raises(LedgerError, match="symbolic link"):
        SqliteLedger(tmp_path / "link.db").reserve([IT], 1, 0)
    assert not (tmp_path / "elsewhere.db").exists()


def test_the_programs_random_numbers_are_its_own(tmp_path: Path) -> None:
    """A program that has seeded `random` gets the same numbers, however long the ledger's file is locked."""
    ledger = SqliteLedger(tmp_path / "l.db", timeout_s=0.2)
    ledger.accounts()
    before = random.getstate()
    with closing(sqlite3.connect(tmp_path / "l.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError):
            ledger._begin(ledger._opened(), time.monotonic())
        other.execute("ROLLBACK")
    assert random.getstate() == before
    ledger.close()
