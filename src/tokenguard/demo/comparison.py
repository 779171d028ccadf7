"""What the provider charged beside what was measured, for the demo and for whoever doubts it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenguard.demo.exchange import Received
from tokenguard.facts import names
from tokenguard.facts.record import CallRecord
from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import Usage


class Rates(NamedTuple):
    """USD per million tokens."""

    input: float
    output: float
    read: float = 0.0
    write: float = 0.0
    write_1h: float = 0.0


PRICE_LIST = {
    "gpt-4o": Rates(2.50, 10.00, read=1.25),
    "gpt-4o-mini": Rates(0.15, 0.60, read=0.075),
    "gpt-4.1-mini": Rates(0.40, 1.60, read=0.10),
    "gpt-5-mini": Rates(0.25, 2.00, read=0.025),
    "text-embedding-3-small": Rates(0.02, 0.0),
    "claude-sonnet-4-6": Rates(3.00, 15.00, read=0.30, write=3.75, write_1h=6.00),
    "claude-opus-4-8": Rates(5.00, 25.00, read=0.50, write=6.25, write_1h=10.00),
}
"""List prices of the demo's models, written by hand: a bill made from the price book would prove nothing."""

COUNTS = {
    "input": names.INPUT_TOKENS,
    "output": names.OUTPUT_TOKENS,
    "cache_read": names.CACHE_READ_TOKENS,
    "cache_write": names.CACHE_WRITE_TOKENS,
    "reasoning": names.REASONING_TOKENS,
}
"""Where a record has the counts that are compared."""


class Line(NamedTuple):
    """Some calls, as both sides saw them."""

    title: str
    charged: int
    """Requests that the provider charged."""
    billed: Usage
    billed_usd: float
    calls: int
    """Calls that were measured."""
    measured: Usage
    """What the provider reported for them; nothing where it reported nothing."""
    measured_usd: float


def price(usage: Usage, model: str) -> float:
    """What a provider charges for these tokens, in USD."""
    rates = PRICE_LIST[model]
    read, written, hour = usage.cache_read or 0, usage.cache_write or 0, usage.cache_write_1h or 0
    plain = (usage.input or 0) - read - written
    parts = (
        plain * rates.input,
        read * rates.read,
        (written - hour) * rates.write,
        hour * rates.write_1h,
        (usage.output or 0) * rates.output,
    )
    return sum(parts) / 1_000_000


def compare(requests: Sequence[Received], records: Iterable[CallRecord]) -> list[Line]:
    """The complete calls by model, the calls whose cost is an estimate, and the total, in this order.

    The two sides of an estimated call, which broke off before the provider told its usage, meet by the response's id.
    """
    records = list(records)
    charged = [request for request in requests if request.billed is not None]
    estimated = [r for r in records if r.attributes.get(names.COST_STATUS) == names.ESTIMATED]
    broken_ids = {str(r.attributes[names.RESPONSE_ID]) for r in estimated if names.RESPONSE_ID in r.attributes}
    broken = [request for request in charged if request.response_id in broken_ids]
    whole = [request for request in charged if request.response_id not in broken_ids]
    exact = [r for r in records if r.attributes.get(names.COST_STATUS) == names.EXACT]
    models = sorted({request.model for request in whole})
    lines = [
        _line(
            model,
            [request for request in whole if request.model == model],
            [r for r in exact if r.attributes.get(names.REQUEST_MODEL) == model],
        )
        for model in models
    ]
    return [*lines, _line("broken off", broken, estimated), _line("all", charged, records)]


def _line(title: str, requests: Sequence[Received], records: Sequence[CallRecord]) -> Line:
    billed, measured = Usage(0, 0, 0, 0), Usage(0, 0, 0, 0)
    for request in requests:
        billed = billed.plus(request.billed or Usage())
    for record in records:
        counts = {count: record.attributes.get(attribute) for count, attribute in COUNTS.items()}
        measured = measured.plus(Usage(**{count: n for count, n in counts.items() if isinstance(n, int)}))
    return Line(
        title,
        len(requests),
        billed,
        sum(price(request.billed or Usage(), request.model) for request in requests),
        len(records),
        measured,
        sum(float(usd) for r in records if isinstance(usd := r.attributes.get(names.COST), int | float)),
    )
