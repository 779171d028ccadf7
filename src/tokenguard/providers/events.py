"""Server-sent events, read from a stream's whole body when it is over: from its end, as the end has the totals."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

TAIL_EVENTS = 12
"""How many events from the end are read for usage and finish reasons: after the last token come but a few."""


def backwards(body: bytes) -> Iterator[bytes]:
    """The data of a stream's server-sent events, last first, without splitting the whole body."""
    end = len(body)
    while end > 0:
        at = body.rfind(b"data:", 0, end)
        if at < 0:
            return
        # Inside JSON a line break is escaped, so `data:` begins a field exactly where it begins a line.
        if at == 0 or body[at - 1] in b"\n\r":
            yield body[at + 5 : end].split(b"\n", 1)[0].strip()
        end = at


def forwards(body: bytes) -> Iterator[bytes]:
    """The data of a stream's server-sent events, in order, as far as they are asked for."""
    start = 0
    while start < len(body):
        end = body.find(b"\n", start)
        end = len(body) if end < 0 else end
        if body.startswith(b"data:", start):
            yield body[start + 5 : end].strip()
        start = end + 1


def decoded(data: bytes) -> Mapping[str, Any]:
    """An event's JSON object; empty where it is none (`[DONE]`, a cut-off line)."""
    if not data.startswith(b"{"):
        return {}
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


FINAL_RESPONSE = frozenset({"response.completed", "response.incomplete", "response.failed"})
"""Types of the events that carry a whole response (OpenAI's Responses API): they say again what others said."""
