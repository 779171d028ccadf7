"""What a process remembers between calls: requests that failed, tool rounds of chained responses, agents' models."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from tokenguard.process.hashes import canonical, in_bytes

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

    The order of the arguments does not matter, nor that of the keys of a message. That of keys further inside does: to
    sort them all would cost a long request more than all else that is done with it, and whoever sends it again has not
    made it anew. Of pictures and files there are some bytes.
    """
    ordered = {key: body[key] for key in sorted(body)}
    for turns in TURNS:
        if type(members := ordered.get(turns)) is list:
            ordered[turns] = [each if _is_ordered(each) else _in_order(each) for each in members]
    return in_bytes((api, provider, _lighter(ordered)))


def _is_ordered(member: object) -> bool:
    """Whether it is as nearly all are: `role` before the rest, of which there is one; or no object."""
    return type(member) is not dict or (len(member) == 2 and next(iter(member)) == "role")


def _in_order(member: dict[str, Any]) -> dict[str, Any]:
    return {key: member[key] for key in sorted(member, reverse=True)}


def size_of(request: bytes, api: str, provider: str) -> int:
    """Bytes of the body in a snapshot that `marshal` reads: each of the texts before it has five around it."""
    return len(request) - len(api) - len(provider) - 15


TURNS: Final = ("messages", "input", "contents")
"""The keys of a request's messages; what is in one is its `content` or its `parts`."""
DATA: Final = frozenset({"b64_json", "bytes", "data", "file_data", "image_url", "url"})
"""The keys of what media parts hold; no text of a prompt stands there."""
LAST_TURNS: Final = 32
"""So many of the messages are looked through for media; who has them in older ones waits for them to be copied."""
HEAVY: Final = 2**16
"""Bytes of media of which some stand for all: to copy a picture of ten megabytes takes ten milliseconds."""
SAMPLE: Final = 1024


def _lighter(body: dict[str, Any]) -> dict[str, Any]:
    """A request with samples in the place of its media; itself where it has none."""
    for key in TURNS:
        if type(turns := body.get(key)) is list:
            for turn in turns[-LAST_TURNS:]:
                if type(turn) is dict and (type(turn.get("content")) is list or "parts" in turn):
                    return {**body, key: turns[:-LAST_TURNS] + _sampled(turns[-LAST_TURNS:])}
            break  # the bound of a request with plain messages goes by the size of all that is beside them
    return body


def _sampled(node: Any) -> Any:
    """JSON with samples in the place of its media."""
    if type(node) is list:
        return [_sampled(part) if type(part) is dict else part for part in node]
    found = {}
    for key, value in node.items():
        kind = type(value)
        if kind is dict or kind is list:
            found[key] = _sampled(value)
        elif (kind is str or kind is bytes) and key in DATA and len(value) > HEAVY:
            found[key] = [len(value), value[:SAMPLE], value[-SAMPLE:], value[:: len(value) // SAMPLE]]
    return {**node, **found} if found else node


LONG: Final = 2**19
"""Bytes of a request of which not all are hashed: a book, a file."""
END: Final = 2**16
STRIDE: Final = 61


def essence(request: bytes) -> bytes:
    """What tells a request from others: all of it, and of a long one its length, its ends and every 61st byte.

    A megabyte takes a quarter of a millisecond to hash. Two texts of that length that differ are nearly always of two
    lengths, and compressed data differ nearly everywhere behind the first difference.
    """
    if len(request) <= LONG:
        return request
    return b"%d" % len(request) + request[:END] + request[-END:] + request[::STRIDE]


def identity(body: Mapping[str, Any]) -> bytes:
    """A digest of the request that nobody can make another request for: equal only for equal requests."""
    import hashlib  # three milliseconds, that only a policy with shared calls needs

    return hashlib.sha256(in_bytes(canonical(body))[0]).digest()
