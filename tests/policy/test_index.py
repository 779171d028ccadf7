"""Rules are found by the values of a call's facts: the same rules as by asking each."""

from __future__ import annotations

import random
from fnmatch import fnmatchcase

import pytest

from tokenguard.policy.index import Index

AT = {"feature": 0, "tenant": 1, "model": 2}
GLOBS = ("a", "ab", "abc", "a*", "ab*", "*", "*b", "?b", "[ab]c", "a[b]c", "a*c", "", "a?", "x\ny", "x*")
VALUES = ("", "a", "ab", "abc", "b", "bc", "ac", "abab", "x\ny", "xyz", "[ab]c")


@pytest.mark.parametrize("seed", range(40))
def test_as_by_asking_each(seed):
    """Values, beginnings, wild cards, several globs of a key and several keys: what is found is what matches."""
    rolled = random.Random(seed)
    conditions = [
        tuple(
            (key, tuple(rolled.choices(GLOBS, k=rolled.randrange(1, 4))))
            for key in rolled.sample([*AT], rolled.randrange(4))
        )
        for _ in range(rolled.randrange(60))
    ]
    index = Index(conditions, AT)
    for _ in range(60):
        facts = tuple(rolled.choices(VALUES, k=3))
        expected = tuple(
            place
            for place, patterns in enumerate(conditions)
            if all(any(fnmatchcase(facts[AT[key]], glob) for glob in globs) for key, globs in patterns)
        )
        assert index.find(facts) == expected


def test_one_of_a_thousand_is_asked():
    """A condition of its own for each of a thousand tenants: a call asks the one of its tenant."""
    index = Index([(("tenant", (f"t{n}",)), ("feature", ("a*",))) for n in range(1_000)], AT)
    asked = []
    for table in index._tables.values():
        for groups in table.values():
            groups[:] = [(lambda facts, n=places: asked.append(n) is None, places) for _, places in groups]
    assert index.find(("abc", "t7", "m")) == (7,)
    assert asked == [(7,)]
