"""A proposal: a policy file, with a table that says what else would change.

`[whatif]` holds what no policy can do by itself: to send work in batches, to put a prompt in the order that a
provider's cache wants, to send less. The policy's own levers may stand in it too, as `[[whatif.cache]]`: there they are
replayed, and never put in force.
"""

# ruff: noqa: RUF009 - `row` is `dataclasses.field` with a row of the grammar as metadata

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenguard.facts.errors import PolicyError
from tokenguard.policy import Cache, Policy, Route, When, kinds
from tokenguard.policy.files import raw
from tokenguard.policy.grammar import row
from tokenguard.policy.kinds import choice, nearest
from tokenguard.policy.read import read, read_table

_NAME = "The step of the waterfall."
_WHEN = "The calls it applies to, in the words of the policy's rules. Empty: all calls."


@dataclass(frozen=True, slots=True)
class Batch:
    """Calls that nobody waits for, and that could be sent in a provider's batches, at half the price."""

    name: str = row(kinds.NAME, "batched", _NAME)
    when: When = row(kinds.WHEN, When(), _WHEN + " Name only offline work.")


@dataclass(frozen=True, slots=True)
class Shorten:
    """Requests or answers that are shorter by what the application does: a shorter prompt, fewer chunks."""

    name: str = row(kinds.NAME, "shorter", _NAME)
    when: When = row(kinds.WHEN, When(), _WHEN)
    input: float = row(kinds.SHARE, 1.0, "The share of the input tokens that stays.")
    output: float = row(kinds.SHARE, 1.0, "The share of the output tokens that stays.")


@dataclass(frozen=True, slots=True)
class Assumed:
    """What is assumed besides the policy's rules."""

    caches: tuple[Cache, ...] = row(None, (), "", toml="cache", table=Cache)
    routes: tuple[Route, ...] = row(None, (), "", toml="route", table=Route)
    batches: tuple[Batch, ...] = row(None, (), "", toml="batch", table=Batch)
    shortens: tuple[Shorten, ...] = row(None, (), "", toml="shorten", table=Shorten)
    prompt_cache: bool = row(
        kinds.FLAG, False, "The provider's prompt cache holds wherever its reads show that a prompt broke it."
    )
    cache_lifetime: str = row(
        choice("5m", "1h"), "5m", "How long a prompt stays in the provider's cache; an hour's writes cost more."
    )


@dataclass(frozen=True, slots=True)
class _Beside:
    """What the policy knows, and leaves to this."""

    whatif: Assumed = row(None, Assumed, "", table=Assumed)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A policy as it could be, and what else could change."""

    policy: Policy = Policy()
    caches: tuple[Cache, ...] = ()
    routes: tuple[Route, ...] = ()
    assumed: Assumed = Assumed()
    source: str = ""
    """The file; empty without one."""


def load(path: str | os.PathLike[str]) -> Proposal:
    """The proposal in a file; raises `PolicyError`, which names each key that is wrong and its line."""
    tables, line_of, source = raw(path)
    policy = read(tables, str(path), line_of, source)
    own = {key: value for key, value in tables.items() if key == "whatif"}
    beside: _Beside = read_table(_Beside, own, str(path), line_of)
    known = policy.known_keys
    assumed = beside.whatif
    caches, routes = (*policy.caches, *assumed.caches), (*policy.routes, *assumed.routes)
    rules: tuple[Any, ...] = (*caches, *routes, *assumed.batches, *assumed.shortens)
    for rule in rules:
        keys = [key for key, _ in rule.when.patterns] + [*getattr(rule, "per", ()), *getattr(rule, "by", ())]
        for key in keys:
            if key not in known:
                raise PolicyError(
                    f'{path}: "{rule.name}": no such attribution key "{key}"{nearest(key, known)} A key of your own is '
                    f'declared once: [attribution] keys = ["{key}"]'
                )
    return Proposal(policy, caches, routes, assumed, str(Path(path)))
