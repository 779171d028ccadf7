"""The one path that every call takes.

```text
seam -> begin (whose, what, fingerprint) -> guard (limits, budgets) -> span -> SEND -> received or failed
     -> settle (usage, price, span, records, budgets)
```

Only this module starts spans and contains internal errors: whatever fails in here is noted, and the user's call goes
on. The flow is a generator that yields what must happen outside, so that it is written once; `drive` and `drive_async`
run it. A seam hands in an `Exchange`, and for a response that is read later its tap ends the `Call`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar, Union

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from tokenguard import names, scope
from tokenguard.call import COST_ATTRIBUTES, USAGE_ATTRIBUTES, AttributeValue, CallRecord, Cost
from tokenguard.callsite import call_site
from tokenguard.errors import GuardrailViolation
from tokenguard.pending import Pending
from tokenguard.prices import STANDARD, PriceBook, Tier, as_reported
from tokenguard.providers import Api, Endpoint, Reading, rpc
from tokenguard.repeats import Failure, Repeats, fingerprint, identity
from tokenguard.spans import NO_SPAN, CallSpan, HeldSpan, NativeSpan, OuterSpan, outer_owner, silencing
from tokenguard.telemetry import Finished, Telemetry
from tokenguard.usage import Usage

if TYPE_CHECKING:  # what is not guarded imports no guard
    from concurrent.futures import Future

    from tokenguard.content import Capture
    from tokenguard.flights import Place
    from tokenguard.guard import Guard
    from tokenguard.ledger import Ledger, Reservation
    from tokenguard.policy import Matched
    from tokenguard.tokens import Bound

T = TypeVar("T")

SEND: Final = "send"
"""What the flow yields where the SDK's own send belongs."""

Step = Union[str, "tuple[Ledger, Callable[..., Any], tuple[Any, ...]]", "Future[Any]"]
"""What a flow yields: `SEND`, a ledger's operation with its arguments, or an answer that somebody else is getting."""


class Answer(NamedTuple):
    """What came of a step that the flow asked for."""

    value: Any = None
    error: BaseException | None = None

    def copied(self) -> Answer:
        """The same answer for another caller: nothing that one of them changes is the other's."""
        import copy

        error = self.error
        if error is None:
            return Answer(copy.deepcopy(self.value))
        # Not by `copy`: the exceptions of many SDKs cannot be made from their own `args` alone.
        twin = type(error).__new__(type(error), *error.args)
        twin.args = error.args
        twin.__dict__.update(error.__dict__)
        twin.__cause__, twin.__context__ = error.__cause__, error.__context__
        twin.__suppress_context__ = error.__suppress_context__
        return Answer(error=twin.with_traceback(error.__traceback__))


class Exchange(Protocol):
    """What a seam tells of one request, and what it can do for it."""

    api: Api
    endpoint: Endpoint
    body: Mapping[str, Any]
    stream: bool

    @property
    def native_span(self) -> bool | trace.Span:
        """Whether the SDK will start a GenAI span of its own for this request; the span, where it has started it."""
        ...

    @property
    def shared_as(self) -> object:
        """What identical requests must agree on to share an answer; `None` where an answer cannot be shared."""
        ...

    def replace_body(self, body: Mapping[str, Any]) -> None:
        """Send this body instead."""
        ...

    def cap_retries(self, most: int) -> None:
        """Let the SDK send the request again this often at the most."""
        ...

    def read(self, result: Any, call: Call) -> Reading | None:
        """What the SDK's result says; `None` when it is yet to be read, and a tap will finish the call."""
        ...


class Call:
    """A call in flight: begun, and finished exactly once."""

    __slots__ = (
        "_meter",
        "_open",
        "answer",
        "api",
        "attributes",
        "attribution",
        "begun",
        "billed_resends",
        "bound",
        "corrected",
        "counted",
        "endpoint",
        "entered",
        "fingerprint",
        "guard",
        "hide_usage",
        "matched",
        "model",
        "output_cap",
        "request",
        "resends",
        "reservation",
        "retried",
        "scope",
        "served_before",
        "span",
        "start_ns",
        "start_perf",
        "stream",
    )

    def __init__(self, meter: Meter, exchange: Exchange) -> None:
        self.start_ns = time.time_ns()
        self.start_perf = time.perf_counter_ns()
        self._meter = meter
        self._open = True
        self.api = exchange.api
        self.endpoint = exchange.endpoint
        self.request = exchange.body
        self.stream = exchange.stream
        self.scope = scope.current()
        self.attribution = self.scope.attribution
        self.attributes: dict[str, AttributeValue] = {}
        self.fingerprint = ""
        self.hide_usage = False
        """Whether the stream's usage chunk is there only because we asked, and is kept from the caller."""
        model = exchange.body.get("model")
        self.model: str | None = model if isinstance(model, str) else None
        self.served_before: str | None = None
        """The model that has answered there before, where the request names none: an agent's."""
        self.resends = 0
        self.billed_resends = 0
        self.begun = False
        """Whether its answer had begun to come in before the call ended."""
        self.retried: Failure | None = None
        """How this very request has failed before."""
        self.output_cap: int | None = None
        self.answer: object = None
        """The response, or the events of its stream, where its content is to be recorded."""
        self.span: CallSpan = NO_SPAN
        self.entered: tuple[Token[Call | None], Token[Any]] | None = None
        """What undoes making the call and its span current."""
        self.guard = meter.guard
        """The guard at the call's start sees it to its end, whatever policy is in force by then."""
        # The guard's notes:
        self.matched: Matched | None = None
        self.reservation: Reservation | None = None
        self.bound: Bound | None = None
        self.counted: int | None = None
        self.corrected: int | None = None
        """The input tokens as counted, and, where that is not exact, by the ratio that was learnt."""

    @property
    def priced_as(self) -> str | None:
        """The model whose prices tell what the call may come to."""
        return self.model or self.served_before

    @property
    def finished(self) -> bool:
        """Whether the call has ended."""
        return not hasattr(self, "_open")

    def change(self, exchange: Exchange, body: Mapping[str, Any]) -> None:
        """Send this body instead of the caller's."""
        exchange.replace_body(body)
        self.request = body
        self.bound = self.counted = self.corrected = None
        self.output_cap = self.api.output_cap(body)

    def read(self, response: object) -> Reading:
        """What a response says, decoded JSON or the SDK's model of it."""
        if self._meter.capture is not None:
            self.answer = response
        return self.api.read(response)

    def heard(self, events: bytes) -> None:
        """What a stream has said, which is over."""
        if self._meter.capture is not None:
            self.answer = events

    def repeated_within(self, seconds: float) -> int:
        """How often this very request has failed lately, by the application's own repeats."""
        failed = self.retried
        return failed.times if failed is not None and self.start_perf - failed.last_ns < seconds * 1e9 else 0

    def resending(self, error: BaseException | None) -> None:
        """The SDK is about to send the request again: after `error`, or after the provider refused it."""
        self.resends += 1
        self.billed_resends += may_be_billed(error)

    def failed(self, where: str, error: Exception) -> None:
        """Note an internal error on the call's way."""
        self._meter.telemetry.internal_error(where, error)

    def finish(
        self,
        reading: Reading | None,
        *,
        outcome: str = names.OK,
        error: BaseException | str | None = None,
        first_chunk_ns: int | None = None,
        generated: Callable[[], str] | None = None,
    ) -> None:
        """End the call, once; later calls do nothing. Never raises, except in strict mode.

        `generated` gives the text that a stream has brought, for an estimate where its usage never came.
        """
        try:
            del self._open  # atomic: a stream may be closed by one thread and collected in another
        except AttributeError:
            return
        if reading is not None and reading.error is not None:  # the provider's word goes first
            outcome, error = names.ERROR, reading.error
        try:
            self._meter.settle(self, reading or Reading(), outcome, error, first_chunk_ns, generated)
        except Exception as failure:
            self._meter.telemetry.internal_error("finishing a call", failure)


current_call: ContextVar[Call | None] = ContextVar("tokenguard_call", default=None)
"""The call that an SDK is sending right now, for the hooks that watch it from inside."""


class Meter:
    """Measures calls: begins them, reads what came back, prices it, and hands the records on."""

    def __init__(
        self,
        telemetry: Telemetry,
        prices: PriceBook,
        guard: Guard | None = None,
        *,
        include_usage: bool = True,
        capture: Capture | None = None,
    ) -> None:
        self.telemetry = telemetry
        self.prices = prices
        self.capture = capture
        self.guard = guard
        """The policy at work; `None` when there is nothing to guard. Replaced as a whole."""
        self.include_usage = include_usage
        self.repeats = Repeats()
        self.pending = Pending(telemetry.flush)
        self._refusing_hosts: set[str] = set()
        """Hosts that refused a request because of the option we had added."""

    # --- the flow ----------------------------------------------------------------------------------------------------

    def flow(self, exchange: Exchange) -> Generator[Step, Answer, Answer]:
        """One call from start to answer."""
        call = self.contain("beginning a call", self._begin, exchange)
        if call is None:
            self._unguarded()
            return (yield SEND)
        guard = call.guard
        if guard is None:
            return (yield from self._send(exchange, call))
        flight = self.contain("matching a call", self._match, guard, exchange, call)
        if flight is not None and not flight.leads:
            shared: Answer | None = (yield flight.answer).value
            own = None if shared is None else self.contain("copying an answer", shared.copied)
            if own is not None:
                return own
        answer: Answer | None = None
        try:
            yield from self._admit(guard, exchange, call)
            answer = yield from self._send(exchange, call)
            return answer
        finally:
            if flight is not None and flight.leads:
                if flight.followers:
                    self.contain("counting a flight", self._count_followers, call, flight.followers)
                # Where no answer came (the leader was cancelled, or refused), each follower goes by itself.
                flight.land(answer if answer is not None and isinstance(answer.error, Exception | None) else None)

    def _admit(self, guard: Guard, exchange: Exchange, call: Call) -> Generator[Step, Answer, None]:
        """Ask the guard; a refusal is recorded and raised, and an internal error does as the policy says."""
        try:
            yield from guard.admit(call, exchange)
        except GuardrailViolation as refusal:
            self.contain("recording a refusal", self._refuse, call, refusal)
            raise
        except Exception as failure:
            self.telemetry.internal_error("guarding a call", failure)
            if guard.policy.on_internal_error == "block":
                undecided = _undecided()
                self.contain("recording a refusal", self._refuse, call, undecided)
                raise undecided from failure

    def _refuse(self, call: Call, refusal: GuardrailViolation) -> None:
        self._start_span(call, native=False)
        call.finish(None, outcome=names.BLOCKED, error=refusal)

    def _match(self, guard: Guard, exchange: Exchange, call: Call) -> Place | None:
        """Find the call's rules, and where they let identical calls share, its place in their flight."""
        matched = guard.match(call)
        if matched.share is None or not guard.enforces or (kind := exchange.shared_as) is None:
            return None
        return guard.flights.join((matched.share_key, call.endpoint, call.api.id, identity(call.request), kind))

    def _count_followers(self, call: Call, followers: int) -> None:
        cost = call.attributes.get(names.COST)
        if isinstance(cost, float):
            facts = {names.PROVIDER: call.endpoint.provider, names.RESPONSE_MODEL: call.model or "", **call.attributes}
            self.telemetry.count_saved("single_flight", facts, cost * followers)

    def _send(self, exchange: Exchange, call: Call) -> Generator[Step, Answer, Answer]:
        """Send the request inside its span, and see to the answer."""
        self.contain("opening a call", self._open, exchange, call)
        answer = yield SEND
        if call.hide_usage and answer.error is not None and self._refused_option(call, answer.error):
            exchange.replace_body(call.request)
            call.hide_usage = False
            answer = yield SEND
        self.contain("closing a call", self._close, exchange, call, answer)
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
        """Refuse what cannot be guarded, if the policy says so."""
        if self.guard is not None and self.guard.policy.on_internal_error == "block":
            raise _undecided()

    def contain(self, where: str, step: Callable[..., T], *arguments: Any) -> T | None:
        """Run a step of our own: if it fails, that is noted, and the user's call goes on."""
        try:
            return step(*arguments)
        except Exception as failure:
            self.telemetry.internal_error(where, failure)
            return None

    def _open(self, exchange: Exchange, call: Call) -> None:
        """Start the span, and make it and the call current while the request is sent."""
        self._start_span(call, exchange.native_span)
        if call.stream and call.api.include_usage and self.include_usage:
            self._ask_usage(exchange, call)
        call.entered = (current_call.set(call), otel_context.attach(call.span.context))

    def _close(self, exchange: Exchange, call: Call, answer: Answer) -> None:
        """Undo what `_open` made current, and see what came of the request."""
        try:
            # A coroutine that is thrown away may be closed in another context, where the tokens are errors.
            if call.entered is not None and type(answer.error) is not GeneratorExit:
                entered, attached = call.entered
                call.entered = None
                otel_context.detach(attached)
                current_call.reset(entered)
        finally:
            self._answered(exchange, call, answer)

    def _answered(self, exchange: Exchange, call: Call, answer: Answer) -> None:
        error = answer.error
        if error is None:
            try:
                reading = exchange.read(answer.value, call)
            except Exception as failure:
                call.finish(None)
                raise failure from None
            if reading is None:
                return
            if reading.complete or reading.id is None:
                call.finish(reading)
            else:
                self.pending.keep(reading.id, call)
        elif isinstance(error, Exception):
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
            self._refusing_hosts.add(call.endpoint.host)
        return refused

    # --- begin -------------------------------------------------------------------------------------------------------

    def _begin(self, exchange: Exchange) -> Call:
        """Start the call: whose it is, what it asks for, and whether it has been tried before."""
        call = Call(self, exchange)
        if scope.on_call is not None:
            scope.on_call(call, self)
        api, body = call.api, call.request
        attributes = call.attributes
        attributes.update(call.scope.attributes)
        if call.guard is not None:
            call.guard.attribute(call)
        call.output_cap = api.output_cap(body)
        if call.output_cap is not None:
            attributes[names.REQUEST_MAX_TOKENS] = call.output_cap
        if isinstance(temperature := api.settings_of(body).get("temperature"), (int, float)):
            attributes[names.REQUEST_TEMPERATURE] = float(temperature)
        if steps := api.tool_steps(body):
            attributes[names.TOOL_STEPS] = steps + self.repeats.steps_before(body.get(api.goes_on_from))
        attributes.update(call_site())
        if call.model is None and api.chosen_by:
            call.served_before = self.repeats.model_of(*map(body.get, api.chosen_by))
        call.fingerprint = fingerprint(api.id, call.endpoint.provider, body)
        attributes[names.FINGERPRINT] = call.fingerprint
        call.retried = self.repeats.before(call.fingerprint, call.start_perf)
        if call.retried is not None:
            attributes[names.RETRY_ATTEMPT] = call.retried.times
        return call

    def _ask_usage(self, exchange: Exchange, call: Call) -> None:
        """Have the provider tell a stream's usage where it would not by itself."""
        options = call.request.get("stream_options") or {}
        if not options.get("include_usage") and call.endpoint.host not in self._refusing_hosts:
            exchange.replace_body({**call.request, "stream_options": {**options, "include_usage": True}})
            call.hide_usage = True

    def _start_span(self, call: Call, native: bool | trace.Span) -> None:
        endpoint = call.endpoint
        start: dict[str, AttributeValue] = {
            names.OPERATION: call.api.operation,
            names.PROVIDER: endpoint.provider,
            names.SERVER_ADDRESS: endpoint.host,
            names.SERVER_PORT: endpoint.port,
        }
        name = call.api.operation
        if call.model is not None:
            start[names.REQUEST_MODEL] = call.model
            name = f"{name} {call.model}"
        if call.stream:
            start[names.REQUEST_STREAM] = True
        call.attributes.update(start)
        parent = otel_context.get_current()
        owner = outer_owner(parent, start)
        if owner is not None and owner is not native:
            call.span = OuterSpan(owner, parent)
        elif native:
            call.span = NativeSpan(name, parent) if native is True else HeldSpan(native, name, parent)
        else:
            span = self.telemetry.tracer.start_span(
                name, parent, SpanKind.CLIENT, start, start_time=call.start_ns, record_exception=False
            )
            call.span = CallSpan(span, silencing(trace.set_span_in_context(span, parent)))

    # --- settle ------------------------------------------------------------------------------------------------------

    def settle(
        self,
        call: Call,
        reading: Reading,
        outcome: str,
        error: BaseException | str | None,
        first_chunk_ns: int | None,
        generated: Callable[[], str] | None,
    ) -> None:
        """Write down what came of the call, end its span and hand the record on."""
        duration = time.perf_counter_ns() - call.start_perf
        usage: Usage | None = None
        cost: Cost | None = None
        try:
            _describe(call, reading, error, first_chunk_ns)
            cost, usage = self._price(call, reading, outcome, error, generated)
            _describe_money(call, cost, usage)
            if call.guard is not None:
                self.contain("settling a budget", call.guard.settle, call, reading.usage, cost, outcome, error)
            if self.capture is not None and outcome != names.BLOCKED:
                self.contain("recording content", self.capture.record, call)
            self._remember(call, reading, outcome, error, cost)
        finally:
            span = call.span
            span.end(call.attributes, outcome)
            record = CallRecord(call.start_ns, duration, outcome, call.attributes, usage=usage, cost=cost)
            if call.scope.meters:
                record.trace_id, record.span_id = span.ids()
                for each in call.scope.meters:
                    each.add(record)
            self.telemetry.put(Finished(record, span.identity(), span.owned))

    def _price(
        self,
        call: Call,
        reading: Reading,
        outcome: str,
        error: BaseException | str | None,
        generated: Callable[[], str] | None,
    ) -> tuple[Cost | None, Usage | None]:
        """The cost and the usage it stands for; no cost where the provider refused the call, and bills nothing."""
        if outcome == names.BLOCKED:
            return None, None
        usage = reading.usage
        basis = None
        if usage is None or (usage.output is None and generated is not None):
            if generated is None and isinstance(error, BaseException) and not may_be_billed(error):
                return None, None
            basis = "abandoned_stream" if outcome == names.ABANDONED and generated else "missing_usage"
            if generated is None and isinstance(error, BaseException):
                basis = "timed_out" if isinstance(error, Exception) else "cancelled"
            from tokenguard.tokens import estimate_request, estimate_tokens  # the seams have loaded it

            known = usage or Usage()
            usage = known._replace(
                input=estimate_request(call.api.id, call.request, call.model) if known.input is None else known.input,
                output=estimate_tokens(generated(), call.model) if generated is not None else None,
            )
        tier = Tier(reading.service_tier, reading.speed) if reading.service_tier or reading.speed else STANDARD
        cost = self.prices.cost(
            call.endpoint.provider, (reading.model, call.priced_as), usage, tier=tier, at_ns=call.start_ns, basis=basis
        )
        if reading.reported_cost is not None and basis is None and call.endpoint.provider in REPORT_COSTS:
            cost = as_reported(cost, reading.reported_cost)
        if reading.extra_fees and cost.status == names.EXACT:
            cost = cost._replace(status=names.ESTIMATED, basis="tool_fees_excluded")
        if not reading.complete and outcome != names.OK and cost.status == names.EXACT:  # xAI counts along the way
            unread = "abandoned_stream" if outcome == names.ABANDONED else "missing_usage"
            cost = cost._replace(status=names.ESTIMATED, basis=unread)
        # An estimate prices the call; it is not what the provider reported, so it is not recorded as usage.
        return cost, (reading.usage if basis else usage)

    def _remember(
        self, call: Call, reading: Reading, outcome: str, error: BaseException | str | None, cost: Cost | None
    ) -> None:
        if outcome == names.OK:
            self.repeats.succeeded(call.fingerprint)
            steps = call.attributes.get(names.TOOL_STEPS, 0)
            if call.api.chosen_by and (model := reading.model or call.priced_as) is not None:
                self.repeats.served(model, reading.conversation, *map(call.request.get, call.api.chosen_by))
            named = reading.conversation or reading.id
            if named is not None and (steps or reading.tool_calls) and call.api.goes_on_from:
                self.repeats.stepped(named, int(steps))  # type: ignore[arg-type] # it is an int
        elif error is not None and outcome != names.BLOCKED:  # a stream that its reader closed early is no failure
            spent = cost.total if cost is not None and cost.total is not None else 0.0
            self.repeats.failed(call.fingerprint, call.start_perf, spent)


def _describe(call: Call, reading: Reading, error: BaseException | str | None, first_chunk_ns: int | None) -> None:
    attributes = call.attributes
    if reading.model is not None:
        attributes[names.RESPONSE_MODEL] = reading.model
    if reading.id is not None:
        attributes[names.RESPONSE_ID] = reading.id
    if reading.conversation is not None:
        attributes[names.CONVERSATION_ID] = reading.conversation
    if reading.finish_reasons:
        attributes[names.FINISH_REASONS] = reading.finish_reasons
    if reading.tool_calls:
        attributes[names.TOOL_CALLS] = reading.tool_calls
    if first_chunk_ns is not None:
        attributes[names.TIME_TO_FIRST_CHUNK] = (first_chunk_ns - call.start_perf) / 1e9
    if error is not None:
        attributes[names.ERROR_TYPE] = error if isinstance(error, str) else type_name(error)
    if call.resends:
        attributes[names.RESEND_COUNT] = call.resends


def _describe_money(call: Call, cost: Cost | None, usage: Usage | None) -> None:
    attributes = call.attributes
    if usage is not None:
        for field, name in USAGE_ATTRIBUTES.items():
            tokens = getattr(usage, field)
            if tokens is not None:
                attributes[name] = tokens
    if cost is not None:
        for name, value in zip(COST_ATTRIBUTES, cost, strict=True):
            if value is not None:
                attributes[name] = value
        if usage is not None and usage.cache_read is None and usage.cache_write is None:
            # Nothing is known of a cache: its parts would be zeros that nobody reported.
            for name in CACHE_ATTRIBUTES:
                attributes.pop(name, None)
        # What repeating has cost: failed attempts at this request, and resends after the SDK stopped waiting, each of
        # which the provider is taken to have worked on as long as on the one that was answered.
        retry_cost = (call.retried.cost if call.retried else 0.0) + call.billed_resends * (cost.total or 0.0)
        if retry_cost:
            attributes[names.RETRY_COST] = retry_cost


REPORT_COSTS = frozenset({"openrouter", "x_ai"})
"""Providers whose word for what a call cost is taken; elsewhere a field of that name may mean something else."""

CACHE_ATTRIBUTES = (names.COST_CACHE_READ, names.COST_CACHE_WRITE, names.COST_SAVED)

BILLED_FAILURES = frozenset(
    {
        *("ReadTimeout", "ReadError", "RemoteProtocolError"),  # httpx
        *("SocketTimeoutError", "ServerDisconnectedError", "ClientPayloadError"),  # aiohttp
        *("ReadTimeoutError", "AioReadTimeoutError", "ConnectionClosedError", "ResponseStreamingError"),  # botocore
        *("IncompleteReadError", "ProtocolError"),  # the same, and urllib3 below it
    }
)
"""Transport errors after which the provider has the request and may go on with it."""


def _undecided() -> GuardrailViolation:
    return GuardrailViolation(
        'TokenGuard itself failed, and the policy says on_internal_error = "block": the call was not sent. The log has '
        "the cause.",
        rule="on_internal_error",
    )


def may_be_billed(error: BaseException | None) -> bool:
    """Whether a call that ended like this may be on the bill: it was sent, and its answer was not waited for."""
    if error is None:
        return False
    if not isinstance(error, Exception) or type(error) is TimeoutError:  # aiohttp's, for the request as a whole
        return True
    if rpc.code_of(error) in rpc.UNWAITED:
        return True
    return any(type(each).__name__ in BILLED_FAILURES for each in (error, error.__cause__, error.__context__))


class Refused(Exception):
    """The provider refused the request, as a seam sees it that gets the response before the SDK raises its error."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status_code = status


def type_name(error: BaseException) -> str:
    """`error.type` of an exception: its qualified name, `openai.RateLimitError`; or a refusal's status, `429`.

    Of an error of gRPC, whose classes tell nothing, its code: `UNAVAILABLE`.
    """
    if (code := rpc.code_of(error)) is not None:
        return code
    kind = type(error)
    if kind is Refused:
        return str(error.status_code)  # type: ignore[attr-defined] # it is one
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


# --- drivers ---------------------------------------------------------------------------------------------------------


def drive(flow: Generator[Step, Answer, Answer], send: Callable[[], Any]) -> Any:
    """Run a flow around a synchronous send; returns its value or raises its error."""
    step = next(flow)
    while True:
        try:
            answer = Answer(send() if step is SEND else _done(step))
        except BaseException as error:
            answer = Answer(error=error)
        try:
            step = flow.send(answer)
        except StopIteration as end:
            answer = end.value
            break
    if answer.error is None:
        return answer.value
    try:
        raise answer.error
    finally:
        del answer  # or the error's traceback would keep this frame, and this frame the error


async def drive_async(flow: Generator[Step, Answer, Answer], send: Callable[[], Awaitable[Any]]) -> Any:
    """`drive` for a coroutine."""
    step = next(flow)
    while True:
        try:
            answer = Answer(await (send() if step is SEND else _done_async(step)))
        except BaseException as error:
            answer = Answer(error=error)
        try:
            step = flow.send(answer)
        except StopIteration as end:
            answer = end.value
            break
    if answer.error is None:
        return answer.value
    try:
        raise answer.error
    finally:
        del answer


def _done(step: Any) -> Any:
    if type(step) is tuple:
        _, operation, arguments = step
        return operation(*arguments)
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        return None  # who leads may need this very thread to go on: then each goes by itself
    return step.result()


async def _done_async(step: Any) -> Any:
    if type(step) is tuple:
        ledger, operation, arguments = step
        return await ledger.run(operation, *arguments)
    import asyncio

    # Shielded: a follower that is cancelled must not cancel the answer of the others.
    return await asyncio.shield(asyncio.wrap_future(step))
