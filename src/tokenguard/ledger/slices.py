"""Slices: a process leases a part of a hot budget and spends it without asking, so a round trip is paid per slice.

A slice is an ordinary reservation in the shared ledger, so `spent + reserved` there, slices included, never passes the
limit. What a slice has spent is reserved until the slice is returned: when it is used up, when its time is over, when
nobody used it for a while, and when the ledger is closed. If the process dies, the slice's lease ends like any other
and the whole slice is charged, stated as orphaned.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from tokenguard.ledger.base import Ledger, P, T
from tokenguard.ledger.entry import Alert, Balance, Entry, LedgerError, Refusal, Reservation, new_id
from tokenguard.process.native import RLock
from tokenguard.process.threads import Worker

_ROUNDS: Final = 3
"""How often a caller leases for others to spend before it asks the shared ledger for just its own call."""


class _Slice:
    """A leased part of one account. Amounts without a limit are counted and never run out."""

    __slots__ = (
        "calls",
        "lease",
        "left_nano",
        "left_tokens",
        "retired",
        "spent_nano",
        "spent_tokens",
        "touched",
        "until",
    )

    def __init__(self, lease: Reservation, until: float, now: float) -> None:
        entry = lease.entries[0]
        self.lease = lease
        self.until = until
        self.touched = now
        self.left_nano = math.inf if entry.limit_nano is None else lease.nano
        self.left_tokens = math.inf if entry.limit_tokens is None else lease.tokens
        self.spent_nano = self.spent_tokens = 0
        self.calls = 0
        self.retired = False


class SlicedLedger(Ledger):
    """A ledger over a shared one that leases `share` of a limit at a time.

    A slice is spent from for `slice_lease_s`, and returned earlier when it was not used for `idle_s`. Limits hold;
    near one, a process may be refused while another still holds a slice it does not need.
    """

    def __init__(self, inner: Ledger, *, share: float = 0.01, slice_lease_s: float = 60.0, idle_s: float = 5.0) -> None:
        super().__init__(lease_s=inner.lease_s, clock=inner.now)
        self.threads = inner.threads  # as blocking as what is below
        self.inner = inner
        inner.on_alerts = self._hear
        self._share = share
        self._slice_lease_s = slice_lease_s
        self._idle_s = idle_s
        self._lock = RLock()  # the collector may end a stream while its own thread holds it
        self._slices: dict[str, _Slice] = {}
        self._taken: dict[str, list[_Slice]] = {}
        """The slices that each reservation was taken from, until it is settled."""
        self._keeper = Worker("tokenguard-slices", self._housekeep)

    def reserve(
        self, entries: Sequence[Entry], nano: int, tokens: int, key: str | None = None, *, lease_s: float | None = None
    ) -> Reservation | Refusal:
        """See `Ledger.reserve`. What is held for longer than a call is no part of a slice."""
        for _ in range(_ROUNDS if lease_s is None else 0):
            made = self._take(entries, nano, tokens, key)
            if made is not None:
                return made
            no = self._lease(entries, nano, tokens)
            if no is not None:
                return no
        return self.inner.reserve(entries, nano, tokens, lease_s=lease_s, key=key)

    def _close(self, reservation: Reservation, nano: int, tokens: int, *, alert: bool) -> tuple[Alert, ...]:
        if reservation.id not in self._taken:
            return self.inner._close(reservation, nano, tokens, alert=alert)
        return self._give_up(self._book(reservation, nano, tokens))

    def _close_soon(self, reservation: Reservation, nano: int, tokens: int, *, alert: bool) -> None:
        if reservation.id not in self._taken:
            self.inner._close_soon(reservation, nano, tokens, alert=alert)
        else:
            for mine in self._book(reservation, nano, tokens):
                self.inner.settle_soon(mine.lease, mine.spent_nano, mine.spent_tokens)

    async def run(self, operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Ledger.run`. What a slice can answer is answered at once."""
        answer: Any
        if operation == self.reserve:
            answer = self._take(*args)  # type: ignore[arg-type]
            if answer is not None:
                return answer  # type: ignore[no-any-return]
        elif operation in (self.settle, self.release) and args[0].id in self._taken:  # type: ignore[attr-defined]
            due = self._book(*(args if len(args) == 3 else (args[0], 0, 0)))
            answer = await super().run(self._give_up, due) if due else ()
            return answer if operation == self.settle else None  # type: ignore[return-value]
        return await super().run(operation, *args, **kwargs)

    def read(self, entries: Sequence[Entry]) -> list[Balance]:
        """See `Ledger.read`. What slices have spent counts as reserved until they are returned."""
        return self.inner.read(entries)

    def accounts(self) -> list[Balance]:
        """See `Ledger.accounts`."""
        return self.inner.accounts()

    def reset(self, budget: str) -> int:
        """See `Ledger.reset`. What slices have spent so far is charged when they are returned."""
        return self.inner.reset(budget)

    def alerts(self, entries: Sequence[Entry]) -> tuple[Alert, ...]:
        """See `Ledger.alerts`."""
        return self.inner.alerts(entries)

    @property
    def lost(self) -> bool:
        """See `Ledger.lost`."""
        return self.inner.lost

    def refused(self, entry: Entry) -> tuple[Alert, ...]:
        """See `Ledger.refused`."""
        return self.inner.refused(entry)

    def drop(self, accounts: Sequence[str]) -> None:
        """See `Ledger.drop`; slices of these accounts are returned before."""
        gone = set(accounts)
        self._hear(self._give_up(self._retire(lambda mine: mine.lease.entries[0].account in gone)))
        self.inner.drop(accounts)

    def finish(self) -> None:
        """Return the slices. One that a call is still spending from is returned when that call is settled."""
        self._keeper.stop()
        with contextlib.suppress(LedgerError):  # the leases end by themselves
            self._hear(self._give_up(self._retire(lambda _: True)))
        super().finish()

    def close(self) -> None:
        """See `Ledger.close`; the slices are returned."""
        self.finish()
        super().close()
        self.inner.close()

    def _take(self, entries: Sequence[Entry], nano: int, tokens: int, key: str | None = None) -> Reservation | None:
        """A reservation out of the slices at hand, or nothing if one of them is missing or too small."""
        now = self.now()
        over: tuple[Refusal, ...] = ()
        slices: list[_Slice] = []
        with self._lock:
            for entry in entries:
                mine = self._slices.get(entry.account)
                if mine is None or mine.left_nano < nano or mine.left_tokens < tokens or mine.until <= now:
                    return None
                slices.append(mine)
                over += mine.lease.over
            made = Reservation(key or new_id(), tuple(entries), nano, tokens, now + self.lease_s, over)
            done = 0
            try:
                for mine in slices:
                    mine.left_nano -= nano
                    mine.left_tokens -= tokens
                    mine.calls += 1
                    mine.touched = now
                    done += 1  # a signal handler can raise between two slices, not within one
                self._taken[made.id] = slices
            except BaseException:
                for mine in slices[:done]:
                    mine.left_nano += nano
                    mine.left_tokens += tokens
                    mine.calls -= 1
                raise
        return made

    def _book(self, reservation: Reservation, nano: int, tokens: int) -> list[_Slice]:
        """Charge a call to its slices; the answer is the slices that are to be returned now."""
        with self._lock:
            slices = self._taken.get(reservation.id, [])
            back_nano, back_tokens = reservation.nano - nano, reservation.tokens - tokens
            done = 0
            try:
                for mine in slices:
                    mine.left_nano += back_nano
                    mine.left_tokens += back_tokens
                    mine.spent_nano += nano
                    mine.spent_tokens += tokens
                    mine.calls -= 1
                    done += 1
            finally:  # what has begun is done, whatever a signal handler raises
                for mine in slices[done:]:
                    mine.left_nano += back_nano
                    mine.left_tokens += back_tokens
                    mine.spent_nano += nano
                    mine.spent_tokens += tokens
                    mine.calls -= 1
                if slices:
                    del self._taken[reservation.id]
            for mine in slices:
                if mine.left_nano < 0 or mine.left_tokens < 0:  # more was spent than reserved: the others should know
                    self._drop(mine)
            return [mine for mine in slices if mine.retired and not mine.calls]

    def _lease(self, entries: Sequence[Entry], nano: int, tokens: int) -> Refusal | None:
        """Lease new slices where the ones at hand do not suffice. The answer is why that is not possible."""
        for entry in entries:
            with self._lock:
                old = self._slices.get(entry.account)
                if old is not None:
                    if old.left_nano >= nano and old.left_tokens >= tokens and old.until > self.now():
                        continue
                    self._drop(old)
            if old is not None and not old.calls:  # its rest goes back first: near the limit it is needed
                self._hear(self._give_up([old]))
            exact = (0 if entry.limit_nano is None else nano, 0 if entry.limit_tokens is None else tokens)
            whole = (
                0 if entry.limit_nano is None else max(nano, int(entry.limit_nano * self._share)),
                0 if entry.limit_tokens is None else max(tokens, int(entry.limit_tokens * self._share)),
            )
            lease_s = self._slice_lease_s + self.lease_s  # a call may begin when the slice's time is nearly over
            made = self.inner.reserve([entry], *whole, lease_s=lease_s)
            if isinstance(made, Refusal) and whole != exact and not made.lost:
                made = self.inner.reserve([entry], *exact, lease_s=lease_s)
            if isinstance(made, Refusal):
                return made
            self._keep(made)
        return None

    def _keep(self, lease: Reservation) -> None:
        now = self.now()
        mine = _Slice(lease, now + self._slice_lease_s, now)
        with self._lock:
            rival = self._slices.get(lease.entries[0].account)
            if rival is not None:  # another thread leased at the same time; its slice is older
                self._drop(rival)
            self._slices[lease.entries[0].account] = mine
        self._keeper.wake()
        if rival is not None and not rival.calls:
            self._hear(self._give_up([rival]))

    def _drop(self, mine: _Slice) -> None:
        """Take a slice out of use; whoever settles its last call returns it. The lock is held."""
        mine.retired = True
        account = mine.lease.entries[0].account
        if self._slices.get(account) is mine:
            del self._slices[account]

    def _retire(self, which: Callable[[_Slice], bool]) -> list[_Slice]:
        with self._lock:
            found = [mine for mine in list(self._slices.values()) if which(mine)]
            for mine in found:
                self._drop(mine)
            return [mine for mine in found if not mine.calls]

    def _give_up(self, slices: Iterable[_Slice]) -> tuple[Alert, ...]:
        """Return slices that no call uses any more; returning one twice is harmless."""
        found: tuple[Alert, ...] = ()
        for mine in slices:
            found += self.inner.settle(mine.lease, mine.spent_nano, mine.spent_tokens)
        return found

    def _is_due(self, mine: _Slice) -> bool:
        now = self.now()
        return mine.until <= now or (not mine.calls and mine.touched <= now - self._idle_s)

    def _housekeep(self) -> float | None:
        """Return slices that are idle or whose time is over, as long as there are any."""
        due = self._retire(self._is_due)
        with contextlib.suppress(LedgerError):  # the leases end by themselves
            self._hear(self._give_up(due))
        return min(self._idle_s, self._slice_lease_s) / 2 if self._slices else None

    def _after_fork_in_child(self) -> None:
        super()._after_fork_in_child()
        self._lock = RLock()
        self._slices, self._taken = {}, {}  # they are the parent's to spend

    def _before_fork(self) -> None:
        self._lock.acquire()

    def _after_fork_in_parent(self) -> None:
        self._lock.release()
