"""Pages of the documentation's site that are made: the reference, from the code; and the navigation.

A hook of mkdocs (`hooks` in mkdocs.yml). Nothing of it is written into the repository, so nothing is ever stale.
"""

from __future__ import annotations

import argparse
import inspect
import json
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import Abort
from mkdocs.structure.files import File, Files

import tokenguard
from tokenguard import cli
from tokenguard.facts import meanings, names
from tokenguard.installation.instrument import USAGE

ROOT = Path(__file__).resolve().parent.parent

PROJECT = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security-policy.md",
    "grafana/README.md": "project/grafana-export.md",
}
"""Pages that live outside `docs/`, and where the site has them."""

WIDTH = 92
"""Of the commands' help, in characters."""

SECTIONS = {
    "start": "Quickstarts",
    "howto": "How-to",
    "concepts": "Concepts",
    "reference": "Reference",
    "rules": "Rules",
    "project": "More",
    "": "Guides",
}
"""The section of a page that the navigation does not name, by its folder."""


# --- hooks ------------------------------------------------------------------------------------------------------------


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is made, and put each page into the navigation."""
    for path, text in made().items():
        files.append(File.generated(config, path, content=text))
    named = set(_pages(config.nav))
    for file in sorted(files.documentation_pages(), key=lambda each: each.src_uri):
        if file.src_uri not in named:
            _section(config.nav, file.src_uri).append(file.src_uri)
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Links to files of the repository outside `docs/` lead to their pages here."""
    here = page.file.src_uri
    origin = next((source for source, path in PROJECT.items() if path == here), f"docs/{here}")

    def follow(found: re.Match[str]) -> str:
        target, hash_, anchor = found[2].partition("#")
        if not target or re.match(r"\w+:", target):
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
        if path.startswith("docs/"):
            there = path.removeprefix("docs/")
        elif path in PROJECT:
            there = PROJECT[path]
        else:
            return found[0]
        return f"{found[1]}({posixpath.relpath(there, posixpath.dirname(here) or '.')}{hash_}{anchor})"

    return re.sub(r"(\])\(([^)\s]+)\)", follow, markdown)


def _pages(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        yield from _pages(list(nav.values()))
    else:
        for entry in nav:
            yield from _pages(entry)


def _section(nav: Any, path: str) -> list[Any]:
    """The list of the section that a page belongs to."""
    folder = path.rpartition("/")[0].partition("/")[0]
    title = SECTIONS.get(folder)
    found = _find(nav, title) if title else None
    if found is None:
        raise Abort(
            f"docs/{path} is in no section of the site. Put it into one of the folders "
            f"{', '.join(filter(None, SECTIONS))}, or add its folder to SECTIONS in scripts/site_pages.py, and to nav "
            "in mkdocs.yml."
        )
    return found


def _find(nav: list[Any], title: str) -> list[Any] | None:
    for entry in nav:
        if isinstance(entry, dict):
            for name, inside in entry.items():
                if isinstance(inside, list):
                    found = inside if name == title else _find(inside, title)
                    if found is not None:
                        return found
    return None


# --- the pages --------------------------------------------------------------------------------------------------------


def made() -> dict[str, str]:
    """The text of each page that is made, by its path."""
    from tokenguard.policy.schema import schema

    return {
        "reference/commands.md": commands(),
        "reference/exit-codes.md": exit_codes(),
        "reference/python.md": python(),
        "reference/attributes.md": attributes(),
        "reference/metrics.md": metrics(),
        "reference/environment.md": environment(),
        "reference/json.md": json_output(),
        **json_schemas(),
        "reference/tokenguard.schema.json": json.dumps(schema(), indent=2) + "\n",
        **{path: (ROOT / source).read_text(encoding="utf-8") for source, path in PROJECT.items()},
    }


def commands() -> str:
    """Every command with its help."""
    parts = ["# Commands", "", "`python -m tokenguard` is the same as `tokenguard`. Each command has `--help`.", ""]
    parts += ["## `tokenguard-instrument`", "", "```text", USAGE.rstrip(), "```", ""]
    context = click.Context(cli.group, info_name="tokenguard")
    for path, command in _walk(cli.group, context):
        parts += [f"## `{path}`", "", "```text", _help(path, command).rstrip(), "```", ""]
    return "\n".join(parts)


def _walk(group: click.Group, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            continue
        inner = click.Context(command, info_name=name, parent=context)
        yield inner.command_path, command
        if isinstance(command, click.Group):
            yield from _walk(command, inner)


def _help(path: str, command: click.Command) -> str:
    if path == "tokenguard lint":
        from tokenguard.lint.arguments import parser

        made = parser()
        made.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=WIDTH)  # type: ignore[assignment]
        return made.format_help()
    parent: click.Context | None = None
    for name in path.split()[:-1]:
        parent = click.Context(cli.group, info_name=name, parent=parent)
    with click.Context(
        command, info_name=path.split()[-1], parent=parent, max_content_width=WIDTH, terminal_width=100
    ) as context:
        return command.get_help(context)


def exit_codes() -> str:
    """The table of exit codes."""
    rows = "".join(f"| {code} | {says} |\n" for code, says in cli.EXIT_CODES.items())
    return f"""# Exit codes

| code | means |
|---|---|
{rows}
`tokenguard-instrument` ends with the exit code of the program it runs. `tokenguard lint --exit-zero` ends with 0
whatever it finds, and `--fail-on` sets the severity from which it ends with 1.
"""


def python() -> str:
    """The public API, with types."""
    parts = [
        "# Python API",
        "",
        "What is named here is the API; everything else may change. All of it is typed (`py.typed`).",
        "",
    ]
    for name in tokenguard.__all__:
        value = getattr(tokenguard, name)
        kind = "exception" if inspect.isclass(value) and issubclass(value, BaseException) else "function"
        parts += [
            f"## `tokenguard.{name}`",
            "",
            f"```python\n{_signature(name, value, kind)}\n```",
            "",
            _doc(value),
            "",
        ]
        if kind == "exception":
            base = value.__mro__[1].__name__
            parts += [f"A `{base}`.", ""]
        members = _members(name, value)
        if members:
            parts += ["| member | type | meaning |", "|---|---|---|", *members, ""]
    return "\n".join(parts)


def _signature(name: str, value: Any, kind: str) -> str:
    if kind == "exception":
        return f"class {name}({value.__mro__[1].__name__})"
    signature = inspect.signature(value)
    shown = str(signature.replace(parameters=[p for p in signature.parameters.values() if p.name != "self"]))
    return f"tokenguard.{name}{shown.replace(chr(39), '')}"


def _doc(value: Any) -> str:
    text = inspect.getdoc(value) or ""
    return re.sub(r"(?m)((?:^(?:>>>|\.\.\.) ?.*\n?)+)", lambda m: _example(m[1]), text)


def _example(text: str) -> str:
    return "```python\n" + re.sub(r"(?m)^(>>>|\.\.\.) ?", "", text).rstrip() + "\n```\n"


def _members(name: str, value: Any) -> list[str]:
    """Properties and methods of what the function gives back."""
    from tokenguard.call.scope import Measurement

    shown = {"meter": Measurement}.get(name, value)
    if not inspect.isclass(shown) or (issubclass(shown, BaseException) and name != "GuardrailViolation"):
        return []
    rows = []
    for member, what in vars(shown).items():
        if member.startswith("_") or member == "add":
            continue
        doc = (inspect.getdoc(what) or "").replace("\n", " ")
        if isinstance(what, property):
            rows.append(f"| `{member}` | `{inspect.signature(what.fget).return_annotation}` | {doc} |")  # type: ignore[arg-type]
        elif inspect.isfunction(what):
            rows.append(f"| `{member}()` | `{inspect.signature(what).return_annotation}` | {doc} |")
    if shown is Measurement:
        rows += [
            "| `cost_usd` | `float` | Sum of the known costs, USD |",
            "| `retries` | `int` | Requests that were sent again, by the SDK or by the program |",
            "| `tool_steps` | `int` | Calls that carried tool results back to the model |",
            "| `unpriced` | `int` | Calls without a known cost |",
            "| `records` | `list[CallRecord]` | The finished calls |",
        ]
    return rows


def attributes() -> str:
    """The span attributes."""
    rows = "".join(
        f"| `{row.name}` | {row.type} | {row.unit} | {row.says} | {row.absent} |\n" for row in meanings.ATTRIBUTES
    )
    return f"""---
hide: [toc]
---

# Span attributes

One CLIENT span a call, named `{{operation}} {{model}}`. Names under `gen_ai.` are those of OpenTelemetry's GenAI
conventions. A provider's explicit zero is recorded as 0; what is unknown is absent.

| attribute | type | unit | meaning | absent when |
|---|---|---|---|---|
{rows}"""


def metrics() -> str:
    """The metrics."""
    rows = "".join(
        f"| `{metric.name}` | `{prometheus(metric)}` | {metric.kind} | {metric.unit} | {metric.description} "
        f"| {', '.join(f'`{label}`' for label in meanings.LABELS.get(metric.name, ()))} |\n"
        for metric in _metrics()
    )
    return f"""---
hide: [toc]
---

# Metrics

Money is USD, as a counter of dollars. A label is absent where its value is unknown. A label with more than 200 values
(`[attribution] max_values`), or a metric with more than 1,500 series, counts the rest under `other`, and
`tokenguard.series.overflow` says so. `OTEL_SEMCONV_STABILITY_OPT_IN` chooses the names of OpenTelemetry's own metrics:
see [environment variables](environment.md).

| OpenTelemetry | Prometheus | kind | unit | meaning | labels |
|---|---|---|---|---|---|
{rows}"""


def _metrics() -> list[names.Metric]:
    return [value for value in vars(names).values() if isinstance(value, names.Metric)]


def prometheus(metric: names.Metric) -> str:
    """The name in Prometheus, as its OTLP receiver and the collector make it.

    >>> prometheus(names.COST_USD), prometheus(names.DURATION)
    ('tokenguard_cost_usd_total', 'gen_ai_client_operation_duration_seconds')
    """
    unit = {"s": "_seconds", "1": ""}.get(metric.unit, "")
    name = metric.name.replace(".", "_")
    ends = "_total" if metric.kind == "counter" else ""
    if metric.unit == "1" and not name.endswith("_ratio"):
        unit = "_ratio"
    return f"{name}{unit}{ends}"


def environment() -> str:
    """The environment variables."""
    rows = "".join(
        f"| {', '.join(f'`{name}`' for name in variable.split(', '))} | {says} |\n"
        for variable, says in meanings.ENVIRONMENT.items()
    )
    return f"# Environment variables\n\n| variable | does |\n|---|---|\n{rows}"


def json_output() -> str:
    """The schemas of JSON output."""
    from tokenguard.cli import schemas
    from tokenguard.facts.printed import VERSION

    parts = [
        "# JSON output",
        "",
        "What commands print with `--format json` is one object. Its `version` is that of its schema, "
        f"{VERSION} now: a later TokenGuard may add keys to a version; it changes or removes none without a new one.",
        "Units are in the names: `_usd`, `_tokens`, `_s` (seconds), `_ns` (Unix nanoseconds), `_share` (of 1).",
        "Unknown is null, never 0.",
        "",
        "`tokenguard schema COMMAND` prints a schema; `tokenguard policy schema` prints that of the policy file.",
        "At the address of `tokenguard dashboard`, `report.json` is what `report` prints, with the page's `period`,",
        "`by` and `where`.",
        "",
        "| command | schema |",
        "|---|---|",
        *(
            f"| `tokenguard {command}` | [{_schema_file(command)}]({_schema_file(command)}) |"
            for command in schemas.SCHEMAS
        ),
        "",
    ]
    for command, what in schemas.SCHEMAS.items():
        parts += [f"## `tokenguard {command}`", "", "```json", json.dumps(what, indent=2), "```", ""]
    return "\n".join(parts)


def json_schemas() -> dict[str, str]:
    """A file for each schema of JSON output, by its path."""
    from tokenguard.cli import schemas

    return {
        f"reference/{_schema_file(command)}": json.dumps(schemas.published(command), indent=2) + "\n"
        for command in schemas.SCHEMAS
    }


def _schema_file(command: str) -> str:
    return f"{re.sub(r'[^a-z]+', '-', command)}.schema.json"


if __name__ == "__main__":
    for path, text in made().items():
        sys.stdout.write(f"{path}: {len(text)}\n")
