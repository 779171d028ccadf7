"""How like a kept answer is to the one that the provider gave after all: what a rule that only watches has found out.

A number from 0 to 1, and nothing of what was said.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from tokenguard.answers.zipped import unzipped
from tokenguard.call.call import Call
from tokenguard.call.kept import HttpAnswer
from tokenguard.facts import names
from tokenguard.providers.bedrock import server_sent
from tokenguard.providers.reading import fields, items

WORD: Final = re.compile(r"\w+")
NEARLY: Final = 0.99
"""Of texts with the same words that are not the same."""
EVENT_STREAM: Final = "application/vnd.amazon.eventstream"


def note(call: Call, kept: HttpAnswer, real: HttpAnswer) -> None:
    """Write down how like they are; nothing, where an answer cannot be read."""
    alike = likeness(call, kept, real)
    if alike is not None:
        call.attributes[names.CACHE_LIKENESS] = alike


def likeness(call: Call, kept: HttpAnswer, real: HttpAnswer) -> float | None:
    """1.0 for answers that say the same, 0.0 for those that share no word (or, of vectors, no direction)."""
    one, other = _said(call, kept), _said(call, real)
    if one is None or other is None:
        return None
    if isinstance(one, str) and isinstance(other, str):
        return 1.0 if one == other else min(NEARLY, overlap(one, other))
    if isinstance(one, list) and isinstance(other, list):
        return _cosine(one, other)
    return 0.0


def overlap(one: str, other: str) -> float:
    """The share of words that two texts have in common, however ordered (Dice's coefficient).

    >>> overlap("Paris is the capital.", "The capital: Paris, of course."), overlap("yes", "no")
    (0.6666666666666666, 0.0)
    """
    words = [Counter(WORD.findall(text.lower())) for text in (one, other)]
    total = sum(words[0].values()) + sum(words[1].values())
    return 2 * (words[0] & words[1]).total() / total if total else 1.0


def _said(call: Call, answer: HttpAnswer) -> str | list[float] | None:
    """What an answer says: its text, or its vectors one behind the other."""
    body = _decoded(answer)
    if body is None:
        return None
    if call.stream:
        return call.api.words.streamed_text(body) if call.api.generates else None
    response = json.loads(body)
    if call.api.generates:
        return call.api.words.answered_text(response)
    return _vectors(response)


def _decoded(answer: HttpAnswer) -> bytes | None:
    headers = {name.lower(): value for name, value in answer.headers}
    body = unzipped(headers.get("content-encoding", ""), answer.body)
    return server_sent(body) if body is not None and headers.get("content-type", "").startswith(EVENT_STREAM) else body


def _vectors(response: object) -> list[float] | None:
    found = [fields(each).get("embedding") for each in items(fields(response).get("data"))]
    numbers: list[float] = []
    for vector in found:
        if isinstance(vector, str):  # the base64 of 32-bit floats
            from array import array
            from base64 import b64decode

            vector = list(array("f", b64decode(vector)))
        if not isinstance(vector, list):
            return None
        numbers += vector
    return numbers or None


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    if len(one) != len(other):
        return 0.0
    if one == other:
        return 1.0
    size: Any = math.sqrt(sum(x * x for x in one) * sum(y * y for y in other))
    return max(0.0, sum(x * y for x, y in zip(one, other, strict=True)) / size) if size else 0.0
