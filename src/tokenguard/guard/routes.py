"""Routes: which calls another model answers, and which of those models have refused what they were sent."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING

from tokenguard.call.call import Call
from tokenguard.facts.tuples import NamedTuple
from tokenguard.guard.asking import DECIDE_S, Functions, facts_of
from tokenguard.inputs import asked
from tokenguard.policy import Route
from tokenguard.policy.match import draw
from tokenguard.process.log import Log

if TYPE_CHECKING:
    from tokenguard.call.flow import Answer, Step
    from tokenguard.guard.worst_case import WorstCase
    from tokenguard.policy import Matched

    Waiting = Generator[Step, Answer, None]

log = Log("tokenguard")

Place = tuple[str, int, str, str]


class Chosen(NamedTuple):
    """A route that a call falls under, and on which side."""

    rule: Route
    arm: str


class Routes:
    """Chooses routes, and remembers which models are unfit at which hosts, until the policy is loaded anew."""

    def __init__(self) -> None:
        self._unfit: set[Place] = set()
        self.functions = Functions()
        """The application's, which routes name."""

    def choose(
        self, call: Call, matched: Matched, worst_case: WorstCase, count: Callable[[Call], Waiting]
    ) -> Generator[Step, Answer, Chosen | None]:
        """The first route whose facts hold, with the call's arm; `None` where the call stays as it is.

        `count` has the input counted, where its bound cannot tell.
        """
        if call.model is None:  # an agent's model is the provider's to know
            return None
        for route, arm in matched.routes:
            if call.model == route.to or self.is_unfit(call, route.to) or any(unmet(route, call)):
                continue
            if (most := route.max_input_tokens) is not None:
                bound = worst_case.bound(call)
                if not bound.complete or bound.tokens > most:
                    yield from count(call)
                if any(too_long(route, call, worst_case)):
                    continue
            if route.decide is not None:
                yield from count(call)
                facts = facts_of(call, worst_case, content=route.content)
                answer = yield None, self.functions.says, (route.decide, facts, DECIDE_S)
                if answer.error is not None:
                    raise answer.error
                if not answer.value:
                    continue
            return Chosen(route, arm or draw(route, call.fingerprint))
        return None

    def is_unfit(self, call: Call, model: str) -> bool:
        """Whether a model has refused such a request where this one goes, or has just refused this one."""
        if call.rerouted is not None and model in call.rerouted.refused:
            return True
        return bool(self._unfit) and _place(call, model) in self._unfit

    def found_unfit(self, call: Call, model: str, why: str) -> None:
        """Choose a model no more for requests like this one at this host."""
        place = _place(call, model)
        if place in self._unfit:
            return
        self._unfit.add(place)
        log.warning(
            "tokenguard: %s at %s %s; %s calls stay with the model that they name, until the policy is loaded again",
            model,
            call.endpoint.host,
            why,
            call.api.operation,
        )


def _place(call: Call, model: str) -> Place:
    return call.endpoint.host, call.endpoint.port, call.api.id, model


def unmet(route: Route, call: Call) -> Iterator[str]:
    """What of a route's conditions a call does not meet, in words: but for the length of its input."""
    body, words = call.request, call.api.words
    most, cap = route.max_output_tokens, call.output_cap
    if most is not None and (cap is None or cap > most):
        yield f"its output cap is {'not set' if cap is None else f'{cap:,}'}, and the most is {most:,}"
    if route.tools is not None and asked.offers_tools(body) is not route.tools:
        yield _said(route.tools, "tools")
    if route.schema is not None and asked.wants_json(body) is not route.schema:
        yield _said(route.schema, "form of JSON for its answer")
    if route.images is not None and asked.has_media(words, body) is not route.images:
        yield _said(route.images, "pictures, sound or files")
    if route.max_turns is not None and (turns := asked.turns(words, body)) > route.max_turns:
        yield f"the user has spoken {turns} times, and the most is {route.max_turns}"


def too_long(route: Route, call: Call, worst_case: WorstCase) -> Iterator[str]:
    """That a call's input is longer than a route takes, in words."""
    most = route.max_input_tokens
    if most is not None and (sent := worst_case.input(call, most)) > most:
        yield f"its input is {sent:,} tokens, and the most is {most:,}"


def _said(wanted: bool, what: str) -> str:
    return f"it has {'no ' if wanted else ''}{what}"
