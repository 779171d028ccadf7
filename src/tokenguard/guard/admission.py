"""The guard: whether a call may go out, and as what. Asked by the meter, before anything is sent.

`admit` is a generator: it yields what must be waited for (a ledger's round trip), as the meter's flow does, and raises
a `GuardrailViolation` for a call that must not be made. Whatever it changes, it changes in the request's own body, by
the rules of that request's wire format. What the rules of one call decide is decided once per combination of provider,
model, operation and attribution, and remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry import baggage

from tokenguard.call.failures import provider_failed
from tokenguard.facts import names
from tokenguard.facts.errors import CircuitOpen
from tokenguard.facts.record import Cost
from tokenguard.facts.usage import Usage
from tokenguard.guard.alerts import Alerter
from tokenguard.guard.breakers import Breakers
from tokenguard.guard.budgeting import Budgeting
from tokenguard.guard.context import Context
from tokenguard.guard.routes import Routes
from tokenguard.guard.runs import Runs
from tokenguard.guard.single_flight import Flights
from tokenguard.guard.trimming import Trimmer
from tokenguard.guard.worst_case import Cases, WorstCase
from tokenguard.ledger import Ledger, open_ledger
from tokenguard.policy import CompiledPolicy, Matched, Policy
from tokenguard.policy.match import Tightest
from tokenguard.prices import PriceBook
from tokenguard.process.log import Log

if TYPE_CHECKING:
    from tokenguard.answers.answers import Answers
    from tokenguard.call.call import Call, Exchange
    from tokenguard.call.flow import Answer, Step
    from tokenguard.call.scope import Scope
    from tokenguard.policy.model import LedgerConfig

log = Log("tokenguard")


def _place(policy: Policy) -> tuple[LedgerConfig, Path]:
    """Where a policy keeps its budgets."""
    return policy.ledger, Path(policy.source).parent


class Guard(Budgeting):
    """A policy at work. To change the policy, make a new guard `after` the old one and swap the one reference.

    The new one takes over what the old one has learnt, and its ledger where that stays the same; a call under way is
    settled by the guard that admitted it.
    """

    def __init__(self, policy: Policy, prices: PriceBook, after: Guard | None = None) -> None:
        self.policy = policy
        self.compiled = CompiledPolicy(policy)
        self.prices = prices
        self.enforces = policy.mode == "enforce"
        self.counts = (
            Tightest.of(policy.limits).counts
            or any(budget.limit_calls is None for budget in policy.budgets)
            or any(route.max_input_tokens is not None for route in policy.routes)
        )
        """Whether the tokens of a request may have to be counted before it is sent."""
        self.ledger: Ledger | None = None
        if policy.budgets:
            same = after is not None and _place(after.policy) == _place(policy)
            self.ledger = (after.ledger if after and same else None) or open_ledger(policy.ledger, policy.source)
        self.breakers: Breakers = Breakers() if after is None else after.breakers
        self.flights: Flights = Flights() if after is None else after.flights
        self.worst_case: WorstCase = WorstCase(prices, None if after is None else after.worst_case)
        self.answers: Answers | None = None
        """The answers that are kept; `None` without a `[[cache]]`."""
        if policy.caches:
            from tokenguard.answers.answers import Answers

            self.answers = Answers.of(policy, None if after is None else after.answers)
        self.routes = Routes()
        self.trimmer: Trimmer = Trimmer() if after is None else after.trimmer
        self.runs: Runs = Runs() if after is None else after.runs
        self.alerter = Alerter(policy.alerts)
        self.on_refusal: Callable[[str, str], None] | None = None
        """Counts refusals by budget and key, for the metrics."""
        self._told: set[str] = set()
        """The accounts whose first refusal in their window has been told of."""
        if self.ledger is not None:
            self.ledger.on_alerts = self.alerter.tell

    # --- before the call -----------------------------------------------------------------------------------------

    def attribute(self, call: Call) -> None:
        """Complete a call's attribution with the policy's defaults and what it takes from baggage."""
        own = self.policy.attribution
        if not own.from_baggage and not own.defaults:
            return
        call.attribution = self.attribution_of(call.scope)
        for key, value in call.attribution.items():
            call.attributes[names.attribution_attribute(key)] = value

    def attribution_of(self, scope: Scope) -> dict[str, str]:
        """A scope's attribution with the policy's defaults and what it takes from baggage."""
        own = self.policy.attribution
        found = {key: str(value) for key in own.from_baggage if (value := baggage.get_baggage(key)) is not None}
        return {**own.defaults, **found, **scope.attribution}

    def match(self, call: Call) -> Matched:
        """The rules that apply to a call, from here on."""
        call.matched = self.compiled.match(
            call.endpoint.provider, call.model or "", call.api.operation, call.attribution
        )
        return call.matched

    def admit(self, call: Call, exchange: Exchange) -> Generator[Step, Answer, None]:
        """Let the call pass, as it is or changed, with its worst case reserved; or raise."""
        yield from self.admitted(call, exchange)

    def admitted(self, call: Call, exchange: Exchange) -> Generator[Step, Answer, None]:
        """The same, without what a kind of guard asks before."""
        matched = call.matched
        assert matched is not None, "a call is matched before it is admitted"
        if matched.routes and call.rerouted is None and not getattr(exchange, "sends_later", False):
            matched = yield from self.reroute(call, exchange, matched)
        tightest = matched.tightest
        wants_input = tightest.cost_usd is not None or tightest.input_tokens is not None
        if wants_input and not self.worst_case.bound(call).complete:  # pictures, say
            yield from self.count(call)
        if matched.limits:
            if matched.tightest.retries_enforced is not None and self.enforces:
                exchange.cap_retries(matched.tightest.retries_enforced)
            if not self.within(call, tightest):
                if wants_input:
                    yield from self.count(call)
                context = Context(call)
                if tightest.section is not None:
                    yield from self.elsewhere(context.load)
                for limit in matched.limits:
                    self.limit(call, exchange, limit, context)
        checked = call.rerouted is not None and call.rerouted.checked is not None  # it may not be the answer
        if matched.cache is not None and self.answers is not None and call.look_up is None and not checked:
            steps = self.answers.look_up(call, exchange, matched.cache, matched.cache_key, serves=self.enforces)
            if steps is not None:
                yield from steps
            if call.look_up is not None and call.look_up.answer is not None:
                call.matched = None  # it is no test of the provider, and costs nothing
                return
        if matched.breakers:
            self._ask_breakers(call, matched)
        if matched.budgets and self.ledger is not None:
            run = call.scope.run if matched.by_run else ""
            if matched.rates.budgets and call.turn is None:
                yield from self.take_turn(call, matched, self.ledger, run)
            if matched.money.budgets:
                if not self.worst_case.bound(call).complete:
                    yield from self.count(call)
                yield from self.reserve(call, exchange, matched, self.ledger, run, self.worst_case)

    def hold(self, call: Call, exchange: Exchange, cases: Cases, lease_s: float) -> Generator[Step, Answer, None]:
        """Hold what a batch can come to, for as long as it may take; or raise. Limits and breakers are for calls."""
        matched = self.match(call)
        if matched.money.budgets and self.ledger is not None:
            run = call.scope.run if matched.by_run else ""
            yield from self.reserve(call, exchange, matched, self.ledger, run, cases, lease_s)

    def owed(self, call: Call) -> Generator[Step, Answer, None]:
        """Charge a call that is billed already to the budgets that it falls under."""
        matched = self.match(call)
        if self.ledger is not None:
            yield from self.owe(call, matched, self.ledger, self.worst_case.of(call, counted=False))

    def _ask_breakers(self, call: Call, matched: Matched) -> None:
        for breaker in matched.breakers:
            opened = self.breakers.refuses(breaker, call.endpoint.provider, call.model or "")
            if opened is not None:
                self.decide(call, breaker.name, "block")
                if self.enforces:
                    call.matched = None  # it never was a test of the provider
                    raise CircuitOpen(
                        f"{call.endpoint.provider} {call.model} failed {breaker.failures} times in a row, so the "
                        f'breaker "{breaker.name}" is open for another {opened:.0f} s. Wait, or use another model.',
                        rule=breaker.name,
                        limit=breaker.failures,
                        observed=breaker.failures,
                        attribution=call.attribution,
                    )

    # --- after the call ------------------------------------------------------------------------------------------

    def settle(
        self,
        call: Call,
        usage: Usage | None,
        charged: Usage | None,
        cost: Cost | None,
        outcome: str,
        error: BaseException | str | None,
        answered: tuple[str | None, ...] = (),
    ) -> None:
        """Charge what the call came to, give back the rest, and learn from it.

        `usage` is what the provider reported, and `charged` what `cost` is for: the same, or an estimate. `answered`
        are the names by which the answer may be continued.
        """
        matched, call.matched = call.matched, None
        if matched is not None:
            # Whatever breaks off an answer that had begun is the provider's: some SDKs raise it without a status.
            failed = provider_failed(error) or (call.begun and isinstance(error, Exception))
            works = True if outcome == names.OK else False if failed else None
            for breaker in matched.breakers:
                self.breakers.ended(breaker, call.endpoint.provider, call.model or "", works)
        if usage is not None:
            self.worst_case.learn(call, usage, answered)
            if matched is not None and matched.tightest.trims and names.GUARD_TRIMMED_TURNS not in call.attributes:
                self.trimmer.learn(call, usage)
        if call.rerouted is not None and charged is not None and cost is not None and cost.total:
            self.tell_saved(call, call.rerouted, charged, cost.total)
        held, ledger = call.reservation, self.ledger
        if call.turn is not None and ledger is not None:
            sent = 0 if outcome == names.BLOCKED else 1
            ledger.settle_soon(call.turn, 0, sent)
            call.turn = None
        if held is None or ledger is None:
            return
        spent = self.spent(call, charged, cost, held)
        if spent is None:
            ledger.release_soon(held)
        else:
            ledger.settle_soon(held, *spent)
        call.reservation = None
        for extra in call.resends_held:  # after that: it is charged with the first
            ledger.release_soon(extra)
        call.resends_held = ()

    def give_back(self, call: Call) -> None:
        """Nothing was sent: what was reserved for it is free."""
        for held in filter(None, (call.reservation, *call.resends_held, call.turn)):
            if self.ledger is not None:
                self.ledger.release_soon(held)
        call.reservation = call.turn = None
        call.resends_held = ()

    def release(self, call: Call) -> Generator[Step, Answer, None]:
        """The same before anything else is reserved."""
        held, call.reservation, call.turn = (call.reservation, call.turn), None, None
        for each in filter(None, held):
            if self.ledger is not None:
                yield self.ledger, self.ledger.release, (each,)

    def end_run(self, run: str) -> None:
        """A run of a task has ended: its accounts are forgotten."""
        if self.ledger is not None and (accounts := self.runs.end(run)):
            self._told.difference_update(accounts)
            self.ledger.drop_soon(accounts)

    def ledger_lost(self) -> float | None:
        """1 while the ledger is out of reach, else 0; `None` without one."""
        return None if self.ledger is None else float(self.ledger.lost)

    def close(self) -> None:
        """Let go of the ledger."""
        if self.ledger is not None:
            self.ledger.close()
