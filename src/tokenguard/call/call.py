"""A call in flight, and the exchange that a seam hands in for it."""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol

from opentelemetry import trace
from opentelemetry.context import Context

from tokenguard.call import scope
from tokenguard.call.open import Watching, open_calls
from tokenguard.call.repeats import Failure
from tokenguard.facts import names
from tokenguard.facts.record import AttributeValue, Cost
from tokenguard.facts.usage import Usage
from tokenguard.inputs.request import fingerprint
from tokenguard.process.interrupts import interrupt
from tokenguard.providers import Api, ByHeaders, Endpoint, Headers, Reading, by_headers
from tokenguard.providers.events import BEGINS, in_lines, whole_answer
from tokenguard.providers.reading import Later, failure_of, fields, later
from tokenguard.telemetry.spans import NO_SPAN, CallSpan

if TYPE_CHECKING:  # what is not guarded loads no policy and no ledger
    from opentelemetry.trace import SpanContext

    from tokenguard.call.flow import Answer, Step
    from tokenguard.call.kept import Flying, LookUp
    from tokenguard.inputs.request import Request
    from tokenguard.ledger import Reservation
    from tokenguard.policy import Matched, Route
    from tokenguard.tokens import Bound


class Settling(Protocol):
    """Who ends a call: prices it, ends its span, and hands its record on."""

    captures: bool
    """Whether the call is to keep what was answered, for its content to be recorded."""

    def waits(self, call: Call) -> bool:
        """Whether nobody wants to know at once what the answer to this unguarded call says."""
        ...

    def settle(
        self,
        call: Call,
        reading: Reading,
        outcome: str,
        error: BaseException | str | None,
        first_chunk_ns: int | None,
        generated: Callable[[], str] | None,
    ) -> None:
        """End the call; asked once."""
        ...

    def internal_error(self, where: str, error: BaseException) -> None:
        """Note an internal error; raises only in strict mode."""
        ...


class Guarding(Protocol):
    """Who has admitted a call, and charges it at its end."""

    def give_back(self, call: Call) -> None:
        """Nothing was sent: what was reserved for it is free."""
        ...

    def release(self, call: Call) -> Generator[Step, Answer, None]:
        """The same before anything else is reserved."""
        ...

    def resend(self, call: Call, billed: bool) -> Generator[Step, Answer, None]:
        """Count a resend, and hold its worst case where the attempt before it may be billed; or raise a refusal."""
        ...

    def settle(
        self,
        call: Call,
        usage: Usage | None,
        charged: Usage | None,
        cost: Cost | None,
        outcome: str,
        error: BaseException | str | None,
    ) -> None:
        """Charge what the call came to: `charged`, which is the reported `usage` or an estimate."""
        ...


class AskedBy:
    """What an answer depends on besides the body.

    `headers` are those of the client and of the request, of which what only tells one sending from another does not
    count. `more` is what else there is: the query, the texts that a client was made with; its `repr` counts. `merges`
    says whether an answer to a part of the request can be completed below the SDK. `clients` are HTTP clients, one of
    which sends it: what it adds counts, too.
    """

    __slots__ = ("clients", "headers", "merges", "more", "origin", "url")

    def __init__(
        self,
        url: str,
        headers: Iterable[Mapping[Any, Any] | None] = (),
        more: object = None,
        merges: bool = False,
        clients: tuple[Any, ...] = (),
    ) -> None:
        self.url = url
        self.headers = headers
        self.more = more
        self.merges = merges
        self.clients = clients
        self.origin: bytes | None = None
        """The same in bytes, once somebody has asked for them: it may be that of many requests."""


class Rerouted:
    """What the guard has put in the place of the caller's choice, and a provider may refuse: a model, an option."""

    __slots__ = ("after", "checked", "falls_back", "option", "original", "refused", "sent")

    def __init__(self, original: str) -> None:
        self.original = original
        self.sent = original
        """The model that the request goes out with."""
        self.option = ""
        """The key of a setting that the caller has not asked for."""
        self.falls_back = True
        """Whether the caller's own request is sent where the provider refuses it as it was changed."""
        self.refused: tuple[str, ...] = ()
        """The models and options with which the provider has refused it."""

        self.checked: Route | None = None
        """The route by which the answer is looked at, and the call may be made again with a larger model."""
        self.after: SpanContext | None = None
        """The call whose answer has failed, where this one is made for it."""

    @property
    def changes(self) -> tuple[str, ...]:
        """The other model, and the option, of the request as it goes out."""
        model = (self.sent,) if self.sent != self.original else ()
        return (*model, self.option) if self.option else model


def _itself(reading: Reading) -> Reading:
    return reading


HEARD: Final = Reading()
"""What a call is told of an answer that is read later."""
LATER: Final = object()
"""What an exchange is shared as that is sent when its answer is first read."""


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
        """`None` where an answer cannot be shared by calls under way; else what identical requests must agree on.

        That is asked only where an answer is no bytes (`asked_by`), and each caller gets a copy of the SDK's object.
        """
        ...

    @property
    def asked_by(self) -> AskedBy | None:
        """What an answer depends on besides the body: the address, the credential, the headers.

        `None` where an answer cannot be given back: by a wire that is not HTTP, say.
        """
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

    # Most of these stay as they are for most calls, so they are the class's until they change.
    snapshot: Request | None = None
    """The request as it was when the call began; `None` where it is no plain data, or too large to keep."""
    size: int | None = None
    """Bytes of the request as `marshal` writes it, for the guard; `None`: it is no plain data, or `said` is told."""
    said: tuple[str, int] | None = None
    """The key of the request's messages and the bytes that they say; `None` where they are more than texts."""
    written: Mapping[str, bytes] | None = None
    """The request's tools, and what else is not flat, as `marshal` writes it, for the guard; where that is known."""
    reads_later: bool = False
    """Whether it is the application that reads the body of the answer, though that is no stream."""
    hide_usage: bool = False
    """Whether the stream's usage chunk is there only because we asked, and is kept from the caller."""
    on_told: Callable[[bool], None] | None = None
    """Wants to know whether a complete stream told its usage unasked."""
    served_before: str | None = None
    """The model that has answered there before, where the request names none: an agent's."""
    resends: int = 0
    billed_resends: int = 0
    attempt_billed: bool | None = None
    """Whether the last attempt may be billed without an answer, where that is told; `None` before one has ended."""
    sent: bool = False
    """Whether it has been handed to the SDK to be sent."""
    begun: bool = False
    """Whether its answer had begun to come in before the call ended."""
    asked: tuple[Request, bool] | None = None
    """The request, and whether it is all plain data, until somebody asks for its fingerprint."""
    _fingerprint: str = ""
    by_headers: ByHeaders | None = None
    """What a gateway says of its answer in the headers, if it says anything."""
    retried: Failure | None = None
    """How this very request has failed before."""
    output_cap: int | None = None
    tool_steps: int = 0
    """Tool rounds since the last word of the user."""
    action: str = "allow"
    """The strongest decision of the guard so far."""
    wants_cost: bool = False
    """Whether somebody asks what it came to as soon as it has ended."""
    cost: Cost | None = None
    """That, where somebody does; `None` where it is not on any bill."""
    answer: object = None
    """The response, or the events of its stream, where its content is to be recorded."""
    later: Later | None = None
    """The answer, where that can wait to be read."""
    answered: object = None
    """The response, for what was generated where it does not say how much."""
    span: CallSpan = NO_SPAN
    outer: Context | None = None
    """The OpenTelemetry context around the call."""
    reader: weakref.ref[Watching] | None = None
    """The watch on its answer, where that is yet to be read."""
    handed_on: int = 0
    """How much of its end has been handed on: for the settling."""
    guard: Guarding | None = None
    """The guard at the call's start sees it to its end, whatever policy is in force by then."""
    # The guard's notes:
    look_up: LookUp | None = None
    """What became of looking for a kept answer; `None` where no rule has answers kept."""
    joins: Callable[[], Flying | None] | None = None
    """Finds its place among those that get one answer, where it is sent later: when its answer is first read."""
    flight: Flying | None = None
    """Its place among identical calls under way; `None` where no rule has them share."""
    matched: Matched | None = None
    reservation: Reservation | None = None
    """Its worst case, in budgets of money and tokens."""
    resends_held: tuple[Reservation, ...] = ()
    """The worst case of each resend after an attempt that may be billed."""
    turn: Reservation | None = None
    """The one call, in budgets of calls."""
    bound: Bound | None = None
    counted: int | None = None
    corrected: int | None = None
    """The input tokens as counted, and, where that is not exact, by the ratio that was learnt."""
    rerouted: Rerouted | None = None
    most_output: int | None = None
    """The output tokens that were reserved."""

    def __init__(self, settling: Settling, exchange: Exchange) -> None:
        self.start_ns = time.time_ns()
        self.start_perf = time.perf_counter_ns()
        self._settling = settling
        self._open = True
        self.api = exchange.api
        self.endpoint = exchange.endpoint
        self.request = exchange.body
        self.stream = exchange.stream
        self.scope = scope.current()
        self.attribution, attributes, _ = self.scope
        self.attributes: dict[str, AttributeValue] = {**attributes}
        model = self.request.get("model")
        self.model: str | None = model if isinstance(model, str) else None

    def begins(self) -> None:
        """It is open from here on: somebody sees to its end, or the process's end does."""
        open_calls[id(self)] = self

    @property
    def fingerprint(self) -> str:
        """16 hex digits, equal for equal requests; empty where the request is not known. Found when somebody asks."""
        if (asked := self.asked) is not None:
            self._fingerprint = self.attributes[names.FINGERPRINT] = fingerprint(*asked)
            self.asked = None
        return self._fingerprint

    @property
    def priced_as(self) -> str | None:
        """The model whose prices tell what the call may come to."""
        return self.model or self.served_before or self.api.default_model or None

    @property
    def finished(self) -> bool:
        """Whether the call has ended."""
        return not hasattr(self, "_open")

    def change(self, exchange: Exchange, body: Mapping[str, Any]) -> None:
        """Send this body instead of the caller's."""
        exchange.replace_body(body)
        self.request = body
        self.bound = self.counted = self.corrected = self.size = self.said = self.written = None
        self.output_cap = self.api.output_cap(body)

    def read(self, response: object) -> Reading:
        """What a response says, decoded JSON or the SDK's model of it.

        An SDK hands on as text what is called no JSON, and a gateway may stream what it was not asked to.
        """
        if type(response) is str:
            body = response.encode("utf-8", "replace")
            if BEGINS.search(body):
                return self.api.fold(in_lines(body))
            response = whole_answer(body) or response
        if self._settling.captures or (self.rerouted is not None and self.rerouted.checked is not None):
            self.answer = response
        return self._seen(self.api.read(response), response)

    def hear(self, response: object) -> Reading:
        """What a response says, or `HEARD`: nobody wants to know at once, and it is read `later`."""
        if self.guard is not None or type(response) is str or not self._settling.waits(self):
            return self.read(response)
        api = self.api
        said = api.hear(response)
        if isinstance(said, Reading):
            if (api.goes_on_from and said.tool_calls) or not said.can_wait(generates=api.generates):
                return self._seen(said, response)
            said = later(_itself, said)
        self.later = said
        return HEARD

    def _seen(self, reading: Reading, response: object) -> Reading:
        if reading.usage is None and reading.error is None and (failure := failure_of(fields(response))) is not None:
            return reading._replace(error=failure)
        if reading.complete:
            self.answered = response
        return reading

    def came_with(self, headers: Headers | None) -> None:
        """See what a gateway says of the answer in its headers: that it had kept it, what it takes it to cost."""
        if headers is None:
            return
        try:
            self.by_headers = by_headers(self.endpoint, headers, stream=self.stream)
        except Exception as failure:  # the answer itself is to be read all the same
            self.internal_error("looking at a gateway's headers", failure)

    def keep_stream(self, events: bytes) -> None:
        """The events of a stream that is over."""
        if self._settling.captures:
            self.answer = events

    def repeated_within(self, seconds: float) -> int:
        """How often this very request has failed lately, by the application's own repeats."""
        failed = self.retried
        return failed.times if failed is not None and self.start_perf - failed.last_ns < seconds * 1e9 else 0

    def resending(self, billed: bool) -> None:
        """The SDK is about to send the request again, after an attempt that may be billed, or was refused."""
        self.resends += 1
        self.billed_resends += billed

    def internal_error(self, where: str, error: Exception) -> None:
        """Note an internal error on the call's way."""
        self._settling.internal_error(where, error)

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

        `generated` gives the text that the answer has brought, for an estimate where its usage never came.
        """
        if reading is not None and reading.error is not None:  # the provider's word goes first
            outcome, error = names.ERROR, reading.error
        if generated is None and self.answered is not None and self.api.generates:
            generated = self._generated
        try:
            del self._open  # atomic: a stream may be closed by one thread and collected in another
        except AttributeError:
            return
        try:  # nothing of ours is called between the two: a signal handler could raise there
            open_calls.pop(id(self), None)
            self._settle(reading, outcome, error, first_chunk_ns, generated)
        except BaseException as raised:
            if interrupt(raised) is not None or not isinstance(raised, Exception):
                # A signal handler's: what is left is done, and the program gets what it has raised.
                open_calls.pop(id(self), None)
                self._settle(reading, outcome, error, first_chunk_ns, generated)
            raise

    def _generated(self) -> str:
        return self.api.words.answered_text(self.answered)

    def _settle(
        self,
        reading: Reading | None,
        outcome: str,
        error: BaseException | str | None,
        first_chunk_ns: int | None,
        generated: Callable[[], str] | None,
    ) -> None:
        try:
            self._settling.settle(self, reading or Reading(), outcome, error, first_chunk_ns, generated)
        except Exception as failure:
            self._settling.internal_error("finishing a call", failure)

    def drop(self) -> None:
        """The call was interrupted before it was sent: it leaves no record, and nothing reserved."""
        try:
            del self._open
        except AttributeError:
            return
        try:
            self._give_back()
        except BaseException:  # a signal handler's
            self._give_back()
            raise

    def _give_back(self) -> None:
        open_calls.pop(id(self), None)
        if self.guard is not None:
            self.guard.give_back(self)

    def abandon(self) -> None:
        """Nobody will read the rest of its answer, or wait for it."""
        watch = None if self.reader is None else self.reader()
        if watch is not None:
            watch.over(GeneratorExit())
        elif self.sent:
            self.finish(None, outcome=names.ABANDONED)
        else:
            self.drop()

    def disown(self) -> None:
        """In a forked child: to end it is the parent's."""
        with contextlib.suppress(AttributeError):
            del self._open


current_call: ContextVar[Call | None] = ContextVar("tokenguard_call", default=None)
"""The call that an SDK is sending right now, for the hooks that watch it from inside."""
