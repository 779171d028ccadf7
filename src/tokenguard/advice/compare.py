"""Which of two versions is the better buy: cost per success of two arms, with an interval, from the recorded tasks.

An arm is the tasks with one value of a key, such as `prompt_version=v14`; or the calls, for what no task says, such as
`model=gpt-4o-mini`. Compared is the ratio of what a success costs. Its interval is a bootstrap over tasks, by
percentiles of the logarithm; its verdict is a word only where the interval excludes that there is no difference.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from tokenguard.advice.runs import of_arm
from tokenguard.facts import names
from tokenguard.facts.errors import TokenGuardError
from tokenguard.facts.tuples import NamedTuple
from tokenguard.report.engine import Records, interpolated
from tokenguard.report.query import COLUMNS, CUSTOM, Query, attribute, conditions, period

ROUTES: Final = ("route_arm", "route_rule", "route_version")
"""What routes say of calls, and no task does: a task is on the side on which its calls were."""
RESAMPLES: Final = 2_000
CONFIDENCE: Final = 0.95
FEW: Final = 10
"""Tasks of an arm below which nothing is said: a bootstrap of so few is too sure of itself."""


class Task(NamedTuple):
    """One task: what it cost (USD), how many calls it made, whether it succeeded, and how long it took (s)."""

    usd: float
    calls: int
    ok: bool
    seconds: float


class Arm(NamedTuple):
    """One side of a comparison."""

    key: str
    value: str
    unit: str
    """`task`, or `call` where no task says the key."""
    tasks: tuple[Task, ...]
    input_tokens: float | None
    """A call, on average."""
    output_tokens: float | None
    latency_p50_s: float | None
    latency_p95_s: float | None
    """Of its calls."""

    @property
    def name(self) -> str:
        """As it was asked for."""
        return f"{self.key}={self.value}"

    @property
    def successes(self) -> int:
        """How many of its tasks succeeded."""
        return sum(task.ok for task in self.tasks)

    @property
    def usd_per_success(self) -> float | None:
        """What a success costs, the failures paid by the successes; `None` without one."""
        return _per_success(self.tasks)

    @property
    def success_share(self) -> float | None:
        """The share of its tasks that succeeded."""
        return self.successes / len(self.tasks) if self.tasks else None


class Comparison(NamedTuple):
    """The second arm against the first."""

    first: Arm
    second: Arm
    ratio: float | None
    """What a success of the second costs, over that of the first; `None` where one of them has none."""
    low: float | None
    high: float | None
    """The interval of the ratio."""
    more_tasks: int | None
    """How many more tasks of each arm would tell a difference of this size; `None` where it is told, or unknowable."""

    @property
    def verdict(self) -> str:
        """`cheaper`, `dearer`, or `undecided`: of the second arm."""
        if self.low is None or self.high is None:
            return "undecided"
        return "cheaper" if self.high < 1 else "dearer" if self.low > 1 else "undecided"


def compare(records: Records, query: Query, first: str, second: str, task: str | None, seed: int = 1) -> Comparison:
    """Compare the tasks of two arms, each given as `key=value`, of the tasks named `task` (a glob) if one is.

    The tasks of an arm are those with this value in their attribution; of an arm of a route, those whose calls were in
    it. For what neither says (`model=`, and routed calls outside of tasks), each call counts as a task of its own,
    which succeeds if it is answered. Raises `TokenGuardError` where an arm is none.
    """
    one, other = (_arm(records, query, text, task) for text in (first, second))
    if one.unit != other.unit and one.tasks and other.tasks:
        raise TokenGuardError(
            f"{one.name} has {one.unit}s and {other.name} has {other.unit}s: they cannot be compared. Name tasks that "
            "both have, with --task"
        )
    return compared(one, other, seed)


def compared(first: Arm, second: Arm, seed: int = 1) -> Comparison:
    """The comparison of two arms."""
    a, b = first.usd_per_success, second.usd_per_success
    ratio = b / a if a and b is not None else None
    if ratio is None or min(len(first.tasks), len(second.tasks)) < FEW:
        return Comparison(first, second, ratio, None, None, None)
    low, high = interval(first.tasks, second.tasks, seed)
    return Comparison(first, second, ratio, low, high, _more(first, second, ratio, low, high))


def interval(first: Sequence[Task], second: Sequence[Task], seed: int = 1) -> tuple[float, float]:
    """The interval of the ratio of the costs of a success: arms without a success make it open at that end."""
    choose = random.Random(seed)  # noqa: S311 - resampling
    logs = []
    for _ in range(RESAMPLES):
        a = _per_success(choose.choices(first, k=len(first)))
        b = _per_success(choose.choices(second, k=len(second)))
        logs.append(_log(b) - _log(a) if a != b else 0.0)
    logs.sort()
    # A resample of n varies by n - 1 of n of what the tasks do: the interval is that much wider.
    wider = math.sqrt(1 + 1 / (min(len(first), len(second)) - 1))
    middle = interpolated(logs, 0.5) or 0.0
    ends = (interpolated(logs, q) or 0.0 for q in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    low, high = (middle + (end - middle) * wider if math.isfinite(end) else end for end in ends)
    return math.exp(low), math.exp(high) if high < 700 else math.inf


def _log(usd: float | None) -> float:
    return math.inf if usd is None else math.log(usd) if usd > 0 else -math.inf


def _per_success(tasks: Sequence[Task]) -> float | None:
    successes = sum(task.ok for task in tasks)
    return math.fsum(task.usd for task in tasks) / successes if successes else None


def _more(first: Arm, second: Arm, ratio: float, low: float, high: float) -> int | None:
    """How many more tasks: an interval shrinks with the root of their number."""
    if low > 1 or high < 1 or ratio in (0, 1) or not (math.isfinite(high) and low > 0):
        return None
    half = (math.log(high) - math.log(low)) / 2
    have = min(len(first.tasks), len(second.tasks))
    need = math.ceil(have * (half / abs(math.log(ratio))) ** 2)
    return max(1, need - have)


# --- the arms --------------------------------------------------------------------------------------------------------


def _arm(records: Records, query: Query, text: str, task: str | None) -> Arm:
    key, sign, value = text.partition("=")
    if not sign or not key or not value:
        raise TokenGuardError(f"{text!r} is no arm: write key=value, as in prompt_version=v14 or model=gpt-4o-mini")
    ended = of_arm(records, query, key, value, task) if key in ROUTES else []
    if ended:
        unit, tasks = (
            "task",
            tuple(Task(one.usd, one.calls, one.ok, (one.end_ns - one.start_ns) / 1e9) for one in ended),
        )
    elif key in ROUTES or (key in COLUMNS and key not in names.ATTRIBUTION_KEYS):
        unit, tasks = "call", _single_calls(records, _of(query, key, value, task))
    else:
        unit, tasks = "task", _tasks(records, query, key, value, task)
    return Arm(key, value, unit, tasks, *_figures(records, _of(query, key, value, task)))


def _tasks(records: Records, query: Query, key: str, value: str, task: str | None) -> tuple[Task, ...]:
    dialect = records.dialect
    tests, values = period(query)
    if task is not None:
        tests.append(dialect.glob("name"))
        values.append(task)
    tests.append(f"{attribute(dialect, 'attribution', key.removeprefix(CUSTOM))} = ?")
    found = records.rows(
        f"SELECT cost_usd, calls, outcome, duration_ns FROM {dialect.tasks} "  # noqa: S608 - our own names
        f"WHERE {' AND '.join(tests)} ORDER BY start_ns",
        (*values, value),
    )
    return tuple(Task(usd, calls, outcome == names.OK, ns / 1e9) for usd, calls, outcome, ns in found)


def _of(query: Query, key: str, value: str, task: str | None) -> Query:
    """The calls of an arm."""
    glob = "".join(f"[{letter}]" if letter in "*?[" else letter for letter in value)
    return replace(query, where=(*query.where, (key, glob), *((("task", task),) if task is not None else ())))


def _single_calls(records: Records, query: Query) -> tuple[Task, ...]:
    """Each call as a task of its own; one that was made again, with a larger model, is one task with that."""
    dialect = records.dialect
    where, values = conditions(query, dialect)
    again, request = (attribute(dialect, "more", name) for name in (names.ROUTE_ESCALATION, names.FINGERPRINT))
    found = records.rows(
        f"SELECT coalesce(cost_usd, 0.0), outcome, duration_ns, {again}, {request} FROM {dialect.calls} "  # noqa: S608
        f"WHERE {where} AND outcome <> 'blocked' AND (cost_usd IS NOT NULL OR outcome = 'error') ORDER BY start_ns",
        values,
    )
    tasks: list[Task] = []
    at: dict[str, int] = {}
    for usd, outcome, ns, escalated, fingerprint in found:
        one = Task(usd, 1, outcome == names.OK, ns / 1e9)
        first = at.get(fingerprint) if escalated is not None else None
        if first is None:
            at[fingerprint] = len(tasks)
            tasks.append(one)
        else:
            before = tasks[first]
            tasks[first] = Task(before.usd + one.usd, 2, before.ok or one.ok, before.seconds + one.seconds)
    return tuple(tasks)


def _figures(records: Records, query: Query) -> tuple[float | None, float | None, float | None, float | None]:
    """Tokens a call and latency of an arm's calls."""
    where, values = conditions(query, records.dialect)
    latency = "duration_ns / 1000000000.0"
    quantiles = ", ".join(records.dialect.quantile(latency, q) for q in (0.5, 0.95))
    ((sent, generated, p50, p95),) = records.rows(
        f"SELECT avg(input_tokens), avg(output_tokens), {quantiles} FROM {records.dialect.calls} "  # noqa: S608
        f"WHERE {where} AND outcome = 'ok'",
        values,
    )
    return sent, generated, p50, p95
