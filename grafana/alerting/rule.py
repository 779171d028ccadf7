"""An alert rule, and the two forms it is written in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import runbooks
import yaml
from panels import Board
from queries import ENVIRONMENT, SERVICE

GRAFANA = "http://localhost:3000"
"""Where Grafana is, for the runbooks' links; `tokenguard grafana export --grafana URL` puts another in its place."""
FOLDER = "TokenGuard"
DATASOURCE = "prometheus"
"""The data source's uid in our compose file and in grafana/otel-lgtm."""
ON_SERVICE = f"Service {{{{ $labels.{SERVICE} }}}}"
PLACE = (SERVICE, ENVIRONMENT)


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
        return {
            "alert": self.name,
            "expr": self.expr + "\n",
            "for": self.lasts,
            "labels": {"severity": self.severity, "product": "tokenguard"},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{GRAFANA}/d/{runbooks.UID}/{self.name}?viewPanel={runbooks.number(self.name)}",
                "__dashboardUid__": self.board.uid,
                "__panelId__": str(self.board.number(self.panel)),
            },
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


def as_yaml(document: dict[str, Any], source: str) -> str:
    """A document as it is committed."""
    header = f"# Written by grafana/build.py: change grafana/{source} and run it again.\n"
    return header + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)
