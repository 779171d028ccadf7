"""Circuit breakers: after a run of failures, no calls for a while, and then one probe decides.

Only the provider's own failures count. A request that it refused for the caller's mistake tells nothing of its health.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tokenguard.policy import Breaker
from tokenguard.process.native import RLock


class _Circuit:
    """The state of one breaker for one provider and model."""

    __slots__ = ("failures", "opened", "probing")

    def __init__(self) -> None:
        self.failures: list[float] = []
        """When the failures of the current run happened."""
        self.opened: float | None = None
        self.probing: float | None = None
        """When the probe was let through."""


class Breakers:
    """All circuits of a process, by breaker, provider and model."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._circuits: dict[tuple[str, str, str], _Circuit] = {}
        self._lock = RLock()  # the collector may end a stream while its own thread holds it

    def refuses(self, breaker: Breaker, provider: str, model: str) -> float | None:
        """How many seconds the circuit stays open, or `None` when the call may go: it is closed, or this is the probe.

        A probe that never ends (its process was suspended, say) makes room for another after one cooldown.
        """
        circuit = self._circuits.get((breaker.name, provider, model))
        if circuit is None or circuit.opened is None:
            return None
        with self._lock:
            now = self._clock()
            if circuit.opened is None:
                return None
            waiting = circuit.opened + breaker.cooldown - now
            if waiting > 0:
                return waiting
            if circuit.probing is not None and now < circuit.probing + breaker.cooldown:
                return circuit.probing + breaker.cooldown - now
            circuit.probing = now
            return None

    def ended(self, breaker: Breaker, provider: str, model: str, works: bool | None) -> None:
        """A call ended. A success closes the circuit; the last failure of a run, or of a probe, opens it.

        `None`: it tells nothing of the provider. If it was the probe, the next call is another.
        """
        key = (breaker.name, provider, model)
        circuit = self._circuits.get(key)
        if circuit is None and works is not False:
            return
        with self._lock:
            if works:
                self._circuits.pop(key, None)
                return
            circuit = self._circuits.setdefault(key, _Circuit())
            if works is None:
                circuit.probing = None
                return
            now = self._clock()
            circuit.failures = [at for at in circuit.failures if now - at < breaker.window][-breaker.failures :]
            circuit.failures.append(now)
            if circuit.probing is not None or len(circuit.failures) >= breaker.failures:
                circuit.opened, circuit.probing = now, None

    def states(self) -> dict[tuple[str, str, str], str]:
        """`closed`, `open` or `half_open` for each circuit that has seen a failure."""
        return {
            key: "closed" if c.opened is None else "half_open" if c.probing is not None else "open"
            for key, c in self._circuits.items()
        }
