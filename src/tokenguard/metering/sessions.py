"""Sessions over a websocket: a span for each, and within it one call for each response.

```text
seam -> guard (may it open?) -> span of the session
        sound sent on its own -> what may come of it is held ahead, by the minute (`metering.ahead`)
        response asked for, or begun by the provider -> the one path that every call takes -> open until it is done
        event that tells its end -> settled
        limit of the session passed, or nothing left to hold -> closed, with the reason
```

Most events are sound on its way: they are passed on after a glance (`metering.session_flows`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from tokenguard.call.failures import Refused, type_name
from tokenguard.facts import names
from tokenguard.facts.dollars import dollars
from tokenguard.facts.errors import GuardrailViolation, LimitExceeded
from tokenguard.metering.ahead import Ahead
from tokenguard.metering.meter import Meter
from tokenguard.process.log import Log
from tokenguard.providers import Api, Endpoint, Reading

if TYPE_CHECKING:
    from tokenguard.call.call import Call
    from tokenguard.policy import Limit

log = Log("tokenguard")


class Turn:
    """One response of a session, as an exchange: it is read when the session tells its end."""

    __slots__ = ("_session", "_told", "api", "body", "changed", "endpoint", "told")
    native_span = False
    stream = True
    shared_as = None
    asked_by = None

    def __init__(
        self,
        endpoint: Endpoint,
        api: Api,
        body: Mapping[str, Any],
        session: Session | None = None,
        told: object = None,
    ) -> None:
        self.api = api
        self.endpoint = endpoint
        self.body = body
        self.changed = False
        self.told: Call | None = None
        """The call, where what it came to was told before it was made."""
        self._session = session
        self._told = told

    def replace_body(self, body: Mapping[str, Any]) -> None:
        """Ask for this instead. A session keeps its model: another one cannot be asked for."""
        if body.get("model") != self.body.get("model"):
            raise GuardrailViolation(
                f"{self.body.get('model')}: a session keeps its model, and cannot go on with {body.get('model')}. Use "
                'a limit with then = "block", or open the session with that model.',
                rule="",
            )
        self.body, self.changed = body, True

    def cap_retries(self, most: int) -> None:
        """Nothing is sent again."""

    def read(self, result: Any, call: Call) -> Reading | None:
        """What it came to, where that is told already; else it is open until it is."""
        call.wants_cost = True
        if self._told is not None:
            self.told = call
            return call.read(self._told)
        if self._session is not None:
            self._session.waiting.append(call)
        return None


class Session:
    """One session, from its opening to its end."""

    kind = "realtime"
    """The beginning of its span's name."""
    minute = 600
    """Tokens of a minute of sound that is sent."""

    def __init__(self, meter: Meter, endpoint: Endpoint, model: str | None, limits: tuple[Limit, ...] = ()) -> None:
        self.meter = meter
        self.endpoint = endpoint
        self.model = model
        self.limits = tuple(
            limit for limit in limits if limit.max_session_usd is not None or limit.max_session_seconds is not None
        )
        self.began = time.monotonic()
        self.usd = 0.0
        """What its calls have come to, as far as it is known."""
        self.context_tokens = 0
        self.unanswered = 0.0
        """Tokens of sound that were sent since the last response began."""
        self.waiting: list[Call] = []
        """Responses that were asked for, and have no id yet."""
        self.calls: dict[str, Call] = {}
        """Responses under way."""
        self.responses = 0
        self.ahead = Ahead(meter)
        self.over: GuardrailViolation | None = None
        """Why it is to be closed, or was."""
        self._warned: set[str] = set()
        self.ended = False
        name = self.kind if model is None else f"{self.kind} {model}"
        start = {names.PROVIDER: endpoint.provider, names.SERVER_ADDRESS: endpoint.host}
        if model is not None:
            start[names.REQUEST_MODEL] = model
        self._span = meter.telemetry.tracer.start_span(name, kind=SpanKind.CLIENT, attributes=start)
        self._context = trace.set_span_in_context(self._span)

    @contextmanager
    def within(self) -> Iterator[None]:
        """What is measured meanwhile is the session's."""
        token = otel_context.attach(self._context)
        try:
            yield
        finally:
            otel_context.detach(token)

    def named(self, session_id: str | None) -> None:
        """The provider has told the session's id."""
        if session_id is not None and self._span.is_recording():
            self._span.set_attribute(names.CONVERSATION_ID, session_id)

    # --- what is written -----------------------------------------------------------------------------------------

    def coming(self, heard: int) -> Turn | None:
        """The response that the provider may begin by itself when it has heard so many tokens of sound."""
        return None

    def heard(self, tokens: float) -> None:
        """Sound was sent: what may come of it is held, where no response is under way."""
        self.unanswered += tokens
        if not self.calls and not self.waiting:
            self.ahead.hold(self, self.unanswered)

    # --- what is read --------------------------------------------------------------------------------------------

    def tells(self, message: Any) -> bool:
        """Whether a message may be one that is looked at."""
        return True

    def told(self, message: Any) -> Turn | None:
        """Take a message in; a call that is yet to be made of it."""
        raise NotImplementedError

    def after(self, message: Any) -> None:
        """The call has been made that a message told of."""

    def broken(self, error: Exception) -> None:
        """The websocket was closed, or broke; reading may fail in other ways, and go on."""
        kind = type(error).__name__
        if kind.startswith("ConnectionClosed"):
            self.end(None if kind == "ConnectionClosedOK" else error)

    # --- responses -----------------------------------------------------------------------------------------------

    def begun(self, response_id: str | None) -> bool:
        """A response has begun: whether it is one that was asked for."""
        if not self.waiting:
            return False
        self.unanswered = 0.0
        self.calls[response_id or ""] = self.waiting.pop(0)
        return True

    def done(self, reading: Reading) -> bool:
        """A response is over; whether its beginning was seen."""
        call = self.calls.pop(reading.id or "", None)
        if call is None:
            return False
        self._finish(call, reading)
        return True

    def _finish(self, call: Call, reading: Reading) -> None:
        if reading.usage is not None:
            self.context_tokens = reading.usage.total
        call.begun = True
        call.finish(reading)
        self.came_to(call)

    def flown(self, turn: Turn) -> None:
        """A call has been made of what was told."""
        if turn.told is not None:
            self.came_to(turn.told)

    def came_to(self, call: Call) -> None:
        """Add what a call of the session came to."""
        self.responses += 1
        if call.cost is not None and call.cost.total is not None:
            self.usd += call.cost.total

    def refused(self, code: str) -> None:
        """The provider has refused the response that was asked for last: it is not billed."""
        if self.waiting:
            call = self.waiting.pop()
            call.attributes[names.FINISH_REASONS] = (code,)
            call.finish(None, outcome=names.ERROR, error=Refused(400))

    # --- limits --------------------------------------------------------------------------------------------------

    def refusal(self) -> GuardrailViolation | None:
        """Why the session cannot go on: a limit of it is passed, or what may come next could not be held."""
        if self.over is None:
            self.over = self.ahead.refusal or (self.passed() if self.limits else None)
        return self.over

    def passed(self) -> LimitExceeded | None:
        """The limit of the session that is passed, where it is to be closed for that; one that only warns is logged."""
        for limit in self.limits:
            refusal = self._passed(limit)
            if refusal is None:
                continue
            guard = self.meter.guard
            if limit.then != "warn" and (guard is None or guard.enforces):
                return refusal
            if limit.name not in self._warned:
                self._warned.add(limit.name)
                log.warning("tokenguard: %s", refusal)
        return None

    def _passed(self, limit: Limit) -> LimitExceeded | None:
        seconds, most, longest = time.monotonic() - self.began, limit.max_session_usd, limit.max_session_seconds
        if most is not None and self.usd >= most:
            what, observed, ceiling = f"has come to {dollars(self.usd, least=6)}", self.usd, most
            allows = dollars(most, least=6)
        elif longest is not None and seconds >= longest:
            what, observed, ceiling = f"has been open for {seconds:.0f} s", seconds, longest
            allows = f"{longest:g} s"
        else:
            return None
        return LimitExceeded(
            f'realtime {self.model}: the session {what}, and the limit "{limit.name}" allows {allows}. Open another '
            "session for what is left to say, or raise the limit.",
            rule=limit.name,
            limit=ceiling,
            observed=observed,
        )

    def closed_for(self, refusal: GuardrailViolation) -> None:
        """It is closed because of a limit or a budget."""
        if self._span.is_recording():
            self._span.set_attribute(names.GUARD_ACTION, names.BLOCK)
            self._span.set_attribute(names.GUARD_RULE, refusal.rule)
        self.end(refusal)

    # --- the end -------------------------------------------------------------------------------------------------

    def end(self, error: BaseException | None = None) -> None:
        """It is over; what is under way is settled with what was told."""
        if self.ended:
            return
        self.ended = True
        self.ahead.end()
        open_calls = [*self.calls.values(), *self.waiting]
        self.calls.clear()
        self.waiting.clear()
        for call in open_calls:
            call.begun = True
            call.finish(None, outcome=names.ABANDONED)
            self.came_to(call)
        if self._span.is_recording():
            self._span.set_attribute(names.SESSION_COST, self.usd)
            self._span.set_attribute(names.SESSION_RESPONSES, self.responses)
            if error is not None:
                self._span.set_attribute(names.ERROR_TYPE, type_name(error))
                self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()
