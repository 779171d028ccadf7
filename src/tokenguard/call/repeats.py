"""What a process remembers between calls: requests that failed, tool rounds of chained responses, agents' models."""

from __future__ import annotations

from collections import OrderedDict

from tokenguard.facts.tuples import NamedTuple
from tokenguard.process.native import RLock

WINDOW_NS = 600 * 10**9
"""An identical request within ten minutes of its failure is a retry; later it is somebody asking again."""
REMEMBERED = 4096


class Failure(NamedTuple):
    """How a request has fared so far."""

    times: int
    last_ns: int
    cost: float
    """USD that the last attempt may have cost; those before it are on the records of their repeats."""


class Repeats:
    """The failed requests of the last minutes by fingerprint, the tool rounds behind each response, agents' models."""

    def __init__(self, window_ns: int = WINDOW_NS) -> None:
        self._window_ns = window_ns
        self.failures: OrderedDict[str, Failure] = OrderedDict()
        """The last failure of each request; empty, as nearly always, it need not be asked."""
        self._steps: OrderedDict[str, int] = OrderedDict()
        self._models: OrderedDict[str, str] = OrderedDict()
        self._lock = RLock()  # the collector may end a stream while its own thread holds it

    def before(self, fingerprint: str, now_ns: int) -> Failure | None:
        """The failures of this very request, if it is being tried again."""
        failure = self.failures.get(fingerprint)
        return failure if failure is not None and now_ns - failure.last_ns < self._window_ns else None

    def failed(self, fingerprint: str, now_ns: int, cost: float) -> None:
        """The request failed, at this cost."""
        before = self.before(fingerprint, now_ns)
        with self._lock:
            self.failures[fingerprint] = Failure((before.times if before else 0) + 1, now_ns, cost)
            self.failures.move_to_end(fingerprint)
            while len(self.failures) > REMEMBERED:
                self.failures.popitem(last=False)

    def succeeded(self, fingerprint: str) -> None:
        """The request went well: the next identical one is a new one."""
        with self._lock:
            self.failures.pop(fingerprint, None)

    def steps_before(self, response_id: object) -> int:
        """Tool rounds behind the response that a request continues."""
        return self._steps.get(response_id, 0) if isinstance(response_id, str) else 0

    def stepped(self, response_id: str, steps: int) -> None:
        """A response came after this many tool rounds."""
        with self._lock:
            self._steps[response_id] = steps
            while len(self._steps) > REMEMBERED:
                self._steps.popitem(last=False)

    def model_of(self, *chosen_by: object) -> str | None:
        """The model that has answered for one of these before: an agent, a conversation."""
        known = (self._models.get(name) for name in chosen_by if isinstance(name, str))
        return next((model for model in known if model is not None), None)

    def served(self, model: str, *chosen_by: object) -> None:
        """This model has answered for them."""
        with self._lock:
            self._models.update((name, model) for name in chosen_by if isinstance(name, str))
            while len(self._models) > REMEMBERED:
                self._models.popitem(last=False)
