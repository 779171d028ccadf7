"""The alert rules: one table, written as Prometheus rules, and Grafana's provisioning form made from those."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml
from boards import BLOCKED, COST, FLOWING, GUARD, HEALTH, INPUT, READ, SENT, WASTE
from panels import Board
from queries import FEATURE, PROVIDER, REQUEST_MODEL, gain, prometheus_name, share, total

from tokenguard.facts import names
from tokenguard.facts.names import Metric

RUNBOOKS = "runbooks"
"""Where the pages are, seen from an alert; `tokenguard grafana export --runbooks URL` puts an address in its place."""
FOLDER = "TokenGuard"
DATASOURCE = "prometheus"
"""The data source's uid in our compose file and in grafana/otel-lgtm."""
HEADER = """\
# Written by grafana/build.py: change grafana/alerting.py and run it again.
"""


@dataclass(frozen=True)
class Alert:
    """One rule. Its runbook is the page with its name."""

    name: str
    severity: str
    """`info`, `warning` or `critical`."""
    expr: str
    lasts: str
    """How long it must hold."""
    summary: str
    description: str
    board: Board
    panel: str
    """The panel that shows it."""

    def rule(self) -> dict[str, Any]:
        """As Prometheus has it."""
        shown = next(n for n, panel in enumerate(self.board.panels, 1) if panel.title == self.panel)
        return {
            "alert": self.name,
            "expr": self.expr + "\n",
            "for": self.lasts,
            "labels": {"severity": self.severity, "product": "tokenguard"},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{RUNBOOKS}/{self.name}.md",
                "__dashboardUid__": self.board.uid,
                "__panelId__": str(shown),
            },
        }


def grew(metric: Metric, window: str, matching: str = "", ago: str = "") -> str:
    """What a counter gained, whoever called."""
    return gain(prometheus_name(metric) + (f"{{{matching}}}" if matching else ""), window, ago)


# --- spend ------------------------------------------------------------------------------------------------------------

DAY = total(grew(names.COST_USD, "1d"), FEATURE)
DAYS = f"({DAY})[7d:1d] offset 1d"
MEAN, DEVIATION = f"avg_over_time({DAYS})", f"stddev_over_time({DAYS})"
FLOOR = 0.1
"""Least deviation, as a share of the mean: a steady spend has hardly any, and the smallest change would be an alarm."""
ANOMALY = f"""\
(
  ({DAY} - {MEAN})
  / (({DEVIATION} > {FLOOR} * {MEAN}) or {FLOOR} * {MEAN})
) > 3
and on ({FEATURE}) {DAY} > 1
and on ({FEATURE}) count_over_time({DAYS}) >= 3"""


def tokens_per_call(window: str, ago: str = "") -> str:
    """Tokens of a call by feature."""
    sent = total(grew(names.CALLS, window, SENT, ago), FEATURE)
    return f"{total(grew(names.TOKENS, window, FLOWING, ago), FEATURE)} / ({sent} > 20)"


def hit_share(window: str) -> str:
    """The share of input that was read from a cache, by feature."""
    return share(total(grew(names.TOKENS, window, READ), FEATURE), total(grew(names.TOKENS, window, INPUT), FEATURE))


# --- budgets ----------------------------------------------------------------------------------------------------------

BUDGET = "max by (budget, key)"
SPENT, LIMIT, RESERVED, ELAPSED, WINDOW = (
    f"{BUDGET} ({prometheus_name(metric)})"
    for metric in (
        names.BUDGET_SPENT_USD,
        names.BUDGET_LIMIT_USD,
        names.BUDGET_RESERVED_USD,
        names.BUDGET_ELAPSED,
        names.BUDGET_WINDOW,
    )
)
REMAINING = f"({LIMIT} - {SPENT})"
TIME_LEFT = f"((1 - {ELAPSED}) * {WINDOW})"


def burn(window: str) -> str:
    """The pace of a window against an even spend."""
    return f"{pace(window)} / ({LIMIT} / {WINDOW})"


def pace(window: str) -> str:
    """USD per second."""
    return f"{BUDGET} (rate({prometheus_name(names.BUDGET_SPENT_USD)}[{window}]))"


def used(share_: float) -> str:
    """Budgets of which this share is spent."""
    return f"{SPENT} / {LIMIT} >= {share_}"


TOO_FAST = f"""\
{burn("1h")} > 3
and {burn("5m")} > 3
and {REMAINING} / ({pace("1h")} > 0) < {TIME_LEFT}
and {REMAINING} > 0"""

# --- waste and failures -----------------------------------------------------------------------------------------------

RETRIES = total(grew(names.RETRIES, "15m"), FEATURE)
SENT_LATELY = total(grew(names.CALLS, "15m", SENT), FEATURE)


def blocked(window: str) -> str:
    """The share of calls that the guard refused."""
    return share(total(grew(names.CALLS, window, BLOCKED)), total(grew(names.CALLS, window)))


UNPRICED = total(grew(names.UNPRICED_CALLS, "1h"), FEATURE)
OVERFLOW = " + ".join(
    f"(sum({part}) or vector(0))"
    for part in (
        grew(names.SERIES_OVERFLOW, "1h"),
        grew(names.DROPPED_RECORDS, "1h"),
        'count_over_time({otel_metric_overflow="true"}[1h])',
    )
)

CIRCUITS = f"max by (breaker, {PROVIDER}, {REQUEST_MODEL}) ({prometheus_name(names.BREAKER_STATE)})"

ON_BUDGET = "Budget {{ $labels.budget }} {{ $labels.key }}"
ON_FEATURE = f"Feature {{{{ $labels.{FEATURE} }}}}"

GROUPS: dict[str, tuple[str, tuple[Alert, ...]]] = {
    "tokenguard-spend": (
        "15m",
        (
            Alert(
                "TokenGuardSpendAnomaly",
                "warning",
                ANOMALY,
                "30m",
                ON_FEATURE + " spends far more than in the past week",
                "The last 24 hours cost {{ $value | humanize }} deviations more than the mean of the week before.",
                COST,
                "Spend by $by",
            ),
            Alert(
                "TokenGuardTokensPerCallJump",
                "warning",
                f"{tokens_per_call('1d')} / ({tokens_per_call('1d', '7d')}) > 1.5",
                "1h",
                ON_FEATURE + " needs more tokens per call",
                "Calls of the last 24 hours have {{ $value | humanize }} times the tokens of those a week ago.",
                COST,
                "Tokens per call",
            ),
            Alert(
                "TokenGuardCacheHitDrop",
                "warning",
                f"({hit_share('1d')}) - ({hit_share('1h')}) > 0.2\n"
                f"and on ({FEATURE}) {total(grew(names.CALLS, '1h', SENT), FEATURE)} > 20",
                "15m",
                ON_FEATURE + " no longer finds its prompts in the cache",
                "The share of input read from the cache is {{ $value | humanizePercentage }} lower in the last hour "
                "than over the day.",
                WASTE,
                "Cache hit share by feature",
            ),
            Alert(
                "TokenGuardUnpricedSpend",
                "warning",
                f"{UNPRICED} / ({total(grew(names.CALLS, '1h', SENT), FEATURE)} > 0) > 0.01",
                "10m",
                ON_FEATURE + " calls a model without a known price",
                "{{ $value | humanizePercentage }} of the last hour's calls have no known cost: sums lack them.",
                COST,
                "Unpriced calls",
            ),
        ),
    ),
    "tokenguard-budgets": (
        "1m",
        (
            Alert(
                "TokenGuardBudgetNearing",
                "info",
                f"{used(0.7)} < 0.9",
                "0m",
                ON_BUDGET + " is 70 % spent",
                "{{ $value | humanizePercentage }} of the limit is spent.",
                GUARD,
                "Used",
            ),
            Alert(
                "TokenGuardBudgetAlmostSpent",
                "warning",
                f"{used(0.9)} < 1",
                "0m",
                ON_BUDGET + " is 90 % spent",
                "{{ $value | humanizePercentage }} of the limit is spent.",
                GUARD,
                "Used",
            ),
            Alert(
                "TokenGuardBudgetSpent",
                "critical",
                used(1),
                "0m",
                ON_BUDGET + " is spent",
                "{{ $value | humanizePercentage }} of the limit is spent. What the policy says for it happens now.",
                GUARD,
                "Used",
            ),
            Alert(
                "TokenGuardBudgetBurn",
                "critical",
                TOO_FAST,
                "2m",
                ON_BUDGET + " is spent too fast",
                "At {{ $value | humanize }} times an even pace, it is spent before its window ends.",
                GUARD,
                "Burn rate",
            ),
        ),
    ),
    "tokenguard-guard": (
        "1m",
        (
            Alert(
                "TokenGuardRetryStorm",
                "critical",
                f"{RETRIES} / ({SENT_LATELY} > 0) > 0.5\nand on ({FEATURE}) {RETRIES} > 20",
                "5m",
                ON_FEATURE + " repeats its calls over and over",
                "{{ $value | humanize }} resends for each call in the last 15 minutes.",
                HEALTH,
                "Resends by model",
            ),
            Alert(
                "TokenGuardBlocking",
                "critical",
                f"{blocked('15m')} > 0.1\n"
                f"and {blocked('15m')} > 3 * ({blocked('1d')})\n"
                f"and {total(grew(names.CALLS, '15m', BLOCKED))} > 10",
                "5m",
                "The guard suddenly blocks many calls",
                "{{ $value | humanizePercentage }} of the last 15 minutes' calls were refused.",
                GUARD,
                "Decisions by action",
            ),
            Alert(
                "TokenGuardBreakerOpen",
                "warning",
                f"{CIRCUITS} == 2",
                "5m",
                "Breaker {{ $labels.breaker }} is open for {{ $labels.gen_ai_request_model }}",
                "The provider has failed again and again, and calls to this model are refused.",
                HEALTH,
                "Breakers",
            ),
        ),
    ),
    "tokenguard-telemetry": (
        "5m",
        (
            Alert(
                "TokenGuardTelemetryOverflow",
                "warning",
                f"{OVERFLOW} > 0",
                "15m",
                "Telemetry is incomplete or coarser than it should be",
                "In the last hour {{ $value | humanize }} values were counted under `other`, overflowed, or were lost.",
                HEALTH,
                "Values counted as other by label",
            ),
            Alert(
                "TokenGuardPricesOld",
                "info",
                f"max({prometheus_name(names.PRICES_AGE)}) > 120 * 86400",
                "1h",
                "The price table is old",
                "Its newest price took effect {{ $value | humanizeDuration }} ago: update genai-prices.",
                HEALTH,
                "Age of the price table",
            ),
        ),
    ),
}


def prometheus() -> dict[str, Any]:
    """The rules as a Prometheus rule file has them."""
    return {
        "groups": [
            {"name": name, "interval": interval, "rules": [alert.rule() for alert in alerts]}
            for name, (interval, alerts) in GROUPS.items()
        ]
    }


def grafana(rules: dict[str, Any]) -> dict[str, Any]:
    """Prometheus rules in the form that Grafana provisions, for evaluation by Grafana.

    A Prometheus rule fires for each series that its expression returns, whatever the value. Grafana wants a condition,
    so a second step asks whether there is a number, as Grafana's own import of Prometheus rules does.
    """
    return {
        "apiVersion": 1,
        "groups": [
            {
                "orgId": 1,
                "name": group["name"],
                "folder": FOLDER,
                "interval": group["interval"],
                "rules": [_managed(rule) for rule in group["rules"]],
            }
            for group in rules["groups"]
        ],
    }


def _managed(rule: dict[str, Any]) -> dict[str, Any]:
    annotations = {key: value.replace("$value", "$values.query.Value") for key, value in rule["annotations"].items()}
    query = {"refId": "query", "expr": rule["expr"], "instant": True, "range": False, "editorMode": "code"}
    found = {"refId": "found", "type": "math", "expression": "is_number($query) || is_nan($query) || is_inf($query)"}
    return {
        "uid": uid(rule["alert"]),
        "title": rule["alert"],
        "condition": "found",
        "data": [
            {
                "refId": "query",
                "relativeTimeRange": {"from": 600, "to": 0},
                "datasourceUid": DATASOURCE,
                "model": query,
            },
            {"refId": "found", "datasourceUid": "__expr__", "model": found},
        ],
        "dashboardUid": annotations["__dashboardUid__"],
        "panelId": int(annotations["__panelId__"]),
        "noDataState": "OK",
        "execErrState": "Error",
        "for": rule["for"],
        "labels": rule["labels"],
        "annotations": annotations,
        "isPaused": False,
    }


def uid(name: str) -> str:
    """Grafana's key of a rule: `TokenGuardBudgetSpent` is `tokenguard-budget-spent`.

    >>> uid("TokenGuardBudgetSpent")
    'tokenguard-budget-spent'
    """
    return "tokenguard" + re.sub(r"(?=[A-Z])", "-", name.removeprefix("TokenGuard")).lower()


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, and nothing folded."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def as_yaml(document: dict[str, Any]) -> str:
    """A document as it is committed."""
    return HEADER + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)
