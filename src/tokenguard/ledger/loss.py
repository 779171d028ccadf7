"""What happens while the shared ledger cannot be reached: count in this process and reconcile later, or refuse."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from tokenguard.ledger.base import Ledger
from tokenguard.ledger.entry import USD, Alert, Balance, Entry, LedgerError, Refusal, Reservation, new_id
from tokenguard.ledger.memory import MemoryLedger
from tokenguard.process.chance import CHANCE
from tokenguard.process.log import Log
from tokenguard.process.native import Lock, RLock
from tokenguard.process.threads import Worker

_log = Log("tokenguard.ledger")

RETRY_S: Final = 1.0
"""While the ledger is lost, a thread tries it after this time, and ever more seldom; no caller waits for it."""
MOST_RETRY_S: Final = 30.0
_MAX_SEEN: Final = 4096
"""Accounts whose last balance is remembered."""
_MAX_PENDING: Final = 100_000


class SurvivingLedger(Ledger):
    """A shared ledger whose loss is survived; its operations on calls never raise.

    `on_loss="allow"`: while it is lost, each process counts on its own, against the same limits and from the last
    balance that it has seen, and charges the shared ledger when it is back; all processes together can then spend more
    than the limit. `"block"`: nothing is reserved (`Refusal.lost`); calls under way are settled when it is back.

    It is tried again, and told what it has missed, by a thread of its own: no caller waits for either.
    """

    def __init__(self, inner: Ledger, *, on_loss: str = "allow", retry_s: float = RETRY_S) -> None:
        super().__init__(lease_s=inner.lease_s, clock=inner.now)
        self.threads = inner.threads  # as blocking as what is below
        self.inner = inner
        inner.on_alerts = self._hear
        self._allow = on_loss == "allow"
        self._retry_s = retry_s
        self._local = MemoryLedger(lease_s=inner.lease_s, clock=inner.now)
        self._lost = False
        self._tries = 0
        self._searcher = Worker("tokenguard-ledger-search", self._search)
        self._seen: OrderedDict[str, tuple[int, int]] = OrderedDict()
        """What was last seen to be spent or reserved of an account: nano-dollars and tokens."""
        self._begun: set[str] = set()
        """The accounts that are counted here since the ledger was lost."""
        self._reconciling = Lock()
        self._closes: deque[tuple[Reservation, int, int, bool]] = deque(maxlen=_MAX_PENDING)
        self._charges: dict[str, tuple[Entry, int, int]] = {}
        self._lock = RLock()  # the collector may end a stream while its own thread holds it

    @property
    def lost(self) -> bool:
        """Whether the shared ledger was out of reach when it was last tried."""
        return self._lost

    def reserve(
        self, entries: Sequence[Entry], nano: int, tokens: int, key: str | None = None, *, lease_s: float | None = None
    ) -> Reservation | Refusal:
        """See `Ledger.reserve`; never raises."""
        if entries and not self._lost:
            key = key or new_id()
            try:
                answer = self.inner.reserve(entries, nano, tokens, lease_s=lease_s, key=key)
            except LedgerError as error:
                # It may have been held all the same, with the answer lost: then this gives it back.
                uncertain = Reservation(key, tuple(entries), nano, tokens, 0.0)
                self._lose(error, (uncertain, 0, 0, False))
                key = None
            else:
                self._note(answer)
                return answer
        strict = next((entry for entry in entries if entry.enforce), None)
        if strict is not None and not self._allow:
            limit, asked = (strict.limit_nano, nano) if strict.limit_nano is not None else (strict.limit_tokens, tokens)
            return Refusal(strict, USD, 0, 0, limit or 0, asked, lost=True)
        self._begin(entries)
        return self._local.reserve(entries, nano, tokens, lease_s=lease_s, key=key)

    def _note(self, answer: Reservation | Refusal) -> None:
        """Remember the balances that an answer tells."""
        if isinstance(answer, Refusal):
            if answer.unit == USD:
                self._seen[answer.entry.account] = (answer.spent + answer.reserved, 0)
            return
        for entry, seen in zip(answer.entries, answer.seen, strict=False):
            self._seen[entry.account] = seen
        while len(self._seen) > _MAX_SEEN:
            self._seen.popitem(last=False)

    def _begin(self, entries: Sequence[Entry]) -> None:
        """Count these accounts from the last balance that was seen, once in each outage."""
        with self._lock:
            for entry in entries:
                if entry.account not in self._begun:
                    self._begun.add(entry.account)
                    nano, tokens = self._seen.get(entry.account, (0, 0))
                    _, more_nano, more_tokens = self._charges.get(entry.account, (entry, 0, 0))
                    self._local.begin_at(entry, nano + more_nano, tokens + more_tokens)

    def _close(self, reservation: Reservation, nano: int, tokens: int, *, alert: bool) -> tuple[Alert, ...]:
        if self._local.settled(reservation, nano, tokens):  # counted here while the ledger was lost
            with self._lock:
                for entry in reservation.entries:
                    _, spent_nano, spent_tokens = self._charges.get(entry.account, (entry, 0, 0))
                    self._charges[entry.account] = (entry, spent_nano + nano, spent_tokens + tokens)
            if reservation.entries and not self._lost:
                self._searcher.wake()
            return ()
        if not reservation.entries:
            return ()
        if not self._lost:
            try:
                return self.inner._close(reservation, nano, tokens, alert=alert)
            except LedgerError as error:
                self._lose(error, (reservation, nano, tokens, alert))
                return ()
        self._closes.append((reservation, nano, tokens, alert))
        for entry in reservation.entries:
            if entry.account in self._begun:  # what it had reserved is in the balance that was seen
                self._local.forget(entry, reservation.nano - nano, reservation.tokens - tokens)
        return ()

    def _close_soon(self, reservation: Reservation, nano: int, tokens: int, *, alert: bool) -> None:
        if self.inner.gathers and reservation.entries and not self.lost and not self._local.holds(reservation):
            self.inner._close_soon(reservation, nano, tokens, alert=alert)
        else:
            super()._close_soon(reservation, nano, tokens, alert=alert)

    def read(self, entries: Sequence[Entry]) -> list[Balance]:
        """See `Ledger.read`; while the ledger is lost, what this process counted."""
        if not self._lost:
            try:
                return self.inner.read(entries)
            except LedgerError as error:
                self._lose(error)
        self._begin(entries)
        return self._local.read(entries)

    def accounts(self) -> list[Balance]:
        """See `Ledger.accounts`. Raises `LedgerError` while the ledger is lost."""
        return self.inner.accounts()

    def reset(self, budget: str) -> int:
        """See `Ledger.reset`. Raises `LedgerError` while the ledger is lost."""
        return self.inner.reset(budget)

    def alerts(self, entries: Sequence[Entry]) -> tuple[Alert, ...]:
        """See `Ledger.alerts`; none while the ledger is lost."""
        if not self._lost:
            try:
                return self.inner.alerts(entries)
            except LedgerError as error:
                self._lose(error)
        return ()

    def refused(self, entry: Entry) -> tuple[Alert, ...]:
        """See `Ledger.refused`; never raises."""
        if not self._lost:
            try:
                return self.inner.refused(entry)
            except LedgerError as error:
                self._lose(error)
        return self._local.refused(entry)

    def drop(self, accounts: Sequence[str]) -> None:
        """See `Ledger.drop`; never raises. What a ledger that is lost keeps of them ends with their window."""
        with self._lock:
            for account in accounts:
                self._begun.discard(account)
                self._charges.pop(account, None)
                self._seen.pop(account, None)
        self._local.drop(accounts)
        if not self._lost:
            try:
                self.inner.drop(accounts)
            except LedgerError as error:
                self._lose(error)

    def finish(self) -> None:
        """Charge what is still to be charged, if the ledger is there. Never raises."""
        if self._closes or self._charges:
            self._hear(self._reconcile())
        super().finish()

    def close(self) -> None:
        """Charge what is still to be charged, if the ledger is there, and close it."""
        self._searcher.stop()
        self._reconcile()
        super().close()
        self.inner.close()

    def _lose(self, error: LedgerError, pending: tuple[Reservation, int, int, bool] | None = None) -> None:
        if pending is not None:
            self._closes.append(pending)
        with self._lock:
            first, self._lost = not self._lost, True
            if first:
                self._begun.clear()
                self._tries = 0
        if first:
            does = "budgets are counted in this process" if self._allow else "calls under a budget are refused"
            _log.warning("%s; until it is back, %s", error, does)
        self._searcher.wake()

    def _search(self) -> float | None:
        """Try the ledger; once it is there, tell it what it missed. The answer is when to try again."""
        if self._lost and not self._tries:  # the first try is not at once
            self._tries = 1
            return self._pause()
        try:
            if self._lost:
                self.inner.ping()
                self._hear(self._reconcile())
            elif self._closes or self._charges:
                self._hear(self._reconcile())
        except LedgerError:
            self._tries += 1
            return self._pause()
        except Exception as error:
            _log.warning("tokenguard: the ledger cannot be told what it has missed: %s", error)
            return MOST_RETRY_S
        return self._pause() if self._lost else None

    def _pause(self) -> float:
        """Ever longer, and not in step with other processes."""
        seconds = min(self._retry_s * 2.0 ** min(self._tries - 1, 16), MOST_RETRY_S)
        return seconds * CHANCE.uniform(0.5, 1.5)

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
            if self._lost:
                self._lost = False
                _log.warning("the ledger can be reached again")
        finally:
            self._reconciling.release()
        return found

    def _after_fork_in_child(self) -> None:
        super()._after_fork_in_child()
        self._lock, self._reconciling = RLock(), Lock()
        self._closes.clear()  # the parent's to settle
        self._charges.clear()
        self._tries = 0
        if self._lost:
            self._searcher.wake()
