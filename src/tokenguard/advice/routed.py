"""The steps in which another model answers; where its answers fail their checks, the larger one is asked again."""

from __future__ import annotations

import math
from typing import Final

from tokenguard.advice.answered import Match
from tokenguard.advice.replay import Replayed
from tokenguard.advice.steps import BEST, WORST, Outlook, Step, exceeds, matcher
from tokenguard.facts import names
from tokenguard.facts.tuples import NamedTuple
from tokenguard.policy import Limit, Policy, Route
from tokenguard.prices import PriceBook
from tokenguard.report.engine import Records
from tokenguard.report.figures import many
from tokenguard.report.query import Query, attribute, conditions

NOT_RECORDED: Final = ("max_turns", "images", "schema", "decide")
"""Facts of a route that the store does not have of a call."""
CONFIDENCE: Final = 1.96
"""Of 95 % that the share of failing answers is within its interval."""


class Failing(NamedTuple):
    """The share of a route's answers that fail their checks, with the interval that it is in."""

    share: float
    low: float
    high: float
    said: str

    def at(self, outlook: Outlook) -> float:
        """The share in one outlook."""
        return self.share if not outlook.fails else self.high if outlook.fails > 0 else self.low


def failing(records: Records, query: Query, route: Route) -> Failing | None:
    """What is known of how often the answers of a route's model fail: by what it did; `None` where nothing checks."""
    if route.escalate_to is None:
        return None
    dialect = records.dialect
    rule, again, arm = (
        attribute(dialect, "more", name) for name in (names.ROUTE_RULE, names.ROUTE_ESCALATION, names.ROUTE_ARM)
    )
    where, values = conditions(query, dialect)
    ((first, second),) = records.rows(
        f"SELECT count(*) FILTER (WHERE {again} IS NULL AND {arm} = ?), count({again}) "  # noqa: S608 - our own names
        f"FROM {dialect.calls} WHERE {where} AND {rule} = ?",
        (names.TREATED, *values, route.name),
    )
    if not first:
        return Failing(0.0, 0.0, 1.0, "how many of its answers fail is not known: none is expected to")
    share = second / first
    low, high = _interval(share, first)
    return Failing(share, low, high, f"{share:.1%} of its answers fail, as {second:,} of {first:,} did")


def _interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's interval: https://en.wikipedia.org/wiki/Binomial_proportion_confidence_interval."""
    z = CONFIDENCE**2 / count
    middle = (share + z / 2) / (1 + z)
    half = CONFIDENCE / (1 + z) * math.sqrt(share * (1 - share) / count + z / 4 / count)
    return max(0.0, middle - half), min(1.0, middle + half)


class Routed(Step):
    """Calls that another model answers."""

    kind = "route"
    basis = "recorded tokens; the price list's rates of the other model"
    open_ended = True

    def __init__(
        self, route: Route, match: Match, books: tuple[PriceBook, PriceBook], outlook: Outlook, fails: Failing | None
    ) -> None:
        super().__init__(route.name)
        self._route = route
        self._match = match
        self._books = books
        self._outlook = outlook
        self._fails = fails
        self._due = 0.0
        self.unpriced = 0
        self.first_usd = self.again_usd = self.before_usd = 0.0
        """Of the calls that are checked: what the model's answers cost, what the larger one's would, and what is paid
        now."""

    def _arm(self, call: Replayed) -> str | None:
        """On which side of the route a call is; `None` where it is none of its calls."""
        route = self._route
        past = ((route.max_input_tokens, call.usage.input), (route.max_output_tokens, call.fact.max_tokens))
        if call.routed or any(most is not None and (value is None or value > most) for most, value in past):
            return None
        if route.tools is not None and (call.fact.toolset is not None) is not route.tools:
            return None
        arm: str | None = next((arm for rule, arm in self._match(call).routes if rule is route), None)
        return self._drawn() if arm == "" else arm

    def _drawn(self) -> str:
        """The arm of a call that is drawn by its request: which one comes next is no matter."""
        self._due += self._route.share
        if self._due < 1 - 1e-9:
            return names.CONTROL
        self._due -= 1
        return names.TREATED

    def _change(self, call: Replayed) -> None:
        if not call.priced or self._route.to in call.model or names.ROUTE_ESCALATION in call.fact.attributes:
            return
        arm = self._arm(call)
        call.routed = call.routed or arm is not None  # of several, the first one counts
        if arm == names.TREATED:
            self._send(call)

    def _send(self, call: Replayed) -> None:
        usage, before = call.usage, call.usd
        again = self._again(call)
        if self._outlook.length != 1.0 and usage.output is not None:
            output = round(usage.output * self._outlook.length)
            if call.fact.max_tokens is not None:
                output = min(output, max(call.fact.max_tokens, usage.output))
            reasoning = None if usage.reasoning is None else min(usage.reasoning, output)
            usage = usage._replace(output=output, reasoning=reasoning)
        if not any(call.changed(book, usage, self._route.to) for book in self._books):
            self.unpriced += 1
        elif again is not None and self._fails is not None:
            self.first_usd += call.usd
            self.again_usd += again
            self.before_usd += before
            call.again_usd = self._fails.at(self._outlook) * again

    def _again(self, call: Replayed) -> float | None:
        """What the larger model's answer costs; `None` for a call whose answer is not looked at."""
        model = self._route.escalate_to
        unchecked = call.fact.toolset is not None or call.fact.attributes.get(names.REQUEST_STREAM)
        if model is None or unchecked:
            return None
        costs = (call.by(book, call.usage, model) for book in self._books)
        return next((usd for usd in costs if usd is not None), None)

    def _assumes(self) -> list[str]:
        says = [
            f"{self._route.to} reads and writes as many tokens, and its answers do as well; between "
            f"{BEST.length:g} and {WORST.length:g} times the output is the interval"
        ]
        unknown = [name for name in NOT_RECORDED if getattr(self._route, name) is not None]
        if unknown:
            says.append(f"{' and '.join(unknown)} taken as met: requests do not record it")
        if self._fails is not None:
            says.append(self._escalates(self._fails))
        if self.unpriced:
            says.append(
                f"{many(self.unpriced, 'call')} not routed: no price is known for {self._route.to} at their provider"
            )
        return says

    def _escalates(self, fails: Failing) -> str:
        said = f"{fails.said}, and {self._route.escalate_to} is asked again"
        if not self.again_usd:
            return said
        pays = max(0.0, (self.before_usd - self.first_usd) / self.again_usd)
        return f"{said}; it pays while fewer than {min(1.0, pays):.0%} fail"


class Downgraded(Routed):
    """Calls past a limit whose answer to that is a cheaper model."""

    def __init__(self, limit: Limit, books: tuple[PriceBook, PriceBook], outlook: Outlook) -> None:
        route = Route(name=limit.name, when=limit.when, to=str(limit.downgrade_to))
        super().__init__(route, matcher(Policy(routes=(route,))), books, outlook, None)
        self._limit = limit

    def _arm(self, call: Replayed) -> str | None:
        return super()._arm(call) if exceeds(self._limit, call, self._books[0]) else None
