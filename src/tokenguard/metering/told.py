"""What is told of a call that has ended: the attributes of its span, and what it cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tokenguard.facts import names
from tokenguard.facts.record import COST_ATTRIBUTES, USAGE_ATTRIBUTES, AttributeValue, CallRecord, Cost
from tokenguard.facts.usage import Usage
from tokenguard.inputs.request import Request, fingerprint
from tokenguard.metering.bill import Bill, Terms
from tokenguard.prices.rates import FIRST_MEDIUM
from tokenguard.providers import Reading
from tokenguard.providers.reading import Later, believable, beyond_belief


class Told:
    """A call that has ended, with what is found out of it once somebody asks: its cost, the rest of its attributes.

    Nobody waits for that but who wants to know: a budget, a meter, an exporter that looks at the span; else the drain.
    Two threads may ask at once: each finds the same, and puts it in the same place. Neither the request nor the answer
    is held for it: memory that is used again at once is still in the processor's cache.
    """

    __slots__ = ("_asked", "_failed", "answer", "attributes", "owed", "record", "repeated")

    def __init__(
        self,
        record: CallRecord,
        answer: Reading | tuple[Later, Terms],
        asked: tuple[Request, bool] | None,
        failed: Callable[[str, Exception], None],
    ) -> None:
        self.record = record
        self.attributes = record.attributes
        """Those of the span; all of them once it was asked."""
        self.answer: Reading | tuple[Later, Terms] | None = answer
        """What the answer says; of one that is read later, with what it is priced by; `None` once all is told."""
        self.owed: Bill | None = None
        """What it is yet to be priced by."""
        self.repeated: tuple[float, int] = (0.0, 0)
        """What this very request has cost before, and how many resends of it may be billed."""
        self._asked = asked
        self._failed = failed

    def __call__(self) -> dict[str, AttributeValue]:
        """All attributes; raises only in strict mode."""
        answer = self.answer
        if answer is not None:
            try:
                self._find(answer if isinstance(answer, Reading) else self._read(*answer))
            except Exception as failure:
                self._failed("telling of a call", failure)
            self.answer = self.owed = self._asked = None
        return self.attributes

    def cost(self) -> Cost | None:
        """What it cost; `None` where it is on no bill."""
        if (owed := self.owed) is not None:
            self.record.cost = owed.cost()
            self.owed = None
        return self.record.cost

    def _read(self, later: Later, terms: Terms) -> Reading:
        """What the answer says, now that somebody asks."""
        reading = later.read()
        usage = reading[0]
        if usage is None or not believable(usage):
            self.record.cost = Cost()
            self._failed("reading usage", beyond_belief(usage))
            return reading._replace(usage=None)
        self.record.usage, self.owed = usage, owed = usage, terms.bill(reading, usage)
        if owed.claimed is not None:
            self.attributes[names.COST_SOURCE] = names.REPORTED
        return reading

    def _find(self, reading: Reading) -> None:
        attributes, asked = self.attributes, self._asked
        if asked is not None:
            attributes[names.FINGERPRINT] = fingerprint(*asked)
        describe(attributes, reading)
        cost, (before, resends) = self.cost(), self.repeated
        describe_money(attributes, self.record.usage, cost)
        # What repeating has cost: failed attempts at this request, and resends after the SDK stopped waiting, each of
        # which the provider is taken to have worked on as long as on the one that was answered.
        if cost is not None and (retry_cost := before + resends * (cost.total or 0.0)):
            attributes[names.RETRY_COST] = retry_cost


Places = tuple[tuple[int, str], ...]
"""Where in a tuple a value stands, and its attribute."""
_COUNTS: Final[Places] = tuple((Usage._fields.index(count), name) for count, name in USAGE_ATTRIBUTES.items())
_OF_TEXT: Final[Places] = tuple((place, name) for place, name in _COUNTS if place < FIRST_MEDIUM)
_TEXT_ALONE: Final = (None,) * len(Usage._fields[FIRST_MEDIUM:])
"""What is behind the counts of text, in most calls."""
_PARTS: Final[Places] = tuple(enumerate(COST_ATTRIBUTES))
_OF_CACHE: Final = frozenset({names.COST_CACHE_READ, names.COST_CACHE_WRITE, names.COST_SAVED})
_PARTS_BUT_CACHE: Final[Places] = tuple((place, name) for place, name in _PARTS if name not in _OF_CACHE)
_SAID: Final[Places] = tuple(
    (Reading._fields.index(field), name)
    for field, name in {
        "model": names.RESPONSE_MODEL,
        "id": names.RESPONSE_ID,
        "conversation": names.CONVERSATION_ID,
        "resource": names.RESOURCE,
    }.items()
)


def _note(attributes: dict[str, AttributeValue], values: tuple[Any, ...], places: Places) -> None:
    """Note what is known of these."""
    for place, name in places:
        if (value := values[place]) is not None:
            attributes[name] = value


def describe(attributes: dict[str, AttributeValue], reading: Reading) -> None:
    """Note what the answer says."""
    _note(attributes, reading, _SAID)
    if reading.finish_reasons:
        attributes[names.FINISH_REASONS] = reading.finish_reasons
    if reading.tool_calls:
        attributes[names.TOOL_CALLS] = reading.tool_calls
    if reading.resource is not None and reading.until is not None:
        attributes[names.RESOURCE_UNTIL] = reading.until


def describe_money(attributes: dict[str, AttributeValue], usage: Usage | None, cost: Cost | None) -> None:
    """Note the usage, and the cost; where nothing is known of a cache, not its parts: zeros that nobody reported."""
    has_cache = True
    if usage is not None:
        has_cache = usage.cache_read is not None or usage.cache_write is not None
        _note(attributes, usage, _OF_TEXT if usage[FIRST_MEDIUM:] == _TEXT_ALONE else _COUNTS)
    if cost is not None:
        _note(attributes, cost, _PARTS if has_cache else _PARTS_BUT_CACHE)
