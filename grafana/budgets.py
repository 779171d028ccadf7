"""Budgets in PromQL: accounts in dollars, tokens and calls, each service's its own.

A share is taken inside each series, before anything is added up or compared: services, and processes with a ledger of
their own, may use one budget name for different accounts. Of processes that share a ledger the largest is the latest.
"""

from __future__ import annotations

from collections.abc import Sequence

from queries import ENVIRONMENT, SERVICE, prometheus_name

from tokenguard.facts import names

ACCOUNT = (SERVICE, ENVIRONMENT, "budget", "key")
UNITS = {
    "USD": (names.BUDGET_SPENT_USD, names.BUDGET_LIMIT_USD),
    "tokens": (names.BUDGET_SPENT_TOKENS, names.BUDGET_LIMIT_TOKENS),
    "calls": (names.BUDGET_SPENT_CALLS, names.BUDGET_LIMIT_CALLS),
}
"""What budgets limit: what is spent of it, and the limit."""
ANY = f"max by ({', '.join(ACCOUNT)})"


def per_unit(form: str, labels: str = "", units: Sequence[str] = tuple(UNITS)) -> str:
    """An expression of `{spent}` and `{limit}` for each account and unit, with `unit` as a label."""
    named = {
        unit: form.format(spent=prometheus_name(spent) + labels, limit=prometheus_name(limit) + labels)
        for unit, (spent, limit) in UNITS.items()
        if unit in units
    }
    each = (f'label_replace({ANY} ({expr}), "unit", "{unit}", "", "")' for unit, expr in named.items())
    return f"({' or '.join(each)})"


def used(labels: str = "", units: Sequence[str] = tuple(UNITS)) -> str:
    """The share of the limit that is spent."""
    return per_unit("{spent} / {limit}", labels, units)


def rate_of_use(window: str, labels: str = "", units: Sequence[str] = tuple(UNITS)) -> str:
    """The share of the limit that is spent in a second."""
    return per_unit("rate({spent}[" + window + "]) / {limit}", labels, units)


def elapsed(labels: str = "") -> str:
    """The share of its window that is over; a budget in total has none."""
    return f"{ANY} ({prometheus_name(names.BUDGET_ELAPSED)}{labels})"


def window(labels: str = "") -> str:
    """The length of its window, in seconds."""
    return f"{ANY} ({prometheus_name(names.BUDGET_WINDOW)}{labels})"


def projected(labels: str = "", units: Sequence[str] = tuple(UNITS)) -> str:
    """The share of the limit that the window ends with, at its pace so far."""
    return f"{used(labels, units)} / on ({', '.join(ACCOUNT)}) group_left () ({elapsed(labels)} > 0.02)"


def exhausted_in(labels: str = "", units: Sequence[str] = tuple(UNITS)) -> str:
    """Seconds to the limit at the pace of the last hour, for what is spent from."""
    return f"(1 - {used(labels, units)}) / ({rate_of_use('1h', labels, units)} > 0)"


def accounts(labels: str, most: int, units: Sequence[str] = tuple(UNITS)) -> dict[str, str]:
    """The columns of a table of the accounts that are used most, by name."""
    first = f"topk({most}, {used(labels, units)})"
    columns = {
        "projected": projected(labels, units),
        "limit": per_unit("{limit}", labels, units),
        "spent": per_unit("{spent}", labels, units),
        "remaining": per_unit("({limit} - {spent})", labels, units),
        "exhausted": exhausted_in(labels, units),
    }
    return {"used": first, **{name: f"{expr} and {first}" for name, expr in columns.items()}}


USED, ELAPSED, WINDOW = used(), elapsed(), window()
AHEAD = f"({USED} unless {USED} <= on ({', '.join(ACCOUNT)}) group_left () {ELAPSED} + 0.05)"
"""Accounts that are used faster than evenly, and those without a window."""
MONTHLY = f"({WINDOW} > {27 * 86400})"
