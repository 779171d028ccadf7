"""The options of `tokenguard lint` for argparse: its help, and what is wrong with a command line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NoReturn

from tokenguard.lint.option import Option


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        try:
            width = os.get_terminal_size().columns - 2
        except OSError:
            width = 118
        super().__init__(prog, width=width)

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None = None) -> None:
        super().add_usage(usage, actions, groups, prefix or "Usage: ")


class _Parser(argparse.ArgumentParser):
    names: tuple[str, ...] = ()

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and which option may be meant."""
        unknown = message.removeprefix("unrecognized arguments: ").partition("=")[0].partition(" ")[0]
        near = get_close_matches(unknown, self.names, 1, 0.75) if unknown.startswith("-") else []
        super().error(f"{message}. Did you mean {near[0]}?" if near else message)


def parser(options: Mapping[str, tuple[Option, ...]]) -> argparse.ArgumentParser:
    """A parser with the options in their groups; what is not given is None."""
    made = _Parser(
        "tokenguard lint",
        "tokenguard lint [OPTIONS] [PATHS]",
        "Find waste in Python files and notebooks: PATHS, or the working directory. `-` reads standard input. "
        "`tokenguard lint server` is the language server for editors.",
        "Exit status: 0 clean, 1 findings, 2 a usage or settings error.",
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    made.names = tuple(name for group in options.values() for option in group for name in option.names)
    made.add_argument("paths", nargs="*", help=argparse.SUPPRESS)
    for title, group in options.items():
        heading = made.add_argument_group(title)
        for option in group:
            heading.add_argument(*option.names, help=option.says, dest=option.field, **_how(option))
    return made


def _how(option: Option) -> dict[str, Any]:
    match option.kind:
        case "flag":
            return {"action": "store_const", "const": option.sets}
        case "words":
            return {"action": "append", "type": option.type, "metavar": option.metavar}
        case "maybe":
            return {"nargs": "?", "const": "", "metavar": option.metavar}
    return {"type": option.type, "metavar": option.metavar, "choices": option.choices or None}
