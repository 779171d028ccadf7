"""`Account`: what one owner spent in one process, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenguard.facts import names
from tokenguard.facts.record import CallRecord
from tokenguard.facts.tuples import NamedTuple
from tokenguard.testing.figures import Figures, total
from tokenguard.testing.spending import Spending


class Account(NamedTuple):
    """What one owner spent in one process; of plain data, so that JSON brings it from process to process."""

    owner: str
    worker: str
    """xdist's name of the process; empty without."""
    nodeid: str
    """The owner, as pytest's reports call it."""
    shared: bool
    """A fixture that several tests share, or what ran outside of tests; False: a test."""
    attempts: Sequence[Sequence[float]]
    """The figures of each attempt; a test that is rerun has several."""
    prefixes: Sequence[str]
    """Of the last attempt."""
    calls: Sequence[dict[str, Any]]

    @property
    def figures(self) -> Figures:
        """All attempts together."""
        return total(Figures(*each) for each in self.attempts)  # type: ignore[arg-type] # as they were

    @property
    def last(self) -> Figures:
        """The last attempt."""
        return Figures(*self.attempts[-1])  # type: ignore[arg-type]


def account_of(several: Sequence[Spending], owner: str, *, worker: str, nodeid: str, shared: bool) -> Account:
    """The account of an owner's spendings; those without a call are left out."""
    spent = [each for each in several if each.records]
    return Account(
        owner,
        worker,
        nodeid,
        shared,
        [each.figures for each in spent],
        sorted(spent[-1].prefixes.hashes) if spent else [],
        [_call(record, attempt) for attempt, each in enumerate(spent) for record in list(each.records)],
    )


def _call(record: CallRecord, attempt: int) -> dict[str, Any]:
    """One call; `None` is what is not known."""
    usage, cost = record.usage, record.cost
    return {
        "attempt": attempt,
        "model": record.model,
        "outcome": record.outcome,
        "error": record.attributes.get(names.ERROR_TYPE),
        "rule": record.attributes.get(names.GUARD_RULE),
        "call_site": record.call_site,
        "duration_s": round(record.duration_ns / 1e9, 6),
        "input_tokens": None if usage is None else usage.input,
        "output_tokens": None if usage is None else usage.output,
        "cache_read_tokens": None if usage is None else usage.cache_read,
        "cost_usd": None if cost is None else cost.total,
        "cost_status": None if cost is None else cost.status,
        "cost_basis": None if cost is None else cost.basis,
    }
