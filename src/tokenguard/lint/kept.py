"""Compiled patterns, kept from run to run as Python keeps bytecode.

To compile the linter's patterns takes as long as to parse a dozen files. The file lies in the folder of the user's
caches; PYTHONDONTWRITEBYTECODE holds for it, too. It is read by the same build of Python alone, and nothing of it is
needed: what cannot be read is compiled.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress

from tokenguard.lint.sources import stamp
from tokenguard.process import caches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, AnyStr

_LARGEST = 500_000  # bytes; many selections of rules leave much behind


class Kept:
    """What was worked out from texts, by its key; `marshal` must be able to write both."""

    def __init__(self, folder: str | None = None) -> None:
        """`folder` is the one of the user's caches, unless it is given."""
        self._folder = folder or caches.folder()
        self._file = self._folder and os.path.join(self._folder, f"patterns-{sys.implementation.cache_tag}")
        self._known: dict[Any, bytes] | None = None  # each by itself: most runs look at few
        self._fresh: dict[Any, bytes] = {}

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """The value of a key, as `make` makes it."""
        import marshal

        with suppress(KeyError, ValueError, EOFError, TypeError):
            return marshal.loads(self._all()[key])  # noqa: S302 - as much ours as the bytecode of this module
        value = make()
        self._all()[key] = self._fresh[key] = marshal.dumps(value)
        return value

    def has(self, key: Any) -> bool:
        """Whether a value is known without making it."""
        return key in self._all()

    def _all(self) -> dict[Any, bytes]:
        if self._known is None:
            self._known = self._read()
        return self._known

    def compile(self, text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
        """`re.compile`, whose work is kept."""
        try:
            import _sre  # type: ignore[import-not-found]  # a part of Python that may change with any version

            pattern: re.Pattern[AnyStr] = _sre.compile(*self.get((text, int(flags)), lambda: _code(text, int(flags))))
        except Exception:  # it has changed
            return re.compile(text, flags)
        return pattern

    def save(self) -> None:
        """Write what was worked out anew, if anything; a folder that cannot be written to is no one's problem."""
        if not self._fresh or not self._file or sys.dont_write_bytecode:
            return
        import marshal

        data = marshal.dumps((_build(), {**self._read(), **self._fresh}))
        if len(data) > _LARGEST:
            data = marshal.dumps((_build(), self._fresh))
        self._fresh = {}
        with suppress(OSError):
            caches.put(self._file, data)

    def _read(self) -> dict[Any, bytes]:
        import marshal

        with suppress(OSError, EOFError, ValueError, TypeError), open(self._file, "rb") as file:
            if not caches.ours(os.fstat(file.fileno())):
                return {}
            build, known = marshal.loads(file.read())  # noqa: S302
            if build == _build() and isinstance(known, dict):
                return known
        return {}


def own_code() -> list[str]:
    """What tells one state of the linter and its rules from another: each file's name and stamp."""
    import tokenguard.lint
    import tokenguard.rules

    folders = [*tokenguard.lint.__path__, *tokenguard.rules.__path__]
    names = [(folder, name) for folder in folders for name in sorted(os.listdir(folder)) if name.endswith(".py")]
    return [f"{name} {stamp(os.path.join(folder, name))}" for folder, name in names]


def _build() -> str:
    return f"1 {sys.version}"


def _code(text: str | bytes, flags: int) -> tuple[Any, ...]:
    """What `re.compile` gives to the engine for a pattern."""
    from re import _compiler, _parser  # type: ignore[attr-defined]

    parsed = _parser.parse(text, flags)
    state = parsed.state
    code = [int(word) for word in _compiler._code(parsed, flags)]
    names = {place: name for name, place in state.groupdict.items()}
    groups = tuple(map(names.get, range(state.groups)))
    return text, flags | state.flags, code, state.groups - 1, dict(state.groupdict), groups


KEPT = Kept()
