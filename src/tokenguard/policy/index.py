"""Which of many rules apply: found by the values of a call's facts, not by asking each rule.

Rules with the same conditions are asked once. Conditions on a key whose globs are plain values or begin with one
(`support`, `support_*`) stand in a table by that value, so that a policy with a rule for each of a thousand tenants
takes no longer than one with a rule for one.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

Facts = tuple[str, ...]
Test = Callable[[Facts], bool]
Patterns = Collection[tuple[str, tuple[str, ...]]]
"""Keys with their globs, as `When.patterns` has them."""


class Places(tuple[int, ...]):
    """The places of the rules of one condition: the same only as itself, so that a thousand are not compared."""

    __slots__ = ()
    __hash__ = object.__hash__
    __eq__ = object.__eq__


Group = tuple[Test | None, Places]
"""A condition, `None` for the one that is always met, and the places of the rules that it is for."""

MAGIC: Final = re.compile(r"[*?\[]")


class Index:
    """Finds the rules of one kind; `at` says where each key is in the facts."""

    def __init__(self, conditions: Sequence[Patterns], at: Mapping[str, int]) -> None:
        places: dict[tuple[tuple[str, tuple[str, ...]], ...], list[int]] = {}
        for place, patterns in enumerate(conditions):
            places.setdefault(tuple((key, tuple(globs)) for key, globs in patterns), []).append(place)
        self._others: list[Group] = []
        self._tables: dict[tuple[int, int | None], dict[str, list[Group]]] = {}
        """By a fact and the length of its beginning (`None` for all of it), by that: the groups to ask."""
        for patterns, found in places.items():
            self._place(patterns, (_test(patterns, at), Places(found)), at)

    def _place(self, patterns: Patterns, group: Group, at: Mapping[str, int]) -> None:
        for key, globs in patterns:
            begun = [_beginning(glob) for glob in globs]
            if None not in begun:
                for beginning in filter(None, dict.fromkeys(begun)):
                    text, whole = beginning
                    table = self._tables.setdefault((at[key], None if whole else len(text)), {})
                    table.setdefault(text, []).append(group)
                return
        self._others.append(group)

    def find(self, facts: Facts) -> tuple[int, ...]:
        """The places of the rules that apply, in their order; of one condition, the same object each time."""
        asked = self._others
        if self._tables:
            by_value = {
                id(group): group
                for (index, length), table in self._tables.items()
                for group in table.get(facts[index][:length], ())
            }
            asked = [*asked, *by_value.values()]
        found = [places for test, places in asked if test is None or test(facts)]
        return found[0] if len(found) == 1 else tuple(sorted(place for places in found for place in places))


def _beginning(glob: str) -> tuple[str, bool] | None:
    """What a value must begin with to match a glob, and whether that is all of it; `None` where nothing is told."""
    magic = MAGIC.search(glob)
    if magic is None:
        return glob, True
    return (glob[: magic.start()], False) if magic.start() else None


def _test(patterns: Patterns, at: Mapping[str, int]) -> Test | None:
    """The test of all keys, any glob of a key. Globs are case-sensitive and match the whole value."""
    if not patterns:
        return None
    tests = [
        (at[key], re.compile("|".join(fnmatch.translate(glob) for glob in globs)).match) for key, globs in patterns
    ]
    return lambda facts: all(match(facts[index]) is not None for index, match in tests)
