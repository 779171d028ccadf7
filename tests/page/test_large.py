"""A page of a large store: what it takes does not grow with the calls, as it would if all of them were read."""

from __future__ import annotations

import random
from contextlib import closing
from datetime import UTC, datetime

import pytest

from tokenguard.facts import names
from tokenguard.facts.record import CallRecord
from tokenguard.page import advised, gathered
from tokenguard.prices import PriceBook
from tokenguard.report import findings, lookups
from tokenguard.report.engine import SqliteRecords
from tokenguard.report.export import as_json
from tokenguard.report.figures import ask
from tokenguard.report.query import Query
from tokenguard.store.file import open_for_reading, open_for_writing
from tokenguard.store.store import Store
from tokenguard.store.sums import fold

DAY_NS = 86_400 * 10**9
NOW = datetime(2026, 11, 26, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * 10**9
DAYS = 16
STEPS = 1000
"""Instructions of SQLite's machine that are counted as one."""


def stored(path, calls):
    """A store of so many calls over the same days, features and models, all of them in the sums."""
    rng = random.Random(1)
    store = Store(path, days=0)
    store.write(
        [
            CallRecord(
                NOW_NS - DAYS * DAY_NS + n * (DAYS * DAY_NS // calls),
                10**9,
                "ok",
                {
                    names.OPERATION: "chat",
                    names.PROVIDER: "openai",
                    names.REQUEST_MODEL: rng.choice(("gpt-4o", "gpt-4o-mini")),
                    names.INPUT_TOKENS: 2000,
                    names.OUTPUT_TOKENS: 100,
                    names.CACHE_READ_TOKENS: 0,
                    names.COST: 0.01,
                    names.COST_STATUS: "exact",
                    names.COST_INPUT: 0.008,
                    names.REQUEST_HASH: f"{rng.randrange(calls):016x}",
                    names.input_attribute("system"): 2000,
                    "tokenguard.feature": rng.choice(("a", "b", "c")),
                    "tokenguard.tenant": rng.choice(("x", "y")),
                    "tokenguard.attr.note": "more",
                },
                f"{n:032x}",
                f"{n:016x}",
            )
            for n in range(calls)
        ]
    )
    store.close()
    with closing(open_for_writing(str(path))) as connection:
        while fold(connection):
            pass
    return path


@pytest.fixture(scope="module")
def sizes(tmp_path_factory):
    """A store, and one of four times as many calls."""
    folder = tmp_path_factory.mktemp("large")
    return [stored(folder / f"{calls}.db", calls) for calls in (2_000, 8_000)]


def effort(path, read):
    """Instructions that SQLite takes for what is read of a store, in thousands."""
    counted = 0

    def count():
        nonlocal counted
        counted += 1
        return 0

    with closing(SqliteRecords(open_for_reading(path))) as records:
        records.connection.set_progress_handler(count, STEPS)
        read(records)
    return counted


def page(by, days):
    since = None if days is None else NOW_NS - days * DAY_NS
    return lambda records: gathered.gathered(
        records, Query(by=(by,), since_ns=since, now_ns=NOW_NS), "store", NOW, period="7d", live=True
    )


def later(records):
    advised.what_if(records, Query(since_ns=NOW_NS - 7 * DAY_NS, now_ns=NOW_NS), PriceBook())


def report(records):
    found = ask(records, Query(by=("feature", "model"), limit=20))
    as_json(found, findings.find(records, found))


READS = {
    "7 days": page("feature", 7),
    "all, by tenant": page("tenant", None),
    "by model": page("model", 7),
    "what takes longer": later,
    "report": report,
}


@pytest.mark.parametrize("read", READS)
def test_calls_are_not_read_one_by_one(sizes, monkeypatch, read):
    """Four times the calls are no more work for a page and for a report that daily sums can answer."""
    for module, name in (
        (findings, "LAST_CALLS"),
        (lookups, "LAST_CALLS"),
        (gathered, "LAST_CALLS"),
        (gathered, "LOOKED_AT"),
        (advised, "REPLAYED"),
    ):
        monkeypatch.setattr(module, name, 200)
    small, large = (effort(path, READS[read]) for path in sizes)
    assert small > 10
    assert large < 1.25 * small


def test_a_scan_would_be_noticed(sizes):
    """What reads all calls takes four times as much for four times as many: what is counted tells."""
    small, large = (effort(path, lambda records: ask(records, Query(by=("trace",), limit=5))) for path in sizes)
    assert large > 3 * small
