"""What several dashboards ask alike."""

from __future__ import annotations

from typing import Any

from queries import (
    FEATURE,
    LABELS,
    MODEL,
    OF_HISTOGRAMS,
    PICKERS,
    REPORTING,
    TEAM,
    TENANT,
    VERSION,
    grown,
    observed,
    picked,
    prometheus_name,
    quantile,
    recorded_name,
    total,
)
from variables import PROMETHEUS, custom

from tokenguard.facts import names
from tokenguard.facts.names import Metric

RANGE, BAR = "$__range", "$__interval"
AHEAD = f"-{BAR}"
"""A bar begins where it is drawn: it shows what follows, today's as well."""

SUCCEEDED, FAILED, BLOCKED, ABANDONED = (
    'outcome="ok"',
    'outcome="error"',
    'outcome="blocked"',
    'outcome="abandoned"',
)
FLOWING = 'type=~"input|output"'
"""Input tokens include those of the cache, and output those of reasoning."""
INPUT, READ = 'type="input"', 'type="cache_read"'
ENOUGH = 10
"""Calls in a step without which a share or a quantile is chance."""

BY = custom("by", "By", {name: PICKERS[name] for name in ("feature", *(n for n in PICKERS if n != "feature"))})


def ranged(metric: Metric, *by: str, matching: str = "") -> str:
    """What a counter gained in the dashboard's range."""
    return grown(metric, RANGE, by, matching)


def barred(metric: Metric, *by: str, matching: str = "") -> str:
    """What a counter gained in each bar."""
    return grown(metric, BAR, by, matching, AHEAD)


def trailing(metric: Metric, *by: str, matching: str = "") -> str:
    """What a counter gained up to each point of a line."""
    return grown(metric, BAR, by, matching)


def named(expr: str) -> str:
    """What is grouped by the picker `by`, by the label `value` instead, which a table's column can be called by."""
    return f'sum by (value) (label_replace({expr}, "value", "$1", "$by", "(.*)"))'


def earlier(expr: str, ago: str) -> str:
    """What an expression was, so long ago."""
    return f"last_over_time(({expr})[5m:5m] offset {ago})"


def versus(expr: str) -> dict[str, str]:
    """How much an expression is changed against yesterday and last week, by name."""
    return {
        name: f"{expr} / ({earlier(expr, ago)} > 0) - 1"
        for name, ago in (("vs a day earlier", "1d"), ("vs a week earlier", "7d"))
    }


def p(q: float, metrics: tuple[Metric, ...], window: str, *by: str) -> str:
    """A quantile for what the pickers choose, where calls are enough to have one."""
    labels = picked(OF_HISTOGRAMS)
    return f"({quantile(q, metrics, labels, window, by)} and {observed(metrics, labels, window, by)} >= {2 * ENOUGH})"


# --- the month, which only what is recorded knows ---------------------------------------------------------------------

MONTH = "now/M"
UNRECORDED = "needs recording rules"
MONTH_LEFT = "(scalar(days_in_month()) * 86400 - (scalar(day_of_month()) - 1) * 86400 - time() % 86400)"


def recorded(metric: Metric, window: str, *by: str, matching: str = "", ago: str = "") -> str:
    """What a counter gained by the recording rules alone: right also beyond what Prometheus keeps of the counters."""
    moved = f" offset {ago}" if ago else ""
    return total(f"sum_over_time({recorded_name(metric)}{picked(LABELS[metric][0], matching)}[{window}]{moved})", *by)


def forecast(*by: str) -> str:
    """The whole month: what it has cost, and its rest at the pace of the last seven days, so far as they are known."""
    known = f"scalar(count_over_time(sum({REPORTING})[7d:5m]) * 300)"
    week = recorded(names.COST_USD, "7d", *by)
    return f"({recorded(names.COST_USD, RANGE, *by)} + {week} / {known} * {MONTH_LEFT})"


# --- annotations ------------------------------------------------------------------------------------------------------


def annotation(name: str, colour: str, expr: str, text: str) -> dict[str, Any]:
    """Moments at which an expression has a value, marked on every chart."""
    return {
        "name": name,
        "datasource": PROMETHEUS,
        "enable": True,
        "hide": False,
        "iconColor": colour,
        "expr": expr,
        "step": "5m",
        "titleFormat": name,
        "textFormat": text,
        "target": {"refId": "Anno", "expr": expr, "interval": "5m", "datasource": PROMETHEUS},
    }


_VERSIONS = total(f'last_over_time({recorded_name(names.CALLS)}{{{VERSION}!=""}}[10m])', FEATURE, VERSION)
_ELAPSED, _WINDOW = (prometheus_name(metric) for metric in (names.BUDGET_ELAPSED, names.BUDGET_WINDOW))
ANNOTATIONS = (
    annotation(
        "Prompt version first seen",
        "blue",
        f"{_VERSIONS} unless {total(f'last_over_time({recorded_name(names.CALLS)}[1d] offset 10m)', FEATURE, VERSION)}",
        f"{{{{{FEATURE}}}}}: {{{{{VERSION}}}}}",
    ),
    annotation(
        "Budget window began",
        "green",
        f"max by (job, budget) (resets({_ELAPSED}[10m]) > 0 and {_WINDOW} > 80000)",
        "{{budget}} of {{job}}",
    ),
    annotation(
        "New prices",
        "orange",
        f"max by (job) (resets({prometheus_name(names.PRICES_AGE)}[10m])) > 0",
        "{{job}} has a newer price table",
    ),
)

SPENDER = (TENANT, FEATURE, MODEL)
TEAMS = (TEAM, MODEL)
