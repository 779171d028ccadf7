"""The guard: whether a call may go out, and as what. Asked by the meter, before anything is sent.

`admit` is a generator: it yields what must be waited for (a ledger's round trip), as the meter's flow does, and raises
a `GuardrailViolation` for a call that must not be made. Whatever it changes, it changes in the request's own body, by
the rules of that request's wire format. What the rules of one call decide is decided once per combination of provider,
model, operation and attribution, and remembered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentelemetry import baggage

from tokenguard.call.failures import provider_failed
from tokenguard.facts import names
from tokenguard.facts.errors import BudgetExceeded, CircuitOpen, GuardrailViolation
from tokenguard.facts.record import Cost
from tokenguard.facts.usage import Usage
from tokenguard.guard.alerts import Alerter
from tokenguard.guard.breakers import Breakers
from tokenguard.guard.ceilings import CEILINGS, MENDS, Question, beyond, no_price
from tokenguard.guard.context import Context, managed
from tokenguard.guard.refusals import refused
from tokenguard.guard.rerouting import Rerouting, rerouted_of
from tokenguard.guard.routes import Routes
from tokenguard.guard.runs import Runs
from tokenguard.guard.single_flight import Flights
from tokenguard.guard.trimming import Trimmer
from tokenguard.guard.worst_case import Cases, Worst, WorstCase
from tokenguard.ledger import NANO, Balance, Ledger, Refusal, Reservation, nano, new_id, open_ledger
from tokenguard.policy import Budget, CompiledPolicy, Limit, Matched, Policy
from tokenguard.policy.match import Tightest, key_without_run
from tokenguard.policy.windows import FOREVER
from tokenguard.prices import PriceBook
from tokenguard.process.log import Log

if TYPE_CHECKING:
    from tokenguard.answers.answers import Answers
    from tokenguard.call.call import Call, Exchange
    from tokenguard.call.flow import Answer, Step
    from tokenguard.call.scope import Scope
    from tokenguard.policy.model import LedgerConfig

log = Log("tokenguard")

REMEMBERED = 4096
"""Accounts of whose refusals this process remembers that they were told."""

ACTIONS = ("allow", "warn", "provider", "trim", "clamp", "downgrade", "block")
"""In order of severity: the strongest one of a call is the one on its span."""


def _place(policy: Policy) -> tuple[LedgerConfig, Path]:
    """Where a policy keeps its budgets."""
    return policy.ledger, Path(policy.source).parent


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


def _most(limit: Limit) -> int:
    """The tokens of a limit whose context the provider is to shorten."""
    return limit.max_input_tokens or limit.max_history_tokens or limit.max_tool_result_tokens or 0


class Guard(Rerouting):
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
            if not self._within(call, tightest):
                if wants_input:
                    yield from self.count(call)
                context = Context(call)
                if tightest.section is not None:
                    yield from self._elsewhere(context.load)
                for limit in matched.limits:
                    self.limit(call, exchange, limit, context)
        checked = call.rerouted is not None and call.rerouted.checked is not None  # it may not be the answer
        if matched.cache is not None and self.answers is not None and call.look_up is None and not checked:
            yield from self.answers.look_up(call, exchange, matched.cache, matched.cache_key, serves=self.enforces)
            if call.look_up is not None and call.look_up.answer is not None:
                call.matched = None  # it is no test of the provider, and costs nothing
                return
        if matched.breakers:
            self._ask_breakers(call, matched)
        if matched.budgets and self.ledger is not None:
            run = call.scope.run if matched.by_run else ""
            if matched.rates.budgets and call.turn is None:
                yield from self._take_turn(call, matched, self.ledger, run)
            if matched.money.budgets:
                if not self.worst_case.bound(call).complete:
                    yield from self.count(call)
                yield from self._reserve(call, exchange, matched, self.ledger, run, self.worst_case)

    def hold(self, call: Call, exchange: Exchange, cases: Cases, lease_s: float) -> Generator[Step, Answer, None]:
        """Hold what a batch can come to, for as long as it may take; or raise. Limits and breakers are for calls."""
        matched = self.match(call)
        if matched.money.budgets and self.ledger is not None:
            run = call.scope.run if matched.by_run else ""
            yield from self._reserve(call, exchange, matched, self.ledger, run, cases, lease_s)

    def _ask_breakers(self, call: Call, matched: Matched) -> None:
        for breaker in matched.breakers:
            opened = self.breakers.refuses(breaker, call.endpoint.provider, call.model or "")
            if opened is not None:
                self._decide(call, breaker.name, "block")
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

    def _decide(self, call: Call, rule: str, action: str) -> None:
        """Note a decision on the call; its strongest one stays."""
        if ACTIONS.index(action) > ACTIONS.index(call.action):
            call.action = call.attributes[names.GUARD_ACTION] = action
            call.attributes[names.GUARD_RULE] = rule
            if not self.enforces:
                call.attributes[names.GUARD_MODE] = "observe"

    def _prevented(self, call: Call, worst: Worst) -> None:
        """Note what a refused call could have cost."""
        if worst.usd is not None:
            call.attributes[names.GUARD_PREVENTED] = worst.usd

    # --- limits --------------------------------------------------------------------------------------------------

    def _within(self, call: Call, tightest: Tightest) -> bool:
        """Whether the call is within all limits at once, as nearly all are, by what costs nothing to know."""
        steps = call.tool_steps
        if steps and (
            tightest.tool_calls_per_turn is not None
            or (tightest.tool_steps is not None and steps > tightest.tool_steps)
        ):
            return False
        if tightest.retries is not None and call.retried is not None:
            return False
        if tightest.output_tokens is not None and call.api.caps:
            cap = call.output_cap
            if cap is None or cap > tightest.output_tokens:
                return False
        if tightest.section is not None and self.worst_case.bound(call).tokens > tightest.section:
            return False
        if tightest.input_tokens is not None:
            bound = self.worst_case.bound(call)
            if not bound.complete or bound.tokens > tightest.input_tokens:
                return False
        if tightest.cost_usd is not None:
            usd = self.worst_case.of(call, counted=False).usd
            return usd is not None and usd <= tightest.cost_usd
        return True

    def limit(self, call: Call, exchange: Exchange, limit: Limit, context: Context) -> None:
        """Keep one limit: change the call, or raise."""
        if limit.then == "clamp" and limit.max_output_tokens is not None and beyond(call, limit.max_output_tokens):
            self._clamp(call, exchange, limit.name, limit.max_output_tokens)
        asked = Question(call, limit, self.worst_case, self.policy.unpriced != "allow", context)
        mends = MENDS.get(limit.then, ())
        if any(ceiling(asked) is not None for ceiling in mends):
            self._shorten(call, exchange, limit, context)
        for exceeded in filter(None, (ceiling(asked) for ceiling in CEILINGS if ceiling not in mends)):
            # An agent's model is the provider's to know, and a request that names one beside it would be refused.
            downgrades = limit.then == "downgrade" and call.model not in (None, limit.downgrade_to)
            unfit = downgrades and self.routes.is_unfit(call, str(limit.downgrade_to))
            if downgrades and not unfit:
                self._downgrade(call, exchange, limit.name, str(limit.downgrade_to))
                return
            warns = limit.then == "warn" or unfit
            self._decide(call, limit.name, "warn" if warns else "block")
            if warns:
                log.warning("tokenguard: %s", exceeded)
            elif self.enforces:
                self._prevented(call, self.worst_case.of(call, counted=False))
                raise exceeded

    def _clamp(self, call: Call, exchange: Exchange, rule: str, cap: int) -> None:
        self._decide(call, rule, "clamp")
        if not self.enforces:
            return
        if call.output_cap is not None:
            call.attributes.setdefault(names.GUARD_ORIGINAL_MAX_TOKENS, call.output_cap)
        call.change(exchange, call.api.capped(call.request, cap, call.endpoint.provider))
        call.attributes[names.REQUEST_MAX_TOKENS] = cap

    def _shorten(self, call: Call, exchange: Exchange, limit: Limit, context: Context) -> None:
        """Have the context shortened, by us or by the provider; where that cannot be, it goes out as it is."""
        change: Mapping[str, Any] | str
        turns = 0
        if limit.then == "trim":
            trimmed = self.trimmer.trim(call, context, limit.max_history_tokens or 0)
            change, turns = (trimmed, 0) if isinstance(trimmed, str) else trimmed
        elif (option := call.api.shortens) is None or call.endpoint.provider not in option.providers:
            change = f"{call.endpoint.provider} has no setting for it in a {call.api.id} request"
        elif self.routes.is_unfit(call, option.key):
            change = f"{option.key} has been refused"
        else:
            change = managed(call, exchange, option, _most(limit))
        if isinstance(change, str):
            self._decide(call, limit.name, "warn")
            log.warning(
                'tokenguard: "%s" does not shorten %s %s: %s', limit.name, call.api.operation, call.model, change
            )
            return
        self._decide(call, limit.name, limit.then)
        if self.enforces:
            call.change(exchange, change)
            if turns:
                call.attributes[names.GUARD_TRIMMED_TURNS] = turns
            elif call.api.shortens is not None:
                rerouted_of(call).option = call.api.shortens.key

    def _downgrade(self, call: Call, exchange: Exchange, rule: str, model: str) -> None:
        self._decide(call, rule, "downgrade")
        if not self.enforces:
            return
        call.attributes.setdefault(names.GUARD_ORIGINAL_MODEL, call.model or "")
        try:
            self.send_to(call, exchange, model)
        except GuardrailViolation as refusal:  # a request that cannot be changed is refused
            self._decide(call, rule, "block")
            refusal.rule = rule
            raise

    # --- budgets -------------------------------------------------------------------------------------------------

    def _take_turn(self, call: Call, matched: Matched, ledger: Ledger, run: str) -> Generator[Step, Answer, None]:
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
            self._decide(call, budget.name, "warn" if budget.then == "warn" else "block")
        if isinstance(held, Refusal):
            yield from self._tell(ledger, held)
            raise refused(call, held, budget)

    def _reserve(
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
                        self._decide(call, budget.name, "block")
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
                    self._decide(call, watching.name, "warn" if watching.then == "warn" else "block")
                return
            if not worst.counted:
                yield from self.count(call, cases)
                worst = cases.of(call, counted=True)
                continue
            budget = matched.budget(held.entry.budget)
            to = budget.downgrade_to
            if budget.then == "downgrade" and call.model not in (None, to) and not self.routes.is_unfit(call, str(to)):
                self._downgrade(call, exchange, budget.name, str(to))
                worst = cases.of(call, counted=False)
                continue
            self._decide(call, budget.name, "block")
            self._prevented(call, worst)
            yield from self._tell(ledger, held)
            raise refused(call, held, budget, "call" if lease_s is None else "batch")

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
            yield from self._elsewhere((cases or self.worst_case).count, call)

    def _elsewhere(self, work: Callable[..., object], *arguments: object) -> Generator[Step, Answer, None]:
        """Have work done off the event loop, if there is one."""
        answer = yield None, work, arguments
        if answer.error is not None:
            raise answer.error

    # --- after the call ------------------------------------------------------------------------------------------

    def settle(
        self,
        call: Call,
        usage: Usage | None,
        charged: Usage | None,
        cost: Cost | None,
        outcome: str,
        error: BaseException | str | None,
    ) -> None:
        """Charge what the call came to, give back the rest, and learn from it.

        `usage` is what the provider reported, and `charged` what `cost` is for: the same, or an estimate.
        """
        matched, call.matched = call.matched, None
        if matched is not None:
            # Whatever breaks off an answer that had begun is the provider's: some SDKs raise it without a status.
            failed = provider_failed(error) or (call.begun and isinstance(error, Exception))
            works = True if outcome == names.OK else False if failed else None
            for breaker in matched.breakers:
                self.breakers.ended(breaker, call.endpoint.provider, call.model or "", works)
        if usage is not None:
            self.worst_case.learn(call, usage)
            if matched is not None and matched.tightest.trims and names.GUARD_TRIMMED_TURNS not in call.attributes:
                self.trimmer.learn(call, usage)
        if call.rerouted is not None and charged is not None and cost is not None and cost.total:
            self.tell_saved(call, call.rerouted, charged, cost.total)
        held, ledger = call.reservation, self.ledger
        if call.turn is not None and ledger is not None:
            sent = 0 if outcome == names.BLOCKED else 1 + call.resends
            ledger.settle_soon(call.turn, 0, sent)
            call.turn = None
        if held is None or ledger is None:
            return
        spent = self._spent(call, charged, cost, held)
        if spent is None:
            ledger.release_soon(held)
        else:
            ledger.settle_soon(held, *spent)
        call.reservation = None

    def give_back(self, call: Call) -> None:
        """Nothing was sent: what was reserved for it is free."""
        for held in filter(None, (call.reservation, call.turn)):
            if self.ledger is not None:
                self.ledger.release_soon(held)
        call.reservation = call.turn = None

    def end_run(self, run: str) -> None:
        """A run of a task has ended: its accounts are forgotten."""
        if self.ledger is not None and (accounts := self.runs.end(run)):
            self._told.difference_update(accounts)
            self.ledger.drop_soon(accounts)

    def _spent(self, call: Call, charged: Usage | None, cost: Cost | None, held: Reservation) -> tuple[int, int] | None:
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

    def ledger_lost(self) -> float | None:
        """1 while the ledger is out of reach, else 0; `None` without one."""
        return None if self.ledger is None else float(self.ledger.lost)

    def close(self) -> None:
        """Let go of the ledger."""
        if self.ledger is not None:
            self.ledger.close()
