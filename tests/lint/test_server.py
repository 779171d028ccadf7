"""The language server, driven over stdio by a client of the protocol."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from lsprotocol import types as lsp
from pygls.lsp.client import LanguageClient

CALL = "client.responses.create(model='m', input='x')"
BAD = f"from openai import OpenAI\nclient = OpenAI(timeout=60)\nreply = {CALL}\n"


class Client(LanguageClient):
    """A client that keeps the last diagnostics of each document, and what the server shows."""

    def __init__(self) -> None:
        super().__init__("test", "1")
        self.found: dict[str, asyncio.Queue[lsp.PublishDiagnosticsParams]] = {}
        self.shown: list[str] = []

        @self.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        def published(params: lsp.PublishDiagnosticsParams) -> None:
            self.found.setdefault(params.uri, asyncio.Queue()).put_nowait(params)

        @self.feature(lsp.WINDOW_SHOW_MESSAGE)
        def showed(params: lsp.ShowMessageParams) -> None:
            self.shown.append(params.message)

    async def next(self, uri: str) -> lsp.PublishDiagnosticsParams:
        """The next diagnostics of a document."""
        return await asyncio.wait_for(self.found.setdefault(uri, asyncio.Queue()).get(), 20)

    def open(self, uri: str, text: str) -> None:
        document = lsp.TextDocumentItem(uri, "python", 1, text)
        self.text_document_did_open(lsp.DidOpenTextDocumentParams(document))

    def change(self, uri: str, version: int, text: str) -> None:
        document = lsp.VersionedTextDocumentIdentifier(version, uri)
        whole = lsp.TextDocumentContentChangeWholeDocument(text)
        self.text_document_did_change(lsp.DidChangeTextDocumentParams(document, [whole]))

    async def actions(self, uri: str, line: int, only: list[str] | None = None) -> list[lsp.CodeAction]:
        where = lsp.Range(lsp.Position(line, 0), lsp.Position(line, 0))
        context = lsp.CodeActionContext([], only=only)
        params = lsp.CodeActionParams(lsp.TextDocumentIdentifier(uri), where, context)
        return await self.text_document_code_action_async(params) or []

    async def hover(self, uri: str, line: int) -> str:
        params = lsp.HoverParams(lsp.TextDocumentIdentifier(uri), lsp.Position(line, 10))
        found = await self.text_document_hover_async(params)
        return found.contents.value if found else ""


async def started(folder: Path, *options: str, encodings: list[lsp.PositionEncodingKind] | None = None) -> Client:
    """A client of a new server that works in `folder`."""
    client = Client()
    await client.start_io(sys.executable, "-m", "tokenguard", "lint", "server", *options, cwd=str(folder))
    general = lsp.GeneralClientCapabilities(position_encodings=encodings)
    capabilities = lsp.ClientCapabilities(general=general)
    await client.initialize_async(lsp.InitializeParams(capabilities, root_uri=folder.as_uri()))
    client.initialized(lsp.InitializedParams())
    return client


async def ended(client: Client) -> None:
    await client.shutdown_async(None)
    client.exit(None)
    await client.stop()


@pytest_asyncio.fixture
async def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    for name in ("TOKENGUARD_POLICY", "TOKENGUARD_STORE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "tokenguard.toml").write_text("")
    made = await started(tmp_path)
    yield made
    await ended(made)


def applied(text: str, action: lsp.CodeAction) -> str:
    """A text after the one edit of an action, in UTF-16 units."""
    assert action.edit is not None
    assert action.edit.changes is not None
    ((edit,),) = action.edit.changes.values()
    lines = text.splitlines(keepends=True) or [""]

    def offset(place: lsp.Position) -> int:
        line = lines[place.line].encode("utf-16-le") if place.line < len(lines) else b""
        return sum(map(len, lines[: place.line])) + len(line[: 2 * place.character].decode("utf-16-le"))

    return text[: offset(edit.range.start)] + edit.new_text + text[offset(edit.range.end) :]


async def test_findings_while_typing(client: Client, tmp_path: Path) -> None:
    """A document is linted when it opens and when it changes; while it does not parse, its last findings stay."""
    uri = (tmp_path / "a.py").as_uri()
    client.open(uri, BAD)
    (found,) = (await client.next(uri)).diagnostics
    assert (found.code, found.source, found.severity) == ("TG101", "tokenguard", lsp.DiagnosticSeverity.Warning)
    assert found.range == lsp.Range(lsp.Position(2, 8), lsp.Position(2, 8 + len(CALL)))
    client.change(uri, 2, BAD + "x = (\n")  # nothing is said of this version
    client.change(uri, 3, BAD.replace("input='x'", "input='x', max_output_tokens=9"))
    news = await client.next(uri)
    assert (news.version, len(news.diagnostics)) == (3, 0)
    client.change(uri, 4, BAD)
    assert len((await client.next(uri)).diagnostics) == 1
    client.text_document_did_close(lsp.DidCloseTextDocumentParams(lsp.TextDocumentIdentifier(uri)))
    assert (await client.next(uri)).diagnostics == ()


async def test_a_call_of_many_lines_is_underlined_where_it_begins(client: Client, tmp_path: Path) -> None:
    """An editor underlines the first line, not the whole call; a quick fix is found on each of its lines."""
    uri = (tmp_path / "a.py").as_uri()
    client.open(uri, BAD.replace("input='x'", "\n    input='é',\n"))
    (found,) = (await client.next(uri)).diagnostics
    assert (found.range.start, found.range.end.line) == (lsp.Position(2, 8), 2)
    assert await client.actions(uri, 3)


async def test_broken_from_the_start(client: Client, tmp_path: Path) -> None:
    """A document that never parsed has no findings: its syntax is another server's."""
    uri = (tmp_path / "a.py").as_uri()
    client.open(uri, BAD + "x = (\n")
    assert await client.hover(uri, 2) == ""
    client.change(uri, 2, BAD)
    assert (await client.next(uri)).version == 2


async def test_quick_fixes(client: Client, tmp_path: Path) -> None:
    """A finding has its fix and an ignore comment as actions, each the smallest edit; other kinds are not offered."""
    uri = (tmp_path / "a.py").as_uri()
    text = BAD.replace("reply", "r\N{GRINNING FACE}".replace("\N{GRINNING FACE}", "é")).replace("'x'", "'\U0001f600'")
    client.open(uri, text)
    await client.next(uri)
    fix, ignore = await client.actions(uri, 2)
    assert fix.title == "TokenGuard: Set max_output_tokens to 1024 (changes behaviour)"
    assert applied(text, fix) == text.replace("'\U0001f600'", "'\U0001f600', max_output_tokens=1024")
    assert applied(text, ignore).endswith(")  # tokenguard: ignore[TG101]\n")
    assert await client.actions(uri, 0) == []
    assert await client.actions(uri, 2, only=["refactor"]) == []


async def test_all_safe_fixes_at_once(client: Client, tmp_path: Path) -> None:
    """Editors may make all safe fixes on save."""
    (tmp_path / "tokenguard.toml").write_text('[lint]\nextend-select = ["TG115"]\n')
    uri = (tmp_path / "a.py").as_uri()
    text = (
        "import os\nimport anthropic\nclient = anthropic.Anthropic(timeout=60)\n\n\ndef ask(x):\n"
        "    system = 'Files: ' + ', '.join(os.listdir('docs'))\n"
        "    return client.messages.create(model='m', max_tokens=9, system=system, messages=[x])\n"
    )
    client.open(uri, text)
    assert [d.code for d in (await client.next(uri)).diagnostics] == ["TG115"]
    (action,) = await client.actions(uri, 0, only=["source.fixAll"])
    assert action.kind == "source.fixAll.tokenguard"
    assert applied(text, action) == text.replace("os.listdir('docs')", "sorted(os.listdir('docs'))")


@pytest.mark.parametrize(
    ("kind", "width"),
    [(lsp.PositionEncodingKind.Utf8, 4), (lsp.PositionEncodingKind.Utf16, 2), (lsp.PositionEncodingKind.Utf32, 1)],
)
async def test_columns_are_in_the_units_of_the_client(
    tmp_path: Path, kind: lsp.PositionEncodingKind, width: int
) -> None:
    """Behind a character outside the basic plane, columns are in the units that the client asked for."""
    client = await started(tmp_path, encodings=[kind])
    uri = (tmp_path / "a.py").as_uri()
    client.open(uri, BAD.replace("reply = ", "reply = '\U0001f600' and "))
    (found,) = (await client.next(uri)).diagnostics
    assert found.range.start.character == len("reply = '' and ") + width
    await ended(client)


async def test_hover(client: Client, tmp_path: Path) -> None:
    """Over a finding: its message and the rule's page; elsewhere nothing."""
    uri = (tmp_path / "a.py").as_uri()
    client.open(uri, BAD)
    await client.next(uri)
    page = await client.hover(uri, 2)
    assert page.startswith("**TG101** no-output-cap: This call sets no output cap")
    assert "```python" in page
    assert "Recorded here" not in page
    assert await client.hover(uri, 0) == ""


async def test_hover_tells_what_the_line_has_cost(client: Client, tmp_path: Path) -> None:
    """Where a store is near, the calls recorded for the line and their price are shown."""
    from tokenguard.facts import names
    from tokenguard.facts.names import DEFAULT_STORE
    from tokenguard.facts.record import CallRecord
    from tokenguard.store.store import Store

    path = tmp_path / "a.py"
    store = Store(tmp_path / DEFAULT_STORE)
    store.write(
        [
            CallRecord(2**60, 1, "ok", {names.CODE_FILE: str(path), names.CODE_LINE: line, names.COST: usd}, "t", "s")
            for line, usd in ((3, 0.25), (3, 0.5), (2, 9.0))
        ]
    )
    store.close()
    client.open(path.as_uri(), BAD)
    await client.next(path.as_uri())
    assert "Recorded here: 2 calls, $0.7500." in await client.hover(path.as_uri(), 2)


async def test_settings_of_the_nearest_file(client: Client, tmp_path: Path) -> None:
    """Settings hold as on the command line, are read again when a file is saved, and wrong ones are shown once."""
    uri = (tmp_path / "a.py").as_uri()
    (tmp_path / "tokenguard.toml").write_text('[lint]\nignore = ["TG101"]\n')
    client.open(uri, BAD)
    assert (await client.next(uri)).diagnostics == ()
    (tmp_path / "tokenguard.toml").write_text("[lint]\nignored = []\n")
    client.text_document_did_save(lsp.DidSaveTextDocumentParams(lsp.TextDocumentIdentifier(uri)))
    assert (await client.next(uri)).diagnostics == ()
    (tmp_path / "tokenguard.toml").write_text("")
    client.text_document_did_save(lsp.DidSaveTextDocumentParams(lsp.TextDocumentIdentifier(uri)))
    assert len((await client.next(uri)).diagnostics) == 1
    assert [("did you mean 'ignore'" in message) for message in client.shown] == [True]


async def test_rules_of_a_folder_are_not_run(client: Client, tmp_path: Path) -> None:
    """Opening a repository runs none of its code; the rest is linted all the same."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "acme1_x.py").write_text("raise SystemExit('this code was run')\n")
    (tmp_path / "tokenguard.toml").write_text('[lint]\nselect = ["TG", "ACME"]\nplugins = ["rules"]\n')
    uri = (tmp_path / "a.py").as_uri()
    client.open(uri, BAD)
    assert len((await client.next(uri)).diagnostics) == 1
    assert "--allow-plugins" in client.shown[0]


async def test_findings_move_with_their_lines(client: Client, tmp_path: Path) -> None:
    """While a text does not parse, its last findings stay with the lines that they are about."""
    uri = (tmp_path / "a.py").as_uri()
    client.open(uri, f"{BAD}{BAD}")
    assert [d.range.start.line for d in (await client.next(uri)).diagnostics] == [2, 5]
    client.change(uri, 2, f"{BAD}x = (\n\n{BAD}")
    assert [d.range.start.line for d in (await client.next(uri)).diagnostics] == [2, 7]
    assert "TG101" in await client.hover(uri, 7)
    assert await client.hover(uri, 5) == ""
    assert await client.actions(uri, 7) == []  # they would be of another text
    client.change(uri, 3, f"x = (\n{BAD}x = (\n\n{BAD}")
    assert [d.range.start.line for d in (await client.next(uri)).diagnostics] == [3, 8]
    client.change(uri, 4, f"\n{BAD}")
    assert [d.range.start.line for d in (await client.next(uri)).diagnostics] == [3]


async def test_settings_that_nobody_told_of(client: Client, tmp_path: Path) -> None:
    """Editors that do not watch files have changed settings at the next key, a new file as well as a changed one."""
    (tmp_path / "app").mkdir()
    uri, other = (tmp_path / "app" / "a.py").as_uri(), (tmp_path / "b.py").as_uri()
    client.open(uri, BAD)
    client.open(other, BAD)
    assert [len((await client.next(u)).diagnostics) for u in (uri, other)] == [1, 1]
    (tmp_path / "app" / "tokenguard.toml").write_text('[lint]\nignore = ["TG101"]\n')
    client.change(uri, 2, BAD)
    assert (await client.next(uri)).diagnostics == ()
    (tmp_path / "app" / "tokenguard.toml").unlink()
    (tmp_path / "tokenguard.toml").write_text('[lint]\nseverity = {TG101 = "info"}\n')
    client.change(uri, 3, BAD)
    await client.next(uri)
    for document in (uri, other):
        while True:
            (found,) = (await client.next(document)).diagnostics
            if found.severity == lsp.DiagnosticSeverity.Information:
                break


async def test_a_text_that_has_no_file(client: Client) -> None:
    """An unsaved document has the settings of the folder that the server works in."""
    client.open("untitled:Untitled-1", BAD)
    assert len((await client.next("untitled:Untitled-1")).diagnostics) == 1


async def test_an_editor_that_tells_of_its_settings(tmp_path: Path) -> None:
    """PyCharm's client says them at every start, and shows what a server writes to standard error: nothing."""
    made = await started(tmp_path)
    process = made._server
    assert process is not None
    assert process.stderr is not None
    made.workspace_did_change_configuration(lsp.DidChangeConfigurationParams({}))
    made.open((tmp_path / "a.py").as_uri(), BAD)
    assert len((await made.next((tmp_path / "a.py").as_uri())).diagnostics) == 1
    await ended(made)
    assert await process.stderr.read() == b""
