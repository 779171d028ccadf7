"""A job is created: what it asks is found out, budgets hold what it may come to, and its creator is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from tokenguard.batches.collecting import Collection, Whole
from tokenguard.batches.held import held_of
from tokenguard.batches.worth import Content, GroupCases, named
from tokenguard.call.call import Call
from tokenguard.call.failures import may_be_billed
from tokenguard.call.flow import SEND, Answer, Flow, Step
from tokenguard.call.scope import Measurement
from tokenguard.facts import names
from tokenguard.facts.errors import BudgetExceeded, GuardrailViolation
from tokenguard.facts.record import AttributeValue
from tokenguard.metering.meter import Meter
from tokenguard.providers import Api, Endpoint, formats
from tokenguard.providers.batches import WINDOW_S, Asked, Request, Seen, attribution_in, objects

if TYPE_CHECKING:
    from tokenguard.guard.admission import Guard
    from tokenguard.ledger import Reservation
    from tokenguard.store.jobs import Group, Job, Jobs

DAY_S: Final = 86_400.0


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

    def collect(self, result: Any, collection: Collection | Whole) -> None:
        """Hand the content of the result to `collection`: now, or as it is read."""
        ...


def hear(sent: Sent, result: Any, use: Callable[[object], object]) -> None:
    """Use what the result says: now, or when the application has read it."""
    said = sent.said(result)
    if said is None:
        sent.collect(result, Whole(use))
    else:
        use(said)


class Home(Protocol):
    """Where jobs and what was uploaded for them are known (`watching.Batches`)."""

    meter: Meter

    @property
    def uploads(self) -> Mapping[str, Content]:
        """What was uploaded by this process, by its id."""
        ...

    @property
    def jobs(self) -> Jobs:
        """The store's jobs."""
        ...

    def remember_meters(self, job: str, meters: tuple[Measurement, ...]) -> None:
        """The `meter()`s that a job was created in."""
        ...

    def later(self, work: Callable[[], object]) -> None:
        """Have it done off the caller's path."""
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


def content_of(home: Home, sent: Sent) -> Content | None:
    """What a file that is uploaded asks; `None` where it cannot be read twice."""
    data = sent.uploaded()
    if data is None:
        return None
    lines = sent.request.api.lines(objects(data), Asked())
    return Content(lines, sent.endpoint.provider, home.meter.settling.prices, time.time_ns())


def asked_of(home: Home, sent: Sent) -> tuple[Content | None, list[Group], Asked]:
    """What a job asks: as it says itself, or the file that it names, whoever uploaded that."""
    api, provider, prices = sent.request.api, sent.endpoint.provider, home.meter.settling.prices
    asked, requests = api.asked(sent.body), api.inlined(sent.body)
    if requests is not None:
        content = Content(api.lines(requests, asked), provider, prices, time.time_ns())
    elif (kept := home.uploads.get(asked.input)) is not None:
        content = kept
    else:
        home.meter.telemetry.flush()  # it may have been uploaded a moment ago
        groups = home.jobs.input(asked.input) or []
        return None, named(groups, asked.model, provider, prices, time.time_ns()), asked
    content = content.under(sent.request.api, asked)
    return content, named(content.groups.values(), asked.model, provider, prices, time.time_ns()), asked


def created(home: Home, sent: Sent) -> Flow:
    """Hold what the job may come to, then let it be created; what is held is settled when it is collected."""
    contain = home.meter.contain
    found = (yield None, contain, ("reading a batch", asked_of, home, sent)).value
    content, groups, asked = found or (None, [], Asked())
    calls: list[Call] = []
    try:
        yield from _hold(home, sent, asked, content, groups, calls)
        answer = yield SEND
        if answer.error is None or may_be_billed(answer.error):
            held = [(call.reservation, call.model) for call in calls]
            for call in calls:  # it may have begun: its lease tells
                call.reservation = None
        if answer.error is None:
            opened = partial(_open, home, sent, asked, groups, calls, held)
            contain("watching a batch", hear, sent, answer.value, opened)
        return answer
    finally:
        for call in calls:
            call.drop()


def _hold(
    home: Home, sent: Sent, asked: Asked, content: Content | None, groups: list[Group], calls: list[Call]
) -> Generator[Step, Answer, None]:
    from tokenguard.store.jobs import Group

    meter = home.meter
    for group in groups or [Group("chat", asked.model, nano=None)]:
        api = (content and content.api(group)) or next(api for api in formats() if api.operation == group.operation)
        exchange = JobExchange(api, sent.endpoint, group)
        begun = meter.contain("beginning a batch", meter.begin, exchange)
        if begun is None:
            return
        call, guard = begun
        calls.append(call)
        if guard is not None:
            cases = GroupCases(group, content)
            lease = max((asked.hours or 24) * 3600.0, WINDOW_S) + DAY_S
            if groups:
                yield from meter.admit(guard, call, guard.hold, call, exchange, cases, lease)
            else:
                yield from meter.admit(guard, call, unseen, guard, call)


def _open(
    home: Home,
    sent: Sent,
    asked: Asked,
    groups: list[Group],
    calls: list[Call],
    held: list[tuple[Reservation | None, str | None]],
    said: object,
) -> None:
    """The job has been created: what its creator's calls are is what its lines will be."""
    from tokenguard.store.jobs import Job

    if (told := sent.request.api.seen(said)) is None:
        return
    own: dict[str, AttributeValue] = {}
    for call in calls[:1]:
        own.update(call.scope.attributes)
        own.update({name: value for name, value in call.attributes.items() if name.startswith("code.")})
        own.update(attributes_of(call.attribution))
    own.update(attributes_of(attribution_in(told.metadata)))
    job = Job(told.id, sent.endpoint.provider, time.time_ns(), sent.endpoint.host, attributes=own, groups=groups)
    job.endpoint = asked.url
    taken_in(job, told)
    job.held = [held_of(kept, model) for kept, model in held if kept is not None]
    if calls and calls[0].scope.meters:
        home.remember_meters(told.id, calls[0].scope.meters)
    home.later(lambda: home.jobs.update(told.id, lambda _: job))


def unseen(guard: Guard, call: Call) -> Generator[Step, Answer, None]:
    """Refuse a job of which nobody knows what it may come to, where a budget has to hold it."""
    budgets = [budget for budget, _ in guard.match(call).budgets if budget.then != "warn"]
    if budgets and guard.enforces and guard.policy.unpriced != "allow":
        raise BudgetExceeded(
            f'{call.endpoint.provider} batch: budget "{budgets[0].name}" must reserve the worst case of this batch, '
            "but TokenGuard did not see the upload of its input file. Upload it from a program under TokenGuard "
            'with this store, or set unpriced = "allow".',
            rule=budgets[0].name,
            limit=budgets[0].limit_usd,
            attribution=call.attribution,
        )
    yield from ()


def taken_in(job: Job, told: Seen) -> None:
    """Bring a job up to what it says of itself; what it does not say stays known."""
    from tokenguard.store.jobs import Group

    job.state, job.open = told.state, told.open
    job.endpoint = told.endpoint or job.endpoint
    if told.model is not None and not job.groups:
        job.groups = [Group("chat", told.model, nano=None)]
    for name in ("total", "done", "output", "errors", "expires_ns", "ended_ns"):
        if (value := getattr(told, name)) is not None:
            setattr(job, name, value)


def attributes_of(attribution: Mapping[str, str]) -> dict[str, AttributeValue]:
    """An attribution as span attributes."""
    return {names.attribution_attribute(key): value for key, value in attribution.items()}
