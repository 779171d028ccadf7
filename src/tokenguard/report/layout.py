"""A report on paper: a table for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tokenguard.report.figures import NO_VALUE, Report, Row, many
from tokenguard.report.findings import Finding

UNKNOWN = "-"
BAR_WIDTH = 8


def usd(value: float | None) -> str:
    """Dollars, with as many digits as say something."""
    if value is None:
        return UNKNOWN
    size = abs(value)
    digits = 2 if size >= 1 or size == 0 else 4 if size >= 0.001 else 6
    return f"{'-' if value < 0 else ''}${size:,.{digits}f}"


def tokens(value: float | None) -> str:
    """Tokens, in thousands and millions where there are many."""
    if value is None:
        return UNKNOWN
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size * 9.9995:
            return f"{value / size:,.1f}{unit}"
    return f"{value:,.0f}"


def share(value: float | None) -> str:
    """A share of 1 as a percentage."""
    return UNKNOWN if value is None else f"{value:.0%}" if value == 0 or value >= 0.0995 else f"{value:.1%}"


def count(value: float | None) -> str:
    """A count; nothing where there was none."""
    return UNKNOWN if value is None else f"{value:,}" if value else ""


class Column(NamedTuple):
    """One column: its title, the figure, how it is shown, and how much it matters where there is no room for all."""

    title: str
    figure: str
    show: Callable[[Any], str]
    rank: int


COLUMNS = (
    Column("calls", "calls", lambda n: f"{n:,}", 1),
    Column("input", "input_tokens", tokens, 3),
    Column("output", "output_tokens", tokens, 4),
    Column("cache hit", "cache_hit_share", share, 2),
    Column("saved", "saved_usd", lambda x: usd(x) if x else "", 5),
    Column("retries", "retries", count, 9),
    Column("retry cost", "retry_cost_usd", lambda x: usd(x) if x else "", 7),
    Column("errors", "errors", count, 8),
    Column("blocked", "blocked", count, 6),
    Column("per 1k calls", "cost_per_1000_calls_usd", usd, 10),
    Column("cost", "cost_usd", usd, 0),
)
KEY_WIDTH = 14
"""A key gets at least this much room before a less important figure does."""


def print_table(report: Report, findings: Sequence[Finding], source: str, console: Console) -> None:
    """The report for people: coloured on a terminal, plain text in a pipe."""
    fancy = console.is_terminal
    _headline(report, source, console)
    spent = report.total.figures["cost_usd"]
    bars = [_bar((row.figures["cost_usd"] or 0.0) / spent if spent else 0.0, fancy) for row in report.rows]
    # A box draws something between columns, plain text leaves two blanks.
    gap = 3 if fancy else 2
    columns, key_width = _fitting(report, console.width, max((bar.cell_len for bar in bars), default=0), gap)
    table = Table(
        box=box.SIMPLE_HEAD if fancy else None,
        pad_edge=False,
        show_edge=False,
        header_style="bold" if fancy else "",
        padding=(0, 1),
    )
    for dimension in report.query.by:
        table.add_column(dimension, overflow="ellipsis", no_wrap=True, max_width=key_width)
    for column in columns:
        table.add_column(column.title, justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    for row, bar in zip(report.rows, bars, strict=True):
        keys = [
            Text(_cut(_short(key), key_width), style="dim" if key == NO_VALUE and fancy else "") for key in row.keys
        ]
        table.add_row(*keys, *[_cell(column, row, fancy) for column in columns], bar)
    if len(report.rows) > 1 and not report.more:
        table.add_section()
        blanks = [""] * (len(report.query.by) - 1)
        totals = [_shown(column, report.total) for column in columns]
        table.add_row("total", *blanks, *totals, "", style="bold" if fancy else "")
    console.print(table)
    if report.more:
        console.print(f"and {report.more:,} more; --limit shows them", style="dim" if fancy else "")
    _tasks(report, console, fancy)
    _findings(findings, console, fancy)
    _footnotes(report, console)


def _fitting(report: Report, width: int, bar: int, gap: int) -> tuple[list[Column], int]:
    """The columns that fit, the important ones first, and the width of a key; what nobody has is left out."""
    rows = [*report.rows, report.total]
    keys = [
        max(len(dimension), *(len(_short(row.keys[n])) for row in report.rows), 5)
        for n, dimension in enumerate(report.query.by)
    ]
    wanted = max(keys)
    left = width - max(bar, 5) - sum(min(key, KEY_WIDTH) + gap for key in keys)
    chosen = []
    for column in sorted(COLUMNS, key=lambda column: column.rank):
        shown = [_shown(column, row) for row in rows]
        room = max(len(column.title), *map(len, shown)) + gap
        if any(shown) and room <= left:
            chosen.append(column)
            left -= room
    chosen.sort(key=COLUMNS.index)
    return chosen, min(wanted, KEY_WIDTH + left // len(keys))


def _shown(column: Column, row: Row) -> str:
    """A figure as it is printed; a star says that calls without a price are missing from it."""
    shown = column.show(row.figures[column.figure])
    return f"{shown}*" if column.figure == "cost_usd" and row.figures["unpriced_calls"] else shown


def _headline(report: Report, source: str, console: Console) -> None:
    total = report.total.figures
    parts = [
        ("spent", usd(total["cost_usd"])),
        ("calls", f"{total['calls']:,}"),
        ("tokens in / out", f"{tokens(total['input_tokens'])} / {tokens(total['output_tokens'])}"),
        ("cache hit", share(total["cache_hit_share"])),
        ("saved by caching", usd(total["saved_usd"])),
    ]
    if total["retries"]:
        parts.append(("retries cost", usd(total["retry_cost_usd"])))
    if total["blocked"]:
        parts.append(("blocked", f"{total['blocked']:,} ({usd(total['prevented_usd'])} prevented)"))
    fancy = console.is_terminal
    when = f"{_when(report.first_ns)} to {_when(report.last_ns)} UTC"
    console.print(
        Text.assemble(("TokenGuard", "bold cyan" if fancy else ""), f"  {when}  ", (source, "dim" if fancy else ""))
    )
    line = Text()
    for title, value in parts:
        piece = Text.assemble((f"{title} ", "dim" if fancy else ""), (value, "bold" if fancy else ""), "   ")
        if line and len(line) + len(piece) > console.width:
            console.print(line)
            line = Text()
        line.append_text(piece)
    console.print(line)
    console.print()


STYLES = {"errors": "yellow", "blocked": "yellow", "retry_cost_usd": "yellow", "cost_usd": "bold"}


def _cell(column: Column, row: Row, fancy: bool) -> Text:
    shown = _shown(column, row)
    style = ""
    if fancy:
        value = row.figures[column.figure]
        style = "dim" if shown == UNKNOWN else STYLES.get(column.figure, "")
        if column.figure == "saved_usd" and value:
            style = "green" if value > 0 else "red"
    return Text(shown, style=style)


def _bar(part: float, fancy: bool) -> Text:
    shown = f"{part:.0%}"
    if not fancy:
        return Text(shown)
    full = round(part * BAR_WIDTH)
    return Text.assemble(("█" * full, "cyan"), ("░" * (BAR_WIDTH - full), "dim"), f" {shown:>4}")


def _tasks(report: Report, console: Console, fancy: bool) -> None:
    if not report.tasks:
        return
    table = Table(
        box=box.SIMPLE_HEAD if fancy else None, pad_edge=False, show_edge=False, header_style="bold" if fancy else ""
    )
    table.add_column("task")
    for title in ("succeeded", "failed", "cost", "per success"):
        table.add_column(title, justify="right")
    for task in report.tasks:
        table.add_row(
            task.task, f"{task.succeeded:,}", count(task.failed), usd(task.cost_usd), usd(task.cost_per_success_usd)
        )
    console.print()
    console.print(table)


def _findings(findings: Sequence[Finding], console: Console, fancy: bool) -> None:
    if not findings:
        return
    console.print()
    for finding in findings:
        cost = f" ({usd(finding.usd)})" if finding.usd else ""
        console.print(
            Text.assemble(
                ("! " if not fancy else "▸ ", "yellow" if fancy else ""),
                (finding.says, ""),
                (cost, "bold" if fancy else ""),
                (f": {finding.next_step}", "dim" if fancy else ""),
            ),
            soft_wrap=not fancy,
        )


def _footnotes(report: Report, console: Console) -> None:
    total = report.total.figures
    notes = []
    if report.unpriced:
        calls = sum(n for _, n in report.unpriced)
        models = ", ".join(model for model, _ in report.unpriced[:3]) + (", ..." if len(report.unpriced) > 3 else "")
        notes.append(
            f"* {many(calls, 'call')} without a known price, not in the cost ({models}): add the models under [prices] "
            "in tokenguard.toml"
        )
    if total["estimated_usd"]:
        notes.append(f"{usd(total['estimated_usd'])} of the cost is estimated: tokens or a rate were not reported")
    if notes:
        console.print()
        for note in notes:
            console.print(Text(note, "dim" if console.is_terminal else ""), soft_wrap=not console.is_terminal)


def _short(key: str) -> str:
    """A path as seen from here, where that is shorter."""
    if key.startswith(os.sep):
        relative = os.path.relpath(key)
        return relative if len(relative) < len(key) else key
    return key


def _cut(key: str, width: int) -> str:
    """A path that is too long loses its beginning: the file and line are at its end."""
    return f"…{key[len(key) - width + 1 :]}" if os.sep in key and len(key) > width else key


def _when(ns: int | None) -> str:
    return UNKNOWN if ns is None else f"{datetime.fromtimestamp(ns / 1e9, UTC):%Y-%m-%d %H:%M}"


def as_json(report: Report, findings: Sequence[Finding]) -> str:
    """The report for programs. Units are in the names: `_usd`, `_tokens`, shares of 1; unknown is null."""
    return json.dumps(
        {
            "by": list(report.query.by),
            "total": report.total.figures,
            "rows": [{**dict(zip(report.query.by, row.keys, strict=True)), **row.figures} for row in report.rows],
            "tasks": [task._asdict() for task in report.tasks],
            "unpriced": [{"model": model, "calls": calls} for model, calls in report.unpriced],
            "findings": [finding._asdict() for finding in findings],
        },
        indent=2,
        ensure_ascii=False,
    )


def as_csv(report: Report) -> str:
    """The rows as CSV, with a header; unknown is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*report.query.by, *report.total.figures])
    for row in report.rows:
        writer.writerow([*row.keys, *row.figures.values()])
    return out.getvalue()
