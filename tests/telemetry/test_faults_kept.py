"""What TokenGuard itself has missed reaches who reads the report, and `doctor`, in other processes too."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

import tokenguard
from canned import MESSAGES, openai_client
from tokenguard import policy
from tokenguard.cli.doctor import _faults
from tokenguard.cli.report import report
from tokenguard.facts.record import CallRecord, FaultRecord
from tokenguard.guard.admission import Guard
from tokenguard.installation import runtime
from tokenguard.ledger import LedgerError
from tokenguard.metering.meter import Meter
from tokenguard.store.faults import read
from tokenguard.store.store import Store

CHAT = {"model": "gpt-4o-mini", "messages": MESSAGES, "max_tokens": 10}


@pytest.fixture
def kept(installed, tmp_path, monkeypatch):
    """Calls are kept in a store: `kept()` is what is missing by it."""
    monkeypatch.setenv("TOKENGUARD_STRICT", "0")
    path = tmp_path / "usage.db"
    telemetry = installed.telemetry
    telemetry.flush()
    was, telemetry._sink = telemetry._sink, Store(path)
    telemetry.faults.news(telemetry._lost())

    def missing():
        telemetry.flush()
        return [(fault.kind, fault.times) for fault in read(path)]

    missing.path = path
    yield missing
    telemetry._sink.close()
    telemetry._sink = was
    tokenguard.install(policy.Policy())


def ask():
    openai_client().chat.completions.create(**CHAT)


def broken(*_, **__):
    raise ZeroDivisionError("on purpose")


def broken_on_the_way(*_, **__):
    yield from broken()


def test_unguarded(kept, monkeypatch) -> None:
    """A call that went past the policy for a fault of ours."""
    tokenguard.install(policy.loads('[[limit]]\nname = "l"\nmax_input_tokens = 1000\n[ledger]\nurl = "memory:"\n'))
    ask()
    assert kept() == []
    monkeypatch.setattr(Guard, "admit", broken_on_the_way)
    ask()
    ask()
    assert kept() == [("unguarded", 2), ("errors", 2)]
    (fault, _) = read(kept.path)
    assert fault.said == "guarding a call failed (ZeroDivisionError: on purpose)"
    ask()
    assert kept() == [("unguarded", 3), ("errors", 3)]


def test_unmeasured(kept, monkeypatch) -> None:
    """A call of which there is no record."""
    monkeypatch.setattr(Meter, "begin", broken)
    ask()
    assert kept() == [("unmeasured", 1), ("errors", 1)]


def test_dropped(kept) -> None:
    """Records that could not be kept."""
    runtime.installed().telemetry.dropped += 7
    assert kept() == [("dropped", 7)]


def test_a_ledger_that_is_lost(kept, tmp_path, monkeypatch) -> None:
    """Each time that it is out of reach, once."""
    text = '[[budget]]\nname = "b"\nlimit_usd = 1\n[ledger]\nurl = "sqlite:///ledger.db"\n'
    tokenguard.install(policy.loads(text, str(tmp_path / "tokenguard.toml")))
    ask()
    assert kept() == []
    shared = runtime.installed().meter.guard.ledger.inner

    def lost(*_, **__):
        raise LedgerError("gone")

    monkeypatch.setattr(shared, "reserve", lost)
    ask()
    ask()
    assert kept() == [("ledger_lost", 1)]


def stored(path: Path) -> None:
    store = Store(path)
    store.write(
        [
            CallRecord(10**18, 10**9, "ok", {"gen_ai.operation.name": "chat"}),
            FaultRecord("unguarded", 10**18, 3, "guarding a call failed (KeyError: \x1b[31m'x')"),
            FaultRecord("unguarded", 2 * 10**18, 2, "guarding a call failed (KeyError: 'y')"),
            FaultRecord("dropped", 10**18, 12),
        ]
    )
    store.close()


def test_the_head_of_the_report(tmp_path: Path) -> None:
    """It says first what the figures below do not hold, in JSON and Markdown too, and only of the time asked for."""
    stored(tmp_path / "usage.db")

    def shown(*options: str) -> str:
        done = CliRunner().invoke(report, ["--source", str(tmp_path / "usage.db"), *options], catch_exceptions=False)
        assert done.exit_code == 0
        return done.output

    head = shown().splitlines()[:2]
    assert head == [
        "TokenGuard missed something: 5 calls went out past the policy (guarding a call failed (KeyError: 'y')), "
        "last at 2033-05-18 03:33 UTC",
        "TokenGuard missed something: 12 records were dropped, last at 2001-09-09 01:46 UTC",
    ]
    facts = json.loads(shown("--format", "json"))["faults"]
    assert [(fault["kind"], fault["count"]) for fault in facts] == [("unguarded", 5), ("dropped", 12)]
    assert "**TokenGuard missed something:** 5 calls" in shown("--format", "md")
    assert "missed" not in shown("--until", "2001-01-01")


def test_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the last day fails the check, an older one does not."""
    stored(tmp_path / "usage.db")
    monkeypatch.setattr("time.time_ns", lambda: 2 * 10**18 + 10**9)
    (check,) = _faults(tmp_path / "usage.db")
    assert not check.ok
    assert check.said.startswith("in the last 24 hours, 2 calls went out past the policy")
    assert [*_faults(tmp_path / "nothing.db")] == []


def test_an_endless_fault_does_not_fill_the_store(tmp_path: Path) -> None:
    """The last thousand words of faults are kept."""
    store = Store(tmp_path / "usage.db")
    for n in range(12):
        store.write([FaultRecord("errors", n, 1)] * 200)
    store.close()
    with closing(sqlite3.connect(tmp_path / "usage.db")) as db:
        assert db.execute("SELECT count(*) FROM faults").fetchone() == (1000,)
