"""Alerts on budgets: one for each budget of a service, however many accounts (tenants, say) it concerns."""

from __future__ import annotations

from boards import BUDGETS
from budgets import ACCOUNT, AHEAD, ELAPSED, USED, WINDOW, rate_of_use
from queries import ENVIRONMENT, SERVICE, gain, prometheus_name, total

from tokenguard.facts import names

from .rule import Alert

BUDGET = (SERVICE, ENVIRONMENT, "budget")
ON_BUDGET = f"Budget {{{{ $labels.budget }}}} of {{{{ $labels.{SERVICE} }}}}"
ACCOUNTS = "{{ $value }} of its accounts: "
SHOWN = "Utilisation"
DAY = 86400


def accounts(condition: str) -> str:
    """How many accounts of each budget are so."""
    return f"count by ({', '.join(BUDGET)}) (\n{condition}\n)"


def burning(long: str, short: str, windows: str) -> str:
    """Accounts that are used too fast, and will be used up before their window ends.

    More than half is used, a tenth of the limit in the longer time, and three times as much as evenly in both times.
    """
    on = f"on ({', '.join(ACCOUNT)})"
    return f"""\
({USED} >= 0.5) < 1
and {rate_of_use(long)} > 0.1 / {_seconds(long)}
and {rate_of_use(long)} * {on} group_left () ({WINDOW} {windows}) > 3
and {rate_of_use(short)} * {on} group_left () {WINDOW} > 3
and (1 - {USED}) / {rate_of_use(long)} < {on} group_left () (1 - {ELAPSED}) * {WINDOW}"""


def _seconds(duration: str) -> int:
    return int(duration[:-1]) * {"d": 86400, "h": 3600}[duration[-1]]


REFUSALS = total(gain(prometheus_name(names.BUDGET_REFUSALS), "10m"), *ACCOUNT)

ALERTS = (
    Alert(
        "TokenGuardBudgetNearing",
        "info",
        accounts(f"({USED} >= 0.7) < 0.9 and {AHEAD}"),
        "5m",
        ON_BUDGET + " is 70 % used, ahead of time",
        ACCOUNTS + "more is used than time has passed.",
        BUDGETS,
        SHOWN,
    ),
    Alert(
        "TokenGuardBudgetAlmostSpent",
        "warning",
        accounts(f"({USED} >= 0.9) < 1 and {AHEAD}"),
        "5m",
        ON_BUDGET + " is 90 % used, ahead of time",
        ACCOUNTS + "more is used than time has passed.",
        BUDGETS,
        SHOWN,
    ),
    Alert(
        "TokenGuardBudgetSpent",
        "critical",
        accounts(f"{USED} >= 1"),
        "0m",
        ON_BUDGET + " is used up",
        ACCOUNTS + "what the policy says for a used budget happens now.",
        BUDGETS,
        SHOWN,
    ),
    Alert(
        "TokenGuardBudgetRefusing",
        "critical",
        accounts(f"{REFUSALS} > 0"),
        "0m",
        ON_BUDGET + " refuses calls",
        ACCOUNTS + "calls were refused in the last 10 minutes. A budget that blocks need not reach 100 % for it.",
        BUDGETS,
        "Refused calls by budget",
    ),
    Alert(
        "TokenGuardBudgetBurn",
        "critical",
        accounts(f"({burning('1h', '15m', f'<= {DAY} + 3600')})\nor ({burning('1d', '1h', f'> {DAY} + 3600')})"),
        "5m",
        ON_BUDGET + " is being used too fast",
        ACCOUNTS + "at this pace they are used up before their window ends.",
        BUDGETS,
        "Burn rate",
    ),
    Alert(
        "TokenGuardBudgetProjected",
        "warning",
        accounts(
            f"({USED} < 1) / on ({', '.join(ACCOUNT)}) group_left () ({ELAPSED} > 0.2) > 1.1\n"
            f"and on ({', '.join(ACCOUNT)}) {WINDOW} >= {7 * DAY - 3600}"
        ),
        "1h",
        ON_BUDGET + " will not last its week or month",
        ACCOUNTS + "projected from the window so far, they end more than a tenth over their limit.",
        BUDGETS,
        SHOWN,
    ),
)
