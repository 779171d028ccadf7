"""What this process has rented and is still paying for: caches, vector stores, containers.

What one costs is known as time passes: every hour, when the provider tells that it has grown or is given another
lifetime, when it is deleted, when it expires, and at the end of the process, what has come on top is a call of its own,
operation `rent`, whose it was that made it. Only who has made it counts it, so that it is counted once. A cache that
nobody has deleted by the end of the process is paid for until it expires; what has no end is so until then, and a
report says that it still runs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tokenguard.call.flow import drive
from tokenguard.facts.patterns import lazy
from tokenguard.facts.usage import Usage
from tokenguard.process.ends import Stage, at_end
from tokenguard.process.forks import at_fork
from tokenguard.process.native import RLock
from tokenguard.process.threads import Pool, Worker
from tokenguard.providers import Api, Endpoint, Reading
from tokenguard.providers.rented import RENT

if TYPE_CHECKING:
    from tokenguard.call.call import Call
    from tokenguard.call.flow import Flow

ACCRUE_S: Final = 3600.0
REMEMBERED: Final = 4096
KINDS: Final = lazy(r"/(?:vector_stores|containers|cachedContents)/([^/?:]+)$")
"""The id in a path where one of them is asked for, changed or deleted."""
SO_FAR: Final = "rented_so_far"
"""The basis of what was counted by the clock: no provider tells it."""
TO_EXPIRY: Final = "rented_to_expiry"
"""The basis of what was counted until it expires: who deletes it sooner pays less."""
_threads: Final = Pool("tokenguard-rents", 1)


class Owing:
    """The call that a rent is: told before it is made, as the exchange of it."""

    native_span = stream = False
    shared_as = asked_by = None
    api = RENT

    def __init__(self, endpoint: Endpoint, told: Mapping[str, Any]) -> None:
        self.endpoint = endpoint
        self.body = told

    def replace_body(self, body: Mapping[str, Any]) -> None:
        """Nothing can be changed any more."""

    def cap_retries(self, most: int) -> None:
        """Nothing is sent."""

    def read(self, result: Any, call: Call) -> Reading | None:
        """What it came to."""
        return call.read(self.body)


class Rented:
    """One thing that is rented."""

    def __init__(self, call: Call, reading: Reading) -> None:
        assert call.api.rental is not None, "it is rented"
        self.api: Api = call.api
        self.rental = call.api.rental
        self.endpoint = call.endpoint
        self.model = call.priced_as
        self.name = reading.resource
        self.variant = reading.variant
        self.context: Context = copy_context()
        """Whose it is."""
        self.told = getattr(reading.usage, self.rental.unit, None) or 0
        """Units that are counted; a container's first session is, from the start."""
        self.owed = 0.0
        self.since = self.counted = now = time.time()
        self.renew(reading, now)

    def renew(self, reading: Reading, now: float) -> None:
        """What the provider tells of it now."""
        rent = reading.rent
        self.amount = 0.0 if rent is None else rent.amount
        self.ends = None if rent is None or rent.seconds is None else now + rent.seconds
        self.until = reading.until

    def passes(self, at: float) -> None:
        """It is kept until then, as large as it is."""
        at = max(at if self.ends is None else min(at, self.ends), self.since)
        self.owed += self.amount * self.rental.per_second * (at - self.since)
        self.since = at

    def accrued(self, at: float) -> int:
        """The units that have come on top since this was asked last."""
        self.passes(at)
        self.counted = at
        more = max(math.ceil(self.owed - 1e-9) - self.told, 0)
        self.told += more
        return more


class Rents:
    """The open rents of this process, by name."""

    def __init__(self, owe: Callable[[Owing], Flow], contain: Callable[..., object]) -> None:
        self._owe = owe
        """The flow of a call that is billed already."""
        self._contain = contain
        self._worker = Worker("tokenguard-rents-due", self._due)
        self._forget()
        at_fork(self._forget)  # the parent's are the parent's to count
        at_end(Stage.CALLS, self.give_up)

    def _forget(self) -> None:
        self._open: dict[str, Rented] = {}
        self._lock = RLock()
        self._next = 0.0

    def __len__(self) -> int:
        return len(self._open)

    def keep(self, call: Call, reading: Reading) -> None:
        """A call has rented this."""
        if reading.resource is None or reading.rent is None or len(self._open) >= REMEMBERED:
            return
        self._open[reading.resource.rpartition("/")[2]] = Rented(call, reading)
        self._worker.wake()

    def waits(self, path: str) -> Rented | None:
        """The rent that is asked for, changed or deleted at this path, if it is one of ours."""
        found = KINDS.search(path.partition("?")[0])
        return self._open.get(found[1]) if found else None

    def seen(self, rent: Rented, deleted: bool, response: object) -> None:
        """What was answered to such a request: counted so far, and how it goes on."""
        now = time.time()
        if deleted:
            self._open.pop(str(rent.name).rpartition("/")[2], None)
            self._tell(rent, now, over=now)
            return
        if now - rent.counted >= ACCRUE_S:
            self._tell(rent, now)
        rent.passes(now)
        reading = rent.api.read(response)
        if reading.resource is not None:
            rent.renew(reading, now)

    def settle(self) -> None:
        """Count all of them up to now; those that have expired are over."""
        now = time.time()
        for key, rent in list(self._open.items()):
            over = rent.ends is not None and rent.ends <= now
            self._tell(rent, now)
            if over:
                self._open.pop(key, None)

    def give_up(self) -> None:
        """The process ends: what expires by itself is counted until then."""
        rents = list(self._open.values())
        self._open.clear()
        for rent in rents:
            self._tell(rent, time.time() if rent.ends is None else rent.ends)
        _threads.finish()

    def _due(self) -> float | None:
        now = time.monotonic()
        if not self._open:
            self._next = 0.0
            return None
        if self._next and now >= self._next:
            self._contain("counting what is rented", self.settle)
        if not self._next or now >= self._next:
            self._next = now + ACCRUE_S
        return self._next - now

    def _tell(self, rent: Rented, at: float, over: float | None = None) -> None:
        """Make a call of what has come on top; of a deletion in any case."""
        with self._lock:
            more = rent.accrued(at)
        if not more and over is None:
            return
        basis = TO_EXPIRY if at > time.time() else SO_FAR
        told = {
            "model": rent.model,
            "resource": rent.name,
            "usage": Usage(**{rent.rental.unit: more}),
            "variant": rent.variant,
            "until": rent.until if over is None else over,
            "basis": basis,
        }
        work = partial(self._contain, "counting what is rented", drive, self._owe(Owing(rent.endpoint, told)), _nothing)
        _threads.soon(partial(rent.context.copy().run, work))


def _nothing() -> Any:
    """There is nothing to send."""
