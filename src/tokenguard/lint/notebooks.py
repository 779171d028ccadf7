"""Notebooks: their code cells are linted as one program, reported by cell and line, and fixed in place.

What is not Python in a cell is set aside line by line: magics (`%time`, `!pip install`, `files = !ls`, `obj?`), with
the lines they go on in. Cells of `%%time` and its kin are Python all the same; a cell of `%%writefile app.py` is a
program of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property

from tokenguard.facts.patterns import lazy
from tokenguard.lint.engine import BROKEN, Linter
from tokenguard.lint.finding import Finding
from tokenguard.lint.fixes import fix_source
from tokenguard.lint.jsontext import Member, line_of, replaced, sources
from tokenguard.lint.sources import cell_texts, lines_of
from tokenguard.lint.syntax import parses

# `pip install x` is a magic without its sign; IPython takes it for one where no variable is called pip.
_MAGIC = lazy(
    r"\s*(?:[%!]|[/,;]\s*[A-Za-z_]|\?{1,2}\S|[\w.\[\]'\"]+\?{1,2}\s*$|[\w.]+(?:\s*,\s*[\w.]+)*\s*=\s*[%!]"
    r"|(?:uv )?(?:pip3?|conda|mamba) (?:install|uninstall|freeze|list)\b)"
)
_ANY_MAGIC = lazy(f"^(?:{_MAGIC.pattern})", re.MULTILINE)
_PYTHON_CELL = lazy(r"%%(?:time|timeit|capture|prun|memit|mprun|lprun|debug)\b")
_OTHER_CELL = lazy(r"%%|%(?:sql|sh|md|scala|r|fs|bash)\s*$")  # Databricks marks whole cells by one sign
_PYTHON_FILE = lazy(r"%%(?:writefile|file)\s.*\.py\s*$")
_TOKEN = lazy(
    r"[rRbBuUfFtT]{0,2}(?P<long>\"\"\"|''')|\"(?:\\.|[^\"\\])*\"?|'(?:\\.|[^'\\])*'?|#.*|(?P<open>[(\[{])|(?P<close>[)\]}])"
)
_MARK = "# tokenguard: cell "
_INDENTED = "if 1: "  # before the mark of a cell that is indented as a whole, which IPython accepts
_ASIDE = "# tokenguard: magic "
_LINE_END = lazy(r"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


def _indented(code: str) -> bool:
    """Whether the first statement of a cell is indented."""
    first = next((line for line in lines_of(code) if line.strip() and not line.lstrip().startswith("#")), "")
    return first[:1] in (" ", "\t")


class Program:
    """Cells that are linted as one Python source: `text`, in which each cell begins with a comment of its number."""

    def __init__(self, cells: Mapping[int, str]) -> None:
        self.starts: dict[int, int] = {}  # of each cell, the lines before it in the program
        self.text = ""
        before = 0
        for number, code in cells.items():
            self.starts[number] = before + 1
            self.text += f"{_INDENTED if _indented(code) else ''}{_MARK}{number}\n{code}\n"
            before += len(lines_of(f"{code}\n"))

    def place(self, finding: Finding) -> Finding:
        """A finding of the program, as one of its cell."""
        cell = max((n for n, start in self.starts.items() if start < finding.span.line), default=1)
        return finding._replace(span=finding.span.below(-self.starts.get(cell, 0)), cell=cell)

    def unplaced(self, finding: Finding) -> Finding:
        """A finding of a cell, as one of the program."""
        return finding._replace(span=finding.span.below(self.starts[finding.cell or 0]), cell=None)

    @staticmethod
    def split(text: str) -> dict[int, str]:
        """The code of each cell in a program's text."""
        parts = re.split(rf"^(?:{_INDENTED})?{_MARK}(\d+)\n", text, flags=re.MULTILINE)
        return {int(n): code.removesuffix("\n") for n, code in zip(parts[1::2], parts[2::2], strict=True)}


class Cells:
    """The code cells of a notebook, by number: the programs that they are, and those that cannot be read.

    The cells that cannot be read are `broken` and empty in the programs, once `check` has looked at each.
    """

    def __init__(self, texts: Mapping[int, str]) -> None:
        self.texts = texts
        self.broken: list[int] = []
        self.checked = False
        self._aside: list[str] = []
        files: list[Program] = []
        together: dict[int, str] = {}
        for number, text in self.texts.items():
            first = next((line for line in lines_of(text) if line.strip()), "")
            if not _OTHER_CELL.match(first) or _PYTHON_CELL.match(first):
                together[number] = self._code(text)
            elif _PYTHON_FILE.match(first):
                files.append(Program({number: self._code(text)}))
        self.programs = [Program(together), *files]

    def _code(self, text: str) -> str:
        """A cell's lines as plain Python, with the line ends they have: what is set aside becomes `pass`."""
        if "\r" not in text and not _ANY_MAGIC.search(text):
            return text
        code = []
        ends = [*_LINE_END.findall(text), ""]
        goes_on = False  # the line before is a magic that ends in a backslash
        for line, begins in _logical(lines_of(text)):
            if goes_on or (begins and _MAGIC.match(line)):
                indent = line[: len(line) - len(line.lstrip())]
                code.append(f"{'' if goes_on else f'{indent}pass  '}{_ASIDE}{len(self._aside)}")
                self._aside.append(line)
                goes_on = line.rstrip().endswith("\\")
            else:
                code.append(line)
        return "".join(line + end for line, end in zip(code, ends, strict=True))

    def check(self) -> None:
        """Find the cells that cannot be read, and leave them out of the programs."""
        self.checked = True
        checked = []
        for program in self.programs:
            cells = program.split(program.text)
            bad = {n for n, code in cells.items() if not parses(Program({n: code}).text.encode())}
            self.broken += bad
            checked.append(Program({n: "" if n in bad else code for n, code in cells.items()}))
        self.programs = checked

    def restored(self, code: str) -> str:
        """The new code of a cell as it is written there: with what was set aside."""
        return re.sub(rf"[^\r\n]*{_ASIDE}(\d+)", lambda m: self._aside[int(m[1])], code)


class Notebook(Cells):
    """A parsed notebook. Raises ValueError when it is not one."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        super().__init__(cell_texts(source))

    def line(self, cell: int, line: int) -> int:
        """The line of the file, from 1, in which a line of a cell is written."""
        return line_of(self._json, self._spans[cell], line)

    @cached_property
    def _json(self) -> str:
        return self.source.decode("utf-8-sig")

    @cached_property
    def _spans(self) -> dict[int, Member]:
        return dict(zip(self.texts, sources(self._json, "code"), strict=True))

    def rewritten(self, changed: Mapping[int, str]) -> bytes:
        """The notebook with the new code of some cells, all else byte by byte as it was."""
        text = self._json
        for number in sorted(changed, reverse=True):
            text = replaced(text, self._spans[number], self.restored(changed[number]))
        return (_BOM if self.source.startswith(_BOM) else b"") + text.encode()


def _logical(lines: list[str]) -> Iterator[tuple[str, bool]]:
    """Each line, and whether a statement may begin there: not within brackets, a long string, or behind a backslash."""
    depth, quote, goes_on = 0, "", False
    for line in lines:
        begins = not (depth or quote or goes_on)
        yield line, begins
        if not (begins and _MAGIC.match(line)):
            depth, quote = _after(line, depth, quote)
            goes_on = not quote and line.endswith("\\")


def _after(line: str, depth: int, quote: str) -> tuple[int, str]:
    """How deep in brackets a line ends, and in which long string, if any; `depth` and `quote` are those before it."""
    at = 0
    while True:
        if quote:
            end = line.find(quote, at)
            if end < 0:
                return depth, quote
            at, quote = end + 3, ""
        token = _TOKEN.search(line, at)
        if token is None:
            return depth, ""
        at, quote = token.end(), token["long"] or ""
        depth = max(0, depth + bool(token["open"]) - bool(token["close"]))


def lint_notebook(linter: Linter, source: bytes, path: str) -> list[Finding]:
    """The findings of a notebook's bytes, by cell. A cell that cannot be read is a note: the others are linted."""
    try:
        notebook = Notebook(source)
    except ValueError as error:
        return linter.broken(path, str(error))
    found = _lint(linter, notebook, path)
    if found is None:
        notebook.check()
        found = _lint(linter, notebook, path) or []
    note = linter.broken(path, "This cell is not valid Python, and was not linted.", severity="info")
    found += [f._replace(cell=n) for n in notebook.broken for f in note]
    return sorted(found, key=lambda f: f.order)


def _lint(linter: Linter, notebook: Cells, path: str) -> list[Finding] | None:
    """The findings of a notebook's programs; None if one cannot be read, and cells have not been checked one by one."""
    found: list[Finding] = []
    for program in notebook.programs:
        source = program.text.encode()
        here = linter.lint(source, path)
        if not notebook.checked and (any(f.rule == BROKEN for f in here) or _silent(linter, source, here)):
            return None
        found += map(program.place, here)
    return found


def _silent(linter: Linter, source: bytes, found: list[Finding]) -> bool:
    """Whether a source is read by rules, has no findings, and cannot be parsed: where TG000 is off, nothing says so."""
    return BROKEN not in linter.enabled and not found and not linter.skips(source) and not parses(source)


def fix_notebook(linter: Linter, source: bytes, path: str, *, unsafe: bool) -> tuple[bytes, list[Finding]]:
    """The mended notebook and what was mended."""
    try:
        notebook = Notebook(source)
    except ValueError:
        return source, []
    notebook.check()
    changed: dict[int, str] = {}
    mended: list[Finding] = []
    for program in notebook.programs:
        text, fixed = fix_source(program.text.encode(), lambda code: linter.lint(code, path), unsafe=unsafe)
        before, after = program.split(program.text), program.split(text.decode())
        if fixed and before.keys() == after.keys():
            changed |= {n: after[n] for n in after if after[n] != before[n]}
            mended += [program.place(f) for f in fixed]
    return (notebook.rewritten(changed), mended) if changed else (source, [])
