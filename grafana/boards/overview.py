"""The first page: is anything wrong, what is it like today, and what has changed."""

from __future__ import annotations

from budgets import accounts
from panels import (
    COUNT,
    OUTCOMES,
    RATIO,
    SECONDS,
    SHARE,
    TOKENS,
    USD,
    Board,
    Column,
    Panel,
    Query,
    bars,
    compared,
    lines,
    steps,
)
from queries import DURATION, MODEL, SENT, TENANT, WHERE, picked, share

from tokenguard.facts import names

from .budgets import AT_RISK
from .parts import (
    ANNOTATIONS,
    BAR,
    BY,
    FAILED,
    FLOWING,
    RANGE,
    barred,
    earlier,
    named,
    p,
    ranged,
    versus,
)
from .reliability import BREAKERS

NOW = "in this range"
RISKS = [column.key for column in AT_RISK]
SPEND, CALLS, TOKENS_USED = (
    ranged(names.COST_USD),
    ranged(names.CALLS, matching=SENT),
    ranged(names.TOKENS, matching=FLOWING),
)
ERRORS = share(ranged(names.CALLS, matching=FAILED), CALLS)
LATENCY = p(0.95, DURATION, RANGE)
TENANTS = f"count({ranged(names.CALLS, TENANT)} > 0)"
BY_VALUE = named(ranged(names.COST_USD, "$by"))
MOVED = f"({BY_VALUE} - ({earlier(BY_VALUE, '1d')} or 0 * {BY_VALUE}))"
MOST_MOVED = f"topk(10, abs({MOVED}))"

OVERVIEW = Board(
    "tokenguard-overview",
    "TokenGuard / Overview",
    "Is anything wrong, what is it like now, and what has changed.",
    [
        compared("Spend", USD, {NOW: SPEND, **versus(SPEND)}, "What calls cost in the dashboard's range."),
        compared("Calls", COUNT, {NOW: CALLS, **versus(CALLS)}, "Calls that were sent to a provider."),
        compared("Tokens", TOKENS, {NOW: TOKENS_USED, **versus(TOKENS_USED)}, "Input, cached or not, and output."),
        compared(
            "Error share",
            SHARE,
            {NOW: ERRORS, **versus(ERRORS)},
            "The share of calls that ended in an error after all retries.",
            defaults=steps((None, "text"), (0.01, "orange"), (0.05, "red")),
        ),
        compared("Latency p95", SECONDS, {NOW: LATENCY, **versus(LATENCY)}, "Of whole calls, streams to their end."),
        compared("Active tenants", COUNT, {NOW: TENANTS, **versus(TENANTS)}, "Tenants with at least one call."),
        Panel("alertlist", "Alerts firing or pending", RATIO, (), "TokenGuard's alerts, by whoever evaluates them."),
        Panel(
            "table",
            "Budgets at risk",
            SHARE,
            [Query(expr, name) for name, expr in accounts(picked(WHERE), 8).items() if name in RISKS],
            "The accounts that end furthest over their limit at the pace of their window so far, or are furthest used.",
            width=16,
            none="no budgets",
            traces=["budget"],
            columns=AT_RISK,
            options={"sortBy": [{"displayName": "Used", "desc": True}]},
        ),
        bars(
            "Spend by $by",
            USD,
            f"topk(10, {barred(names.COST_USD, '$by')})",
            "__auto",
            "USD in each bar, of the ten that cost most in it.",
            by="${__series.name:percentencode}",
            width=16,
        ),
        Panel(
            "table",
            "Top movers by $by",
            USD,
            [
                Query(f"{MOVED} and {MOST_MOVED}", "moved"),
                Query(f"{BY_VALUE} and {MOST_MOVED}", "usd"),
            ],
            "What costs most more or less than in the same time a day earlier.",
            by="${__data.fields.Value:percentencode}",
            columns=(
                Column("value", "Value"),
                Column("usd", "Spend", USD),
                Column("moved", "Change", USD),
            ),
            options={"sortBy": [{"displayName": "Change", "desc": True}]},
        ),
        bars(
            "Calls by outcome",
            COUNT,
            barred(names.CALLS, "outcome"),
            "{{outcome}}",
            "Answered, failed, blocked by the guard, closed before their end.",
            named=OUTCOMES,
        ),
        lines(
            "Latency p95 by model",
            SECONDS,
            [Query(p(0.95, DURATION, BAR, MODEL), f"{{{{{MODEL}}}}}", exemplars=True)],
            "Of whole calls, where there were calls enough. Points lead to their traces.",
            traces=[MODEL],
        ),
        BREAKERS,
    ],
    [BY],
    ANNOTATIONS,
)
