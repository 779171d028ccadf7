"""What is done as the process ends, and is come upon in the midst of it by its own thread."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from opentelemetry.trace import INVALID_SPAN_CONTEXT

from tokenguard.facts.record import CallRecord, TaskRecord
from tokenguard.process import ends
from tokenguard.store import store
from tokenguard.store.store import Store
from tokenguard.telemetry import drain
from tokenguard.telemetry.drain import Telemetry
from tokenguard.telemetry.metrics import Finished


def call() -> Finished:
    return Finished(CallRecord(time.time_ns(), 1, "ok"), INVALID_SPAN_CONTEXT, None, None, None)


def counts(path: Path) -> tuple[int, int]:
    """How many calls and tasks a store has."""
    with closing(sqlite3.connect(path)) as db:
        return tuple(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("calls", "tasks"))  # type: ignore[return-value]


PLACES: dict[str, Callable[[pytest.MonkeyPatch, Callable[[], None]], None]] = {
    "while a row is made": lambda patch, come: patch.setattr(store, "_call_row", _first(store._call_row, come)),
    "while the store is let go of": lambda patch, come: patch.setattr(Store, "finish", _first(Store.finish, come)),
}


def _first(original, come):
    def wrapper(*arguments):
        if not came:
            came.append(True)
            come()
        return original(*arguments)

    came: list[bool] = []
    return wrapper


@pytest.mark.parametrize("place", PLACES)
def test_a_record_that_comes_in_the_midst(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a process a stream that is collected while records are written takes none of them away."""
    monkeypatch.setattr(ends, "ending", True)
    kept = Store(tmp_path / "usage.db")
    telemetry = Telemetry(lambda: kept)
    monkeypatch.setattr(telemetry.metrics, "make", lambda: None)  # the names of instruments are another test's
    task = TaskRecord("collected", 1, 1, "ok", 0.0, 0, {})
    PLACES[place](monkeypatch, lambda: telemetry.put(task))
    telemetry._queue.extend(call() for _ in range(3))
    telemetry._finish()
    telemetry._finish()
    assert counts(tmp_path / "usage.db") == (3, 1)
    assert telemetry.faults.count == 0
    kept.close()


@pytest.mark.parametrize(("most", "weight"), [("MANY", 0), ("HEAVY", 2**20)])
def test_what_waits_is_bounded(most: str, weight: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many records, or large requests, are drained at once, and not after the time that others wait."""
    monkeypatch.setattr(drain, "DRAIN_SECONDS", 3600)
    kept = Store(tmp_path / "usage.db")
    telemetry = Telemetry(lambda: kept)
    monkeypatch.setattr(telemetry.metrics, "make", lambda: None)
    for n in range(getattr(drain, most) // (weight or 1) + 2):
        assert len(telemetry._queue) == n
        telemetry.put(call(), weight)
    until = time.monotonic() + 30
    while telemetry._queue and time.monotonic() < until:
        time.sleep(0.001)
    assert not telemetry._queue
    telemetry.put(call(), weight)
    assert len(telemetry._queue) == 1
    telemetry._finish()
    assert telemetry.faults.count == 0
    kept.close()
