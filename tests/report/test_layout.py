"""What people and programs see."""

from __future__ import annotations

import csv
import io
import json
from contextlib import closing
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from report.conftest import START, call
from tokenguard import names
from tokenguard.report import layout
from tokenguard.report.figures import FIGURES, Query, ask
from tokenguard.report.findings import find
from tokenguard.report.sources import open_source
from tokenguard.store import Store

GOLDEN = Path(__file__).parent / "golden"


def printed(path, width, *, terminal=True, colour=None, **query):
    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=terminal, color_system=colour, markup=False, highlight=False
    )
    with closing(open_source(path)) as connection:
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
        (layout.count, 0, ""),
    ],
)
def test_numbers(show, value, shown):
    """Numbers are as long as they say something; unknown is a dash."""
    assert show(value) == shown


def test_json(store_path):
    """JSON has every figure by name for each group and the total; unknown is null."""
    with closing(open_source(store_path)) as connection:
        report = ask(connection, Query(by=("feature", "tenant")))
        document = json.loads(layout.as_json(report, find(connection, report)))
    assert list(document) == [
        *("by", "first_call", "last_call", "total", "rows", "tasks", "unpriced", "findings"),
    ]
    assert document["first_call"] == "2026-11-02T09:00:00+00:00"
    assert set(document["total"]) == {*FIGURES, "cost_share"}
    assert all(set(row) == {"feature", "tenant", *FIGURES, "cost_share"} for row in document["rows"])
    assert {row["feature"] for row in document["rows"]} == {"support_answer", "rag", "digest", None}
    assert document["tasks"][0]["cost_per_success_usd"] == 1.0
    assert document["unpriced"] == [{"model": "openai/my-tuned-model", "calls": 1}]
    assert {*document["findings"][0]} == {"says", "usd", "next_step"}


def test_csv(store_path):
    """CSV has a header and a row for each group; unknown is empty."""
    with closing(open_source(store_path)) as connection:
        text = layout.as_csv(ask(connection, Query(by=("model",))))
    rows = {row["model"]: row for row in csv.DictReader(io.StringIO(text))}
    assert len(rows) == 4
    assert (rows["my-tuned-model"]["cost_usd"], rows["my-tuned-model"]["calls"]) == ("", "1")
    assert float(rows["gpt-4o"]["cost_usd"]) == pytest.approx(2.05)


def test_findings(store_path):
    """Each finding is a measured fact with its price, the dearest first."""
    with closing(open_source(store_path)) as connection:
        report = ask(connection, Query())
        says = [(finding.says, finding.usd) for finding in find(connection, report)]
        early = ask(connection, Query(until_ns=START))
        assert find(connection, early) == []
    assert says == [
        ("support_answer v14 sent 6,000 input tokens a call to gpt-4o, 4 times; 0% of them came from the cache", 2.0),
        ('"digest per day" blocked 1 call before sending', 0.75),
        ("1 stream ended before the answer was read to its end", 0.2),
        ("2 requests sent again", 0.02),
        ("1 of 11 generation calls set no output cap", 0.001),
    ]
