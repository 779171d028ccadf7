"""Hooks on modules: called now for those that are imported already, and for the others right after their import."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def watch_imports(hooks: dict[str, Callable[[ModuleType], None]]) -> None:
    """Call each hook with its module: now if it is imported already, else right after its import."""
    waiting = {}
    for name, hook in hooks.items():
        module = sys.modules.get(name)
        if module is None:
            waiting[name] = hook
        else:
            hook(module)
    if waiting:
        sys.meta_path.insert(0, _ImportWatch(waiting))


def unwatch_imports() -> None:
    """No hook of `watch_imports` is called any more."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _ImportWatch)]


def watching_imports() -> bool:
    """Whether some hook waits for its module."""
    return any(isinstance(finder, _ImportWatch) for finder in sys.meta_path)


class _ImportWatch:
    """A finder that finds nothing itself, and has the loader of a watched module call the hook."""

    def __init__(self, hooks: dict[str, Callable[[ModuleType], None]]) -> None:
        self._hooks = hooks

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        hook = self._hooks.get(name)
        if hook is None:
            return None
        for finder in sys.meta_path:
            if isinstance(finder, _ImportWatch):  # of several watches, the latest one has the module
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                self._follow(spec.loader, name, hook)
                return spec
        return None

    def _follow(self, loader: Any, name: str, hook: Callable[[ModuleType], None]) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            hook(module)
            self._hooks.pop(name, None)  # now: where a signal handler breaks the import off, the next one has it again

        loader.exec_module = exec_module
