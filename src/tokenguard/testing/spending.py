"""Whose calls they are: each is charged to what pytest was doing when it began, in whatever thread or task.

Context variables would not do: pytest sets fixtures up and runs tests in contexts that have nothing to do with each
other (event loops of their own, threads). Pytest itself does one thing at a time, so the process has one owner.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenguard.call.repeats import Repeats
from tokenguard.call.scope import Measurement
from tokenguard.installation import runtime
from tokenguard.testing.figures import Figures, figures_of, total
from tokenguard.testing.prefix import Prefixes

if TYPE_CHECKING:
    import os

    from tokenguard.call.call import Call
    from tokenguard.guard.admission import Guard
    from tokenguard.guard.trial import Trial
    from tokenguard.installation.runtime import Installation
    from tokenguard.metering.meter import Meter
    from tokenguard.metering.settling import Settling
    from tokenguard.policy import Policy
    from tokenguard.prices import PriceBook
    from tokenguard.testing.session import SessionBudget

OUTSIDE = "outside of tests"
"""The owner of calls made while no test runs: by modules that are imported, say."""


class Spending(Measurement):
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
        from tokenguard.policy import Policy, from_mapping, load

        if isinstance(source, Policy):
            chosen = source
        elif source is None or isinstance(source, Mapping):
            chosen = from_mapping({"ledger": {"url": "memory:"}, **(source or {}), **tables}, "tokenguard.policy()")
        elif tables:
            raise TypeError("tokenguard.policy() takes a file or the tables of one, not both")
        else:
            chosen = load(Path(source))
        if runtime.installed() is None:  # no SDK is imported yet
            runtime.install(Policy())
        installed = runtime.installed()
        assert installed is not None
        meter = installed.meter
        if self._before is None:
            self._before = installed, meter.settling.prices, meter.guard, installed.telemetry.metrics.max_values
        else:
            self._drop(meter)
        meter.guard = None  # what an earlier guard has learnt is not this one's
        installed.put_under(chosen)

    def trial(self, model: str, *, feature: str | None = None, tenant: str | None = None, **facts: Any) -> Trial:
        """What the policy in force makes of a call: the model it would go to, by which rule, and what each one says.

        >>> assert tokenguard.trial("gpt-4o", feature="faq", input_tokens=900).model == "gpt-4.1-mini"

        `facts` are `provider`, `operation`, `input_tokens`, `output_cap`, `turns`, `tool_steps`, `tools`, `images`,
        `schema`; any other is a key of the attribution. In force is what `policy` has set, or else the policy that is
        found from the working directory. Nothing is sent, and no ledger is touched. Raises `PolicyError`.
        """
        from dataclasses import fields

        from tokenguard.guard.trial import Asked, try_call
        from tokenguard.policy import load
        from tokenguard.prices import PriceBook

        installed = runtime.installed()
        guard = installed.meter.guard if installed is not None and self._before is not None else None
        policy = load() if guard is None else guard.policy
        known = {each.name for each in fields(Asked)}
        whose = {key: facts.pop(key) for key in list(facts) if key not in known}
        whose |= {key: value for key, value in (("feature", feature), ("tenant", tenant)) if value is not None}
        return try_call(policy, PriceBook(policy.prices), Asked(model, attribution=whose, **facts))

    def end(self) -> None:
        """The test is over: its policy is taken back."""
        if self._before is not None:
            installed, prices, guard, most = self._before
            self._drop(installed.meter)
            self._before = None
            installed.meter.settling.prices, installed.meter.guard = prices, guard
            installed.telemetry.metrics.max_values = most
            installed.telemetry.metrics.watch_budgets(tuple if guard is None else guard.balances)

    def _drop(self, meter: Meter) -> None:
        """Close the guard that `policy` made."""
        if self._before is not None and meter.guard is not None and meter.guard is not self._before[2]:
            meter.guard.close()


class Recorder:
    """Charges every call of the process to its owner. A test that makes no call costs nothing here."""

    def __init__(self, session: SessionBudget | None) -> None:
        self.session = session
        self.spendings: dict[str, list[Spending]] = {}
        """By owner: a test's node id, with a spending for each attempt, or the words for a fixture."""
        self.shared: set[str] = {OUTSIDE}
        """The owners that are not tests."""
        self.spending: Spending | None = None
        """Of the attempt that runs, once it has made a call."""
        self._owner = OUTSIDE
        self._fresh = False
        self._fixtures: list[Spending] = []
        """The shared fixtures that are being set up or torn down, the innermost last."""
        self._lock = threading.Lock()

    def run(self, owner: str | None) -> None:
        """An attempt at a test begins; `None`: it is over."""
        if self.spending is not None:
            self.spending.end()
        self._owner, self.spending, self._fresh = owner or OUTSIDE, None, owner is not None
        self._fixtures.clear()

    def running(self) -> Spending:
        """The spending of the attempt that runs; of what runs outside of tests, if none does."""
        with self._lock:
            if self.spending is None:
                several = self.spendings.setdefault(self._owner, [])
                if not several or self._owner not in self.shared:
                    several.append(Spending())
                self.spending = several[-1]
            return self.spending

    def fixture(self, name: str) -> Spending:
        """The spending of a shared fixture."""
        self.shared.add(name)
        return self.spendings.setdefault(name, [Spending()])[0]

    def push(self, fixture: Spending) -> None:
        """A shared fixture is at work: calls are its own."""
        self._fixtures.append(fixture)

    def pop(self, fixture: Spending) -> None:
        """It is done."""
        if fixture in self._fixtures:
            while self._fixtures.pop() is not fixture:
                pass

    def begun(self, call: Call, settling: Settling, guard: Guard | None) -> Guard | None:
        """A call begins: charge it to whose time it is, and say who guards it."""
        if self._fresh:
            self._fresh = False
            settling.repeats = Repeats()  # another test's failures do not make this one's calls retries
        owner = self._fixtures[-1] if self._fixtures else self.running()
        call.scope = call.scope._replace(meters=(*call.scope.meters, owner))
        owner.prefixes.add(call.request)
        return guard if self.session is None else self.session.before(guard, settling.prices)
