"""The SQLite ledger gathers what calls came to, and writes it when it is needed or a moment later."""

from __future__ import annotations

import gc
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tokenguard.ledger import sqlite as sqlite_module
from tokenguard.ledger.entry import Balance, Entry, Refusal, Reservation, nano
from tokenguard.ledger.loss import SurvivingLedger
from tokenguard.ledger.sqlite import SqliteLedger
from tokenguard.process import ends

IT = Entry("b", "", 0, 2**32, nano(1), None, (0.5,))


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A ledger whose thread leaves everything to the next operation."""
    monkeypatch.setattr(sqlite_module, "_GATHER_S", 1000)
    opened = SqliteLedger(tmp_path / "ledger.db")
    yield opened
    opened.close()


def reserved(ledger, usd: float) -> Reservation:
    made = ledger.reserve([IT], nano(usd), 0)
    assert isinstance(made, Reservation)
    return made


def seen_by_others(ledger: SqliteLedger) -> Balance:
    other = SqliteLedger(ledger.path)
    balance = other.read([IT])[0]
    other.close()
    return balance


def test_goes_with_the_next_reservation(ledger: SqliteLedger) -> None:
    """Until it is written the call stands as reserved for others; the next reservation finds it settled."""
    heard: list = []
    ledger.on_alerts = heard.extend
    ledger.settle_soon(reserved(ledger, 0.9), nano(0.6), 0)
    assert (seen_by_others(ledger).spent_nano, seen_by_others(ledger).reserved_nano) == (0, nano(0.9))
    assert heard == []
    reserved(ledger, 0.4)
    assert [alert.threshold for alert in heard] == [0.5]
    assert (seen_by_others(ledger).spent_nano, seen_by_others(ledger).reserved_nano) == (nano(0.6), nano(0.4))
    assert isinstance(ledger.reserve([IT], 1, 0), Refusal)


def test_is_written_by_itself(tmp_path: Path) -> None:
    """Where no call follows, a thread writes it, and ends when nothing more comes."""
    ledger = SqliteLedger(tmp_path / "ledger.db")
    ledger.settle_soon(reserved(ledger, 0.9), nano(0.25), 0)
    until = time.monotonic() + 10
    while not (balance := seen_by_others(ledger)).spent_nano and time.monotonic() < until:
        time.sleep(0.01)
    assert (balance.spent_nano, balance.reserved_nano) == (nano(0.25), 0)
    ledger.close()


def test_close_ends_the_thread(ledger: SqliteLedger) -> None:
    """A ledger that is closed leaves no thread behind, and can be used again."""
    for _ in range(2):
        ledger.settle_soon(reserved(ledger, 0.25), nano(0.125), 0)
        writer = ledger._writer
        assert writer is not None
        ledger.close()
        assert not writer.runs
    assert seen_by_others(ledger).spent_nano == nano(0.25)


def test_release_soon(ledger: SqliteLedger) -> None:
    """What is released is free for the next call of this process at once."""
    ledger.release_soon(reserved(ledger, 1.0))
    reserved(ledger, 1.0)


def test_outlives_a_locked_file(ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the file cannot be written nothing is lost: it goes along when it can."""
    made = reserved(ledger, 0.5)
    ledger._timeout_s = 0.05
    blocker = sqlite3.connect(ledger.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    ledger.settle_soon(made, nano(0.125), 0)
    assert ledger.flush() is False
    blocker.execute("ROLLBACK")
    blocker.close()
    assert ledger.flush() is True
    assert seen_by_others(ledger).spent_nano == nano(0.125)


def test_absurd_amounts(ledger: SqliteLedger) -> None:
    """An amount that no column holds does not stop the ones behind it."""
    ledger.settle_soon(reserved(ledger, 0.1), 10**40, 10**40)
    assert ledger.flush() is True
    assert seen_by_others(ledger).spent_nano == 2**53


def test_below_the_survivor(ledger: SqliteLedger) -> None:
    """A ledger whose loss is survived gathers as well; what was counted while it was lost does not get mixed in."""
    surviving = SurvivingLedger(ledger)
    surviving.settle_soon(reserved(surviving, 0.5), nano(0.25), 0)
    assert len(ledger._gathered) == 1
    local = surviving._local.reserve([IT], nano(0.5), 0)
    assert isinstance(local, Reservation)
    surviving.settle_soon(local, nano(0.125), 0)
    surviving.submit(int).result()
    surviving.close()
    assert seen_by_others(ledger).spent_nano == nano(0.375)


PROGRAM = """
import os, sys
from tokenguard.ledger.entry import Entry, nano
from tokenguard.ledger.sqlite import SqliteLedger
from tokenguard.process import ends
ledger = SqliteLedger(sys.argv[1])
it = Entry("b", "", 0, 2**32, nano(1))
ledger.settle_soon(ledger.reserve([it], nano(0.5), 0), nano(0.25), 0)
if sys.argv[2] == "fork" and os.fork():
    os.wait()
"""


@pytest.mark.parametrize("how", ["plain", "fork"])
def test_a_program_that_ends(tmp_path: Path, how: str) -> None:
    """A program that ends right after its last call leaves nothing reserved; a forked child charges nothing twice."""
    path = tmp_path / "ledger.db"
    subprocess.run([sys.executable, "-c", PROGRAM, path, how], check=True)
    ledger = SqliteLedger(path)
    balance = ledger.read([IT])[0]
    assert (balance.spent_nano, balance.reserved_nano) == (nano(0.25), 0)
    ledger.close()


def test_a_stream_collected_while_the_end_is_written(ledger: SqliteLedger, monkeypatch, caplog):
    """At the end of a process the collector may end a stream in the midst of the ledger's own last transaction.

    What it came to is written after that one, whose connection is not taken away: SQLite may be at work with it.
    """
    first, second, third = reserved(ledger, 0.1), reserved(ledger, 0.2), reserved(ledger, 0.3)
    ledger.settle_soon(first, nano(0.01), 1)
    monkeypatch.setattr(ends, "ending", True)
    charge = ledger._charge

    def collecting(db, settlements):
        if second in [settlement[0] for settlement in settlements]:
            monkeypatch.undo()
            monkeypatch.setattr(ends, "ending", True)
            ledger.settle_soon(third, nano(0.03), 1)
        return charge(db, settlements)

    monkeypatch.setattr(ledger, "_charge", collecting)
    connection = ledger._connection
    ledger.settle_soon(second, nano(0.02), 1)
    assert ledger._connection is connection
    balance = seen_by_others(ledger)
    assert (balance.spent_nano, balance.reserved_nano) == (nano(0.06), 0)
    assert not caplog.messages


def test_a_ledger_that_nobody_has_any_more(tmp_path: Path):
    """Its file is closed with it: Python 3.13 warns of connections that are left to the collector."""
    ledger = SqliteLedger(tmp_path / "other.db")
    reserved(ledger, 0.1)
    connection = ledger._connection
    assert connection is not None
    ledger._writer.stop()
    del ledger
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        connection.execute("SELECT 1")


class Stop(BaseException):
    """What a signal handler raises."""


def test_what_others_write_is_seen(ledger: SqliteLedger) -> None:
    """What is remembered of an account holds only until another process writes to the file."""
    other = SqliteLedger(ledger.path)
    reserved(ledger, 0.25)
    assert isinstance(other.reserve([IT], nano(0.5), 0), Reservation)
    assert isinstance(ledger.reserve([IT], nano(0.5), 0), Refusal)
    assert isinstance(other.reserve([IT], nano(0.5), 0), Refusal)
    reserved(ledger, 0.25)
    assert isinstance(other.reserve([IT], 1, 0), Refusal)
    other.reset("b")
    other.drop([IT.account])
    reserved(ledger, 1.0)
    other.close()


def test_what_this_process_writes_is_seen(ledger: SqliteLedger) -> None:
    """The same of its own settlements, resets, dropped accounts and ended leases."""
    made = reserved(ledger, 0.75)
    ledger.settle(made, nano(0.5), 0)
    assert isinstance(ledger.reserve([IT], nano(0.5) + 1, 0), Refusal)
    ledger.reset("b")
    released = reserved(ledger, 1.0)
    ledger.release(released)
    ledger.drop([IT.account])
    reserved(ledger, 1.0)
    ledger._clock = lambda: time.time() + 2 * ledger.lease_s
    assert ledger.read([IT])[0].orphaned_nano == nano(1.0)
    assert isinstance(ledger.reserve([IT], 1, 0), Refusal)


def test_an_account_that_was_forgotten_is_opened_again(ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening an account may be when old ones are deleted, the others of the same call among them."""
    now = 1000.0
    ledger._clock = lambda: now
    old, new = (Entry("b", "", 0, 2000, nano(1)), Entry("c", "", 0, 2**32, nano(1)))
    made = ledger.reserve([old], nano(0.5), 0)
    assert isinstance(made, Reservation)
    ledger.settle(made, 0, 0)
    now = 10.0**6
    both = ledger.reserve([old, new], nano(0.5), 0)
    assert isinstance(both, Reservation)
    assert [balance.reserved_nano for balance in ledger.read([old, new])] == [nano(0.5), nano(0.5)]


BROKEN_OFF = {
    "_hold": lambda ledger, made: ledger.reserve([IT], nano(0.5), 0),
    "_look_up": lambda ledger, made: ledger.reserve([IT], nano(0.5), 0),
    "_charge": lambda ledger, made: ledger.settle(made, nano(0.125), 0),
}


@pytest.mark.parametrize("step", BROKEN_OFF)
def test_what_was_broken_off_is_not_remembered(ledger: SqliteLedger, monkeypatch, step: str) -> None:
    """What a signal handler breaks off takes nothing, whatever it had noted by then."""
    made = reserved(ledger, 0.25)
    original = getattr(ledger, step)

    def broken_off(*arguments):
        original(*arguments)
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(ledger, step, broken_off)
        ledger._taken_at = None
        with pytest.raises(Stop):
            BROKEN_OFF[step](ledger, made)
    assert isinstance(ledger.reserve([IT], nano(0.75) + 1, 0), Refusal)
    reserved(ledger, 0.75)


def test_more_than_was_reserved_counts_at_once(ledger: SqliteLedger) -> None:
    """A call that came to more than its worst case leaves less for the next one, as soon as it has ended."""
    ledger.settle_soon(reserved(ledger, 0.1), nano(0.8), 0)
    assert isinstance(ledger.reserve([IT], nano(0.3), 0), Refusal)
    tokens = Entry("t", "", 0, 2**32, None, 100)
    made = ledger.reserve([tokens], 0, 10)
    assert isinstance(made, Reservation)
    ledger.settle_soon(made, 0, 90)
    assert isinstance(ledger.reserve([tokens], 0, 20), Refusal)


def test_many_gathered_are_not_left_to_the_thread(ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that does not get its turn lets no heap of settlements grow: the next reservation writes them."""
    monkeypatch.setattr(sqlite_module, "_MOST_GATHERED", 3)
    for _ in range(4):
        ledger.settle_soon(reserved(ledger, 0.01), nano(0.01), 0)
    assert len(ledger._gathered) == 4
    reserved(ledger, 0.01)
    assert not ledger._gathered
