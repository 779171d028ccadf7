"""Runs of tasks that have accounts of their own in the ledger: forgotten when the run ends."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from tokenguard.ledger import Entry
from tokenguard.policy.match import run_key

REMEMBERED: Final = 4096
"""Runs that are known at once; the ledger forgets the accounts of others by itself, after a week."""


class Runs:
    """Which accounts each run of a task has."""

    def __init__(self) -> None:
        self._accounts: OrderedDict[str, set[str]] = OrderedDict()

    def note(self, run: str, entries: Iterable[Entry]) -> None:
        """A call of this run is about to be charged to these accounts."""
        if not run:
            return
        known = self._accounts.setdefault(run, set())
        known.update(entry.account for entry in entries if entry.key.endswith(run_key(run)))
        while len(self._accounts) > REMEMBERED:
            self._accounts.popitem(last=False)

    def end(self, run: str) -> list[str]:
        """The accounts of a run that has ended."""
        return list(self._accounts.pop(run, ()))
