"""Where the input went, by section and by tool, and what is said of a broken prompt cache."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from tokenguard.cli import group
from tokenguard.facts import names as n
from tokenguard.facts.record import CallRecord, ToolsetRecord
from tokenguard.report.engine import SqliteRecords
from tokenguard.report.inputs import broken, parts, uncached
from tokenguard.report.query import Query
from tokenguard.store.store import Store

START = 1_795_000_000 * 10**9


def call(n_th, read, sections, **more):
    """A call of $1 for its input, of which `read` tokens came from the cache."""
    attributes = {
        n.INPUT_TOKENS: sum(sections.values()),
        n.CACHE_READ_TOKENS: read,
        n.COST: 1.5,
        n.COST_INPUT: 0.75,
        n.COST_CACHE_READ: 0.25,
        n.COST_OUTPUT: 0.5,
        **{n.input_attribute(name): tokens for name, tokens in sections.items()},
        **more,
    }
    return CallRecord(START + n_th * 43_200 * 10**9, 1, "ok", attributes)


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKENGUARD_STORE_DAYS", "0")
    store = Store(tmp_path / "usage.db")
    told = {n.INPUT_TOOLSET: "ab", "tokenguard.feature": "chat", "tokenguard.prompt_version": "v2"}
    site = {n.CODE_FILE: "app.py", n.CODE_LINE: 7}
    torn = {
        n.BREAK_KIND: "changed",
        n.BREAK_SECTION: "system",
        n.BREAK_INDEX: 0,
        n.BREAK_OFFSET: 256,
        n.BREAK_TOKENS: 500,
        n.BREAK_USD: 0.5,
    }
    store.write(
        [
            call(0, 300, {"tools": 200, "system": 600, "last": 200}, **told),
            call(4, 0, {"tools": 200, "system": 600, "last": 200}, **told, **torn, **site),
            ToolsetRecord("ab", {"search": 0.75, "book": 0.25}),
        ]
    )
    store.close()
    return tmp_path / "usage.db"


def test_sections(path):
    """Sections have their tokens, what the cache had of them from the beginning on, and their part of the cost."""
    records = SqliteRecords(Store(path).detached())
    found = {part.name: part for part in parts(records, Query(by=("section",)))}
    records.close()
    assert list(found) == ["system", "tools", "last"], "the largest first"
    system, tools = found["system"], found["tools"]
    assert (system.calls, system.tokens, system.cached_tokens, system.share) == (2, 1200, 100, 0.6)
    assert (tools.tokens, tools.cached_tokens) == (400, 200)
    assert found["last"].cached_tokens is None
    assert sum(part.usd for part in found.values()) == pytest.approx(2.0)
    assert system.usd_per_day == pytest.approx(1.2 / 2), "two days lie between the calls"
    assert "92% of the system prompt did not come from the provider's cache" in uncached(list(found.values()))


def test_tools(path):
    """A tool has its part of the definitions that its set of tools is, and of what they cost."""
    records = SqliteRecords(Store(path).detached())
    search, book = parts(records, Query(by=("tool",)))
    records.close()
    assert (search.name, search.calls, search.tokens) == ("search", 2, 300)
    assert (book.name, book.tokens) == ("book", 100)
    assert search.usd == pytest.approx(2.0 * 0.2 * 0.75)


def test_breaks_in_words(path):
    """A break is told with its message and character, its calls, its tokens, its line of code and what to do."""
    records = SqliteRecords(Store(path).detached())
    (found,) = broken(records, Query(), 3)
    records.close()
    assert found.says() == (
        "chat v2: the prompt changes at the system prompt (message 0), character 256, 1 time; 500 tokens did not come "
        "from the provider's cache"
    )
    assert found.next_step() == "put what changes behind what does not (app.py:7)"


def test_the_command(path):
    """The report by section is a table or JSON; another form says so, and findings have the break."""
    run = CliRunner().invoke
    arguments = ["report", "--source", str(path)]
    said = run(group, [*arguments, "--by", "section"]).output
    assert "system prompt" in said
    rows = json.loads(run(group, [*arguments, "--by", "tool", "--format", "json"]).output)["rows"]
    assert [row["name"] for row in rows] == ["search", "book"]
    assert "not as csv" in str(run(group, [*arguments, "--by", "section", "--format", "csv"]).exception)
    assert "the prompt changes at the system prompt (message 0), character 256" in run(group, arguments).output
