"""Budgets and the guard: how full, how fast, and what is refused."""

from __future__ import annotations

from typing import Any

from budgets import ANY, UNITS, accounts, projected, used
from panels import (
    COUNT,
    RATIO,
    SECONDS,
    SHARE,
    USD,
    Board,
    Column,
    Panel,
    Query,
    bars,
    limit,
    lines,
    ranking,
    stat,
    steps,
)
from queries import TENANT, WHERE, gain, picked, prometheus_name, share, total
from variables import several

from tokenguard.facts import names

from .parts import AHEAD, ANNOTATIONS, BAR, BLOCKED, RANGE, barred, ranged

CHOSEN = picked(WHERE, 'budget=~"$budget"', 'key=~"$account"')
NAMED = "{{budget}} {{key}} {{unit}}"
NO_BUDGETS = "no budgets"
GAUGE = {
    **steps((None, "green"), (0.7, "orange"), (0.9, "red")),
    "min": 0,
    "max": 1,
    "custom.cellOptions": {"type": "gauge", "mode": "basic"},
    "custom.width": 120,
}
OVER = {**steps((None, "text"), (1.0, "red")), "custom.cellOptions": {"type": "color-text"}}
AT_RISK = (
    Column("job", "Service"),
    Column("budget", "Budget"),
    Column("key", "Account"),
    Column("unit", "Unit", more={"custom.width": 70}),
    Column("used", "Used", SHARE, GAUGE),
    Column("projected", "Forecast", SHARE, {**OVER, "custom.width": 90}),
    Column("exhausted", "Exhausted in", SECONDS, {"custom.width": 110}),
)
RESERVED = f"{ANY} ({prometheus_name(names.BUDGET_RESERVED_USD)}{CHOSEN})"


def of_accounts(name: str, label: str) -> dict[str, Any]:
    """A picker of the budgets' own labels, in whatever unit they limit."""
    query = " or ".join(f"count by ({label}) ({prometheus_name(limit)})" for _, limit in UNITS.values())
    return several(name, f"query_result({query})", regex=f'/{label}="([^"]*)"/')


def fullest(title: str, units: tuple[str, ...], amount: str, **more: Any) -> Panel:
    """A table of the 50 fullest accounts that limit these units; its amounts are told in one of Grafana's units."""
    return Panel(
        "table",
        title,
        SHARE,
        [Query(expr, name) for name, expr in accounts(CHOSEN, 50, units).items()],
        "The 50 fullest accounts. Each service's account is its own. The forecast is from the window so far, and "
        "exhaustion from the last hour. A row leads to the calls that its budget decided on.",
        width=24,
        traces=["budget"],
        columns=(
            *(column for column in AT_RISK if column.key != "unit" or len(units) > 1),
            Column("limit", "Limit", amount),
            Column("spent", "Spent", amount),
            Column("remaining", "Remaining", amount),
        ),
        options={"sortBy": [{"displayName": "Used", "desc": True}]},
        **more,
    )


def refused(window: str, ago: str = "") -> str:
    """Calls that budgets refused, by budget."""
    return total(gain(prometheus_name(names.BUDGET_REFUSALS) + CHOSEN, window, ago), "budget")


BUDGETS = Board(
    "tokenguard-budgets",
    "TokenGuard / Budgets and guard",
    "How far the budgets are, what is refused, and what the guard decides.",
    [
        stat(
            "Budget utilisation, highest",
            SHARE,
            f"max({used(CHOSEN)})",
            "What is spent of the budget that is nearest to its limit.",
            none=NO_BUDGETS,
            defaults=steps((None, "green"), (0.7, "orange"), (0.9, "red")),
        ),
        stat(
            "Calls refused by budgets",
            COUNT,
            f"sum({refused(RANGE)}) or 0 * count({used(CHOSEN)})",
            "A budget refuses a call whose worst case does not fit, which is before it is full.",
            none=NO_BUDGETS,
            defaults=steps((None, "text"), (1, "red")),
        ),
        stat(
            "Blocked share",
            SHARE,
            share(ranged(names.CALLS, matching=BLOCKED), ranged(names.CALLS)),
            "Of all calls, whatever refused them: a budget, a limit or a breaker.",
            defaults={"decimals": 2},
        ),
        stat(
            "Blocked spend (max)",
            USD,
            f"{ranged(names.GUARD_PREVENTED_USD)} or 0 * {ranged(names.GUARD_DECISIONS)}",
            "What refused calls could have cost at the most. The real cost would have been less.",
            none="no decisions",
        ),
        stat(
            "Reserved in flight",
            USD,
            f"sum(max by (job) (sum by (job, budget) ({RESERVED})))",
            "The worst case of calls under way, as the budget that covers most of them has it. A call under several "
            "budgets is counted once.",
            none=NO_BUDGETS,
        ),
        stat(
            "Budget alerts sent",
            COUNT,
            f"{total(gain(prometheus_name(names.BUDGET_ALERTS) + CHOSEN, RANGE))} or 0 * count({used(CHOSEN)})",
            "How often a budget reached one of its `alert_at` shares.",
            none=NO_BUDGETS,
        ),
        fullest("Budgets in dollars", ("USD",), USD, none=NO_BUDGETS),
        fullest("Budgets in tokens and calls", ("tokens", "calls"), COUNT, height=6, none="no such budgets"),
        lines(
            "Utilisation",
            SHARE,
            [Query(f"topk(10, {used(CHOSEN)})", NAMED)],
            "Spent of the limit, for the ten fullest.",
            width=12,
            none=NO_BUDGETS,
            defaults={"min": 0, **limit(1)},
        ),
        lines(
            "Burn rate",
            RATIO,
            [Query(f"topk(10, {projected(CHOSEN)})", NAMED)],
            "Against an even spend over the budget's window: 1 ends exactly at the limit, 2 is spent at half time. A "
            "window's first 2 % are left out.",
            width=12,
            none=NO_BUDGETS,
            defaults={"min": 0, **limit(1)},
        ),
        bars(
            "Refused calls by budget",
            COUNT,
            refused(BAR, AHEAD),
            "{{budget}}",
            "Calls that did not fit into a budget.",
            width=6,
            none="none refused",
        ),
        ranking(
            "Decisions by rule and action",
            COUNT,
            ranged(names.GUARD_DECISIONS, "rule", "action", "mode"),
            "{{rule}}: {{action}} {{mode}}",
            "What the guard decided; calls that simply pass are no decisions. What only observes changed nothing. A "
            "bar leads to the calls.",
            width=6,
            none="no decisions",
            traces=["rule"],
        ),
        bars(
            "Decisions by action",
            COUNT,
            barred(names.GUARD_DECISIONS, "action", "mode"),
            "{{action}} {{mode}}",
            "In each bar: what was refused, clamped, trimmed, shortened, or sent to a cheaper model. What only "
            "observes changed nothing.",
            width=6,
            none="no decisions",
        ),
        ranking(
            "Blocked calls by tenant",
            COUNT,
            f"{ranged(names.CALLS, TENANT, matching=BLOCKED)} > 0",
            TENANT,
            "Whose calls are refused.",
            width=6,
            none="none blocked",
            traces=[TENANT],
        ),
    ],
    [of_accounts("budget", "budget"), of_accounts("account", "key")],
    ANNOTATIONS,
)
