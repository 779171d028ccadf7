"""What the figures say about waste: measured facts, each with its price and the next step."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from tokenguard.report.figures import DIMENSIONS, GENERATES, Report, conditions, many

MIN_CALLS = 3
CACHEABLE = 1024
"""Input tokens below which providers do not cache a prompt (OpenAI, and most of Anthropic's models)."""
COLD = 0.05
"""The cache hit share below which a prompt is said not to be cached."""
WARM = 0.5
"""The cache hit share from which on another version of a prompt shows how it is done."""
FEW = 3
"""How many findings of one kind are told."""


class Finding(NamedTuple):
    """One line: what is so, a sum of money (USD; `None` where it is not known), what that sum is, and what to do."""

    says: str
    usd: float | None
    usd_is: str
    next_step: str


def find(connection: sqlite3.Connection, report: Report) -> list[Finding]:
    """The findings about a report's calls: losses, then risks, then what was prevented; the dearest first in each."""
    kinds = ([*_cold_prompts(connection, report), *_losses(report)], _risks(report), _blocked(connection, report))
    return [finding for kind in kinds for finding in sorted(kind, key=lambda finding: -(finding.usd or 0.0))]


def _risks(report: Report) -> Iterator[Finding]:
    total = report.total.figures
    if total["uncapped"]:
        yield Finding(
            f"{total['uncapped']:,} of {many(total['generations'], 'generation call')} set no output cap",
            total["uncapped_usd"],
            "spent without a ceiling",
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
            f"{many(total['abandoned'], 'call')} ended before the answer was read to its end",
            total["abandoned_usd"],
            "spent on unread answers",
            "see where with --by call_site --where outcome=abandoned; a provider may bill what nobody read",
        )


def _cold_prompts(connection: sqlite3.Connection, report: Report) -> Iterator[Finding]:
    """Prompts that are long enough to be cached, sent again and again, and next to never found in the cache.

    The loss is what their uncached input cost, written to the cache or not. Where another version of the prompt is
    read from the cache, it is named.
    """
    where, values = conditions(report.query)
    told = set()
    for *prompt, calls, tokens, share, usd, warm_version, warm_share in connection.execute(
        "WITH prompts AS MATERIALIZED ("  # noqa: S608
        f"SELECT feature, prompt_version AS version, {DIMENSIONS['model']} AS model, count(*) AS calls, "
        "avg(input_tokens) AS tokens, sum(cache_read_tokens) * 1.0 / sum(input_tokens) AS share, "
        "sum(input_usd + coalesce(cache_write_usd, 0.0)) AS usd "
        f"FROM calls WHERE {where} AND outcome = 'ok' AND {GENERATES} AND input_tokens >= {CACHEABLE} "
        f"AND cache_read_tokens IS NOT NULL GROUP BY 1, 2, 3 HAVING calls >= {MIN_CALLS}), "
        f"cold AS (SELECT * FROM prompts WHERE share < {COLD} ORDER BY usd DESC NULLS LAST, calls DESC LIMIT {FEW}) "
        "SELECT cold.*, warm.version, warm.share FROM cold LEFT JOIN prompts AS warm ON warm.feature IS cold.feature "
        f"AND warm.model IS cold.model AND warm.version <> cold.version AND warm.share >= {WARM} "
        "ORDER BY cold.usd DESC NULLS LAST, cold.calls DESC, cold.feature, cold.version, cold.model, warm.share DESC",
        values,
    ):
        if tuple(prompt) in told:
            continue
        told.add(tuple(prompt))
        feature, version, model = prompt
        name = " ".join(filter(None, (feature, version))) or "a prompt with no feature"
        sibling = f" ({warm_version}: {warm_share:.0%})" if warm_version else ""
        yield Finding(
            f"{name} sent {tokens:,.0f} input tokens a call to {model}, {calls:,} times; {share:.0%} of them came "
            f"from the cache{sibling}",
            usd,
            "of uncached input",
            f"{f'compare it with {warm_version}: ' if warm_version else ''}put what never changes first and what does "
            "(a clock, an id, the question) last",
        )


def _blocked(connection: sqlite3.Connection, report: Report) -> Iterator[Finding]:
    if not report.total.figures["blocked"]:
        return
    where, values = conditions(report.query)
    for rule, calls, usd in connection.execute(
        f"SELECT guard_rule, count(*), sum(prevented_usd) FROM calls WHERE {where} AND outcome = 'blocked' "  # noqa: S608
        f"GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {FEW}",
        values,
    ):
        yield Finding(
            f'"{rule}" blocked {many(calls, "call")} before sending',
            usd,
            "at worst prevented",
            "see whose with --where outcome=blocked --by tenant,feature",
        )
