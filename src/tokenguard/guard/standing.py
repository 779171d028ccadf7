"""How the budgets stand that a call made here would fall under: for a program that wants to stop by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from tokenguard.call import scope
from tokenguard.facts.tuples import NamedTuple
from tokenguard.ledger import NANO, Balance, Entry
from tokenguard.ledger.entry import CALLS, TOKENS, USD
from tokenguard.policy.kinds import nearest
from tokenguard.policy.match import accounts_here

if TYPE_CHECKING:
    from tokenguard.guard.admission import Guard

LIMITS: Final = {USD: "limit_usd", TOKENS: "limit_tokens", CALLS: "limit_calls"}
"""The key of a budget's limit by its unit."""


class Standing(NamedTuple):
    """What one account has, in USD, tokens or calls."""

    spent: float
    remaining: float
    """What is neither spent nor reserved; negative where more was spent than the limit allows."""


def tightest(guard: Guard, budget: str | None, unit: str, call: Mapping[str, str]) -> Standing | None:
    """Of the budgets in this unit that apply here, the one with the least left; `None` where there is none.

    `call` is what is known of the call to be made (`provider`, `model`, `operation`); a budget that asks for more is
    taken to apply, unless it has an account for each. Raises `ValueError` for a budget that is not in the policy.
    """
    known = [each.name for each in guard.policy.budgets]
    if budget is not None and budget not in known:
        raise ValueError(f'there is no budget "{budget}"{nearest(budget, known)} Budgets: {", ".join(known) or "none"}')
    limited = LIMITS[unit]
    wanted = [
        each for each in guard.policy.budgets if budget in (None, each.name) and getattr(each, limited) is not None
    ]
    if guard.ledger is None or not wanted:
        return None
    here = scope.current()
    accounts = accounts_here(wanted, {**guard.attribution_of(here), **call})
    entries = accounts.entries(guard.ledger.now(), run=here.run)
    found = [_in(unit, each, balance) for each, balance in zip(entries, guard.ledger.read(entries), strict=True)]
    return min(found, key=lambda each: each.remaining, default=None)


def _in(unit: str, entry: Entry, balance: Balance) -> Standing:
    if unit == USD:
        limit, spent, reserved = entry.limit_nano or 0, balance.spent_nano, balance.reserved_nano
        return Standing(spent / NANO, (limit - spent - reserved) / NANO)
    limit, spent, reserved = entry.limit_tokens or 0, balance.spent_tokens, balance.reserved_tokens
    return Standing(spent, limit - spent - reserved)
