"""`tokenguard store`, as a user calls it."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

import pytest
from click.testing import CliRunner

from tokenguard.cli import group
from tokenguard.facts import names
from tokenguard.facts.errors import TokenGuardError
from tokenguard.facts.record import CallRecord, TaskRecord
from tokenguard.store.store import Store

DAY_NS = 86_400 * 10**9


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKENGUARD_STORE_DAYS", "0")
    written = Store(tmp_path / "u.db")
    now = time.time_ns()
    filler = {"tokenguard.attr.filler": "x" * 5000}
    written.write([CallRecord(now - n * DAY_NS, 1, "ok", {names.COST: 1.0, **filler}) for n in range(100)])
    written.write([TaskRecord("resolve", now - n * DAY_NS, 1, "ok", 1.0, 1) for n in (1, 99)])
    written.close()
    return tmp_path / "u.db"


def run(*arguments):
    done = CliRunner().invoke(group, list(map(str, arguments)), env={"COLUMNS": "120", "NO_COLOR": "1"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_prune(store):
    """Old calls go and give their room back, and the report still has what they cost."""
    size = store.stat().st_size
    said = run("store", "prune", "--keep", "10d", "--store", store)
    assert "89 calls and 1 task before" in said
    assert store.stat().st_size < size / 2
    with closing(sqlite3.connect(store)) as connection:
        assert connection.execute("SELECT count(*) FROM calls").fetchone() == (11,)
    report = run("report", "--by", "model", "--source", store)
    assert "spent $100.00" in report
    assert "resolve          2" in report
    assert "0 calls and 0 tasks" in run("store", "prune", "--keep", "10", "--store", store)
    assert "spent $11.00" in run("report", "--by", "user", "--source", store)


@pytest.mark.parametrize("keep", ["x", "-1d", "1.5d", "9" * 7])
def test_a_number_of_days(store, keep):
    """What is no number of days is refused before anything is deleted."""
    with pytest.raises(TokenGuardError, match="is no number of days"):
        run("store", "prune", "--keep", keep, "--store", store)


def test_no_store(tmp_path):
    """A store that is not there is not made."""
    with pytest.raises(TokenGuardError, match="no store there"):
        run("store", "prune", "--store", tmp_path / "none.db")
    assert not list(tmp_path.iterdir())
