"""What budgets hold for a job, kept in the store: another process may settle it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tokenguard.ledger import Entry, Reservation

if TYPE_CHECKING:
    from tokenguard.guard.admission import Guard
    from tokenguard.store.jobs import Held


def held_of(kept: Reservation, model: str | None) -> Held:
    """A reservation as the store keeps it."""
    from tokenguard.store.jobs import Held

    entries = [
        [each.budget, each.key, each.window_start, each.window_end, each.limit_nano, each.limit_tokens, each.alert_at]
        for each in kept.entries
    ]
    return Held(model, kept.id, entries, kept.nano, kept.tokens, kept.expires)


def reservation(held: Held) -> Reservation:
    """The reservation that the store kept."""
    entries = tuple(_entry(*each) for each in held.entries)
    return Reservation(held.id, entries, held.nano, held.tokens, held.expires)


def _entry(
    budget: str, key: str, start: int, end: int, nano: int | None, tokens: int | None, alert_at: list[float]
) -> Entry:
    return Entry(budget, key, start, end, nano, tokens, tuple(alert_at))


def release(guard: Guard | None, held: Iterable[Held]) -> None:
    """Give back what is held: nothing is billed."""
    if guard is not None and guard.ledger is not None:
        for each in held:
            guard.ledger.release_soon(reservation(each))


def settle(guard: Guard | None, held: list[Held], sums: Mapping[str | None, tuple[int, int]]) -> None:
    """Charge what the lines of each model came to, in nano-dollars and tokens; lines of no held model go to the first.

    Without a ledger that knows the reservation (another policy, another machine's file) nothing is charged, and its
    lease charges the most that it can be.
    """
    if guard is None or guard.ledger is None or not held:
        return
    models = [each.model for each in held]
    spent = [sums.get(model, (0, 0)) for model in models]
    for model, (nano, tokens) in sums.items():
        if model not in models:
            spent[0] = spent[0][0] + nano, spent[0][1] + tokens
    for each, (nano, tokens) in zip(held, spent, strict=True):
        guard.ledger.settle_soon(reservation(each), nano, tokens)
