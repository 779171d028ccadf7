"""The command line. Each command is imported when it is used, so that none pays for another's imports."""

from __future__ import annotations

import importlib
import importlib.util
import io
import os
import sys
from typing import Any

import click

from tokenguard.cli.group import Suggesting
from tokenguard.facts.tuples import NamedTuple


class Entry(NamedTuple):
    """One command: where it is, what it does, which part of the overview it is in, and how it is shown there."""

    module: str
    name: str
    says: str
    part: str = "Also"
    example: str = ""


EXIT_CODES = {
    0: "all is well; for `lint`, nothing found",
    1: "findings (`lint`), a higher cost (`ci comment --exit-code`), a check that fails (`doctor`), "
    "an unknown model (`prices`), a lost ledger (`budgets`)",
    2: "wrong usage, settings, policy or input; the message says what, and the next step",
    127: "`tokenguard-instrument`: command not found",
    130: "interrupted (Ctrl-C)",
}
"""What commands end with."""

COMMANDS = {
    "init": Entry("tokenguard.cli.init", "init", "Set a project up: policy, lint hook, CI.", "Start", "init --dry-run"),
    "demo": Entry(
        "tokenguard.cli.demo", "demo", "Run a workload against a simulated provider, and report it.", "Start"
    ),
    "report": Entry(
        "tokenguard.cli.report",
        "report",
        "Spend by any key; savings, retries, blocked calls.",
        "Measure",
        "report --by feature,model",
    ),
    "whatif": Entry(
        "tokenguard.cli.whatif",
        "whatif",
        "What a policy would have saved, step by step.",
        "Measure",
        "whatif --suggest",
    ),
    "compare": Entry(
        "tokenguard.cli.compare",
        "compare",
        "Compare two versions by cost per success.",
        "Measure",
        "compare prompt_version=v13 prompt_version=v14",
    ),
    "calls": Entry(
        "tokenguard.cli.calls",
        "calls",
        "Single calls: most expensive, slowest, failed, repeated.",
        "Measure",
        "calls --sort latency",
    ),
    "dashboard": Entry(
        "tokenguard.cli.dashboard", "dashboard", "A page in the browser, on this machine, updated live.", "Measure"
    ),
    "prices": Entry(
        "tokenguard.cli.prices",
        "prices",
        "The rates of a model, and where they come from.",
        "Measure",
        "prices gpt-4o",
    ),
    "reconcile": Entry(
        "tokenguard.cli.reconcile",
        "reconcile",
        "Compare bills with measured cost, explain the difference.",
        "Measure",
        "reconcile --since 30d",
    ),
    "store": Entry("tokenguard.cli.store", "store", "Prune the local store, or export it.", "Measure", "store prune"),
    "policy": Entry(
        "tokenguard.cli.policy",
        "policy",
        "Check the policy file, or show the effective policy.",
        "Guard",
        "policy check",
    ),
    "batches": Entry(
        "tokenguard.cli.batches", "batches", "Open batch jobs: attribution, age, worst-case cost.", "Guard"
    ),
    "budgets": Entry("tokenguard.cli.budgets", "budgets", "Utilisation of each budget, and what is left.", "Guard"),
    "cache": Entry(
        "tokenguard.cli.cache",
        "cache",
        "Kept answers: count them, delete them, evaluate a rule.",
        "Guard",
        "cache stats",
    ),
    "grafana": Entry(
        "tokenguard.cli.grafana",
        "grafana",
        "Dashboards and alert rules for your Grafana.",
        "Guard",
        "grafana export monitoring",
    ),
    "doctor": Entry(
        "tokenguard.cli.doctor",
        "doctor",
        "Check SDKs, store, ledger and OTLP endpoint.",
        "Start",
    ),
    "schema": Entry("tokenguard.cli.schema", "schema", "The JSON Schema of a command's JSON output."),
    "lint": Entry("tokenguard.cli.lint", "lint", "Find waste in the code before it runs.", "Before it ships", "lint ."),
    "ci": Entry(
        "tokenguard.cli.ci",
        "ci",
        "What a change makes more expensive, as a comment.",
        "Before it ships",
        "ci comment --base origin/main",
    ),
    "explain": Entry("tokenguard.cli.lint", "explain", "A lint rule's page.", "Before it ships", "explain TG102"),
}


def _exists(row: Entry) -> bool:
    try:
        return importlib.util.find_spec(row.module) is not None
    except ModuleNotFoundError:  # not even the package it would be in
        return False


class LazyGroup(Suggesting):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands there are."""
        return [name for name, row in COMMANDS.items() if _exists(row)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, imported now."""
        row = COMMANDS.get(cmd_name)
        if row is None or not _exists(row):
            return None
        from tokenguard.cli.examples import explain

        command: click.Command = getattr(importlib.import_module(row.module), row.name)
        return explain(command, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list for `--help`, from the table: nothing is imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].says) for name in self.list_commands(ctx)])


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from tokenguard import __version__

        click.echo(f"tokenguard {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Measure a program with no change to it:  tokenguard-instrument python app.py",
)
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress on the terminal.")
@click.pass_context
def group(ctx: click.Context, quiet: bool) -> None:
    """Know what every LLM call costs, stop the ones that cost too much, catch the waste before it ships."""
    from tokenguard.process import progress

    progress.quiet = quiet
    if ctx.invoked_subcommand is None:
        from tokenguard.cli.overview import Line, overview

        there = {name: COMMANDS[name] for name in group.list_commands(ctx)}
        lines = [Line(row.part, f"tokenguard {row.example or name}", row.says) for name, row in there.items()]
        click.echo(overview(lines), color=None if shows_colour() else False)


def shows_colour() -> bool:
    """Whether who reads standard output has asked for no plain text, and could see more."""
    utf8 = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    return utf8 and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _never_fail_to_print() -> None:
    """What the encoding of the terminal lacks is shown as `?`: better than to end in the middle of a page."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def main(arguments: list[str] | None = None) -> Any:
    """The command `tokenguard`. Errors of ours are one line, and exit code 2."""
    from tokenguard.facts.errors import TokenGuardError

    _never_fail_to_print()
    try:
        return group.main(arguments, prog_name="tokenguard")
    except TokenGuardError as error:
        click.echo(f"tokenguard: {error}", err=True)
        sys.exit(2)
    except BrokenPipeError:  # `tokenguard report | head`
        sys.stderr.close()
        sys.exit(1)
