"""What people and programs see."""

from __future__ import annotations

import csv
import io
import json
import re
from contextlib import closing
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from report.conftest import START, call
from tokenguard.facts import names
from tokenguard.report import layout
from tokenguard.report.figures import FIGURES, Query, ask
from tokenguard.report.findings import find
from tokenguard.report.sources import open_sources
from tokenguard.report.terminal import is_fancy
from tokenguard.store.store import Store

GOLDEN = Path(__file__).parent / "golden"


def printed(path, width, *, terminal=True, colour=None, **query):
    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=terminal, color_system=colour, markup=False, highlight=False
    )
    with closing(open_sources([path]).connection) as connection:
        report = ask(connection, Query(**query))
        layout.print_table(report, find(connection, report), "usage.db", console)
    return out.getvalue()


def stripped(text):
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


@pytest.mark.parametrize(
    ("golden", "width", "terminal", "by"),
    [
        ("terminal_120.txt", 120, True, ("feature",)),
        ("terminal_80.txt", 80, True, ("feature",)),
        ("terminal_80_three_keys.txt", 80, True, ("feature", "model", "tenant")),
        ("piped.txt", 120, False, ("feature",)),
    ],
)
def test_golden(store_path, golden, width, terminal, by):
    """A report looks as it did when it was last looked at."""
    assert stripped(printed(store_path, width, terminal=terminal, by=by)) == (GOLDEN / golden).read_text()


@pytest.mark.parametrize("width", range(40, 141, 7))
@pytest.mark.parametrize("by", [("feature",), ("feature", "model"), ("feature", "model", "tenant", "day")])
def test_fits(store_path, width, by):
    """Nothing is wider than the terminal, and calls and cost are there in full wherever two keys leave them room."""
    text = printed(store_path, width, by=by)
    assert max(map(len, text.splitlines())) <= width
    if len(by) < 3:
        header = next(line for line in text.splitlines() if line.startswith("feature"))
        assert "cost" in header
        assert "$0.7000*" in text or len(by) == 2


def test_long_paths_and_wide_characters(tmp_path):
    """A path that is too long keeps its end, where file and line are; wide characters take two cells."""
    store = Store(tmp_path / "u.db")
    path = {names.CODE_FILE: "/srv/" + "deep/" * 20 + "answer.py", names.CODE_LINE: 42}
    store.write([call(n, "顧客対応" * 10, "gpt-4o", (50, 1, 0), 0.1, **path) for n in range(5)])
    store.close()
    assert "/answer.py:42 " in printed(tmp_path / "u.db", 80, by=("call_site", "model"))
    for width in (60, 80, 120):
        text = printed(tmp_path / "u.db", width, by=("feature", "call_site"))
        assert max(map(cell_len, text.splitlines())) <= width


def test_a_mistyped_key_is_told(store_path):
    """A key that no call has is told, with the one that may have been meant."""
    assert "No call has a key 'modle'; there is 'model'" in printed(store_path, 120, by=("modle",))
    assert "No call has" not in printed(store_path, 120, by=("region", "user"))


def test_plain_when_piped(store_path):
    """A pipe gets ASCII, with no colour, no boxes and no bars; each finding is one line."""
    text = printed(store_path, 120, terminal=False)
    assert text.isascii()
    assert "\x1b" not in text
    assert sum(line.startswith("! ") for line in text.splitlines()) == 5


def test_coloured_on_a_terminal(store_path):
    """A terminal gets colour."""
    assert "\x1b[" in printed(store_path, 120, colour="truecolor")


def test_names_are_text(tmp_path):
    """Names from callers are neither terminal codes nor markup."""
    store = Store(tmp_path / "u.db")
    nasty = "[red]x[/red]\x1b[2J\nrow"
    store.write([call(n, nasty, "m[/]\x07", (5000, 1, 0), None, tenant=nasty) for n in range(5)])
    store.close()
    for terminal in (True, False):
        text = printed(tmp_path / "u.db", 120, terminal=terminal, by=("feature", "tenant"))
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "[red]x[/red]?[2J?row" in text
        assert "[prices]" in text


@pytest.mark.parametrize(
    ("show", "value", "shown"),
    [
        (layout.usd, None, "-"),
        (layout.usd, 0, "$0.00"),
        (layout.usd, -1234.5, "-$1,234.50"),
        (layout.usd, 0.0123, "$0.0123"),
        (layout.usd, 0.0000021, "$0.000002"),
        (layout.tokens, 9_994, "9,994"),
        (layout.tokens, 999_949, "999.9k"),
        (layout.tokens, 999_951, "1.0M"),
        (layout.tokens, 5_624_300, "5.6M"),
        (layout.share, 0.0, "0%"),
        (layout.share, 0.018, "1.8%"),
        (layout.share, 1, "100%"),
        (layout.share, 0.9999999999, "100%"),
        (layout.share, 0.996, ">99%"),
        (layout.share, 0.0004, "<0.1%"),
        (layout.count, 0, ""),
    ],
)
def test_numbers(show, value, shown):
    """Numbers are as long as they say something; unknown is a dash."""
    assert show(value) == shown


def test_json(store_path):
    """JSON has every figure by name for each group and the total; unknown is null."""
    with closing(open_sources([store_path]).connection) as connection:
        report = ask(connection, Query(by=("feature", "tenant")))
        document = json.loads(layout.as_json(report, find(connection, report)))
    assert list(document) == [
        *("by", "first_call", "last_call", "total", "rows", "more_rows", "tasks", "unpriced", "findings"),
    ]
    assert document["first_call"] == "2026-11-02T09:00:00+00:00"
    assert set(document["total"]) == {*FIGURES, "cost_share"}
    assert all(set(row) == {"keys", *FIGURES, "cost_share"} for row in document["rows"])
    assert {row["keys"]["feature"] for row in document["rows"]} == {"support_answer", "rag", "digest", None}
    assert document["tasks"][0]["cost_per_success_usd"] == 1.0
    assert document["unpriced"] == [{"model": "openai/my-tuned-model", "calls": 1}]
    assert {*document["findings"][0]} == {"says", "usd", "usd_is", "next_step"}


def test_csv(store_path):
    """CSV has a header and a row for each group; unknown is empty."""
    with closing(open_sources([store_path]).connection) as connection:
        text = layout.as_csv(ask(connection, Query(by=("model",))))
    rows = {row["model"]: row for row in csv.DictReader(io.StringIO(text))}
    assert len(rows) == 4
    assert (rows["my-tuned-model"]["cost_usd"], rows["my-tuned-model"]["calls"]) == ("", "1")
    assert float(rows["gpt-4o"]["cost_usd"]) == pytest.approx(2.05)


def test_findings(store_path):
    """Each finding is a measured fact with its price: losses, risks, what was prevented, and the dearest first."""
    with closing(open_sources([store_path]).connection) as connection:
        report = ask(connection, Query())
        says = [(finding.says, finding.usd) for finding in find(connection, report)]
        early = ask(connection, Query(until_ns=START))
        assert find(connection, early) == []
    assert says == [
        ("support_answer v14 sent 6,000 input tokens a call to gpt-4o, 4 times; 0% of them came from the cache", 1.5),
        ("1 call ended before the answer was read to its end", 0.2),
        ("2 requests sent again", 0.02),
        ("1 of 11 generation calls set no output cap", 0.001),
        ('"digest per day" blocked 1 call before sending', 0.75),
    ]


def test_a_cold_prompt_is_priced_by_its_uncached_input(tmp_path):
    """The loss is what the input cost that no cache had, written to it or not; the best version is named."""
    parts = {names.COST_INPUT: 0.25, names.COST_OUTPUT: 0.5, names.COST_CACHE_WRITE: 0.125, names.COST_CACHE_READ: 0.0}
    store = Store(tmp_path / "u.db")
    store.write(
        [
            *(call(n, "bot", "gpt-4o", (2000, 9, 0), 0.875, prompt_version="v1", **parts) for n in range(4)),
            *(call(n, "bot", "gpt-4o", (2000, 9, 1200), 0.5, prompt_version="v2") for n in range(3)),
            *(call(n, "bot", "gpt-4o", (2000, 9, 1800), 0.5, prompt_version="v3") for n in range(3)),
            *(call(n, "bot", "gpt-4o-mini", (2000, 9, 2000), 0.5, prompt_version="v4") for n in range(3)),
            *(call(n, "bot", "gpt-4o", (2000, 9, 2000), 0.5, prompt_version="v5") for n in range(2)),  # too few
            *(call(n, "old", "gpt-4o", (2000, 9, 0), 9.0, prompt_version="v1") for n in range(3)),  # parts not known
        ]
    )
    store.close()
    with closing(open_sources([tmp_path / "u.db"]).connection) as connection:
        cold, other = find(connection, ask(connection, Query()))
    assert (cold.usd, cold.usd_is) == (1.5, "of uncached input")
    assert cold.says.endswith("0% of them came from the cache (v3: 90%)")
    assert cold.next_step.startswith("compare it with v3: ")
    assert other.says.startswith("old v1")
    assert other.usd is None
    assert "! old v1 sent" in printed(tmp_path / "u.db", 120, terminal=False)


LATIN = {"encoding": "latin-1"}
PLAIN = [({"no_color": True}, {}, {}), ({}, {"TERM": "dumb"}, {}), ({}, {}, LATIN)]


@pytest.mark.parametrize(("options", "environment", "file"), PLAIN, ids=["NO_COLOR", "dumb", "latin-1"])
def test_plain_terminals(store_path, options, environment, file):
    """A terminal that cannot draw, or should not, gets ASCII alone, in keys that are cut short too."""
    out = io.TextIOWrapper(io.BytesIO(), **{"encoding": "utf-8", **file})
    environ = {"TERM": "xterm", **environment}
    console = Console(file=out, width=60, force_terminal=True, highlight=False, _environ=environ, **options)
    assert not is_fancy(console)
    with closing(open_sources([store_path]).connection) as connection:
        report = ask(connection, Query(by=("feature", "model", "tenant", "day")))
        layout.print_table(report, find(connection, report), "usage.db", console)
    out.flush()
    text = out.buffer.getvalue().decode(out.encoding)
    assert text.isascii()
    assert "\x1b" not in text
    assert re.search(r"claude-[\w-]*\.\.\. ", text)
    assert is_fancy(Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "xterm"}))


def test_a_key_named_as_a_figure(tmp_path):
    """A key of the user's that is named as a figure, or as a key of ours, takes no other's place."""
    store = Store(tmp_path / "u.db")
    theirs = {"tokenguard.attr.calls": "many", "tokenguard.attr.cost_usd": "high", "tokenguard.attr.model": "T"}
    store.write([call(n, "rag", "gpt-4o", (5, 1, 0), 0.25, **theirs) for n in range(2)])
    store.close()
    with closing(open_sources([tmp_path / "u.db"]).connection) as connection:
        report = ask(connection, Query(by=("calls", "cost_usd", "model", "attr.model"), where=(("attr.model", "T"),)))
    (row,) = json.loads(layout.as_json(report, []))["rows"]
    assert row["keys"] == {"calls": "many", "cost_usd": "high", "model": "gpt-4o", "attr.model": "T"}
    assert (row["calls"], row["cost_usd"]) == (2, 0.5)
    header, values = csv.reader(io.StringIO(layout.as_csv(report)))
    assert len(set(header)) == len(header)
    assert header[:5] == ["attr.calls", "attr.cost_usd", "model", "attr.model", "calls"]
    assert values[:5] == ["many", "high", "gpt-4o", "T", "2"]


def test_json_for_a_terminal_without_utf8(tmp_path):
    """JSON escapes what an encoding may lack."""
    store = Store(tmp_path / "u.db")
    store.write([call(0, "ü", "gpt-4o", (5, 1, 0), 0.25)])
    store.close()
    with closing(open_sources([tmp_path / "u.db"]).connection) as connection:
        report = ask(connection, Query())
    assert json.loads(layout.as_json(report, [], utf8=False)) == json.loads(layout.as_json(report, []))
    assert layout.as_json(report, [], utf8=False).isascii()


def test_the_rest_is_stated(store_path):
    """What a limit leaves out is counted and priced."""
    text = printed(store_path, 120, terminal=False, limit=1)
    assert "... and 3 more ($0.7510, 27% of the cost), which the total counts; --limit shows more" in text
    assert "... and 1 before these (" in printed(store_path, 120, terminal=False, limit=1, by=("day",))
