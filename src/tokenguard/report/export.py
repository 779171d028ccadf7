"""A report for programs: JSON and CSV; and as Markdown, for a comment or a wiki."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from tokenguard.facts.printed import document
from tokenguard.report.figures import Report, many
from tokenguard.report.findings import Finding
from tokenguard.report.labels import NO_VALUE, cell, iso, markdown, when
from tokenguard.report.numbers import changes, durations, plain, share, shares, signed_shares, token_counts, usd, usds
from tokenguard.report.query import CUSTOM
from tokenguard.report.trend import Trend, as_facts
from tokenguard.store.faults import Fault


def as_json(
    report: Report,
    findings: Sequence[Finding],
    trend: Trend | None = None,
    faults: Sequence[Fault] = (),
    *,
    utf8: bool = True,
) -> str:
    """The report for programs. Units are in the names: `_usd`, `_tokens`, `_s`, shares of 1; unknown is null.

    A row's keys are an object of their own: a key of the user's may be named as a figure is.
    """
    return document(
        {
            "by": list(report.query.by),
            "first_call": iso(report.first_ns),
            "last_call": iso(report.last_ns),
            "total": report.total.figures,
            "rows": [{"keys": dict(zip(report.query.by, row.keys, strict=True)), **row.figures} for row in report.rows],
            "more_rows": report.more,
            "tasks": [task._asdict() for task in report.tasks],
            "units": [row._asdict() for row in report.units],
            "rented": [row._asdict() for row in report.rented],
            "lookups": [row._asdict() for row in report.lookups],
            "unpriced": [{"model": model, "calls": calls} for model, calls in report.unpriced],
            "estimated": [{"basis": basis, "cost_usd": usd} for basis, usd in report.estimated],
            "trend": trend and as_facts(trend),
            "findings": [finding._asdict() for finding in findings],
            "faults": [
                {"kind": fault.kind, "count": fault.times, "last": iso(fault.last_ns), "said": fault.said}
                for fault in faults
            ],
        },
        utf8=utf8,
    )


def as_csv(report: Report) -> str:
    """The rows as CSV, with a header; unknown is empty. A key that is named as a figure is has `attr.` before it.

    No cell is a formula for a spreadsheet, and none has control characters.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    keys = (f"{CUSTOM}{key}" if key in report.total.figures else key for key in report.query.by)
    writer.writerow([*map(cell, keys), *report.total.figures])
    for row in report.rows:
        writer.writerow([*(None if key is None else cell(key) for key in row.keys), *row.figures.values()])
    return out.getvalue()


def as_markdown(
    report: Report, findings: Sequence[Finding], trend: Trend | None, source: str, faults: Sequence[Fault] = ()
) -> str:
    """The report as Markdown (GitHub's, with tables)."""
    total = report.total.figures
    said = [f"**{usd(total['cost_usd'])}** in {many(total['calls'], 'call')}"]
    if total["cache_hit_share"] is not None:
        said.append(f"{share(total['cache_hit_share'])} of the input from the cache")
    if total["errors"]:
        said.append(many(total["errors"], "error"))
    if trend and trend.forecast_usd is not None:
        said.append(f"{usd(trend.forecast_usd)} by the end of the month at this rate")
    title = f"### LLM spend, {when(report.first_ns)} to {when(report.last_ns)} UTC"
    missed = [f"**TokenGuard missed something:** {markdown(fault.text)}." for fault in faults]
    lines = [title, "", *missed, *([""] if missed else []), ", ".join(said) + ".", "", *_table(report), ""]
    if report.more:
        lines += [f"and {report.more:,} more ({usd(report.more_usd)}), which the total counts.", ""]
    lines += [
        f"- {f'**{usd(finding.usd)}** {finding.usd_is}: ' if finding.usd else ''}{markdown(finding.says)}. "
        f"{markdown(finding.next_step[0].upper() + finding.next_step[1:])}."
        for finding in findings
    ]
    return "\n".join([*lines, *([""] if findings else []), f"TokenGuard, from {markdown(source)}", ""])


def _table(report: Report) -> Iterator[str]:
    rows = [*report.rows, report.total] if len(report.rows) > 1 else report.rows
    columns = (
        ("calls", "calls", plain),
        ("tokens/call", "tokens_per_call", token_counts),
        ("cache hit", "cache_hit_share", shares),
        ("p95", "latency_p95_s", durations),
        ("cost", "cost_usd", usds),
        ("as billed", "as_billed_usd", usds),
        ("revenue", "revenue_usd", usds),
        ("margin", "margin_usd", usds),
        ("margin share", "margin_share", signed_shares),
        ("change", "change", changes),
        ("share", "cost_share", shares),
    )
    read = [(title, show, [row.figure(figure) for row in rows]) for title, figure, show in columns]
    shown = [(title, show(values)) for title, show, values in read if any(value is not None for value in values)]
    keys = [[markdown(NO_VALUE if key is None else key) for key in row.keys] for row in rows]
    if len(report.rows) > 1:
        keys[-1] = ["**total**", *[""] * (len(report.query.by) - 1)]
    yield f"| {' | '.join([*map(markdown, report.query.by), *(title for title, _ in shown)])} |"
    yield f"|{'---|' * len(report.query.by)}{'---:|' * len(shown)}"
    for n, key in enumerate(keys):
        yield f"| {' | '.join([*key, *(values[n] for _, values in shown)])} |"
