"""What the figures say about waste: measured facts, each with its price and the next step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from tokenguard.facts import names
from tokenguard.facts.dollars import dollars
from tokenguard.facts.lookups import OTHERWISE, STEPS, why
from tokenguard.facts.tuples import NamedTuple
from tokenguard.report.engine import Records
from tokenguard.report.figures import Report, many
from tokenguard.report.inputs import broken
from tokenguard.report.measured import measured
from tokenguard.report.query import IDENTIFIED, Query, answered, attribute, conditions, may_be, newest
from tokenguard.report.trend import Outlier

MIN_CALLS: Final = 3
LONG: Final = ("long_calls", "long_tokens", "long_read_tokens", "long_uncached_usd")
LAST_CALLS: Final = 50_000
"""So many of the last calls are looked through one by one: for repeats, broken prompts, and what routes save."""
COLD: Final = 0.05
"""The cache hit share below which a prompt is said not to be cached."""
WARM: Final = 0.5
"""The cache hit share from which on another version of a prompt shows how it is done."""
KEEP: Final = (
    "see them with tokenguard calls --repeated; where the same answer is good enough, keep it with a [[cache]]"
)
FEW: Final = 3
"""How many findings of one kind are told."""


class Finding(NamedTuple):
    """One line: what is so, a sum of money (USD; `None` where it is not known), what that sum is, and what to do."""

    says: str
    usd: float | None
    usd_is: str
    next_step: str


def find(records: Records, report: Report, outliers: Sequence[Outlier] = ()) -> list[Finding]:
    """The findings about a report's calls: losses, then risks, then what was prevented; the dearest first in each."""
    recent = newest(records, report.query, LAST_CALLS)
    losses = [
        *_outliers(outliers),
        *_cold_prompts(records, report),
        *_breaks(records, recent),
        *_repeats(records, report, recent),
        *_routes(records, report, recent),
        *_losses(report),
    ]
    kinds = (losses, _risks(report), _blocked(records, report))
    return [finding for kind in kinds for finding in sorted(kind, key=lambda finding: -(finding.usd or 0.0))]


def _outliers(outliers: Sequence[Outlier]) -> Iterator[Finding]:
    for found in outliers[:FEW]:
        yield Finding(
            f"{found.feature or 'calls with no feature'} cost {dollars(found.usd)} on {found.day}, where the median of "
            f"its {found.days} days before is {dollars(found.usual_usd)}",
            found.usd - found.usual_usd,
            "above its usual day",
            f"see what is new with --by model,prompt_version,tenant --since {found.day}"
            + (f" --where feature={found.feature}" if found.feature else ""),
        )


def _breaks(records: Records, recent: Query) -> Iterator[Finding]:
    """Why prompts were not in the provider's cache, as far as that is known."""
    for found in broken(records, recent, FEW):
        yield Finding(found.says(), found.usd, "lost to a broken prompt cache", found.next_step())


def _repeats(records: Records, report: Report, recent: Query) -> Iterator[Finding]:
    """Requests that were sent again though they had been answered. The loss is what all but the first answer cost."""
    dialect = records.dialect
    where, values = conditions(recent, dialect)
    identified = any(key in IDENTIFIED for key, _ in recent.where)
    calls_as_kept = dialect.calls if identified or dialect.packed is None else dialect.packed
    rule, result, reason = (
        attribute(dialect, "more", name) for name in (names.CACHE_RULE, names.CACHE_RESULT, names.CACHE_REASON)
    )
    found = records.rows(
        "WITH same AS ("  # noqa: S608
        "SELECT feature, request_hash AS request, count(*) AS times, sum(cost_usd) AS usd, "
        f"max(CASE WHEN {result} IS NOT NULL THEN {rule} END) AS rule, max({result}) AS result, "
        f"max({reason}) AS reason FROM {calls_as_kept} WHERE {where} AND {answered(dialect)} "
        "GROUP BY 1, 2 HAVING count(*) > 1) "
        "SELECT rule, result, reason, feature, sum(times - 1), count(*), sum(usd * (times - 1) / times) FROM same "
        "GROUP BY 1, 2, 3, 4 ORDER BY 7 DESC NULLS LAST, 5 DESC, 1, 4",
        values,
    )
    among = f" among the last {LAST_CALLS:,}" if report.total.figures["calls"] > LAST_CALLS else ""
    by_rule: dict[tuple[str | None, ...], list[tuple[str | None, int, int, float | None]]] = {}
    for *which, feature, times, requests, usd in found:
        by_rule.setdefault(tuple(which), []).append((feature, int(times), int(requests), usd))
    for (name, told, because), by_feature in list(by_rule.items())[:FEW]:
        calls, requests = (sum(counts) for counts in ([row[1] for row in by_feature], [row[2] for row in by_feature]))
        known = [usd for *_, usd in by_feature if usd is not None]
        most = ", ".join(f"{feature or 'no feature'} {times:,}" for feature, times, *_ in by_feature[:FEW])
        under, reason = ("", "") if told is None else (f'under the rule "{name}", ', f": {why(told, because)}")
        yield Finding(
            f"{under}{many(calls, 'call')}{among} repeated a request that had been answered "
            f"({many(requests, 'distinct request')}; {most}{', ...' if len(by_feature) > FEW else ''}){reason}",
            math.fsum(known) if known else None,
            "spent on repeated calls",
            KEEP if told is None else STEPS.get((told, because), OTHERWISE),
        )


def _routes(records: Records, report: Report, recent: Query) -> Iterator[Finding]:
    """Routes that cost more than they save: too many answers of the cheaper model have to be asked again."""
    dialect = records.dialect
    rule, saved, again, original = (
        attribute(dialect, "more", name)
        for name in (names.ROUTE_RULE, names.ROUTE_SAVED, names.ROUTE_ESCALATION, names.GUARD_ORIGINAL_MODEL)
    )
    if not may_be(records, f"{rule} IS NOT NULL OR {original} IS NOT NULL"):  # no call had another model
        return
    where, values = conditions(recent, dialect)
    found = records.rows(
        f"SELECT {rule}, count(*), sum(CASE WHEN {again} IS NULL THEN 0 ELSE 1 END), "  # noqa: S608 - our own names
        f"sum(CAST({saved} AS DOUBLE PRECISION)) FROM {dialect.calls} WHERE {where} AND {saved} IS NOT NULL "
        f"GROUP BY 1 HAVING sum(CAST({saved} AS DOUBLE PRECISION)) < 0 ORDER BY 4",
        values,
    )
    among = f", among the last {LAST_CALLS:,} calls" if report.total.figures["calls"] > LAST_CALLS else ""
    for name, calls, escalated, usd in found[:FEW]:
        first = int(calls) - int(escalated)
        share = f", as {escalated / first:.0%} of its {first:,} answers were asked again" if escalated and first else ""
        share += among
        yield Finding(
            f'the route "{name or "of a downgrade"}" costs more than the model that was asked for{share}',
            -usd,
            "more than without it",
            "let it take less, with max_input_tokens or `when`, or take it out",
        )


def _risks(report: Report) -> Iterator[Finding]:
    total = report.total.figures
    if total["uncapped"]:
        yield Finding(
            f"{total['uncapped']:,} of {many(total['generations'], 'generation call')}",
            total["uncapped_usd"],
            "spent without an output cap",
            'set one, or let a [[limit]] with max_output_tokens and then = "clamp" do it',
        )


def _losses(report: Report) -> Iterator[Finding]:
    total = report.total.figures
    if total["retries"]:
        yield Finding(
            f"{many(total['retries'], 'request')} sent again",
            total["retry_cost_usd"],
            "spent on retries",
            "look at their errors with --by error; cap them with max_retries in a [[limit]]",
        )
    if total["abandoned"]:
        yield Finding(
            f"{many(total['abandoned'], 'call')} ended before the whole answer was read",
            total["abandoned_usd"],
            "spent on incomplete answers",
            "see where with --by call_site --where outcome=abandoned; a provider may bill the whole answer",
        )


class _Prompt(NamedTuple):
    """The calls of one version of a prompt that are long enough to be cached."""

    feature: str | None
    version: str | None
    model: str | None
    calls: int
    tokens: int
    share: float
    usd: float | None


def _cold_prompts(records: Records, report: Report) -> Iterator[Finding]:
    """Prompts that are long enough to be cached, sent again and again, and next to never found in the cache.

    The loss is what their uncached input cost, written to the cache or not. Where another version of the prompt is
    read from the cache, it is named.
    """
    query = replace(report.query, by=("feature", "prompt_version", "model"))
    prompts = [
        _Prompt(
            feature,
            version,
            model,
            of["long_calls"],
            of["long_tokens"],
            of["long_read_tokens"] / of["long_tokens"],
            of["long_uncached_usd"],
        )
        for (feature, version, model), (of, *_) in measured(records, query, LONG).groups.items()
        if of["long_calls"] >= MIN_CALLS
    ]
    prompts.sort(key=lambda prompt: (prompt.usd is None, -(prompt.usd or 0.0), -prompt.calls, str(prompt)))
    for cold in [prompt for prompt in prompts if prompt.share < COLD][:FEW]:
        warm = max(
            (
                each
                for each in prompts
                if (each.feature, each.model) == (cold.feature, cold.model) and each.version and each.share >= WARM
            ),
            key=lambda each: each.share,
            default=None,
        )
        name = " ".join(filter(None, (cold.feature, cold.version))) or "a prompt with no feature"
        sibling = f" ({warm.version}: {warm.share:.0%})" if warm else ""
        yield Finding(
            f"{name} sent {cold.tokens / cold.calls:,.0f} input tokens a call to {cold.model}, {cold.calls:,} times; "
            f"{cold.share:.0%} of them came from the cache{sibling}",
            cold.usd,
            "of uncached input",
            f"{f'compare it with {warm.version}: ' if warm else ''}put the constant part first and what changes "
            "(a clock, an id, the question) last",
        )


def _blocked(records: Records, report: Report) -> Iterator[Finding]:
    if not report.total.figures["blocked"]:
        return
    found = measured(records, replace(report.query, by=("rule",)), ("blocked", "prevented_usd")).groups
    rules = [(rule, of["blocked"], of["prevented_usd"]) for (rule,), (of, *_) in found.items() if of["blocked"]]
    for rule, calls, usd in sorted(rules, key=lambda each: (-each[1], each[0] or ""))[:FEW]:
        yield Finding(
            f'"{rule}" blocked {many(calls, "call")} before sending',
            usd,
            "prevented at most",
            "see whose with --where outcome=blocked --by tenant,feature",
        )
