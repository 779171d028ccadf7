"""What calls cost, and on what."""

from __future__ import annotations

from panels import CENTS, COUNT, SHARE, TOKENS, USD, Board, Column, Panel, Query, bars, lines, ranking, stat, steps
from queries import FEATURE, MODEL, SENT, share
from variables import textbox

from tokenguard.facts import names

from .parts import (
    ANNOTATIONS,
    BY,
    FLOWING,
    MONTH,
    RANGE,
    SPENDER,
    SUCCEEDED,
    UNRECORDED,
    barred,
    earlier,
    forecast,
    ranged,
    recorded,
    trailing,
)

SPEND = ranged(names.COST_USD)
BY_MODEL = trailing(names.COST_USD, MODEL)
PRICE_PER_MTOK = f"{BY_MODEL} / ({trailing(names.TOKENS, MODEL, matching=FLOWING)} > 0) * 1e6"
LARGE = f"(sum({BY_MODEL} and {PRICE_PER_MTOK} >= $large) or 0 * sum({BY_MODEL})) / (sum({BY_MODEL}) > 0)"
PER_CALL = f"{ranged(names.TOKENS, FEATURE, matching=FLOWING)} / ({ranged(names.CALLS, FEATURE, matching=SENT)} > 20)"
UNITS = ranged(names.UNITS, "type", MODEL)
OF_UNITS = f"0 * {UNITS} + on ({MODEL}) group_left () {ranged(names.COST_USD, MODEL)}"
TOP = f"topk(20, {ranged(names.COST_USD, *SPENDER)})"

COST = Board(
    "tokenguard-cost",
    "TokenGuard / Cost",
    "What LLM calls cost, and on what.",
    [
        stat("Today", USD, SPEND, "Since midnight, UTC, as the ledger counts a day.", time_from="now/d"),
        stat(
            "Month to date",
            USD,
            recorded(names.COST_USD, RANGE),
            "Since the first of the month, UTC, as far as the recording rules have run: see *Month covered* in FinOps.",
            time_from=MONTH,
            none=UNRECORDED,
        ),
        stat(
            "Projected month",
            USD,
            forecast(),
            "The month so far, and its rest at the pace of the last seven days.",
            time_from=MONTH,
            none=UNRECORDED,
        ),
        stat(
            "Cost per successful task",
            USD,
            f"{ranged(names.TASK_COST_USD)} / ({ranged(names.TASKS, matching=SUCCEEDED)} > 0)",
            "All that tasks cost, failed ones included, over the tasks that succeeded.",
            none="no tasks",
            defaults=CENTS,
        ),
        stat(
            "Cost per 1,000 calls",
            USD,
            f"1000 * {SPEND} / ({ranged(names.CALLS, matching=SENT)} > 0)",
            "Calls that were sent; those that the guard blocked cost nothing.",
        ),
        stat(
            "Unpriced calls",
            SHARE,
            share(ranged(names.UNPRICED_CALLS), ranged(names.CALLS, matching=SENT)),
            "The share of calls whose model has no known price: they are missing in every sum of money here.",
            defaults=steps((None, "green"), (0.001, "orange"), (0.05, "red")),
        ),
        bars(
            "Spend by $by",
            USD,
            f"topk(12, {barred(names.COST_USD, '$by')})",
            "__auto",
            "USD in each bar, of the twelve that cost most in it.",
            by="${__series.name:percentencode}",
            width=16,
            height=10,
        ),
        ranking(
            "Most spent by $by",
            USD,
            f"{ranged(names.COST_USD, '$by')} > 0",
            "",
            "The ten that cost most in the chosen range. Choose what to rank by above.",
            by="${__series.name:percentencode}",
            height=10,
        ),
        Panel(
            "table",
            "Top spenders",
            USD,
            [
                Query(TOP, "usd"),
                Query(f"{ranged(names.CALLS, *SPENDER, matching=SENT)} and {TOP}", "calls"),
                Query(f"{ranged(names.TOKENS, *SPENDER, matching=FLOWING)} and {TOP}", "tokens"),
            ],
            "By tenant, feature and model. A row leads to its traces, and to this dashboard filtered by it.",
            width=24,
            traces=SPENDER,
            columns=(
                Column(SPENDER[0], "Tenant"),
                Column(SPENDER[1], "Feature"),
                Column(SPENDER[2], "Model"),
                Column("usd", "USD", USD),
                Column("calls", "Calls", COUNT),
                Column("tokens", "Tokens", TOKENS),
            ),
            options={"sortBy": [{"displayName": "USD", "desc": True}]},
        ),
        Panel(
            "table",
            "Tokens per call",
            COUNT,
            [
                Query(PER_CALL, "now"),
                Query(earlier(PER_CALL, "7d"), "then"),
                Query(f"{PER_CALL} / ({earlier(PER_CALL, '7d')} > 0) - 1", "change"),
            ],
            "In this range, and in the same a week earlier: a prompt that grew shows here before it shows on the bill. "
            "Features with more than 20 calls.",
            width=9,
            traces=[FEATURE],
            columns=(
                Column(FEATURE, "Feature"),
                Column("now", "Now", COUNT),
                Column("then", "Week earlier", COUNT),
                Column(
                    "change",
                    "Change",
                    SHARE,
                    {
                        **steps((None, "text"), (0.25, "orange"), (0.5, "red")),
                        "custom.cellOptions": {"type": "color-text"},
                    },
                ),
            ),
            options={"sortBy": [{"displayName": "Change", "desc": True}]},
        ),
        Panel(
            "table",
            "Units other than tokens",
            COUNT,
            [Query(UNITS, "units"), Query(OF_UNITS, "usd")],
            "Images, seconds, characters, pages, searches and whatever else a provider bills by, with all that its "
            "model cost.",
            width=9,
            none="only tokens",
            traces=[MODEL],
            columns=(
                Column("type", "Unit", more={"custom.width": 110}),
                Column(MODEL, "Model"),
                Column("units", "Amount", COUNT, {"custom.width": 85}),
                Column("usd", "Model's USD", USD, {"custom.width": 100}),
            ),
            options={"sortBy": [{"displayName": "Model's USD", "desc": True}]},
        ),
        lines(
            "Share going to large models",
            SHARE,
            [Query(LARGE, "large models")],
            "The share of spend on models that came to at least $large USD per million tokens, cached ones included.",
            width=6,
            step="1h",
            defaults={"min": 0, "max": 1},
        ),
    ],
    [BY, textbox("large", "Large from USD/Mtok", "2")],
    ANNOTATIONS,
)
