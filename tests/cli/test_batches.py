"""`tokenguard batches`: what waits, what it may cost, whose it is."""

from __future__ import annotations

import json
import time

import jsonschema
import pytest
from click.testing import CliRunner

from tokenguard.cli import group
from tokenguard.cli.schemas import published
from tokenguard.store.jobs import Group, Job, Jobs


@pytest.fixture
def store(tmp_path, monkeypatch):
    path = tmp_path / "usage.db"
    monkeypatch.setenv("TOKENGUARD_STORE", str(path))
    jobs = Jobs(str(path))
    now = time.time_ns()
    whose = {
        "tokenguard.tenant": "t1",
        "tokenguard.task": "tagging",
        "code.file.path": "/app/jobs.py",
        "code.line.number": 7,
    }
    lines = [Group("chat", "gpt-4o-mini", 1000, 100_000, 20_000, 20, 1_234_500_000)]
    for job in (
        Job("batch_open", "openai", now - 7200 * 10**9, state="in_progress", attributes=whose, groups=lines, done=120),
        Job(
            "batch_unread",
            "openai",
            now - 86_400 * 10**9,
            state="completed",
            open=False,
            output="file-1",
            total=5,
            done=5,
        ),
        Job("batch_collected", "anthropic", now, state="ended", open=False, collected_ns=now),
        Job("batch_failed", "openai", now, state="failed", open=False),
    ):
        jobs.update(job.id, lambda _, job=job: job)
    jobs.close()
    return path


def ask(*arguments):
    done = CliRunner().invoke(group, ["batches", *arguments], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


def test_what_waits(store):
    """Open jobs, and those that have ended with answers nobody has read; not those that are done with."""
    shown = ask()
    assert "batch_collected" not in shown
    assert "batch_failed" not in shown
    (row,) = [line for line in shown.splitlines() if "batch_open" in line]
    assert [
        part in row
        for part in ("gpt-4o-mini", "tenant=t1 task=tagging", "120 / 1,000", "2.0 h", "$1.2345", "jobs.py:7")
    ]
    assert "completed, not read" in shown


def test_json_and_all(store):
    """As facts, with those that were collected."""
    told = json.loads(ask("--all", "--format", "json"))
    jsonschema.validate(told, published("batches"))
    found = {job["id"]: job for job in told["batches"]}
    assert set(found) == {"batch_open", "batch_unread", "batch_collected", "batch_failed"}
    assert (found["batch_open"]["may_cost_usd"], found["batch_open"]["attribution"]) == (1.2345, {"tenant": "t1"})
    assert found["batch_unread"]["may_cost_usd"] is None


def test_nothing(tmp_path, monkeypatch):
    """Without a store, and with one that is off, it says so and where it looked; nothing is made."""
    monkeypatch.setenv("TOKENGUARD_STORE", str(tmp_path / "none.db"))
    assert "none.db" in ask()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("TOKENGUARD_STORE", "off")
    assert "switches the local store off" in ask()
