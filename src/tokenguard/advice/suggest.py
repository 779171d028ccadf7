"""The policy whose steps would have paid, out of the records, with what each of them assumes as a comment.

In the order of effort: what needs no change to the program first. What no record can tell, such as whether a smaller
model's answers are good enough, is suggested as a trial on a tenth of the calls.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from tokenguard.advice.levers import HOLDS, LASTS, MENDABLE
from tokenguard.advice.proposal import Assumed, Proposal
from tokenguard.advice.waterfall import Waterfall, waterfall
from tokenguard.policy import Cache, Limit, Route, When
from tokenguard.prices import PriceBook
from tokenguard.report.engine import Records
from tokenguard.report.numbers import usd
from tokenguard.report.query import Query, conditions
from tokenguard.store.sums import CAPPED

PAYS: Final = 0.005
"""The share of what was spent from which on a step is worth its lines."""
ENOUGH: Final = 20
"""Calls from which on a feature's lengths say something."""
SHORT: Final = 60
"""Output tokens of answers that a small model may well give: a word, a label, a line of JSON."""
TRIAL: Final = 0.1
RETRIES: Final = 2
SMALLER: Final = (
    (re.compile(r"^(gpt-4o|chatgpt-4o-latest|gpt-4-turbo|gpt-4)(?!.*mini)"), "gpt-4o-mini"),
    (re.compile(r"^gpt-4\.1(?!-(mini|nano))"), "gpt-4.1-mini"),
    (re.compile(r"^gpt-5(\.\d)?(?!.*(mini|nano))"), "gpt-5-mini"),
    (re.compile(r"^claude-.*(opus|sonnet)"), "claude-haiku-4-5"),
    (re.compile(r"^gemini-2\.5-pro"), "gemini-2.5-flash"),
)
"""The next smaller model of a family."""

Reasons = dict[str, list[str]]
"""What is said above each step, by its name."""


def suggestion(records: Records, query: Query, start: Proposal, now: PriceBook) -> tuple[Proposal, Reasons]:
    """The steps that would have paid, beside those that a proposal has already."""
    reasons: Reasons = {}
    caches = tuple(_caches(records, query))
    limits = tuple(_limits(records, query, reasons))
    routes = tuple(_routes(records, query, reasons))
    assumed = _assumed(records, query, reasons)
    tried = replace(
        start,
        policy=replace(start.policy, limits=(*start.policy.limits, *limits)),
        caches=(*start.caches, *caches),
        routes=(*start.routes, *(replace(route, share=1.0) for route in routes)),
        assumed=replace(start.assumed, prompt_cache=assumed.prompt_cache, cache_lifetime=assumed.cache_lifetime),
    )
    fall = waterfall(records, query, tried, now)
    pays = {line.name for line in fall.lines if line.saved_usd > 0 and line.saved_usd >= PAYS * fall.spent_usd}
    whole = {line.name: line.saved_usd for line in fall.lines}
    for route in routes:
        reasons[route.name].append(f"all of them, and not a tenth: {usd(whole[route.name])}")
    kept = tuple(limit for limit in limits if limit.name in pays)
    paying = replace(
        start,
        policy=replace(start.policy, limits=(*start.policy.limits, *kept)),
        caches=(*start.caches, *(cache for cache in caches if cache.name in pays)),
        routes=(*start.routes, *(route for route in routes if route.name in pays)),
        assumed=replace(
            start.assumed,
            prompt_cache=start.assumed.prompt_cache or HOLDS in pays,
            cache_lifetime="1h" if LASTS in pays else start.assumed.cache_lifetime,
        ),
    )
    return paying, reasons


def _of(records: Records, query: Query, sql: str, *more: int) -> list[tuple[Any, ...]]:
    """The rows of a statement about a query's calls, which are `{calls}` in it, up to its WHERE.

    `{capped}` is whether the length of a call's answer could have been capped.
    """
    where, values = conditions(query, records.dialect)
    said = sql.replace("{calls}", f"{records.dialect.calls} WHERE {where}").replace("{capped}", CAPPED)
    return records.rows(said, (*values, *more))


def _when(feature: str | None, **more: str) -> When:
    keys = {"feature": feature or "", **more}
    # A feature's name is no glob.
    return When(tuple((key, (re.sub(r"([*?[])", r"[\1]", value),)) for key, value in keys.items()))


def _called(feature: str | None) -> str:
    return feature or "calls without a feature"


def _caches(records: Records, query: Query) -> Iterator[Cache]:
    for feature, has_tenant in _of(
        records,
        query,
        "SELECT feature, count(*) = count(tenant) FROM {calls} "
        "AND outcome = 'ok' AND request_hash IS NOT NULL AND toolset IS NULL "
        "AND (temperature = 0 OR operation = 'embeddings') "
        "GROUP BY feature HAVING count(*) > count(DISTINCT coalesce(tenant, '') || request_hash) ORDER BY 1",
    ):
        per = ("tenant",) if has_tenant else ()
        yield Cache(name=f"{_called(feature)}: answers", when=_when(feature), per=per)


def _limits(records: Records, query: Query, reasons: Reasons) -> Iterator[Limit]:
    lengths: dict[str | None, list[int]] = {}
    for feature, tokens in _of(
        records,
        query,
        "SELECT feature, output_tokens FROM {calls} AND outcome = 'ok' AND max_tokens IS NULL "
        "AND {capped} AND output_tokens IS NOT NULL ORDER BY 1, 2",
    ):
        lengths.setdefault(feature, []).append(tokens)
    for feature, found in lengths.items():
        if len(found) >= ENOUGH:
            longest = found[math.ceil(0.99 * len(found)) - 1]
            cap = max(64, math.ceil(longest * 1.25 / 32) * 32)
            name = f"{_called(feature)}: length"
            reasons[name] = [f"99 of 100 of its {len(found):,} uncapped answers have at most {longest:,} tokens"]
            yield Limit(name=name, when=_when(feature), max_output_tokens=cap, then="clamp")
    for feature, calls in _of(
        records,
        query,
        "SELECT feature, count(*) FROM {calls} AND retry_attempt > ? GROUP BY 1 ORDER BY 1",
        RETRIES,
    ):
        name = f"{_called(feature)}: repeats"
        reasons[name] = [f"{calls:,} calls are the same request for the fourth time or more, after it failed"]
        yield Limit(name=name, when=_when(feature), max_retries=RETRIES)


def _routes(records: Records, query: Query, reasons: Reasons) -> Iterator[Route]:
    for feature, model, calls, longest in _of(
        records,
        query,
        "SELECT feature, request_model, count(*), max(output_tokens) FROM {calls} "
        "AND outcome = 'ok' AND toolset IS NULL AND {capped} AND request_model IS NOT NULL "
        "GROUP BY 1, 2 HAVING count(*) >= ? AND max(output_tokens) <= ? ORDER BY 1, 2",
        ENOUGH,
        SHORT,
    ):
        small = next((small for large, small in SMALLER if large.search(model)), None)
        if small is not None:
            name = f"{_called(feature)}: {small}"
            reasons[name] = [
                f"{calls:,} answers of {model} with at most {longest:,} tokens each; compare the tasks of both arms "
                "before the share grows"
            ]
            yield Route(name=name, when=_when(feature, model=model), to=small, share=TRIAL)


def _assumed(records: Records, query: Query, reasons: Reasons) -> Assumed:
    kinds: set[str] = set()
    for kind, feature, version, section, index, offset, calls, lost in _of(
        records,
        query,
        "SELECT break_kind, feature, prompt_version, break_section, break_index, break_offset, count(*), "
        "sum(break_usd) FROM {calls} AND break_kind IS NOT NULL GROUP BY 1, 2, 3, 4, 5, 6 "
        "ORDER BY 8 DESC NULLS LAST LIMIT 20",
    ):
        kinds.add(kind)
        step = LASTS if kind == "expired" else HOLDS
        at = f" at {section} {index}, character {offset}" if section is not None and kind == "changed" else ""
        whose = " ".join(filter(None, (feature, version))) or "a prompt with no feature"
        reasons.setdefault(step, []).append(f"{whose}: {kind}{at}, {calls:,} calls, {usd(lost)}")
    return Assumed(prompt_cache=not MENDABLE.isdisjoint(kinds), cache_lifetime="1h" if "expired" in kinds else "5m")


# --- the file --------------------------------------------------------------------------------------------------------


def as_toml(proposal: Proposal, reasons: Reasons, fall: Waterfall) -> str:
    """The proposal as a policy file, which can be checked and put in force; what each step assumes as comments."""
    saved = {line.name: line for line in fall.lines}
    out = [
        "# What would have paid, by `tokenguard whatif --suggest`: "
        f"{usd(fall.spent_usd)} spent, {usd(fall.left_usd)} left, of {fall.calls:,} calls.",
        '# Check it with `tokenguard policy check`, and watch it first: mode = "observe" changes nothing.',
        "# What stands under [whatif] is not enforced: it is what the program would have to do.",
        'mode = "observe"',
    ]

    def table(head: str, name: str, keys: dict[str, Any]) -> None:
        line = saved.get(name)
        told = [f"saves {usd(line.saved_usd)} on {line.calls:,} calls"] if line else []
        told += reasons.get(name, []) + (list(line.assumes) if line else [])
        out.extend(["", *(f"# {_comment(each)}" for each in told)])
        if head:
            out.append(head)
        out.extend(f"{key} = {_toml(value)}" for key, value in keys.items())

    for limit in proposal.policy.limits:
        ceilings = {key: value for key in _LIMIT_KEYS if (value := getattr(limit, key)) is not None}
        table("[[limit]]", limit.name, {"name": limit.name, "when": limit.when, **ceilings, "then": limit.then})
    assumed: list[tuple[str, dict[str, Any]]] = []
    if proposal.assumed.prompt_cache:
        assumed.append((HOLDS, {"prompt_cache": True}))
    if proposal.assumed.cache_lifetime == "1h":
        assumed.append((LASTS, {"cache_lifetime": "1h"}))
    if assumed:
        out.extend(["", "[whatif]"])
    for name, keys in assumed:
        table("", name, keys)
    for cache in proposal.caches:
        table("[[cache]]", cache.name, {"name": cache.name, "when": cache.when, "per": cache.per, "ttl": "1h"})
    for route in proposal.routes:
        keys = {"name": route.name, "when": route.when, "to": route.to, "share": route.share}
        table("[[route]]", route.name, keys)
    if len(out) == 4:
        out.append("\n# Nothing that is recorded would have paid.")
    return "\n".join([*out, ""])


_LIMIT_KEYS: Final = (
    *("max_input_tokens", "max_output_tokens", "max_cost_usd", "max_tool_steps", "max_tool_calls_per_turn"),
    "max_retries",
)


def _comment(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)


def _toml(value: object) -> str:
    if isinstance(value, When):
        return "{ " + ", ".join(f"{key} = {_toml(globs[0])}" for key, globs in value.patterns) + " }"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else f"{value:g}"
