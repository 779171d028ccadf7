"""What people and programs see."""

from __future__ import annotations

import io
import re
from contextlib import closing
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from report.conftest import START, call
from tokenguard.facts import names
from tokenguard.report.figures import ask
from tokenguard.report.findings import find
from tokenguard.report.query import Query
from tokenguard.report.sources import open_sources
from tokenguard.report.table import print_table
from tokenguard.report.terminal import is_fancy
from tokenguard.store.store import Store

GOLDEN = Path(__file__).parent / "golden"


def printed(path, width, *, terminal=True, colour=None, **query):
    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=terminal, color_system=colour, markup=False, highlight=False
    )
    with closing(open_sources([path]).records) as connection:
        report = ask(connection, Query(**query))
        print_table(report, find(connection, report), "usage.db", console)
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


def test_findings(store_path):
    """Each finding is a measured fact with its price: losses, risks, what was prevented, and the dearest first."""
    with closing(open_sources([store_path]).records) as connection:
        report = ask(connection, Query())
        says = [(finding.says, finding.usd) for finding in find(connection, report)]
        early = ask(connection, Query(until_ns=START))
        assert find(connection, early) == []
    assert says == [
        ("support_answer v14 sent 6,000 input tokens a call to gpt-4o, 4 times; 0% of them came from the cache", 1.5),
        ("1 call ended before the whole answer was read", 0.2),
        ("2 requests sent again", 0.02),
        ("1 of 11 generation calls", 0.001),
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
    with closing(open_sources([tmp_path / "u.db"]).records) as connection:
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
    with closing(open_sources([store_path]).records) as connection:
        report = ask(connection, Query(by=("feature", "model", "tenant", "day")))
        print_table(report, find(connection, report), "usage.db", console)
    out.flush()
    text = out.buffer.getvalue().decode(out.encoding)
    assert text.isascii()
    assert "\x1b" not in text
    if console.width == 60:  # a dumb terminal is taken to be 80 wide
        assert re.search(r"claude-[\w-]*\.\.\. ", text)
    assert is_fancy(Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "xterm"}))


def test_the_rest_is_stated(store_path):
    """What a limit leaves out is counted and priced."""
    text = printed(store_path, 120, terminal=False, limit=1)
    assert "... and 3 more ($0.7510, 27% of the cost), which the total counts; --limit shows more" in text
    assert "... and 1 before these (" in printed(store_path, 120, terminal=False, limit=1, by=("day",))


def test_repeats_are_a_finding(tmp_path):
    """Requests that were answered before, exactly the same, are one line with what all but the first answer cost."""
    store = Store(tmp_path / "u.db")
    same = {names.REQUEST_HASH: "a" * 16}
    store.write(
        [
            *(call(n, "bot", "gpt-4o", (50, 9, 0), 0.25, **same) for n in range(4)),
            *(call(n, "rag", "gpt-4o", (50, 9, 0), 0.5, **{names.REQUEST_HASH: "b" * 16}) for n in range(2)),
            call(5, "bot", "gpt-4o", (50, 9, 0), 9.0, **{names.REQUEST_HASH: "c" * 16}),
            call(6, "bot", "gpt-4o", (50, 9, 0), 9.0),
            call(7, "bot", "gpt-4o", (None,) * 3, None, "error", **same),
            call(8, "bot", "gpt-4o", (50, 9, 0), 0.25, **same, **{names.RETRY_ATTEMPT: 1}),  # told as a retry
            call(9, "bot", "gpt-4o", (None,) * 3, 0.0, **same, **{names.CACHE_RESULT: names.HIT}),  # not sent
            call(10, "bot", "gpt-4o", (50, 9, 0), 0.25, **same, **{names.ROUTE_ESCALATION: "length"}),  # a cascade
        ]
    )
    store.close()
    with closing(open_sources([tmp_path / "u.db"]).records) as records:
        findings = find(records, ask(records, Query()))
    (repeats,) = (finding for finding in findings if finding.usd_is == "spent on repeated calls")
    assert repeats.usd == pytest.approx(3 * 0.25 + 0.5)
    assert repeats.says == ("4 calls repeated a request that had been answered (2 distinct requests; bot 3, rag 1)")


def test_kept_answers_are_told_of(tmp_path):
    """By rule, result and reason; calls that repeat under a rule are told why they were sent, and what to change."""
    store = Store(tmp_path / "u.db")

    def looked_up(n, request, result, reason=None, usd=0.25, rule="faq", **more):
        attributes = {names.REQUEST_HASH: request * 16, names.CACHE_RULE: rule, names.CACHE_RESULT: result, **more}
        if reason is not None:
            attributes[names.CACHE_REASON] = reason
        return call(n, "bot", "gpt-4o", (50, 9, 0), usd, **attributes)

    store.write(
        [
            looked_up(1, "a", "miss"),
            looked_up(2, "a", "hit", usd=0.0, **{names.CACHE_SAVED: 0.25}),
            *(looked_up(n, "b", "skip", "sampled") for n in (3, 4, 5)),
            *(looked_up(n, "c", "miss", "several", rule="other") for n in (6, 7)),
            *(call(n, "bot", "gpt-4o", (50, 9, 0), 0.125, **{names.REQUEST_HASH: "d" * 16}) for n in (8, 9)),
        ]
    )
    store.close()
    with closing(open_sources([tmp_path / "u.db"]).records) as records:
        report = ask(records, Query())
        findings = find(records, report)
    assert [(row.rule, row.result, row.reason, row.calls, row.cost_usd, row.saved_usd) for row in report.lookups] == [
        ("faq", "skip", "sampled", 3, 0.75, None),
        ("faq", "hit", None, 1, 0.0, 0.25),
        ("faq", "miss", None, 1, 0.25, None),
        ("other", "miss", "several", 2, 0.5, None),
    ]
    repeats = [finding for finding in findings if finding.usd_is == "spent on repeated calls"]
    assert [finding.usd for finding in repeats] == [0.5, 0.25, 0.125]
    sampled, other, none = repeats
    assert sampled.says == (
        'under the rule "faq", 2 calls repeated a request that had been answered (1 distinct request; bot 2): '
        "its temperature is not 0, and the rule does not say sampled = true"
    )
    assert "sampled = true" in sampled.next_step
    assert "--by cache_rule,cache_result,cache_reason" in other.next_step
    assert "with a [[cache]]" in none.next_step
    text = " ".join(printed(tmp_path / "u.db", 140, terminal=False).split())
    assert "faq skip its temperature is not 0, and" in text


def test_columns_that_have_no_room_are_named(store_path):
    """A narrow table says which figures it leaves out; a wide one has them all."""
    said = " ".join(printed(store_path, 80).split())
    assert "No room at 80 columns for tokens/call, saved, retries, retry cost, errors, blocked, p50, cost/1k" in said
    assert "No room" not in printed(store_path, 200)


def test_no_colour_is_unreadable(store_path):
    """Nothing is yellow, which a light background swallows, and what to do is no dimmer than what is wrong."""
    text = printed(store_path, 120, colour="standard")
    assert "\x1b[33m" not in text
    step = next(line for line in text.splitlines() if "Put the constant part first" in line)
    assert "\x1b[2m" not in step
