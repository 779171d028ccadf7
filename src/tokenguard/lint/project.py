"""Reads the other modules of the tree that a file imports from, as far as a rule asks.

Every file consulted is noted (with its absence, too), so that a cached answer lapses when one of them changes.
"""

from __future__ import annotations

import ast
from pathlib import Path

from tokenguard.lint.syntax import Function, Module

_CAPACITY = 256  # parsed modules kept
_LARGEST = 1_000_000  # bytes; a larger module is data, not helpers


class Project:
    """Modules of one tree, parsed on demand."""

    def __init__(self) -> None:
        self._modules: dict[Path, Module | None] = {}
        self._homes: dict[tuple[Path, str], Path | None] = {}
        self.consulted: set[str] = set()

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

    def _locate(self, module: Module, parts: list[str]) -> tuple[Module, str] | None:
        if not module.path or module.path == "-":
            return None
        here = Path(module.path).parent
        if parts[0] == "" or not parts:
            level = 0
            while parts and parts[0] == "":
                parts, level = parts[1:], level + 1
            base = here
            for _ in range(level - 1):
                base = base.parent
            return self._under(base, parts)
        if not parts[0].isidentifier():
            return None
        home = self._home(here, parts[0])
        return self._under(home, parts) if home is not None else None

    def _home(self, here: Path, package: str) -> Path | None:
        """The nearest folder at or above `here` that holds `package`, up to the project's root."""
        key = (here, package)
        if key not in self._homes:
            at, home = here, None
            for _ in range(8):
                if (
                    (at / package / "__init__.py").is_file()
                    or (at / f"{package}.py").is_file()
                    or (at / package).is_dir()
                ):
                    home = at
                    break
                if (at / "pyproject.toml").exists() or (at / ".git").exists() or at == at.parent:
                    break
                at = at.parent
            self._homes[key] = home
        return self._homes[key]

    def _under(self, base: Path, parts: list[str]) -> tuple[Module, str] | None:
        """Split `parts` into a module file under `base` and the name in it; deeper attributes are out of sight."""
        if not parts:
            return None
        folder = base.joinpath(*parts[:-1])
        for file in (folder.with_suffix(".py") if len(parts) > 1 else base / "__init__.py", folder / "__init__.py"):
            module = self._parse(file)
            if module is not None:
                return module, parts[-1]
        return None

    def _parse(self, file: Path) -> Module | None:
        self.consulted.add(str(file))
        if file not in self._modules:
            if len(self._modules) >= _CAPACITY:
                self._modules.clear()
            self._modules[file] = None
            try:
                if file.is_file() and file.stat().st_size <= _LARGEST:
                    self._modules[file] = Module(str(file), file.read_bytes())
            except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
                pass
        return self._modules[file]
