"""The values that go into a ledger and come out of it.

Money is integer nano-dollars (1 USD = 10**9) and tokens are ints, so that sums are exact. Times are Unix seconds.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from typing import Final

from tokenguard.facts.tuples import NamedTuple
from tokenguard.process.forks import at_fork

NANO: Final = 1_000_000_000

USD: Final = "usd"
TOKENS: Final = "tokens"
CALLS: Final = "calls"

_SEPARATOR: Final = "\x1f"


def nano(usd: float | Decimal, *, up: bool = False) -> int:
    """Nano-dollars of an amount in USD, to the nearest one, or `up` for a worst case that must not come out too small.

    A float cannot say a billionth of a nano-dollar, so what is `up` by less than a millionth of one is left out.

    >>> nano(0.35), nano(1e-10), nano(1e-10, up=True)
    (350000000, 0, 1)
    """
    if up and type(usd) is float:  # of every call
        return math.ceil(usd * NANO - 1e-6)
    exact = (usd if isinstance(usd, Decimal) else Decimal(repr(float(usd)))) * NANO
    return int(exact.to_integral_value(ROUND_CEILING if up else ROUND_HALF_EVEN))


@dataclass(slots=True, unsafe_hash=True, init=False)
class Entry:
    """One budget's account for one `key` in one window, with what may be spent from it.

    Nobody changes one. It is not frozen, as it would take three times as long to make, for each tenant of many.
    """

    budget: str
    key: str
    """Whose account: `tenant=t1`; empty for a budget that all calls share."""
    window_start: int
    window_end: int
    limit_nano: int | None
    limit_tokens: int | None
    alert_at: tuple[float, ...]
    enforce: bool
    """False: counted and reported (`Reservation.over`), never a reason to refuse."""
    counts: str = field(compare=False)
    """What the amounts that are no money count: `tokens`, or `calls`."""
    account: str = field(init=False, compare=False, repr=False)
    """What identifies the account in a ledger."""
    rule: tuple[int | None, int | None, tuple[float, ...]] = field(init=False, compare=False, repr=False)
    """What decides when an alert is due."""

    def __init__(
        self,
        budget: str,
        key: str,
        window_start: int,
        window_end: int,
        limit_nano: int | None = None,
        limit_tokens: int | None = None,
        alert_at: tuple[float, ...] = (),
        enforce: bool = True,
        counts: str = TOKENS,
    ) -> None:
        self.budget = budget
        self.key = key
        self.window_start = window_start
        self.window_end = window_end
        self.limit_nano = limit_nano
        self.limit_tokens = limit_tokens
        self.alert_at = alert_at
        self.enforce = enforce
        self.counts = counts
        self.account = f"{budget}{_SEPARATOR}{key}{_SEPARATOR}{window_start}"
        self.rule = (limit_nano, limit_tokens, alert_at)


class Refusal(NamedTuple):
    """The entry that a reservation does not fit into. Amounts are in what `unit` says."""

    entry: Entry
    unit: str
    """`usd` (amounts in nano-dollars), `tokens` or `calls`."""
    spent: int
    reserved: int
    limit: int
    asked: int
    lost: bool = False
    """The ledger could not be reached and the policy says `on_loss = "block"`; the amounts are unknown (0)."""

    @property
    def remaining(self) -> int:
        """What the account still had; negative when it is overdrawn."""
        return self.limit - self.spent - self.reserved

    def in_unit(self, amount: int) -> float:
        """An amount of this refusal in USD, tokens or calls."""
        return amount / NANO if self.unit == USD else amount


class Reservation:
    """A worst case that is held until it is settled or released, or until its lease ends."""

    __slots__ = ("entries", "expires", "held", "id", "nano", "over", "seen", "tokens")

    def __init__(
        self,
        id: str,  # noqa: A002 - the field's own word
        entries: tuple[Entry, ...],
        nano: int,
        tokens: int,
        expires: float,
        over: tuple[Refusal, ...] = (),
        held: object = None,
    ) -> None:
        self.id = id
        self.entries = entries
        self.nano = nano
        self.tokens = tokens
        self.expires = expires
        """When the lease ends and what is not settled is charged in full; 0 as long as the ledger has not answered."""
        self.over = over
        """The entries with `enforce=False` that it does not fit into."""
        self.seen: Sequence[tuple[int, int]] = ()
        """What was spent or reserved of each entry with this one, nano-dollars and tokens, where the ledger says."""
        self.held = held
        """For the ledger that made it."""

    def __repr__(self) -> str:
        return f"Reservation({self.id}, {self.nano} nano-dollars, {self.tokens} tokens, {len(self.entries)} entries)"


class Balance(NamedTuple):
    """What an account holds. `orphaned` is the part of `spent` that was charged because nobody settled it."""

    budget: str
    key: str
    window_start: int
    window_end: int
    spent_nano: int = 0
    spent_tokens: int = 0
    reserved_nano: int = 0
    reserved_tokens: int = 0
    orphaned_nano: int = 0
    orphaned_tokens: int = 0


class Alert(NamedTuple):
    """A threshold that an account's spending has reached, for the first time in its window."""

    entry: Entry
    threshold: float
    """The share of the limit, as the policy has it."""
    spent_nano: int
    spent_tokens: int
    refused: bool = False
    """Whether it is told because a call was refused, the first of its window: nothing may be left, or too little."""


class LedgerError(Exception):
    """The ledger could not be read or written; what it holds is as it was."""


class _Ids:
    """Reservation ids: unique over processes and machines, in a fraction of a UUID's time."""

    def __init__(self) -> None:
        self.renew()
        at_fork(self.renew)

    def renew(self) -> None:
        self.process = os.urandom(9).hex()
        self._count = itertools.count(1)

    def __call__(self) -> str:
        return f"{self.process}-{next(self._count)}"


new_id: Final = _Ids()


def refusal(entry: Entry, nano: int, tokens: int, spent: tuple[int, int], reserved: tuple[int, int]) -> Refusal | None:
    """The reason why `nano` and `tokens` do not fit into the entry; `spent` and `reserved` are (nano, tokens)."""
    for unit, asked, taken, held, limit in (
        (USD, nano, spent[0], reserved[0], entry.limit_nano),
        (TOKENS, tokens, spent[1], reserved[1], entry.limit_tokens),
    ):
        if limit is not None and taken + held + asked > limit:
            return Refusal(entry, unit if unit == USD else entry.counts, taken, held, limit, asked)
    return None


def crossed(entry: Entry, spent_nano: int, spent_tokens: int, alerted: float) -> list[Alert]:
    """The thresholds that are reached and lie above `alerted`, the highest one that was reported."""
    share = 0.0
    for spent, limit in ((spent_nano, entry.limit_nano), (spent_tokens, entry.limit_tokens)):
        if limit is not None:
            share = max(share, spent / limit if limit else (math.inf if spent else 0.0))
    return [Alert(entry, at, spent_nano, spent_tokens) for at in sorted(entry.alert_at) if alerted < at <= share]
