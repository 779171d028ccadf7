"""Groups by keys whose values are kept as numbers are those that their words give."""

from __future__ import annotations

import pytest

from tokenguard.facts import names
from tokenguard.facts.record import CallRecord
from tokenguard.report import figures, measured, sources
from tokenguard.report.query import Query
from tokenguard.store.store import Store

USERS = ("u1", "u2", "12", "数", None, "")


@pytest.fixture
def records(tmp_path):
    """Calls of some users, of whom some are named like numbers."""
    store = Store(tmp_path / "usage.db", days=0)
    calls = []
    for n in range(60):
        user, tenant = USERS[n % len(USERS)], f"t{n % 4}"
        told = {
            names.COST: float(n),
            names.COST_STATUS: names.EXACT,
            names.INPUT_TOKENS: n,
            "tokenguard.tenant": tenant,
        }
        more = {"tokenguard.user": user} if user is not None else {}
        calls.append(CallRecord((n + 1) * 10**9, 10**9, names.OK, {**told, **more}, f"{n:032x}", f"{n:016x}"))
    store.write(calls)
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


def test_many_words(records, monkeypatch):
    """Words of many groups are looked up all at once."""
    few = measured.measured(records, QUERIES[0]).groups
    monkeypatch.setattr(measured, "MANY", 2)
    assert measured.measured(records, QUERIES[0]).groups == few
    assert {keys[0] for keys in few} == set(USERS)
