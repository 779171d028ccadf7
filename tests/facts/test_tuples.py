"""Our named tuples are `typing`'s, but for when their constructor is compiled."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import typing
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest

import tokenguard
from tokenguard.facts import tuples
from tokenguard.facts.usage import Usage

T = TypeVar("T")


def kinds(base: Any) -> tuple[Any, Any, Any]:
    """The same three classes on either."""

    class Point(base):
        """A place."""

        x: int
        y: int = 2
        """Up."""
        _ignored = 3

        @property
        def both(self) -> int:
            return self.x + self.y

    class One(base, Generic[T]):
        only: T

    class Nearer(Point):
        __slots__ = ()

        def __new__(cls, x: int) -> Any:
            return super().__new__(cls, x, 7)

    return Point, One, Nearer


OURS, THEIRS = kinds(tuples.NamedTuple), kinds(typing.NamedTuple)
SAID = {
    "by place": lambda point, one, near: [point(1), point(1, 3), one("a"), near(4), *point(5)],
    "by name": lambda point, one, near: [point(x=1), point(y=5, x=4), one(only=2)],
    "made": lambda point, one, near: [point._make([1, 2]), one._make("a"), near._make((1, 2))],
    "too few to make": lambda point, one, near: point._make([1]),
    "replaced": lambda point, one, near: [point(1)._replace(y=9), near(1)._replace(x=3)],
    "replaced by what it has not": lambda point, one, near: point(1)._replace(z=9),
    "as a dictionary": lambda point, one, near: [point(1)._asdict(), one(1)._asdict()],
    "read": lambda point, one, near: [point(1, 4).both, near(1).both, one("a").only, point(8).x],
    "too few": lambda point, one, near: point(),
    "too many": lambda point, one, near: point(1, 2, 3),
    "unknown": lambda point, one, near: point(1, z=3),
    "written over": lambda point, one, near: setattr(point(1), "x", 2),
    "something new": lambda point, one, near: setattr(point(1), "z", 2),
    "facts": lambda point, one, near: [
        *(point._fields, point._field_defaults, point.__match_args__, point.__doc__, point.__module__, point._ignored),
        *(one._fields, one.__parameters__, near._fields, [*point.__annotations__], type(point), point.__qualname__),
    ],
    "equal": lambda point, one, near: [point(1) == (1, 2), hash(point(1)) == hash((1, 2)), point(1) < point(2)],
    "copied": lambda point, one, near: [copy.copy(point(1)), copy.deepcopy(point(1)), point(1).__getnewargs__()],
}


@pytest.mark.parametrize("what", SAID)
def test_what_they_do(what):
    """Whatever is done to one, and whatever is wrong with it, comes to the same, in words and in values."""

    def said(kinds):
        try:
            return repr(SAID[what](*kinds))
        except Exception as error:
            return str(error)  # whose type differs between versions of Python

    assert said(OURS) == said(THEIRS)


def test_a_pattern_and_a_pickle():
    """They are told apart by patterns, and go to other processes."""
    match Usage(input=3):
        case Usage(input=found):
            assert found == 3
    assert pickle.loads(pickle.dumps(Usage(1, 2))) == Usage(input=1, output=2)
    assert type(pickle.loads(pickle.dumps(Usage(1, 2)))) is Usage


def test_all_named_tuples_are_ours():
    """No file of the package has `typing`'s, and those with ours have their annotations as texts."""
    for file in Path(tokenguard.__file__).parent.rglob("*.py"):
        text = file.read_text()
        if re.search(r"^class \w+\(NamedTuple\b", text, re.MULTILINE):
            assert "from tokenguard.facts.tuples import NamedTuple\n" in text, file
            assert "from __future__ import annotations\n" in text, file


def test_it_is_compiled_once():
    """The first call of a kind, or of one below it, leaves the constructor there, with the fields as parameters."""
    point, _, near = kinds(tuples.NamedTuple)
    assert "__new__" not in vars(point)
    near(1)
    made = vars(point)["__new__"]
    assert point(5) == (5, 2)
    assert vars(point)["__new__"] is made
    assert [*inspect.signature(point).parameters] == ["x", "y"]
