"""Named tuples as `typing`'s, for a program that starts: a constructor is compiled when it is first called.

A quarter of what our imports took was to make named tuples, and most of that to compile their constructors; many are
called in no run of a program, and many are made by `tuple.__new__` alone.
"""

from __future__ import annotations

from collections import _tuplegetter  # type: ignore[attr-defined] # what reads a field, in C
from collections.abc import Iterable, Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

_new: Final = tuple.__new__


class _Named(tuple[object, ...]):
    """What all named tuples can do."""

    __slots__ = ()
    _fields: tuple[str, ...] = ()
    _field_defaults: Mapping[str, Any] = {}

    def __new__(cls, *values: Any, **named: Any) -> Any:
        """The first of a kind compiles the constructor of all."""
        kind = next(each for each in cls.__mro__ if "_fields" in each.__dict__)
        constructor = _compiled(kind)
        setattr(kind, "__new__", constructor)  # noqa: B010 - mypy knows no class whose constructor changes
        return constructor(cls, *values, **named)

    @classmethod
    def _make(cls, values: Iterable[Any]) -> Any:
        """One of these values."""
        made = _new(cls, values)
        if len(made) != len(cls._fields):
            raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(made)}")
        return made

    def _replace(self, **named: Any) -> Any:
        """The same with other values for some fields."""
        made = self._make(map(named.pop, self._fields, self))
        if named:
            raise ValueError(f"Got unexpected field names: {[*named]!r}")
        return made

    __replace__ = _replace

    def _asdict(self) -> dict[str, Any]:
        """The values by their names."""
        return dict(zip(self._fields, self, strict=True))

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
        return f"{type(self).__name__}({said})"

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (*self,)


def _compiled(kind: Any) -> Any:
    """The constructor of a kind, with its fields as parameters."""
    told = ", ".join(kind._fields)
    comma = "," if len(kind._fields) == 1 else ""
    space: dict[str, Any] = {"_new": _new, "__builtins__": {}, "__name__": f"namedtuple_{kind.__name__}"}
    made = eval(f"lambda _cls, {told}: _new(_cls, ({told}{comma}))", space)  # noqa: S307 - names of our own fields
    made.__name__, made.__qualname__ = "__new__", f"{kind.__name__}.__new__"
    made.__defaults__ = (*kind._field_defaults.values(),)
    return made


class _Kind(type):
    """Makes a named tuple of a class's annotations.

    They are texts, as its file has `from __future__ import annotations`: others are not there in Python 3.14.
    """

    def __new__(cls, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> Any:
        fields = (*space["__annotations__"],)
        defaults = {field: space.pop(field) for field in fields if field in space}
        own = {field: _tuplegetter(place, "") for place, field in enumerate(fields)}
        more = {"__slots__": (), "_fields": fields, "_field_defaults": defaults, "__match_args__": fields}
        return type(name, (_Named, *bases[1:]), {**space, **own, **more})


class _InBases:
    """Stands among the bases of a class, which `_Kind` makes then."""

    __slots__ = ("_base",)

    def __init__(self) -> None:
        self._base = type.__new__(_Kind, "NamedTuple", (), {})

    def __mro_entries__(self, _bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (self._base,)


if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:
    NamedTuple = _InBases()
