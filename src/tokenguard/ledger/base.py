"""What every ledger can do, and how its operations are awaited without blocking an event loop."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from tokenguard.ledger.entry import Alert, Balance, Entry, Refusal, Reservation

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

log = logging.getLogger("tokenguard")

P = ParamSpec("P")
T = TypeVar("T")

RETAIN_S: Final = 86400
"""How long accounts of ended windows and charged orphans are kept, so that a late settle still finds them."""

LEASE_S: Final = 600.0

Clock = Callable[[], float]
"""Unix seconds."""


class Ledger(ABC):
    """Accounts of budgets. Every operation is atomic over all of its entries, for all who share the ledger.

    The invariant: an entry that enforces never has `spent + reserved` above its limit, as long as what is settled does
    not exceed what was reserved. Operations raise `LedgerError` when the ledger cannot be reached (`opened` ledgers
    turn that into what the policy's `on_loss` says).
    """

    threads: int = 1
    """How many threads `run` uses; 0: the operations do not block, and `run` calls them at once."""

    gathers: bool = False
    """Whether `settle_soon` keeps what is to be settled, and writes it with the next reservation at the latest."""

    def __init__(self, *, lease_s: float = LEASE_S, clock: Clock = time.time) -> None:
        self.lease_s = lease_s
        self._clock = clock
        self._executor: ThreadPoolExecutor | None = None
        self.on_alerts: Callable[[tuple[Alert, ...]], None] | None = None
        """Hears of thresholds that show while no caller waits: `settle_soon`, a slice's return, a lost ledger's."""
        _ledgers.add(self)

    def now(self) -> float:
        """Unix seconds by the clock that windows and leases go by."""
        return self._clock()

    @abstractmethod
    def reserve(
        self, entries: Sequence[Entry], nano: int, tokens: int, *, lease_s: float | None = None, key: str | None = None
    ) -> Reservation | Refusal:
        """Hold `nano` dollars and `tokens` in every entry, or in none of them.

        The entries are of distinct accounts. `key` is the reservation's id, for a caller that may have to repeat the
        operation; the same id is held once.
        """

    def settle(self, reservation: Reservation, nano: int, tokens: int) -> tuple[Alert, ...]:
        """Charge what was really spent, more than was reserved included, and give back the rest.

        A second settle or release changes nothing. One that comes after the lease replaces the orphan's charge. The
        answer is the thresholds that nobody was told of yet, in any process.
        """
        return self._close(reservation, nano, tokens, alert=True)

    def release(self, reservation: Reservation) -> None:
        """Give back all that was reserved: nothing was spent."""
        self._close(reservation, 0, 0, alert=False)

    @abstractmethod
    def _close(self, reservation: Reservation, nano: int, tokens: int, *, alert: bool) -> tuple[Alert, ...]: ...

    def settle_soon(self, reservation: Reservation, nano: int, tokens: int) -> None:
        """`settle` off the caller's path: never blocks, never raises. `on_alerts` hears of the thresholds."""
        self._close_soon(reservation, nano, tokens, alert=True)

    def release_soon(self, reservation: Reservation) -> None:
        """`release` off the caller's path."""
        self._close_soon(reservation, 0, 0, alert=False)

    def _close_soon(self, reservation: Reservation, nano: int, tokens: int, *, alert: bool) -> None:
        if self.threads:
            self.submit(self._close_and_tell, reservation, nano, tokens, alert=alert)
        else:
            self._close_and_tell(reservation, nano, tokens, alert=alert)

    def _close_and_tell(self, reservation: Reservation, nano: int, tokens: int, *, alert: bool) -> None:
        try:
            self._hear(self._close(reservation, nano, tokens, alert=alert))
        except Exception as error:
            log.warning("tokenguard: a budget could not be settled (%s); its lease charges the worst case", error)

    @abstractmethod
    def read(self, entries: Sequence[Entry]) -> list[Balance]:
        """The balance of each entry's account; ended leases are charged first."""

    @abstractmethod
    def accounts(self) -> list[Balance]:
        """The balances of all accounts whose window is open."""

    @abstractmethod
    def reset(self, budget: str) -> int:
        """Set what the budget has spent to 0, in all its accounts, and count them. Calls in flight stay reserved."""

    @abstractmethod
    def alerts(self, entries: Sequence[Entry]) -> tuple[Alert, ...]:
        """The thresholds that are reached and nobody was told of; whoever gets them here has been told."""

    def close(self) -> None:
        """Let go of files, connections and threads. What is reserved stays so until its lease ends."""
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None

    def submit(self, operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run an operation of this ledger later, off the caller's path: `submit(ledger.settle, reservation, 1, 1)`."""
        from concurrent.futures import Future, ThreadPoolExecutor  # with asyncio, 30 ms that the linter does without

        if self.threads:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix="tokenguard-ledger")
            with contextlib.suppress(RuntimeError):  # the interpreter is shutting down: now or never
                return self._executor.submit(operation, *args, **kwargs)
        done: Future[T] = Future()
        try:
            done.set_result(operation(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done

    async def run(self, operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await one of this ledger's operations: `await ledger.run(ledger.reserve, entries, nano, tokens)`.

        The event loop is never blocked. A reservation that is made after the waiting task was cancelled is released.
        """
        if not self.threads:
            return operation(*args, **kwargs)
        import asyncio

        future = self.submit(operation, *args, **kwargs)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.add_done_callback(self._give_back)
            raise

    def _hear(self, alerts: tuple[Alert, ...]) -> None:
        if alerts and self.on_alerts is not None:
            self.on_alerts(alerts)

    def _give_back(self, future: Future[T]) -> None:
        if not future.cancelled() and future.exception() is None:
            answer = future.result()
            if isinstance(answer, Reservation):
                with contextlib.suppress(Exception):  # its lease ends by itself
                    self.release(answer)

    def _before_fork(self) -> None:  # noqa: B027 - most ledgers have nothing to do here
        """Bring what a fork would copy into a consistent state, and keep it so until the fork is done."""

    def _after_fork_in_parent(self) -> None:  # noqa: B027
        """Go on."""

    def _after_fork_in_child(self) -> None:
        """Start afresh in a forked process: threads and connections stay with the parent."""
        self._executor = None


_ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()
_forking: list[Ledger] = []


def _before_fork() -> None:
    _forking[:] = _ledgers
    for ledger in _forking:
        ledger._before_fork()


def _after_fork_in_parent() -> None:
    while _forking:
        _forking.pop()._after_fork_in_parent()


def _after_fork_in_child() -> None:
    while _forking:
        _forking.pop()._after_fork_in_child()


if sys.platform != "win32":
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
