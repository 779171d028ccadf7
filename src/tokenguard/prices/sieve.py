"""Which names no model of a seller can have: said at once, where the price list would try each of its models.

An application that makes up the names of its models, or a gateway that does, asks for a new one at each call.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from tokenguard.facts.patterns import lazy

if TYPE_CHECKING:
    from genai_prices.types import Provider

COMPACT_DATE: Final = lazy(r"-20\d{6}(?=-|:|$)")
"""What the price list reads in a second way: `-20251211` as `-2025-12-11`."""
KINDS: Final = ("equals", "starts_with", "ends_with", "contains", "regex")
UNKNOWN: Final = ""
"""A kind of clause that is not known here: any name may match."""
LITERAL: Final = lazy(r"\^((?:[\w/-]|\\[.])*)(?![?*+{])")
"""How a pattern begins that names have to begin with; no more of it where what follows may be left out."""

Leaves = dict[str, list[str]]
"""By kind, what simple clauses say, of which a name that is a model's matches at least one."""


class Sieve:
    """What at least one of a seller's clauses asks of a name."""

    def __init__(self, providers: Iterable[Provider]) -> None:
        said: dict[str, set[str]] = {kind: set() for kind in (*KINDS, UNKNOWN)}
        for provider in providers:
            kept: Leaves | None = getattr(provider, "leaves", None)
            for kind, texts in (leaves(provider.models) if kept is None else kept).items():
                said[kind].update(texts)
        self._whole = not said[UNKNOWN]
        self._names = frozenset(said["equals"])
        self._begins, self._ends = tuple(said["starts_with"]), tuple(said["ends_with"])
        self._within = tuple(said["contains"])
        self._patterns = tuple((_beginning(pattern), pattern) for pattern in said["regex"])

    def passes(self, name: str) -> bool:
        """Whether a model may be found by this name; false only where none is."""
        name = name.lower()
        if not self._whole or name in self._names or name.startswith(self._begins) or name.endswith(self._ends):
            return True
        for part in self._within:  # a comprehension would take longer than the search
            if part in name:
                return True
        for beginning, pattern in self._patterns:
            if name.startswith(beginning) and re.search(pattern, name):  # compiled where it may match
                return True
        return "-20" in name and COMPACT_DATE.search(name) is not None


def leaves(models: Iterable[Any]) -> Leaves:
    """What the clauses of these models ask of a name."""
    found: dict[str, dict[str, None]] = {}
    for model in models:
        for kind, said in _needed(model.match):
            found.setdefault(kind, {})[said if kind == "regex" else said.lower()] = None
    return {kind: list(said) for kind, said in found.items()}


def _needed(clause: Any) -> Iterator[tuple[str, str]]:
    """Simple clauses of which a name that matches this one matches at least one."""
    if hasattr(clause, "or_"):
        for part in clause.or_:
            yield from _needed(part)
    elif getattr(clause, "and_", ()):
        yield from _needed(clause.and_[0])  # all of them are needed: one is enough
    else:
        kind = next((kind for kind in KINDS if hasattr(clause, kind)), UNKNOWN)
        yield kind, getattr(clause, kind, "")


def _beginning(pattern: str) -> str:
    r"""What a name begins with that this pattern is found in; empty where it does not say.

    >>> _beginning(r"^gpt-5\.6-\d{4}$"), _beginning("^gpt-?5"), _beginning("^(x/)?a"), _beginning("^a|b")
    ('gpt-5.6-', 'gpt', '', '')
    """
    found = None if "|" in pattern else LITERAL.match(pattern)
    return found[1].replace("\\", "") if found else ""
