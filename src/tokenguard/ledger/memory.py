"""The ledger of one process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from tokenguard.ledger.base import LEASE_S, RETAIN_S, Clock, Ledger
from tokenguard.ledger.entry import Alert, Balance, Entry, Refusal, Reservation, crossed, new_id, refusal
from tokenguard.process.native import RLock

PURGE_AT: Final = 1024
"""Accounts that are kept without looking whether they are still needed."""


class _Account:
    __slots__ = (
        "alerted",
        "entry",
        "orphaned_nano",
        "orphaned_tokens",
        "quiet_nano",
        "quiet_tokens",
        "refused",
        "reserved_nano",
        "reserved_tokens",
        "rule",
        "spent_nano",
        "spent_tokens",
    )

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.spent_nano = self.spent_tokens = 0
        self.reserved_nano = self.reserved_tokens = 0
        self.orphaned_nano = self.orphaned_tokens = 0
        self.alerted = 0.0
        self.refused = False
        self.rule: object = None
        self.quiet_nano = self.quiet_tokens = 0.0

    def charge(self, nano: int, tokens: int, orphaned_nano: int, orphaned_tokens: int) -> None:
        """Change what is spent; never below 0, where a reset came between an orphan's charge and its settle."""
        self.spent_nano = max(0, self.spent_nano + nano)
        self.spent_tokens = max(0, self.spent_tokens + tokens)
        self.orphaned_nano = max(0, self.orphaned_nano + orphaned_nano)
        self.orphaned_tokens = max(0, self.orphaned_tokens + orphaned_tokens)

    def alerts(self, entry: Entry) -> list[Alert]:
        """The thresholds to report, marked as reported; notes up to which amounts there is nothing to look at."""
        found = crossed(entry, self.spent_nano, self.spent_tokens, self.alerted)
        if found:
            self.alerted = found[-1].threshold
        self.rule = entry.rule
        next_at = min((at for at in entry.alert_at if at > self.alerted), default=float("inf"))
        # A little below the threshold: where to look again must not depend on how a product is rounded.
        self.quiet_nano = float("inf") if entry.limit_nano is None else entry.limit_nano * next_at * 0.999
        self.quiet_tokens = float("inf") if entry.limit_tokens is None else entry.limit_tokens * next_at * 0.999
        return found

    def balance(self) -> Balance:
        entry = self.entry
        return Balance(
            entry.budget,
            entry.key,
            entry.window_start,
            entry.window_end,
            self.spent_nano,
            self.spent_tokens,
            self.reserved_nano,
            self.reserved_tokens,
            self.orphaned_nano,
            self.orphaned_tokens,
        )


class MemoryLedger(Ledger):
    """Accounts in this process's memory: exact over its threads and tasks, and gone when it ends.

    A forked child starts with what was spent and without the parent's reservations, and counts on its own.
    """

    threads = 0

    def __init__(self, *, lease_s: float = LEASE_S, clock: Clock = time.time) -> None:
        super().__init__(lease_s=lease_s, clock=clock)
        self._lock = RLock()  # the collector may end a stream while its own thread holds it
        self._accounts: dict[str, _Account] = {}
        self._reservations: dict[str, Reservation] = {}
        self._orphans: dict[str, Reservation] = {}
        self._purge_at = PURGE_AT

    def reserve(
        self, entries: Sequence[Entry], nano: int, tokens: int, key: str | None = None, *, lease_s: float | None = None
    ) -> Reservation | Refusal:
        """See `Ledger.reserve`."""
        accounts = self._accounts
        held: list[_Account] = []
        over: tuple[Refusal, ...] = ()
        expires = self._clock() + (self.lease_s if lease_s is None else lease_s)
        with self._lock:
            if key is not None and key in self._reservations:
                return self._reservations[key]
            for entry in entries:
                account = accounts.get(entry.account)
                if account is None:
                    account = self._opened(entry)
                held.append(account)
                limit = entry.limit_nano
                limit_tokens = entry.limit_tokens
                if (limit is not None and account.spent_nano + account.reserved_nano + nano > limit) or (
                    limit_tokens is not None and account.spent_tokens + account.reserved_tokens + tokens > limit_tokens
                ):
                    no = _refused(entry, account, nano, tokens)
                    if entry.enforce:
                        return no
                    over += (no,)
            reservation = Reservation(key or new_id(), tuple(entries), nano, tokens, expires, over, held)
            done = 0
            try:
                for account in held:
                    account.reserved_nano += nano
                    account.reserved_tokens += tokens
                    done += 1  # a signal handler can raise between two accounts, not within one
                self._reservations[reservation.id] = reservation
            except BaseException:
                for account in held[:done]:
                    account.reserved_nano -= nano
                    account.reserved_tokens -= tokens
                raise
        return reservation

    def _close(self, reservation: Reservation, nano: int, tokens: int, *, alert: bool) -> tuple[Alert, ...]:
        found: list[Alert] = []
        with self._lock:
            mine = self._reservations.get(reservation.id)
            if mine is None:
                return self._correct(reservation.id, nano, tokens, alert=alert)
            accounts: list[_Account] = mine.held  # type: ignore[assignment]  # what `reserve` put there
            reserved_nano, reserved_tokens = mine.nano, mine.tokens
            done = 0
            try:
                for account in accounts:
                    account.reserved_nano -= reserved_nano
                    account.reserved_tokens -= reserved_tokens
                    account.spent_nano += nano
                    account.spent_tokens += tokens
                    done += 1
            finally:  # what has begun is done, whatever a signal handler raises
                for account in accounts[done:]:
                    account.reserved_nano -= reserved_nano
                    account.reserved_tokens -= reserved_tokens
                    account.spent_nano += nano
                    account.spent_tokens += tokens
                del self._reservations[reservation.id]
            for entry, account in zip(mine.entries, accounts, strict=True) if alert else ():
                if (
                    account.spent_nano >= account.quiet_nano
                    or account.spent_tokens >= account.quiet_tokens
                    or account.rule != entry.rule
                ):
                    found += account.alerts(entry)
        return tuple(found)

    def _correct(self, key: str, nano: int, tokens: int, *, alert: bool) -> tuple[Alert, ...]:
        """Replace the charge of an orphan that was settled after all."""
        mine = self._orphans.pop(key, None)
        found: list[Alert] = []
        if mine is not None:
            accounts: list[_Account] = mine.held  # type: ignore[assignment]
            for entry, account in zip(mine.entries, accounts, strict=True):
                account.charge(nano - mine.nano, tokens - mine.tokens, -mine.nano, -mine.tokens)
                if alert:
                    found += account.alerts(entry)
        return tuple(found)

    def holds(self, reservation: Reservation) -> bool:
        """Whether the reservation was made here, and is still to be settled."""
        return reservation.id in self._reservations or reservation.id in self._orphans

    def settled(self, reservation: Reservation, nano: int, tokens: int) -> bool:
        """Settle without alerts; whether there was anything to settle."""
        with self._lock:
            known = self.holds(reservation)
        self._close(reservation, nano, tokens, alert=False)
        return known

    def begin_at(self, entry: Entry, nano: int, tokens: int) -> None:
        """Have so much spent, by what is known of another ledger."""
        with self._lock:
            account = self._accounts.get(entry.account) or self._opened(entry)
            account.spent_nano, account.spent_tokens = nano, tokens

    def forget(self, entry: Entry, nano: int, tokens: int) -> None:
        """Take back what was charged here and is now charged elsewhere."""
        with self._lock:
            account = self._accounts.get(entry.account)
            if account is not None:
                account.charge(-nano, -tokens, 0, 0)

    def read(self, entries: Sequence[Entry]) -> list[Balance]:
        """See `Ledger.read`."""
        with self._lock:
            self._charge_orphans()
            return [(self._accounts.get(entry.account) or _Account(entry)).balance() for entry in entries]

    def accounts(self) -> list[Balance]:
        """See `Ledger.accounts`."""
        now = self._clock()
        with self._lock:
            self._charge_orphans()
            return [account.balance() for account in self._accounts.values() if account.entry.window_end > now]

    def reset(self, budget: str) -> int:
        """See `Ledger.reset`."""
        with self._lock:
            self._charge_orphans()
            found = [account for account in self._accounts.values() if account.entry.budget == budget]
            for account in found:
                account.spent_nano = account.spent_tokens = account.orphaned_nano = account.orphaned_tokens = 0
                account.alerted, account.refused, account.rule = 0.0, False, None
        return len(found)

    def alerts(self, entries: Sequence[Entry]) -> tuple[Alert, ...]:
        """See `Ledger.alerts`."""
        with self._lock:
            self._charge_orphans()
            accounts = [(entry, self._accounts.get(entry.account)) for entry in entries]
            return tuple(alert for entry, account in accounts if account for alert in account.alerts(entry))

    def refused(self, entry: Entry) -> tuple[Alert, ...]:
        """See `Ledger.refused`."""
        with self._lock:
            account = self._accounts.get(entry.account) or self._opened(entry)
            if account.refused or not entry.alert_at or account.alerted >= 1.0:
                return ()
            account.refused = True
            return (Alert(entry, 1.0, account.spent_nano, account.spent_tokens, refused=True),)

    def drop(self, accounts: Sequence[str]) -> None:
        """See `Ledger.drop`."""
        for account in accounts:
            self._accounts.pop(account, None)

    def _opened(self, entry: Entry) -> _Account:
        if len(self._accounts) >= self._purge_at:
            self._purge()
        account = self._accounts[entry.account] = _Account(entry)
        return account

    def _purge(self) -> None:
        """Forget accounts of windows that ended long ago, whenever their number has doubled."""
        self._charge_orphans()
        oldest = self._clock() - RETAIN_S
        for account in list(self._accounts.values()):
            if account.entry.window_end < oldest and not (account.reserved_nano or account.reserved_tokens):
                del self._accounts[account.entry.account]
        for orphan in list(self._orphans.values()):
            if orphan.expires < oldest:
                del self._orphans[orphan.id]
        self._purge_at = max(PURGE_AT, 2 * len(self._accounts))

    def _charge_orphans(self) -> None:
        """Charge in full what nobody settled before its lease ended. Until it is looked at, it counts as reserved."""
        now = self._clock()
        for orphan in list(self._reservations.values()):
            if orphan.expires > now or self._reservations.pop(orphan.id, None) is None:
                continue
            self._orphans[orphan.id] = orphan
            accounts: list[_Account] = orphan.held  # type: ignore[assignment]
            for account in accounts:
                account.reserved_nano -= orphan.nano
                account.reserved_tokens -= orphan.tokens
                account.charge(orphan.nano, orphan.tokens, orphan.nano, orphan.tokens)

    def _before_fork(self) -> None:
        self._lock.acquire()

    def _after_fork_in_parent(self) -> None:
        self._lock.release()

    def _after_fork_in_child(self) -> None:
        super()._after_fork_in_child()
        self._lock = RLock()
        self._reservations = {}
        for account in self._accounts.values():
            account.reserved_nano = account.reserved_tokens = 0


def _refused(entry: Entry, account: _Account, nano: int, tokens: int) -> Refusal:
    spent, reserved = (account.spent_nano, account.spent_tokens), (account.reserved_nano, account.reserved_tokens)
    no = refusal(entry, nano, tokens, spent, reserved)
    assert no is not None, "asked only where it does not fit"
    return no
