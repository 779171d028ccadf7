"""A group of commands that offers the nearest one for a typo."""

from __future__ import annotations

from collections.abc import Iterable

import click


class Suggesting(click.Group):
    """A group of commands; for a word that is none of them it says which one may be meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is asked for. Raises `UsageError` with the nearest one."""
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            raise click.UsageError(unknown("command", args[0], known), ctx)
        return super().resolve_command(ctx, args)


def unknown(what: str, word: str, known: Iterable[str]) -> str:
    """What to say of a word that is none of `known`.

    >>> unknown("command", "reprot", ["report", "lint"])
    "No such command 'reprot'. Did you mean 'report'?"
    """
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"No such {what} {word!r}." + (f" Did you mean {near[0]!r}?" if near else "")
