"""How long records are kept: calls and tasks go by whole UTC days when they are old, and their daily sums stay."""

from __future__ import annotations

import os
import sqlite3
import time
from typing import Final

from tokenguard.facts.tuples import NamedTuple
from tokenguard.store.layout import NS_PER_DAY
from tokenguard.store.sums import fold, summed_to

ENV_DAYS: Final = "TOKENGUARD_STORE_DAYS"
DEFAULT_DAYS: Final = 90.0
FOREVER_DAYS: Final = 36_500
EVERY_SECONDS: Final = 3600.0
"""How often a process that runs looks for records that are too old."""


class Pruned(NamedTuple):
    """What was deleted."""

    calls: int
    tasks: int


def kept_days(setting: float = DEFAULT_DAYS) -> float | None:
    """For how many days records are kept: what the environment says, or else `setting`; `None` for ever."""
    try:
        days = float(os.environ.get(ENV_DAYS, ""))
    except ValueError:
        days = setting
    return days if 0 < days < FOREVER_DAYS else None


def before(days: float) -> int:
    """The beginning of the day since which records are kept, as Unix nanoseconds."""
    return (time.time_ns() - int(days * NS_PER_DAY)) // NS_PER_DAY * NS_PER_DAY


def prune(connection: sqlite3.Connection, before_ns: int, seconds: float = 0.0) -> Pruned:
    """Delete the records before a time, once they are in the sums.

    Where adding them up takes longer than `seconds`, the next one goes on. Raises `sqlite3.Error`.
    """
    old = (
        "SELECT EXISTS (SELECT 1 FROM call_rows WHERE start_ns < ?) OR EXISTS (SELECT 1 FROM tasks WHERE start_ns < ?)"
    )
    if not connection.execute(old, (before_ns, before_ns)).fetchone()[0]:
        return Pruned(0, 0)
    until = time.monotonic() + seconds
    while fold(connection) and time.monotonic() < until:
        pass
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        calls = connection.execute(
            "DELETE FROM call_rows WHERE start_ns < ? AND id <= ?", (before_ns, summed_to(connection) or 0)
        ).rowcount
        # SQLite gives the numbers of deleted rows again where they were the last ones.
        connection.execute("UPDATE summed SET id = min(id, (SELECT coalesce(max(id), 0) FROM call_rows))")
        connection.execute(
            "INSERT INTO task_sums SELECT strftime('%Y-%m-%d', start_ns / 1000000000, 'unixepoch'), name, "
            "count(*) FILTER (WHERE outcome = 'ok'), count(*) FILTER (WHERE outcome <> 'ok'), sum(cost_usd) "
            "FROM tasks WHERE start_ns < ? GROUP BY 1, 2 ON CONFLICT DO UPDATE SET "
            "succeeded = succeeded + excluded.succeeded, failed = failed + excluded.failed, "
            "cost_usd = cost_usd + excluded.cost_usd",
            (before_ns,),
        )
        tasks = connection.execute("DELETE FROM tasks WHERE start_ns < ?", (before_ns,)).rowcount
    return Pruned(calls, tasks)
