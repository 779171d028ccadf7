"""`tokenguard reconcile`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from tokenguard.cli.recorded import SOURCE, now, recorded
from tokenguard.facts.dollars import signed
from tokenguard.facts.printed import document

if TYPE_CHECKING:
    from tokenguard.invoice.explain import Compared
    from tokenguard.invoice.lines import Line

BY: Final = ("day", "provider", "model")
WHOSE: Final = ("project", "key")
"""What the bill can be told by besides: one of them."""


@click.command()
@click.option(
    "--since", metavar="TIME", default="30d", show_default=True, help="7d before now, or a date as 2026-11-01."
)
@click.option("--until", metavar="TIME", help="Before this day; today's, which no bill has whole, is never in.")
@click.option("--from", "providers", multiple=True, metavar="NAME", help="A billing API; those whose keys are set.")
@click.option(
    "--bill", "bills", multiple=True, metavar="FILE", help="FOCUS or AWS CUR 2.0, CSV or Parquet; repeatable."
)
@click.option(
    "--by", default="provider,model", show_default=True, help="day, provider, model, and project or key, in any choice."
)
@SOURCE
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def reconcile(
    since: str,
    until: str | None,
    providers: tuple[str, ...],
    bills: tuple[str, ...],
    by: str,
    source: tuple[str, ...],
    form: str,
) -> None:
    """Compare what providers billed with what was measured, and explain the difference.

    Bills come from the providers' billing APIs whose admin keys are in the environment (OPENAI_ADMIN_KEY,
    ANTHROPIC_ADMIN_KEY, OPENROUTER_MANAGEMENT_KEY), or from files. See docs/reconcile.md.
    """
    from tokenguard.facts.errors import TokenGuardError
    from tokenguard.invoice.accounts import accounts, by_account, keys_of
    from tokenguard.invoice.explain import compare
    from tokenguard.invoice.measured import measured
    from tokenguard.policy import load
    from tokenguard.report.query import Query, moment

    keys = [key.strip() for key in by.split(",") if key.strip()]
    if unknown := set(keys) - {*BY, *WHOSE}:
        raise TokenGuardError(f"--by {', '.join(sorted(unknown))}: a bill is compared by {', '.join((*BY, *WHOSE))}")
    whose = [key for key in keys if key in WHOSE]
    if len(whose) > 1:
        raise TokenGuardError("--by project,key: a bill is told by one of the two. Ask twice")
    at = now()
    first = _day(moment(since, at))
    last = min(_day(moment(until, at)) if until else at.date(), at.date())
    if first >= last:
        raise TokenGuardError(f"from {first} to {last} there is no whole UTC day: give an earlier --since")
    account = whose[0] if whose else "project"
    known = accounts(load().reconcile, account)
    kept = keys_of(known) if whose else ()
    lines = [line for line in _lines(providers, bills, first, last, account) if f"{first}" <= line.day < f"{last}"]
    billing = {line.provider for line in lines}
    query = Query(by=BY, since_ns=_ns(first), until_ns=_ns(last))
    with recorded(source) as there:
        found = measured(there.records, query, (*BY, *kept))
    found = {group: calls for group, calls in found.items() if group[1] in billing}
    if not lines:
        raise TokenGuardError(f"the bills have no line from {first} to {last}")
    if whose:
        compared = by_account(lines, found, kept, known, account)
    else:
        ours = {(str(day), str(provider), str(model or "")): calls for (day, provider, model), calls in found.items()}
        compared = compare(lines, ours, None if known is None else dict.fromkeys(known, ""))
    if form == "json":
        click.echo(document(as_facts(compared, first, last)))
    else:
        _print(compared, keys, first, last)


def _lines(providers: Sequence[str], bills: Sequence[str], first: date, last: date, account: str) -> Iterator[Line]:
    from tokenguard.invoice.files import lines_of
    from tokenguard.invoice.lines import InvoiceError
    from tokenguard.invoice.readers import ANTHROPIC_LEGACY, READERS

    for bill in bills:
        yield from lines_of(Path(bill))
    if unknown := set(providers) - set(READERS):
        raise InvoiceError(f"--from {', '.join(sorted(unknown))}: there is {', '.join(READERS)}")
    set_up = [name for name, reader in READERS.items() if reader.key and reader is not ANTHROPIC_LEGACY]
    if not providers and not bills and not set_up:
        needs = "; ".join(reader.needs for name, reader in READERS.items() if reader is not ANTHROPIC_LEGACY)
        raise InvoiceError(f"no bill to read. Give a file with --bill, or set a key: {needs}")
    for name in providers or (() if bills else set_up):
        yield from READERS[name].lines(first, last, account)


def _day(ns: int) -> date:
    return datetime.fromtimestamp(ns / 1e9, UTC).date()


def _ns(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 10**9


def as_facts(compared: Sequence[Compared], first: date, last: date) -> dict[str, Any]:
    """What was found as JSON, in USD."""
    from tokenguard.invoice.explain import factors

    return {
        "since": f"{first}",
        "until": f"{last}",
        "billed_usd": sum(cell.billed_usd for cell in compared),
        "measured_usd": sum(cell.measured_usd for cell in compared),
        "difference": [{"kind": kind, "usd": usd} for kind, usd in _by_kind(compared).items()],
        "cells": [
            {
                **cell._asdict(),
                "parts": [{"kind": part.kind, "usd": part.usd, "says": part.says} for part in cell.parts],
            }
            for cell in compared
        ],
        "factors": [
            {"provider": provider, "model": model, "billed_over_measured": factor}
            for (provider, model), factor in factors(compared).items()
        ],
    }


def _by_kind(compared: Iterable[Compared]) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for cell in compared:
        for part in cell.parts:
            sums[part.kind] += part.usd
    return dict(sorted(sums.items(), key=lambda each: -abs(each[1])))


def _print(compared: Sequence[Compared], keys: Sequence[str], first: date, last: date) -> None:
    from rich.text import Text

    from tokenguard.invoice.explain import REASONS, factors
    from tokenguard.report.grid import Column, name, print_grid
    from tokenguard.report.labels import NO_VALUE
    from tokenguard.report.numbers import usds
    from tokenguard.report.terminal import console

    out = console()
    groups: dict[tuple[str, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for cell in compared:
        sums = groups[tuple(str(getattr(cell, "account" if key in WHOSE else key)) for key in keys)]
        sums[0] += cell.billed_usd
        sums[1] += cell.measured_usd
    rows = sorted(groups.items(), key=lambda row: (row[0] if "day" in keys else (), -row[1][0]))
    totals = [both for _, both in rows]
    totals.append([sum(both[n] for both in totals) for n in (0, 1)])
    columns = [
        Column(key, [*(name(row[n] or NO_VALUE) for row, _ in rows), Text("total" if n == 0 else "")], name=True)
        for n, key in enumerate(keys)
    ]
    figures = {
        "billed": usds([billed for billed, _ in totals]),
        "measured": usds([own for _, own in totals]),
        "difference": [signed(billed - own) for billed, own in totals],
        "billed / measured": [f"{billed / own:.3f}" if own else NO_VALUE for billed, own in totals],
    }
    columns += [Column(title, [Text(cell) for cell in cells]) for title, cells in figures.items()]
    out.print(f"Billed beside measured, {first} to {last - timedelta(days=1)}, whole UTC days, USD\n", highlight=False)
    print_grid(out, columns, total=True)
    for kind, usd in _by_kind(compared).items():
        out.print(f"\n{signed(usd):>12}  {kind}: {REASONS[kind]}", highlight=False, soft_wrap=True)
        for line in _largest(compared, kind):
            out.print(f"              {line}", highlight=False, soft_wrap=True)
    off = {key: factor for key, factor in factors(compared).items() if abs(factor - 1) >= 0.001}
    for (provider, model), factor in off.items():
        out.print(
            f"\n{provider} {model}: the same tokens were billed at {factor:.3f} times what was measured",
            highlight=False,
        )


def _largest(compared: Iterable[Compared], kind: str, most: int = 3) -> list[str]:
    parts = [part for cell in compared for part in cell.parts if part.kind == kind]
    if kind == "rounding":
        return []
    parts.sort(key=lambda part: -abs(part.usd))
    shown = [
        " ".join(filter(None, (part.day, part.provider, part.model, signed(part.usd), part.says)))
        for part in parts[:most]
    ]
    return [*shown, *([f"and {len(parts) - most} more"] if len(parts) > most else [])]
