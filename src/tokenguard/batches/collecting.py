"""The results of a job as they are read: a record for each line that nobody has recorded, attributed to the creator.

Pieces of whole lines go to the drain while the caller reads on; there, off the caller's path, lines are claimed in the
store, priced in the tier `batch`, counted and kept. A span a file has the sums.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind

from tokenguard.batches.held import settle
from tokenguard.call import scope
from tokenguard.facts import names
from tokenguard.facts.record import COST_ATTRIBUTES, USAGE_ATTRIBUTES, AttributeValue, CallRecord, Cost
from tokenguard.facts.usage import Usage
from tokenguard.ledger import nano
from tokenguard.metering.settling import price
from tokenguard.providers import Endpoint, Reading
from tokenguard.providers.batches import RESULTS, Request, Result, api_of_line, objects, result_of
from tokenguard.providers.reading import believable
from tokenguard.telemetry.metrics import Finished

if TYPE_CHECKING:
    from tokenguard.call.scope import Measurement
    from tokenguard.metering.meter import Meter
    from tokenguard.store.jobs import Group, Job, Jobs

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
    """Whole lines of a file of results."""

    collection: Collection
    data: bytes
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


class Line(NamedTuple):
    """A line of results with what it came to."""

    result: Result
    reading: Reading
    operation: str
    cost: Cost | None
    """`None` where nothing is billed."""
    saved: float
    """USD less than by the standard rates."""


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

    def _look(self) -> None:
        """Whether this is a file of results: any file may be read at the same path."""
        head = self._buffer[:LOOKED_AT]
        self._is_results = self._request.kind == RESULTS or (head.lstrip()[:1] == b"{" and b'"custom_id"' in head)

    def _put(self, data: bytes, *, last: bool, complete: bool = False) -> None:
        self._batches.meter.telemetry.put(Piece(self, data, last, complete))

    # --- the drain ---------------------------------------------------------------------------------------------------

    def take(self, piece: Piece) -> Iterator[Finished]:
        """The calls of a piece that nobody has recorded yet."""
        from tokenguard.store.jobs import Charge

        jobs = self._batches.jobs
        job = self._job = self._job or self._known()
        lines = {result.custom_id: self._read(job, result) for result in map(result_of, objects(piece.data)) if result}
        charges = [Charge(name, *self._charge(job, line)) for name, line in lines.items()]
        new = jobs.claim(job.id, charges)
        at_ns = job.ended_ns or self._start_ns
        for name, line in lines.items():
            if name in new:
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

    def _read(self, job: Job, result: Result) -> Line:
        body = result.body
        api = None if body is None else api_of_line(job.provider, job.endpoint, body)
        if body is None or api is None:
            operation = job.groups[0].operation if job.groups else "chat"
            return Line(result, Reading(), operation, None if body is None else Cost(), 0.0)
        reading = api.read(body)
        if not believable(reading.usage):
            reading = reading._replace(usage=None, parts=())
        if reading.usage is None:
            return Line(result, reading, api.operation, Cost(), 0.0)
        prices, at_ns = self._batches.meter.settling.prices, job.ended_ns or self._start_ns
        group = _group(job, reading.model)
        asked = (group.model if group else None, reading._replace(service_tier="batch"), reading.usage, at_ns)
        cost = price(prices, self._endpoint, *asked)
        plain = price(prices, self._endpoint, asked[0], reading._replace(service_tier=None), reading.usage, at_ns)
        if cost.status == names.EXACT and (reading.extra_fees or reading.by_total):
            basis = "tool_fees_excluded" if reading.extra_fees else "output_by_total"
            cost = cost._replace(status=names.ESTIMATED, basis=basis)
        saved = (plain.total - cost.total) if plain.total is not None and cost.total is not None else 0.0
        return Line(result, reading, api.operation, cost, saved)

    def _charge(self, job: Job, line: Line) -> tuple[str | None, int, int]:
        """For the budgets: the line's model as it was held for, nano-dollars and tokens."""
        group = _group(job, line.reading.model)
        usage, cost = line.reading.usage, line.cost
        model = group.model if group else line.reading.model
        if cost is None:
            return model, 0, 0
        if cost.total is not None and usage is not None:
            return model, nano(cost.total, up=True), usage.total
        # What is not known is charged as it was held.
        if group is None or not group.lines:
            return model, 0, 0
        return model, -(-(group.nano or 0) // group.lines), (group.input + group.output) // group.lines

    def _finished(self, job: Job, line: Line, at_ns: int) -> Finished:
        attributes = self._attributes(job, line)
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
        record = CallRecord(at_ns, 0, outcome, attributes, usage=usage, cost=cost)
        context = self._started(job, line.operation).get_span_context()
        for each in self._batches.meters_of(job.id):
            each.add(record)
        if line.saved:
            self._batches.meter.telemetry.metrics.count_saved("batch", attributes, line.saved)
        return Finished(record, context, histograms=False)

    def _attributes(self, job: Job, line: Line) -> dict[str, AttributeValue]:
        reading, group = line.reading, _group(job, line.reading.model)
        attributes: dict[str, AttributeValue] = {
            **(job.attributes or self._scope),
            names.OPERATION: line.operation,
            names.PROVIDER: job.provider,
            names.SERVER_ADDRESS: self._endpoint.host,
            names.SERVER_PORT: self._endpoint.port,
            names.BATCH_ID: job.id,
            names.BATCH_CUSTOM_ID: line.result.custom_id,
        }
        if group is not None and group.model is not None:
            attributes[names.REQUEST_MODEL] = group.model
        if group is not None and group.cap is not None:
            attributes[names.REQUEST_MAX_TOKENS] = group.cap
        told: dict[str, AttributeValue | None] = {
            names.RESPONSE_MODEL: reading.model,
            names.RESPONSE_ID: reading.id,
            names.FINISH_REASONS: reading.finish_reasons,
            names.TOOL_CALLS: reading.tool_calls,
            names.ERROR_TYPE: line.result.error,
        }
        attributes.update({name: value for name, value in told.items() if value})
        return attributes | money(reading.usage, line.cost)

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
        if complete and self._has_all(job):
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


def _group(job: Job, model: str | None) -> Group | None:
    """The group of a job that an answer belongs to: its model's, by the name that was asked or a dated one of it."""
    if len(job.groups) == 1:
        return job.groups[0]
    near = [group for group in job.groups if model is not None and group.model and model.startswith(group.model)]
    return max(near, key=lambda group: len(group.model or ""), default=None)


def money(usage: Usage | None, cost: Cost | None) -> dict[str, AttributeValue]:
    """Usage and cost as attributes."""
    found: dict[str, AttributeValue] = {}
    if usage is not None:
        counts = ((name, getattr(usage, count)) for count, name in USAGE_ATTRIBUTES.items())
        found.update({name: tokens for name, tokens in counts if tokens is not None})
    if cost is not None:
        found.update({name: value for name, value in zip(COST_ATTRIBUTES, cost, strict=True) if value is not None})
        if usage is None or (usage.cache_read is None and usage.cache_write is None):
            for name in (names.COST_CACHE_READ, names.COST_CACHE_WRITE, names.COST_SAVED):
                found.pop(name, None)
    return found
