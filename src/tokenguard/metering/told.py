"""What is told of a call that has ended: the attributes of its span, and what it cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tokenguard.facts import names
from tokenguard.facts.record import USAGE_ATTRIBUTES, AttributeValue, CallRecord, Cost
from tokenguard.facts.usage import Usage
from tokenguard.inputs.request import Request, fingerprint
from tokenguard.metering.bill import Bill
from tokenguard.prices.rates import FIRST_MEDIUM, FIRST_UNIT
from tokenguard.providers import Reading

ONCE: Final = (0.0, 0)


class Told:
    """A call that has ended, with what is found out of it once somebody asks: its cost, the rest of its attributes.

    Nobody waits for that but who wants to know: a budget, a meter, an exporter that looks at the span; else the drain.
    Two threads may ask at once: each finds the same, and puts it in the same place. Neither the request nor the answer
    is held for it: memory that is used again at once is still in the processor's cache.
    """

    __slots__ = ("_asked", "_failed", "attributes", "owed", "reading", "record", "repeated")

    def __init__(
        self,
        record: CallRecord,
        reading: Reading,
        asked: tuple[Request, bool] | None,
        failed: Callable[[str, Exception], None],
    ) -> None:
        self.record = record
        self.attributes = record.attributes
        """Those of the span; all of them once it was asked."""
        self.reading: Reading | None = reading
        """What the answer says."""
        self.owed: Bill | None = None
        """What it is yet to be priced by."""
        self.repeated: tuple[float, int] = ONCE
        """What this very request has cost before, and how many resends of it may be billed."""
        self._asked = asked
        self._failed = failed

    def __call__(self) -> dict[str, AttributeValue]:
        """All attributes; raises only in strict mode."""
        reading = self.reading
        if reading is not None:
            try:
                self._find(reading)
            except Exception as failure:
                self._failed("telling of a call", failure)
            self.reading = self.owed = self._asked = None
        return self.attributes

    def cost(self) -> Cost | None:
        """What it cost; `None` where it is on no bill."""
        if (owed := self.owed) is not None:
            self.record.cost = owed.cost()
            self.owed = None
        return self.record.cost

    def _find(self, reading: Reading) -> None:
        attributes, asked = self.attributes, self._asked
        if asked is not None:
            attributes[names.FINGERPRINT] = fingerprint(*asked)
        describe(attributes, reading)
        describe_money(attributes, self.record.usage, self.cost(), self.repeated)


_TEXT_ALONE = (None,) * len(Usage._fields[FIRST_MEDIUM:])
_NO_UNITS = (None,) * len(Usage._fields[FIRST_UNIT:])
_COUNTS = [(Usage._fields.index(count), name) for count, name in USAGE_ATTRIBUTES.items()]
_OTHERS = {place - FIRST_MEDIUM: name for place, name in _COUNTS if place >= FIRST_MEDIUM}
"""The places of a `Usage` that have an attribute, behind those of text, which go first, and counted from there."""
_MEDIA = tuple(place for place in _OTHERS if place < FIRST_UNIT - FIRST_MEDIUM)
"""Those of sound, pictures and the use of tools: of most calls that are more than text there is no more."""
CONVERSATION: Final = 12
RESOURCE: Final = 15
"""Places in a `Reading`: by its place a field is read five times as fast."""


def describe(attributes: dict[str, AttributeValue], reading: Reading) -> None:
    """Note what the answer says."""
    _, model, answer_id, reasons, tool_calls = reading[:5]
    if model is not None:
        attributes[names.RESPONSE_MODEL] = model
    if answer_id is not None:
        attributes[names.RESPONSE_ID] = answer_id
    if reasons:
        attributes[names.FINISH_REASONS] = reasons
    if tool_calls:
        attributes[names.TOOL_CALLS] = tool_calls
    if (conversation := reading[CONVERSATION]) is not None:
        attributes[names.CONVERSATION_ID] = conversation
    if reading[RESOURCE] is not None:
        attributes[names.RESOURCE] = reading[RESOURCE]
        if reading.until is not None:
            attributes[names.RESOURCE_UNTIL] = reading.until


def describe_money(
    attributes: dict[str, AttributeValue], usage: Usage | None, cost: Cost | None, repeated: tuple[float, int]
) -> None:
    """Note the usage, and the cost; `repeated` is as in `Told`."""
    has_cache = True
    if usage is not None:
        sent, made, again, put, _, _, _, reasoned = usage[:FIRST_MEDIUM]
        has_cache = again is not None or put is not None
        if sent is not None:
            attributes[names.INPUT_TOKENS] = sent
        if made is not None:
            attributes[names.OUTPUT_TOKENS] = made
        if again is not None:
            attributes[names.CACHE_READ_TOKENS] = again
        if put is not None:
            attributes[names.CACHE_WRITE_TOKENS] = put
        if reasoned is not None:
            attributes[names.REASONING_TOKENS] = reasoned
        if (others := usage[FIRST_MEDIUM:]) != _TEXT_ALONE:
            for place in _MEDIA if usage[FIRST_UNIT:] == _NO_UNITS else _OTHERS:
                if (counted := others[place]) is not None:
                    attributes[_OTHERS[place]] = counted
    if cost is not None:
        status, basis, total, plain, output, read, written, saved, tools = cost
        attributes[names.COST_STATUS] = status
        if basis is not None:
            attributes[names.COST_BASIS] = basis
        if total is not None:
            attributes[names.COST] = total
        if plain is not None:
            attributes[names.COST_INPUT] = plain
        if output is not None:
            attributes[names.COST_OUTPUT] = output
        if tools is not None:
            attributes[names.COST_TOOLS] = tools
        # Where nothing is known of a cache, its parts would be zeros that nobody reported.
        if has_cache:
            if read is not None:
                attributes[names.COST_CACHE_READ] = read
            if written is not None:
                attributes[names.COST_CACHE_WRITE] = written
            if saved is not None:
                attributes[names.COST_SAVED] = saved
        # What repeating has cost: failed attempts at this request, and resends after the SDK stopped waiting, each of
        # which the provider is taken to have worked on as long as on the one that was answered.
        if repeated is not ONCE and (retry_cost := repeated[0] + repeated[1] * (total or 0.0)):
            attributes[names.RETRY_COST] = retry_cost
