"""One call put to a policy without being made: what each rule decides of it, and why.

The decisions are the guard's own, on a call that has the facts that are given and no content. Budgets are judged as if
nothing had been spent in their window.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Final, cast

from tokenguard.call.call import Call, Exchange, Settling
from tokenguard.facts import names
from tokenguard.facts.dollars import dollars
from tokenguard.facts.errors import GuardrailViolation
from tokenguard.facts.lookups import why
from tokenguard.facts.tuples import NamedTuple
from tokenguard.guard.admission import Guard
from tokenguard.guard.asking import CHECK_S, facts_of
from tokenguard.guard.ceilings import CEILINGS, MENDS, Question
from tokenguard.guard.context import Context
from tokenguard.guard.limiting import ACTIONS
from tokenguard.guard.routes import too_long, unmet
from tokenguard.guard.worst_case import WorstCase
from tokenguard.ledger import nano
from tokenguard.policy import Budget, Limit, Policy, Route, When
from tokenguard.policy.caching import AnswersConfig, Cache
from tokenguard.policy.match import draw
from tokenguard.policy.model import LedgerConfig
from tokenguard.prices import PriceBook
from tokenguard.prices.listed import sellers_of
from tokenguard.prices.models import MAKERS, PROVIDERS
from tokenguard.providers import Api, Endpoint, every_api
from tokenguard.providers.openai import CHAT
from tokenguard.tokens import Bound

PICTURE: Final = {"type": "image_url", "image_url": {"url": ""}}
TOOL: Final = {"type": "function", "function": {"name": "tool"}}


@dataclass(frozen=True, slots=True)
class Asked:
    """The facts of a call that is tried."""

    model: str
    provider: str = ""
    """Empty: the model's maker, by the price list."""
    operation: str = "chat"
    input_tokens: int = 1000
    system_tokens: int = 0
    tools_tokens: int = 0
    history_tokens: int = 0
    tool_result_tokens: int = 0
    """Of the largest tool result."""
    output_cap: int | None = None
    tool_steps: int = 0
    """Tool rounds since the last user turn."""
    turns: int = 1
    """User turns so far."""
    tools: bool = False
    images: bool = False
    schema: bool = False
    """Whether the answer is asked for as JSON."""
    attribution: Mapping[str, str] = field(default_factory=dict)


class Decision(NamedTuple):
    """What one rule says of a call."""

    kind: str
    """`route`, `limit`, `breaker`, `cache`, `budget` or `share`: its table in the policy."""
    rule: str
    action: str
    """`treated`, `control`, an action of the guard, `look up`, `reserve`, `watch`, `share`; `-`: not for the call."""
    why: str


class Trial(NamedTuple):
    """What a policy makes of a call."""

    model: str
    """The model that would be sent."""
    action: str
    """The strongest decision of the guard: `allow`, `warn`, `clamp`, `downgrade` or `block`."""
    rule: str | None
    """The rule of that decision."""
    route: str | None
    """The route that the call falls under, and its arm."""
    arm: str | None
    output_cap: int | None
    """As it would be sent."""
    worst_usd: float | None
    """What the call can come to at the most; `None` without a price."""
    decisions: tuple[Decision, ...]


def try_call(policy: Policy, prices: PriceBook, asked: Asked) -> Trial:
    """What a policy makes of a call with these facts; nothing is sent, and no ledger is touched."""
    return _Trying(policy, prices, asked).trial()


class _Said(WorstCase):
    """Knows the input's length without having it."""

    def __init__(self, prices: PriceBook, tokens: int) -> None:
        super().__init__(prices)
        self._tokens = tokens

    def bound(self, call: Call) -> Bound:
        return Bound(self._tokens, complete=True)

    def count(self, call: Call) -> int:
        return self._tokens


class _SaidContext(Context):
    """Knows how long the parts of the input are."""

    def __init__(self, call: Call, asked: Asked) -> None:
        super().__init__(call)
        self._asked = asked

    def tokens(self, section: str, enough: int) -> int:
        return int(getattr(self._asked, f"{section}_tokens"))

    def largest(self, section: str, enough: int) -> int:
        return self._asked.tool_result_tokens


class _Exchange:
    """A request that is never sent."""

    stream = False
    native_span = False
    shared_as = None

    def __init__(self, api: Api, endpoint: Endpoint, body: Mapping[str, Any]) -> None:
        self.api = api
        self.endpoint = endpoint
        self.body = body

    def replace_body(self, body: Mapping[str, Any]) -> None:
        """There is nobody to send it."""

    def cap_retries(self, most: int) -> None:
        """The same."""


class _Trying:
    def __init__(self, policy: Policy, prices: PriceBook, asked: Asked) -> None:
        policy = replace(policy, ledger=LedgerConfig(url="memory:"), answers=AnswersConfig())
        self._policy = policy
        self._guard = Guard(policy, prices)
        self._guard.worst_case = _Said(prices, asked.input_tokens)
        self._exchange = cast(Exchange, _Exchange(_api(asked), _endpoint(asked), _body(asked)))
        self._call = call = Call(cast(Settling, None), self._exchange)
        call.output_cap = call.api.output_cap(call.request)
        call.tool_steps = asked.tool_steps
        call.attribution = {**policy.attribution.defaults, **asked.attribution}
        self._guard.match(call)
        self._context = _SaidContext(call, asked)
        self._route: tuple[str, str] | None = None
        self._refused = False

    def trial(self) -> Trial:
        """Ask the rules, in the order in which a call meets them."""
        call = self._call
        decisions = [
            *self._routes(),
            *self._breakers(),
            *self._limits(),
            *self._caches(),
            *self._budgets(),
            *self._shares(),
        ]
        severe = max(decisions, key=lambda one: ACTIONS.index(one.action) if one.action in ACTIONS else 0, default=None)
        decided = severe is not None and severe.action in ACTIONS and severe.action != "allow"
        route, arm = self._route or (None, None)
        return Trial(
            call.model or "",
            severe.action if decided and severe is not None else "allow",
            severe.rule if decided and severe is not None else None,
            route,
            arm,
            call.output_cap,
            self._guard.worst_case.of(call, counted=True).usd,
            tuple(decisions),
        )

    def _routes(self) -> Iterator[Decision]:
        arms = dict(_matched(self._call).routes)
        for route in self._policy.routes:
            action, why = self._routed(route, arms)
            yield Decision("route", route.name, action, why)

    def _routed(self, route: Route, arms: Mapping[Route, str]) -> tuple[str, str]:
        call = self._call
        if self._route is not None:
            return "-", f'"{self._route[0]}" comes first'
        if route not in arms:
            return "-", self._no_match(route.when)
        if call.model == route.to:
            return "-", f"it asks for {route.to}"
        reasons = [*unmet(route, call), *too_long(route, call, self._guard.worst_case)]
        if reasons:
            return "-", ", and ".join(reasons)
        if route.decide is not None:
            if route.content:
                return "-", f"{route.decide} wants to see the messages, which are not there"
            facts = facts_of(call, self._guard.worst_case, content=False)
            if not self._guard.routes.functions.says(route.decide, facts, CHECK_S):
                return "-", f"{route.decide} does not say yes"
        arm = arms[route] or draw(route, repr(self._exchange.body))
        self._route = route.name, arm
        drawn = "" if route.share == 1 else f" (a share of {route.share:g}, drawn by {_keys(route, call)})"
        if arm == names.CONTROL:
            return arm, f"stays with {call.model}{drawn}"
        why = f"goes to {route.to} instead of {call.model}{drawn}"
        if self._guard.enforces:
            self._guard.send_to(call, self._exchange, route.to)
            self._guard.match(call)
        return arm, why

    def _breakers(self) -> Iterator[Decision]:
        for breaker in self._policy.breakers:
            applies = breaker in _matched(self._call).breakers
            why = f"opens after {breaker.failures} failures of {self._call.model} in a row"
            yield Decision(
                "breaker", breaker.name, "watch" if applies else "-", why if applies else self._no_match(breaker.when)
            )

    def _limits(self) -> Iterator[Decision]:
        for limit in self._policy.limits:
            yield Decision("limit", limit.name, *self._limited(limit))

    def _limited(self, limit: Limit) -> tuple[str, str]:
        call, guard = self._call, self._guard
        if self._refused:
            return "-", "the call has been refused"
        if limit not in _matched(call).limits:
            return "-", self._no_match(limit.when)
        question = Question(call, limit, guard.worst_case, self._policy.unpriced != "allow", self._context)
        passed = {ceiling: str(exceeded) for ceiling in CEILINGS if (exceeded := ceiling(question)) is not None}
        reasons = list(passed.values())
        if reasons and limit.then == "warn":
            return "warn", reasons[0]
        if reasons and set(passed) <= set(MENDS.get(limit.then, ())):
            return limit.then, reasons[0]
        before, call.action = call.output_cap, "allow"
        try:
            guard.limit(call, self._exchange, limit, self._context)
        except GuardrailViolation as refusal:
            reasons, self._refused = [str(refusal)], True
        if call.action == "clamp":
            capped = limit.max_output_tokens if call.output_cap == before else call.output_cap
            return "clamp", f"output cap {'not set' if before is None else f'{before:,}'} becomes {capped:,}"
        if call.action == "downgrade":
            return "downgrade", f"goes to {limit.downgrade_to}: {reasons[0]}"
        return call.action, reasons[0] if reasons else "within it"

    def _caches(self) -> Iterator[Decision]:
        for rule in self._policy.caches:
            yield Decision("cache", rule.name, *self._looked_up(rule))

    def _looked_up(self, rule: Cache) -> tuple[str, str]:
        from tokenguard.answers.fitting import refers, unfit
        from tokenguard.answers.key import counted

        call, matched = self._call, _matched(self._call)
        if matched.cache is not rule:
            first = None if matched.cache is None else f'"{matched.cache.name}" comes first'
            return "-", first or self._no_match(rule.when)
        if matched.cache_key is None:
            lacks = [key for key in rule.per if not call.attribution.get(key)]
            return "-", f"the call has no {' and no '.join(lacks)}, which are in its key"
        reason = unfit(call, rule) or refers(counted(call, call.request).telling)
        if reason is not None:
            return "-", why(names.SKIP, reason)
        watches = rule.match == "meaning" and not rule.serve
        return "watch" if watches else "look up", f"shared by {matched.cache_key or 'all'}"

    def _budgets(self) -> Iterator[Decision]:
        for budget in self._policy.budgets:
            yield Decision("budget", budget.name, *self._budgeted(budget))

    def _budgeted(self, budget: Budget) -> tuple[str, str]:
        call, guard = self._call, self._guard
        key = next((key for each, key in _matched(call).accounts() if each is budget), None)
        if self._refused:
            return "-", "the call has been refused"
        if key is None:
            return "-", self._no_match(budget.when)
        worst = guard.worst_case.of(call, counted=True)
        tokens = worst.input + worst.output
        if worst.nano is None and budget.limit_usd is not None and self._policy.unpriced != "allow":
            self._refused = budget.then != "warn"
            return ("block" if self._refused else "warn"), f"no price is known for {call.model}"
        over = (
            (budget.limit_usd is not None and (worst.nano or 0) > nano(budget.limit_usd))
            or (budget.limit_tokens is not None and tokens > budget.limit_tokens)
            or budget.limit_calls == 0
        )
        usd = "an unknown sum" if worst.usd is None else dollars(worst.usd, least=6)
        of = (
            (budget.limit_usd, f"{usd} at the most, of {dollars(budget.limit_usd or 0.0)}"),
            (budget.limit_tokens, f"{tokens:,} tokens at the most, of {budget.limit_tokens or 0:,}"),
            (budget.limit_calls, f"1 call of {budget.limit_calls or 0:,}"),
        )
        needs = " and ".join(words for limit, words in of if limit is not None)
        window = "a run" if budget.by_run else "in total" if budget.window == "total" else f"a {budget.window}"
        why = f"{needs} {window}{f' for {key}' if key else ''}"
        if not over:
            return "reserve", why
        if budget.then == "downgrade" and budget.downgrade_to is not None and call.model != budget.downgrade_to:
            if guard.enforces:
                guard.send_to(call, self._exchange, budget.downgrade_to)
            return "downgrade", f"goes to {budget.downgrade_to}: {why}"
        self._refused = budget.then != "warn"
        return ("block" if self._refused else "warn"), why

    def _shares(self) -> Iterator[Decision]:
        first = _matched(self._call).share
        for share in self._policy.shares:
            applies = share is first
            why = "identical calls under way at the same time are one" if applies else self._no_match(share.when)
            yield Decision("share", share.name, "share" if applies else "-", why)

    def _no_match(self, when: When) -> str:
        """Which of a rule's conditions is not met, in words."""
        call = self._call
        facts = {
            **call.attribution,
            "provider": call.endpoint.provider,
            "model": call.model or "",
            "operation": call.api.operation,
        }
        for key, globs in when.patterns:
            value = facts.get(key, "")
            if not any(fnmatchcase(value, glob) for glob in globs):
                wanted = " or ".join(f'"{glob}"' for glob in globs)
                return f'its {key} is "{value}", not {wanted}' if value else f"it has no {key}; wanted is {wanted}"
        return "another rule comes first"


def _matched(call: Call) -> Any:
    assert call.matched is not None, "it was matched when the trial began"
    return call.matched


def _keys(route: Route, call: Call) -> str:
    held = [key for key in route.by if call.attribution.get(key)]
    return " and ".join(held) if held else "the request, as it has none of " + ", ".join(route.by or ("any key",))


def _endpoint(asked: Asked) -> Endpoint:
    provider = asked.provider
    if not provider:
        makers = sellers_of(asked.model, MAKERS)
        provider = next((name for name, seller in PROVIDERS.items() if seller in makers[:1]), "openai")
    return Endpoint(provider, "", 443)


def _api(asked: Asked) -> Api:
    """A wire format of this operation."""
    if asked.operation == CHAT.operation:
        return CHAT
    return next((api for api in every_api() if api.operation == asked.operation), CHAT)


def _body(asked: Asked) -> dict[str, Any]:
    body: dict[str, Any] = {"model": asked.model, "messages": []}
    for turn in range(asked.turns):
        said: Any = [PICTURE] if asked.images and turn == asked.turns - 1 else "..."
        body["messages"].append({"role": "user", "content": said})
        if turn < asked.turns - 1:
            body["messages"].append({"role": "assistant", "content": "..."})
    if asked.output_cap is not None:
        body["max_tokens"] = asked.output_cap
    if asked.tools:
        body["tools"] = [TOOL]
    if asked.schema:
        body["response_format"] = {"type": "json_object"}
    return body
