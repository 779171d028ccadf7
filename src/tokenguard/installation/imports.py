"""Hooks on modules: called now for those that are imported already, and for the others right after their import.

A module may be imported again: where somebody has taken it out of `sys.modules`, or reloads it. It has new classes
then, and its hook is called again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from typing import Any

EXECUTES = ("exec_module", "load_module")
"""What a loader runs a module by; those of old have but the second."""


def watch_imports(hooks: dict[str, Callable[[ModuleType], None]]) -> None:
    """Call each hook with its module: now if it is imported already, and right after each import that follows."""
    for name, hook in hooks.items():
        if (module := sys.modules.get(name)) is not None:
            hook(module)
    sys.meta_path.insert(0, _ImportWatch(dict(hooks)))


def unwatch_imports() -> None:
    """No hook of `watch_imports` is called any more."""
    for finder in sys.meta_path:
        if isinstance(finder, _ImportWatch):
            finder.hooks.clear()
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _ImportWatch)]


def watching_imports() -> bool:
    """Whether some hook waits for its module."""
    return any(isinstance(finder, _ImportWatch) for finder in sys.meta_path)


class _ImportWatch:
    """A finder that finds nothing itself, and has the loader of a watched module call the hook."""

    def __init__(self, hooks: dict[str, Callable[[ModuleType], None]]) -> None:
        self.hooks = hooks

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self.hooks:
            return None
        for finder in sys.meta_path:
            find: Any = getattr(finder, "find_spec", None)  # finders of old have none, and are passed over
            if find is None or isinstance(finder, _ImportWatch):  # of several watches, the latest one has the module
                continue
            spec: ModuleSpec | None = find(name, path, target)
            if spec is not None and spec.loader is not None:
                self._follow(spec)
                return spec
        return None

    def _follow(self, spec: ModuleSpec) -> None:
        loader: Any = spec.loader
        for name in EXECUTES:
            if (execute := getattr(loader, name, None)) is None:
                continue
            followed = execute if isinstance(execute, _Followed) else _Followed(execute)
            if self not in followed.watches:
                followed.watches.append(self)
            try:
                setattr(loader, name, followed)
            except (AttributeError, TypeError):  # written in C, as of compiled programs, or with slots
                instead: Any = _Instead(loader, name, followed)
                spec.loader = instead
            return


class _Followed:
    """What a loader does with a module, and then what waits for that one: many modules may have one loader."""

    def __init__(self, execute: Callable[[Any], Any]) -> None:
        self._execute = execute
        self.watches: list[_ImportWatch] = []

    def __call__(self, given: Any) -> Any:
        made = self._execute(given)
        module = made if isinstance(made, ModuleType) else given
        for watch in self.watches:
            if (hook := watch.hooks.get(getattr(module, "__name__", ""))) is not None:
                hook(module)
        return made


class _Instead:
    """A loader that is another one, but for what it executes by."""

    def __init__(self, loader: Any, name: str, followed: _Followed) -> None:
        self._loader = loader
        self.__dict__[name] = followed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
