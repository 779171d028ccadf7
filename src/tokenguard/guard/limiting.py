"""Limits: whether a call is within them, and what is changed of one that is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenguard.call.call import Call, Exchange
from tokenguard.facts import names
from tokenguard.facts.errors import GuardrailViolation
from tokenguard.guard.ceilings import CEILINGS, MENDS, Question, beyond
from tokenguard.guard.context import Context, managed
from tokenguard.guard.rerouting import Rerouting, rerouted_of
from tokenguard.guard.trimming import Trimmer
from tokenguard.guard.worst_case import Worst
from tokenguard.policy import Limit, Policy
from tokenguard.policy.match import Tightest
from tokenguard.process.log import Log
from tokenguard.providers.hosts import UNKNOWN

log = Log("tokenguard")

ACTIONS = ("allow", "warn", "provider", "trim", "clamp", "downgrade", "block")
"""In order of severity: the strongest one of a call is the one on its span."""


def _most(limit: Limit) -> int:
    """The tokens of a limit whose context the provider is to shorten."""
    return limit.max_input_tokens or limit.max_history_tokens or limit.max_tool_result_tokens or 0


class Limiting(Rerouting):
    """The part of the guard that keeps limits."""

    policy: Policy
    trimmer: Trimmer

    def decide(self, call: Call, rule: str, action: str) -> None:
        """Note a decision on the call; its strongest one stays."""
        if ACTIONS.index(action) > ACTIONS.index(call.action):
            call.action = call.attributes[names.GUARD_ACTION] = action
            call.attributes[names.GUARD_RULE] = rule
            if not self.enforces:
                call.attributes[names.GUARD_MODE] = "observe"

    def prevented(self, call: Call, worst: Worst) -> None:
        """Note what a refused call could have cost."""
        if worst.usd is not None:
            call.attributes[names.GUARD_PREVENTED] = worst.usd

    def within(self, call: Call, tightest: Tightest) -> bool:
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
                self.downgrade(call, exchange, limit.name, str(limit.downgrade_to))
                return
            warns = limit.then == "warn" or unfit
            self.decide(call, limit.name, "warn" if warns else "block")
            if warns:
                log.warning("tokenguard: %s", exceeded)
            elif self.enforces:
                self.prevented(call, self.worst_case.of(call, counted=False))
                raise exceeded

    def _clamp(self, call: Call, exchange: Exchange, rule: str, cap: int) -> None:
        self.decide(call, rule, "clamp")
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
            host = call.endpoint.host
            change = (
                f"{host} is a host that nobody knows; say whose it is under [hosts]"
                if call.endpoint.provider == UNKNOWN and option is not None
                else f"{call.endpoint.provider} has no setting for it in a {call.api.id} request"
            )
        elif self.routes.is_unfit(call, option.key):
            change = f"{option.key} has been refused"
        else:
            change = managed(call, exchange, option, _most(limit))
        if isinstance(change, str):
            self.decide(call, limit.name, "warn")
            log.warning(
                'tokenguard: "%s" does not shorten %s %s: %s', limit.name, call.api.operation, call.model, change
            )
            return
        self.decide(call, limit.name, limit.then)
        if self.enforces:
            call.change(exchange, change)
            if turns:
                call.attributes[names.GUARD_TRIMMED_TURNS] = turns
            elif call.api.shortens is not None:
                rerouted_of(call).option = call.api.shortens.key

    def downgrade(self, call: Call, exchange: Exchange, rule: str, model: str) -> None:
        """Have the cheaper model of a rule answer. Raises where the request cannot be changed."""
        self.decide(call, rule, "downgrade")
        if not self.enforces:
            return
        call.attributes.setdefault(names.GUARD_ORIGINAL_MODEL, call.model or "")
        try:
            self.send_to(call, exchange, model)
        except GuardrailViolation as refusal:  # a request that cannot be changed is refused
            self.decide(call, rule, "block")
            refusal.rule = rule
            raise
