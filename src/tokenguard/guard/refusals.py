"""What is said to a call that a budget refuses: the values, the limit, and the next step."""

from __future__ import annotations

from datetime import UTC, datetime

from tokenguard.call.call import Call
from tokenguard.facts.dollars import dollars
from tokenguard.facts.errors import BudgetExceeded
from tokenguard.ledger import Refusal
from tokenguard.ledger.entry import CALLS, USD
from tokenguard.policy import Budget
from tokenguard.policy.windows import utc


def refused(call: Call, refusal: Refusal, budget: Budget, what: str = "call") -> BudgetExceeded:
    """The exception for a call, or a batch, that does not fit into a budget."""
    entry, unit = refusal.entry, refusal.in_unit
    ends = budget.window != "total"
    whose = f" for {entry.key}" if entry.key else ""
    return BudgetExceeded(
        f'{call.api.operation} {call.model}: budget "{entry.budget}"{whose}: {_said(refusal, what, ends=ends)}.',
        rule=entry.budget,
        limit=unit(refusal.limit),
        observed=unit(refusal.spent + refusal.reserved + refusal.asked),
        attribution=call.attribution,
        remaining=None if refusal.lost else unit(max(refusal.remaining, 0)),
        resets_at=datetime.fromtimestamp(entry.window_end, UTC) if ends else None,
    )


def _said(refusal: Refusal, what: str, *, ends: bool) -> str:
    if refusal.lost:
        return 'the ledger cannot be reached, and the policy says on_loss = "block". Bring it back, or send less'
    wait = f"Wait until {utc(refusal.entry.window_end)}, raise" if ends else "Raise"
    if refusal.unit == CALLS:
        return (
            f"{refusal.spent:,} calls made and {refusal.reserved:,} under way of {refusal.limit:,}, and this {what} "
            f"would be one more. {wait} the limit, or make fewer calls"
        )
    return (
        f"{_amount(refusal, refusal.spent)} spent and {_amount(refusal, refusal.reserved)} reserved of "
        f"{_amount(refusal, refusal.limit)}, and the worst case of this {what} is {_amount(refusal, refusal.asked)}. "
        f"{wait} the limit, or send less"
    )


def _amount(refusal: Refusal, value: int) -> str:
    """An amount in its unit."""
    return dollars(refusal.in_unit(value), least=6) if refusal.unit == USD else f"{value:,} {refusal.unit}"
