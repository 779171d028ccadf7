"""Sessions over a websocket: a span for each, and within it one call for each response.

```text
seam -> guard (may it open?) -> span of the session
        response asked for, or begun by the provider -> the one path that every call takes -> open until it is done
        event that tells its end -> settled
        limit of the session passed -> closed, with the reason
```

Most events are sound on its way: they are passed on after a glance. What is read is looked at in one flow, `received`,
which a seam drives around the SDK's own reading.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from tokenguard.call.failures import Refused, type_name
from tokenguard.call.flow import SEND, Answer, Flow
from tokenguard.facts import names
from tokenguard.facts.errors import GuardrailViolation, LimitExceeded
from tokenguard.metering.meter import Meter
from tokenguard.process.log import Log
from tokenguard.providers import Api, Endpoint, Reading

if TYPE_CHECKING:
    from tokenguard.call.call import Call
    from tokenguard.policy import Limit

log = Log("tokenguard")

LONGEST_REASON = 120
"""Bytes of the reason in a websocket's close frame."""


class Turn:
    """One response of a session, as an exchange: it is read when the session tells its end."""

    __slots__ = ("_session", "_told", "api", "body", "changed", "endpoint", "told")
    native_span = False
    stream = True
    shared_as = None
    asked_by = None

    def __init__(self, session: Session, api: Api, body: Mapping[str, Any], told: object = None) -> None:
        self.api = api
        self.endpoint = session.endpoint
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
        if self._told is not None:
            self.told = call
            return call.read(self._told)
        self._session.waiting.append(call)
        return None


class Session:
    """One session, from its opening to its end."""

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
        self.waiting: list[Call] = []
        """Responses that were asked for, and have no id yet."""
        self.calls: dict[str, Call] = {}
        """Responses under way."""
        self.responses = 0
        self._warned: set[str] = set()
        self._ended = False
        name = "realtime" if model is None else f"realtime {model}"
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
            what, observed, ceiling = f"has come to ${self.usd:.6f}", self.usd, most
            allows = f"${most:.6f}"
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
        if self._ended:
            return
        self._ended = True
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


def received(session: Session) -> Flow:
    """The reading of one message, and what it tells; raises the refusal for which the session is to be closed."""
    contain = session.meter.contain
    answer = yield SEND
    if answer.error is not None:
        if isinstance(answer.error, Exception):
            contain("ending a session", session.broken, answer.error)
        return answer
    message = answer.value
    if session.limits and (refusal := contain("looking at a session", session.passed)) is not None:
        raise refusal
    if session.tells(message) and (turn := contain("reading an event", session.told, message)) is not None:
        with session.within():
            yield from _unsent(session.meter.flow(turn))
        contain("reading an event", session.flown, turn)
        contain("reading an event", session.after, message)
    return answer


def _unsent(flow: Flow) -> Flow:
    """The flow of a call for which nothing is sent: the provider has begun by itself."""
    step = next(flow)
    while True:
        try:
            answer = Answer(None) if step is SEND else (yield step)
        except BaseException as error:
            flow.throw(error)
            raise
        try:
            step = flow.send(answer)
        except StopIteration as end:
            whole: Answer = end.value
            return whole


def close(session: Session, refusal: GuardrailViolation, shut: Callable[..., object]) -> None:
    """End a session for a refusal; `shut(reason=...)` closes the SDK's connection."""
    session.meter.contain("ending a session", session.closed_for, refusal)
    session.meter.contain("closing a session", lambda: shut(reason=_reason(refusal)))


async def aclose(session: Session, refusal: GuardrailViolation, shut: Callable[..., Awaitable[object]]) -> None:
    """The same for a connection that is closed by a coroutine."""
    session.meter.contain("ending a session", session.closed_for, refusal)
    try:
        await shut(reason=_reason(refusal))
    except Exception as failure:
        session.meter.telemetry.internal_error("closing a session", failure)


def _reason(refusal: GuardrailViolation) -> str:
    return str(refusal).encode()[:LONGEST_REASON].decode(errors="ignore")
