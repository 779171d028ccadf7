"""From finished calls to metrics and the local store, off the caller's path.

A call's span ends where the call ends. Its metrics and its row in the store are made elsewhere: the record goes on a
queue, and the queue is drained by a thread a moment later, and by OpenTelemetry's own collection before every read of
the metrics, so nothing that is read is ever behind.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from opentelemetry import metrics, trace
from opentelemetry.trace import SpanContext, SpanKind

from tokenguard import __version__
from tokenguard.facts import names
from tokenguard.facts.record import AttributeValue, CallRecord, Record, TaskRecord
from tokenguard.process import ends, signals
from tokenguard.process.ends import Stage, at_end
from tokenguard.process.forks import at_fork
from tokenguard.process.interrupts import interrupt
from tokenguard.process.log import Log
from tokenguard.process.native import RLock
from tokenguard.process.threads import Worker
from tokenguard.telemetry.conventions import profile
from tokenguard.telemetry.delivery import Delivery
from tokenguard.telemetry.faults import Faults
from tokenguard.telemetry.metrics import EMPTY, MAX_VALUES, SCOPE, Finished, Metrics
from tokenguard.telemetry.spans import hex_ids
from tokenguard.telemetry.templates import Spans

if TYPE_CHECKING:  # it is loaded with the first SDK
    from tokenguard.inputs.look import Looker

log = Log("tokenguard")

DRAIN_SECONDS = 0.2
"""How long a record waits; what `kill -9` finds waiting is lost. Each drain puts other things into the processor's
caches than calls have there: with 0.05 a call took a tenth to a fifth more CPU."""
MANY = 256
"""Records that wait for no more to come."""
HEAVY = 2**22
"""Bytes of the requests that wait for no more to come."""
LOOKED_AT = 512
"""Records that wait with their request; past it, their requests are not looked at."""
RECENT = 2048
"""Records that are kept until it is known whether the OTLP endpoint takes any; as many as wait for it themselves."""
QUEUE_LENGTH = 65_536
"""Records that wait for the drain; past it the oldest are dropped, and counted."""


_new: Final = tuple.__new__


class Sink(Protocol):
    """Where records are kept: the local store."""

    dropped: int
    """Records that it could not keep."""

    def write(self, records: Sequence[Record]) -> None:
        """Keep the records; may raise."""
        ...

    def hurry(self) -> None:
        """The process ends: wait for nobody, in a batch under way neither."""
        ...

    def finish(self) -> None:
        """Write what still waits, and let go of what is open; may raise."""
        ...


class Deferred(Protocol):
    """Something that calls are found out from, off the caller's path: what came of a batch."""

    def resolve(self) -> Iterable[Finished]:
        """The calls; may raise."""
        ...


class Telemetry:
    """The queue, the sums and the instruments of this process."""

    def __init__(
        self,
        sink: Callable[[], Sink | None] = lambda: None,
        instead: Callable[[], Callable[[], Sink] | None] = lambda: None,
        *,
        max_values: int = MAX_VALUES,
    ) -> None:
        self.tracer = trace.get_tracer(SCOPE, __version__, schema_url=names.SCHEMA_URL)
        self.spans = Spans(self.tracer)
        self.profile = profile(os.environ.get(names.ENV_SEMCONV))
        self.dropped = 0
        """Records lost because the drain could not keep up."""
        self.faults = Faults()
        """What failed inside: observation swallowed it."""
        self._warned: set[str] = set()
        self.looker: Looker | None = None
        """What finds out what the requests say; set by whoever installs, as it takes a while to load."""
        self._make_sink = sink
        self._instead = instead
        self.delivery = Delivery(self._undelivered, self.flush)
        self.metrics = Metrics(
            self.flush,
            self._contained,
            dropped=self._lost,
            failures=lambda: self.faults.count,
            max_values=max_values,
            profile=self.profile,
        )
        self._worker = Worker("tokenguard-drain", self.flush, gather_s=DRAIN_SECONDS, brief=True)
        self._reset()
        at_end(Stage.RECORDS, self._finish)
        at_fork(self._forked)

    def _reset(self) -> None:
        self._queue: deque[Finished | TaskRecord | Deferred] = deque(maxlen=QUEUE_LENGTH)
        self._weight = 0
        """Bytes of the requests in it, about: threads may add to it at the same time."""
        self._lock = self.metrics.lock = RLock()
        self._here = 0
        """What `ends.here` said to who has the lock."""
        self._started = False
        self._sink: Sink | None = None  # a connection does not survive a fork
        self._keeps = True
        self._make_instead: Callable[[], Sink] | None = None
        """Makes the sink of what is exported and does not arrive; `None` where nothing is, or is to be kept."""
        self._recent: deque[Record] = deque(maxlen=RECENT)

    # --- the caller's side: cheap, and it never raises -----------------------------------------------------------

    def put(self, item: Finished | TaskRecord | Deferred, weight: int = 0) -> None:
        """Take a finished call or task, or what calls are to be found out from; `weight`: bytes of its request."""
        if (waiting := len(self._queue)) > LOOKED_AT:
            if waiting == QUEUE_LENGTH:
                self.dropped += 1
            elif isinstance(item, Finished):
                if item.told is not None:
                    item.told()
                item = item._replace(snapshot=None, told=None)
        self._queue.append(item)
        self._weight += weight
        if not self._started:
            self._start()
        if ends.ending:
            self._finish()
        else:
            self._worker.wake(hurry=waiting > MANY or self._weight > HEAVY)

    def internal_error(self, where: str, error: BaseException) -> None:
        """Note an internal error: counted always, logged the first time for each step and once a minute.

        What a signal handler has raised is none of ours: it is raised again, for the program that wanted it.
        """
        if (raised := interrupt(error)) is not None:
            raise raised
        self.faults.note(where, error)
        if os.environ.get(names.ENV_STRICT) == "1":
            raise error

    def warn(self, said: str) -> None:
        """Say something in the log, once."""
        if said not in self._warned:
            self._warned.add(said)
            log.warning("tokenguard: %s", said)

    # --- the drain -----------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """At the first record: what is made late, so that programs without a call need not wait for it."""
        with self._lock:
            if not self._started:
                self.metrics.make()
                # Before the exit handlers of the OpenTelemetry SDK, which were registered before the first call.
                self.delivery.send_before((trace.get_tracer_provider(), metrics.get_meter_provider()))
                ends.call_last()
                signals.heed()
                self._started = True

    def flush(self) -> None:
        """Take everything off the queue: add it up, record it, store it. Safe from any thread."""
        if ends.goes_on(self._lock, self._here):
            return
        with self._lock:
            self._here = ends.here()
            signals.watch()
            self._drain()
            while self._queue and ends.ending:  # a stream was collected in the midst of it
                self._drain()

    def _drain(self) -> None:
        records: list[Record] = []
        self._weight = 0
        while True:
            try:
                item = self._queue.popleft()
            except IndexError:
                break
            try:
                if isinstance(item, Finished):
                    self._take(item, records)
                elif isinstance(item, TaskRecord):
                    records.append(item)
                    self.metrics.count_task(item)
                else:
                    for each in item.resolve():
                        self._take(each, records)
            except Exception as error:
                self._contained("recording metrics", error)
        try:
            self.metrics.add_up()
        except Exception as error:
            self._contained("recording metrics", error)
        self.faults.ledger_is(self.metrics.ledger_lost())
        records += self.faults.news(self._lost())
        try:
            self._keep(records)
        except Exception as error:
            self._contained("writing the local store", error)

    def _lost(self) -> int:
        """How many records were dropped, here and by the store."""
        return self.dropped + (0 if self._sink is None else self._sink.dropped)

    def _keep(self, records: list[Record]) -> None:
        """Write the records to the store; where they are exported instead, that is done once an export has failed."""
        if records and self._sink is None and self._keeps:
            self._sink = self._make_sink()
            if self._sink is None:
                self._keeps = False
                self._make_instead = self._instead()
                self.delivery.listen()
        if self._sink is None and self._make_instead is not None:
            self._recent.extend(records)
            if self.delivery.failed and self._recent:
                self._sink = self._make_instead()
                records = list(self._recent)
                self._recent.clear()
        if self._sink is not None and records:
            if ends.ending:
                self._sink.hurry()
            self._sink.write(records)

    def _undelivered(self) -> None:
        """What is exported does not arrive."""
        if ends.ending:
            self._finish()
        else:
            self._worker.wake()

    def _take(self, item: Finished, records: list[Record]) -> None:
        record = item.record
        if item.told is not None:
            item.told()
        record.trace_id, record.span_id = hex_ids(item.span)
        item = self._looked_at(item, records)
        records.append(item.record)
        self.metrics.count_call(item)

    def _looked_at(self, item: Finished, records: list[Record]) -> Finished:
        """A call with what its request says; where looking fails, as it was."""
        if self.looker is None or item.api is None or item.snapshot is None:
            return item
        try:
            seen = self.looker.look(item.record, item.api, item.snapshot)
        except Exception as error:
            self._contained("looking at a request", error)
            return item
        if seen.toolset is not None:
            records.append(seen.toolset)
        # Not in place: the record may be in the user's hands.
        its = item.record
        attributes = {**its.attributes, **seen.attributes}
        record = CallRecord(
            its.start_ns, its.duration_ns, its.outcome, attributes, its.trace_id, its.span_id, its.usage, its.cost
        )
        if names.BREAK_KIND in seen.attributes and item.span.trace_flags.sampled:
            self._show_break(record, item.span, seen.attributes)
        return _new(Finished, (record, item.span, item.histograms, None, None, None))

    def _show_break(self, record: CallRecord, span: SpanContext, seen: Mapping[str, AttributeValue]) -> None:
        """A span of its own below the call's, which has ended: nobody waits for what is found out here."""
        shown = {name: value for name, value in seen.items() if name.startswith(names.BREAK)}
        parent = trace.set_span_in_context(trace.NonRecordingSpan(span), EMPTY)
        own = self.tracer.start_span("cache_break", parent, SpanKind.INTERNAL, shown, start_time=record.start_ns)
        own.end(record.start_ns + record.duration_ns)

    def _finish(self) -> None:
        """The last drain of the process, after which the store's file is let go of."""
        if ends.goes_on(self._lock, self._here):
            return
        if self._sink is not None:
            self._sink.hurry()  # a drain that is waiting for another process has the lock
        self._worker.stop()
        self.flush()
        self.faults.tell_the_rest()
        with self._lock:
            self._here = ends.here()
            try:
                if self._sink is not None:
                    self._sink.finish()
            except Exception as error:
                self._contained("closing the local store", error)
            if self._queue:
                self._drain()

    def _forked(self) -> None:
        """What was queued belongs to the parent."""
        self.metrics.forget()
        self._reset()

    def _contained(self, where: str, error: Exception) -> None:
        """An error in the drain has no caller to reach, in strict mode either."""
        try:
            self.internal_error(where, error)
        except Exception:
            log.error("tokenguard: %s failed", where, exc_info=error)
