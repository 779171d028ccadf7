"""The alert rules, by group and how often each is evaluated."""

from __future__ import annotations

from typing import Any

from . import budgets, calls, spend, telemetry
from .rule import as_yaml, grafana

__all__ = ["as_yaml", "grafana", "prometheus"]

GROUPS = {
    "tokenguard-spend": ("15m", spend.ALERTS),
    "tokenguard-budgets": ("1m", budgets.ALERTS),
    "tokenguard-calls": ("1m", calls.ALERTS),
    "tokenguard-telemetry": ("5m", telemetry.ALERTS),
}


def prometheus() -> dict[str, Any]:
    """The rules as a Prometheus rule file has them."""
    return {
        "groups": [
            {"name": name, "interval": interval, "rules": [alert.rule() for alert in alerts]}
            for name, (interval, alerts) in GROUPS.items()
        ]
    }
