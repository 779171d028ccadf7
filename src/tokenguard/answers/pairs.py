"""How a rule does on pairs of questions that somebody has labelled: what it serves, and what wrongly."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from tokenguard.answers.words import content_words
from tokenguard.facts.errors import TokenGuardError
from tokenguard.facts.tuples import NamedTuple

SAME: Final = ("same", "same_answer", "label", "is_duplicate")
"""The keys that say whether two questions have the same answer; the first that a pair has counts."""
Z: Final = 1.96
"""Of an interval that holds in 95 of 100 cases."""
STEP: Final = 1e-4
"""Thresholds are multiples of it."""


class Pair(NamedTuple):
    """Two questions."""

    one: str
    other: str
    same: bool
    """Whether they have the same answer."""


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


def pairs_of(lines: Iterable[str], name: str) -> list[Pair]:
    """The pairs of a JSON Lines file: `{"a": "...", "b": "...", "same": true}`. Raises `TokenGuardError`."""
    return [_pair(line, f"{name}:{number}") for number, line in enumerate(lines, 1) if line.strip()]


def judged(pairs: Sequence[Pair], matches: Sequence[bool]) -> Judged:
    """What came of pairs of which these are taken for the same."""
    alike = [taken for pair, taken in zip(pairs, matches, strict=True) if pair.same]
    wrong = [(pair.one, pair.other) for pair, taken in zip(pairs, matches, strict=True) if taken and not pair.same]
    return Judged(len(alike), sum(alike), len(pairs) - len(alike), tuple(wrong))


def same_words(pair: Pair) -> bool:
    """Whether `match = "words"` takes them for the same."""
    words = content_words(pair.one)
    return bool(words) and words == content_words(pair.other)


def similarities(pairs: Sequence[Pair], encode: Callable[[list[str]], Any]) -> list[float]:
    """How near each pair is for `match = "meaning"`; -1 where what must be equal to the letter is not."""
    from tokenguard.answers.encoder import unit_vectors
    from tokenguard.answers.meaning import hard_facts

    texts = list(dict.fromkeys(text for pair in pairs for text in pair[:2]))
    vectors = dict(zip(texts, unit_vectors(encode, texts), strict=True))
    return [
        min(1.0, float(vectors[pair.one] @ vectors[pair.other]))
        if hard_facts(pair.one) == hard_facts(pair.other)
        else -1.0
        for pair in pairs
    ]


def threshold_for(pairs: Sequence[Pair], near: Sequence[float], max_wrong: float) -> float | None:
    """The threshold that serves most of the same pairs, and takes no more than this share of the others for the same.

    Of all that serve as many it is the highest: how near questions are that nobody has asked about is not known. `None`
    where there is none: different questions have the very same vector.
    """
    different = sorted((value for pair, value in zip(pairs, near, strict=True) if not pair.same), reverse=True)
    allowed = math.floor(max_wrong * len(different) + 1e-9)
    first_refused = different[allowed] if allowed < len(different) else -1.0
    lowest = round(max(0.0, math.floor(first_refused / STEP) + 1) * STEP, 4)
    if lowest > 1.0:
        return None
    served = min((value for pair, value in zip(pairs, near, strict=True) if pair.same and value >= lowest), default=1.0)
    return max(lowest, round(math.floor(served / STEP + 1e-9) * STEP, 4))


def _pair(line: str, where: str) -> Pair:
    try:
        found: Any = json.loads(line)
    except ValueError as error:
        raise TokenGuardError(f"{where}: not valid JSON: {error}. Write a pair on each line.") from error
    key = next((key for key in SAME if isinstance(found, Mapping) and key in found), None)
    if (
        key is None
        or not all(isinstance(found.get(each), str) for each in "ab")
        or found[key] not in (True, False, 0, 1)
    ):
        raise TokenGuardError(f'{where}: this is no pair. Write {{"a": "...", "b": "...", "same": true or false}}.')
    return Pair(found["a"], found["b"], bool(found[key]))


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
