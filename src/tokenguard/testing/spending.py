"""Whose calls they are: each is charged to what pytest was doing when it began, in whatever thread or task.

Context variables would not do: pytest sets fixtures up and runs tests in contexts that have nothing to do with each
other (event loops of their own, threads). Pytest itself does one thing at a time, so the process has one owner.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenguard import runtime
from tokenguard.policy import Policy, from_mapping, load
from tokenguard.scope import Meter
from tokenguard.testing.figures import Figures, figures_of, total
from tokenguard.testing.prefix import Prefixes

if TYPE_CHECKING:
    import os

    from tokenguard.guard import Guard
    from tokenguard.metering import Call
    from tokenguard.metering import Meter as Metering
    from tokenguard.prices import PriceBook
    from tokenguard.runtime import Installation
    from tokenguard.testing.session import SessionBudget

OUTSIDE = "outside of tests"
"""The owner of calls made while no test runs: by modules that are imported, say."""


class Spending(Meter):
    """What one owner's calls came to: a test's, one attempt at it, or a fixture's that several tests share.

    A meter, as `tokenguard.meter()` gives: `.cost_usd`, `.calls`, `.records`, `.input_tokens` and so on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.prefixes = Prefixes()
        self._before: tuple[Installation, PriceBook, Guard | None, int] | None = None
        """What `policy` replaced."""

    @property
    def figures(self) -> Figures:
        """Everything so far."""
        return total(map(figures_of, list(self.records)))

    def policy(
        self, source: str | os.PathLike[str] | Policy | Mapping[str, Any] | None = None, /, **tables: Any
    ) -> None:
        """Put the rest of the test under a guard policy: a file, a `Policy`, or the tables of a policy file.

        >>> tokenguard.policy(limit=[{"name": "answers", "max_output_tokens": 800}])

        Budgets of tables are kept in memory, unless they name a ledger. Raises `PolicyError`.
        """
        if isinstance(source, Policy):
            chosen = source
        elif source is None or isinstance(source, Mapping):
            chosen = from_mapping({"ledger": {"url": "memory:"}, **(source or {}), **tables}, "tokenguard.policy()")
        elif tables:
            raise TypeError("tokenguard.policy() takes a file or the tables of one, not both")
        else:
            chosen = load(Path(source))
        installed = runtime._installed
        if installed is None:
            runtime.install(chosen)
            return
        meter = installed.meter
        if self._before is None:
            self._before = installed, meter.prices, meter.guard, installed.telemetry.max_values
        else:
            self._drop(meter)
        meter.guard = None  # what an earlier guard has learnt is not this one's
        installed.put_under(chosen)

    def end(self) -> None:
        """The test is over: its policy is taken back."""
        if self._before is not None:
            installed, prices, guard, most = self._before
            self._drop(installed.meter)
            self._before = None
            installed.meter.prices, installed.meter.guard, installed.telemetry.max_values = prices, guard, most
            installed.telemetry.watch_budgets(tuple if guard is None else guard.balances)

    def _drop(self, meter: Metering) -> None:
        """Close the guard that `policy` made."""
        if self._before is not None and meter.guard is not None and meter.guard is not self._before[2]:
            meter.guard.close()


class Recorder:
    """Charges every call of the process to its owner."""

    def __init__(self, session: SessionBudget | None) -> None:
        self.session = session
        self.spendings: dict[str, list[Spending]] = {}
        """By owner: a test's node id, with a spending for each attempt, or the words for a fixture."""
        self.shared: set[str] = set()
        """The owners that are not tests."""
        self._outside = self.open(OUTSIDE, shared=True)
        self._owners: list[Spending] = [self._outside]

    def open(self, owner: str, *, shared: bool = False) -> Spending:
        """A new spending of an owner; shared ones have one for good."""
        several = self.spendings.setdefault(owner, [])
        if shared:
            self.shared.add(owner)
        if not shared or not several:
            several.append(Spending())
        return several[-1]

    def push(self, owner: Spending) -> None:
        """From now on, calls are this owner's."""
        self._owners.append(owner)

    def pop(self, owner: Spending) -> None:
        """Its time is over; calls are those before's again."""
        if owner in self._owners[1:]:
            while self._owners.pop() is not owner:
                pass

    def begun(self, call: Call, meter: Metering) -> None:
        """A call begins: charge it to whose time it is."""
        owner = self._owners[-1]
        call.scope = call.scope._replace(meters=(*call.scope.meters, owner))
        owner.prefixes.add(call.request)
        if self.session is not None:
            call.guard = self.session.before(call.guard, meter.prices)
