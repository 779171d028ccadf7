"""`tokenguard compare`: two versions, by what a success costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from tokenguard.cli.recorded import asked, chosen, recorded
from tokenguard.facts.errors import TokenGuardError
from tokenguard.facts.printed import document

if TYPE_CHECKING:
    from tokenguard.advice.compare import Arm, Comparison


@click.command()
@click.argument("first", metavar="KEY=VALUE")
@click.argument("second", metavar="KEY=VALUE")
@click.option("--task", metavar="GLOB", help="Only tasks of this name.")
@chosen
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option(
    "--seed",
    type=int,
    default=1,
    show_default=True,
    help="Seed of the resampling: the same seed gives the same interval.",
)
def compare(
    first: str,
    second: str,
    task: str | None,
    since: str | None,
    until: str | None,
    where: tuple[str, ...],
    source: tuple[str, ...],
    form: str,
    seed: int,
) -> None:
    """Compare two arms, as in prompt_version=v13 prompt_version=v14, by the cost of a success.

    An arm is the tasks (tokenguard.task) with this value; for model=, provider= and the like, which no task says, it is
    single calls. The two are called different only if the 95 % interval of their ratio excludes 1.
    """
    from tokenguard.advice.compare import compare as compare_arms

    query = asked(since, until, where)
    with recorded(source) as there:
        found = compare_arms(there.records, query, first, second, task, seed)
        shown, nothing = there.shown, there.nothing()
    if not found.first.tasks and not found.second.tasks:
        what = f" named {task!r}" if task else ""
        raise TokenGuardError(f"{shown}: no task{what} has {first} or {second}. {nothing}")
    if form == "json":
        click.echo(document(_facts(found)))
    else:
        _print(found)


def _facts(found: Comparison) -> dict[str, Any]:
    def arm(one: Arm) -> dict[str, Any]:
        return {
            "arm": one.name,
            "unit": one.unit,
            "tasks": len(one.tasks),
            "successes": one.successes,
            "success_share": one.success_share,
            "usd_per_success": one.usd_per_success,
            "calls": sum(task.calls for task in one.tasks),
            "input_tokens_per_call": one.input_tokens,
            "output_tokens_per_call": one.output_tokens,
            "latency_p50_s": one.latency_p50_s,
            "latency_p95_s": one.latency_p95_s,
        }

    ends = [end if end is None or math.isfinite(end) else None for end in (found.low, found.high)]
    return {
        "arms": [arm(found.first), arm(found.second)],
        "ratio": found.ratio,
        "ratio_interval": ends,
        "verdict": found.verdict,
        "more_tasks": found.more_tasks,
    }


def _print(found: Comparison) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from tokenguard.report.labels import clean
    from tokenguard.report.numbers import UNKNOWN, seconds, share, tokens, usds
    from tokenguard.report.terminal import console, is_fancy

    out = console()
    fancy = is_fancy(out)
    arms = (found.first, found.second)
    table = Table(box=box.SIMPLE_HEAD if fancy else None, pad_edge=False, show_edge=False)
    table.add_column("")
    for arm in arms:
        table.add_column(Text(clean(arm.name)), justify="right")
    rows = {
        f"{arms[0].unit}s": [f"{len(arm.tasks):,}" for arm in arms],
        "succeeded": [f"{arm.successes:,} ({share(arm.success_share)})" for arm in arms],
        "cost per success": usds([arm.usd_per_success for arm in arms]),
        "calls a task": [
            f"{sum(task.calls for task in arm.tasks) / len(arm.tasks):.1f}" if arm.tasks else UNKNOWN for arm in arms
        ],
        "input tokens a call": [tokens(arm.input_tokens) for arm in arms],
        "output tokens a call": [tokens(arm.output_tokens) for arm in arms],
        "latency, p50 / p95": [f"{seconds(arm.latency_p50_s)} / {seconds(arm.latency_p95_s)}" for arm in arms],
    }
    for title, cells in rows.items():
        table.add_row(title, *cells, style="bold" if fancy and title == "cost per success" else "")
    out.print(table)
    out.print()
    out.print(Text(_said(found), "bold" if fancy else ""), soft_wrap=not fancy)


def _said(found: Comparison) -> str:
    from tokenguard.advice.compare import FEW
    from tokenguard.report.labels import clean
    from tokenguard.report.numbers import share

    second, first = clean(found.second.name), clean(found.first.name)
    unit = found.first.unit
    if found.ratio is None:
        none = first if not found.first.successes else second
        return f"Cannot compare: {none} has no successful {unit} with a known cost."
    told = f"A success of {second} costs {found.ratio:.2f} times one of {first}"
    if found.low is None or found.high is None:
        return f"{told}; with fewer than {FEW} {unit}s in an arm this may be chance."
    told += f" (95 % interval {found.low:.2f} to {found.high:.2f})"
    if found.verdict != "undecided":
        return f"{told}: it is {found.verdict}, by {share(abs(1 - found.ratio))}."
    more = f"; about {found.more_tasks:,} more {unit}s of each are needed" if found.more_tasks else ""
    return f"{told}: no significant difference{more}."
