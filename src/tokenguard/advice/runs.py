"""Tasks by what their calls say and they do not: on which side of a route they were.

A store has a task's name, time, cost and outcome, and of each call the run of the task that it was made in. A run is
the task of its name that was under way when its calls were made; of several at once, the one that cost as much.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, Final

from tokenguard.facts import names
from tokenguard.facts.tuples import NamedTuple
from tokenguard.report.engine import Records
from tokenguard.report.query import Query, attribute, conditions, expression, period

AT_ONCE: Final = 256
"""So many tasks of a name, the last ones begun before a run's first call, are looked through for it."""


class Ended(NamedTuple):
    """A task that has ended."""

    start_ns: int
    end_ns: int
    usd: float
    calls: int
    ok: bool


def of_arm(records: Records, query: Query, key: str, value: str, task: str | None) -> list[Ended]:
    """The ended tasks whose calls have this value, and none has another one: of the calls of `query`."""
    dialect = records.dialect
    run, arm = attribute(dialect, "more", names.TASK_RUN), expression(key, dialect)
    where, values = conditions(query, dialect)
    if task is not None:
        where += f" AND {dialect.glob('task')}"
        values.append(task)
    chosen = {
        (name, number)
        for name, number in records.rows(
            f"SELECT task, {run} FROM {dialect.calls} WHERE {where} AND {run} IS NOT NULL AND {arm} IS NOT NULL "  # noqa: S608
            f"GROUP BY 1, 2 HAVING min({arm}) = ? AND max({arm}) = ?",
            (*values, value, value),
        )
    }
    tests, values = period(query)
    whole = records.rows(
        f"SELECT task, {run}, min(start_ns), max(start_ns), sum(cost_usd) FROM {dialect.calls} "  # noqa: S608
        f"WHERE {' AND '.join(tests)} AND {run} IS NOT NULL GROUP BY 1, 2",
        values,
    )
    tasks = _ended(records, query)
    found = (
        _task(tasks.get(name, []), first, last, usd or 0.0)
        for name, number, first, last, usd in whole
        if (name, number) in chosen
    )
    return [each for each in found if each is not None]


def _ended(records: Records, query: Query) -> dict[str, list[Ended]]:
    """The ended tasks by name, in the order of their beginnings."""
    tests, values = period(query)
    rows: list[tuple[Any, ...]] = records.rows(
        f"SELECT name, start_ns, duration_ns, cost_usd, calls, outcome FROM {records.dialect.tasks} "  # noqa: S608
        f"WHERE {' AND '.join(tests)} ORDER BY start_ns",
        values,
    )
    tasks: dict[str, list[Ended]] = {}
    for name, start, took, usd, calls, outcome in rows:
        tasks.setdefault(name, []).append(Ended(start, start + took, usd, calls, outcome == names.OK))
    return tasks


def _task(tasks: list[Ended], first_ns: int, last_ns: int, usd: float) -> Ended | None:
    """The task within which a run's calls were made."""
    until = bisect_right(tasks, first_ns, key=lambda task: task.start_ns)
    around = [task for task in tasks[max(0, until - AT_ONCE) : until] if task.end_ns >= last_ns]
    return min(around, key=lambda task: abs(task.usd - usd), default=None)
