"""`remaining()` and `spent()`: what the budgets here have left, so that a program can stop by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tokenguard.installation.runtime import installed

if TYPE_CHECKING:
    from tokenguard.guard.standing import Standing

Unit = Literal["usd", "tokens", "calls"]


def remaining(budget: str | None = None, *, unit: Unit = "usd", **call: str) -> float | None:
    """What a call made here may still come to: the least that any of the budgets leaves that apply.

    In USD, or as `unit` says. `budget` names one of them. Those count that apply in this scope (its attribution, its
    task); what is known of the call (`model`, `provider`, `operation`) narrows them. Negative where more was spent
    than the limit allows; `None` where no budget limits that unit here.

    Asks the ledger, which blocks for a round trip; in an event loop, `await asyncio.to_thread(tokenguard.remaining)`.
    Raises `ValueError` for a name that no budget has.

    >>> while (left := remaining("agent run")) is None or left > 0.05:
    ...     ...
    """
    found = _tightest(budget, unit, call)
    return None if found is None else found.remaining


def spent(budget: str | None = None, *, unit: Unit = "usd", **call: str) -> float | None:
    """What is spent from the budget here that has the least left, or from the one that is named; see `remaining`.

    Calls under way are not in it until they are settled.
    """
    found = _tightest(budget, unit, call)
    return None if found is None else found.spent


def _tightest(budget: str | None, unit: Unit, call: dict[str, str]) -> Standing | None:
    here = installed()
    if here is None or here.meter.guard is None:
        return None
    from tokenguard.guard.standing import tightest

    return tightest(here.meter.guard, budget, unit, call)
