"""The dashboards' variables: what a person chooses, and two that Prometheus answers."""

from __future__ import annotations

from typing import Any

from queries import PICKERS, REPORTING, prometheus_name

from tokenguard.facts import names

PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}
BUCKET, RECORDED = "bucket", "recorded"
MINUTES_UP_TO, HOURS_UP_TO = 6 * 3600, 3 * 86400
"""The longest ranges, in seconds, that are shown by five minutes and by hours; a longer one is by days."""


def datasource(name: str, kind: str, label: str) -> dict[str, Any]:
    """A variable that chooses a data source, so that a dashboard works in any Grafana."""
    return {"type": "datasource", "name": name, "label": label, "query": kind, "refresh": 1, "hide": 0}


def asked(name: str, label: str, query: str, **more: Any) -> dict[str, Any]:
    """A variable whose values Prometheus gives, again whenever the range changes."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": PROMETHEUS,
        "query": {"query": query, "refId": "values"},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "hide": 0,
        **more,
    }


def several(name: str, query: str, **more: Any) -> dict[str, Any]:
    """A variable with many values to choose from. All of them is `.*`, which fits a missing label as well."""
    every = {"text": ["All"], "value": ["$__all"]}
    label = name.replace("_", " ").capitalize()
    return asked(name, label, query, multi=True, includeAll=True, allValue=".*", current=every, **more)


def picker(name: str) -> dict[str, Any]:
    """One of `PICKERS`."""
    return several(name, f"label_values({prometheus_name(names.CALLS)}, {PICKERS[name]})")


def computed(name: str, values: dict[str, str], otherwise: str) -> dict[str, Any]:
    """A hidden variable: the value whose condition, an expression of one series, holds; else another."""
    held = " or ".join(f'label_replace({expr}, "is", "{value}", "", "")' for value, expr in values.items())
    query = f'query_result({held} or label_replace(vector(1) unless on () ({held}), "is", "{otherwise}", "", ""))'
    current = {"text": otherwise, "value": otherwise}
    return asked(name, name, query, regex='/is="([^"]*)"/', multi=False, includeAll=False, hide=2, current=current)


def custom(name: str, label: str, values: dict[str, str]) -> dict[str, Any]:
    """A variable with fixed values, by their titles; the first is the default."""
    options = [{"text": title, "value": value, "selected": n == 0} for n, (title, value) in enumerate(values.items())]
    return {
        "type": "custom",
        "name": name,
        "label": label,
        "query": ", ".join(f"{title} : {value}" for title, value in values.items()),
        "options": options,
        "current": options[0],
        "multi": False,
        "includeAll": False,
        "hide": 0,
    }


def textbox(name: str, label: str, value: str) -> dict[str, Any]:
    """A variable that is typed in."""
    option = {"text": value, "value": value, "selected": True}
    return {
        "type": "textbox",
        "name": name,
        "label": label,
        "query": value,
        "options": [option],
        "current": option,
        "hide": 0,
    }


COMMON = (
    datasource("datasource", "prometheus", "Prometheus"),
    datasource("tempo", "tempo", "Traces"),
    computed(
        BUCKET,
        {
            "5m": f"vector($__range_s) <= {MINUTES_UP_TO}",
            "1h": f"(vector($__range_s) > {MINUTES_UP_TO}) <= {HOURS_UP_TO}",
        },
        "1d",
    ),
    computed(RECORDED, {"yes": f"count(last_over_time({REPORTING}[15m] offset ${{__range_s}}s)) > 0"}, "no|"),
)
"""`bucket` is how wide a bar is: five minutes, an hour, or a day. `recorded` fits no counter where what is recorded
covers the range, and otherwise every counter, which have no such label."""
