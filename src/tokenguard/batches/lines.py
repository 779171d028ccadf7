"""A line of results: what it is, what it came to, and how it is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenguard.facts import names
from tokenguard.facts.record import AttributeValue, Cost
from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import Usage
from tokenguard.ledger import nano
from tokenguard.metering.bill import price
from tokenguard.metering.told import describe_money
from tokenguard.prices import PriceBook
from tokenguard.providers import Api, Endpoint, Reading
from tokenguard.providers.batches import BatchApi, Result
from tokenguard.providers.reading import believable
from tokenguard.tokens import estimate_request, estimate_tokens

if TYPE_CHECKING:
    from tokenguard.store.jobs import Charge, Group, Job


class Line(NamedTuple):
    """A line of results with what it came to."""

    result: Result
    reading: Reading
    operation: str
    cost: Cost | None
    """`None` where nothing is billed."""
    saved: float
    """USD less than by the standard rates."""


def read_line(api: BatchApi, result: Result, job: Job, endpoint: Endpoint, prices: PriceBook, at_ns: int) -> Line:
    """Read a line, and price it in the tier `batch`; `at_ns` is when it was answered."""
    body, model = result.body, job.groups[0].model if len(job.groups) == 1 else None
    answered = None if body is None else api.answered(job.provider, job.endpoint, model, result)
    if body is None or answered is None:
        operation = job.groups[0].operation if job.groups else "chat"
        return Line(result, Reading(), operation, None if body is None else Cost(), 0.0)
    reading = answered.read(body)
    if not believable(reading.usage):
        reading = reading._replace(usage=None, parts=())
    group = group_of(job, reading.model)
    asked = group.model if group else None
    basis = None
    if reading.usage is None and result.asked:
        reading, basis = reading._replace(usage=_counted(answered, result, asked)), names.MISSING_USAGE
    if reading.usage is None:
        return Line(result, reading, answered.operation, Cost(), 0.0)
    cost = price(prices, endpoint, asked, reading._replace(service_tier="batch"), reading.usage, at_ns, basis)
    plain = price(prices, endpoint, asked, reading._replace(service_tier=None), reading.usage, at_ns)
    basis = "tool_fees_excluded" if reading.extra_fees else "output_by_total" if reading.by_total else reading.basis
    if cost.status == names.EXACT and basis is not None:
        cost = cost._replace(status=names.ESTIMATED, basis=basis)
    saved = (plain.total - cost.total) if plain.total is not None and cost.total is not None else 0.0
    return Line(result, reading, answered.operation, cost, saved)


def _counted(api: Api, result: Result, model: str | None) -> Usage:
    """The usage of a line that does not tell it, by the texts that are in it."""
    output = estimate_tokens(api.words.answered_text(result.body), model) if api.generates else None
    return Usage(estimate_request(api.words, result.asked, model), output)


def charge(job: Job, line: Line) -> Charge:
    """For the budgets: the line's model as it was held for, nano-dollars and tokens."""
    from tokenguard.store.jobs import Charge

    group = group_of(job, line.reading.model)
    usage, cost, name = line.reading.usage, line.cost, line.result.custom_id
    model = group.model if group else line.reading.model
    if cost is None:
        return Charge(name, model, 0, 0)
    if cost.total is not None and usage is not None:
        return Charge(name, model, nano(cost.total, up=True), usage.total)
    # What is not known is charged as it was held.
    if group is None or not group.lines:
        return Charge(name, model, 0, 0)
    return Charge(name, model, -(-(group.nano or 0) // group.lines), (group.input + group.output) // group.lines)


def attributes(job: Job, line: Line, endpoint: Endpoint) -> dict[str, AttributeValue]:
    """What is recorded of a line, besides whose it is."""
    reading, group = line.reading, group_of(job, line.reading.model)
    found: dict[str, AttributeValue] = {
        names.OPERATION: line.operation,
        names.PROVIDER: job.provider,
        names.SERVER_ADDRESS: endpoint.host,
        names.SERVER_PORT: endpoint.port,
        names.BATCH_ID: job.id,
        names.BATCH_CUSTOM_ID: line.result.custom_id,
    }
    if group is not None and group.model is not None:
        found[names.REQUEST_MODEL] = group.model
    if group is not None and group.cap is not None:
        found[names.REQUEST_MAX_TOKENS] = group.cap
    told: dict[str, AttributeValue | None] = {
        names.RESPONSE_MODEL: reading.model,
        names.RESPONSE_ID: reading.id,
        names.FINISH_REASONS: reading.finish_reasons,
        names.TOOL_CALLS: reading.tool_calls,
        names.ERROR_TYPE: line.result.error,
    }
    found.update({name: value for name, value in told.items() if value})
    return found | money(reading.usage, line.cost)


def group_of(job: Job, model: str | None) -> Group | None:
    """The group of a job that an answer belongs to: its model's, by the name that was asked or a dated one of it."""
    if len(job.groups) == 1:
        return job.groups[0]
    near = [group for group in job.groups if model is not None and group.model and model.startswith(group.model)]
    return max(near, key=lambda group: len(group.model or ""), default=None)


def money(usage: Usage | None, cost: Cost | None) -> dict[str, AttributeValue]:
    """Usage and cost as attributes."""
    found: dict[str, AttributeValue] = {}
    describe_money(found, usage, cost)
    return found
