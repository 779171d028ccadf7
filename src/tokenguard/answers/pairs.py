"""How `match = "words"` does on pairs of questions that somebody has labelled: what it serves, and what wrongly."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from tokenguard.answers.words import content_words
from tokenguard.facts.errors import TokenGuardError

SAME: Final = ("same", "same_answer", "label", "is_duplicate")
"""The keys that say whether two questions have the same answer; the first that a pair has counts."""
Z: Final = 1.96
"""Of an interval that holds in 95 of 100 cases."""


class Judged(NamedTuple):
    """What came of labelled pairs."""

    same: int
    served: int
    """Of the same ones, those that are taken for the same."""
    different: int
    wrong: tuple[tuple[str, str], ...]
    """The different ones that are taken for the same: one would get the other's answer."""

    @property
    def wrong_share(self) -> float | None:
        """Of the different pairs; `None` without any."""
        return len(self.wrong) / self.different if self.different else None


def judged(lines: Iterable[str], name: str) -> Judged:
    """The pairs of a JSON Lines file: `{"a": "...", "b": "...", "same": true}`. Raises `TokenGuardError`."""
    same = served = different = 0
    wrong = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        one, other, alike = _pair(line, f"{name}:{number}")
        words = content_words(one)
        matches = bool(words) and words == content_words(other)
        if alike:
            same += 1
            served += matches
        else:
            different += 1
            if matches:
                wrong.append((one, other))
    return Judged(same, served, different, tuple(wrong))


def _pair(line: str, where: str) -> tuple[str, str, bool]:
    try:
        found: Any = json.loads(line)
    except ValueError as error:
        raise TokenGuardError(f"{where}: this is no JSON: {error}. Write a pair on each line.") from error
    key = next((key for key in SAME if isinstance(found, Mapping) and key in found), None)
    if (
        key is None
        or not all(isinstance(found.get(each), str) for each in "ab")
        or found[key] not in (True, False, 0, 1)
    ):
        raise TokenGuardError(f'{where}: this is no pair. Write {{"a": "...", "b": "...", "same": true or false}}.')
    return found["a"], found["b"], bool(found[key])


def interval(part: int, whole: int) -> tuple[float, float]:
    """Wilson's interval of a share (95 %).

    >>> [round(end, 3) for end in interval(4, 300)]
    [0.005, 0.034]
    """
    share = part / whole
    middle = share + Z * Z / (2 * whole)
    half = Z * math.sqrt(share * (1 - share) / whole + Z * Z / (4 * whole * whole))
    scale = 1 + Z * Z / whole
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
