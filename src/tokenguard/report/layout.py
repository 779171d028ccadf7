"""A report on paper: a table for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, NamedTuple

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tokenguard.report.figures import CUSTOM, DIMENSIONS, Report, Row, in_time, many
from tokenguard.report.findings import Finding
from tokenguard.report.terminal import is_fancy

UNKNOWN = "-"
NO_VALUE = "(none)"
MIN_KEY = 12
"""Characters that a key keeps, however narrow the terminal."""
GAP = 2
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
    for size, unit, start in ((1e9, "G", 1e9), (1e6, "M", 1e6), (1e3, "k", 1e4)):
        if value >= start * 0.99995:  # from where on it is rounded up to the start
            return f"{value / size:,.1f}{unit}"
    return f"{value:,.0f}"


def share(value: float | None) -> str:
    """A share of 1 as a percentage: 0% is nothing and 100% is all, not nearly so."""
    if value is None:
        return UNKNOWN
    if 0 < value < 0.0005:
        return "<0.1%"
    if 0.995 <= value < 1 - 1e-9:  # sums in another order differ by less
        return ">99%"
    return f"{value:.0%}" if value == 0 or value >= 0.0995 else f"{value:.1%}"


def count(value: float | None) -> str:
    """A count; nothing where there was none."""
    return UNKNOWN if value is None else f"{value:,}" if value else ""


class Column(NamedTuple):
    """One column: its title, the figure, how it is shown, and how much it is missed when there is no room for it."""

    title: str
    figure: str
    show: Callable[[Any], str]
    worth: int = 10


COLUMNS = (
    Column("calls", "calls", lambda n: f"{n:,}", 9),
    Column("input", "input_tokens", tokens, 7),
    Column("output", "output_tokens", tokens, 7),
    Column("cache hit", "cache_hit_share", share, 8),
    Column("saved", "saved_usd", usd, 6),
    Column("retries", "retries", count, 2),
    Column("retry cost", "retry_cost_usd", lambda value: usd(value) if value else "", 4),
    Column("errors", "errors", count, 4),
    Column("blocked", "blocked", count, 5),
    Column("cost/1k calls", "cost_per_1000_calls_usd", usd, 6),
    Column("cost", "cost_usd", usd),
    Column("", "cost_share", lambda value: "", 3),
    Column("share", "cost_share", share, 8),
)
"""In their order. The column without a title is the bar."""


def print_table(
    report: Report, findings: Sequence[Finding], source: str, console: Console, notes: Sequence[str] = ()
) -> None:
    """The report for people: coloured on a terminal, plain text elsewhere. `console` must not read markup.

    `notes` are said at its end, beside its own.
    """
    fancy = is_fancy(console)
    _headline(report, source, console)
    rows = [*report.rows, report.total] if len(report.rows) > 1 else report.rows
    columns = [column for column in COLUMNS if _says_something(column, rows, fancy)]
    cells = [[_cell(column, row, fancy) for column in columns] for row in rows]
    keys = [[_key(key, fancy) for key in row.keys] for row in rows]
    if len(report.rows) > 1:
        keys[-1] = [Text("total"), *[Text()] * (len(report.query.by) - 1)]
    widths = [max(len(column.title), *(len(row[n]) for row in cells)) for n, column in enumerate(columns)]
    wanted = [max(len(dimension), *(key[n].cell_len for key in keys)) for n, dimension in enumerate(report.query.by)]
    reserved = [min(width, max(MIN_KEY, console.width // (3 * len(wanted)))) for width in wanted]
    kept, room = _fit(columns, widths, console.width - sum(reserved) - GAP * len(reserved))
    table = Table(
        box=box.SIMPLE_HEAD if fancy else None,
        pad_edge=False,
        header_style="bold" if fancy else "",
        show_edge=False,
        padding=(0, GAP - 1 if fancy else GAP, 0, 0),  # the box adds a space of its own
    )
    key_widths = _widened(reserved, wanted, room)
    for dimension, width in zip(report.query.by, key_widths, strict=True):
        table.add_column(Text(dimension), overflow="crop", no_wrap=True, width=width)
    for n in kept:
        table.add_column(Text(columns[n].title), justify="right", no_wrap=True, min_width=widths[n])
    for n, (key, cell) in enumerate(zip(keys, cells, strict=True)):
        last = n == len(report.rows)
        if last:
            table.add_section()
        cut = [_cut(text, width, fancy) for text, width in zip(key, key_widths, strict=True)]
        table.add_row(*cut, *(cell[k] for k in kept), style="bold" if last and fancy else "")
    console.print(table)
    if report.more:
        console.print(_rest(report), style="dim" if fancy else "")
    _tasks(report, console, fancy)
    _findings(findings, console, fancy)
    _footnotes([*_notes(report), *notes], console, fancy)


def _rest(report: Report) -> str:
    """What the limit left out."""
    which = "before these" if in_time(report.query) else "more"
    spent = report.total.figures["cost_usd"]
    part = f", {share(report.more_usd / spent)} of the cost" if spent else ""
    return f"... and {report.more:,} {which} ({usd(report.more_usd)}{part}), which the total counts; --limit shows more"


def _says_something(column: Column, rows: Sequence[Row], fancy: bool) -> bool:
    if not column.title:
        return fancy
    return any(column.show(row.figures[column.figure]) for row in rows)


def _fit(columns: Sequence[Column], widths: Sequence[int], room: int) -> tuple[list[int], int]:
    """The columns there is room for, by their worth, and the room that is left; a number is never cut."""
    kept: list[int] = []
    for n in sorted(range(len(columns)), key=lambda n: -columns[n].worth):
        if widths[n] + GAP <= room:
            kept.append(n)
            room -= widths[n] + GAP
    return sorted(kept), room


def _widened(widths: Sequence[int], wanted: Sequence[int], room: int) -> list[int]:
    """The widths of the keys' columns, with the room that is left given to those that want it."""
    given = []
    for width, wish in zip(widths, wanted, strict=True):
        more = min(wish - width, max(0, room))
        room -= more
        given.append(width + more)
    return given


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
        parts.append(("retries", f"{total['retries']:,} ({usd(total['retry_cost_usd'])})"))
    if total["errors"]:
        parts.append(("errors", f"{total['errors']:,} ({share(total['errors'] / total['calls'])})"))
    if total["blocked"]:
        parts.append(("blocked", f"{total['blocked']:,} ({usd(total['prevented_usd'])} prevented)"))
    fancy = is_fancy(console)
    when = f"{_when(report.first_ns)} to {_when(report.last_ns)} UTC"
    lines = [Text()]
    for title, value in parts:
        piece = Text.assemble((f"{title} ", "dim" if fancy else ""), (value, "bold" if fancy else ""))
        if lines[-1] and len(lines[-1]) + 3 + len(piece) > console.width - (4 if fancy else 0):
            lines.append(Text())
        if lines[-1]:
            lines[-1].append("   ")
        lines[-1].append_text(piece)
    if fancy:
        head = Text.assemble(("TokenGuard", "bold cyan"), f"  {when}")
        foot = Text(clean(source), style="dim")
        console.print(Panel(Group(*lines), title=head, title_align="left", subtitle=foot, subtitle_align="right"))
    else:
        console.print(f"TokenGuard  {when}  {clean(source)}", soft_wrap=True)
        for line in lines:
            console.print(line)
    console.print()


def _key(key: str | None, fancy: bool) -> Text:
    if key is None:
        return Text(NO_VALUE, style="dim" if fancy else "")
    return Text(clean(_short(key)))


def _cell(column: Column, row: Row, fancy: bool) -> Text:
    value = row.figures[column.figure]
    if not column.title:
        return _bar(value or 0.0)
    shown = column.show(value)
    style = ""
    if shown == UNKNOWN:
        style = "dim"
    elif column.figure == "saved_usd" and value:
        style = "green" if value > 0 else "red"
    elif column.figure in ("errors", "blocked", "retry_cost_usd") and value:
        style = "yellow"
    elif column.figure == "cost_usd":
        style = "bold"
    if column.figure == "cost_usd" and row.figures["unpriced_calls"]:
        shown = f"{shown}*"
    return Text(shown, style=style if fancy else "")


def _bar(part: float) -> Text:
    full = min(BAR_WIDTH, round(part * BAR_WIDTH))
    return Text.assemble(("█" * full, "cyan"), ("░" * (BAR_WIDTH - full), "dim"))


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
            Text(clean(task.task)),
            UNKNOWN if task.succeeded is None else f"{task.succeeded:,}",
            count(task.failed),
            usd(task.cost_usd),
            usd(task.cost_per_success_usd),
        )
    console.print()
    console.print(table)


def _findings(findings: Sequence[Finding], console: Console, fancy: bool) -> None:
    if not findings:
        return
    console.print()
    for finding in findings:
        line = Text.assemble(
            ("▸ " if fancy else "! ", "yellow" if fancy else ""),
            (f"{usd(finding.usd)} {finding.usd_is}: " if finding.usd else "", "bold" if fancy else ""),
            f"{clean(finding.says)}. ",
            (f"{finding.next_step[0].upper()}{finding.next_step[1:]}.", "dim" if fancy else ""),
        )
        console.print(line, soft_wrap=not fancy)


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
    if total["estimated_usd"]:
        notes.append(
            f"{usd(total['estimated_usd'])} of the cost ({share(total['estimated_share'])}) is estimated: tokens or a "
            "rate were not reported"
        )
    untold = [task.task for task in report.tasks if task.succeeded is None]
    if untold:
        notes.append(
            f"Cost per successful task: unknown for {', '.join(map(clean, untold[:3]))}"
            f"{', ...' if len(untold) > 3 else ''}, as no end is recorded. It is unknown from OTLP, where spans do not "
            "say how a task ended; the local store does"
        )
    for n, dimension in enumerate(report.query.by):
        if dimension not in DIMENSIONS and all(row.keys[n] is None for row in report.rows):
            near = get_close_matches(dimension, DIMENSIONS, 1)
            notes.append(f"No call has a key {clean(dimension)!r}{f'; there is {near[0]!r}' if near else ''}")
    return notes


def _footnotes(notes: Sequence[str], console: Console, fancy: bool) -> None:
    if notes:
        console.print()
    for note in notes:
        console.print(Text(note, style="dim" if fancy else ""), soft_wrap=not fancy)


def clean(text: str) -> str:
    r"""Text that a terminal takes for text: what callers name their tenants is not ours to trust.

    >>> clean("a\x1b[2Jb")
    'a?[2Jb'
    """
    return "".join(character if character.isprintable() else "?" for character in text)


def _short(key: str) -> str:
    """A path as seen from here, where that is shorter."""
    if key.startswith(os.sep):
        relative = os.path.relpath(key)
        return relative if len(relative) < len(key) else key
    return key


def _cut(key: Text, width: int, fancy: bool) -> Text:
    """A key that is too long loses its end; a path its beginning, as file and line are at its end."""
    if key.cell_len <= width:
        return key
    dots = "…" if fancy else "..."
    if os.sep not in key.plain:
        return Text(f"{set_cell_size(key.plain, width - len(dots))}{dots}", key.style)
    kept = key.plain
    while cell_len(kept) > width - len(dots):
        kept = kept[1:]
    return Text(f"{dots}{kept}", key.style)


def _when(ns: int | None) -> str:
    return UNKNOWN if ns is None else f"{datetime.fromtimestamp(ns / 1e9, UTC):%Y-%m-%d %H:%M}"


def _iso(ns: int | None) -> str | None:
    return None if ns is None else datetime.fromtimestamp(ns // 10**9, UTC).isoformat()


def as_json(report: Report, findings: Sequence[Finding], *, utf8: bool = True) -> str:
    """The report for programs. Units are in the names: `_usd`, `_tokens`, shares of 1; unknown is null.

    A row's keys are an object of their own: a key of the user's may be named as a figure is.
    """
    return json.dumps(
        {
            "by": list(report.query.by),
            "first_call": _iso(report.first_ns),
            "last_call": _iso(report.last_ns),
            "total": report.total.figures,
            "rows": [{"keys": dict(zip(report.query.by, row.keys, strict=True)), **row.figures} for row in report.rows],
            "more_rows": report.more,
            "tasks": [task._asdict() for task in report.tasks],
            "unpriced": [{"model": model, "calls": calls} for model, calls in report.unpriced],
            "findings": [finding._asdict() for finding in findings],
        },
        indent=2,
        ensure_ascii=not utf8,
    )


def as_csv(report: Report) -> str:
    """The rows as CSV, with a header; unknown is empty. A key that is named as a figure is has `attr.` before it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    keys = (f"{CUSTOM}{key}" if key in report.total.figures else key for key in report.query.by)
    writer.writerow([*keys, *report.total.figures])
    for row in report.rows:
        writer.writerow([*row.keys, *row.figures.values()])
    return out.getvalue()
