"""Batches as their SDK's requests pass: created under budgets, asked for, and collected.

A seam hands in each request that is a batch API's (`providers.batches.request_at`) as a `Sent`; the flow says what must
be waited for, as the meter's does for a call. What is found out takes place off the caller's path, in the drain.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from opentelemetry import context as otel_context

from tokenguard.batches import helper
from tokenguard.batches.collecting import Collection, Noted
from tokenguard.batches.held import held_of, release
from tokenguard.batches.worth import Content, GroupCases
from tokenguard.call.call import Call
from tokenguard.call.failures import may_be_billed
from tokenguard.call.flow import SEND, Answer, Flow, Step
from tokenguard.call.scope import Measurement
from tokenguard.facts import names
from tokenguard.facts.errors import BudgetExceeded, GuardrailViolation
from tokenguard.facts.record import AttributeValue
from tokenguard.metering.meter import Meter
from tokenguard.process.forks import at_fork
from tokenguard.providers import APIS, Api, Endpoint
from tokenguard.providers.batches import (
    CREATE,
    FILE,
    JOBS,
    RESULTS,
    UPLOAD,
    WINDOW_S,
    Request,
    Seen,
    attribution_in,
    lines_in,
    lines_of,
    listed,
    seen,
    uploaded_id,
)
from tokenguard.providers.reading import whole

if TYPE_CHECKING:
    from tokenguard.guard.admission import Guard
    from tokenguard.store.jobs import Group, Held, Job, Jobs

T = TypeVar("T")

DAY_S: Final = 86_400.0
REMEMBERED: Final = 32
"""Uploaded files whose lines are kept in this process, and jobs whose states are."""


class Sent(Protocol):
    """One request to a batch API."""

    request: Request
    endpoint: Endpoint
    body: Mapping[str, Any]

    @property
    def uploads(self) -> bool:
        """Whether a file is uploaded for a batch."""
        ...

    def uploaded(self) -> bytes | None:
        """The file; `None` for one that cannot be read twice. It may be on a disk: not for an event loop."""
        ...

    def said(self, result: Any) -> object:
        """The result as decoded JSON or the SDK's model of it; `None` where it is yet to be read."""
        ...

    def collect(self, result: Any, collection: Collection) -> None:
        """Hand the content of the result to `collection`: now, or as it is read."""
        ...


class JobExchange:
    """The creation of a job, for the lines of one model, as the guard sees a call."""

    stream = False
    native_span = False
    shared_as = None
    asked_by = None

    def __init__(self, api: Api, endpoint: Endpoint, group: Group) -> None:
        self.api = api
        self.endpoint = endpoint
        self.body: Mapping[str, Any] = {"model": group.model} if group.model else {}

    def replace_body(self, body: Mapping[str, Any]) -> None:
        """A batch is not changed line by line."""
        raise GuardrailViolation(
            f"{self.body.get('model')}: the lines of a batch are not sent to another model. Create the batch with "
            'that model, or give the budget then = "block".',
            rule="",
        )

    def cap_retries(self, most: int) -> None:
        """Nothing is generated when a job is created."""

    def read(self, result: Any, call: Call) -> None:
        """A job is no answer."""


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
        self._uploads: OrderedDict[str, Content] = OrderedDict()
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
            return (yield from self._created(sent))
        content: Content | None = None
        if kind == UPLOAD:
            if not sent.uploads:
                return (yield SEND)
            content = (yield None, contain, ("reading a batch", self._content, sent)).value
        answer = yield SEND
        if answer.error is None:
            contain("watching a batch", self._answered, sent, answer.value, content)
        return answer

    def _answered(self, sent: Sent, result: Any, content: Content | None) -> None:
        kind = sent.request.kind
        if kind in (FILE, RESULTS):
            sent.collect(result, Collection(self, sent.request, sent.endpoint, otel_context.get_current()))
        elif kind == UPLOAD:
            name = uploaded_id(sent.said(result))
            if content is not None and name is not None:
                _remember(self._uploads, name, content)
                self._later(partial(self._keep_input, name, list(content.groups.values())))
        else:
            said = sent.said(result)
            for job in listed(said) if kind == JOBS else filter(None, [seen(said)]):
                self._asked(job, sent.endpoint)

    def _asked(self, job: Seen, endpoint: Endpoint) -> None:
        if self._told.get(job.id) != job:
            _remember(self._told, job.id, job)
            self._later(partial(self._note, job, endpoint))

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

    def _later(self, work: Callable[[], object]) -> None:
        self.meter.telemetry.put(Noted(work))

    # --- creation ----------------------------------------------------------------------------------------------------

    def _content(self, sent: Sent) -> Content | None:
        data = sent.uploaded()
        if data is None:
            return None
        return Content(lines_in(data), sent.endpoint.provider, self.meter.settling.prices, time.time_ns())

    def _of_body(self, sent: Sent) -> Content | None:
        lines = lines_of(sent.body)
        if lines is None:
            return self._uploads.get(_input(sent.body))
        return Content(lines, sent.endpoint.provider, self.meter.settling.prices, time.time_ns())

    def _groups(self, sent: Sent) -> tuple[Content | None, list[Group]]:
        """What a job asks: as it says itself, or the file that it names, whoever uploaded that."""
        content = self._of_body(sent)
        if content is not None:
            return content, list(content.groups.values())
        self.meter.telemetry.flush()  # it may have been uploaded a moment ago
        return None, self.jobs.input(_input(sent.body)) or []

    def _created(self, sent: Sent) -> Flow:
        """Hold what the job may come to, then let it be created; what is held is settled when it is collected."""
        found = (yield None, self.meter.contain, ("reading a batch", self._groups, sent)).value
        content, groups = found or (None, [])
        calls: list[Call] = []
        try:
            yield from self._hold(sent, content, groups, calls)
            answer = yield SEND
            job = None if answer.error else self.meter.contain("watching a batch", seen, sent.said(answer.value))
            if job is not None:
                self.meter.contain("watching a batch", self._open, job, sent, groups, calls)
            elif answer.error is None or may_be_billed(answer.error):
                for call in calls:  # it may have begun: its lease tells
                    call.reservation = None
            return answer
        finally:
            for call in calls:
                call.drop()

    def _hold(
        self, sent: Sent, content: Content | None, groups: list[Group], calls: list[Call]
    ) -> Generator[Step, Answer, None]:
        from tokenguard.store.jobs import Group

        window = (whole(sent.body.get("timeout_hours")) or 24) * 3600.0
        for group in groups or [Group("chat", None, nano=None)]:
            api = (content and content.api(group)) or next(api for api in APIS if api.operation == group.operation)
            exchange = JobExchange(api, sent.endpoint, group)
            begun = self.meter.contain("beginning a batch", self.meter.begin, exchange)
            if begun is None:
                return
            call, guard = begun
            calls.append(call)
            if guard is not None:
                cases = GroupCases(group, content)
                lease = max(window, WINDOW_S) + DAY_S
                if groups:
                    yield from self.meter.admit(guard, call, guard.hold, call, exchange, cases, lease)
                else:
                    yield from self.meter.admit(guard, call, unseen, guard, call)

    def _open(self, told: Seen, sent: Sent, groups: list[Group], calls: list[Call]) -> None:
        """The job has been created: what its creator's calls are is what its lines will be."""
        from tokenguard.store.jobs import Job

        own: dict[str, AttributeValue] = {}
        for call in calls[:1]:
            own.update(call.scope.attributes)
            own.update({name: value for name, value in call.attributes.items() if name.startswith("code.")})
            own.update(attributes_of(call.attribution))
        own.update(attributes_of(attribution_in(told.metadata)))
        job = Job(told.id, sent.endpoint.provider, time.time_ns(), sent.endpoint.host, attributes=own, groups=groups)
        taken_in(job, told)
        for call in calls:
            kept, call.reservation = call.reservation, None
            if kept is not None:
                job.held.append(held_of(kept, call.model))
        if calls and calls[0].scope.meters:
            _remember(self._meters, told.id, calls[0].scope.meters)
        self._later(lambda: self.jobs.update(told.id, lambda _: job))


def taken_in(job: Job, told: Seen) -> None:
    """Bring a job up to what it says of itself; what it does not say stays known."""
    job.state, job.open = told.state, told.open
    job.endpoint = told.endpoint or job.endpoint
    for name in ("total", "done", "output", "errors", "expires_ns", "ended_ns"):
        if (value := getattr(told, name)) is not None:
            setattr(job, name, value)


def attributes_of(attribution: Mapping[str, str]) -> dict[str, AttributeValue]:
    """An attribution as span attributes."""
    return {names.attribution_attribute(key): value for key, value in attribution.items()}


def unseen(guard: Guard, call: Call) -> Generator[Step, Answer, None]:
    """Refuse a job of which nobody knows what it may come to, where a budget has to hold it."""
    budgets = [budget for budget, _ in guard.match(call).budgets if budget.then != "warn"]
    if budgets and guard.enforces and guard.policy.unpriced != "allow":
        raise BudgetExceeded(
            f'{call.endpoint.provider} batch: budget "{budgets[0].name}" has to hold what the batch may come to, and '
            "its input file was uploaded where TokenGuard did not see it. Upload it from a program under TokenGuard "
            'with this store, or set unpriced = "allow".',
            rule=budgets[0].name,
            limit=budgets[0].limit_usd,
            attribution=call.attribution,
        )
    yield from ()


def _input(body: Mapping[str, Any]) -> str:
    """The input file that the creation of a job names."""
    files = body.get("input_files")
    return str(body.get("input_file_id") or (files[0] if isinstance(files, list) and files else ""))


def _remember(kept: OrderedDict[str, T], name: str, value: T) -> None:
    kept[name] = value
    while len(kept) > REMEMBERED:
        kept.popitem(last=False)
