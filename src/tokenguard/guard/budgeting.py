"""Budgets: what a call may come to is held before it is sent, and what it came to is charged."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING

from tokenguard.call.call import Call, Exchange
from tokenguard.facts import names
from tokenguard.facts.errors import BudgetExceeded
from tokenguard.facts.record import Cost
from tokenguard.facts.usage import Usage
from tokenguard.guard.alerts import Alerter
from tokenguard.guard.ceilings import no_price
from tokenguard.guard.limiting import Limiting
from tokenguard.guard.refusals import refused
from tokenguard.guard.runs import Runs
from tokenguard.guard.worst_case import Cases, Worst
from tokenguard.ledger import NANO, Balance, Ledger, Refusal, Reservation, nano, new_id
from tokenguard.policy import Budget, Matched
from tokenguard.policy.match import key_without_run
from tokenguard.policy.windows import FOREVER

if TYPE_CHECKING:
    from tokenguard.call.flow import Answer, Step

REMEMBERED = 4096
"""Accounts of whose refusals this process remembers that they were told."""


def _progress(start: int, end: int, now: float) -> dict[names.Metric, float]:
    """How far a window is and how long; nothing for one without an end."""
    if end >= FOREVER:
        return {}
    return {names.BUDGET_ELAPSED: min(max((now - start) / (end - start), 0.0), 1.0), names.BUDGET_WINDOW: end - start}


def _balance(budget: Budget, account: Balance) -> dict[names.Metric, float]:
    """What an account has, in the units that its budget limits."""
    found: dict[names.Metric, float] = {}
    if budget.limit_usd is not None:
        found[names.BUDGET_LIMIT_USD] = budget.limit_usd
        found[names.BUDGET_SPENT_USD] = account.spent_nano / NANO
        found[names.BUDGET_RESERVED_USD] = account.reserved_nano / NANO
    if budget.limit_tokens is not None:
        found[names.BUDGET_LIMIT_TOKENS] = budget.limit_tokens
        found[names.BUDGET_SPENT_TOKENS] = account.spent_tokens
    if budget.limit_calls is not None:
        found[names.BUDGET_LIMIT_CALLS] = budget.limit_calls
        found[names.BUDGET_SPENT_CALLS] = account.spent_tokens
    return found


class Budgeting(Limiting):
    """The part of the guard that keeps budgets."""

    alerter: Alerter
    runs: Runs
    on_refusal: Callable[[str, str], None] | None
    """Counts refusals by budget and key, for the metrics."""
    _told: set[str]
    """The accounts whose first refusal in their window has been told of."""

    def take_turn(
        self, call: Call, matched: Matched, ledger: Ledger, run: str, what: str = "call"
    ) -> Generator[Step, Answer, None]:
        """Hold one call in every budget of calls that it falls under, in one atomic step."""
        entries = matched.rates.entries(ledger.now(), enforce=self.enforces, run=run)
        if not entries:
            return
        self.runs.note(run, entries)
        call.turn = Reservation(new_id(), tuple(entries), 0, 1, 0.0)
        answer = yield ledger, ledger.reserve, (entries, 0, 1, call.turn.id)
        if answer.error is not None:
            raise answer.error
        held: Reservation | Refusal = answer.value
        call.turn = held if isinstance(held, Reservation) else None
        for over in (held,) if isinstance(held, Refusal) else held.over:
            budget = matched.budget(over.entry.budget)
            self.decide(call, budget.name, "warn" if budget.then == "warn" else "block")
        if isinstance(held, Refusal):
            yield from self._tell(ledger, held)
            raise refused(call, held, budget, what)

    def reserve(
        self,
        call: Call,
        exchange: Exchange,
        matched: Matched,
        ledger: Ledger,
        run: str,
        cases: Cases,
        lease_s: float | None = None,
    ) -> Generator[Step, Answer, None]:
        """Hold the worst case of a call, or of a batch, in every budget that it falls under, in one atomic step."""
        reserve = ledger.reserve if lease_s is None else partial(ledger.reserve, lease_s=lease_s)
        entries = matched.money.entries(ledger.now(), enforce=self.enforces, run=run)
        if not entries:
            return
        self.runs.note(run, entries)
        worst = cases.of(call, counted=False)
        while True:
            if worst.nano is None and self.policy.unpriced != "allow":
                for budget, _ in matched.money.budgets:
                    if budget.limit_usd is not None and budget.then != "warn":
                        self.decide(call, budget.name, "block")
                        if self.enforces:
                            raise no_price(call, budget.name, budget.limit_usd, BudgetExceeded)
            most, tokens = worst.nano or 0, worst.input + worst.output
            # Known before it is made: whoever is interrupted while it is made can give it back.
            call.reservation = Reservation(new_id(), tuple(entries), most, tokens, 0.0)
            answer = yield ledger, reserve, (entries, most, tokens, call.reservation.id)
            if answer.error is not None:
                raise answer.error
            held: Reservation | Refusal = answer.value
            call.reservation = held if isinstance(held, Reservation) else None
            if isinstance(held, Reservation):
                if held.over and not worst.counted:
                    # Over only by a bound that is loose: count, and ask again.
                    yield ledger, ledger.release, (held,)
                    yield from self.count(call, cases)
                    worst = cases.of(call, counted=True)
                    continue
                for over in held.over:  # what only watches would have refused
                    watching = matched.budget(over.entry.budget)
                    self.decide(call, watching.name, "warn" if watching.then == "warn" else "block")
                return
            if not worst.counted:
                yield from self.count(call, cases)
                worst = cases.of(call, counted=True)
                continue
            budget = matched.budget(held.entry.budget)
            to = budget.downgrade_to
            if budget.then == "downgrade" and call.model not in (None, to) and not self.routes.is_unfit(call, str(to)):
                self.downgrade(call, exchange, budget.name, str(to))
                worst = cases.of(call, counted=False)
                continue
            self.decide(call, budget.name, "block")
            self.prevented(call, worst)
            yield from self._tell(ledger, held)
            raise refused(call, held, budget, "call" if lease_s is None else "batch")

    def owe(self, call: Call, matched: Matched, ledger: Ledger, worst: Worst) -> Generator[Step, Answer, None]:
        """Hold what is billed already in every budget, whether it fits or not; it is charged when the call ends."""
        run = call.scope.run if matched.by_run else ""
        entries = matched.money.entries(ledger.now(), enforce=False, run=run)
        if entries:
            most, tokens, key = worst.nano or 0, worst.input + worst.output, new_id()
            call.reservation = Reservation(key, tuple(entries), most, tokens, 0.0)
            answer = yield ledger, ledger.reserve, (entries, most, tokens, key)
            if answer.error is not None:
                raise answer.error

    def resend(self, call: Call, billed: bool) -> Generator[Step, Answer, None]:
        """Take a turn for a resend, and hold the worst case once more where the attempt before may be billed, too.

        Raises `BudgetExceeded` where there is no room for that: then nothing is sent again.
        """
        first, ledger, matched = call.reservation, self.ledger, call.matched
        if ledger is None or matched is None:
            return
        if (sent := call.turn) is not None:
            call.turn = None
            ledger.settle_soon(sent, 0, 1)
            yield from self.take_turn(call, matched, ledger, call.scope.run if matched.by_run else "", "resend")
        if first is None or not billed:
            return
        extra = Reservation(new_id(), first.entries, first.nano, first.tokens, 0.0)
        call.resends_held += (extra,)  # before it is made, as in `reserve`
        answer = yield ledger, ledger.reserve, (first.entries, first.nano, first.tokens, extra.id)
        if answer.error is not None:
            raise answer.error
        held: Reservation | Refusal = answer.value
        if isinstance(held, Reservation):
            call.resends_held = (*call.resends_held[:-1], held)
            return
        call.resends_held = call.resends_held[:-1]
        budget = matched.budget(held.entry.budget)
        self.decide(call, budget.name, "block")
        yield from self._tell(ledger, held)
        raise refused(call, held, budget, "resend")

    def _tell(self, ledger: Ledger, refusal: Refusal) -> Generator[Step, Answer, None]:
        """Count a refusal; the first of its window, in any process, is an alert."""
        entry = refusal.entry
        if self.on_refusal is not None:
            self.on_refusal(entry.budget, key_without_run(entry.key))
        if refusal.lost or entry.account in self._told:
            return
        if len(self._told) >= REMEMBERED:
            self._told.clear()
        self._told.add(entry.account)
        answer = yield ledger, ledger.refused, (entry,)
        if answer.error is None:
            self.alerter.tell(answer.value)
        elif not isinstance(answer.error, Exception):
            raise answer.error

    def count(self, call: Call, cases: Cases | None = None) -> Generator[Step, Answer, None]:
        """Count the input, which may load a tokenizer: not on the event loop."""
        if call.counted is None:
            yield from self.elsewhere((cases or self.worst_case).count, call)

    def elsewhere(self, work: Callable[..., object], *arguments: object) -> Generator[Step, Answer, None]:
        """Have work done off the event loop, if there is one."""
        answer = yield None, work, arguments
        if answer.error is not None:
            raise answer.error

    def spent(self, call: Call, charged: Usage | None, cost: Cost | None, held: Reservation) -> tuple[int, int] | None:
        """Nano-dollars and tokens to charge: what a call came to, once for each of its attempts that may be billed.

        What is not known is charged as it was reserved. `None`: nothing is billed.
        """
        attempts = call.billed_resends + (cost is not None)
        if not attempts:
            return None
        if cost is None or charged is None or (charged.output is None and call.api.generates):
            return held.nano * attempts, held.tokens * attempts
        if cost.total is not None:
            each: int | None = nano(cost.total, up=True)
        else:  # at the policy's ceiling
            each = self.prices.cost_nano(call.endpoint.provider, call.priced_as, charged, at_ns=call.start_ns)
        return (held.nano if each is None else each) * attempts, charged.total * attempts

    def balances(self) -> list[tuple[str, str, dict[names.Metric, float]]]:
        """The open accounts of budgets, for gauges."""
        if self.ledger is None:
            return []
        now = time.time()
        budgets = {budget.name: budget for budget in self.policy.budgets}
        return [
            (
                account.budget,
                account.key,
                {**_balance(budget, account), **_progress(account.window_start, account.window_end, now)},
            )
            for account in self.ledger.accounts()
            if (budget := budgets.get(account.budget)) is not None and not budget.by_run
        ]
