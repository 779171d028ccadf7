"""What the guard puts in the place of the caller's model, and what follows: a refusal, a failed answer, a saving."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from tokenguard.call.call import Call, Exchange, Rerouted
from tokenguard.facts import names
from tokenguard.facts.errors import GuardrailViolation
from tokenguard.facts.usage import Usage
from tokenguard.guard.breakers import Breakers
from tokenguard.guard.cascades import failure, may_escalate
from tokenguard.guard.routes import Routes
from tokenguard.guard.worst_case import WorstCase
from tokenguard.ledger import Ledger
from tokenguard.policy import Matched
from tokenguard.prices import PriceBook

if TYPE_CHECKING:
    from tokenguard.call.flow import Answer, Step
    from tokenguard.guard.worst_case import Cases

CHANGED = (
    *(names.ROUTE_ORIGINAL_MODEL, names.GUARD_ORIGINAL_MODEL, names.GUARD_ORIGINAL_MAX_TOKENS),
    *(names.GUARD_ACTION, names.GUARD_RULE, names.GUARD_MODE, names.GUARD_TRIMMED_TURNS),
)
"""What a call's span says of changes that are undone."""


def rerouted_of(call: Call) -> Rerouted:
    """What we have changed of a call, from now on noted."""
    if call.rerouted is None:
        call.rerouted = Rerouted(call.model or "")
    return call.rerouted


class Rerouting:
    """The part of the guard that changes models, and takes such changes back."""

    routes: Routes
    breakers: Breakers
    worst_case: WorstCase
    prices: PriceBook
    ledger: Ledger | None
    enforces: bool

    def match(self, call: Call) -> Matched:
        """The rules that apply to a call, from here on."""
        raise NotImplementedError

    def count(self, call: Call, cases: Cases | None = None) -> Generator[Step, Answer, None]:
        """Have the input counted."""
        raise NotImplementedError

    def admitted(self, call: Call, exchange: Exchange) -> Generator[Step, Answer, None]:
        """Let the call pass, or raise."""
        raise NotImplementedError

    def reroute(self, call: Call, exchange: Exchange, matched: Matched) -> Generator[Step, Answer, Matched]:
        """Have another model answer the call, where a route says so; the rules from here on are that model's."""
        chosen = yield from self.routes.choose(call, matched, self.worst_case, self.count)
        if chosen is None:
            return matched
        route, arm = chosen
        if arm == names.TREATED and self.enforces:
            original = call.model or ""
            try:
                self.send_to(call, exchange, route.to)
            except GuardrailViolation as fixed:  # by the client's URL, say: the call is not to suffer for it
                self.routes.found_unfit(call, route.to, f"cannot be chosen ({fixed})")
                return matched
            call.attributes[names.ROUTE_ORIGINAL_MODEL] = original
            matched = self.match(call)
        call.attributes[names.ROUTE_RULE] = route.name
        call.attributes[names.ROUTE_VERSION] = route.version
        call.attributes[names.ROUTE_ARM] = arm
        if not self.enforces:
            call.attributes[names.GUARD_MODE] = "observe"
        if call.rerouted is not None:
            call.rerouted.falls_back = route.unfit == "original"
            call.rerouted.checked = route if route.escalate_to is not None and may_escalate(call) else None
        return matched

    def send_to(self, call: Call, exchange: Exchange, model: str) -> None:
        """The one way in which a call gets another model."""
        call.change(exchange, {**call.request, "model": model})
        rerouted_of(call).sent = model
        call.model = model

    def reconsider(self, call: Call, exchange: Exchange) -> Generator[Step, Answer, None]:
        """The provider refuses the request as we have changed it: admit the caller's own, or raise."""
        rerouted = rerouted_of(call)
        matched, call.matched = call.matched, None
        for breaker in matched.breakers if matched is not None else ():
            self.breakers.ended(breaker, call.endpoint.provider, call.model or "", None)
        held, call.reservation = call.reservation, None
        if held is not None and self.ledger is not None:
            yield self.ledger, self.ledger.release, (held,)
        rerouted.refused += rerouted.changes
        if rerouted.sent != rerouted.original:
            call.attributes[names.ROUTE_UNFIT] = rerouted.sent
            call.model = rerouted.sent = rerouted.original
        rerouted.option = ""
        call.change(exchange, exchange.body)
        for name in CHANGED:
            call.attributes.pop(name, None)
        call.action = "allow"
        self.match(call)
        yield from self.admitted(call, exchange)

    def failure(self, call: Call) -> Generator[Step, Answer, str | None]:
        """Which check of its route the answer of the model that we chose fails; `None`: the caller can have it."""
        rerouted = call.rerouted
        if rerouted is None or rerouted.checked is None or rerouted.sent == rerouted.original:
            return None
        return (yield from failure(rerouted.checked, call, self.routes.functions, self.worst_case))

    def escalate(self, call: Call, first: Call, exchange: Exchange, why: str) -> bool:
        """Make a call the one to the larger model, for the first one's failed answer; it is yet to be admitted."""
        route = None if first.rerouted is None else first.rerouted.checked
        assert route is not None, "its answer was looked at"
        assert route.escalate_to is not None, "it is checked for that"
        original, call.model = call.model, route.escalate_to
        call.rerouted = Rerouted(route.escalate_to)
        call.rerouted.after = first.span.identity()
        call.change(exchange, {**exchange.body, "model": route.escalate_to})
        for name in (names.ROUTE_RULE, names.ROUTE_VERSION, names.ROUTE_ARM):
            call.attributes[name] = first.attributes[name]
        call.attributes[names.ROUTE_ESCALATION] = why
        if original is not None and original != route.escalate_to:
            call.attributes[names.ROUTE_ORIGINAL_MODEL] = original
        self.match(call)
        return True

    def accepted(self, call: Call) -> None:
        """The caller's own request was not refused, so it was our change that did not fit."""
        for change in rerouted_of(call).refused:
            self.routes.found_unfit(call, change, f"is refused, where the request of {call.model} as it was is taken")

    def tell_saved(self, call: Call, rerouted: Rerouted, charged: Usage, total: float) -> None:
        """What the model that was asked for would have cost more, for as many tokens and at the same tier."""
        if rerouted.after is not None:  # the first call has counted what this one would have cost
            call.attributes[names.ROUTE_SAVED] = -total
        if rerouted.sent == rerouted.original:
            return
        provider, at = call.endpoint.provider, call.start_ns
        models = (str(call.attributes.get(names.RESPONSE_MODEL, "")), rerouted.sent)
        own = self.prices.cost(provider, rerouted.original, charged, at_ns=at).total
        other = self.prices.cost(provider, models, charged, at_ns=at).total
        if own is not None and other:
            call.attributes[names.ROUTE_SAVED] = total * (own / other - 1)
