"""`tokenguard cache stats|clear|eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tokenguard.cli.group import Suggesting
from tokenguard.cli.policy import loaded
from tokenguard.facts.printed import document

if TYPE_CHECKING:
    from tokenguard.answers.store import Store
    from tokenguard.policy import Policy

FILE = click.option("--policy", "file", metavar="FILE", help="The policy file; without it, the one found from here.")


SHOWN: Final = 5
"""Wrong pairs that are shown."""


@click.group(cls=Suggesting)
def cache() -> None:
    """See how many answers are kept, delete them, or judge `match = "words"` by pairs of your own."""


@cache.command()
@FILE
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def stats(file: str | None, form: str) -> None:
    """List how many answers are kept for each rule, and how large they are."""
    found = loaded(file)
    store = _store(found)
    try:
        kept = store.stats() if store is not None else []
    except Exception as error:
        _unreachable(error)
    finally:
        if store is not None:
            store.close()
    if form == "json":
        click.echo(
            document({"rules": [{"rule": each.rule, "entries": each.entries, "bytes": each.size} for each in kept]})
        )
        return
    for each in kept:
        click.echo(f"{each.rule}: {each.entries:,} answers, {each.size / 2**20:,.1f} MiB")
    if store is not None:
        total = sum(each.size for each in kept)
        click.echo(
            f"{sum(each.entries for each in kept):,} in all, {total / 2**20:,.1f} of {found.answers.max_mib} MiB"
        )


@cache.command()
@FILE
@click.option("--rule", help="Only what is kept for this rule.")
@click.option("--tenant", help="Only what is kept for this tenant, by rules with it in `per`.")
def clear(file: str | None, rule: str | None, tenant: str | None) -> None:
    """Delete the answers that are kept: all of them, or those of a rule, a tenant, or both."""
    from tokenguard.answers.answers import owner
    from tokenguard.answers.entry import box_of

    found = loaded(file)
    config = found.answers
    whose = None
    if tenant is not None:
        whose = owner(box_of(config.url, config.key_env, plain=config.plain, source=found.source), tenant)
    store = _store(found)
    if store is None:
        return
    try:
        gone = store.clear(rule, whose)
    except Exception as error:
        _unreachable(error)
    finally:
        store.close()
    click.echo(f"{gone:,} answers are deleted.")


@cache.command(name="eval")
@click.argument("pairs", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--max-wrong", type=click.FloatRange(0, 1), default=0.01, show_default=True, help="Of different pairs.")
def evaluate(pairs: Path, max_wrong: float) -> None:
    """Say what match = "words" would serve of your own labelled pairs of questions, and what wrongly.

    PAIRS is JSON Lines: {"a": "...", "b": "...", "same": true or false}. Exit code 1: more than --max-wrong of the
    pairs that are not the same would get each other's answer.
    """
    from tokenguard.answers.pairs import interval, judged

    with pairs.open(encoding="utf-8") as lines:
        found = judged(lines, str(pairs))
    if found.same:
        click.echo(f"served: {found.served:,} of {found.same:,} same pairs ({found.served / found.same:.1%})")
    share = found.wrong_share
    if share is None:
        click.echo("No pair is labelled as different, so nothing can be said of wrong answers.", err=True)
        raise click.exceptions.Exit(2)
    low, high = interval(len(found.wrong), found.different)
    click.echo(
        f"wrong:  {len(found.wrong):,} of {found.different:,} different pairs ({share:.1%}; 95 % of the time between "
        f"{low:.1%} and {high:.1%})"
    )
    for one, other in found.wrong[:SHOWN]:
        click.echo(f"  {one}\n  {other}\n")
    if share > max_wrong:
        click.echo(f"That is more than {max_wrong:.1%}.", err=True)
        raise click.exceptions.Exit(1)


def _store(found: Policy) -> Store | None:
    """The store of the policy; `None`, and said why, where there is nothing to see from here."""
    from tokenguard.answers.open import open_store, sqlite_file

    config = found.answers
    if config.url == "memory:":
        click.echo(
            'Answers are in "memory:", which each process keeps to itself: they cannot be seen from here.', err=True
        )
        return None
    path = sqlite_file(config, found.source)
    if path is not None and not path.exists():
        click.echo(f"Nothing is kept yet: there is no {path}.", err=True)
        return None
    return open_store(config, found.source)


def _unreachable(error: Exception) -> None:
    click.echo(f"The kept answers cannot be reached: {error}. Is [answers] url right, and does it run?", err=True)
    raise click.exceptions.Exit(1) from error
