"""Compiled patterns, kept from run to run as Python keeps bytecode.

To compile the linter's patterns takes as long as to parse a dozen files. The file lies in the folder of the user's
caches, or where PYTHONPYCACHEPREFIX puts bytecode; PYTHONDONTWRITEBYTECODE holds for it, too. What is kept is read by
the same build of Python alone, and nothing of it is needed: what cannot be read is compiled.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from typing import Any, AnyStr

_LARGEST = 500_000  # bytes; many selections of rules leave much behind


class Kept:
    """What was worked out from texts, by its key; `marshal` must be able to write both."""

    def __init__(self, folder: str | None = None) -> None:
        """`folder` is the one of the user's caches, unless it is given."""
        self._folder = folder if folder is not None else _caches()
        self._file = os.path.join(self._folder, f"patterns-{sys.implementation.cache_tag}")
        self._known: dict[Any, bytes] | None = None  # each by itself: most runs look at few
        self._fresh: dict[Any, bytes] = {}

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """The value of a key, as `make` makes it."""
        import marshal

        if self.has(key):
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
        if not self._fresh or sys.dont_write_bytecode:
            return
        import marshal

        data = marshal.dumps((_build(), {**self._read(), **self._fresh}))
        if len(data) > _LARGEST:
            data = marshal.dumps((_build(), self._fresh))
        self._fresh = {}
        part = f"{self._file}.{os.getpid()}"
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            with open(part, "wb") as file:
                file.write(data)
            os.replace(part, self._file)
        except OSError:
            pass

    def _read(self) -> dict[Any, bytes]:
        import marshal

        try:
            with open(self._file, "rb") as file:
                build, known = marshal.loads(file.read())  # noqa: S302
        except (OSError, EOFError, ValueError, TypeError):
            return {}
        return known if build == _build() and isinstance(known, dict) else {}


def _build() -> str:
    return f"1 {sys.version}"


def _caches() -> str:
    """The folder for what programs keep of their work."""
    if sys.pycache_prefix:
        return sys.pycache_prefix
    named = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    home = os.path.join("~", "Library", "Caches") if sys.platform == "darwin" else os.path.join("~", ".cache")
    return os.path.join(named or os.path.expanduser(home), "tokenguard")


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
