"""Batch jobs in the store: whose each is, what it may cost, and which lines of its results have been recorded.

A job is created by one process and may be collected by others, more than once. So whoever collects asks here whose it
is, and claims its lines: a line is recorded by the one that claims it first, however often it is read.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tokenguard.facts.record import AttributeValue
from tokenguard.facts.tuples import NamedTuple
from tokenguard.store.store import Store

KEPT_S: Final = 60 * 86_400
"""How long jobs and their lines are known: providers keep results for 30 days at the most."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS batches (id TEXT PRIMARY KEY, created_ns INTEGER NOT NULL, facts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS batch_files (
    id TEXT PRIMARY KEY, created_ns INTEGER NOT NULL, batch TEXT, facts TEXT
);
CREATE TABLE IF NOT EXISTS batch_lines (
    batch TEXT NOT NULL, custom_id TEXT NOT NULL, model TEXT, nano INTEGER, tokens INTEGER,
    PRIMARY KEY (batch, custom_id)
) WITHOUT ROWID;
"""


@dataclass(slots=True)
class Group:
    """The lines of a job that go to one model."""

    operation: str
    model: str | None
    lines: int = 0
    input: int = 0
    """Tokens, at the most."""
    output: int = 0
    """Tokens, at the most; lines without a cap as calls without one."""
    cap: int | None = None
    """The largest output cap of its lines; `None` where one has none."""
    nano: int | None = 0
    """Nano-dollars that it may cost at the most; `None` without a known price."""


@dataclass(slots=True)
class Held:
    """What budgets hold for a group, as a `Reservation` of the ledger."""

    model: str | None
    id: str
    entries: list[list[Any]]
    nano: int
    tokens: int
    expires: float


@dataclass(slots=True)
class Job:
    """A batch job."""

    id: str
    provider: str
    created_ns: int
    host: str = ""
    state: str = ""
    open: bool = True
    endpoint: str = ""
    total: int | None = None
    done: int | None = None
    output: str | None = None
    errors: str | None = None
    expires_ns: int | None = None
    ended_ns: int | None = None
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    """Of each of its calls: whose they are, and where the job was created."""
    groups: list[Group] = field(default_factory=list)
    """Empty where nobody saw what it asks."""
    held: list[Held] = field(default_factory=list)
    collected_ns: int | None = None
    """When its results were read to their end for the first time."""

    @property
    def nano(self) -> int | None:
        """Nano-dollars that it may cost at the most; `None` where that is not known."""
        known = [group.nano for group in self.groups if group.nano is not None]
        return sum(known) if known and len(known) == len(self.groups) else None


class Charge(NamedTuple):
    """A line of results with what it came to."""

    custom_id: str
    model: str | None
    nano: int
    tokens: int


class Jobs:
    """The jobs of a store. Methods raise `sqlite3.Error` or `OSError`; whoever calls contains them."""

    def __init__(self, path: str) -> None:
        self._store = Store(path, 0)
        self._ready: object = None

    def _run(self, operation: Callable[[sqlite3.Connection], Any]) -> Any:
        def run(connection: sqlite3.Connection) -> Any:
            if self._ready is not connection:
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                _forget(connection, time.time_ns() - KEPT_S * 10**9)
                self._ready = connection
            return operation(connection)

        return self._store.run(run)

    def update(self, name: str, change: Callable[[Job | None], Job | None]) -> Job | None:
        """Change a job, in one step; `change` gets what is known of it, and returns what is to be known."""

        def run(connection: sqlite3.Connection) -> Job | None:
            job = change(_job(connection, name))
            if job is not None:
                facts = json.dumps(asdict(job))
                connection.execute("INSERT OR REPLACE INTO batches VALUES (?, ?, ?)", (name, job.created_ns, facts))
                for file in (job.output, job.errors):
                    if file is not None:
                        connection.execute(
                            "INSERT INTO batch_files (id, created_ns, batch) VALUES (?, ?, ?) "
                            "ON CONFLICT DO UPDATE SET batch = excluded.batch",
                            (file, job.created_ns, name),
                        )
            return job

        found: Job | None = self._run(run)
        return found

    def find(self, name: str) -> Job | None:
        """The job of this id."""
        found: Job | None = self._run(lambda connection: _job(connection, name))
        return found

    def of_file(self, file: str) -> str | None:
        """The id of the job whose results are in a file."""

        def run(connection: sqlite3.Connection) -> str | None:
            row = connection.execute("SELECT batch FROM batch_files WHERE id = ?", (file,)).fetchone()
            return None if row is None else row[0]

        found: str | None = self._run(run)
        return found

    def all(self) -> list[Job]:
        """All jobs, the newest first."""

        def run(connection: sqlite3.Connection) -> list[Job]:
            rows = connection.execute("SELECT facts FROM batches ORDER BY created_ns DESC")
            return [_read(facts) for (facts,) in rows]

        found: list[Job] = self._run(run)
        return found

    def keep_input(self, file: str, groups: Sequence[Group]) -> None:
        """Remember what an input file asks, for the job that it will be."""
        facts = json.dumps([asdict(group) for group in groups])
        self._run(
            lambda connection: connection.execute(
                "INSERT OR REPLACE INTO batch_files (id, created_ns, facts) VALUES (?, ?, ?)",
                (file, time.time_ns(), facts),
            )
        )

    def input(self, file: str) -> list[Group] | None:
        """What an input file asks; `None` where nobody saw it."""

        def run(connection: sqlite3.Connection) -> list[Group] | None:
            row = connection.execute("SELECT facts FROM batch_files WHERE id = ?", (file,)).fetchone()
            return None if row is None or row[0] is None else [Group(**each) for each in json.loads(row[0])]

        found: list[Group] | None = self._run(run)
        return found

    def claim(self, job: str, lines: Sequence[Charge]) -> set[str]:
        """Claim lines of a job; returns the ids of those that nobody had claimed."""

        def run(connection: sqlite3.Connection) -> set[str]:
            new = set()
            for line in lines:
                row = (job, line.custom_id, line.model, line.nano, line.tokens)
                if connection.execute("INSERT OR IGNORE INTO batch_lines VALUES (?, ?, ?, ?, ?)", row).rowcount:
                    new.add(line.custom_id)
            return new

        found: set[str] = self._run(run)
        return found

    def sums(self, job: str) -> Mapping[str | None, tuple[int, int]]:
        """What the claimed lines of a job came to by model: nano-dollars and tokens."""

        def run(connection: sqlite3.Connection) -> dict[str | None, tuple[int, int]]:
            rows = connection.execute(
                "SELECT model, sum(nano), sum(tokens) FROM batch_lines WHERE batch = ? GROUP BY model", (job,)
            )
            return {model: (nano, tokens) for model, nano, tokens in rows}

        found: dict[str | None, tuple[int, int]] = self._run(run)
        return found

    def close(self) -> None:
        """Let go of the file."""
        self._store.close()


def _job(connection: sqlite3.Connection, name: str) -> Job | None:
    row = connection.execute("SELECT facts FROM batches WHERE id = ?", (name,)).fetchone()
    return None if row is None else _read(row[0])


def _read(facts: str) -> Job:
    told = json.loads(facts)
    told["groups"] = [Group(**each) for each in told["groups"]]
    told["held"] = [Held(**each) for each in told["held"]]
    return Job(**told)


def _forget(connection: sqlite3.Connection, before_ns: int) -> None:
    connection.execute(
        "DELETE FROM batch_lines WHERE batch IN (SELECT id FROM batches WHERE created_ns < ?)", (before_ns,)
    )
    connection.execute("DELETE FROM batches WHERE created_ns < ?", (before_ns,))
    connection.execute("DELETE FROM batch_files WHERE created_ns < ?", (before_ns,))
