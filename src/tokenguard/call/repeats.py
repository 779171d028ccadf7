"""What a process remembers between calls: requests that failed, tool rounds of chained responses, agents' models."""

from __future__ import annotations

import marshal
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, NamedTuple

from tokenguard.process.hashes import canonical

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
        self._failures: OrderedDict[str, Failure] = OrderedDict()
        self._steps: OrderedDict[str, int] = OrderedDict()
        self._models: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.RLock()  # the collector may end a stream while its own thread holds it

    def before(self, fingerprint: str, now_ns: int) -> Failure | None:
        """The failures of this very request, if it is being tried again."""
        if not self._failures:  # as nearly always
            return None
        failure = self._failures.get(fingerprint)
        return failure if failure is not None and now_ns - failure.last_ns < self._window_ns else None

    def failed(self, fingerprint: str, now_ns: int, cost: float) -> None:
        """The request failed, at this cost."""
        before = self.before(fingerprint, now_ns)
        with self._lock:
            self._failures[fingerprint] = Failure((before.times if before else 0) + 1, now_ns, cost)
            self._failures.move_to_end(fingerprint)
            while len(self._failures) > REMEMBERED:
                self._failures.popitem(last=False)

    def succeeded(self, fingerprint: str) -> None:
        """The request went well: the next identical one is a new one."""
        if self._failures:
            with self._lock:
                self._failures.pop(fingerprint, None)

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


def snapshot(api: str, provider: str, body: Mapping[str, Any]) -> tuple[bytes, bool]:
    """The request in bytes, as it is now, and whether `marshal` reads them: not where a value is no plain data.

    The order of the arguments does not matter. That of the keys inside them does: to sort them all would cost a long
    request more than all else that is done with it, and whoever sends it again has not made it anew.
    """
    keys = tuple(body)
    if len(keys) < 2:
        whole = (api, provider, {**body})
    else:
        in_order, values = _in_order(keys)
        whole = (api, provider, dict(zip(in_order, values(body), strict=True)))
    try:
        return marshal.dumps(whole, 2), True  # as `_marshalled`
    except ValueError:
        return _spelled(whole), False


@lru_cache(maxsize=256)
def _in_order(keys: tuple[str, ...]) -> tuple[tuple[str, ...], Callable[[Mapping[str, Any]], tuple[Any, ...]]]:
    """These keys in one order, and what reads their values: most requests of a program have the same ones."""
    in_order = tuple(sorted(keys))
    return in_order, itemgetter(*in_order)


def size_of(request: bytes, api: str, provider: str) -> int:
    """Bytes of the body in a snapshot that `marshal` reads: each of the texts before it has five around it."""
    return len(request) - len(api) - len(provider) - 15


LONG: Final = 2**21
"""Bytes of a request of which not all are hashed: a picture, a file."""
END: Final = 2**16
STRIDE: Final = 61


def essence(request: bytes) -> bytes:
    """What tells a request from others: all of it, and of a long one its length, its ends and every 61st byte.

    A picture of ten megabytes would take ten milliseconds to hash. Two of the same length that differ are compressed
    data, and differ nearly everywhere behind the first difference.
    """
    if len(request) <= LONG:
        return request
    return b"%d" % len(request) + request[:END] + request[-END:] + request[::STRIDE]


def identity(body: Mapping[str, Any]) -> bytes:
    """A digest of the request that nobody can make another request for: equal only for equal requests."""
    import hashlib  # three milliseconds, that only a policy with shared calls needs

    return hashlib.sha256(_bytes(canonical(body))).digest()


def _bytes(value: object) -> bytes:
    try:
        return _marshalled(value)
    except ValueError:
        return _spelled(value)


def _marshalled(value: object) -> bytes:
    """Raises `ValueError` for a value that is not plain data: an iterator, an SDK's own object."""
    # Version 2 has no back references, so equal values give equal bytes; it is an order faster than JSON.
    return marshal.dumps(value, 2)  # type: ignore[arg-type] # it says so itself


def _spelled(value: object) -> bytes:
    return repr(value).encode("utf-8", "backslashreplace")
