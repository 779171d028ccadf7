"""The results of a job as they are read: a record for each line that nobody has recorded, attributed to the creator.

They are in a file, or in what the job says of itself. Pieces of whole lines go to the drain while the caller reads on;
there, off the caller's path, lines are claimed in the store, priced in the tier `batch`, counted and kept. A span a
file has the sums.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind

from tokenguard.batches.held import settle
from tokenguard.batches.lines import Line, attributes, charge, money, read_line
from tokenguard.call import scope
from tokenguard.facts import names
from tokenguard.facts.record import AttributeValue, CallRecord, Cost
from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import Usage
from tokenguard.providers import Endpoint
from tokenguard.providers.batches import RESULTS, Request, objects
from tokenguard.telemetry.metrics import Finished

if TYPE_CHECKING:
    from tokenguard.call.scope import Measurement
    from tokenguard.metering.meter import Meter
    from tokenguard.store.jobs import Job, Jobs

PIECE: Final = 2**18
"""Bytes that go to the drain at once."""
LOOKED_AT: Final = 4096
"""Of a file's first bytes, where a file of results names a line."""


class Noted(NamedTuple):
    """Work of the drain's that brings no calls."""

    work: Callable[[], object]

    def resolve(self) -> Iterable[Finished]:
        """Do it."""
        self.work()
        return ()


class Whole:
    """The content of a response as one JSON value, for who wants it when the application has read it."""

    def __init__(self, use: Callable[[object], object]) -> None:
        self._use = use
        self._read = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._read += chunk

    def over(self, complete: bool) -> None:
        """Hand it on, where it is whole."""
        read, self._read = self._read, bytearray()
        if complete and read:
            self._use(json.loads(read))


class Home(Protocol):
    """Where jobs are known (`watching.Batches`)."""

    meter: Meter

    @property
    def jobs(self) -> Jobs:
        """The store's jobs."""
        ...

    def meters_of(self, job: str) -> tuple[Measurement, ...]:
        """The `meter()`s that a job was created in."""
        ...


class Piece(NamedTuple):
    """Some of the results."""

    collection: Collection
    data: bytes | list[Mapping[str, Any]]
    """Whole lines of a file, or the lines themselves."""
    last: bool
    complete: bool

    def resolve(self) -> Iterable[Finished]:
        """The calls that nobody has recorded yet."""
        return self.collection.take(self)


@dataclass(slots=True)
class Sums:
    """What the new lines of a file came to together."""

    lines: int = 0
    usage: Usage | None = None
    cost: Cost | None = None
    models: set[str] = field(default_factory=set)


class Collection:
    """One reading of a file of results."""

    def __init__(self, batches: Home, request: Request, endpoint: Endpoint, context: Context) -> None:
        self._batches = batches
        self._request = request
        self._endpoint = endpoint
        self._context = context
        self._start_ns = time.time_ns()
        self._scope = scope.current().attributes
        """Whose the lines are taken to be, where nobody knows who created the job."""
        self._buffer = bytearray()
        self._is_results: bool | None = None
        self._over = False
        # Of the drain:
        self._job: Job | None = None
        self._found = False
        self._sums = Sums()
        self._span: Span | None = None

    # --- the caller's side -------------------------------------------------------------------------------------------

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        if self._is_results is False:
            return
        self._buffer += chunk
        if self._is_results is None and (len(self._buffer) >= LOOKED_AT or b"\n" in self._buffer):
            self._look()
        if len(self._buffer) >= PIECE and (end := self._buffer.rfind(b"\n") + 1):
            self._put(bytes(self._buffer[:end]), last=False)
            del self._buffer[:end]

    def over(self, complete: bool) -> None:
        """There are no more: the file's end, or its reader has stopped."""
        if self._over:
            return
        self._over = True
        if self._is_results is None:
            self._look()
        if self._is_results:
            rest = bytes(self._buffer) if complete else bytes(self._buffer[: self._buffer.rfind(b"\n") + 1])
            self._put(rest, last=True, complete=complete)
        self._buffer.clear()

    def all_of(self, lines: list[Mapping[str, Any]]) -> None:
        """Take the results that a job holds itself."""
        self._put(lines, last=True, complete=True)

    def _look(self) -> None:
        """Whether this is a file of results: any file may be read at the same path."""
        head, mark = self._buffer[:LOOKED_AT], self._request.api.mark
        self._is_results = self._request.kind == RESULTS or (head.lstrip()[:1] == b"{" and mark in head)

    def _put(self, data: bytes | list[Mapping[str, Any]], *, last: bool, complete: bool = False) -> None:
        self._batches.meter.telemetry.put(Piece(self, data, last, complete))

    # --- the drain ---------------------------------------------------------------------------------------------------

    def take(self, piece: Piece) -> Iterator[Finished]:
        """The calls of a piece that nobody has recorded yet."""
        jobs, api = self._batches.jobs, self._request.api
        prices = self._batches.meter.settling.prices
        job = self._job = self._job or self._known()
        at_ns = job.ended_ns or self._start_ns
        said = objects(piece.data) if isinstance(piece.data, bytes) else piece.data
        results = (result for each in said if (result := api.result(each)) is not None)
        lines = [read_line(api, result, job, self._endpoint, prices, at_ns) for result in results]
        self._found = self._found or bool(lines)
        new = jobs.claim(job.id, [charge(job, line) for line in lines])
        for line in lines:
            if line.result.custom_id in new:
                new.discard(line.result.custom_id)
                yield self._finished(job, line, at_ns)
        if piece.last:
            self._close(job, piece.complete)

    def _known(self) -> Job:
        """The job, as far as it is known here."""
        from tokenguard.store.jobs import Job

        jobs, name = self._batches.jobs, self._request.id
        if self._request.kind != RESULTS:
            name = jobs.of_file(name) or name
        return jobs.find(name) or Job(name, self._endpoint.provider, self._start_ns, self._endpoint.host)

    def _finished(self, job: Job, line: Line, at_ns: int) -> Finished:
        said = {**(job.attributes or self._scope), **attributes(job, line, self._endpoint)}
        usage, cost = line.reading.usage, line.cost
        sums = self._sums
        sums.lines += 1
        if usage is not None:
            sums.usage = usage if sums.usage is None else sums.usage.plus(usage)
        if cost is not None:
            sums.cost = cost if sums.cost is None else sums.cost.plus(cost)
        if line.reading.model:
            sums.models.add(line.reading.model)
        outcome = names.ERROR if line.result.error else names.OK
        record = CallRecord(at_ns, 0, outcome, said, usage=usage, cost=cost)
        context = self._started(job, line.operation).get_span_context()
        for each in self._batches.meters_of(job.id):
            each.add(record)
        if line.saved:
            self._batches.meter.telemetry.metrics.count_saved("batch", said, line.saved)
        return Finished(record, context, histograms=False)

    # --- the span ----------------------------------------------------------------------------------------------------

    def _started(self, job: Job, operation: str) -> Span:
        if self._span is None:
            start: dict[str, AttributeValue] = {
                names.OPERATION: operation,
                names.PROVIDER: job.provider,
                names.BATCH_ID: job.id,
                **(job.attributes or self._scope),
            }
            tracer = self._batches.meter.telemetry.tracer
            self._span = tracer.start_span("batch", self._context, SpanKind.CLIENT, start, start_time=self._start_ns)
        return self._span

    def _close(self, job: Job, complete: bool) -> None:
        """The end of the file: its span ends, and what budgets hold for the job is settled."""
        if (span := self._span) is not None:
            sums = self._sums
            span.set_attribute(names.BATCH_LINES, sums.lines)
            if len(sums.models) == 1:
                model = next(iter(sums.models))
                span.set_attribute(names.RESPONSE_MODEL, model)
                span.update_name(f"batch {model}")
            span.set_attributes(money(sums.usage, sums.cost))
            span.end()
        if complete and self._found and self._has_all(job):
            self._collected(job)

    def _has_all(self, job: Job) -> bool:
        """Whether this is the file that holds every answer: not that of the errors."""
        return self._request.kind == RESULTS or self._request.id != job.errors

    def _collected(self, job: Job) -> None:
        jobs, held = self._batches.jobs, []

        def change(known: Job | None) -> Job:
            known = known or job
            held.extend(known.held)
            known.held = []
            known.collected_ns = known.collected_ns or time.time_ns()
            known.open = False
            return known

        jobs.update(job.id, change)
        settle(self._batches.meter.guard, held, jobs.sums(job.id))
