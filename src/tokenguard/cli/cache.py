"""`tokenguard cache stats|clear|eval`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tokenguard.cli.group import Suggesting
from tokenguard.cli.policy import loaded
from tokenguard.facts.printed import document

if TYPE_CHECKING:
    from tokenguard.answers.pairs import Judged
    from tokenguard.answers.store import Store
    from tokenguard.policy import Cache, Policy

FILE = click.option("--policy", "file", metavar="FILE", help="The policy file; without it, the one found from here.")


SHOWN: Final = 5
"""Wrong pairs that are shown."""


@click.group(cls=Suggesting)
def cache() -> None:
    """See how many answers are kept, delete them, or judge a rule by pairs of questions of your own."""


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
        click.echo(f"{each.rule}: {_answers(each.entries)}, {_size(each.size)}")
    if store is not None:
        total, size = sum(each.entries for each in kept), _size(sum(each.size for each in kept))
        click.echo(f"Total: {_answers(total)}, {size} of {found.answers.max_mib} MiB.")


def _answers(number: int) -> str:
    return f"{number:,} answer{'' if number == 1 else 's'}"


def _size(number: int) -> str:
    return f"{number / 2**20:,.1f} MiB" if number >= 2**20 else f"{number / 2**10:,.1f} KiB"


@cache.command()
@FILE
@click.option("--rule", help="Only what is kept for this rule.")
@click.option("--tenant", help="Only what is kept for this tenant, by rules with it in `per`.")
def clear(file: str | None, rule: str | None, tenant: str | None) -> None:
    """Delete the answers that are kept: all of them, or those of a rule, a tenant, or both."""
    from tokenguard.answers.entry import box_of
    from tokenguard.answers.key import owner

    found = loaded(file)
    config = found.answers
    whose = None
    if tenant is not None:
        whose = owner(box_of(config.url, config.key_env, plain=config.plain, source=found.source).secret, tenant)
    store = _store(found)
    if store is None:
        return
    try:
        gone = store.clear(rule, whose)
        left = store.stats() if rule is not None and not gone else []
    except Exception as error:
        _unreachable(error)
    finally:
        store.close()
    click.echo(f"Deleted {_answers(gone)}.")
    if rule is not None and all(each.rule != rule for each in left) and not gone:
        known = ", ".join(each.rule for each in left) or "no rule at all"
        click.echo(f"Nothing is kept for the rule {rule!r}. Answers are kept for: {known}.", err=True)


@cache.command(name="eval")
@click.argument("pairs", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--max-wrong", type=click.FloatRange(0, 1), default=0.01, show_default=True, help="Of different pairs.")
@click.option("--rule", help='The [[cache]] with match = "meaning" whose threshold is to be found, and written.')
@FILE
def evaluate(pairs: Path, max_wrong: float, rule: str | None, file: str | None) -> None:
    """Say what a [[cache]] would serve of your own labelled pairs of questions, and what wrongly.

    PAIRS is JSON Lines: {"a": "...", "b": "...", "same": true or false}. Without --rule it is match = "words" that is
    judged. With it, the threshold is found that serves most and takes no more than --max-wrong of the different pairs
    for the same, and written into the rule with what it was found by. Exit code 1: there is none, or words do worse.
    """
    from tokenguard.answers.pairs import judged, pairs_of, same_words, similarities, threshold_for

    with pairs.open(encoding="utf-8") as lines:
        found = pairs_of(lines, str(pairs))
    if all(pair.same for pair in found):
        click.echo(
            'No pair is labelled as different, so the share of wrong answers is unknown. Add pairs with "same": false.',
            err=True,
        )
        raise click.exceptions.Exit(2)
    if rule is None:
        share = _tell(judged(found, [same_words(pair) for pair in found]))
        if share > max_wrong:
            click.echo(f"That is more than {max_wrong:.1%}.", err=True)
            raise click.exceptions.Exit(1)
        return
    policy, cache = _meant(file, rule)
    different = sum(not pair.same for pair in found)
    if different * max_wrong < 1:
        click.echo(
            f"{different} pairs of different questions are too few to show a share of {max_wrong:.1%}: label at least "
            f"{math.ceil(1 / max_wrong) if max_wrong else 'infinitely many'}, or allow more with --max-wrong.",
            err=True,
        )
        raise click.exceptions.Exit(1)
    from tokenguard.answers.encoder import encoder_of

    encode = encoder_of(str(cache.encoder))
    try:
        near = similarities(found, encode)
    except Exception as error:
        click.echo(f"The encoder {cache.encoder} failed: {type(error).__name__}: {error}", err=True)
        raise click.exceptions.Exit(2) from error
    threshold = threshold_for(found, near, max_wrong)
    if threshold is None:
        click.echo("No threshold works: different questions have the same vector. Try another encoder.", err=True)
        raise click.exceptions.Exit(1)
    click.echo(f"threshold: {threshold:g}")
    share = _tell(judged(found, [value >= threshold for value in near]))
    _write(policy, cache, {"threshold": threshold, "wrong_share": round(share, 6), "pairs": len(found)})


def _tell(found: Judged) -> float:
    """Say what came of the pairs; the share of the different ones that are taken for the same."""
    from tokenguard.answers.pairs import interval

    if found.same:
        click.echo(f"served: {found.served:,} of {found.same:,} same pairs ({found.served / found.same:.1%})")
    low, high = interval(len(found.wrong), found.different)
    share = found.wrong_share or 0.0
    click.echo(
        f"wrong:  {len(found.wrong):,} of {found.different:,} different pairs ({share:.1%}; 95 % of the time between "
        f"{low:.1%} and {high:.1%})"
    )
    for one, other in found.wrong[:SHOWN]:
        click.echo(f"  {one}\n  {other}\n")
    return share


def _meant(file: str | None, rule: str) -> tuple[Policy, Cache]:
    """The policy, and its rule of this name, which goes by meaning."""
    found = loaded(file)
    cache = next((each for each in found.caches if each.name == rule), None)
    if cache is None or cache.match != "meaning":
        known = [each.name for each in found.caches if each.match == "meaning"]
        click.echo(
            f'{found.source or "The policy"} has no [[cache]] "{rule}" with match = "meaning"; it has '
            f"{', '.join(known) or 'none at all'}.",
            err=True,
        )
        raise click.exceptions.Exit(2)
    return found, cache


def _write(policy: Policy, cache: Cache, values: dict[str, float | int | str]) -> None:
    """Put what was found into the rule; the file stays as it is where that fails."""
    from tokenguard.policy import loads
    from tokenguard.policy.writing import with_values

    path = Path(policy.source)
    if path.name == "pyproject.toml":
        click.echo("Write this into the rule:\n" + "".join(f"{key} = {value}\n" for key, value in values.items()))
        return
    text = path.read_text(encoding="utf-8")
    new = with_values(text, ("cache", policy.caches.index(cache)), {**values, "judged": cache.encodes})
    loads(new, str(path))
    path.write_text(new, encoding="utf-8")
    click.echo(f'Written into [[cache]] "{cache.name}" of {path}. It serves with serve = true.')


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
    click.echo(
        f"The kept answers cannot be reached: {str(error).rstrip('.')}. Is [answers] url right, and does it run?",
        err=True,
    )
    raise click.exceptions.Exit(1) from error
