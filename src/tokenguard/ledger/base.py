"""What every ledger can do, and how its operations are awaited without blocking an event loop."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from tokenguard.ledger.entry import Alert, Balance, Entry, Refusal, Reservation
from tokenguard.process.ends import Stage, at_end
from tokenguard.process.forks import at_fork
from tokenguard.process.interrupts import interrupt
from tokenguard.process.log import Log
from tokenguard.process.threads import Pool, landed

if TYPE_CHECKING:
    from concurrent.futures import Future

log = Log("tokenguard")

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
    """Whether `settle_soon` keeps what is to be settled, and writes it a moment later, or when it is needed."""

    def __init__(self, *, lease_s: float = LEASE_S, clock: Clock = time.time) -> None:
        self.lease_s = lease_s
        self._clock = clock
        self._pool: Pool | None = None
        self.on_alerts: Callable[[tuple[Alert, ...]], None] | None = None
        """Hears of thresholds that show while no caller waits: `settle_soon`, a slice's return, a lost ledger's."""
        at_end(Stage.LEDGERS, self.finish)
        at_fork(self._after_fork_in_child, before=self._before_fork, in_parent=self._after_fork_in_parent)

    @property
    def lost(self) -> bool:
        """Whether it was out of reach when it was last tried, and this process counts by itself."""
        return False

    def now(self) -> float:
        """Unix seconds by the clock that windows and leases go by."""
        return self._clock()

    @abstractmethod
    def reserve(
        self, entries: Sequence[Entry], nano: int, tokens: int, key: str | None = None, *, lease_s: float | None = None
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
            self._threaded().soon(partial(self._close_and_tell, reservation, nano, tokens, alert=alert))
        else:
            self._close_and_tell(reservation, nano, tokens, alert=alert)

    def _close_and_tell(self, reservation: Reservation, nano: int, tokens: int, *, alert: bool) -> None:
        try:
            self._hear(self._close(reservation, nano, tokens, alert=alert))
        except Exception as error:
            if (raised := interrupt(error)) is not None:
                raise raised from None
            log.warning("tokenguard: a budget could not be settled (%s); its lease charges the worst case", error)

    def ping(self) -> None:
        """Raises `LedgerError` while the ledger cannot be reached."""
        self.read(())

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

    @abstractmethod
    def refused(self, entry: Entry) -> tuple[Alert, ...]:
        """A call was refused for this entry: the alert that says so, for the first one of its window in any process."""

    @abstractmethod
    def drop(self, accounts: Sequence[str]) -> None:
        """Forget these accounts (`Entry.account`): nobody will spend from them any more."""

    def drop_soon(self, accounts: Sequence[str]) -> None:
        """`drop` off the caller's path: never blocks, never raises."""
        if self.threads:
            self._threaded().soon(partial(self._drop_or_say, accounts))
        else:
            self._drop_or_say(accounts)

    def _drop_or_say(self, accounts: Sequence[str]) -> None:
        try:
            self.drop(accounts)
        except Exception as error:
            if (raised := interrupt(error)) is not None:
                raise raised from None
            log.warning("tokenguard: accounts that are over could not be forgotten (%s); that is done in time", error)

    def doubts(self) -> list[str]:
        """What may keep the ledger from keeping its word, with the next step; never raises."""
        inner = getattr(self, "inner", None)  # of those that stand before another one
        return inner.doubts() if isinstance(inner, Ledger) else []

    def finish(self) -> None:
        """Write what is still to be written: the process ends, or the ledger is closed. Never raises."""
        if self._pool is not None:
            self._pool.finish()

    def close(self) -> None:
        """Let go of files, connections and threads. What is reserved stays so until its lease ends."""
        if self._pool is not None:
            self._pool.stop()

    def submit(self, operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run an operation of this ledger later, off the caller's path: `submit(ledger.settle, reservation, 1, 1)`."""
        if self.threads:
            return self._threaded().submit(operation, *args, **kwargs)
        from concurrent.futures import Future

        done: Future[T] = Future()
        try:
            done.set_result(operation(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done

    def _threaded(self) -> Pool:
        pool = self._pool
        if pool is None:
            pool = self._pool = Pool("tokenguard-ledger", self.threads)
        return pool

    async def run(self, operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await one of this ledger's operations: `await ledger.run(ledger.reserve, entries, nano, tokens)`.

        The event loop is never blocked. A reservation that is made after the waiting task was cancelled is released.
        """
        if not self.threads:
            return operation(*args, **kwargs)
        from concurrent.futures import Future

        future: Future[T] = Future()
        try:
            self._threaded().fulfil(future, operation, *args, **kwargs)
            return await landed(future)
        except BaseException:  # cancelled, or interrupted: it is not done at all, or is given back
            future.cancel()
            future.add_done_callback(self._give_back)
            raise

    def _hear(self, alerts: tuple[Alert, ...]) -> None:
        if alerts and self.on_alerts is not None:
            self.on_alerts(alerts)

    def _give_back(self, future: Future[T]) -> None:
        if not future.cancelled() and future.exception() is None:
            answer: object = future.result()
            if isinstance(answer, Reservation):
                with contextlib.suppress(Exception):  # its lease ends by itself
                    self.release(answer)

    def _before_fork(self) -> None:  # noqa: B027 - most ledgers have nothing to do here
        """Bring what a fork would copy into a consistent state, and keep it so until the fork is done."""

    def _after_fork_in_parent(self) -> None:  # noqa: B027
        """Go on."""

    def _after_fork_in_child(self) -> None:  # noqa: B027
        """Start afresh in a forked process: threads and connections stay with the parent."""
