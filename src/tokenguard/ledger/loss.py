"""What happens while the shared ledger cannot be reached: count in this process and reconcile later, or refuse."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from tokenguard.ledger.base import Ledger
from tokenguard.ledger.entry import USD, Alert, Balance, Entry, LedgerError, Refusal, Reservation, new_id
from tokenguard.ledger.memory import MemoryLedger
from tokenguard.process.log import Log

_log = Log("tokenguard.ledger")

RETRY_S: Final = 1.0
"""While the ledger is lost, one caller in this time tries it; the others do not wait for a timeout."""
_MAX_PENDING: Final = 100_000


class SurvivingLedger(Ledger):
    """A shared ledger whose loss is survived; its operations on calls never raise.

    `on_loss="allow"`: while it is lost, each process counts on its own, against the same limits and from 0, and charges
    the shared ledger when it is back; all processes together can then spend more than the limit. `"block"`: nothing is
    reserved (`Refusal.lost`); calls under way are settled when it is back.
    """

    def __init__(self, inner: Ledger, *, on_loss: str = "allow", retry_s: float = RETRY_S) -> None:
        super().__init__(lease_s=inner.lease_s, clock=inner.now)
        self.threads = inner.threads  # as blocking as what is below
        self.inner = inner
        inner.on_alerts = self._hear
        self._allow = on_loss == "allow"
        self._retry_s = retry_s
        self._local = MemoryLedger(lease_s=inner.lease_s, clock=inner.now)
        self._retry_at: float | None = None
        self._reconciling = threading.Lock()
        self._closes: deque[tuple[Reservation, int, int, bool]] = deque(maxlen=_MAX_PENDING)
        self._charges: dict[str, tuple[Entry, int, int]] = {}
        self._lock = threading.RLock()  # the collector may end a stream while its own thread holds it

    @property
    def lost(self) -> bool:
        """Whether the shared ledger was out of reach when it was last tried."""
        return self._retry_at is not None

    def reserve(
        self, entries: Sequence[Entry], nano: int, tokens: int, key: str | None = None, *, lease_s: float | None = None
    ) -> Reservation | Refusal:
        """See `Ledger.reserve`; never raises."""
        if entries and self._worth_trying():
            key = key or new_id()
            try:
                answer = self.inner.reserve(entries, nano, tokens, lease_s=lease_s, key=key)
            except LedgerError as error:
                # It may have been held all the same, with the answer lost: then this gives it back.
                uncertain = Reservation(key, tuple(entries), nano, tokens, 0.0)
                self._lose(error, (uncertain, 0, 0, False))
                key = None
            else:
                self._found()
                return answer
        strict = next((entry for entry in entries if entry.enforce), None)
        if strict is not None and not self._allow:
            limit, asked = (strict.limit_nano, nano) if strict.limit_nano is not None else (strict.limit_tokens, tokens)
            return Refusal(strict, USD, 0, 0, limit or 0, asked, lost=True)
        return self._local.reserve(entries, nano, tokens, lease_s=lease_s, key=key)

    def _close(self, reservation: Reservation, nano: int, tokens: int, *, alert: bool) -> tuple[Alert, ...]:
        if self._local.settled(reservation, nano, tokens):  # counted here while the ledger was lost
            with self._lock:
                for entry in reservation.entries:
                    _, spent_nano, spent_tokens = self._charges.get(entry.account, (entry, 0, 0))
                    self._charges[entry.account] = (entry, spent_nano + nano, spent_tokens + tokens)
            return self._reconcile() if reservation.entries and self._worth_trying() else ()
        if not reservation.entries:
            return ()
        if self._worth_trying():
            try:
                found = self.inner._close(reservation, nano, tokens, alert=alert)
            except LedgerError as error:
                self._lose(error, (reservation, nano, tokens, alert))
                return ()
            self._found()
            return found
        self._closes.append((reservation, nano, tokens, alert))
        return ()

    def _close_soon(self, reservation: Reservation, nano: int, tokens: int, *, alert: bool) -> None:
        if self.inner.gathers and reservation.entries and not self.lost and not self._local.holds(reservation):
            self.inner._close_soon(reservation, nano, tokens, alert=alert)
        else:
            super()._close_soon(reservation, nano, tokens, alert=alert)

    def read(self, entries: Sequence[Entry]) -> list[Balance]:
        """See `Ledger.read`; while the ledger is lost, what this process counted."""
        if self._worth_trying():
            try:
                found = self.inner.read(entries)
            except LedgerError as error:
                self._lose(error)
            else:
                self._found()
                return found
        return self._local.read(entries)

    def accounts(self) -> list[Balance]:
        """See `Ledger.accounts`. Raises `LedgerError` while the ledger is lost."""
        return self.inner.accounts()

    def reset(self, budget: str) -> int:
        """See `Ledger.reset`. Raises `LedgerError` while the ledger is lost."""
        return self.inner.reset(budget)

    def alerts(self, entries: Sequence[Entry]) -> tuple[Alert, ...]:
        """See `Ledger.alerts`; none while the ledger is lost."""
        if self._worth_trying():
            try:
                return self.inner.alerts(entries)
            except LedgerError as error:
                self._lose(error)
        return ()

    def close(self) -> None:
        """Charge what is still to be charged, if the ledger is there, and close it."""
        self._reconcile()
        super().close()
        self.inner.close()

    def _worth_trying(self) -> bool:
        if self._retry_at is None:
            return True
        with self._lock:
            now = time.monotonic()
            if self._retry_at is not None and now < self._retry_at:
                return False
            self._retry_at = now + self._retry_s  # this caller tries, the others go on without
            return True

    def _lose(self, error: LedgerError, pending: tuple[Reservation, int, int, bool] | None = None) -> None:
        if pending is not None:
            self._closes.append(pending)
        with self._lock:
            first, self._retry_at = self._retry_at is None, time.monotonic() + self._retry_s
        if first:
            does = "budgets are counted in this process" if self._allow else "calls under a budget are refused"
            _log.warning("%s; until it is back, %s", error, does)

    def _found(self) -> None:
        """The ledger answered. If it had been lost, tell it what it missed."""
        if self._retry_at is not None:
            self._retry_at = None
            _log.warning("the ledger can be reached again")
        if self._closes or self._charges:
            self._hear(self._reconcile())

    def _reconcile(self) -> tuple[Alert, ...]:
        """Charge the shared ledger with what was settled while it was lost."""
        found: tuple[Alert, ...] = ()
        if not self._reconciling.acquire(blocking=False):
            return found
        try:
            while self._closes:
                reservation, nano, tokens, alert = self._closes[0]
                found += self.inner._close(reservation, nano, tokens, alert=alert)
                self._closes.popleft()
            while self._charges:
                with self._lock:
                    account, (entry, nano, tokens) = next(iter(self._charges.items()))
                made = self.inner.reserve([replace(entry, enforce=False)], nano, tokens)
                assert isinstance(made, Reservation), "an entry that does not enforce never refuses"
                with self._lock:  # from here on the shared ledger has it, be it as an orphan
                    _, now_nano, now_tokens = self._charges.pop(account)
                    if (now_nano, now_tokens) != (nano, tokens):
                        self._charges[account] = (entry, now_nano - nano, now_tokens - tokens)
                self._local.forget(entry, nano, tokens)
                found += self.inner.settle(made, nano, tokens)
        except LedgerError as error:
            self._lose(error)
        else:
            self._retry_at = None
        finally:
            self._reconciling.release()
        return found

    def _after_fork_in_child(self) -> None:
        super()._after_fork_in_child()
        self._lock, self._reconciling = threading.RLock(), threading.Lock()
        self._closes.clear()  # the parent's to settle
        self._charges.clear()
