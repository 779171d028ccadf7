"""Faults on demand: what the simulated provider does wrong, when it is told to."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tokenguard.demo.exchange import Event

Kind = Literal["delay", "disconnect", "stream_error", "missing_usage", "malformed_usage", "refuse_connection"]
KINDS = ("delay", "disconnect", "stream_error", "missing_usage", "malformed_usage", "refuse_connection")

ERRORS = {
    400: ("invalid_request_error", "invalid_request_error", "The request is not valid."),
    401: ("invalid_request_error", "authentication_error", "Incorrect API key provided."),
    403: ("insufficient_permissions", "permission_error", "The key has no access to this."),
    404: ("invalid_request_error", "not_found_error", "The model does not exist."),
    413: ("invalid_request_error", "request_too_large", "The request is too large."),
    429: ("requests", "rate_limit_error", "Rate limit reached for requests per min (RPM)."),
    500: ("server_error", "api_error", "The server had an error while processing your request."),
    503: ("service_unavailable_error", "api_error", "The engine is currently overloaded, please try again later."),
    529: ("server_error", "overloaded_error", "Overloaded"),
}
"""Statuses with OpenAI's and Anthropic's error type and a message."""

MALFORMED: Mapping[str, Any] = {"prompt_tokens": "many", "input_tokens": [], "output_tokens": {}, "total_tokens": -1}
"""A usage object that no program should have to meet."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong with the next requests."""

    what: int | Kind
    """An HTTP status, or a kind of failure."""
    times: int = 1
    retry_after: float | None = None
    """Seconds, sent as `Retry-After` with a status."""
    after: int = 2
    """How many events of a stream come before it breaks."""
    seconds: float = 0.0
    """How long the answer is held back: a `delay`, or before another failure."""
    path: str = ""
    """Only requests whose path ends so."""
    option: str = ""
    """Only requests that set this option; with a status, it is named as the reason."""

    def __post_init__(self) -> None:
        if self.what not in KINDS and not (isinstance(self.what, int) and 400 <= self.what < 600):
            raise ValueError(
                f"no such fault: {self.what!r}. Give an HTTP status from 400, or one of {', '.join(KINDS)}"
            )


class Faults:
    """The faults that are due: scripted ones first and in order, then by chance."""

    def __init__(self, rate: float = 0.0, statuses: Sequence[int] = (429, 500), seed: int = 0) -> None:
        self.rate = rate
        self.statuses = tuple(statuses)
        self.retry_after: float = 0.0
        self._chance = random.Random(seed)  # noqa: S311 - no secret
        self._script: list[Fault] = []
        self._lock = threading.Lock()

    def script(self, fault: Fault) -> None:
        """Let it happen after those already due."""
        with self._lock:
            self._script.append(fault)

    def next(self, path: str, body: Mapping[str, Any]) -> Fault | None:
        """What happens to the request that has just come to this path."""
        with self._lock:
            for n, fault in enumerate(self._script):
                if path.endswith(fault.path) and (not fault.option or fault.option in body):
                    self._script[n : n + 1] = [replace(fault, times=fault.times - 1)] if fault.times > 1 else []
                    return fault
            if self.rate and self._chance.random() < self.rate:
                return Fault(self._chance.choice(self.statuses), retry_after=self.retry_after)
        return None


def without_usage(events: Sequence[Event]) -> list[Event]:
    """A stream that never tells its usage, as from hosts that ignore `include_usage`."""
    kept = [event for event in events if not (isinstance(event.data, Mapping) and event.data.get("choices") == [])]
    return with_usage(kept, None)


def with_usage(events: Sequence[Event], usage: Any) -> list[Event]:
    """A stream with every usage object replaced."""
    return [
        event._replace(data=replaced(event.data, usage)) if isinstance(event.data, Mapping) else event
        for event in events
    ]


def replaced(node: Mapping[str, Any], usage: Any) -> dict[str, Any]:
    """A body with its usage objects replaced, wherever they sit; `None` takes them out."""
    body = {}
    for key, value in node.items():
        if key in ("usage", "usageMetadata") and value is not None:
            if usage is not None:
                body[key] = usage
        else:
            body[key] = (
                replaced(value, usage) if key in ("response", "message") and isinstance(value, Mapping) else value
            )
    return body
