"""No two modules of the linter import each other, by any way round; imports for types count, too."""

from __future__ import annotations

import ast
from pathlib import Path

import tokenguard.lint

FOLDER = Path(tokenguard.lint.__file__).parent


def _imports(file: Path) -> set[str]:
    names = (n.module or "" for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.ImportFrom))
    return {name.removeprefix("tokenguard.lint.") for name in names if name.startswith("tokenguard.lint.")}


def test_the_linter_has_no_import_circle() -> None:
    """Following any module's imports never leads back to it. (Imports inside of functions count as well.)"""
    graph = {file.stem: _imports(file) for file in FOLDER.glob("*.py")}
    core = {"syntax", "names", "project", "values", "settings_files", "views", "facts", "changing", "flow", "surface",
            "limits", "rulebook", "prompts", "loops", "results"}  # fmt: skip
    for start in core:
        seen: set[str] = set()
        todo = set(graph[start])
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo |= graph.get(name, set())
        assert start not in seen, f"{start} imports itself through {sorted(seen)}"
