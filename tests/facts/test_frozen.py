"""Frozen dataclasses that compile nothing: they do what `dataclasses` makes them do."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from tokenguard.facts import frozen


def made(dataclass: Any) -> Any:
    """A class of one of the two kinds, in this module under its own name, as `pickle` wants it."""

    @dataclass(frozen=True, slots=True)
    class Rule:
        """A rule."""

        name: str
        keys: tuple[str, ...] = ()
        more: dict[str, int] = dataclasses.field(default_factory=dict, compare=False)
        window: str = "day"

        def __post_init__(self) -> None:
            if self.window == "run":
                object.__setattr__(self, "window", "total")

    Rule.__qualname__ = Rule.__name__ = f"{dataclass.__module__.rpartition('.')[2].title()}Rule"
    globals()[Rule.__name__] = Rule
    return Rule


KINDS = pytest.mark.parametrize("kind", [made(dataclasses.dataclass), made(frozen.dataclass)], ids=["theirs", "ours"])


@KINDS
def test_values(kind: Any) -> None:
    """Made by place and by name, with defaults of its own for each; what is compared tells which are equal."""
    rule = kind("a", keys=("x",))
    assert (rule.name, rule.keys, rule.more, rule.window) == ("a", ("x",), {}, "day")
    assert kind("a").more is not kind("a").more
    assert kind("a", window="run").window == "total"
    assert rule == kind("a", ("x",), {"not": 1}, "day") != kind("a")
    assert hash(rule) == hash(kind("a", ("x",), {"not": 1}))
    assert rule != ("a", ("x",))
    assert repr(rule) == f"{kind.__qualname__}(name='a', keys=('x',), more={{}}, window='day')"
    assert dataclasses.replace(rule, name="b") == kind("b", ("x",))
    assert [field.name for field in dataclasses.fields(kind)] == ["name", "keys", "more", "window"]
    assert dataclasses.asdict(rule) == {"name": "a", "keys": ("x",), "more": {}, "window": "day"}
    match rule:
        case kind(name, keys):
            assert (name, keys) == ("a", ("x",))


@KINDS
def test_copies(kind: Any) -> None:
    """They can be copied and pickled."""
    rule = kind("a", ("x",), {"n": 1})
    for other in (copy.copy(rule), copy.deepcopy(rule), pickle.loads(pickle.dumps(rule))):
        assert (other, other.more) == (rule, {"n": 1})


@KINDS
def test_they_do_not_change(kind: Any) -> None:
    """Nothing can be set or taken away."""
    rule = kind("a")
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'name'"):
        rule.name = "b"
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'name'"):
        del rule.name
    assert not hasattr(rule, "__dict__")


@KINDS
@pytest.mark.parametrize(
    ("given", "named"), [((), {}), (("a",), {"name": "b"}), (("a",), {"nmae": "b"}), ((1, 2, 3, 4, 5), {})]
)
def test_wrong_values(kind: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
    """A value too few, too many, twice, or of no such name is a `TypeError`."""
    with pytest.raises(TypeError):
        kind(*given, **named)
