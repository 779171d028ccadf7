"""`tokenguard lint server`: the language server. Findings while typing, quick fixes, the rule's page under the pointer.

It speaks LSP over standard input and output. Settings are those of the nearest file above each document; a folder of
rules that they name is run only where the server was started with `--allow-plugins`.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Sequence
from typing import cast

from lsprotocol import types as lsp
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path

from tokenguard import __version__
from tokenguard.facts.dollars import dollars
from tokenguard.lint.books import Book
from tokenguard.lint.config import FILES, Config, ConfigError
from tokenguard.lint.documents import Changes, Document, Units
from tokenguard.lint.engine import Linter
from tokenguard.lint.explain import markdown
from tokenguard.lint.files import matches, relative
from tokenguard.lint.finding import Finding
from tokenguard.lint.session import Options
from tokenguard.lint.spend import spent

_PAUSE_S = 0.002  # changes that come within it are linted once: those that an editor sends together
_YOUNG = (
    200_000  # new objects that are looked through for cycles at once: a syntax tree has tens of thousands, and none
)
_SEVERITIES = {
    "error": lsp.DiagnosticSeverity.Error,
    "warning": lsp.DiagnosticSeverity.Warning,
    "info": lsp.DiagnosticSeverity.Information,
}
_NOTEBOOKS = lsp.NotebookDocumentSyncOptions(
    [
        lsp.NotebookDocumentFilterWithNotebook(kind, [lsp.NotebookCellLanguage("python")])
        for kind in ("jupyter-notebook", "interactive")
    ],
    save=True,
)
_FIX_ALL = "source.fixAll.tokenguard"


class Server(LanguageServer):
    """The open documents and the linters of their settings."""

    def __init__(self, options: Options) -> None:
        super().__init__("tokenguard", __version__, notebook_document_sync=_NOTEBOOKS)
        self._options = options
        self._documents: dict[str, Document] = {}
        self._books: dict[str, Book] = {}
        self._waiting: dict[str, asyncio.TimerHandle] = {}
        self._said: set[str] = set()
        self.forget()

    def forget(self) -> None:
        """Read settings, and the other modules of projects, anew when they are asked for next."""
        self._settings = self._options.settings(watched=True)
        self._linters: dict[int, Linter | None] = {}

    def _linter(self, path: str) -> Linter | None:
        """The linter for a path; None where it is excluded, or where its settings cannot be followed."""
        try:
            config = self._settings.of(os.path.dirname(path) or ".")
            if config.exclude and matches(relative(path, config), config.exclude):
                return None
            if id(config) not in self._linters:
                self._linters[id(config)] = None
                self._linters[id(config)] = Linter(self._trusted(config))
            return self._linters[id(config)]
        except ConfigError as error:
            self._tell(str(error))
            return None

    def _trusted(self, config: Config) -> Config:
        """Without the rules of folders, unless the person who started the server allows them."""
        if not config.plugins or config.allow_plugins:
            return config
        self._tell(
            f"{config.file} names rules in {', '.join(config.plugins)}. They are code and left out: start the server "
            "with --allow-plugins to run them."
        )
        ours = tuple(code for code in config.select if code == "ALL" or code.startswith("TG"))
        return config._replace(plugins=(), select=ours)

    def _tell(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            shown = lsp.ShowMessageParams(lsp.MessageType.Warning, f"TokenGuard: {message}")
            self.window_show_message(shown)

    def soon(self, uri: str) -> None:
        """Lint a document after a short pause in its changes."""
        if uri not in self._waiting:
            self._waiting[uri] = asyncio.get_running_loop().call_later(_PAUSE_S, self.look, uri)

    def look(self, uri: str) -> None:
        """Lint a document, and all others where settings have changed: not every editor tells of files."""
        if self._settings.changed():
            self.lint_all()
        self.lint(uri)

    def lint(self, uri: str) -> None:
        """Lint a document as it is now, and tell the client; while it does not parse, of what has moved."""
        self._wait_no_longer(uri)
        path = to_fs_path(uri) or uri
        linter = self._linter(path)
        if self.workspace.get_notebook_document(notebook_uri=uri) is not None:
            self._lint_book(uri, path, linter)
            return
        text = self.workspace.get_text_document(uri)
        document = self._documents.get(uri)
        if document is None:
            document = self._documents[uri] = Document(uri, path, self._units)
        if linter is None:
            document.take(text.source, [])
        elif not document.lint(text.source, linter):
            return  # and no finding has moved
        self._publish(document, text.version)

    def _lint_book(self, uri: str, path: str, linter: Linter | None) -> None:
        notebook = self.workspace.get_notebook_document(notebook_uri=uri)
        assert notebook is not None
        book = self._books.setdefault(uri, Book(path, self._units))
        code = [cell.document for cell in notebook.cells if cell.kind is lsp.NotebookCellKind.Code]
        texts = {cell: self.workspace.get_text_document(cell) for cell in code}
        for gone in book.cells.keys() - texts.keys():
            self.close(gone)
        news = book.lint({cell: text.source for cell, text in texts.items()}, linter)
        self._documents.update(book.cells)
        for cell in news:
            self._publish(cell, texts[cell.uri].version)

    @property
    def _units(self) -> Units:
        encoding = self.workspace.position_encoding or "utf-16"
        return cast("Units", str(getattr(encoding, "value", encoding)))

    def _publish(self, document: Document, version: int | None) -> None:
        found = [_diagnostic(finding, document) for finding in document.findings]
        self.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(document.uri, found, version))

    def _wait_no_longer(self, uri: str) -> None:
        waiting = self._waiting.pop(uri, None)
        if waiting is not None:
            waiting.cancel()

    def lint_all(self) -> None:
        """Lint every open document with what is on disk now."""
        self.forget()
        in_books = {cell for book in self._books.values() for cell in book.cells}
        for uri in [*(self._documents.keys() - in_books), *self._books]:
            self.lint(uri)

    def close(self, uri: str) -> None:
        """Forget a document and take its findings back."""
        self._wait_no_longer(uri)
        self._documents.pop(uri, None)
        self.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri, []))

    def close_book(self, uri: str) -> None:
        """Forget a notebook and take the findings of its cells back."""
        self._wait_no_longer(uri)
        book = self._books.pop(uri, None)
        for cell in book.cells if book is not None else ():
            self.close(cell)

    def current(self, uri: str) -> Document | None:
        """A document whose findings are those of its text now."""
        notebook = self.workspace.get_notebook_document(cell_uri=uri)
        whole = uri if notebook is None else notebook.uri
        if whole in self._waiting:
            self.look(whole)
        return self._documents.get(uri)

    def page(self, finding: Finding, document: Document) -> str:
        """What there is to say of a finding: its message, what the line has cost, the rule's page."""
        parts = [f"**{finding.rule}** {finding.name}: {finding.message}"]
        spend = spent(document.path, finding.span.line, finding.span.end_line)
        if spend is not None:
            cost = "no price is known" if spend.usd is None else dollars(spend.usd)
            parts.append(f"Recorded here: {spend.calls:,} call{'s' * (spend.calls != 1)}, {cost}.")
        linter = self._linter(document.path)
        rule = linter.all_rules.get(finding.rule) if linter is not None else None
        return "\n\n".join([*parts, "---", markdown(rule)] if rule is not None else parts)


def _range(ends: tuple[tuple[int, int], tuple[int, int]]) -> lsp.Range:
    start, end = ends
    return lsp.Range(lsp.Position(*start), lsp.Position(*end))


def _diagnostic(finding: Finding, document: Document) -> lsp.Diagnostic:
    return lsp.Diagnostic(
        _range(document.ends(finding.span)),
        finding.message,
        severity=_SEVERITIES[finding.severity],
        code=finding.rule,
        source="tokenguard",
    )


def _action(
    title: str, kind: str, changes: Changes, finding: tuple[Finding, Document] | None = None
) -> list[lsp.CodeAction]:
    """The action for some changes, if there are any."""
    if not changes:
        return []
    edits = {uri: [lsp.TextEdit(_range((c.start, c.end)), c.text)] for uri, c in changes.items()}
    diagnostics = [_diagnostic(*finding)] if finding is not None else None
    return [lsp.CodeAction(title, kind, diagnostics, edit=lsp.WorkspaceEdit(changes=edits))]


def _actions(document: Document, first: int, last: int, wanted: Sequence[str] | None) -> list[lsp.CodeAction]:
    """The quick fixes for the findings on some lines, and the one for all safe fixes of the document.

    There are none while the document does not parse: its findings are those of another text.
    """

    def asked(kind: str) -> bool:
        return not wanted or any(kind == w or kind.startswith(f"{w}.") for w in wanted)

    actions: list[lsp.CodeAction] = []
    if not document.current:
        return actions
    if asked(lsp.CodeActionKind.QuickFix):
        for finding in document.at(first, last):
            place = (finding, document)
            if finding.fix is not None:
                title = f"TokenGuard: {finding.fix.summary}" + ("" if finding.fix.safe else " (changes behaviour)")
                actions += _action(title, lsp.CodeActionKind.QuickFix, document.fixed([finding]), place)
            title = f"TokenGuard: Ignore {finding.rule} here"
            actions += _action(title, lsp.CodeActionKind.QuickFix, document.ignored(finding), place)
    if asked(_FIX_ALL):
        safe = [f for f in document.findings if f.fix is not None and f.fix.safe]
        if safe:
            actions += _action("TokenGuard: Make all safe fixes", _FIX_ALL, document.fixed(safe))
    return actions


def serve(options: Options) -> None:
    """Serve one client over standard input and output, until it says exit."""
    server = Server(options)

    @server.feature(lsp.INITIALIZED)
    def watch_settings(_: lsp.InitializedParams) -> None:
        watched = server.client_capabilities.workspace and server.client_capabilities.workspace.did_change_watched_files
        if watched and watched.dynamic_registration:
            globs = [lsp.FileSystemWatcher(f"**/{name}") for name in (*FILES, "*.py")]
            options = lsp.DidChangeWatchedFilesRegistrationOptions(globs)
            asked = lsp.Registration("settings", lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES, options)
            server.client_register_capability(lsp.RegistrationParams([asked]))

    @server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
    def opened(params: lsp.DidOpenTextDocumentParams) -> None:
        server.look(params.text_document.uri)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
    async def changed(params: lsp.DidChangeTextDocumentParams) -> None:
        server.soon(params.text_document.uri)

    @server.feature(lsp.TEXT_DOCUMENT_DID_SAVE)
    def saved(_: lsp.DidSaveTextDocumentParams) -> None:
        server.lint_all()  # others may import from it

    @server.feature(lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    def changed_on_disk(_: lsp.DidChangeWatchedFilesParams) -> None:
        server.lint_all()

    @server.feature(lsp.WORKSPACE_DID_CHANGE_CONFIGURATION)
    def changed_in_the_editor(_: lsp.DidChangeConfigurationParams) -> None:
        """There are no settings of the editor's; PyCharm and others tell of theirs at every start."""

    @server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
    def closed(params: lsp.DidCloseTextDocumentParams) -> None:
        server.close(params.text_document.uri)

    @server.feature(lsp.NOTEBOOK_DOCUMENT_DID_OPEN)
    def book_opened(params: lsp.DidOpenNotebookDocumentParams) -> None:
        server.look(params.notebook_document.uri)

    @server.feature(lsp.NOTEBOOK_DOCUMENT_DID_CHANGE)
    async def book_changed(params: lsp.DidChangeNotebookDocumentParams) -> None:
        server.soon(params.notebook_document.uri)

    @server.feature(lsp.NOTEBOOK_DOCUMENT_DID_SAVE)
    def book_saved(params: lsp.DidSaveNotebookDocumentParams) -> None:
        server.lint(params.notebook_document.uri)

    @server.feature(lsp.NOTEBOOK_DOCUMENT_DID_CLOSE)
    def book_closed(params: lsp.DidCloseNotebookDocumentParams) -> None:
        server.close_book(params.notebook_document.uri)

    @server.feature(
        lsp.TEXT_DOCUMENT_CODE_ACTION, lsp.CodeActionOptions(code_action_kinds=[lsp.CodeActionKind.QuickFix, _FIX_ALL])
    )
    async def actions(params: lsp.CodeActionParams) -> list[lsp.CodeAction]:
        uri = params.text_document.uri
        document = server.current(uri)
        asked = params.range
        return _actions(document, asked.start.line, asked.end.line, params.context.only) if document else []

    @server.feature(lsp.TEXT_DOCUMENT_HOVER)
    async def hover(params: lsp.HoverParams) -> lsp.Hover | None:
        document = server.current(params.text_document.uri)
        found = document.at(params.position.line) if document else []
        if document is None or not found:
            return None
        text = "\n\n---\n\n".join(server.page(finding, document) for finding in found)
        return lsp.Hover(lsp.MarkupContent(lsp.MarkupKind.Markdown, text))

    gc.enable()  # the command line runs without, as short as it lives
    gc.set_threshold(_YOUNG)
    gc.freeze()
    server.start_io()
