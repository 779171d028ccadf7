"""Batches as their SDK's requests pass: created under budgets, asked for, and collected.

A seam hands in each request that is a batch API's (`providers.batches.request_at`) as a `Sent`; the flow says what must
be waited for, as the meter's does for a call. What is found out takes place off the caller's path, in the drain.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from opentelemetry import context as otel_context

from tokenguard.batches import helper
from tokenguard.batches.collecting import Collection, Noted
from tokenguard.batches.creating import Sent, attributes_of, content_of, created, hear, taken_in
from tokenguard.batches.held import release
from tokenguard.batches.worth import Content
from tokenguard.call.flow import SEND, Flow
from tokenguard.call.scope import Measurement
from tokenguard.metering.meter import Meter
from tokenguard.process.forks import at_fork
from tokenguard.providers import Endpoint
from tokenguard.providers.batches import CREATE, FILE, JOB, JOBS, RESULTS, UPLOAD, Request, Seen, attribution_in
from tokenguard.providers.reading import text

if TYPE_CHECKING:
    from tokenguard.store.jobs import Group, Held, Job, Jobs

T = TypeVar("T")

REMEMBERED: Final = 32
"""Uploaded files whose lines are kept in this process, and jobs whose states are."""


class Batches:
    """The batches of this process."""

    def __init__(self, meter: Meter, path: Callable[[], str]) -> None:
        self.meter = meter
        self._path = path
        self._forget()
        helper.flush = meter.telemetry.flush
        at_fork(self._forget)

    def _forget(self) -> None:
        self._jobs: Jobs | None = None
        self.uploads: OrderedDict[str, Content] = OrderedDict()
        self._told: OrderedDict[str, Seen] = OrderedDict()
        self._meters: OrderedDict[str, tuple[Measurement, ...]] = OrderedDict()

    def meters_of(self, job: str) -> tuple[Measurement, ...]:
        """The `meter()`s that a job was created in, where that was in this process."""
        return self._meters.get(job, ())

    @property
    def jobs(self) -> Jobs:
        """The store's jobs; in this process alone, where there is no store."""
        if self._jobs is None:
            from tokenguard.store.jobs import Jobs

            self._jobs = Jobs(self._path())
        return self._jobs

    # --- what passes -------------------------------------------------------------------------------------------------

    def flow(self, sent: Sent) -> Flow:
        """One request to a batch API; any other file passes untouched."""
        kind, contain = sent.request.kind, self.meter.contain
        if kind == CREATE:
            return (yield from created(self, sent))
        content: Content | None = None
        if kind == UPLOAD:
            if not sent.uploads:
                return (yield SEND)
            content = (yield None, contain, ("reading a batch", content_of, self, sent)).value
        answer = yield SEND
        if answer.error is None:
            contain("watching a batch", self._answered, sent, answer.value, content)
        return answer

    def _answered(self, sent: Sent, result: Any, content: Content | None) -> None:
        kind = sent.request.kind
        if kind in (FILE, RESULTS):
            sent.collect(result, Collection(self, sent.request, sent.endpoint, otel_context.get_current()))
        elif kind == UPLOAD:
            if content is not None:
                hear(sent, result, partial(self._uploaded, sent, content))
        else:
            hear(sent, result, partial(self._told_of, sent))

    def _uploaded(self, sent: Sent, content: Content, said: object) -> None:
        name = text(sent.request.api.file(said))
        if name is not None:
            _remember(self.uploads, name, content)
            self.later(partial(self._keep_input, name, list(content.groups.values())))

    def _told_of(self, sent: Sent, said: object) -> None:
        kind, api = sent.request.kind, sent.request.api
        for job in api.jobs(said) if kind == JOBS else filter(None, [api.seen(said)]):
            self._asked(job, sent, api.held(said) if kind == JOB else [])

    def _asked(self, job: Seen, sent: Sent, held: list[Mapping[str, Any]]) -> None:
        if self._told.get(job.id) != job:
            _remember(self._told, job.id, job)
            self.later(partial(self._note, job, sent.endpoint))
            if held:
                request = Request(RESULTS, job.id, sent.request.api)
                Collection(self, request, sent.endpoint, otel_context.get_current()).all_of(held)

    def _keep_input(self, name: str, groups: list[Group]) -> None:
        self.jobs.keep_input(name, groups)

    def _note(self, told: Seen, endpoint: Endpoint) -> None:
        """Keep what a job says of itself; one that has ended with nothing to pay gives back what is held for it."""
        from tokenguard.store.jobs import Job

        freed: list[Held] = []

        def change(job: Job | None) -> Job:
            if job is None:
                job = Job(told.id, endpoint.provider, time.time_ns(), endpoint.host)
                job.attributes.update(attributes_of(attribution_in(told.metadata)))
            taken_in(job, told)
            if told.unbilled:
                freed.extend(job.held)
                job.held = []
            return job

        self.jobs.update(told.id, change)
        release(self.meter.guard, freed)

    def remember_meters(self, job: str, meters: tuple[Measurement, ...]) -> None:
        """Keep the `meter()`s that a job was created in."""
        _remember(self._meters, job, meters)

    def later(self, work: Callable[[], object]) -> None:
        """Have it done off the caller's path."""
        self.meter.telemetry.put(Noted(work))


def _remember(kept: OrderedDict[str, T], name: str, value: T) -> None:
    kept[name] = value
    while len(kept) > REMEMBERED:
        kept.popitem(last=False)
