"""What the figures say about waste: measured facts, each with its price and the next step."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tokenguard.report.figures import DIMENSIONS, NO_VALUE, Query, conditions, many

MIN_CALLS = 3
CACHEABLE = 1024
"""Input tokens below which providers do not cache a prompt (OpenAI, and most of Anthropic's models)."""


class Finding(NamedTuple):
    """One line: what is so, what it cost in USD (`None` where that is not a sum of money), and what to do."""

    says: str
    usd: float | None
    next_step: str


def find(connection: sqlite3.Connection, query: Query) -> list[Finding]:
    """The findings, the dearest first."""
    found = [finding for look in LOOKS for finding in look(connection, *conditions(query))]
    return sorted(found, key=lambda finding: -(finding.usd or 0.0))


def _cold_prompts(connection: sqlite3.Connection, where: str, values: list[object]) -> Iterator[Finding]:
    """Prompts that are long enough to be cached, sent again and again, and never found in the cache."""
    for feature, version, model, calls, tokens, usd in connection.execute(
        f"SELECT coalesce(feature, '{NO_VALUE}'), prompt_version, {DIMENSIONS['model']} AS model, count(*), "  # noqa: S608
        "avg(input_tokens), sum(cost_usd) "
        f"FROM calls WHERE {where} AND outcome = 'ok' AND operation <> 'embeddings' AND cache_read_tokens IS NOT NULL "
        "GROUP BY feature, prompt_version, model "
        f"HAVING count(*) >= {MIN_CALLS} AND avg(input_tokens) >= {CACHEABLE} "
        "AND sum(cache_read_tokens) * 20 < sum(input_tokens) ORDER BY 6 DESC LIMIT 3",
        values,
    ):
        name = f"{feature} {version}" if version else feature
        yield Finding(
            f"{name} sent {tokens:,.0f} input tokens a call to {model}, {calls} times, and next to none "
            "came from the cache",
            usd,
            "put what never changes first and what does (a clock, an id, the question) last",
        )


def _uncapped(connection: sqlite3.Connection, where: str, values: list[object]) -> Iterator[Finding]:
    calls, all_calls, usd = connection.execute(
        "SELECT coalesce(sum(max_tokens IS NULL), 0), count(*), sum(iif(max_tokens IS NULL, cost_usd, 0)) "  # noqa: S608
        f"FROM calls WHERE {where} AND operation IN ('chat', 'text_completion')",
        values,
    ).fetchone()
    if calls:
        yield Finding(
            f"{calls:,} of {many(all_calls, 'generation call')} without an output cap",
            usd,
            'set one, or let a [[limit]] with max_output_tokens and then = "clamp" do it',
        )


def _retries(connection: sqlite3.Connection, where: str, values: list[object]) -> Iterator[Finding]:
    retries, usd = connection.execute(
        "SELECT sum(coalesce(resends, 0) + (retry_attempt IS NOT NULL)), sum(retry_cost_usd) "  # noqa: S608
        f"FROM calls WHERE {where}",
        values,
    ).fetchone()
    if retries:
        yield Finding(
            f"{many(retries, 'request')} sent again",
            usd,
            "look at their errors with --by error; cap them with max_retries",
        )


def _abandoned(connection: sqlite3.Connection, where: str, values: list[object]) -> Iterator[Finding]:
    calls, usd = connection.execute(
        f"SELECT count(*), sum(cost_usd) FROM calls WHERE {where} AND outcome = 'abandoned'",  # noqa: S608
        values,
    ).fetchone()
    if calls:
        yield Finding(
            f"{many(calls, 'call')} abandoned before the answer was complete",
            usd,
            "what was generated is paid for: stop generating sooner, or ask for less",
        )


def _blocked(connection: sqlite3.Connection, where: str, values: list[object]) -> Iterator[Finding]:
    for rule, calls, usd in connection.execute(
        f"SELECT guard_rule, count(*), sum(prevented_usd) FROM calls WHERE {where} AND outcome = 'blocked' "  # noqa: S608
        "GROUP BY 1 ORDER BY 2 DESC LIMIT 3",
        values,
    ):
        yield Finding(f'"{rule}" blocked {many(calls, "call")}', usd, "look at whose with --where outcome=blocked")


LOOKS: tuple[Callable[[sqlite3.Connection, str, list[object]], Iterator[Finding]], ...] = (
    _cold_prompts,
    _uncapped,
    _retries,
    _abandoned,
    _blocked,
)
