"""Frozen dataclasses with slots as `dataclasses` makes them, for a program that starts: nothing is compiled for them.

To compile what each of them does by itself is most of what it takes to make one, and a policy has sixteen.
"""

from __future__ import annotations

import dataclasses
from operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import dataclass as dataclass
    from typing import Any, Literal


def _init(self: Any, *given: Any, **named: Any) -> None:
    kind = type(self).__name__
    fields = dataclasses.fields(self)
    if len(given) > len(fields):
        raise TypeError(f"{kind} takes {len(fields)} values, and {len(given)} were given")
    for field, value in zip(fields, given, strict=False):
        if field.name in named:
            raise TypeError(f"{kind} got more than one value for {field.name!r}")
        named[field.name] = value
    for field in fields:
        if field.name in named:
            value = named.pop(field.name)
        elif field.default is not dataclasses.MISSING:
            value = field.default
        elif field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        else:
            raise TypeError(f"{kind} wants a value for {field.name!r}")
        object.__setattr__(self, field.name, value)
    if named:
        raise TypeError(f"{kind} has no {', '.join(map(repr, named))}")
    if (after := getattr(self, "__post_init__", None)) is not None:
        after()


def _repr(self: Any) -> str:
    said = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self))
    return f"{type(self).__qualname__}({', '.join(said)})"


def _eq(self: Any, other: Any) -> Any:
    return self._compared(self) == self._compared(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(self._compared(self))


def _set(self: Any, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _delete(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)


_ALL = {
    "__init__": _init,
    "__repr__": _repr,
    "__eq__": _eq,
    "__hash__": _hash,
    "__setattr__": _set,
    "__delattr__": _delete,
    "__getstate__": _state,
    "__setstate__": _set_state,
}
"""What each of them can do."""

if not TYPE_CHECKING:

    def dataclass(*, frozen: Literal[True], slots: Literal[True]) -> Callable[[type], type]:
        """As `dataclasses.dataclass`."""
        return _made


def _made(cls: Any) -> Any:
    for name, function in _ALL.items():
        setattr(cls, name, function)
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    made._compared = attrgetter(*(field.name for field in dataclasses.fields(made) if field.compare))
    return made
