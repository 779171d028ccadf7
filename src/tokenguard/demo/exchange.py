"""What the wire formats hand to the server: an exchange, answered and billed, before it is put on the wire."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tokenguard.demo.answers import Model
from tokenguard.demo.caching import PromptCache
from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import Usage


class Event(NamedTuple):
    """One event of a stream."""

    data: Mapping[str, Any] | str
    name: str | None = None
    text: str = ""
    """The generated text it carries: what has been billed when the stream ends behind it."""


def server_sent(event: Event) -> bytes:
    """An event as server-sent ones are."""
    name = f"event: {event.name}\n" if event.name else ""
    return f"{name}data: {_text(event)}\n\n".encode("utf-8", "replace")


def json_line(event: Event) -> bytes:
    """An event as a line of JSON."""
    return f"{_text(event)}\n".encode("utf-8", "replace")


def _text(event: Event) -> str:
    return event.data if isinstance(event.data, str) else json.dumps(event.data, ensure_ascii=False)


SERVER_SENT = "text/event-stream; charset=utf-8"
JSON_LINES = "application/x-ndjson"


class Reply(NamedTuple):
    """The answer to a request."""

    body: Mapping[str, Any]
    events: Sequence[Event] = ()
    """The same answer as a stream; empty when none was asked for."""
    billed: Usage | None = None
    """What the provider charges; `None` for what is free (a list of models, a token count)."""
    broken: Event | None = None
    """The event by which this wire format reports a failure in mid-stream."""
    status: int = 200
    framed: Callable[[Event], bytes] = server_sent
    """How an event of the stream is put on the wire."""
    content_type: str = SERVER_SENT
    """Of the stream."""
    headers: Mapping[str, str] = MappingProxyType({})
    """What else the response's headers say."""
    content: bytes | None = None
    """The body, where it is no JSON."""


@dataclass
class Received:
    """One request, as the provider saw it."""

    path: str
    api: str
    """`chat`, `responses`, `messages`, `generate_content`, `converse` and others; empty for unknown paths."""
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    at: float
    """Unix time, seconds."""
    status: int = 0
    """What it was answered with; 0 while it is in work or when the connection was dropped."""
    billed: Usage | None = None
    """What it was charged; `None` for refused and free requests."""
    delivered: bool = False
    """Whether all of the answer was sent."""
    fault: object = None
    """The `Fault` that befell it."""
    response_id: str | None = None
    """The id in the answer; embeddings have none."""

    @property
    def model(self) -> str:
        """The model asked for."""
        return str(self.body.get("model", ""))

    @property
    def stream(self) -> bool:
        """Whether a stream was asked for."""
        return bool(self.body.get("stream"))


class Refusal(Exception):
    """A request that is answered with an error status."""

    def __init__(self, status: int, kind: str, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.code = code
        self.param = param


class Desk:
    """What the wire formats share: the model, the caches, ids and a clock."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.cache = PromptCache()
        self.lock = threading.RLock()
        self.responses: dict[str, dict[str, Any]] = {}
        """The Responses API's memory: stored responses with the conversation that led to them."""
        self.files: dict[str, bytes] = {}
        self.objects: dict[str, bytes] = {}
        """Objects in S3, by bucket and key."""
        self.jobs: dict[str, dict[str, Any]] = {}
        """Jobs that are under way: films."""
        self.batches: dict[str, Any] = {}
        """Batch jobs, by id (`batch_jobs.BatchJob`)."""
        self.batch_polls = 1
        """How often a batch job is asked for before it has run."""
        self.batch_ends: list[tuple[str, int]] = []
        """How the next jobs end, other than well: the state, and how many lines were run by then."""
        self.invoice: Any = None
        """How the provider's bill differs from its books (`billing.Invoice`)."""
        self.received: list[Received] = []
        """The provider's books."""
        self._numbers = itertools.count(1)
        self._ahead = 0.0

    def now(self) -> float:
        """Seconds; moves with the world's clock and by `advance`."""
        return time.monotonic() + self._ahead

    def advance(self, seconds: float) -> None:
        """Let time pass, so that caches expire."""
        self._ahead += seconds

    def id(self, prefix: str, length: int = 24) -> str:
        """A new id that looks like the provider's."""
        return f"{prefix}{next(self._numbers):0{length}x}"


Answerer = Callable[[Desk, Mapping[str, Any], str], Reply]
"""A wire format: answers a request body sent with this key, or raises `Refusal`."""

DATED = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-4.1-nano": "gpt-4.1-nano-2025-04-14",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "o3": "o3-2025-04-16",
    "o4-mini": "o4-mini-2025-04-16",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
    "claude-opus-4-5": "claude-opus-4-5-20251101",
}
"""The dated model that answers for an alias."""


def dated(model: object) -> str:
    """The name by which the answering model calls itself."""
    return DATED.get(str(model), str(model))
