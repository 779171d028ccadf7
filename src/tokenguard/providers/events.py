"""Server-sent events, read from a stream's whole body when it is over: from its end, as the end has the totals."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from tokenguard.facts.patterns import lazy

TAIL_EVENTS = 12
"""How many events from the end are read for usage and finish reasons: after the last token come but a few."""


def backwards(body: bytes) -> Iterator[bytes]:
    """The data of a stream's server-sent events, last first, without splitting the whole body."""
    end = at = len(body)
    while (at := body.rfind(b"data:", 0, at)) >= 0:
        # An event is a line: inside JSON a line break is escaped, and `data:` may be in the text (`data:image/png`).
        if at == 0 or body[at - 1] in b"\n\r":
            yield _line(body[at + 5 : end])
            end = at


def _line(rest: bytes) -> bytes:
    """The first line of what follows `data:`; lines end with LF, CRLF or CR."""
    return rest.split(b"\n", 1)[0].split(b"\r", 1)[0].strip()


def forwards(body: bytes) -> Iterator[bytes]:
    """The data of a stream's server-sent events, in order, as far as they are asked for."""
    start = 0
    if b"\n" not in body:
        body = body.replace(b"\r", b"\n")
    while start < len(body):
        end = body.find(b"\n", start)
        end = len(body) if end < 0 else end
        if body.startswith(b"data:", start):
            yield body[start + 5 : end].strip()
        start = end + 1


def lines_with(pattern: re.Pattern[bytes], body: bytes) -> Iterator[bytes]:
    """The data of the events that hold a match, last first; each once."""
    before = len(body) + 1
    for found in reversed([match.start() for match in pattern.finditer(body)]):
        if found >= before:
            continue
        before = max(body.rfind(b"\n", 0, found), body.rfind(b"\r", 0, found)) + 1
        if body.startswith(b"data:", before):
            yield _line(body[before + 5 :])


@lru_cache(maxsize=64)
def _above_zero(key: str) -> re.Pattern[bytes]:
    """A count of this name, or an array of them."""
    return lazy(rb'"%b"\s*:\s*(?:"?0*[1-9]|\[\s*\{)' % key.encode())


def told_before(body: bytes, keys: frozenset[str]) -> Iterator[bytes]:
    """The data of the events that tell one of these counts, and not as zero.

    Usage is told along the way by some, and the last account need not repeat all of it.
    """
    for key in keys:
        if key.encode() in body:  # in a third of the time of the pattern
            yield from lines_with(_above_zero(key), body)


def is_alone(mark: bytes, body: bytes) -> bool:
    """Whether there is an event with this word, and but one."""
    last = body.rfind(mark)
    return body.find(mark) > body.rfind(b"\n", 0, max(last, 0)) and last >= 0


BOM = b"\xef\xbb\xbf"
LAST_LINES = (b"data: }", b"data:}")
"""How an event ends whose JSON is written in several lines."""
EVENT = lazy(rb"\r\n\r\n|\n\n|\r\r")
LINE = lazy(rb"\r\n|\n|\r")
BEGINS = lazy(rb"^data:\s*\{", re.MULTILINE)
"""What only the body of a stream of events has."""


def in_lines(body: bytes) -> bytes:
    """A stream's body with each event's data in one line, and without a byte order mark.

    The data of an event may be in several lines, each with its `data:`; they belong together
    (https://html.spec.whatwg.org/multipage/server-sent-events.html).
    """
    body = body.removeprefix(BOM)
    end = b"\n" if b"\n" in body else b"\r"
    if not any(end + each in body for each in LAST_LINES):
        return body
    return b"".join(map(_in_a_line, EVENT.split(body)))


def _in_a_line(event: bytes) -> bytes:
    data = b" ".join(line[5:].strip() for line in LINE.split(event) if line.startswith(b"data:"))
    return b"data: " + data + b"\n\n" if decoded(data) else event + b"\n\n"


def whole_answer(body: bytes) -> Mapping[str, Any] | None:
    """The JSON object that a body is, whatever it is called; `None` for events and for lines of JSON.

    Gateways answer with one where a stream was asked for, and some end it as they would a stream.
    """
    if body[:1].isspace():  # they keep a line open by spaces
        body = body.lstrip()
    if not body.startswith(b"{"):
        return None
    text = body.decode("utf-8", "replace")
    try:
        value, end = DECODER.raw_decode(text)
    except ValueError:
        return None
    return value if text[end:].strip() in ("", "data: [DONE]") else None


DECODER = json.JSONDecoder()


def decoded(data: bytes) -> Mapping[str, Any]:
    """An event's JSON object; empty where it is none (`[DONE]`, a cut-off line)."""
    if not data.startswith(b"{"):
        return {}
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


FINAL_RESPONSE = frozenset({"response.completed", "response.incomplete", "response.failed", "response.done"})
"""Types of the events that carry a whole response (OpenAI's Responses API; the last is what some gateways
call it): they say again what others said."""
