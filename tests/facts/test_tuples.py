"""`facts.tuples.NamedTuple` is `typing`'s, made sooner."""

from __future__ import annotations

import copy
import inspect
import pickle
from pathlib import Path
from typing import Generic, TypeVar
from typing import NamedTuple as Typing

import pytest

import tokenguard
from test_floors import FLOOR, ROOT
from tokenguard.facts.tuples import NamedTuple

T = TypeVar("T")


class Ours(NamedTuple):
    """Some facts."""

    name: str
    count: int | None = None
    """How many."""
    more: tuple[str, ...] = ()

    @property
    def twice(self) -> int:
        return 2 * (self.count or 0)

    def named(self, name: str) -> Ours:
        return self._replace(name=name)


class Theirs(Typing):
    """Some facts."""

    name: str
    count: int | None = None
    more: tuple[str, ...] = ()


class Wider(Ours):
    """A class on top of one."""

    __slots__ = ()


class Of(NamedTuple, Generic[T]):
    """One of some type."""

    value: T


class Empty(NamedTuple):
    """Nothing."""


class Shown(NamedTuple):
    """One that has a word of its own."""

    name: str

    def __repr__(self) -> str:
        return f"<{self.name}>"


def test_the_same_as_typing():
    """What it makes is what `typing` makes: values, fields, defaults, signature, representation, and no dictionary."""
    for arguments in (("a",), ("a", 1), ("a", 1, ("x",))):
        ours, theirs = Ours(*arguments), Theirs(*arguments)
        assert ours == theirs == (*arguments, *(None, ())[len(arguments) - 1 :])
        assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
        assert ours._asdict() == theirs._asdict()
        assert hash(ours) == hash(theirs)
    for fact in ("_fields", "_field_defaults", "__match_args__", "__doc__", "__slots__", "__bases__"):
        assert getattr(Ours, fact) == getattr(Theirs, fact)
    assert str(inspect.signature(Ours)).startswith("(name")
    assert [*inspect.signature(Ours).parameters] == [*inspect.signature(Theirs).parameters]
    assert Ours.__annotations__ == {"name": "str", "count": "int | None", "more": "tuple[str, ...]"}
    assert Ours.__module__ == __name__
    assert (Ours.__qualname__, type(Ours), Ours.name.__doc__) == ("Ours", type, "Alias for field number 0")
    assert not hasattr(Ours("a"), "__dict__")
    with pytest.raises(AttributeError):
        Ours("a").name = "b"


def test_what_is_written_in_it_stays():
    """Methods, properties and words of its own are the class's."""
    assert (Ours("a", 2).twice, Ours("a", 2).named("b"), repr(Shown("x"))) == (4, ("b", 2, ()), "<x>")


def test_named_arguments_and_what_is_wrong_with_them():
    """Missing, unknown and too many arguments are told by name."""
    assert Ours(count=1, name="a") == ("a", 1, ())
    for wrong, said in (
        (lambda: Ours(), r"Ours\.__new__\(\) missing 1 required positional argument: 'name'"),
        (lambda: Ours("a", other=1), "unexpected keyword argument 'other'"),
        (lambda: Ours("a", 1, (), 2), "takes from 2 to 4 positional arguments but 5 were given"),
        (lambda: Ours._make("ab"), "Expected 3 arguments, got 2"),
        (lambda: Ours("a")._replace(other=1), r"unexpected field names: \['other'\]"),
    ):
        with pytest.raises(TypeError, match=said):
            wrong()


def test_copies():
    """Copied, pickled, made of values and changed, it is of its own class, and so is one of a class on top of it."""
    for kind in (Ours, Wider):
        each = kind("a", 1)
        made = [copy.copy(each), copy.deepcopy(each), pickle.loads(pickle.dumps(each)), kind._make(each)]
        made += [each._replace(), each._replace(name="a")]
        assert made == [each] * len(made)
        assert {type(one) for one in made} == {kind}


def test_matched():
    """A pattern takes it apart by place and by name."""
    match Ours("a", 3):
        case Ours("a", count=count):
            assert count == 3


def test_generic_and_empty():
    """It can be of a type that is given later, and have no fields at all."""
    assert (Of[int](3), Of.__parameters__, Of[int].__origin__) == ((3,), (T,), Of)
    assert (Empty(), Empty._fields, repr(Empty())) == ((), (), "Empty()")


def test_what_a_program_loads_has_no_other():
    """Nothing below a command takes `typing`'s: that takes ten times as long at each start."""
    rooms = [room for room, floor in FLOOR.items() if floor <= FLOOR["installation"]]
    rooms = [room for room in rooms if room not in {"answers", "report", "lint", "rules", "grafana"}]
    files = [file for room in rooms for file in (ROOT / room).rglob("*.py") if file.name != "tuples.py"]
    wrong = [str(file.relative_to(ROOT)) for file in files if _typings(file)]
    assert wrong == []
    assert Path(tokenguard.__file__).parent == ROOT


def _typings(file: Path) -> bool:
    lines = file.read_text().splitlines()
    return any(line.startswith("from typing import") and "NamedTuple" in line for line in lines)
