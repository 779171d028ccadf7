"""Reads the other modules of the tree that a file imports from, as far as a rule asks.

Every file consulted is noted (with its absence, too), so that a cached answer lapses when one of them changes. What
has been consulted is not parsed again when it is linted.
"""

from __future__ import annotations

import ast
import os

from tokenguard.lint.syntax import Function, Module

_CAPACITY = 64  # modules kept that others consulted
_LARGEST = 1_000_000  # bytes; a larger module is data, not helpers
_UP = 8  # folders looked into for a package


class Project:
    """Modules of one tree, parsed on demand."""

    def __init__(self) -> None:
        self._linted: Module | None = None  # the last one: a tree that stays costs the next ones their warm memory
        self._modules: dict[str, Module | None] = {}
        self._homes: dict[tuple[str, str], str | None] = {}
        self._listed: dict[str, frozenset[str]] = {}
        self.consulted: set[str] = set()

    def module(self, path: str, source: bytes) -> Module:
        """The module of a file that is linted. Raises what `parse` raises."""
        known = self._known(path)
        if known is None or known.source != source:
            known = self._linted = Module(path, source)
            self._modules.pop(path, None)
        return known

    def _known(self, path: str) -> Module | None:
        if self._linted is not None and self._linted.path == path:
            return self._linted
        return self._modules.get(path)

    def find(self, module: Module, path: str) -> tuple[Module, Function | ast.ClassDef | ast.expr] | None:
        """The module that defines `path`, and the function, class or value it is; None if out of sight."""
        for _ in range(3):  # re-exports
            located = self._locate(module, path.split("."))
            if located is None:
                return None
            home, name = located
            found = home.top.names.get(name)
            if not found:
                return None
            binding = found[-1]
            if isinstance(binding.node, Function | ast.ClassDef):
                return home, binding.node
            if binding.kind == "assign" and binding.value is not None and len(found) == 1:
                return home, binding.value
            if binding.kind != "import":
                return None
            module, path = home, binding.target
        return None

    def imported(self, module: Module, path: str) -> str | None:
        """What `path` is outside of the project, where a module of it only passes it on; None if it does not."""
        for hop in range(3):
            located = self._locate(module, path.split("."))
            if located is None:
                return path if hop else None
            module, name = located
            found = module.top.names.get(name)
            if not found or found[-1].kind != "import":
                return None
            path = found[-1].target
        return None

    def _locate(self, module: Module, parts: list[str]) -> tuple[Module, str] | None:
        if not module.path or module.path == "-":
            return None
        here = os.path.dirname(module.path)
        if parts[0] == "":
            level = 0
            while parts and parts[0] == "":
                parts, level = parts[1:], level + 1
            for _ in range(level - 1):
                here = os.path.dirname(here)
            return self._under(here, parts)
        home = self._home(here, parts[0]) if parts[0].isidentifier() else None
        return self._under(home, parts) if home is not None else None

    def _home(self, here: str, package: str) -> str | None:
        """The nearest folder at or above `here` that holds `package`, up to the project's root."""
        key = (here, package)
        if key not in self._homes:
            self._homes[key] = None
            at = here
            for _ in range(_UP):
                names = self._names(at)
                if f"{package}.py" in names or (package in names and os.path.isdir(os.path.join(at, package))):
                    self._homes[key] = at
                    break
                above = os.path.dirname(at)
                if "pyproject.toml" in names or ".git" in names or above == at:
                    break
                at = above
        return self._homes[key]

    def _names(self, folder: str) -> frozenset[str]:
        """What is in a folder, looked at once."""
        known = self._listed.get(folder)
        if known is None:
            try:
                known = frozenset(os.listdir(folder or "."))
            except OSError:
                known = frozenset()
            self._listed[folder] = known
        return known

    def _under(self, base: str, parts: list[str]) -> tuple[Module, str] | None:
        """Split `parts` into a module file under `base` and the name in it; deeper attributes are out of sight."""
        if not parts:
            return None
        folder = os.path.join(base, *parts[:-1])
        package = os.path.join(folder, "__init__.py")
        for file in (f"{folder}.py" if len(parts) > 1 else package, package):
            module = self._parse(file)
            if module is not None:
                return module, parts[-1]
        return None

    def _parse(self, file: str) -> Module | None:
        self.consulted.add(file)
        if self._known(file) is None and file not in self._modules:
            module = None
            try:
                if os.path.isfile(file) and os.path.getsize(file) <= _LARGEST:
                    with open(file, "rb") as opened:
                        module = Module(file, opened.read())
            except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
                pass
            if len(self._modules) >= _CAPACITY:
                del self._modules[next(iter(self._modules))]
            self._modules[file] = module
        return self._known(file)
