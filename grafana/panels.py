"""Grafana's classic dashboard model, as far as it is needed: panels, laying them out, and dashboards.

Nothing is left to Grafana's defaults that changes what a number means: without thresholds of their own, values are
green and, from 80 on, red; without decimals, cents are lost; without `noValue`, an idle night is "No data".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from links import by_link, filter_link, traces_link
from queries import ENVIRONMENT, PICKERS
from variables import BUCKET, COMMON, PROMETHEUS, picker

SCHEMA = 42
WIDTH = 24
TAG = "tokenguard"

USD, SHARE, COUNT, TOKENS, SECONDS, RATIO = "currency:financial:$", "percentunit", "locale", "short", "s", "none"
CENTS = {"decimals": 4}
"""For what costs less than a cent."""
DECIMALS = {USD: 2, SHARE: 1, COUNT: 0, TOKENS: 1, SECONDS: 1, RATIO: 2}
NONE = "no calls"
"""What a panel shows where its query finds nothing."""


@dataclass(frozen=True)
class Query:
    """One target: its expression, and the legend or, in a table, the column it fills."""

    expr: str
    legend: str = "__auto"
    exemplars: bool = False


@dataclass(frozen=True)
class Column:
    """A column of a table: the label it shows, or the legend of the query that fills it, its title, and its unit."""

    key: str
    title: str
    unit: str = ""
    more: dict[str, Any] = field(default_factory=dict)
    """Further properties of its field."""

    def override(self) -> dict[str, Any]:
        """As Grafana has it."""
        unit = {"unit": self.unit, "decimals": DECIMALS[self.unit], "noValue": "-"} if self.unit else {}
        return {
            "matcher": {"id": "byName", "options": self.title},
            "properties": [{"id": name, "value": value} for name, value in {**unit, **self.more}.items()],
        }


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
    none: str = NONE
    time_from: str | None = None
    """A time range of its own, such as `now/d`."""
    step: str = ""
    """The narrowest step of a range, where it is not what the chart's width gives."""
    traces: Sequence[str] = ()
    """The labels by which a series leads to its traces, and to the dashboard filtered by it."""
    by: str = ""
    """Grafana's variable with a series' value of the picker `by`, for a link to the dashboard filtered by that."""
    defaults: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    columns: Sequence[Column] = ()
    named: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Properties of a query's values, by its legend."""

    @property
    def instant(self) -> bool:
        """Whether it shows one moment; otherwise a range of time."""
        return self.kind not in ("timeseries", "state-timeline")

    def model(self, number: int, x: int, y: int, uid: str, pickers: Sequence[str]) -> dict[str, Any]:
        """The panel as JSON, at a place of a board with these pickers."""
        model: dict[str, Any] = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description + self._not_picked(pickers),
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "options": {**OPTIONS[self.kind], **self.options},
        }
        if not self.queries:
            return model
        model |= {
            "datasource": PROMETHEUS,
            "interval": "5m",
            "targets": [self._target(index, query) for index, query in enumerate(self.queries)],
            "fieldConfig": {"defaults": self._defaults(uid, pickers), "overrides": self._overrides()},
        }
        if not self.instant:
            model["maxDataPoints"] = 100
        if self.time_from is not None:
            model["timeFrom"] = self.time_from
        if self.kind == "table":
            model["transformations"] = self._transformations()
        return model

    def uses(self, picker: str) -> bool:
        """Whether a picker changes what it shows."""
        return any(re.search(rf"\${picker}\b", query.expr) for query in self.queries)

    def _not_picked(self, pickers: Sequence[str]) -> str:
        """What the reader must know of pickers that change nothing here."""
        idle = [name.replace("_", " ") for name in pickers if not self.uses(name)]
        if not idle or not self.queries:
            return ""
        return f" These series have no such label, so it is not filtered by: {', '.join(idle)}."

    def _target(self, index: int, query: Query) -> dict[str, Any]:
        target = {
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
        return {**target, "interval": self.step} if self.step else target

    def _defaults(self, uid: str, pickers: Sequence[str]) -> dict[str, Any]:
        defaults = {
            **PLAIN.get(self.kind, {}),
            "unit": self.unit,
            "decimals": DECIMALS[self.unit],
            "noValue": self.none,
        }
        defaults |= {"thresholds": {"mode": "absolute", "steps": [{"value": None, "color": "text"}]}, **self.defaults}
        if self.traces:
            titles = {column.key: column.title for column in self.columns}
            of = {label: f"fields.{titles[label]}" if titles else f"labels.{label}" for label in self.traces}
            where = "data" if titles else "field"
            values = {label: f"${{__{where}.{path}:percentencode}}" for label, path in of.items()}
            defaults["links"] = [filter_link(uid, values, pickers), traces_link(values)]
        if self.by:
            defaults["links"] = [by_link(uid, self.by)]
        return defaults

    def _overrides(self) -> list[dict[str, Any]]:
        named = [
            {
                "matcher": {"id": "byName", "options": name},
                "properties": [{"id": key, "value": value} for key, value in more.items()],
            }
            for name, more in self.named.items()
        ]
        return [column.override() for column in self.columns if column.unit or column.more] + named

    def _transformations(self) -> list[dict[str, Any]]:
        fields = {query.legend: f"Value #{chr(ord('A') + n)}" for n, query in enumerate(self.queries)}
        if len(self.queries) == 1:
            fields = {self.queries[0].legend: "Value"}
        names = [fields.get(column.key, column.key) for column in self.columns]
        return [
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {name: True for name in ("Time", ENVIRONMENT, "unit") if name not in names},
                    "renameByName": {n: column.title for n, column in zip(names, self.columns, strict=True)},
                    "indexByName": {name: place for place, name in enumerate(names)},
                },
            },
        ]


LINE = {
    "drawStyle": "line",
    "lineWidth": 2,
    "fillOpacity": 0,
    "showPoints": "auto",
    "pointSize": 4,
    "spanNulls": False,
    "axisSoftMin": 0,
}
BARS = {
    "drawStyle": "bars",
    "lineWidth": 0,
    "fillOpacity": 80,
    "showPoints": "never",
    "barAlignment": 1,
    "axisSoftMin": 0,
    "stacking": {"mode": "normal", "group": "A"},
}
PALETTE = {"color": {"mode": "palette-classic"}}
PLAIN: dict[str, dict[str, Any]] = {
    "stat": {"color": {"mode": "fixed", "fixedColor": "text"}},
    "bargauge": {"color": {"mode": "fixed", "fixedColor": "blue"}, "min": 0},
    "timeseries": {**PALETTE, "custom": LINE},
    "table": {
        "color": {"mode": "fixed", "fixedColor": "text"},
        "custom": {"align": "auto", "filterable": True, "minWidth": 80},
    },
}
"""How amounts look that are neither good nor bad."""
TOOLTIP = {"mode": "multi", "sort": "desc"}
REDUCE = {"calcs": ["lastNotNull"], "fields": "", "values": False}
LEGEND = {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []}
OPTIONS: dict[str, dict[str, Any]] = {
    "stat": {"reduceOptions": REDUCE, "colorMode": "value", "graphMode": "none", "textMode": "auto"},
    "bargauge": {
        "reduceOptions": REDUCE,
        "orientation": "horizontal",
        "displayMode": "basic",
        "showUnfilled": False,
        "valueMode": "text",
        "sizing": "manual",
        "namePlacement": "top",
        "minVizHeight": 16,
        "maxVizHeight": 44,
        "text": {"titleSize": 13, "valueSize": 15},
    },
    "timeseries": {"legend": LEGEND, "tooltip": TOOLTIP},
    "state-timeline": {"mergeValues": True, "showValue": "never", "legend": LEGEND, "tooltip": TOOLTIP},
    "table": {"showHeader": True, "cellHeight": "sm"},
    "text": {"mode": "markdown"},
    "alertlist": {
        "alertName": "",
        "alertInstanceLabelFilter": '{product="tokenguard"}',
        "dashboardAlerts": False,
        "groupMode": "default",
        "maxItems": 20,
        "sortOrder": 3,
        "stateFilter": {"error": True, "firing": True, "noData": False, "normal": False, "pending": True},
        "viewMode": "list",
    },
}


def stat(title: str, unit: str, expr: str, description: str, **more: Any) -> Panel:
    """One number."""
    return Panel("stat", title, unit, [Query(expr)], description, **{"width": 4, "height": 4, **more})


def compared(title: str, unit: str, versions: dict[str, str], description: str, **more: Any) -> Panel:
    """A number, and how it stands against earlier ones: expressions by their names, the first the number itself."""
    queries = [Query(expr, name) for name, expr in versions.items()]
    signed = {"unit": SHARE, "decimals": 0, "noValue": "-"}
    named = {query.legend: signed for query in queries[1:]}
    options = {"orientation": "horizontal", "textMode": "value_and_name", "text": {"titleSize": 14, "valueSize": 24}}
    return Panel(
        "stat",
        title,
        unit,
        queries,
        description,
        **{"width": 4, "height": 5, "named": named, "options": options, **more},
    )


def steps(*at: tuple[float | None, str]) -> dict[str, Any]:
    """Colours from values on, where a value is good or bad: `steps((None, "green"), (0.8, "red"))`."""
    listed = [{"value": value, "color": colour} for value, colour in at]
    return {"thresholds": {"mode": "absolute", "steps": listed}, "color": {"mode": "thresholds"}}


def limit(at: float) -> dict[str, Any]:
    """A chart's line at a value that should not be passed."""
    listed = [{"value": None, "color": "transparent"}, {"value": at, "color": "red"}]
    return {
        "thresholds": {"mode": "absolute", "steps": listed},
        "custom": {**LINE, "thresholdsStyle": {"mode": "dashed"}},
    }


def coloured(**colours: str) -> dict[str, dict[str, Any]]:
    """Fixed colours of series, by name: what is good or bad looks so on every chart."""
    return {name: {"color": {"mode": "fixed", "fixedColor": colour}} for name, colour in colours.items()}


OUTCOMES = coloured(ok="green", error="red", blocked="orange", abandoned="purple")


def bars(title: str, unit: str, expr: str, legend: str, description: str, **more: Any) -> Panel:
    """What came in each hour, or on each day, stacked."""
    form = {"defaults": {"custom": BARS}, "step": f"${BUCKET}", **more}
    return Panel("timeseries", title, unit, [Query(expr, legend)], description, **form)


def lines(title: str, unit: str, queries: Sequence[Query], description: str, **more: Any) -> Panel:
    """Values over time, each of a quarter of an hour at least."""
    return Panel("timeseries", title, unit, queries, description, **{"step": "15m", **more})


def ranking(title: str, unit: str, expr: str, label: str, description: str, **more: Any) -> Panel:
    """The largest ten by a label, or as a legend names them."""
    # Sorted by the query: Grafana shows series in the order they come in.
    query = Query(f"sort_desc(topk(10, {expr}))", label if "{" in label else f"{{{{{label}}}}}" if label else "__auto")
    return Panel("bargauge", title, unit, [query], description, **more)


def text(title: str, content: str, **more: Any) -> Panel:
    """A page of Markdown."""
    return Panel("text", title, RATIO, (), "", options={"content": content}, **more)


@dataclass(frozen=True)
class Board:
    """One dashboard: its panels from left to right, row after row."""

    uid: str
    title: str
    description: str
    panels: Sequence[Panel]
    variables: Sequence[dict[str, Any]] = ()
    annotations: Sequence[dict[str, Any]] = ()
    time_from: str = "now-24h"

    def number(self, title: str) -> int:
        """The id of the panel with this title."""
        return next(number for number, panel in enumerate(self.panels, 1) if panel.title == title)

    def pickers(self) -> list[str]:
        """The pickers that change something here."""
        return [name for name in PICKERS if any(panel.uses(name) for panel in self.panels)]

    def model(self) -> dict[str, Any]:
        """The dashboard as JSON."""
        pickers = self.pickers()
        asking = any(panel.queries for panel in self.panels)
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
            "refresh": "5m",
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
            "templating": {"list": [*COMMON, *map(picker, pickers), *self.variables] if asking else []},
            "annotations": {"list": list(self.annotations)},
            "panels": self._laid_out(pickers),
        }

    def _laid_out(self, pickers: Sequence[str]) -> list[dict[str, Any]]:
        models, x, y, tallest = [], 0, 0, 0
        for number, panel in enumerate(self.panels, 1):
            if x + panel.width > WIDTH:
                x, y, tallest = 0, y + tallest, 0
            models.append(panel.model(number, x, y, self.uid, pickers))
            x, tallest = x + panel.width, max(tallest, panel.height)
        return models
