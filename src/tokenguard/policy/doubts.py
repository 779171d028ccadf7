"""What is valid in a policy, and is probably not meant: told by `tokenguard policy check`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from importlib.util import find_spec
from typing import Final

from tokenguard.policy import kinds
from tokenguard.policy.grammar import When
from tokenguard.policy.model import Policy
from tokenguard.prices import PriceBook
from tokenguard.prices.listed import sellers_of
from tokenguard.prices.models import MAKERS, PROVIDERS

HALF: Final = (
    '[[route]] "{name}": "schema" only looks whether the answer is JSON; with jsonschema installed it looks whether '
    "that keeps the schema."
)


def doubts(policy: Policy, book: PriceBook) -> list[str]:
    """A sentence for each rule that serves nothing, checks by half, or names a model that its provider does not have.

    The price list knows whose a model is. Nothing is said of rules that do not tell whose calls they are for, and of
    models that no price list knows: a deployment, a fine-tuned one.
    """
    found = [*_silent(policy), *_lacking(policy)]
    for kind, rule, key, model, when in _targets(policy):
        asked = _asked(when)
        if not asked or any(book.rates(provider, model) is not None for provider in asked):
            continue
        makers = [maker for maker in MAKERS if book.rates(maker, model) is not None]
        if makers:
            found.append(
                f'[[{kind}]] "{rule}": {key} = "{model}" is a model of {_listed(makers)}, and the rule is for calls to '
                f"{_listed(asked)}, who will answer them with 404. Name a model of the same provider."
            )
    halves = [route.name for route in policy.routes if "schema" in route.escalate_when]
    return found + ([] if find_spec("jsonschema") else [HALF.format(name=name) for name in halves])


def _lacking(policy: Policy) -> Iterator[str]:
    """What kept answers need, and is not here; it may be where the program runs."""
    config, scheme = policy.answers, policy.answers.url.partition(":")[0]
    if not policy.caches:
        return
    sealed = scheme != "memory" and not config.plain
    if sealed and not os.environ.get(config.key_env):
        yield (
            f"[answers] The environment variable {config.key_env} is not set here. Where the program runs it must be, "
            "or its start fails: answers are encrypted by it."
        )
    by_meaning = [rule.encoder or "" for rule in policy.caches if rule.match == "meaning"]
    needs = {
        "cryptography": ("answers", sealed),
        "redis": ("redis", scheme.startswith(("redis", "unix"))),
        "numpy": ("meaning", bool(by_meaning)),
        "model2vec": ("meaning", any(name.startswith(kinds.STATIC) for name in by_meaning)),
    }
    for package, (extra, needed) in needs.items():
        if needed and find_spec(package) is None:
            yield (
                f"[answers] The package {package} is missing here. Where the program runs, it needs it: pip install "
                f'"tokenguard-otel[{extra}]".'
            )


NO_TEMPERATURE: Final = ("o1", "o3", "o4", "gpt-5", "claude-")
"""How the names of models begin that take no temperature: reasoning models, and Claude by its SDK's second version."""


def _silent(policy: Policy) -> Iterator[str]:
    """What keeps answers of calls that all count as sampled."""
    for rule in policy.caches:
        if rule.match == "meaning" and not rule.serve:
            yield (
                f'[[cache]] "{rule.name}" only watches. Judge it by labelled pairs of your own (`tokenguard cache eval '
                f'PAIRS.jsonl --rule "{rule.name}"`), then say serve = true.'
            )
        asked = dict(rule.when.patterns)
        models = asked.get("model") or (("claude-*",) if asked.get("provider") == ("anthropic",) else ())
        if models and not rule.sampled and all(glob.startswith(NO_TEMPERATURE) for glob in models):
            yield (
                f'[[cache]] "{rule.name}": {_listed(list(models))} takes no temperature, so its calls count as '
                "sampled, and none is looked up. Say sampled = true, if one of several possible answers will do for "
                "all who ask the same."
            )


def _targets(policy: Policy) -> Iterator[tuple[str, str, str, str, When]]:
    """The models that rules put in the place of others: kind and name of the rule, key, model, and its `when`."""
    for kind, rules in (("limit", policy.limits), ("budget", policy.budgets)):
        for rule in rules:
            if rule.downgrade_to is not None:
                yield kind, rule.name, "downgrade_to", rule.downgrade_to, rule.when
    for route in policy.routes:
        yield "route", route.name, "to", route.to, route.when
        if route.escalate_to is not None:
            yield "route", route.name, "escalate_to", route.escalate_to, route.when


def _asked(when: When) -> list[str]:
    """The providers whose calls a rule is for, by the globs of its `provider`, or else of its `model`."""
    patterns = dict(when.patterns)
    if globs := patterns.get("provider"):
        return [name for name in PROVIDERS if any(fnmatchcase(name, glob) for glob in globs)]
    found = [sellers_of(glob, MAKERS) for glob in patterns.get("model", ())]
    return list(dict.fromkeys(seller for sellers in found for seller in sellers)) if all(found) else []


def _listed(names: list[str]) -> str:
    return " and ".join(names[:3]) + (" and others" if len(names) > 3 else "")
