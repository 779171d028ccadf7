"""Grafana's classic dashboard model, as far as it is needed: panels, variables, links, and laying them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from queries import FEATURE, MODEL, ROUTE, TENANT, prometheus_name

from tokenguard.facts import names

SCHEMA = 42
WIDTH = 24
INTERVAL = "1m"
"""How often OpenTelemetry exports; the narrowest bar."""
TAG = "tokenguard"

PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}
TEMPO = "${tempo}"

USD, SHARE, COUNT, TOKENS, SECONDS = "currencyUSD", "percentunit", "short", "short", "s"

SPAN_ATTRIBUTES = {
    TENANT: names.attribution_attribute("tenant"),
    FEATURE: names.attribution_attribute("feature"),
    ROUTE: names.attribution_attribute("route"),
    MODEL: names.RESPONSE_MODEL,
}


@dataclass(frozen=True)
class Query:
    """One target: its expression, and the legend or, in a table, the column it fills."""

    expr: str
    legend: str = "__auto"
    exemplars: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel. `kind` is Grafana's plugin; `width` is of 24 columns, `height` in Grafana's rows."""

    kind: str
    title: str
    unit: str
    queries: Sequence[Query]
    description: str
    width: int = 8
    height: int = 8
    time_from: str | None = None
    """A time range of its own, such as `now/d`."""
    traces: Sequence[str] = ()
    """The labels by which a series leads to its traces."""
    defaults: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    """Of a table: the columns' titles, by label or by the legend of a query, in order."""
    units: dict[str, str] = field(default_factory=dict)
    """Of a table: the columns that have another unit."""

    @property
    def instant(self) -> bool:
        """Whether it shows one moment; otherwise a range of time."""
        return self.kind not in ("timeseries", "state-timeline")

    def model(self, number: int, x: int, y: int) -> dict[str, Any]:
        """The panel as JSON, at a place."""
        model: dict[str, Any] = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": PROMETHEUS,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "interval": INTERVAL,
            "targets": [self._target(index, query) for index, query in enumerate(self.queries)],
            "fieldConfig": {"defaults": self._defaults(), "overrides": self._overrides()},
            "options": {**OPTIONS[self.kind], **self.options},
        }
        if self.time_from is not None:
            model["timeFrom"] = self.time_from
        if self.kind == "table":
            model["transformations"] = self._transformations()
        return model

    def _target(self, index: int, query: Query) -> dict[str, Any]:
        return {
            "refId": chr(ord("A") + index),
            "datasource": PROMETHEUS,
            "expr": query.expr,
            "editorMode": "code",
            "legendFormat": query.legend,
            "instant": self.instant,
            "range": not self.instant,
            "exemplar": query.exemplars,
            "format": "table" if self.kind == "table" else "time_series",
        }

    def _defaults(self) -> dict[str, Any]:
        defaults = {"unit": self.unit, **self.defaults}
        if self.kind == "timeseries":
            defaults = {"custom": LINE, **defaults}
        if self.traces:
            defaults["links"] = [traces_link({label: f"${{__field.labels.{label}}}" for label in self.traces})]
        if self.kind == "table" and self.traces:
            cells = {label: f"${{__data.fields.{self.columns[label]}}}" for label in self.traces}
            defaults["links"] = [traces_link(cells)]
        return defaults

    def _overrides(self) -> list[dict[str, Any]]:
        return [
            {"matcher": {"id": "byName", "options": column}, "properties": [{"id": "unit", "value": unit}]}
            for column, unit in self.units.items()
        ]

    def _transformations(self) -> list[dict[str, Any]]:
        legends = {f"Value #{chr(ord('A') + n)}": query.legend for n, query in enumerate(self.queries)}
        if len(self.queries) == 1:
            legends = {"Value": self.queries[0].legend}
        renamed = {**self.columns, **{field: self.columns[legend] for field, legend in legends.items()}}
        places = {title: place for place, title in enumerate(self.columns.values())}
        return [
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True},
                    "renameByName": {name: title for name, title in renamed.items() if name not in legends.values()},
                    "indexByName": {name: places[title] for name, title in renamed.items() if name in renamed},
                },
            },
        ]


LINE = {"drawStyle": "line", "lineWidth": 2, "fillOpacity": 10, "showPoints": "never", "spanNulls": True}
BARS = {
    "drawStyle": "bars",
    "lineWidth": 0,
    "fillOpacity": 80,
    "showPoints": "never",
    "stacking": {"mode": "normal", "group": "A"},
}
TOOLTIP = {"mode": "multi", "sort": "desc"}
REDUCE = {"calcs": ["lastNotNull"], "fields": "", "values": False}
OPTIONS: dict[str, dict[str, Any]] = {
    "stat": {"reduceOptions": REDUCE, "colorMode": "value", "graphMode": "none", "textMode": "value"},
    "bargauge": {
        "reduceOptions": REDUCE,
        "orientation": "horizontal",
        "displayMode": "basic",
        "showUnfilled": False,
        "valueMode": "text",
    },
    "timeseries": {
        "legend": {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []},
        "tooltip": TOOLTIP,
    },
    "state-timeline": {
        "mergeValues": True,
        "showValue": "never",
        "legend": {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []},
        "tooltip": TOOLTIP,
    },
    "table": {"showHeader": True, "cellHeight": "sm"},
}


def stat(title: str, unit: str, expr: str, description: str, **more: Any) -> Panel:
    """One number."""
    return Panel("stat", title, unit, [Query(expr)], description, **{"width": 4, "height": 4, **more})


def steps(*at: tuple[float | None, str]) -> dict[str, Any]:
    """Colours from values on: `steps((None, "green"), (0.8, "red"))`."""
    listed = [{"value": value, "color": colour} for value, colour in at]
    return {"thresholds": {"mode": "absolute", "steps": listed}, "color": {"mode": "thresholds"}}


def bars(title: str, unit: str, expr: str, legend: str, description: str, **more: Any) -> Panel:
    """What came in each interval, stacked."""
    return Panel(
        "timeseries", title, unit, [Query(expr, legend)], description, **{"defaults": {"custom": BARS}, **more}
    )


def lines(title: str, unit: str, queries: Sequence[Query], description: str, **more: Any) -> Panel:
    """Values over time."""
    return Panel("timeseries", title, unit, queries, description, **more)


def ranking(title: str, unit: str, expr: str, label: str, description: str, **more: Any) -> Panel:
    """The largest ten by a label."""
    # Sorted by the query: Grafana shows series in the order they come in.
    query = Query(f"sort_desc(topk(10, {expr}))", f"{{{{{label}}}}}")
    return Panel("bargauge", title, unit, [query], description, **{"defaults": {"min": 0}, **more})


def traces_link(values: dict[str, str]) -> dict[str, Any]:
    """A link to the traces whose spans have these values, which are Grafana's own variables, by metric label."""
    conditions = " && ".join(f'span.{SPAN_ATTRIBUTES[label]} = "{value}"' for label, value in values.items())
    traceql = f"{{ {conditions} }}".replace('"', '\\"')
    query = f'{{"refId":"A","datasource":{{"type":"tempo","uid":"{TEMPO}"}},"queryType":"traceql","query":"{traceql}"}}'
    panes = (
        f'{{"traces":{{"datasource":"{TEMPO}","queries":[{query}],"range":{{"from":"${{__from}}","to":"${{__to}}"}}}}}}'
    )
    # Grafana fills in its variables before anything is decoded, so these stay as they are.
    url = f"/explore?schemaVersion=1&orgId=1&panes={quote(panes, safe='${}:,._')}"
    return {"title": "Traces", "url": url, "targetBlank": True}


# --- variables -------------------------------------------------------------------------------------------------------


def datasource(name: str, kind: str, label: str) -> dict[str, Any]:
    """A variable that chooses a data source, so that a dashboard works in any Grafana."""
    return {"type": "datasource", "name": name, "label": label, "query": kind, "refresh": 1, "hide": 0}


def chooser(name: str, metric: str, label: str) -> dict[str, Any]:
    """A variable with the values of a metric's label. All of them is `.*`, which fits a missing label as well."""
    query = f"label_values({metric}, {label})"
    return {
        "type": "query",
        "name": name,
        "label": name.capitalize(),
        "datasource": PROMETHEUS,
        "query": {"query": query, "refId": "values"},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "hide": 0,
    }


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


VARIABLES = (
    datasource("datasource", "prometheus", "Prometheus"),
    datasource("tempo", "tempo", "Traces"),
    *(
        chooser(name, prometheus_name(names.CALLS), label)
        for name, label in (("tenant", TENANT), ("feature", FEATURE), ("route", ROUTE), ("model", MODEL))
    ),
)


@dataclass(frozen=True)
class Board:
    """One dashboard: its panels from left to right, row after row."""

    uid: str
    title: str
    description: str
    panels: Sequence[Panel]
    variables: Sequence[dict[str, Any]] = ()
    time_from: str = "now-24h"

    def model(self) -> dict[str, Any]:
        """The dashboard as JSON."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": [TAG],
            "schemaVersion": SCHEMA,
            "version": 1,
            "editable": True,
            "timezone": "utc",
            "time": {"from": self.time_from, "to": "now"},
            "refresh": "1m",
            "graphTooltip": 1,
            "links": [
                {
                    "type": "dashboards",
                    "title": "TokenGuard",
                    "tags": [TAG],
                    "icon": "external link",
                    "tooltip": "",
                    "url": "",
                    "asDropdown": False,
                    "targetBlank": False,
                    "includeVars": True,
                    "keepTime": True,
                }
            ],
            "templating": {"list": [*VARIABLES, *self.variables]},
            "annotations": {"list": []},
            "panels": self._laid_out(),
        }

    def _laid_out(self) -> list[dict[str, Any]]:
        models, x, y, tallest = [], 0, 0, 0
        for number, panel in enumerate(self.panels, 1):
            if x + panel.width > WIDTH:
                x, y, tallest = 0, y + tallest, 0
            models.append(panel.model(number, x, y))
            x, tallest = x + panel.width, max(tallest, panel.height)
        return models
