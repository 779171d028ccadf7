"""The options of `tokenguard lint` for argparse: its help, and what is wrong with a command line."""

from __future__ import annotations

import argparse
import os
from difflib import get_close_matches
from typing import Any, NoReturn

from tokenguard.lint.option import Command, Option


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


def parser(command: Command) -> argparse.ArgumentParser:
    """A parser with the options in their groups; what is not given is None."""
    made = _Parser(
        command.name,
        f"{command.name} [OPTIONS]{' [PATHS]' * command.paths}",
        command.says,
        command.ends,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    made.names = tuple(name for group in command.options.values() for option in group for name in option.names)
    if command.paths:
        made.add_argument("paths", nargs="*", help=argparse.SUPPRESS)
    for title, group in command.options.items():
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
