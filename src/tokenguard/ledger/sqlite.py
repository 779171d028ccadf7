"""The ledger of one machine: a SQLite file that its processes share.

What calls came to is gathered, and written by a thread a moment later, or by the next operation that needs it; until
then it stands as reserved. A call that came to more than that is written by the next reservation. What accounts hold is
remembered as long as no other process writes to the file (SQLite tells), so that a reservation reads nothing in most
cases.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from operator import add
from pathlib import Path
from typing import Any, Final, TypeVar

from tokenguard.ledger import sqlite_file as file
from tokenguard.ledger.base import LEASE_S, RETAIN_S, Clock, Ledger, log
from tokenguard.ledger.entry import (
    Alert,
    Balance,
    Entry,
    LedgerError,
    Refusal,
    Reservation,
    crossed,
    new_id,
    refusal,
)
from tokenguard.process import ends
from tokenguard.process.chance import CHANCE
from tokenguard.process.forks import leave
from tokenguard.process.interrupts import interrupt
from tokenguard.process.native import RLock, sleep
from tokenguard.process.threads import Worker

_SLEEP_S: Final = (0.0001, 0.002)
"""Between two tries to get the lock, which others hold for a tenth of a millisecond."""
_PURGE_EVERY_S: Final = 60.0

_GATHER_S: Final = 0.02
"""How long what is to be settled waits for a reservation to go along with."""
_MOST_GATHERED: Final = 64
"""So many are not left to the thread: it may not come to its turn."""
_MOST_LOOSE: Final = 32
"""Reservations that stand in no account; when there are more, they are written into theirs."""
_KNOWN: Final = 2**16
"""Accounts that are remembered."""
_LOST_S: Final = 1.0
"""How long it waits for another try when the file cannot be written."""

_MOST: Final = 2**53
"""Nano-dollars or tokens of one call; whatever a provider reports, sums stay integers of SQLite."""

T = TypeVar("T")

_LOOSE: Final = -1
_ORPHANED: Final = 1
"""How a reservation may stand, besides in its accounts as reserved: 0."""

_Settlement = tuple[Reservation, int, int, bool]


class SqliteLedger(Ledger):
    """Accounts in a SQLite file (WAL), one write transaction per operation.

    `settle_soon` has none of its own: its part is in the next one.

    Survives `kill -9` at any moment: what the process held stays reserved until its lease ends and is then charged.
    `timeout_s` is how long an operation waits for other processes. Raises `LedgerError`.
    """

    gathers = True
    _connection: sqlite3.Connection | None = None

    def __init__(
        self, path: Path | str, *, lease_s: float = LEASE_S, timeout_s: float = 5.0, clock: Clock = time.time
    ) -> None:
        super().__init__(lease_s=lease_s, clock=clock)
        self.path = Path(path)
        self._timeout_s = timeout_s
        self._lock = RLock()  # a signal handler may end the process, or call a model, where it is held
        self._file = (0, 0)
        """The device and the inode of the file that is open."""
        self._gave_up = 0.0
        """When somebody last waited for the file in vain, by the monotonic clock."""
        self._here = 0
        """What `ends.here` said to who has the lock."""
        self._purge_at = 0.0
        self._taken: dict[str, tuple[int, int]] = {}
        """What is spent and reserved of accounts, nano-dollars and tokens."""
        self._taken_at: tuple[sqlite3.Connection, int] | None = None
        """The version of the file at which that is so; `None` while it is written, and where that was broken off."""
        self._loose: dict[str, tuple[int, int, Sequence[str]]] | None = None
        """Nano-dollars, tokens and accounts of the loose reservations, by id; `None` where that is to be read."""
        self._gathered: deque[_Settlement] = deque()
        self._writer = Worker("tokenguard-ledger", self._write, gather_s=_GATHER_S, brief=True)

    def __del__(self) -> None:
        """Close the file of a ledger that another policy has replaced; Python 3.13 warns of one that stays open."""
        if self._connection is not None:
            self._connection.close()

    def reserve(
        self, entries: Sequence[Entry], nano: int, tokens: int, key: str | None = None, *, lease_s: float | None = None
    ) -> Reservation | Refusal:
        """See `Ledger.reserve`."""
        now = self.now()
        expires = now + (self.lease_s if lease_s is None else lease_s)
        made = Reservation(key or new_id(), tuple(entries), nano, tokens, expires)
        gathered = list(self._gathered)
        more = 0 < len(gathered) <= _MOST_GATHERED and not any(map(_exceeds, gathered))
        answer = self._transact(self._hold, made, key is not None, more, along=not more)
        if answer is None:
            answer = self._transact(self._hold, made, key is not None, False)
        assert answer is not None, "only where there is more to come"
        return answer

    def _hold(self, db: sqlite3.Connection, made: Reservation, again: bool, more: bool) -> Reservation | Refusal | None:
        """Reserve, unless that is done `again`; `None` where it does not fit, and `more` is to be settled."""
        taken, nano, tokens = self._taken, made.nano, made.tokens
        ids = [entry.account for entry in made.entries]
        if not all(map(taken.__contains__, ids)) and self._look_up(db, made.entries):
            self._look_up(db, made.entries)
        over: tuple[Refusal, ...] = ()
        seen = []
        for entry in made.entries:
            before = taken[entry.account]
            after = before[0] + nano, before[1] + tokens
            if (entry.limit_nano is not None and after[0] > entry.limit_nano) or (
                entry.limit_tokens is not None and after[1] > entry.limit_tokens
            ):
                if again and db.execute(file.IS_HELD, (made.id, made.id)).fetchone():
                    return made
                if more:
                    return None
                self._settle_down(db)
                no = _refused(db, entry, nano, tokens)
                if entry.enforce:
                    return no
                over += (no,)
            seen.append(after)
        if db.execute(file.HOLD, (made.id, made.expires, nano, tokens, file.JOIN.join(ids), made.id)).rowcount:
            loose = self._loose_ones(db)
            loose[made.id] = nano, tokens, ids
            if len(loose) > _MOST_LOOSE:
                self._settle_down(db)
            taken.update(zip(ids, seen, strict=True))
            made.over, made.seen = over, seen
        return made

    def _look_up(self, db: sqlite3.Connection, entries: Sequence[Entry]) -> bool:
        """Learn what accounts hold, and open those that there are not; whether others may be gone since."""
        taken = self._taken
        if len(taken) > _KNOWN:
            taken.clear()
        ids = [entry.account for entry in entries if entry.account not in taken]
        known = {row[0]: (row[1] + row[3], row[2] + row[4]) for row in db.execute(file.select(len(ids)), ids)}
        new = [entry for entry in entries if entry.account not in taken and entry.account not in known]
        known.update((entry.account, (0, 0)) for entry in new)
        for nano, tokens, accounts in self._loose_ones(db).values():
            for account in known.keys() & accounts:
                known[account] = known[account][0] + nano, known[account][1] + tokens
        taken.update(known)
        if not new or not self._open(db, new, self.now()):
            return False
        taken.clear()
        return True

    def _loose_ones(self, db: sqlite3.Connection) -> dict[str, tuple[int, int, Sequence[str]]]:
        if self._loose is None:
            self._loose = {row[0]: (row[1], row[2], _split(row[3])) for row in db.execute(file.LOOSE)}
        return self._loose

    def _settle_down(self, db: sqlite3.Connection) -> None:
        """Write what is loose into its accounts."""
        sums: dict[tuple[str, ...], tuple[int, int]] = {}
        for nano, tokens, accounts in self._loose_ones(db).values():
            before = sums.get(ids := tuple(accounts), (0, 0))
            sums[ids] = before[0] + nano, before[1] + tokens
        if sums:
            db.execute(file.MOVE)
            db.execute("DELETE FROM loose")
            for ids, amounts in sums.items():
                db.execute(file.reserve(len(ids)), (*amounts, *ids))
        self._loose = {}

    def _close(self, reservation: Reservation, nano: int, tokens: int, *, alert: bool) -> tuple[Alert, ...]:
        return self._transact(self._charge, [(reservation, nano, tokens, alert)])

    def _charge(self, db: sqlite3.Connection, settlements: Sequence[_Settlement]) -> tuple[Alert, ...]:
        """Put what was spent in the place of what was reserved; a reservation that is gone changes nothing."""
        ended = self._end(db, list({settlement[0].id for settlement in settlements}))
        sums: dict[tuple[str, ...], tuple[list[int], list[Entry]]] = {}
        """By accounts: how their columns change, and the entries of those that are told of thresholds."""
        for reservation, nano, tokens, alert in settlements:
            if (mine := ended.pop(reservation.id, None)) is None:
                continue
            nano, tokens = min(nano, _MOST), min(tokens, _MOST)
            held_nano, held_tokens, state = mine
            ids = tuple([entry.account for entry in reservation.entries])
            if state == _ORPHANED:
                change = nano - held_nano, tokens - held_tokens, 0, 0, -held_nano, -held_tokens
            elif state == _LOOSE:
                change = nano, tokens, 0, 0, 0, 0
            else:
                change = nano, tokens, -held_nano, -held_tokens, 0, 0
            total, entries = sums.setdefault(ids, ([0] * len(change), []))
            total[:] = map(add, total, change)
            if alert:
                entries[:] = reservation.entries
            for account in ids:
                before = self._taken.get(account)
                if state == _ORPHANED:
                    self._taken.pop(account, None)  # a reset may have come between
                elif before is not None:
                    self._taken[account] = before[0] + nano - held_nano, before[1] + tokens - held_tokens
        found: tuple[Alert, ...] = ()
        for ids, (total, entries) in sums.items():
            if any(total) or entries:
                found += self._crossed(db, entries, db.execute(file.charge(len(ids)), (*total, *ids)).fetchall())
        return found

    def _end(self, db: sqlite3.Connection, ids: list[str]) -> dict[str, tuple[int, int, int]]:
        """End those reservations that there are: what each held, in nano-dollars and tokens, and how it stood."""
        found: dict[str, tuple[int, int, int]] = {}
        for start in range(0, len(ids), _MOST_GATHERED):
            some = ids[start : start + _MOST_GATHERED]
            found.update((row[0], (row[1], row[2], _LOOSE)) for row in db.execute(file.take("loose", len(some)), some))
            if self._loose is not None:
                for each in some:
                    self._loose.pop(each, None)
            if some := [each for each in some if each not in found]:
                found.update((row[0], row[1:]) for row in db.execute(file.take("held", len(some)), some))
        return found

    # --- what is settled soon ----------------------------------------------------------------------------------------

    def _close_soon(self, reservation: Reservation, nano: int, tokens: int, *, alert: bool) -> None:
        self._gathered.append((reservation, nano, tokens, alert))
        if ends.ending:
            self.flush()
        else:
            self._writer.wake()

    def _write(self) -> float | None:
        """Write what no reservation took along; it is tried again where the file cannot be written."""
        return None if self.flush() else _LOST_S

    def flush(self) -> bool:
        """Write what was gathered now; whether the file could be written. Raises what a signal handler raises."""
        if ends.goes_on(self._lock, self._here):
            return True  # a stream was collected in the midst of it: what is further down sees to the rest
        try:
            if self._gathered or self._is_in_transaction():
                self._transact(_nothing)
            while self._gathered and ends.ending:
                self._transact(_nothing)
        except LedgerError as error:
            log.warning("tokenguard: %s; the cost of calls is written as soon as the ledger can be written", error)
            return False
        return True

    def _take_along(self, db: sqlite3.Connection) -> tuple[list[_Settlement], tuple[Alert, ...]]:
        """Write in this transaction what was gathered; what it was, and the thresholds reached."""
        taken = list(self._gathered)
        found = self._charge(db, taken) if taken else ()
        return taken, found

    # --- looking -----------------------------------------------------------------------------------------------------

    def read(self, entries: Sequence[Entry]) -> list[Balance]:
        """See `Ledger.read`."""
        ids = [entry.account for entry in entries]
        marks = ",".join("?" * len(ids))
        sql = f"SELECT id, {file.BALANCE} FROM account WHERE id IN ({marks})"  # noqa: S608 - only question marks

        def look(db: sqlite3.Connection) -> dict[str, Balance]:
            self._charge_orphans(db)
            return {row[0]: Balance(*row[1:]) for row in db.execute(sql, ids)}

        rows = self._transact(look)
        empty = [Balance(entry.budget, entry.key, entry.window_start, entry.window_end) for entry in entries]
        return [rows.get(account, none) for account, none in zip(ids, empty, strict=True)]

    def accounts(self) -> list[Balance]:
        """See `Ledger.accounts`."""
        sql = f"SELECT {file.BALANCE} FROM account WHERE window_end > ? ORDER BY id"  # noqa: S608 - a constant

        def look(db: sqlite3.Connection) -> list[Balance]:
            self._charge_orphans(db)
            return [Balance(*row) for row in db.execute(sql, (self.now(),))]

        return self._transact(look)

    def reset(self, budget: str) -> int:
        """See `Ledger.reset`."""

        def clear(db: sqlite3.Connection) -> int:
            self._charge_orphans(db)
            return db.execute(
                "UPDATE account SET spent_nano = 0, spent_tokens = 0, orphaned_nano = 0, orphaned_tokens = 0,"
                " alerted = 0, refused = 0 WHERE budget = ?",
                (budget,),
            ).rowcount

        return self._transact(clear)

    def alerts(self, entries: Sequence[Entry]) -> tuple[Alert, ...]:
        """See `Ledger.alerts`."""
        ids = [entry.account for entry in entries]

        def reached(db: sqlite3.Connection) -> tuple[Alert, ...]:
            self._charge_orphans(db)
            rows = db.execute(file.charge(len(ids)), (0, 0, 0, 0, 0, 0, *ids)).fetchall()
            return self._crossed(db, entries, rows)

        return self._transact(reached)

    def finish(self) -> None:
        """See `Ledger.finish`."""
        self.flush()
        super().finish()
        self._writer.stop()
        self.flush()

    def refused(self, entry: Entry) -> tuple[Alert, ...]:
        """See `Ledger.refused`."""

        def mark(db: sqlite3.Connection) -> tuple[Alert, ...]:
            sql = "SELECT spent_nano, spent_tokens, refused OR alerted >= 1 FROM account WHERE id = ?"
            row = db.execute(sql, (entry.account,)).fetchone()
            if row is None:
                self._open(db, [entry], self.now())
                row = (0, 0, False)
            spent_nano, spent_tokens, told = row
            if told:
                return ()
            db.execute("UPDATE account SET refused = 1 WHERE id = ?", (entry.account,))
            return (Alert(entry, 1.0, spent_nano, spent_tokens, refused=True),)

        return self._transact(mark) if entry.alert_at else ()

    def drop(self, accounts: Sequence[str]) -> None:
        """See `Ledger.drop`."""
        rows = [(account,) for account in accounts]

        def forget(db: sqlite3.Connection) -> None:
            self._settle_down(db)
            db.executemany("DELETE FROM account WHERE id = ?", rows)

        self._transact(forget)

    def close(self) -> None:
        """See `Ledger.close`."""
        super().close()
        self._writer.stop()
        self.flush()
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _transact(self, work: Callable[..., T], *args: Any, along: bool = True) -> T:
        """Do `work` with the file's write lock held; all of it counts, or none.

        What was gathered goes `along`: it is written first. What `_taken` says stays so through those that see to it.

        One function, and no context manager: a signal handler may raise at any call in here, and whatever has begun
        by then is rolled back at once, not when somebody lets go of the exception's traceback.
        """
        since = time.monotonic()
        with self._lock:
            if since < self._gave_up:  # who has waited behind one that gave up has waited as long
                raise LedgerError(f"the ledger {self.path} cannot be used: another process holds it")
            taken: list[_Settlement] = []
            found: tuple[Alert, ...] = ()
            db: sqlite3.Connection | None = None
            try:
                if self._is_in_transaction():
                    self._within()
                self._here = ends.here()
                db = self._opened()
                try:
                    self._begin(db, since + self._timeout_s)
                    before, self._taken_at = self._taken_at, None
                    at = db, db.execute("PRAGMA data_version").fetchone()[0]
                    if before != at:  # another process has written
                        self._taken, self._loose = {}, None
                    if along:
                        taken, found = self._take_along(db)
                    answer = work(db, *args)
                    db.execute("COMMIT")
                    if work in (_nothing, self._hold, self._charge):
                        self._taken_at = at
                finally:
                    if db.in_transaction:
                        self._break_off(db)
            except (sqlite3.Error, OSError) as error:
                if (raised := interrupt(error)) is not None:
                    raise raised from None
                if db is not None and self._connection not in (None, db):
                    # `_within` has broken this one off, and has written its own.
                    return self._transact(work, *args, along=along)
                self._gave_up = time.monotonic()
                raise LedgerError(f"the ledger {self.path} cannot be used: {error}") from error
            for settlement in taken:
                if self._gathered and self._gathered[0] is settlement:  # else a signal handler has come before us
                    self._gathered.popleft()
        self._hear(found)
        return answer

    def _is_in_transaction(self) -> bool:
        return self._connection is not None and self._connection.in_transaction

    def _break_off(self, db: sqlite3.Connection) -> None:
        """Roll back, and let the connection go.

        Both: a traceback may hold a statement that is half read, and as long as it does a connection that was only
        closed lives on, its transaction and the lock of the file with it (https://www.sqlite.org/c3ref/close.html).
        """
        try:
            db.rollback()
        finally:
            self._connection = None
            db.close()

    def _within(self) -> None:
        """Something has come in the middle of a transaction of this very thread.

        At the end of the process nobody may come back to that transaction. If somebody does, it is made again.
        """
        if self._here == ends.here():
            raise LedgerError("a signal handler has called a model while the ledger was being written")
        if self._connection is not None:
            self._break_off(self._connection)

    def _begin(self, db: sqlite3.Connection, until: float) -> None:
        """Take the write lock. SQLite's own waiting sleeps ever longer, so that some wait seconds while others pass."""
        while True:
            try:
                db.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                sleep(CHANCE.uniform(*_SLEEP_S))  # so that waiters do not keep step
            else:
                return

    def _opened(self) -> sqlite3.Connection:
        """The connection, to the file that stands at the path now: another one may have taken its place."""
        db = self._connection
        if db is None:
            return self._connect()
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            pass
        else:
            if (found.st_dev, found.st_ino) == self._file:
                return db
        log.warning(
            "tokenguard: the ledger %s was deleted or replaced while it was in use: the spend that it held is lost, "
            "and budgets go on with the file that is there now",
            self.path,
        )
        self._let_go()
        return self._connect()

    def _let_go(self) -> None:
        """Leave the connection alone: to close it would tamper with the files that are at its path now."""
        if self._connection is not None:
            leave(self._connection)
            self._connection = None

    def _connect(self) -> sqlite3.Connection:
        db = file.connect(self.path, self._timeout_s)
        found = os.stat(self.path)
        self._connection, self._file = db, (found.st_dev, found.st_ino)
        return db

    def _open(self, db: sqlite3.Connection, entries: Sequence[Entry], now: float) -> bool:
        """Open accounts; whether that was the time to delete old ones."""
        db.executemany(
            "INSERT INTO account (id, budget, key, window_start, window_end) VALUES (?, ?, ?, ?, ?)",
            [(entry.account, entry.budget, entry.key, entry.window_start, entry.window_end) for entry in entries],
        )
        if now < self._purge_at:
            return False
        # New windows are when old ones are in the way.
        self._purge_at = now + _PURGE_EVERY_S
        self._charge_orphans(db)
        oldest = now - RETAIN_S
        db.execute("DELETE FROM account WHERE window_end < ? AND reserved_nano = 0 AND reserved_tokens = 0", (oldest,))
        db.execute("DELETE FROM held WHERE orphaned = 1 AND expires < ?", (oldest,))
        return True

    def _charge_orphans(self, db: sqlite3.Connection) -> None:
        """Charge in full what nobody settled before its lease ended. Until it is looked at, it counts as reserved."""
        self._settle_down(db)
        for nano, tokens, accounts in db.execute(file.ORPHANS, (self.now(),)).fetchall():
            ids = _split(accounts)
            db.execute(file.charge(len(ids)), (nano, tokens, -nano, -tokens, nano, tokens, *ids)).fetchall()

    def _crossed(
        self, db: sqlite3.Connection, entries: Sequence[Entry], rows: Sequence[tuple[Any, ...]]
    ) -> tuple[Alert, ...]:
        """The thresholds to report, marked as reported in the same transaction."""
        states = {row[0]: row[1:4] for row in rows}
        found: list[Alert] = []
        for entry in entries:
            if entry.alert_at and entry.account in states:
                mine = crossed(entry, *states[entry.account])
                if mine:
                    db.execute("UPDATE account SET alerted = ? WHERE id = ?", (mine[-1].threshold, entry.account))
                    found += mine
        return tuple(found)

    def _before_fork(self) -> None:
        self._lock.acquire()

    def _after_fork_in_parent(self) -> None:
        self._lock.release()

    def _after_fork_in_child(self) -> None:
        super()._after_fork_in_child()
        self._lock = RLock()
        self._gathered.clear()  # the parent's to write
        self._let_go()


def _split(accounts: str) -> list[str]:
    return accounts.split(file.JOIN) if accounts else []


def _refused(db: sqlite3.Connection, entry: Entry, nano: int, tokens: int) -> Refusal:
    _, *row = db.execute(file.select(1), (entry.account,)).fetchone()
    no = refusal(entry, nano, tokens, (row[0], row[1]), (row[2], row[3]))
    assert no is not None, "asked only where it does not fit"
    return no


def _exceeds(settlement: _Settlement) -> bool:
    """Whether a call came to more than stands as reserved for it."""
    reservation, nano, tokens, _ = settlement
    return nano > reservation.nano or tokens > reservation.tokens


def _nothing(db: sqlite3.Connection) -> None:
    """The work of a transaction that only writes what was gathered."""
