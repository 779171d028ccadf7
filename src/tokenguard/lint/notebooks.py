"""Notebooks: their code cells are linted as one program, reported by cell and line, and fixed in place."""

from __future__ import annotations

import json
import re
from typing import Any

from tokenguard.lint.engine import BROKEN, Linter
from tokenguard.lint.finding import Finding, Span
from tokenguard.lint.fixes import fix_source
from tokenguard.lint.patterns import lazy
from tokenguard.lint.sources import lines_of
from tokenguard.lint.syntax import parses

_MAGIC = lazy(r"^\s*[%!?]|^\s*\S+\?{1,2}\s*$|^\s*\w+\s*=\s*[%!]")
_MARK = "# tokenguard: cell "
_MAGIC_MARK = "  # tokenguard: magic "


class Notebook:
    """A parsed notebook. Raises ValueError when it is not one."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        try:
            self.document: Any = json.loads(source.decode("utf-8-sig"))
            cells = self.document["cells"]
            self.cells = [(n, c) for n, c in enumerate(cells, 1) if c["cell_type"] == "code"]
            self.texts = {n: _text(c) for n, c in self.cells}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"Not a notebook: {error}") from error
        self.broken: list[int] = []
        self.starts: dict[int, int] = {}  # of each cell, the lines before it in the program
        self._magics: list[str] = []
        lines: list[str] = []
        for number, _ in self.cells:
            code = self._code(number)
            self.starts[number] = len(lines) + 1
            lines += [f"{_MARK}{number}", *code]
        self.program = "\n".join(lines) + "\n"

    def _code(self, number: int) -> list[str]:
        """A cell's lines as plain Python: magics become `pass`; a cell that is not Python is empty."""
        lines = lines_of(self.texts[number])
        first = next((line for line in lines if line.strip()), "")
        if first.startswith("%%"):
            return [""] * len(lines)
        code = []
        for line in lines:
            if _MAGIC.match(line):
                code.append(f"{line[: len(line) - len(line.lstrip())]}pass{_MAGIC_MARK}{len(self._magics)}")
                self._magics.append(line)
            else:
                code.append(line)
        if parses("\n".join(code).encode()):
            return code
        self.broken.append(number)
        return [""] * len(lines)

    def locate(self, line: int) -> int:
        """The cell that a line of the program is in."""
        return max((n for n, start in self.starts.items() if start < line), default=1)

    def place(self, finding: Finding) -> Finding:
        """A finding of the program, as one of its cell."""
        cell = self.locate(finding.span.line)
        up = self.starts.get(cell, 0)
        span = finding.span
        moved = Span(span.line - up, span.column, span.end_line - up, span.end_column)
        return finding._replace(span=moved, cell=cell)

    def rewritten(self, program: str) -> bytes:
        """The notebook with the code of a changed program, all else as it was; the old bytes where that cannot be."""
        before, after = self._split(self.program), self._split(program)
        if before.keys() != after.keys():
            return self.source
        for number, cell in self.cells:
            if before[number] != after[number]:
                text = re.sub(rf"pass{_MAGIC_MARK}(\d+)$", self._magic, after[number], flags=re.MULTILINE)
                cell["source"] = text if isinstance(cell["source"], str) else text.splitlines(keepends=True)
        return self._dumped()

    def _magic(self, match: re.Match[str]) -> str:
        return self._magics[int(match[1])].lstrip()

    def _split(self, program: str) -> dict[int, str]:
        parts = re.split(rf"^{_MARK}(\d+)\n", program.removesuffix("\n"), flags=re.MULTILINE)
        cells = dict(zip(map(int, parts[1::2]), parts[2::2], strict=True))
        last = int(parts[-2]) if len(parts) > 1 else 0
        return {n: text if n == last else text.removesuffix("\n") for n, text in cells.items()}

    def _dumped(self) -> bytes:
        original = self.source.decode("utf-8-sig")
        before = json.loads(original)
        for indent in (1, 2, 4, None, "\t"):
            for ascii_only in (False, True):
                for end in ("\n", ""):
                    if json.dumps(before, indent=indent, ensure_ascii=ascii_only) + end == original:
                        return (json.dumps(self.document, indent=indent, ensure_ascii=ascii_only) + end).encode()
        return self.source  # an unusual layout: rather unfixed than reformatted


def _text(cell: dict[str, Any]) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def lint_notebook(linter: Linter, source: bytes, path: str) -> list[Finding]:
    """The findings of a notebook's bytes, by cell."""
    try:
        notebook = Notebook(source)
    except ValueError as error:
        return linter.broken(path, str(error))
    if linter.skips(notebook.program.encode()) and not notebook.broken:
        return []
    found = [notebook.place(f) for f in linter.lint(notebook.program.encode(), path)]
    if BROKEN in linter.enabled:
        found += [
            f._replace(cell=n) for n in notebook.broken for f in linter.broken(path, "This cell is not valid Python.")
        ]
    return sorted(found, key=lambda f: f.order)


def fix_notebook(linter: Linter, source: bytes, path: str, *, unsafe: bool) -> tuple[bytes, list[Finding]]:
    """The mended notebook and what was mended."""
    try:
        notebook = Notebook(source)
    except ValueError:
        return source, []

    program, fixed = fix_source(notebook.program.encode(), lambda text: linter.lint(text, path), unsafe=unsafe)
    changed = notebook.rewritten(program.decode())
    return changed, [notebook.place(f) for f in fixed] if changed != source else []


def cell_lines(source: bytes, cell: int) -> list[str]:
    """The lines of one cell, counted from 1 over all cells; none when it cannot be read."""
    try:
        return lines_of(Notebook(source).texts[cell])
    except (ValueError, KeyError):
        return []
