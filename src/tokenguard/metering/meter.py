"""The one path that every call takes.

```text
seam -> begin (whose, what, fingerprint) -> guard (limits, budgets) -> span -> SEND -> received or failed
     -> settle (usage, price, span, records, budgets)
```

Only this room starts spans and contains internal errors: whatever fails in here is noted, and the user's call goes on.
A seam hands in an `Exchange`, and for a response that is read later its tap ends the `Call`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from opentelemetry import trace

from tokenguard.call import scope
from tokenguard.call.call import LATER, Call, Exchange, Rerouted, current_call
from tokenguard.call.failures import UNFIT, may_be_billed, refuses
from tokenguard.call.flow import SEND, Answer, Flow, Step
from tokenguard.call.site import note_call_site
from tokenguard.facts import names
from tokenguard.facts.errors import GuardrailViolation
from tokenguard.facts.record import AttributeValue
from tokenguard.inputs.request import identity, snapshot
from tokenguard.metering.background import Pending
from tokenguard.metering.rents import Rents
from tokenguard.metering.settling import Settling
from tokenguard.metering.usage_option import UsageOption
from tokenguard.prices import PriceBook
from tokenguard.process.interrupts import interrupt
from tokenguard.providers import Endpoint
from tokenguard.telemetry.context import current, make_current, with_span
from tokenguard.telemetry.drain import Telemetry
from tokenguard.telemetry.spans import CallSpan, HeldSpan, NativeSpan, OuterSpan, outer_owner, silencing

if TYPE_CHECKING:  # a program without a policy loads no guard
    from tokenguard.call.kept import LookUp
    from tokenguard.guard.admission import Guard
    from tokenguard.guard.single_flight import Place
    from tokenguard.metering.content import Capture
    from tokenguard.policy import Limit
    from tokenguard.providers.batches import Request

T = TypeVar("T")
Asking = Generator[Step, Answer, bool]


MAX_SNAPSHOT = 2**21
"""Bytes of a request that are kept until it has been looked at; larger ones are not looked at."""


class Batching(Protocol):
    """What sees batches being created, asked for and collected."""

    def asked(self, method: str, url: str) -> Request | None:
        """What is asked of a batch API, or of a file, which may be one's; `None` for anything else."""
        ...

    def flow(self, sent: Any) -> Flow:
        """One request to a batch API, as a seam hands it in."""
        ...


class Meter:
    """Measures calls: begins them, reads what came back, prices it, and hands the records on."""

    def __init__(
        self,
        telemetry: Telemetry,
        prices: PriceBook,
        guard: Guard | None = None,
        *,
        include_usage: str = "1",
        capture: Capture | None = None,
    ) -> None:
        self.telemetry = telemetry
        self.settling = Settling(telemetry, prices, capture)
        self.guard = guard
        """The policy at work; `None` when there is nothing to guard. Replaced as a whole."""
        self.usage_option = UsageOption(include_usage)
        self.pending = Pending()
        self.rents = Rents(self.owe, self.contain)
        self.batches: Batching | None = None
        """Sees to requests that are no model calls, and may be a batch's."""

    # --- the flow ----------------------------------------------------------------------------------------------------

    def flow(self, exchange: Exchange) -> Flow:
        """One call from start to answer."""
        try:
            call, guard = self.begin(exchange)
        except Exception as failure:
            self.telemetry.internal_error("beginning a call", failure)
            self._unguarded()
            return (yield SEND)
        try:
            call.begins()
            if guard is None:
                return (yield from self._send(exchange, call, None))
            return (yield from self._guarded(exchange, call, guard))
        except BaseException as error:
            self._interrupted(call, error)
            raise

    def _guarded(self, exchange: Exchange, call: Call, guard: Guard) -> Flow:
        flight = self.contain("matching a call", self._match, guard, exchange, call)
        if flight is not None and not flight.leads:
            landed = yield flight.answer
            if landed.error is not None and not isinstance(landed.error, Exception):
                raise landed.error
            followed = yield from self._follow(guard, exchange, call, flight, landed.value)
            if followed is not None:
                return followed
        answer: Answer | None = None
        try:
            yield from self.admit(guard, call, guard.admit, call, exchange)
            answer = yield from self._send(exchange, call, guard)
            if call.rerouted is not None and call.rerouted.checked is not None:
                answer = yield from self._escalated(guard, exchange, call, answer)
            return answer
        finally:
            if flight is not None and flight.leads:
                self.contain("landing a flight", flight.lands, answer)  # where it fails, each goes by itself

    def _follow(
        self, guard: Guard, exchange: Exchange, call: Call, flight: Place, landed: object
    ) -> Generator[Step, Answer, Answer | None]:
        """The answer of the identical call that was under way; `None` where this call is to go by itself."""
        if self.contain("sharing an answer", flight.joins, call, landed):
            call.matched = None  # it is no test of the provider, and costs nothing
            return (yield from self._send(exchange, call, guard))
        own = self.contain("copying an answer", landed.copied) if isinstance(landed, Answer) else None
        if own is None:
            return None
        call.matched = None
        self.contain("sharing an answer", flight.follows, call)
        self.contain("opening a call", self._open, exchange, call)
        self.contain("closing a call", self._close, exchange, call, own)
        return own

    def permitted(self, exchange: Exchange) -> Flow:
        """Ask whether a call like this could be made now: nothing is sent, and nothing stays reserved.

        Raises the guard's refusal; the answer's value are the limits that apply.
        """
        call: Call | None = (yield from self.held(exchange)).value
        limits: tuple[Limit, ...] = ()
        if call is not None:
            limits = () if call.matched is None else call.matched.limits
            call.drop()
        yield SEND
        return Answer(limits)

    def held(self, exchange: Exchange) -> Flow:
        """Ask for a call that may come: the answer's value is the call, reserved and not sent, if all went well.

        Raises the guard's refusal. `go_on` sends it; to drop it gives back what is reserved.
        """
        begun = self.contain("beginning a call", self.begin, exchange)
        if begun is None:
            self._unguarded()
            return Answer()
        call, guard = begun
        try:
            call.begins()
            if guard is not None:
                self.contain("matching a call", guard.match, call)
                yield from self.admit(guard, call, guard.admit, call, exchange)
        except BaseException:
            if not call.finished:
                call.drop()
            raise
        return Answer(call)

    def owe(self, exchange: Exchange) -> Flow:
        """A call that is billed already, whatever the guard would say: it is charged to its budgets."""
        call, guard = self.begin(exchange)
        try:
            call.begins()
            if guard is not None:
                try:
                    yield from guard.owed(call)
                except Exception as failure:
                    self.telemetry.internal_error("charging what is rented", failure)
            return (yield from self._send(exchange, call, None))
        except BaseException as error:
            self._interrupted(call, error)
            raise

    def go_on(self, exchange: Exchange, call: Call) -> Flow:
        """Send what was held; it begins now."""
        call.start_ns, call.start_perf = time.time_ns(), time.perf_counter_ns()
        try:
            return (yield from self._send(exchange, call, None))
        except BaseException as error:
            self._interrupted(call, error)
            raise

    def _interrupted(self, call: Call, error: BaseException) -> None:
        """What is raised out of a flow is a refusal, by which the call has ended, or comes from a signal handler."""
        if call.finished:
            return
        self._leave(call)
        if call.sent:
            call.finish(None, outcome=names.ABANDONED, error=error)
        else:
            call.drop()

    def admit(
        self, guard: Guard, call: Call, ask: Callable[..., Generator[Step, Answer, None]], *arguments: Any
    ) -> Generator[Step, Answer, None]:
        """Ask the guard; a refusal is recorded and raised, and an internal error does as the policy says."""
        try:
            yield from ask(*arguments)
        except GuardrailViolation as refusal:
            self.contain("recording a refusal", self._refuse, guard, call, refusal)
            raise
        except Exception as failure:
            self.telemetry.internal_error("guarding a call", failure)
            if guard.policy.on_internal_error != "block":
                self.telemetry.faults.passed(guarded=False, measured=True)
            else:
                undecided = _undecided()
                self.contain("recording a refusal", self._refuse, guard, call, undecided)
                raise undecided from failure

    def _refuse(self, guard: Guard, call: Call, refusal: GuardrailViolation) -> None:
        # A request that can no longer be changed is refused after a limit has said that it clamps.
        guard.decide(call, refusal.rule, names.BLOCK)
        self._start_span(call, native=False)
        call.finish(None, outcome=names.BLOCKED, error=refusal)

    def _match(self, guard: Guard, exchange: Exchange, call: Call) -> Place | None:
        """Find the call's rules, and where they let identical calls share, its place in their flight."""
        matched = guard.match(call)
        if matched.share is None or not guard.enforces:
            return None
        if (kind := exchange.shared_as) is None:
            call.attributes[names.CACHE_RULE] = matched.share.name
            call.attributes[names.CACHE_RESULT] = names.SKIP
            call.attributes[names.CACHE_REASON] = names.WIRE
            return None
        from tokenguard.answers.key import origin

        asked_by, share, whose = exchange.asked_by, matched.share.name, matched.share_key
        by = kind if asked_by is None else origin(asked_by)

        def join() -> Place:
            said = {key: value for key, value in call.request.items() if key != "stream"}  # not saying it is saying no
            what = (call.endpoint, call.api.id, call.stream, identity(said))
            flight = guard.flights.join((share, whose, by, *what), share, by_object=asked_by is None)
            flight.late = kind is LATER
            if flight.leads:
                flight.board(call)
            return flight

        if kind is LATER:
            call.joins = join
            return None
        return join()

    def _send(self, exchange: Exchange, call: Call, guard: Guard | None) -> Flow:
        """Send the request inside its span, and see to the answer."""
        try:
            self._open(exchange, call)
        except Exception as failure:
            self.telemetry.internal_error("opening a call", failure)
        call.sent = True
        answer = yield SEND
        if guard is not None and (kept := call.look_up) is not None and (kept.served or kept.whole is not None):
            answer = yield from self._given(guard, exchange, call, kept, answer)
        if call.hide_usage and answer.error is not None and self._refused_option(call, answer.error):
            exchange.replace_body(call.request)
            call.hide_usage = False
            answer = yield SEND
        if guard is not None and call.rerouted is not None:
            answer = yield from self._fitted(guard, exchange, call, call.rerouted, answer)
        try:
            self._close(exchange, call, answer)
        except Exception as failure:
            self.telemetry.internal_error("closing a call", failure)
        return answer

    def attempt(self, call: Call) -> Flow:
        """One attempt at a call, `SEND`, of an SDK whose own loop makes them: each but the first is a resend."""
        if call.attempt_billed is None:
            answer = yield SEND
        else:
            answer = yield from self.resent(call, None, billed=call.attempt_billed)
        call.attempt_billed = may_be_billed(answer.error)
        return answer

    def resent(self, call: Call, error: BaseException | None, *, billed: bool | None = None) -> Flow:
        """The SDK's own way to another attempt, `SEND`, after one that ended with `error`.

        Raises the guard's refusal: a resend is a request of its own, and where the attempt before it may be billed, it
        needs room of its own, too. `billed` says that where the error is not known any more.
        """
        guard, billed = call.guard, may_be_billed(error) if billed is None else billed
        if guard is not None:
            try:
                yield from guard.resend(call, billed)
            except GuardrailViolation as refusal:
                call.attempt_billed = billed
                raise refusal from error
            except Exception as failure:
                self.telemetry.internal_error("guarding a resend", failure)
                if self.guard is not None and self.guard.policy.on_internal_error == "block":
                    raise _undecided() from failure
        self.contain("seeing a resend", call.resending, billed)
        return (yield SEND)

    def _given(self, guard: Guard, exchange: Exchange, call: Call, kept: LookUp, answer: Answer) -> Flow:
        """The kept answer; where it could not be used, or not be completed, the provider's."""
        if kept.whole is not None:
            call.change(exchange, kept.whole)
            again = guard.resend(call, True)
            call.resending(True)
        elif isinstance(answer.error, Exception) and interrupt(answer.error) is None:
            guard.match(call)
            again = guard.admit(call, exchange)
        else:
            return answer
        kept.forget(call)
        asked = yield from self._asked_again(call, again, "sending what was not kept well")
        return (yield SEND) if asked else answer

    def _escalated(self, guard: Guard, exchange: Exchange, first: Call, answer: Answer) -> Flow:
        """The answer; where it fails a check of its route, that of the larger model, which is a call of its own."""
        if answer.error is not None or not first.finished:
            return answer
        try:
            why = yield from guard.failure(first)
        except Exception as failure:
            self.telemetry.internal_error("checking an answer", failure)
            return answer
        begun = None if why is None else self.contain("beginning a call", self.begin, exchange)
        call, its_guard = begun or (None, None)
        if why is None or call is None or its_guard is None:
            return answer
        try:
            call.begins()
            if first.flight is not None:
                first.flight.board(call)
            if not self.contain("escalating a call", its_guard.escalate, call, first, exchange, why):
                call.drop()
                return answer
            yield from self.admit(its_guard, call, its_guard.admit, call, exchange)
            larger = yield from self._send(exchange, call, its_guard)
        except GuardrailViolation:
            return answer  # it is recorded, and the caller has an answer
        except BaseException as error:
            self._interrupted(call, error)
            raise
        return answer if isinstance(larger.error, Exception) else larger

    def _asked_again(self, call: Call, admission: Generator[Step, Answer, None], where: str) -> Asking:
        """Ask the guard within a call's span, for another request than the first; false where it failed."""
        try:
            yield from admission
        except GuardrailViolation as refusal:
            self._leave(call)
            call.finish(None, outcome=names.BLOCKED, error=refusal)
            raise
        except Exception as failure:
            self.telemetry.internal_error(where, failure)
            return False
        return True

    def _fitted(self, guard: Guard, exchange: Exchange, call: Call, other: Rerouted, answer: Answer) -> Flow:
        """The answer to what the guard made of the request; where the provider refuses it, to the caller's own."""
        while other.falls_back and other.changes and refuses(answer, UNFIT):
            again = guard.reconsider(call, exchange)
            if not (yield from self._asked_again(call, again, "sending the caller's own request")):
                return answer
            if call.look_up is not None:
                call.look_up.incoming, call.look_up.merges = None, False  # another request than was looked up
            call.attributes[names.REQUEST_MODEL] = call.model or ""
            call.span.rename(_start_of(call.api.operation, call.endpoint, call.model, call.stream)[0])
            if call.hide_usage:
                _ask_usage(exchange, call)
            answer = yield SEND
        if other.refused and not refuses(answer, UNFIT):
            guard.accepted(call)
        return answer

    def look(self, look: Callable[..., T | None], *arguments: Any) -> T | None:
        """What a seam finds a request to be: `None` for no model call, and where looking fails."""
        try:
            return look(*arguments)
        except Exception as failure:
            self.telemetry.internal_error("looking at a request", failure)
            self._unguarded()
            return None

    def _unguarded(self) -> None:
        """A call of which nothing is known goes out, or is refused, if the policy says so."""
        if self.guard is not None and self.guard.policy.on_internal_error == "block":
            raise _undecided()
        self.telemetry.faults.passed(guarded=self.guard is None, measured=False)

    def contain(self, where: str, step: Callable[..., T], *arguments: Any) -> T | None:
        """Run a step of our own: if it fails, that is noted, and the user's call goes on."""
        try:
            return step(*arguments)
        except Exception as failure:
            self.telemetry.internal_error(where, failure)
            return None

    def _open(self, exchange: Exchange, call: Call) -> None:
        """Start the span, and make it and the call current while the request is sent."""
        kept = call.look_up is not None and call.look_up.answer is not None
        # Where it is kept, no span of the SDK's own, which would tell of tokens that nobody has used.
        self._start_span(call, native=not kept and exchange.native_span)
        if call.stream and not kept and call.api.include_usage and self.usage_option.asks(call):
            _ask_usage(exchange, call)
            call.hide_usage = True
        current_call.set(call)
        make_current(call.span.context)

    def _close(self, exchange: Exchange, call: Call, answer: Answer) -> None:
        """Undo what `_open` made current, and see what came of the request."""
        self._leave(call)
        self._answered(exchange, call, answer)

    def _leave(self, call: Call) -> None:
        """Make current again what was so before.

        A coroutine that is thrown away may be closed in another context, where nothing is ours to change.
        """
        if current_call.get() is call:
            current_call.set(None)
        if call.outer is not None and current() is call.span.context:
            make_current(call.outer)  # not `detach`, which logs and swallows what a signal handler raises

    def _answered(self, exchange: Exchange, call: Call, answer: Answer) -> None:
        error = answer.error
        if error is None:
            try:
                reading = exchange.read(answer.value, call)
            except Exception as failure:
                if interrupt(failure) is None:
                    call.finish(None)
                raise failure from None
            if reading is None:
                return
            if reading.complete or reading.id is None:
                call.finish(reading)
                if call.api.rental is not None:
                    self.rents.keep(call, reading)
            else:
                self.pending.keep(reading.id, call)
        elif isinstance(error, Exception) and interrupt(error) is None:
            call.finish(None, outcome=names.ERROR, error=error)
            call.span.let_go()  # mistralai 2 forgets the span of a request that had no answer
        else:  # cancelled, or the interpreter is stopping: nobody waits for the answer any more
            call.finish(None, outcome=names.ABANDONED, error=error)

    def _refused_option(self, call: Call, error: BaseException) -> bool:
        """Whether the provider refused the `stream_options` we added; such a host is not asked again."""
        said = f"{error} {getattr(error, 'text', '')}"  # litellm has the provider's words there
        refused = getattr(error, "status_code", None) in (400, 422) and (
            "stream_options" in said or "include_usage" in said
        )
        if refused:
            self.usage_option.refused(call.endpoint.host)
        return refused

    # --- begin -------------------------------------------------------------------------------------------------------

    def begin(self, exchange: Exchange) -> tuple[Call, Guard | None]:
        """Make the call: whose it is, what it asks for, and whether it has been tried before; and who guards it."""
        guard = self.guard
        call = Call(self.settling, exchange)
        if scope.hooks.on_call is not None:
            guard = scope.hooks.on_call(call, self.settling, guard)
        call.guard = guard
        api, body = call.api, call.request
        attributes = call.attributes
        if guard is not None:
            guard.attribute(call)
        call.output_cap = cap = api.output_cap(body)
        if cap is not None:
            attributes[names.REQUEST_MAX_TOKENS] = cap
        settings = api.settings_of(body) if api.settings else body
        if "temperature" in settings and isinstance(temperature := settings["temperature"], (int, float)):
            attributes[names.REQUEST_TEMPERATURE] = float(temperature)
        if steps := api.tool_steps(body):
            call.tool_steps = steps + self.settling.repeats.steps_before(body.get(api.goes_on_from))
            attributes[names.TOOL_STEPS] = call.tool_steps
        note_call_site(attributes)
        if call.model is None and api.chosen_by:
            call.served_before = self.settling.repeats.model_of(*map(body.get, api.chosen_by))
        call.asked = request, is_plain = snapshot(api.id, call.endpoint.provider, body)
        if is_plain and guard is not None:
            call.said = request.said()
            call.size = request.size() if call.said is None else None
            if request.nested:
                call.written = request.written()
        if request.weight > MAX_SNAPSHOT:
            _ = call.fingerprint  # and the request is let go of
        elif is_plain:
            call.snapshot = request
        repeats = self.settling.repeats
        if repeats.failures and (before := repeats.before(call.fingerprint, call.start_perf)) is not None:
            call.retried = before
            attributes[names.RETRY_ATTEMPT] = before.times
        return call, guard

    def _start_span(self, call: Call, native: bool | trace.Span) -> None:
        name, start = _start_of(call.api.operation, call.endpoint, call.model, call.stream)
        call.attributes.update(start)
        parent = call.outer = current()
        owner = outer_owner(parent, start)
        if owner is not None and owner is not native:
            own = functools.partial(self.telemetry.spans.start, name, parent, start, call.start_ns)
            call.span = OuterSpan(owner, parent, own)
            call.span.write(start)
        elif native:
            call.span = NativeSpan(parent) if native is True else HeldSpan(native, parent)
        else:
            span = self.telemetry.spans.start(name, parent, start, call.start_ns)
            if call.rerouted is not None and call.rerouted.after is not None:
                span.add_link(call.rerouted.after)
            call.span = CallSpan(span, silencing(with_span(span, parent)), len(start))


def _ask_usage(exchange: Exchange, call: Call) -> None:
    options = call.request.get("stream_options") or {}
    exchange.replace_body({**call.request, "stream_options": {**options, "include_usage": True}})


@functools.lru_cache(maxsize=1024)
def _start_of(
    operation: str, endpoint: Endpoint, model: str | None, stream: bool
) -> tuple[str, Mapping[str, AttributeValue]]:
    """The name of a call's span, and what it starts with; the same object for calls alike."""
    start: dict[str, AttributeValue] = {
        names.OPERATION: operation,
        names.PROVIDER: endpoint.provider,
        names.SERVER_ADDRESS: endpoint.host,
        names.SERVER_PORT: endpoint.port,
    }
    if model is not None:
        start[names.REQUEST_MODEL] = model
    if stream:
        start[names.REQUEST_STREAM] = True
    return operation if model is None else f"{operation} {model}", start


def _undecided() -> GuardrailViolation:
    return GuardrailViolation(
        'TokenGuard itself failed, and the policy says on_internal_error = "block": the call was not sent. The log has '
        "the cause.",
        rule="on_internal_error",
    )
