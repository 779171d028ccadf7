"""Which names no model of a seller can have: said at once, where the price list would try each of its models.

An application that makes up the names of its models, or a gateway that does, asks for a new one at each call.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from tokenguard.facts.patterns import lazy

if TYPE_CHECKING:
    from genai_prices.types import Provider

COMPACT_DATE: Final = lazy(r"-20\d{6}(?=-|:|$)")
"""What the price list reads in a second way: `-20251211` as `-2025-12-11`."""
LEAVES: Final = ("equals", "starts_with", "ends_with", "contains", "regex")


class Sieve:
    """What at least one of a seller's clauses asks of a name."""

    def __init__(self, providers: Iterable[Provider]) -> None:
        leaves: dict[str, set[str]] = {kind: set() for kind in LEAVES}
        self._whole = True
        for provider in providers:
            for model in provider.models:
                for kind, said in _needed(model.match):
                    if kind in leaves:
                        leaves[kind].add(said if kind == "regex" else said.lower())
                    else:
                        self._whole = False  # a kind of clause that is not known here: any name may match
        self._names = frozenset(leaves["equals"])
        self._begins, self._ends = tuple(leaves["starts_with"]), tuple(leaves["ends_with"])
        self._within = tuple(leaves["contains"])
        self._regexes = leaves["regex"]

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], ...]:
        """Of names that nothing else lets pass; compiled when there is one."""
        return tuple(map(re.compile, self._regexes))

    def passes(self, name: str) -> bool:
        """Whether a model may be found by this name; false only where none is."""
        name = name.lower()
        if not self._whole or name in self._names or name.startswith(self._begins) or name.endswith(self._ends):
            return True
        for part in self._within:  # a comprehension would take longer than the search
            if part in name:
                return True
        for pattern in self._patterns:
            if pattern.search(name):
                return True
        return "-20" in name and COMPACT_DATE.search(name) is not None


def _needed(clause: Any) -> Iterator[tuple[str, str]]:
    """Simple clauses of which a name that matches this one matches at least one."""
    if hasattr(clause, "or_"):
        for part in clause.or_:
            yield from _needed(part)
    elif getattr(clause, "and_", ()):
        yield from _needed(clause.and_[0])  # all of them are needed: one is enough
    else:
        kind = next((kind for kind in LEAVES if hasattr(clause, kind)), "")
        yield kind, getattr(clause, kind, "")
