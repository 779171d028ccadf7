"""A notebook that is being edited: its cells are linted as one program, and each keeps its own findings.

A cell that does not parse is linted as it last did, so that the others keep what they have from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tokenguard.lint.documents import Changes, Document, Units
from tokenguard.lint.engine import Linter
from tokenguard.lint.finding import Finding
from tokenguard.lint.fixes import apply_edits
from tokenguard.lint.notebooks import Cells

Edit = Callable[[bytes, list[Finding]], bytes]


class Cell(Document):
    """One code cell of an open notebook."""

    def __init__(self, uri: str, book: Book) -> None:
        super().__init__(uri, book.path, book.units)
        self._book = book

    @property
    def text(self) -> str:
        """The text of the cell when it last parsed."""
        return self._text

    def fixed(self, findings: list[Finding]) -> Changes:
        """What carries out the fixes of `findings`, in this cell and in others that they reach into."""
        return self._book.edited(findings, lambda source, found: apply_edits(source, found)[0])

    def ignored(self, finding: Finding) -> Changes:
        """What puts a comment behind a finding that silences it."""
        from tokenguard.lint.mending import commented

        return self._book.edited(
            [finding], lambda source, found: commented(source, {f.span.line: {f.rule} for f in found})[0]
        )


class Book:
    """An open notebook: its code cells by their URIs, in order."""

    def __init__(self, path: str, units: Units) -> None:
        self.path = path
        self.units = units
        self.cells: dict[str, Cell] = {}
        self._read = Cells({})

    def lint(self, texts: Mapping[str, str], linter: Linter | None) -> list[Cell]:
        """Take the code cells as they are now; those of which there is news. Without a linter, nothing is found."""
        self.cells = {uri: self.cells.get(uri) or Cell(uri, self) for uri in texts}
        numbered = dict(enumerate(self.cells.values(), 1))
        now = {number: texts[cell.uri] for number, cell in numbered.items()}
        looked_at = Cells(now)
        looked_at.check()
        broken = set(looked_at.broken)
        self._read = Cells(
            {number: cell.text if number in broken else now[number] for number, cell in numbered.items()}
        )
        found: dict[int, list[Finding]] = {number: [] for number in numbered}
        for program in self._read.programs if linter is not None else ():
            assert linter is not None
            for finding in map(program.place, linter.lint(program.text.encode(), self.path)):
                found[finding.cell or 1].append(finding)
        news = []
        for number, cell in numbered.items():
            cell.current = number not in broken
            if cell.current:
                cell.take(now[number], found[number])
            if cell.current or cell.follow(now[number]):
                news.append(cell)
        return news

    def edited(self, findings: list[Finding], edit: Edit) -> Changes:
        """How cells change when `edit` is done to the programs that the findings are in."""
        cells = list(self.cells.values())
        changes: Changes = {}
        for program in self._read.programs:
            own = [program.unplaced(finding) for finding in findings if finding.cell in program.starts]
            before, after = program.split(program.text), program.split(edit(program.text.encode(), own).decode())
            if not own or before.keys() != after.keys():
                continue
            for number in after:
                cell = cells[number - 1]
                if after[number] != before[number] and cell.current:
                    changes[cell.uri] = cell.change(self._read.restored(after[number]))
        return changes
