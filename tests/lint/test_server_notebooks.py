"""Notebooks in the language server, driven over stdio by a client of the protocol."""

# ruff: noqa: F811 - the fixture is imported

from __future__ import annotations

from pathlib import Path

import pytest
from lsprotocol import types as lsp

from .test_server import CALL, Client, applied, client  # noqa: F401

MAKES = "!pip install -q \\\n  openai\nfrom openai import OpenAI\nclient = OpenAI(timeout=60)"
ASKS = f"reply = {CALL}"


class Editor:
    """A notebook in an editor: its URI, and those of its cells."""

    def __init__(self, asking: Client, folder: Path, *cells: str) -> None:
        self.client = asking
        self.uri = (folder / "book.ipynb").as_uri()
        self.cells = [f"{self.uri.replace('file', 'vscode-notebook-cell')}#W{n}" for n in range(len(cells))]
        self.version = 1
        kinds = [lsp.NotebookCell(lsp.NotebookCellKind.Code, uri) for uri in self.cells]
        texts = [lsp.TextDocumentItem(uri, "python", 1, text) for uri, text in zip(self.cells, cells, strict=True)]
        book = lsp.NotebookDocument(self.uri, "jupyter-notebook", 1, kinds)
        asking.notebook_document_did_open(lsp.DidOpenNotebookDocumentParams(book, texts))

    def change(self, number: int, text: str) -> None:
        self.version += 1
        cell = lsp.VersionedTextDocumentIdentifier(self.version, self.cells[number])
        whole = lsp.TextDocumentContentChangeWholeDocument(text)
        self._tell(
            lsp.NotebookDocumentCellChanges(text_content=[lsp.NotebookDocumentCellContentChanges(cell, [whole])])
        )

    def remove(self, number: int) -> None:
        self.version += 1
        gone = lsp.TextDocumentIdentifier(self.cells.pop(number))
        array = lsp.NotebookCellArrayChange(number, 1)
        self._tell(lsp.NotebookDocumentCellChanges(lsp.NotebookDocumentCellChangeStructure(array, did_close=[gone])))

    def _tell(self, cells: lsp.NotebookDocumentCellChanges) -> None:
        book = lsp.VersionedNotebookDocumentIdentifier(self.version, self.uri)
        change = lsp.NotebookDocumentChangeEvent(cells=cells)
        self.client.notebook_document_did_change(lsp.DidChangeNotebookDocumentParams(book, change))

    async def found(self, number: int) -> list[tuple[str, int]]:
        """The rules and lines of the next diagnostics of a cell."""
        news = await self.client.next(self.cells[number])
        return [(str(d.code), d.range.start.line) for d in news.diagnostics]


async def test_cells_are_one_program(client: Client, tmp_path: Path) -> None:
    """A cell is linted with what the cells above it define, and its findings are its own, by its own lines."""
    book = Editor(client, tmp_path, MAKES, f"# ask\n{ASKS}")
    assert await book.found(0) == []
    assert await book.found(1) == [("TG101", 1)]
    book.change(1, f"# ask\n\n{ASKS}")
    assert await book.found(0) == []
    assert await book.found(1) == [("TG101", 2)]
    assert "TG101" in await client.hover(book.cells[1], 2)


async def test_a_cell_that_does_not_parse_keeps_its_findings(client: Client, tmp_path: Path) -> None:
    """Nothing is said of it; the other cells still know what it defined; and its old fixes are not offered."""
    book = Editor(client, tmp_path, MAKES, ASKS)
    await book.found(0), await book.found(1)
    book.change(0, f"{MAKES}\nx = (")
    assert await book.found(1) == [("TG101", 0)]
    assert client.found[book.cells[0]].empty()
    book.change(1, f"{ASKS}\nx = (")
    book.change(0, MAKES)
    assert await book.found(0) == []
    assert client.found[book.cells[1]].empty()
    assert await client.actions(book.cells[1], 0) == []


async def test_fixes_stay_in_their_cell(client: Client, tmp_path: Path) -> None:
    """A fix is an edit of the cell, in which magics stay as they are; so is an ignore comment."""
    text = f"%time x = 1\n{MAKES}\n{ASKS}"
    book = Editor(client, tmp_path, "x = 0", text)
    await book.found(1)
    fix, ignore = await client.actions(book.cells[1], 5)
    assert list(fix.edit.changes) == [book.cells[1]]
    assert applied(text, fix) == text.replace("input='x'", "input='x', max_output_tokens=1024")
    assert applied(text, ignore) == f"{text}  # tokenguard: ignore[TG101]"


async def test_a_fix_reaches_into_another_cell(client: Client, tmp_path: Path) -> None:
    """The number that a fix changes may be written in another cell; then that one is edited."""
    store = "from langchain_chroma import Chroma\nstore = Chroma()\nK = 50"
    book = Editor(client, tmp_path, store, "found = store.as_retriever(search_kwargs={'k': K})")
    await book.found(0)
    assert await book.found(1) == [("TG103", 0)]
    fix, _ = await client.actions(book.cells[1], 0)
    assert applied(store, fix) == store.replace("50", "10")
    assert list(fix.edit.changes) == [book.cells[0]]


async def test_cells_and_notebooks_go(client: Client, tmp_path: Path) -> None:
    """The findings of a cell that is deleted, and of a notebook that is closed, are taken back."""
    book = Editor(client, tmp_path, MAKES, ASKS, ASKS)
    for number in range(3):
        await book.found(number)
    gone = book.cells[1]
    book.remove(1)
    assert (await client.next(gone)).diagnostics == ()
    assert await book.found(1) == [("TG101", 0)]
    which = lsp.NotebookDocumentIdentifier(book.uri)
    cells = [lsp.TextDocumentIdentifier(uri) for uri in book.cells]
    client.notebook_document_did_close(lsp.DidCloseNotebookDocumentParams(which, cells))
    await book.found(0)
    assert await book.found(1) == []


@pytest.mark.parametrize("settings", ["[lint]\nexclude = ['*.ipynb']\n"])
async def test_settings_hold_for_notebooks(client: Client, tmp_path: Path, settings: str) -> None:
    """What the settings above a notebook exclude has no findings."""
    (tmp_path / "tokenguard.toml").write_text(settings)
    book = Editor(client, tmp_path, MAKES, ASKS)
    assert await book.found(0) == []
    assert await book.found(1) == []
