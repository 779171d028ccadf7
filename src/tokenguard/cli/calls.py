"""`tokenguard calls` and `tokenguard calls show ID`."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from tokenguard.cli.group import Suggesting
from tokenguard.cli.recorded import SOURCE, asked, chosen, recorded
from tokenguard.facts import names
from tokenguard.facts.printed import document

if TYPE_CHECKING:
    from rich.text import Text

    from tokenguard.report.calls import Call, Repeat
    from tokenguard.report.grid import Column

TOP = 20
FEATURE = names.attribution_attribute("feature")
ORDERS = ("cost", "latency", "first_chunk", "input", "output", "time")


@click.group(cls=Suggesting, invoke_without_command=True)
@chosen
@click.option(
    "--sort", type=click.Choice(ORDERS), default="cost", show_default=True, help="The figure to sort by, largest first."
)
@click.option("--failed", is_flag=True, help="Only calls that ended in an error, latest first.")
@click.option("--repeated", is_flag=True, help="Identical requests that were answered more than once.")
@click.option("--limit", type=click.IntRange(min=1), default=TOP, show_default=True, metavar="N", help="At most N.")
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.pass_context
def calls(
    ctx: click.Context,
    since: str | None,
    until: str | None,
    where: tuple[str, ...],
    source: tuple[str, ...],
    sort: str,
    failed: bool,
    repeated: bool,
    limit: int,
    form: str,
) -> None:
    """List single calls: the most expensive, the slowest (--sort latency), failed or repeated ones."""
    if ctx.invoked_subcommand is not None:
        return
    from tokenguard.report import calls as report

    query = asked(since, until, where, limit=limit)
    if failed and ctx.get_parameter_source("sort") is not click.core.ParameterSource.COMMANDLINE:
        sort = "time"
    with recorded(source) as there:
        found: Sequence[Call | Repeat]
        if repeated:
            found = again = report.repeats(there.records, query)
            facts = [each._asdict() for each in again]
        else:
            found = single = report.calls(there.records, query, sort, failed=failed)
            facts = [report.as_facts(each) for each in single]
    if form == "json":
        click.echo(document({"repeats" if repeated else "calls": facts}))
    elif form == "csv":
        click.echo(_csv(facts), nl=False)
    elif found:
        from tokenguard.report import grid, terminal

        grid.print_grid(terminal.console(), _repeats(again) if repeated else _calls(single))
    else:
        click.echo(there.nothing() if there.nothing_yet else "No such call is recorded.")


@calls.command()
@click.argument("ident", metavar="ID")
@SOURCE
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def show(ident: str, source: tuple[str, ...], form: str) -> None:
    """Show all that is recorded of one call. ID is the beginning of its span id, as the list has it."""
    from tokenguard.report import calls as report

    with recorded(source) as there:
        found = report.call(there.records, ident)
    if form == "json":
        click.echo(document(report.as_facts(found)))
        return
    from rich.text import Text

    from tokenguard.report.labels import clean, when
    from tokenguard.report.numbers import seconds, usd
    from tokenguard.report.terminal import console, is_fancy

    out = console()
    bold = "bold" if is_fancy(out) else ""
    record = found.record
    head = Text.assemble(
        (f"{found.id}  {record.outcome}  {usd(record.cost_usd)}  {seconds(record.duration_ns / 1e9)}", bold),
        f"  {when(record.start_ns)} UTC",
    )
    out.print(head)
    if record.trace_id:
        out.print(Text(f"trace {record.trace_id}"))
    for title, pairs in report.sections(record):
        out.print()
        out.print(Text(title, style=bold))
        width = max(len(label) for label, _ in pairs)
        for label, value in pairs:
            out.print(Text(f"  {clean(label).ljust(width)}  {clean(report.shown(label, value))}"), soft_wrap=True)


def _calls(found: Sequence[Call]) -> list[Column]:
    from tokenguard.report.calls import SHORT
    from tokenguard.report.grid import Column, name
    from tokenguard.report.labels import NO_VALUE, when
    from tokenguard.report.numbers import durations, shares, token_counts, usds

    def read(attribute: str) -> list[Any]:
        return [each.record.attributes.get(attribute) for each in found]

    hits = [
        None if cached is None or not sent else cached / sent
        for cached, sent in zip(read(names.CACHE_READ_TOKENS), read(names.INPUT_TOKENS), strict=True)
    ]
    errors = [str(each.record.attributes.get(names.ERROR_TYPE) or each.record.outcome) for each in found]
    return [
        Column("id", [name(each.id[:SHORT]) for each in found], name=True),
        Column("time (UTC)", [name(when(each.record.start_ns)[5:]) for each in found], 65),
        Column("feature", [name(str(key or NO_VALUE)) for key in read(FEATURE)], 90, name=True),
        Column("model", [name(each.record.model or NO_VALUE) for each in found], 80, name=True),
        Column("input", _numbers(token_counts(read(names.INPUT_TOKENS))), 60),
        Column("output", _numbers(token_counts(read(names.OUTPUT_TOKENS))), 60),
        Column("cache hit", _numbers(shares(hits)), 30),
        Column("latency", _numbers(durations([each.record.duration_ns / 1e9 for each in found])), 70),
        Column("cost", _numbers(usds(read(names.COST)))),
        Column("outcome", [name(error.rpartition(".")[2]) for error in errors], 75, name=True),
        Column("call site", [name(each.record.call_site or "") for each in found], 50, name=True),
    ]


def _repeats(found: Sequence[Repeat]) -> list[Column]:
    from tokenguard.report.grid import Column, name
    from tokenguard.report.labels import NO_VALUE, when
    from tokenguard.report.numbers import UNKNOWN, plain, usds

    warmth = [UNKNOWN if each.temperature is None else f"{each.temperature:g}" for each in found]
    return [
        Column("feature", [name(each.feature or NO_VALUE) for each in found], name=True),
        Column("model", [name(each.model or NO_VALUE) for each in found], 80, name=True),
        Column("times", _numbers(plain([each.times for each in found]))),
        Column("cost", _numbers(usds([each.usd for each in found])), 70),
        Column("of repeats", _numbers(usds([each.repeats_usd for each in found]))),
        Column("temperature", _numbers(warmth), 30),
        Column("first (UTC)", [name(when(each.first_ns)) for each in found], 20),
        Column("last (UTC)", [name(when(each.last_ns)) for each in found], 20),
        Column("call site", [name(each.call_site or "") for each in found], 60, name=True),
    ]


def _numbers(shown: Sequence[str]) -> list[Text]:
    from rich.text import Text

    return [Text(each) for each in shown]


def _csv(facts: Sequence[Mapping[str, Any]]) -> str:
    """All facts, attributes by their full names beside the others; unknown is empty, and no cell is a formula."""
    from tokenguard.report.labels import cell

    flat = [{**{key: each[key] for key in each if key != "attributes"}, **each.get("attributes", {})} for each in facts]
    keys = list(dict.fromkeys(key for each in flat for key in each))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(cell, keys))
    for each in flat:
        values = (each.get(key) for key in keys)
        writer.writerow(
            [
                value
                if value is None or isinstance(value, int | float)
                else cell(", ".join(value) if isinstance(value, tuple) else str(value))
                for value in values
            ]
        )
    return out.getvalue()
