"""`tokenguard report`."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tokenguard.cli.recorded import asked, chosen, now, recorded
from tokenguard.facts.printed import document

if TYPE_CHECKING:
    from tokenguard.cli.recorded import Recorded
    from tokenguard.report.figures import Report
    from tokenguard.report.findings import Finding
    from tokenguard.report.query import Query
    from tokenguard.report.trend import Trend
    from tokenguard.store.faults import Fault

TOP = 20
"""How many groups a table shows unless `--limit` says."""

TELLS_NOTHING = (
    "No call tells its {}s: requests are looked at after their span has ended, so that local stores know, and a "
    "collector's files do not. The metric tokenguard.input.tokens has the sections, too."
)


@click.command()
@click.option("--by", multiple=True, metavar="KEY[,KEY]", help="What to group by. Default: feature.")
@chosen
@click.option("--sort", metavar="FIGURE", help="The figure or key to sort by. Default: cost_usd.")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help=f"At most N groups. A table shows {TOP} by default."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv", "md", "html", "focus", "focus-1.3"]),
    default="table",
    show_default=True,
)
@click.option(
    "--billed",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also show the cost as it is billed, by the factors in this: tokenguard reconcile --format json > FILE.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where FOCUS rows go: a file, as Parquet where its name ends so, or else as CSV.",
)
def report(
    by: tuple[str, ...],
    since: str | None,
    until: str | None,
    where: tuple[str, ...],
    source: tuple[str, ...],
    sort: str | None,
    limit: int | None,
    form: str,
    billed: Path | None,
    output: Path | None,
) -> None:
    """Show what was spent, on what, what caching saved, what retries cost, and what was blocked.

    KEY is tenant, feature, route, prompt_version, team, user, a key of your own, model, provider, operation, call_site,
    day, hour, minute, task, task_run, trace, conversation, outcome, error, rule, action, route_rule, route_arm,
    route_version, cache_rule, cache_result, cache_reason or cost_basis. Write attr.KEY for a key of
    your own with one of these names. With --since, each group is compared with the previous period. Two more stand
    alone: section, where the input tokens are, and tool, what each tool's definition costs.
    """
    from tokenguard.report import figures, findings, revenue, trend

    query = asked(since, until, where, by, sort=sort, limit=limit or (TOP if form in ("table", "md") else None))
    if billed is not None and (form == "html" or form.startswith("focus") or query.by in (("section",), ("tool",))):
        raise click.UsageError("--billed is for reports of cost, as a table, json, csv or md")
    if query.by in (("section",), ("tool",)):
        _print_inputs(query, source, form)
        return
    if form == "html":
        _print_page(query, source)
        return
    if form.startswith("focus"):
        _print_focus(query, source, form.removeprefix("focus-") if "-" in form else "1.2", output)
        return
    if output is not None:
        raise click.UsageError("--output is where --format focus writes to; redirect other formats")
    notes = []
    with recorded(source) as there:
        found = figures.ask(there.records, query, revenue.stated(query))
        if billed is not None:
            from tokenguard.invoice import corrected

            notes.append(corrected.add(there.records, found, corrected.read(billed), time.time()))
        going = None if form == "csv" else trend.trend(there.records, query, now())
        outliers = going.outliers if going else ()
        faults = there.faults(query)
        insights = [] if form == "csv" else findings.find(there.records, found, outliers)
    calls = found.total.figures["calls"]
    if calls or form in ("csv", "json"):
        _print(found, insights, going, form, there, faults, notes)
    if not calls:
        click.echo(there.nothing(), err=form != "table")


def _print_page(query: Query, source: tuple[str, ...]) -> None:
    """The page as one file, which needs nothing else: for a browser, or to mail."""
    from tokenguard.cli.budgets import standing
    from tokenguard.page.advised import advised
    from tokenguard.page.document import document
    from tokenguard.page.gathered import gathered
    from tokenguard.report import revenue

    with recorded(source) as there:
        later = advised(there.records, query)
        stand, faults = () if source else standing(), there.faults(query)
        paid = revenue.stated(replace(query, by=query.by[:1]))
        page = gathered(there.records, query, there.shown, now(), stand, later=later, faults=faults, paid=paid)
    click.echo(document(page), nl=False)


def _print_focus(query: Query, source: tuple[str, ...], version: str, output: Path | None) -> None:
    """FOCUS rows; what they leave out is said beside them."""
    from tokenguard.invoice import focus
    from tokenguard.policy import load

    query = focus.whole_days(query)
    with recorded(source) as there:
        rows = list(focus.rows(focus.charges(there.records, query), version, load().prices))
        left_out = focus.unpriced(there.records, query)
    if output is None:
        click.echo(focus.as_csv(rows), nl=False)
    elif output.suffix == ".parquet":
        focus.write_parquet(rows, output)
    else:
        output.write_text(focus.as_csv(rows), encoding="utf-8", newline="")
    if left_out:
        click.echo(
            f"{left_out:,} calls have no known price, and so no row. tokenguard report names their models", err=True
        )
    if not rows:
        click.echo(there.nothing(), err=True)


def _print_inputs(query: Query, source: tuple[str, ...], form: str) -> None:
    from tokenguard.facts.errors import TokenGuardError
    from tokenguard.report import figures, inputs, terminal

    if form not in ("table", "json"):
        raise TokenGuardError(f"--by {query.by[0]} is shown as a table or as json, not as {form}")
    with recorded(source) as there:
        found = inputs.parts(there.records, query)
        some = bool(found) or bool(figures.ask(there.records, replace(query, by=("feature",))).total.figures["calls"])
    if form == "json":
        click.echo(document({"by": [query.by[0]], "rows": [part._asdict() for part in found]}))
    elif found:
        from tokenguard.report.parts import print_parts

        print_parts(found, query.by[0], terminal.console())
    else:
        click.echo(TELLS_NOTHING.format(query.by[0]) if some else there.nothing())


def _print(
    found: Report,
    insights: list[Finding],
    going: Trend | None,
    form: str,
    there: Recorded,
    faults: list[Fault],
    notes: list[str],
) -> None:
    from tokenguard.report import export, terminal

    for note in notes if form != "table" else ():
        click.echo(note, err=True)
    if form == "csv":
        click.echo(export.as_csv(found), nl=False)
    elif form == "json":
        click.echo(export.as_json(found, insights, going, faults, utf8=terminal.is_utf8(sys.stdout.encoding)))
    elif form == "md":
        click.echo(export.as_markdown(found, insights, going, there.shown, faults), nl=False)
    else:
        from tokenguard.report.table import print_table

        notes = [*_repeated(there.repeated), *_linted(found), *notes]
        print_table(found, insights, there.shown, terminal.console(), notes, going, faults)


def _repeated(calls: int) -> list[str]:
    return [f"Found more than once in the sources, by trace and span id, and counted once: {calls:,}"] if calls else []


def _linted(found: Report) -> list[str]:
    """What the linter says of the call sites that are shown."""
    if "call_site" not in found.query.by:
        return []
    from tokenguard.cli.linted import rules_at
    from tokenguard.report.labels import clean

    at = found.query.by.index("call_site")
    rules = rules_at(dict.fromkeys(row.keys[at] for row in found.rows))
    return [
        f"{clean(os.path.relpath(site))}: {', '.join(names)}; see tokenguard explain" for site, names in rules.items()
    ]
