"""The recording rules: what each counter gains in five minutes, without `instance`.

Dashboards and alerts over hours and days add these up: fast for any number of processes, and right past a restart, a
gap and the end of what Prometheus keeps, as a gain is taken once, when it happens.
"""

from __future__ import annotations

from typing import Any

from queries import (
    ENVIRONMENT,
    FEATURE,
    LABELS,
    LATE,
    REPORTING,
    STEP,
    TENANT,
    WHERE,
    growth,
    kept,
    prometheus_name,
    recorded_name,
    total,
)

from tokenguard.facts import names

DAILY = {
    FEATURE: "tokenguard:feature_cost_usd:sum1d",
    TENANT: "tokenguard:tenant_cost_usd:sum1d",
    "": "tokenguard:cost_usd:sum1d",
}
"""Recorded: the spend of the last 24 hours by environment, and by what."""


def gains() -> list[dict[str, str]]:
    """What every counter gained, a minute late, so that samples on their way are counted."""
    return [
        {
            "record": recorded_name(metric),
            "expr": f"{total(growth(metric, prometheus_name(metric), STEP, LATE), *labels, *others)} != 0",
        }
        for metric, (labels, others) in LABELS.items()
    ]


def processes() -> dict[str, str]:
    """How many processes report: one that runs exports its counters whether it is called or not."""
    calls = prometheus_name(names.CALLS)
    return {"record": REPORTING, "expr": total(f"count by ({', '.join(WHERE)}, instance) ({calls}) ^ 0", *WHERE)}


def days() -> list[dict[str, str]]:
    """What the spend of days is compared by; as often as a query looks back for a sample, so that none is missed."""
    return [
        {"record": name, "expr": kept(names.COST_USD, "1d", (ENVIRONMENT, label) if label else (ENVIRONMENT,))}
        for label, name in DAILY.items()
    ]


def prometheus() -> dict[str, Any]:
    """The rules as a Prometheus rule file has them."""
    return {
        "groups": [
            {"name": "tokenguard-gains", "interval": STEP, "rules": [processes(), *gains()]},
            {"name": "tokenguard-days", "interval": STEP, "rules": days()},
        ]
    }
