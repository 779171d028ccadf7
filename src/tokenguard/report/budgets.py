"""How budgets stand: what each account's window has used of its limit, and when the rest runs out at this rate."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tokenguard.facts.tuples import NamedTuple
from tokenguard.ledger import NANO, Balance, Ledger
from tokenguard.policy import Policy
from tokenguard.policy.windows import FOREVER

LEAST_ELAPSED: Final = 0.02
"""The part of a window below which what was spent in it is no rate."""


class Standing(NamedTuple):
    """One account in one unit. Times are Unix seconds; unknown, and what there is not, is `None`."""

    budget: str
    key: str
    """Whose account: `tenant=t1`; empty for a budget that all calls share."""
    unit: str
    """`usd`, `tokens` or `calls`."""
    limit: float | None
    """`None` for an account whose budget is not in the policy any more."""
    spent: float
    reserved: float
    """Held by calls in flight."""
    orphaned: float
    """The part of `spent` that was charged because nobody settled it."""
    then: str | None
    window_start: int | None
    """`None` where nobody has used it yet."""
    window_end: int | None
    """`None` where it never ends, or nobody has used it yet."""

    @property
    def remaining(self) -> float | None:
        """What may still be reserved; negative where it is overdrawn."""
        return None if self.limit is None else self.limit - self.spent - self.reserved

    @property
    def used_share(self) -> float | None:
        """What is spent or held, as a share of the limit."""
        return None if not self.limit else (self.spent + self.reserved) / self.limit

    def runs_out(self, now: float) -> float | None:
        """When the limit is reached if the window goes on as so far; `None` where it is not, or nobody can say."""
        if self.limit is None or self.window_start is None or self.window_end is None or self.spent <= 0:
            return None
        elapsed = now - self.window_start
        if elapsed < LEAST_ELAPSED * (self.window_end - self.window_start):
            return None
        at = self.window_start + elapsed * self.limit / self.spent
        return max(at, now) if at < self.window_end else None


def standings(policy: Policy, balances: Iterable[Balance]) -> list[Standing]:
    """How a policy's budgets stand, and those accounts that no budget of it has; the fullest first."""
    balances = list(balances)
    unused = {rule.name for rule in policy.budgets} - {balance.budget for balance in balances}
    found = [
        standing
        for balance in sorted([*balances, *(Balance(name, "", 0, 0) for name in unused)])
        for standing in _of(policy, balance)
    ]
    return sorted(found, key=lambda standing: -(standing.used_share or 0.0))


def _of(policy: Policy, balance: Balance) -> Iterator[Standing]:
    rule = next((rule for rule in policy.budgets if rule.name == balance.budget), None)
    limit_usd, limit_tokens = (rule.limit_usd, rule.limit_tokens) if rule else (None, None)
    window = (
        balance.window_start if balance.window_end else None,
        balance.window_end if 0 < balance.window_end < FOREVER else None,
    )
    first = (balance.budget, balance.key)
    then = rule.then if rule else None
    limit_calls = rule.limit_calls if rule else None
    if limit_usd is not None or (limit_tokens is None and limit_calls is None):
        spent, reserved, orphaned = (
            amount / NANO for amount in (balance.spent_nano, balance.reserved_nano, balance.orphaned_nano)
        )
        yield Standing(*first, "usd", limit_usd, spent, reserved, orphaned, then, *window)
    for unit, limit in (("tokens", limit_tokens), ("calls", limit_calls)):
        if limit is not None:
            counts = (balance.spent_tokens, balance.reserved_tokens, balance.orphaned_tokens)
            yield Standing(*first, unit, limit, *counts, then, *window)


def accounts(ledger: Ledger) -> list[Balance]:
    """What the ledger holds; a SQLite file that nobody made yet is not made by looking."""
    shared = ledger
    while (inner := getattr(shared, "inner", None)) is not None:
        shared = inner
    path = getattr(shared, "path", None)
    return [] if isinstance(path, Path) and not path.exists() else ledger.accounts()


def as_facts(standing: Standing, now: float | None = None) -> dict[str, Any]:
    """A standing for programs, with times in ISO 8601."""
    facts = standing._asdict()
    for name in ("window_start", "window_end"):
        facts[name] = _iso(facts[name])
    return {
        **facts,
        "remaining": standing.remaining,
        "used_share": standing.used_share,
        "runs_out": _iso(standing.runs_out(time.time() if now is None else now)),
    }


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(int(at), UTC).isoformat()
