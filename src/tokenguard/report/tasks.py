"""How tasks ended, and what a success costs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from tokenguard.facts import names
from tokenguard.facts.tuples import NamedTuple
from tokenguard.report.engine import Records
from tokenguard.report.measured import measured
from tokenguard.report.query import CUSTOM, DIMENSIONS, TIMES, Query, attribute, period


class TaskRow(NamedTuple):
    """One kind of task: a unit of business work. `None` is unknown: calls that came by OTLP do not say how it ended."""

    task: str
    succeeded: int | None
    failed: int | None
    cost_usd: float | None
    cost_per_success_usd: float | None


def tasks(records: Records, query: Query) -> list[TaskRow]:
    """The tasks of a query, the dearest kind first; then those of which nobody knows how they ended."""
    dialect = records.dialect
    tests, values = period(query)
    for dimension, glob in query.where:
        if dimension == "task":
            tests.append(dialect.glob("name"))
        elif dimension in DIMENSIONS and dimension not in names.ATTRIBUTION_KEYS:
            return []  # a task has no model and no call site
        else:
            key = attribute(dialect, "attribution", dimension.removeprefix(CUSTOM))
            tests.append(dialect.glob(f"coalesce({key}, '')"))
        values.append(dialect.pattern(glob))
    where = " AND ".join(tests)
    done: dict[str, tuple[int, int, float]] = {}
    for name, succeeded, failed, cost in (
        *records.rows(
            "SELECT name, count(*) FILTER (WHERE outcome = 'ok'), count(*) FILTER (WHERE outcome <> 'ok'), "  # noqa: S608
            f"sum(cost_usd) FROM {dialect.tasks} WHERE {where} GROUP BY 1",
            values,
        ),
        *_tasks_gone(records, query),
    ):
        had = done.get(name, (0, 0, 0.0))
        done[name] = (had[0] + succeeded, had[1] + failed, had[2] + cost)
    ended = [TaskRow(name, won, lost, cost, cost / won if won else None) for name, (won, lost, cost) in done.items()]
    untold = [
        TaskRow(name, None, None, group.measures["priced_usd"], None)
        for (name,), group in measured(records, replace(query, by=("task",)), ("priced_usd",)).groups.items()
        if name is not None and name not in done and not _has_ended(records, name)
    ]
    return [
        task
        for kind in (ended, untold)
        for task in sorted(kind, key=lambda task: (task.cost_usd is None, -(task.cost_usd or 0.0), task.task))
    ]


def _tasks_gone(records: Records, query: Query) -> list[tuple[Any, ...]]:
    """The sums of tasks that were pruned, by name; none where their days, or other conditions, are in question."""
    if records.summed is None or any(key != "task" for key, _ in query.where):
        return []
    tests, values = ["1 = 1"], []
    for bound, test in ((query.since_ns, "day >= ?"), (query.until_ns, "day < ?")):
        if bound is not None:
            tests.append(test)
            values.append(f"{datetime.fromtimestamp(bound // 10**9, UTC):{TIMES['day']}}")
    for _, glob in query.where:
        tests.append(records.dialect.glob("name"))
        values.append(glob)
    return records.rows(
        "SELECT name, sum(succeeded), sum(failed), sum(cost_usd) "  # noqa: S608
        f"FROM task_sums WHERE {' AND '.join(tests)} GROUP BY 1",
        values,
    )


def _has_ended(records: Records, name: str) -> bool:
    """Whether a task of this name ever ended: then those of a period are in flight, or were then."""
    return bool(records.rows(f"SELECT 1 FROM {records.dialect.tasks} WHERE name = ? LIMIT 1", (name,)))  # noqa: S608
