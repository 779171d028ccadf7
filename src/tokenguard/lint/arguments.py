"""The command line of `tokenguard lint`: one table of options.

Words that the table knows are read here. Whatever else is given (`--help`, a choice that does not exist) is left to
argparse, which explains it: this command runs at every save and commit, and argparse alone would be an eighth of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence

from tokenguard.lint.config import ConfigError, code
from tokenguard.lint.finding import SEVERITIES
from tokenguard.lint.option import Command, Option
from tokenguard.lint.outputs import FORMATS
from tokenguard.lint.session import Options, Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any


def codes(text: str) -> tuple[str, ...]:
    """The names in `TG101, TG103`. Raises ValueError where there are none: nothing would be looked for."""
    found = tuple(code(part.strip()) for part in text.split(",") if part.strip())
    if not found:
        raise ValueError
    return found


def jobs(text: str) -> int:
    """A number of processes. Raises ValueError."""
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def _one(text: str) -> tuple[str, ...]:
    return (text,)


OPTIONS: Mapping[str, tuple[Option, ...]] = {
    "Fixes": (
        Option(("--fix",), "Apply safe fixes: they do not change what the program does."),
        Option(("--unsafe-fixes",), "Apply fixes that change behaviour too: add a cap, lower a top-k."),
        Option(("--diff",), "Show what the fixes would change; write nothing."),
        Option(("--add-ignore",), "Add an ignore comment to each finding's line."),
    ),
    "Rules": (
        Option(("--select",), "Rules to run: ids or prefixes of ids, separated by commas.", "words", "RULES", codes),
        Option(("--extend-select",), "More rules, added to the selected ones.", "words", "RULES", codes),
        Option(("--ignore",), "Rules to leave out.", "words", "RULES", codes),
        Option(("--baseline",), "Report only findings not in this file.", "value", "FILE"),
        Option(("--write-baseline",), "Write today's findings to this file.", "value", "FILE"),
    ),
    "Files": (
        Option(
            ("--exclude", "--extend-exclude"),
            "More files to exclude, added to those of the settings.",
            "words",
            "GLOB",
            _one,
            to="exclude",
        ),
        Option(("--force-exclude",), "Apply excludes to files named on the command line as well."),
        Option(("--no-gitignore", "--no-respect-gitignore"), "Lint files that git ignores, too.", to="no_gitignore"),
        Option(("--stdin-filename",), "The name of what `-` reads.", "value", "PATH"),
        Option(("--show-files",), "List the files that would be linted."),
    ),
    "Settings": (
        Option(
            ("--config",), "One settings file for all files. Default: the nearest above each file.", "value", "FILE"
        ),
        Option(("--isolated",), "Read no settings file."),
        Option(("--allow-plugins",), "Run the rules in the folders that a settings file names."),
        Option(("--show-settings",), "Show the settings that hold for the first of PATHS."),
    ),
    "Report": (
        Option(
            ("--format", "--output-format"), "How findings are written.", "value", choices=tuple(FORMATS), to="form"
        ),
        Option(("-o", "--output", "--output-file"), "Write the report to a file.", "value", "FILE", to="output"),
        Option(("--statistics",), "Count the findings by rule instead of listing them."),
        Option(("-q", "--quiet"), "Print the findings and nothing else."),
        Option(("--color",), "Colour the text.", to="colour"),
        Option(("--no-color",), "No colour. Default: colour on a terminal only.", to="colour", sets=False),
    ),
    "Money": (
        Option(("--spend",), "Price each finding by its recorded calls.", "maybe", "STORE"),
        Option(("--since",), "Calls since then: 24h, 30d, 4w. Default: 30d.", "value", "TIME"),
        Option(("--min-usd",), "Only findings whose calls cost at least this much.", "value", "USD", float),
    ),
    "Run": (
        Option(("--fail-on",), "The severity from which the exit status is 1.", "value", choices=tuple(SEVERITIES)),
        Option(("--exit-zero",), "Exit 0 whatever is found."),
        Option(("--watch",), "Lint again whenever a file changes."),
        Option(("--no-cache",), "Neither read nor write the cache."),
        Option(("-j", "--jobs"), "Processes; 0: one per CPU.", "value", "N", jobs),
    ),
}


LINT = Command(
    "tokenguard lint",
    "Find waste in Python files and notebooks: PATHS, or the working directory. `-` reads standard input. "
    "`tokenguard lint server` is the language server for editors.",
    "Exit status: 0 clean, 1 findings, 2 a usage or settings error.",
    OPTIONS,
    paths=True,
)
_SERVED = frozenset({"select", "extend_select", "ignore", "exclude", "config", "isolated", "allow_plugins"})
SERVER = Command(
    "tokenguard lint server",
    "The language server for editors: it is started by the editor, and speaks LSP over standard input and output. Each "
    "file has the settings of the nearest settings file above it.",
    "How to set up an editor: the page `In the editor` of the documentation.",
    {
        **{title: kept for title, group in OPTIONS.items() if (kept := tuple(o for o in group if o.field in _SERVED))},
        "Protocol": (Option(("--stdio",), "Accepted, as some editors pass it; there is no other way."),),
    },
)


def parser(command: Command = LINT) -> argparse.ArgumentParser:
    """The same options for argparse."""
    from tokenguard.lint.usage import parser as made

    return made(command)


def _plain(given: Sequence[str], command: Command) -> tuple[tuple[str, ...], dict[str, Any]] | None:
    """The paths and the fields of `Options` of a command line that the table alone can read; else None."""
    known = {name: option for group in command.options.values() for option in group for name in option.names}
    paths: list[str] = []
    read: dict[str, Any] = {}
    words = iter(given)
    for word in words:
        if word in ("-", "--") or not word.startswith("-"):
            if not command.paths:
                return None
            paths += words if word == "--" else (word,)
            continue
        name, glued, text = word.partition("=")
        if name[:2] in known and len(name) > 2 and not glued:  # -j4
            name, glued, text = name[:2], "-", name[2:]
        option = known.get(name)
        if option is None or option.kind == "maybe" or (option.kind == "flag" and glued):
            return None
        if option.kind == "flag":
            read[option.field] = option.sets
            continue
        text = text if glued else next(words, "-")
        if text.startswith("-") or (option.choices and text not in option.choices):
            return None
        try:
            value = option.type(text)
        except ValueError:
            return None
        read[option.field] = (*read.get(option.field, ()), *value) if option.kind == "words" else value
    return tuple(paths), read


def read(given: Sequence[str], command: Command = LINT) -> tuple[tuple[str, ...], Options]:
    """The paths and options of a command line. Ends the process for `--help`, and with status 2 for what is wrong."""
    plain = _plain(given, command)
    if plain is None:
        found = vars(parser(command).parse_intermixed_args(list(given)))
        plain = tuple(found.pop("paths", ())), dict(_given(found))
    return plain[0] or (".",), Options(**plain[1])


def _given(found: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in found.items():
        if isinstance(value, list):
            yield name, tuple(part for parts in value for part in parts)
        elif value is not None:
            yield name, value


def _from_a_client() -> bool:
    """Whether `lint server` is the language server, and no folder of that name: its standard input is a pipe."""
    import stat

    mode = os.fstat(sys.stdin.fileno()).st_mode if sys.stdin is not None else 0
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
    for stream in ("stdout", "stderr"):  # closed by who started us
        if getattr(sys, stream) is None:
            setattr(sys, stream, open(os.devnull, "w"))  # noqa: SIM115
    serving = given[:1] == ["server"] and _from_a_client()
    paths, options = read(given[1:], SERVER) if serving else read(given)
    try:
        if serving:
            _serve(options)
        else:
            sys.exit(run(paths, options))
    except ConfigError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # of the report: what is read and written besides says so itself
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.stderr.write(f"error: Cannot write the report: {error.strerror or error}\n")
        sys.exit(2)
