"""The command line of `tokenguard lint`.

By argparse: this command runs at every save and commit, and the import of click alone costs half of linting a file.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from tokenguard.lint.config import ConfigError
from tokenguard.lint.finding import SEVERITIES
from tokenguard.lint.outputs import FORMATS
from tokenguard.lint.session import Options, Session


def _codes(text: str) -> list[str]:
    return [code.strip() for code in text.split(",") if code.strip()]


def _jobs(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        try:
            width = os.get_terminal_size().columns - 2
        except OSError:
            width = 118
        super().__init__(prog, width=width)  # left to find it, the class would import shutil at each start

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None = None) -> None:
        super().add_usage(usage, actions, groups, prefix or "Usage: ")


class _Group:
    """Options under one heading."""

    def __init__(self, parser: argparse.ArgumentParser, title: str) -> None:
        self._group = parser.add_argument_group(title)

    def flag(self, *names: str, says: str) -> None:
        self._group.add_argument(*names, action="store_true", help=says)

    def value(self, *names: str, says: str, **how: Any) -> None:
        self._group.add_argument(*names, help=says, **how)

    def codes(self, name: str, says: str) -> None:
        self._group.add_argument(name, action="extend", type=_codes, metavar="RULES", help=says)


def parser() -> argparse.ArgumentParser:
    """The options, in groups; each is a field of `Options`."""
    made = argparse.ArgumentParser(
        "tokenguard lint",
        "tokenguard lint [OPTIONS] [PATHS]",
        "Find waste in Python files and notebooks: PATHS, or the working directory. `-` reads standard input. "
        "`tokenguard lint server` is the language server for editors.",
        "Exit status: 0 clean, 1 findings, 2 a usage or settings error.",
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    made.add_argument("paths", nargs="*", help=argparse.SUPPRESS)
    fixes = _Group(made, "Fixes")
    fixes.flag("--fix", says="Apply safe fixes: they do not change what the program does.")
    fixes.flag("--unsafe-fixes", says="Apply fixes that change behaviour too: add a cap, lower a top-k.")
    fixes.flag("--diff", says="Show what the fixes would change; write nothing.")
    fixes.flag("--add-ignore", says="Add an ignore comment to each finding's line.")
    rules = _Group(made, "Rules")
    rules.codes("--select", says="Rules to run: ids or prefixes of ids, separated by commas.")
    rules.codes("--extend-select", says="More rules, added to the selected ones.")
    rules.codes("--ignore", says="Rules to leave out.")
    rules.value("--baseline", metavar="FILE", says="Report only findings not in this file.")
    rules.value("--write-baseline", metavar="FILE", says="Write today's findings to this file.")
    files = _Group(made, "Files")
    files.value(
        "--exclude", action="append", metavar="GLOB", says="More files to exclude, added to those of the settings."
    )
    files.flag("--force-exclude", says="Apply excludes to files named on the command line as well.")
    files.flag("--no-gitignore", says="Lint files that git ignores, too.")
    files.value("--stdin-filename", default="-", metavar="PATH", says="The name of what `-` reads.")
    files.flag("--show-files", says="List the files that would be linted.")
    settings = _Group(made, "Settings")
    settings.value(
        "--config",
        metavar="FILE",
        says="One settings file for all files. Default: the nearest above each file.",
    )
    settings.flag("--isolated", says="Read no settings file.")
    settings.flag("--allow-plugins", says="Run the rules in the folders that a settings file names.")
    settings.flag("--show-settings", says="Show the settings that hold for the first of PATHS.")
    report = _Group(made, "Report")
    report.value("--format", dest="form", choices=list(FORMATS), default="text", says="How findings are written.")
    report.value("-o", "--output", metavar="FILE", says="Write the report to a file.")
    report.flag("--statistics", says="Count the findings by rule instead of listing them.")
    report.flag("-q", "--quiet", says="Print the findings and nothing else.")
    report.value("--color", dest="colour", action="store_true", default=None, says="Colour the text.")
    report.value(
        "--no-color", dest="colour", action="store_false", says="No colour. Default: colour on a terminal only."
    )
    spend = _Group(made, "Money")
    spend.value("--spend", nargs="?", const="", metavar="STORE", says="Price each finding by its recorded calls.")
    spend.value("--since", default="30d", metavar="TIME", says="Calls since then: 24h, 30d, 4w. Default: 30d.")
    spend.value("--min-usd", type=float, metavar="USD", says="Only findings whose calls cost at least this much.")
    running = _Group(made, "Run")
    running.value(
        "--fail-on", choices=list(SEVERITIES), default="warning", says="The severity from which the exit status is 1."
    )
    running.flag("--exit-zero", says="Exit 0 whatever is found.")
    running.flag("--watch", says="Lint again whenever a file changes.")
    running.flag("--no-cache", says="Neither read nor write the cache.")
    running.value("-j", "--jobs", type=_jobs, default=0, metavar="N", says="Processes; 0: one per CPU.")
    return made


def _from_a_client() -> bool:
    """Whether `lint server` is the language server, and no folder of that name: its standard input is a pipe."""
    import stat

    mode = os.fstat(sys.stdin.fileno()).st_mode
    return not os.path.exists("server") or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _serve(options: Options) -> None:
    try:
        from tokenguard.lint.server import serve
    except ImportError as error:
        raise ConfigError("The language server needs pygls: pip install 'tokenguard-otel[editor]'") from error
    serve(options)


def run(paths: tuple[str, ...], options: Options) -> int:
    """Do what the command line says; the exit status. Raises ConfigError."""
    if options.watch:
        from tokenguard.lint.watch import watch

        return watch(paths, options)
    return Session(options).run(paths)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; ends the process with its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    serving = given[:1] == ["server"] and _from_a_client()
    read = vars(parser().parse_intermixed_args(given[serving:]))
    paths = tuple(read.pop("paths")) or (".",)
    for name in ("select", "extend_select", "ignore", "exclude"):
        read[name] = None if read[name] is None and name in ("select", "ignore") else tuple(read[name] or ())
    try:
        if serving:
            _serve(Options(**read))
        else:
            sys.exit(run(paths, Options(**read)))
    except ConfigError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
