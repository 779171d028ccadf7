"""Draws what the dashboards look like, from their JSON and real query results: `make previews`.

Nine days of a simulated product are loaded into a real Prometheus, every panel's query is run there, and the answers
are drawn at the panels' places as SVG. It is a preview of layout and content, not Grafana.
"""

from __future__ import annotations

import json
import sys
import tempfile
from html import escape
from pathlib import Path

from .history import NOW, load
from .parts import DASHBOARDS, filled_in, prometheus, seconds_since

COLUMN, ROW, GAP, TOP = 60, 34, 6, 64
RANGE, STEP = 86400, 1200
COLOURS = ("#73bf69", "#f2cc0c", "#8ab8ff", "#ff9830", "#f2495c", "#b877d9", "#5794f2", "#96d98d", "#ffb357", "#ca95e5")
STATES = {0: "#73bf69", 1: "#ff9830", 2: "#f2495c"}
NOTE = "Preview: drawn from the dashboard's JSON and its queries' results on simulated data. It is not Grafana."


def shown(value, unit):
    """A value as the panel's unit has it."""
    if value != value:
        return ""
    if unit == "currencyUSD":
        return f"${value:,.2f}" if abs(value) >= 1 or value == 0 else f"${value:.3g}"
    if unit == "percentunit":
        return f"{value * 100:.1f}%"
    if unit == "s":
        for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
            if abs(value) >= size:
                return f"{value / size:.1f} {name}"
        return f"{value:.2g} s"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def text(x, y, words, size=11, colour="#ccccdc", anchor="start", room=None):
    """A line of text, cut to `room` pixels."""
    if room is not None and len(words) > (most := max(int(room / size / 0.56), 1)):
        words = words[: most - 1] + "…"
    place = f'x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"'
    return f"<text {place}>{escape(words)}</text>"


def rectangle(x, y, width, height, colour, **more):
    extra = "".join(f' {key}="{value}"' for key, value in more.items())
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"{extra}/>'


def legend_of(target, labels):
    """A series' name by the panel's legend."""
    form = target["legendFormat"]
    if form == "__auto":
        return ", ".join(value for key, value in labels.items() if key != "__name__")
    for key, value in labels.items():
        form = form.replace(f"{{{{{key}}}}}", value)
    return form


class Drawing:
    """One dashboard on its way to a file."""

    def __init__(self, server, board):
        self.server = server
        self.board = board

    def svg(self):
        height = TOP + max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in self.board["panels"]) * ROW
        width = 24 * COLUMN
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
            rectangle(0, 0, width, height, "#111217"),
            text(12, 28, self.board["title"], 20),
            text(12, 50, NOTE, 11, "#9d9da8"),
        ]
        names = [each["label"] for each in self.board["templating"]["list"]]
        parts.append(text(width - 12, 28, "   ".join(f"{name} ▾" for name in names), 12, "#9d9da8", "end"))
        for panel in self.board["panels"]:
            parts += self.panel(panel)
        return "\n".join([*parts, "</svg>", ""])

    def panel(self, panel):
        place = panel["gridPos"]
        x, y = place["x"] * COLUMN + GAP / 2, TOP + place["y"] * ROW + GAP / 2
        width, height = place["w"] * COLUMN - GAP, place["h"] * ROW - GAP
        yield rectangle(x, y, width, height, "#181b1f", rx=3)
        yield text(x + 10, y + 20, panel["title"].replace("$by", "tenant"), 12, room=width - 20)
        draw = {
            "stat": self.stat,
            "bargauge": self.ranking,
            "table": self.table,
            "timeseries": self.lines,
            "state-timeline": self.states,
        }[panel["type"]]
        yield from draw(panel, x + 10, y + 32, width - 20, height - 42)

    def now(self, panel, target):
        seconds = seconds_since(panel["timeFrom"], NOW) if "timeFrom" in panel else RANGE
        return self.server.instant(filled_in(target["expr"], seconds, STEP), NOW)

    def over_time(self, panel):
        for target in panel["targets"]:
            query = filled_in(target["expr"], RANGE, STEP)
            for labels, points in self.server.range(query, NOW - RANGE, NOW, STEP):
                yield legend_of(target, labels), [(at, value) for at, value in points if value == value]

    def stat(self, panel, x, y, width, height):
        ((_, value),) = self.now(panel, panel["targets"][0])
        defaults = panel["fieldConfig"]["defaults"]
        steps = defaults.get("thresholds", {}).get("steps", ())
        names = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c"}
        colour = "#73bf69"
        for step in steps:
            if step["value"] is None or value >= step["value"]:
                colour = names[step["color"]]
        yield text(x + width / 2, y + height / 2 + 12, shown(value, defaults["unit"]), 32, colour, "middle")

    def ranking(self, panel, x, y, width, height):
        target, unit = panel["targets"][0], panel["fieldConfig"]["defaults"]["unit"]
        rows = self.now(panel, target)[:10]
        largest = max((value for _, value in rows), default=1) or 1
        each = min(height / max(len(rows), 1), 34)
        for n, (labels, value) in enumerate(rows):
            at = y + n * each
            yield text(x, at + each * 0.4, legend_of(target, labels), 10, room=width - 70)
            yield rectangle(x, at + each * 0.48, max((width - 70) * value / largest, 1), each * 0.36, COLOURS[0])
            yield text(x + width, at + each * 0.8, shown(value, unit), 11, anchor="end")

    def table(self, panel, x, y, width, height):
        organized = panel["transformations"][1]["options"]
        titles, rows = organized["renameByName"], {}
        units = {
            each["matcher"]["options"]: each["properties"][0]["value"] for each in panel["fieldConfig"]["overrides"]
        }
        for target in panel["targets"]:
            column = titles.get(f"Value #{target['refId']}")
            for labels, value in self.now(panel, target):
                key = tuple(sorted((name, each) for name, each in labels.items() if name != "__name__"))
                rows.setdefault(key, {})[column] = value
        columns = sorted(titles, key=organized["indexByName"].get)
        sort = panel["options"]["sortBy"][0]["displayName"]
        ordered = sorted(rows.items(), key=lambda row: -row[1].get(sort, -1))
        room = width / len(columns)
        lines = [[titles[column] for column in columns]]
        for key, values in ordered[: int(height / 20) - 1]:
            cells = dict(key)
            lines.append(
                [
                    cells.get(column)
                    or shown(values.get(titles[column], float("nan")), units.get(titles[column], "currencyUSD"))
                    for column in columns
                ]
            )
        for n, line in enumerate(lines):
            for m, cell in enumerate(line):
                yield text(x + m * room, y + 12 + n * 20, cell, 10, "#9d9da8" if n == 0 else "#ccccdc", room=room - 6)

    def lines(self, panel, x, y, width, height):
        series = [(name, points) for name, points in self.over_time(panel) if points]
        defaults = panel["fieldConfig"]["defaults"]
        stacked = defaults["custom"]["drawStyle"] == "bars"
        heights = {}
        for _, points in series:
            for at, value in points:
                heights[at] = heights.get(at, 0) + max(value, 0) if stacked else max(heights.get(at, 0), value)
        top = defaults.get("max") or max(heights.values(), default=0) or 1
        left, bottom = x + 48, y + height - 20
        wide, tall = width - 48, height - 30
        for n in range(4):
            level = bottom - tall * n / 3
            yield rectangle(left, level, wide, 0.5, "#34343b")
            yield text(left - 5, level + 4, shown(top * n / 3, defaults["unit"]), 9, "#9d9da8", "end")
        base = {}
        for n, (_, points) in enumerate(series):
            colour = COLOURS[n % len(COLOURS)]
            if stacked:
                for at, value in points:
                    size = tall * max(value, 0) / top
                    place = left + wide * (at - NOW + RANGE) / RANGE * 0.985
                    low = base.get(at, bottom)
                    base[at] = low - size
                    if size > 0.3:
                        yield rectangle(place, low - size, wide * STEP / RANGE * 0.8, size, colour)
            else:
                path = " ".join(
                    f"{left + wide * (at - NOW + RANGE) / RANGE:.0f},{bottom - tall * min(value / top, 1):.0f}"
                    for at, value in points
                )
                yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
        names = [name for name, _ in series]
        yield from self.legend(names, x, y + height, width)

    def legend(self, names, x, y, width):
        at = x
        for n, name in enumerate(names):
            size = 18 + len(name) * 5.6
            if at + size > x + width:
                yield text(at, y, "…", 10)
                return
            yield rectangle(at, y - 8, 9, 9, COLOURS[n % len(COLOURS)])
            yield text(at + 13, y, name, 10)
            at += size + 8

    def states(self, panel, x, y, width, height):
        series = list(self.over_time(panel))
        each = height / max(len(series), 1)
        for n, (name, points) in enumerate(series):
            yield text(x, y + each * (n + 0.2), name, 10, room=width)
            for at, value in points:
                place = x + width * (at - NOW + RANGE) / RANGE * 0.985
                yield rectangle(place, y + each * (n + 0.3), width * STEP / RANGE + 0.5, each * 0.5, STATES[int(value)])


def main():
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, prometheus(Path(folder), data=load(Path(folder))) as server:
        for path in DASHBOARDS:
            drawn = Drawing(server, json.loads(path.read_text())).svg()
            (target / f"{path.stem}.svg").write_text(drawn)
            print(f"{target / path.stem}.svg: {len(drawn) // 1024} KB")


if __name__ == "__main__":
    main()
