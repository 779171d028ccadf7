"""Groups by keys whose values are kept as numbers are those that their words give."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tokenguard.facts import names
from tokenguard.facts.record import CallRecord
from tokenguard.report import figures, findings, measured, sources
from tokenguard.report.query import Query
from tokenguard.store.file import BEFORE
from tokenguard.store.layout import CALL_COLUMNS, CALLS
from tokenguard.store.store import Store

USERS = ("u1", "u2", "12", "数", None, "")


def calls_of_users():
    """Calls of some users, of whom some are named like numbers; each request is answered twice."""
    calls = []
    for n in range(60):
        user, tenant = USERS[n % len(USERS)], f"t{n % 4}"
        told = {
            names.COST: float(n),
            names.COST_STATUS: names.EXACT,
            names.INPUT_TOKENS: n,
            names.REQUEST_HASH: f"{n // 12:016x}" if n % 3 else f"request {n // 12}",
            "tokenguard.tenant": tenant,
        }
        more = {"tokenguard.user": user} if user is not None else {}
        calls.append(CallRecord((n + 1) * 10**9, 10**9, names.OK, {**told, **more}, f"{n:032x}", f"{n:016x}"))
    return calls


@pytest.fixture
def records(tmp_path):
    """A store of them."""
    store = Store(tmp_path / "usage.db", days=0)
    store.write(calls_of_users())
    store.close()
    opened = sources.open_sources([tmp_path / "usage.db"])
    yield opened.records
    opened.records.close()


QUERIES = (
    Query(by=("user",)),
    Query(by=("user", "tenant")),
    Query(by=("day", "user")),
    Query(by=("user",), limit=2),
    Query(by=("user",), where=(("user", "u*"),)),
    Query(by=("tenant",), where=(("user", "u*"),)),
    Query(by=("user",), where=(("model", "*"),), since_ns=10 * 10**9),
    Query(by=("user",), only=("u1", None, "nobody")),
    Query(by=("user", "day"), sort="user"),
)


@pytest.mark.parametrize("query", QUERIES, ids=repr)
def test_the_same_groups(records, query, monkeypatch):
    """A report is the same whether the groups are found by numbers or by words, in its order, with its total."""
    by_numbers = figures.ask(records, query), measured.measured(records, query, sums=False)
    monkeypatch.setattr(measured, "_by_numbers", lambda *_: None)
    assert (figures.ask(records, query), measured.measured(records, query, sums=False)) == by_numbers
    assert by_numbers[1].groups


FEW = (
    *(Query(by=by, limit=limit, sort=sort) for by in (("user",), ("user", "tenant")) for limit in (1, 4, 50)
      for sort in ("cost_usd", "calls")),
    Query(by=("user",), limit=2, where=(("tenant", "t9"),)),
    Query(by=("user",), limit=2, where=(("user", "*"),), until_ns=40 * 10**9),
)  # fmt: skip


@pytest.mark.parametrize("query", FEW, ids=repr)
@pytest.mark.parametrize("usd", [None, 0.0, 1.0])
def test_the_few_that_are_shown(tmp_path, monkeypatch, query, usd):
    """The groups that a limit keeps, and what is told of the others, are those of a report that measures them all.

    With calls that cost different amounts, and with such that are all equal and are told apart by their keys.
    """
    calls = calls_of_users()
    for call in calls if usd is not None else ():
        call.attributes[names.COST] = usd
    for call in calls[::7]:
        del call.attributes[names.COST]
        call.attributes[names.COST_STATUS] = names.UNPRICED
    store = Store(tmp_path / "usage.db", days=0)
    store.write(calls)
    store.close()
    with closing(sources.open_sources([tmp_path / "usage.db"]).records) as records:
        few = figures.ask(records, query)
        monkeypatch.setattr(figures, "MOST", 0)
        whole = figures.ask(records, query)
    assert whole._replace(query=few.query) == few
    assert len(few.rows) <= query.limit


def test_repeats_are_found_by_what_is_kept(records, monkeypatch):
    """Identifiers are compared as they lie in the store, and told as they were written."""
    report = figures.ask(records, Query())
    found = findings.find(records, report)
    assert "repeated" in found[0].says
    monkeypatch.setattr(records, "dialect", records.dialect._replace(packed=None))
    assert findings.find(records, report) == found
    one = Query(where=(("request", f"{1:016x}"),))
    assert "repeated" in findings.find(records, figures.ask(records, one))[0].says


def test_half_of_an_older_file(tmp_path):
    """Where calls of an older version are still as it kept them, they are in every group."""
    path = tmp_path / "usage.db"
    store = Store(path, days=0)
    store.write(calls_of_users())
    store.close()
    with closing(sqlite3.connect(path)) as connection, connection:  # as `storefile` has it until all have moved
        columns = ", ".join(CALL_COLUMNS)
        connection.execute(f"CREATE TABLE {BEFORE} AS SELECT id, {columns} FROM calls WHERE id <= 30")
        connection.execute("DELETE FROM call_rows WHERE id <= 30")
        connection.execute("DROP VIEW calls")
        connection.execute(f"CREATE VIEW calls AS {CALLS} UNION ALL SELECT *, more, NULL FROM {BEFORE}")
    with closing(sources.open_sources([path]).records) as records:
        report = figures.ask(records, Query(by=("user",), limit=2))
        assert report.total.figures["calls"] == sum(g.measures["calls"] for g in groups(records)) == 60


def groups(records):
    return measured.measured(records, Query(by=("user",)), ("calls",)).groups.values()


def test_many_words(records, monkeypatch):
    """Words of many groups are looked up all at once."""
    few = measured.measured(records, QUERIES[0]).groups
    monkeypatch.setattr(measured, "MANY", 2)
    assert measured.measured(records, QUERIES[0]).groups == few
    assert {keys[0] for keys in few} == set(USERS)
