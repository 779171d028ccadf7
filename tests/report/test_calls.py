"""`tokenguard calls`: single calls, and one with all its facts."""

from __future__ import annotations

import csv
import io
import json
from contextlib import closing
from hashlib import md5

import pytest
from click.testing import CliRunner

from report.conftest import HOUR, START
from tokenguard.cli import group
from tokenguard.facts import names
from tokenguard.facts.errors import TokenGuardError
from tokenguard.facts.record import CallRecord
from tokenguard.report.calls import sections, shown
from tokenguard.report.query import Query
from tokenguard.report.sources import open_sources
from tokenguard.store.store import Store


def record(n, usd=None, seconds=1.0, outcome="ok", span=True, **more):
    attributes = {
        names.OPERATION: "chat",
        names.PROVIDER: "openai",
        names.REQUEST_MODEL: "gpt-4o",
        names.INPUT_TOKENS: 1000 + n,
        names.CODE_FILE: "app.py",
        names.CODE_LINE: 7,
        **({} if usd is None else {names.COST: usd, names.COST_STATUS: "exact"}),
        **more,
    }
    span_id = md5(str(n).encode()).hexdigest()[:16] if span else ""
    return CallRecord(START + n * HOUR, int(seconds * 1e9), outcome, attributes, "a" * 32 if span else "", span_id)


CALLS = [
    record(1, 0.5, 3.0, **{"tokenguard.feature": "rag", names.REQUEST_HASH: "same"}),
    record(2, 0.9, 1.0, **{"tokenguard.feature": "=rag", "tokenguard.attr.region": "eu\x1b[2J"}),
    record(3, None, 9.0, "error", **{names.ERROR_TYPE: "openai.RateLimitError"}),
    record(4, 0.25, 2.0, span=False, **{names.REQUEST_HASH: "same", names.FINISH_REASONS: ("stop", "length")}),
    record(5, 0.25, 0.5, "error", **{names.ERROR_TYPE: "openai.APIError"}),
]


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKENGUARD_STORE_DAYS", "0")
    written = Store(tmp_path / "u.db")
    written.write(CALLS)
    written.close()
    return tmp_path / "u.db"


def run(store, *arguments, code=0, width=160):
    done = CliRunner().invoke(
        group, ["calls", *arguments, "--source", str(store)], env={"COLUMNS": str(width), "NO_COLOR": "1"}
    )
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


def listed(store, *arguments):
    return [each["start_ns"] - START for each in json.loads(run(store, *arguments, "--format", "json"))["calls"]]


def test_orders(store):
    """The dearest first, the slowest, the last; the failed alone, the last first; unknown costs come last."""
    assert listed(store) == [n * HOUR for n in (2, 1, 5, 4, 3)]
    assert listed(store, "--sort", "latency", "--limit", "2") == [3 * HOUR, 1 * HOUR]
    assert listed(store, "--sort", "time", "--where", "feature=*rag") == [2 * HOUR, 1 * HOUR]
    assert listed(store, "--failed") == [5 * HOUR, 3 * HOUR]
    assert listed(store, "--failed", "--sort", "latency") == [3 * HOUR, 5 * HOUR]
    assert listed(store, "--since", "2026-11-02T12:30") == [5 * HOUR, 4 * HOUR]


def test_the_list(store):
    """A line a call, by which it can be shown; what callers wrote is text."""
    text = run(store)
    first = text.splitlines()[1].split()
    assert first[0] == CALLS[1].span_id[:8]
    assert "$0.9000" in first
    assert "RateLimitError" in text
    assert "app.py:7" in text
    assert json.loads(run(store, "show", first[0], "--format", "json"))["span_id"] == CALLS[1].span_id
    assert "No room at 60 columns for" in run(store, width=60)


def test_repeats(store):
    """Requests that were answered more than once, with what all but the first answer cost."""
    (same,) = json.loads(run(store, "--repeated", "--format", "json"))["repeats"]
    assert (same["times"], same["usd"], same["repeats_usd"]) == (2, 0.75, 0.375)
    assert "$0.3750" in run(store, "--repeated")


def test_csv(store):
    """All facts of each call; unknown is empty, and no cell is a formula."""
    rows = list(csv.DictReader(io.StringIO(run(store, "--format", "csv"))))
    assert rows[0]["tokenguard.feature"] == "'=rag"
    assert rows[0]["tokenguard.attr.region"] == "eu?[2J"
    assert rows[0]["tokenguard.cost.usd"] == "0.9"
    assert rows[-1]["tokenguard.cost.usd"] == ""
    assert rows[3]["gen_ai.response.finish_reasons"] == "stop, length"


@pytest.mark.parametrize("found", CALLS, ids=range(len(CALLS)))
def test_all_facts_are_shown(store, found):
    """Each attribute of a call is in one part of its page, and none is left out."""
    parts = [pair for _, pairs in sections(found) for pair in pairs]
    assert len(parts) == len(found.attributes)
    name = found.span_id[:6] or "#4"
    text = run(store, "show", name)
    assert "\x1b" not in text
    for label, value in parts:
        assert shown(label, value).replace("\x1b", "?") in text
    facts = json.loads(run(store, "show", name, "--format", "json"))
    assert facts["attributes"] == {k: list(v) if isinstance(v, tuple) else v for k, v in found.attributes.items()}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("abc", "'abc' is no id of a call: give 4 hex digits"),
        ("x" * 8, "is no id of a call"),
        ("*" * 8, "is no id of a call"),
        ("0000ffff", "no call has the id 0000ffff: tokenguard calls lists them"),
        ("#99", "no call has the id #99"),
        ("aaaa", "4 calls have an id that begins with aaaa: say which"),
    ],
)
def test_ids_that_are_none(store, name, said):
    """An id that is none, or that several calls have, is one line that says what would do."""
    with pytest.raises(TokenGuardError, match=said):
        run(store, "show", name)


def test_calls_of_one_span_are_told_apart(tmp_path):
    """Calls inside an instrumentation's span share it: each is still shown by the number of its row."""
    store = Store(tmp_path / "u.db")
    store.write([CallRecord(n, 1, "ok", {names.COST: float(n)}, "c" * 32, "d" * 16) for n in range(2)])
    store.close()
    with pytest.raises(TokenGuardError, match="say which, #1, #2"):
        run(tmp_path / "u.db", "show", "dddd")
    assert json.loads(run(tmp_path / "u.db", "show", "#2", "--format", "json"))["attributes"] == {names.COST: 1.0}


def test_nothing(tmp_path, monkeypatch):
    """Without such calls it says so."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOKENGUARD_STORE", raising=False)
    done = CliRunner().invoke(group, ["calls"])
    assert "tokenguard-instrument python app.py" in done.output


def test_the_period_is_the_reports(store):
    """Both commands choose the same calls by the same options."""
    with closing(open_sources([store]).records) as records:
        from tokenguard.report.calls import calls
        from tokenguard.report.figures import ask

        query = Query(where=(("feature", "*rag"),), since_ns=START)
        assert len(calls(records, query)) == ask(records, query).total.figures["calls"]
