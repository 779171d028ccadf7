"""What the figures say about waste: measured facts, each with its price and the next step."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from tokenguard.report.figures import DIMENSIONS, Report, conditions, many

MIN_CALLS = 3
CACHEABLE = 1024
"""Input tokens below which providers do not cache a prompt (OpenAI, and most of Anthropic's models)."""
COLD = 0.05
"""The cache hit share below which a prompt is said not to be cached."""
FEW = 3
"""How many findings of one kind are told."""


class Finding(NamedTuple):
    """One line: what is so, what it cost in USD (`None` where that is not a sum of money), and what to do."""

    says: str
    usd: float | None
    next_step: str


def find(connection: sqlite3.Connection, report: Report) -> list[Finding]:
    """The findings about a report's calls, the dearest first."""
    found = [*_cold_prompts(connection, report), *_of_the_total(report), *_blocked(connection, report)]
    return sorted(found, key=lambda finding: -(finding.usd or 0.0))


def _of_the_total(report: Report) -> Iterator[Finding]:
    """Facts that the total holds."""
    total = report.total.figures
    if total["uncapped"]:
        yield Finding(
            f"{total['uncapped']:,} of {many(total['generations'], 'generation call')} set no output cap",
            total["uncapped_usd"],
            'set one, or let a [[limit]] with max_output_tokens and then = "clamp" do it',
        )
    if total["retries"]:
        yield Finding(
            f"{many(total['retries'], 'request')} sent again",
            total["retry_cost_usd"],
            "look at their errors with --by error; cap them with max_retries in a [[limit]]",
        )
    if total["abandoned"]:
        yield Finding(
            f"{many(total['abandoned'], 'stream')} ended before the answer was read to its end",
            total["abandoned_usd"],
            "see where with --by call_site --where outcome=abandoned; a provider may bill what nobody read",
        )


def _cold_prompts(connection: sqlite3.Connection, report: Report) -> Iterator[Finding]:
    """Prompts that are long enough to be cached, sent again and again, and next to never found in the cache."""
    where, values = conditions(report.query)
    for feature, version, model, calls, tokens, share, usd in connection.execute(
        f"SELECT feature, prompt_version, {DIMENSIONS['model']} AS model, count(*) AS calls, avg(input_tokens), "  # noqa: S608
        "sum(cache_read_tokens) * 1.0 / sum(input_tokens) AS share, sum(cost_usd) AS usd "
        f"FROM calls WHERE {where} AND outcome = 'ok' AND operation <> 'embeddings' AND input_tokens >= {CACHEABLE} "
        "AND cache_read_tokens IS NOT NULL GROUP BY 1, 2, 3 "
        f"HAVING calls >= {MIN_CALLS} AND share < {COLD} ORDER BY usd DESC, calls DESC LIMIT {FEW}",
        values,
    ):
        prompt = " ".join(filter(None, (feature, version))) or "a prompt with no feature"
        yield Finding(
            f"{prompt} sent {tokens:,.0f} input tokens a call to {model}, {calls:,} times; {share:.0%} of them came "
            "from the cache",
            usd,
            "put what never changes first and what does (a clock, an id, the question) last",
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
            "see whose with --where outcome=blocked --by tenant,feature",
        )
