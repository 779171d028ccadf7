"""A report for people: a table, what stands out, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from tokenguard.facts.tuples import NamedTuple
from tokenguard.report import grid
from tokenguard.report.figures import Report, Row, in_time, many
from tokenguard.report.findings import Finding
from tokenguard.report.labels import NO_VALUE, clean, missed, when
from tokenguard.report.numbers import (
    UNKNOWN,
    change,
    changes,
    counts,
    durations,
    plain,
    seconds,
    share,
    shares,
    signed_shares,
    spent,
    token_counts,
    tokens,
    usd,
    usds,
)
from tokenguard.report.reasons import reason
from tokenguard.report.terminal import is_fancy
from tokenguard.report.trend import Trend
from tokenguard.report.units import Rented
from tokenguard.store.faults import Fault

BAR_WIDTH = 8
REASONS_SHOWN = 3
WRONG = "bold red"
TOLD = "magenta"
"""What is to be noticed. Yellow cannot be read on a light background, nor blue on a dark one."""


class Column(NamedTuple):
    """One column: its title, the figure, how its numbers are shown, and how much it is missed where room is short."""

    title: str
    figure: str
    show: Callable[[Sequence[Any]], list[str]]
    worth: int
    style: str = ""


COLUMNS = (
    Column("calls", "calls", plain, 13),
    Column("input", "input_tokens", token_counts, 9),
    Column("output", "output_tokens", token_counts, 9),
    Column("tokens/call", "tokens_per_call", token_counts, 3),
    Column("cache hit", "cache_hit_share", shares, 10),
    Column("saved", "saved_usd", usds, 7),
    Column("retries", "retries", counts, 2, TOLD),
    Column("retry cost", "retry_cost_usd", spent, 4, TOLD),
    Column("errors", "errors", counts, 5, WRONG),
    Column("blocked", "blocked", counts, 6, TOLD),
    Column("p50", "latency_p50_s", durations, 4),
    Column("p95", "latency_p95_s", durations, 8),
    Column("first chunk", "first_chunk_p50_s", durations, 3),
    Column("cost/1k calls", "cost_per_1000_calls_usd", usds, 6),
    Column("cost", "cost_usd", usds, 14, "bold"),
    Column("as billed", "as_billed_usd", usds, 13),
    Column("revenue", "revenue_usd", usds, 13),
    Column("margin", "margin_usd", usds, 14),
    Column("margin share", "margin_share", signed_shares, 8),
    Column("change", "change", changes, 11),
    Column("", "cost_share", lambda values: [" " * BAR_WIDTH for _ in values], 1),
    Column("share", "cost_share", shares, 12),
)
"""In their order. The column without a title is the bar."""


def print_table(
    report: Report,
    findings: Sequence[Finding],
    source: str,
    console: Console,
    notes: Sequence[str] = (),
    trend: Trend | None = None,
    faults: Sequence[Fault] = (),
) -> None:
    """The report for people: coloured on a terminal, plain text elsewhere. `console` must not read markup.

    `faults` are said first: what the figures below do not hold. `notes` are said at its end, beside its own.
    """
    fancy = is_fancy(console)
    for fault in faults:
        console.print(Text(missed(fault), style=WRONG if fancy else ""), soft_wrap=not fancy)
    _headline(report, source, console, trend)
    _groups(report, console, fancy)
    if report.more:
        console.print(_rest(report), style="dim" if fancy else "")
    _tasks(report, console, fancy)
    _units(report, console)
    _lookups(report, console)
    _findings(findings, console, fancy)
    _footnotes([*_notes(report), *notes], console, fancy)


def _groups(report: Report, console: Console, fancy: bool) -> None:
    rows = [*report.rows, report.total] if len(report.rows) > 1 else report.rows
    keys = [[_key(key, fancy) for key in row.keys] for row in rows]
    if len(report.rows) > 1:
        keys[-1] = [Text("total"), *[Text()] * (len(report.query.by) - 1)]
    names = [grid.Column(dimension, cells, name=True) for dimension, *cells in zip(report.query.by, *keys, strict=True)]
    figures = [
        grid.Column(column.title, _cells(column, rows, fancy), column.worth)
        for column in COLUMNS
        if _says_something(column, rows, fancy)
    ]
    grid.print_grid(console, [*names, *figures], total=len(report.rows) > 1)


def _rest(report: Report) -> str:
    """What the limit left out."""
    which = "before these" if in_time(report.query) else "more"
    spent = report.total.figures["cost_usd"]
    part = f", {share(report.more_usd / spent)} of the cost" if spent else ""
    return f"... and {report.more:,} {which} ({usd(report.more_usd)}{part}), which the total counts; --limit shows more"


def _says_something(column: Column, rows: Sequence[Row], fancy: bool) -> bool:
    if not column.title:
        return fancy
    values = [row.figure(column.figure) for row in rows]
    if column.show in (counts, plain, spent):
        return any(values)
    return column.figure == "cost_usd" or any(value is not None for value in values)


def _headline(report: Report, source: str, console: Console, trend: Trend | None) -> None:
    total = report.total.figures
    changed = report.total.figure("change")
    versus = f" ({change(*changed)} against the period before)" if changed else ""
    parts = [
        ("spent", f"{usd(total['cost_usd'])}{versus}"),
        ("calls", f"{total['calls']:,}"),
        ("tokens in / out", f"{tokens(total['input_tokens'])} / {tokens(total['output_tokens'])}"),
        ("cache hit", share(total["cache_hit_share"])),
        ("saved by caching", usd(total["saved_usd"])),
    ]
    if total["served"]:
        parts.append(("kept answers", f"{total['served']:,} served ({usd(total['served_usd'])} saved)"))
    if total["watched"]:
        like = "" if total["likeness"] is None else f"; the real answers were {share(total['likeness'])} alike"
        parts.append(("watched answers", f"{total['watched']:,} would be served ({usd(total['watched_usd'])}){like}"))
    if total["retries"]:
        parts.append(("retries", f"{total['retries']:,} ({usd(total['retry_cost_usd'])})"))
    if total["errors"]:
        parts.append(("errors", f"{total['errors']:,} ({share(total['errors'] / total['calls'])})"))
    if total["blocked"]:
        parts.append(("blocked", f"{total['blocked']:,} ({usd(total['prevented_usd'])} prevented)"))
    if total["latency_p95_s"] is not None:
        parts.append(("p50 / p95", f"{seconds(total['latency_p50_s'])} / {seconds(total['latency_p95_s'])}"))
    if trend is not None and trend.forecast_usd is not None:
        parts.append(("this month", f"{usd(trend.month_usd)}, {usd(trend.forecast_usd)} by its end at this rate"))
    fancy = is_fancy(console)
    period = f"{when(report.first_ns)} to {when(report.last_ns)} UTC"
    lines = [Text()]
    for title, value in parts:
        piece = Text.assemble((f"{title} ", "dim" if fancy else ""), (value, "bold" if fancy else ""))
        if lines[-1] and len(lines[-1]) + 3 + len(piece) > console.width - (4 if fancy else 0):
            lines.append(Text())
        if lines[-1]:
            lines[-1].append("   ")
        lines[-1].append_text(piece)
    if fancy:
        head = Text.assemble(("TokenGuard", "bold"), f"  {period}")
        foot = Text(clean(source), style="dim")
        console.print(Panel(Group(*lines), title=head, title_align="left", subtitle=foot, subtitle_align="right"))
    else:
        console.print(f"TokenGuard  {period}  {clean(source)}", soft_wrap=True)
        for line in lines:
            console.print(line)
    console.print()


def _key(key: str | None, fancy: bool) -> Text:
    if key is None:
        return Text(NO_VALUE, style="dim" if fancy else "")
    return grid.name(key)


def _cells(column: Column, rows: Sequence[Row], fancy: bool) -> list[Text]:
    values = [row.figure(column.figure) for row in rows]
    if not column.title:
        return [_bar(value or 0.0) for value in values]
    marked = column.figure == "cost_usd" and any(row.figures["unpriced_calls"] for row in rows)
    cells = []
    for row, value, shown in zip(rows, values, column.show(values), strict=True):
        mark = ("*" if row.figures["unpriced_calls"] else " ") if marked else ""
        style = "dim" if shown == UNKNOWN else column.style if value else ""
        if column.figure in ("saved_usd", "margin_usd") and value and value < 0:
            style = "red"
        cells.append(Text(f"{shown}{mark}", style=style if fancy else ""))
    return cells


def _bar(part: float) -> Text:
    full = min(BAR_WIDTH, round(part * BAR_WIDTH))
    return Text.assemble(("█" * full, "cyan"), ("░" * (BAR_WIDTH - full), "dim"))


def _tasks(report: Report, console: Console, fancy: bool) -> None:
    if not report.tasks:
        return
    columns = {
        "succeeded": [UNKNOWN if task.succeeded is None else f"{task.succeeded:,}" for task in report.tasks],
        "failed": counts([task.failed for task in report.tasks]),
        "cost": usds([task.cost_usd for task in report.tasks]),
        "per success": usds([task.cost_per_success_usd for task in report.tasks]),
    }
    console.print()
    names = grid.Column("task", [grid.name(task.task) for task in report.tasks], name=True)
    figures = [grid.Column(title, [Text(cell) for cell in cells]) for title, cells in columns.items()]
    grid.print_grid(console, [names, *figures])


def _units(report: Report, console: Console) -> None:
    """Pictures, seconds and what else is no token."""
    if not report.units:
        return
    named = {
        "model": [row.model or NO_VALUE for row in report.units],
        "unit": [row.unit.replace("_", " ") for row in report.units],
    }
    counted = {
        "amount": [f"{row.amount:,}" for row in report.units],
        "cost": usds([row.cost_usd for row in report.units]),
    }
    console.print()
    columns = [grid.Column(title, [grid.name(cell) for cell in cells], name=True) for title, cells in named.items()]
    columns += [grid.Column(title, [Text(cell) for cell in cells]) for title, cells in counted.items()]
    grid.print_grid(console, columns)


def _lookups(report: Report, console: Console) -> None:
    """Which calls got kept answers, and why the others did not."""
    if not report.lookups:
        return
    told = report.lookups
    named = {
        "answers kept by": [row.rule or NO_VALUE for row in told],
        "result": [row.result for row in told],
        "why": [row.why for row in told],
    }
    counted = {
        "calls": counts([row.calls for row in told]),
        "cost": usds([row.cost_usd for row in told]),
        "saved": usds([row.saved_usd for row in told]),
    }
    console.print()
    columns = [grid.Column(title, [grid.name(cell) for cell in cells], name=True) for title, cells in named.items()]
    columns += [grid.Column(title, [Text(cell) for cell in cells]) for title, cells in counted.items()]
    grid.print_grid(console, columns)


def _findings(findings: Sequence[Finding], console: Console, fancy: bool) -> None:
    """Each on a line of its own, and on a terminal what to do about it on the next."""
    if not findings:
        return
    console.print()
    for finding in findings:
        line = Text.assemble(
            ("▸ " if fancy else "! ", TOLD if fancy else ""),
            (f"{usd(finding.usd)} {finding.usd_is}: " if finding.usd else "", "bold" if fancy else ""),
            f"{clean(finding.says)}. ",
        )
        step = Text(f"{clean(finding.next_step[0].upper())}{clean(finding.next_step[1:])}.")
        if fancy:
            line.rstrip()
            console.print(line)
            console.print(Padding(Text.assemble(("→ ", TOLD), step), (0, 0, 0, 2)))
        else:
            console.print(line.append_text(step), soft_wrap=True)


def _rented(row: Rented) -> str:
    """What still runs, and until when."""
    until = "" if row.until is None else f" until {when(int(row.until * 1e9))} UTC"
    what = clean(row.model or row.kind.removeprefix("create_").replace("_", " "))
    return (
        f"Still rented{until}: {clean(row.resource)} ({what}), {usd(row.cost_usd)} recorded so far; "
        "delete what is no longer needed"
    )


def _notes(report: Report) -> list[str]:
    """What the figures do not hold."""
    total = report.total.figures
    notes = []
    if report.unpriced:
        calls = sum(n for _, n in report.unpriced)
        models = ", ".join(clean(model) for model, _ in report.unpriced[:3])
        notes.append(
            f"* The cost leaves out {many(calls, 'call')} with no known price "
            f"({models}{', ...' if len(report.unpriced) > 3 else ''}). Add the price to tokenguard.toml: "
            f'[prices] "{clean(report.unpriced[0][0])}" = {{ input = ..., output = ... }}, in USD per million tokens'
        )
    if total.get("revenue_usd") is not None and total["margin_usd"] is None:
        notes.append(
            "The margin of all is unknown, as it is of a tenant without revenue in the file, and of one with "
            "calls of no known price"
        )
    if total["estimated_usd"]:
        whys = [f"{usd(amount)} {reason(basis)}" for basis, amount in report.estimated[:REASONS_SHOWN]]
        if more := report.estimated[REASONS_SHOWN:]:
            whys.append(f"{usd(math.fsum(amount for _, amount in more))} for {many(len(more), 'other reason')}")
        said = f"{usd(total['estimated_usd'])} of the cost ({share(total['estimated_share'])}) is estimated"
        notes.append(f"{said}: {'; '.join(whys)}" if whys else said)
    notes += map(_rented, report.rented)
    if report.summed:
        notes.append("From daily sums: latencies are within 5 %, where the sums have them")
    untold = [task.task for task in report.tasks if task.succeeded is None]
    if untold:
        notes.append(
            f"Cost per successful task: unknown for {', '.join(map(clean, untold[:3]))}"
            f"{', ...' if len(untold) > 3 else ''}, as no end is recorded. From OTLP it is known where the task's "
            "own span is there"
        )
    return notes


def _footnotes(notes: Sequence[str], console: Console, fancy: bool) -> None:
    if notes:
        console.print()
    for note in notes:
        console.print(Text(note, style="dim" if fancy else ""), soft_wrap=not fancy)
