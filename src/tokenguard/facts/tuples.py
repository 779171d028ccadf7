"""Named tuples, made in a tenth of the time that `typing` takes.

More than sixty are made until the first call. `typing.NamedTuple` compiles the type of each field, and a constructor
and five methods for each class; here constructors of as many fields have one code, and the methods are everyone's.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from functools import cache
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

__all__ = ["NamedTuple"]

if TYPE_CHECKING:
    from typing import NamedTuple
else:

    class _Making(type):
        """Makes a tuple of what is written like a class."""

        def __new__(cls, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> type:
            if not bases:
                return super().__new__(cls, name, bases, space)
            fields = (*space.get("__annotations__", ()),)
            defaults = {field: space[field] for field in fields if field in space}
            code = _code(len(fields)).replace(co_varnames=("_cls", *fields), co_qualname=f"{name}.__new__")
            own = {
                **_METHODS,
                "__slots__": (),
                "_fields": fields,
                "_field_defaults": defaults,
                "__match_args__": fields,
                "__new__": FunctionType(code, _GLOBALS, "__new__", (*defaults.values(),)),
            }
            places = {field: _place(n) for n, field in enumerate(fields)}
            return type(name, tuple(tuple if base is NamedTuple else base for base in bases), own | space | places)

    class NamedTuple(metaclass=_Making):
        """`typing.NamedTuple`."""


_GLOBALS = {"_new": tuple.__new__}
"""What a constructor knows."""


@cache
def _code(count: int) -> CodeType:
    """Of a constructor with so many fields."""
    fields = "".join(f"_{n}, " for n in range(count))
    made: FunctionType = eval(f"lambda _cls, {fields}: _new(_cls, ({fields}))", dict(_GLOBALS))  # noqa: S307 - names of ours
    return made.__code__.replace(co_name="__new__")


@cache
def _place(n: int) -> Any:
    """What reads the field at a place."""
    return getattr(collections, "_tuplegetter")(n, f"Alias for field number {n}")  # noqa: B009 - which stubs do not have


def _make(cls: Any, values: Iterable[Any]) -> Any:
    """Make one of its fields' values."""
    made = tuple.__new__(cls, values)
    if len(made) != len(cls._fields):
        raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(made)}")
    return made


def _replace(self: Any, /, **changes: Any) -> Any:
    """The same with other values in these fields."""
    made = self._make(map(changes.pop, self._fields, self))
    if changes:
        raise TypeError(f"Got unexpected field names: {[*changes]!r}")
    return made


def _shown(self: Any) -> str:
    said = ", ".join(f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
    return f"{type(self).__name__}({said})"


def _asdict(self: Any) -> dict[str, Any]:
    """Its values by its fields."""
    return dict(zip(self._fields, self, strict=True))


def _plain(self: Any) -> tuple[Any, ...]:
    """Itself as a plain tuple, for copy and pickle."""
    return tuple(self)


_METHODS = {
    "_make": classmethod(_make),
    "_replace": _replace,
    "__replace__": _replace,
    "__repr__": _shown,
    "_asdict": _asdict,
    "__getnewargs__": _plain,
}
