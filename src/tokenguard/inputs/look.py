"""Looking at a finished call's request: its hash, where its input went, and how the provider's cache was broken."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from tokenguard.facts import names
from tokenguard.facts.record import AttributeValue, CallRecord, ToolsetRecord
from tokenguard.facts.tuples import NamedTuple
from tokenguard.inputs.breaks import Break, find
from tokenguard.inputs.chains import Chain, Chains, Key
from tokenguard.inputs.known import Known
from tokenguard.inputs.request import Request
from tokenguard.inputs.sections import sections
from tokenguard.prices import PriceBook
from tokenguard.prices.rates import FEMTO_PER_USD
from tokenguard.providers import Api

TOLD: Final = 4096
"""Sets of tools that are remembered as told."""
WHOSE: Final = tuple(map(names.attribution_attribute, ("tenant", "feature", "prompt_version")))


class Seen(NamedTuple):
    """What was found."""

    attributes: Mapping[str, AttributeValue]
    toolset: ToolsetRecord | None = None
    """The request's tools, the first time that they are seen."""


class Looker:
    """Remembers the last prompts, as checksums. Asked by one thread at a time."""

    def __init__(self) -> None:
        self.prices: PriceBook | None = None
        """What a break is priced with."""
        self._chains = Chains()
        self._known = Known()
        self._told: OrderedDict[str, None] = OrderedDict()

    def look(self, record: CallRecord, api: Api, snapshot: Request) -> Seen:
        """What a request says of a call that is over; `snapshot` is the request as it was when the call began."""
        whole = self._known.read(snapshot)
        found: dict[str, AttributeValue] = {names.REQUEST_HASH: whole.hash}
        if not api.generates or record.outcome == names.BLOCKED:
            return Seen(found)
        request, toolset, attributes = whole.request, whole.toolset, record.attributes
        tokens = _count(record, names.INPUT_TOKENS)
        if tokens is not None:
            found |= sections(request, tokens)
        if toolset is not None:
            found[names.INPUT_TOOLSET] = toolset.hash
            toolset = toolset if self._is_new(toolset.hash) else None
        if record.outcome == names.OK and tokens is not None and not request.head.remembered:
            end = record.start_ns + record.duration_ns
            model = str(attributes.get(names.REQUEST_MODEL) or "")
            new = Chain(request, model, whole.weight, record.start_ns, end)
            key: Key = (attributes.get(names.SERVER_ADDRESS), *map(attributes.get, WHOSE))
            read = _count(record, names.CACHE_READ_TOKENS)
            if read is not None:
                broken = find(new, self._chains.of(key), tokens, read, marks=api.marks_cache)
                if broken is not None:
                    found |= self._told_break(record, broken)
            self._chains.add(key, new)
        return Seen(found, toolset)

    def _is_new(self, toolset: str) -> bool:
        if toolset in self._told:
            self._told.move_to_end(toolset)
            return False
        self._told[toolset] = None
        while len(self._told) > TOLD:
            self._told.popitem(last=False)
        return True

    def _told_break(self, record: CallRecord, broken: Break) -> dict[str, AttributeValue]:
        told: dict[str, AttributeValue] = {names.BREAK_KIND: broken.kind, names.BREAK_TOKENS: broken.tokens}
        if broken.place is not None:
            told[names.BREAK_SECTION] = broken.place.section
            told[names.BREAK_INDEX] = broken.place.number
            told[names.BREAK_OFFSET] = broken.place.offset
        usd = self._lost_usd(record, broken.tokens)
        if usd is not None:
            told[names.BREAK_USD] = usd
        return told

    def _lost_usd(self, record: CallRecord, tokens: int) -> float | None:
        """What so many tokens cost more than they would have, read from the cache; `None` without a price."""
        cost, usage = record.cost, record.usage
        if cost is None or cost.input is None or usage is None or self.prices is None:
            return None
        uncached = (usage.input or 0) - (usage.cache_read or 0)
        rates = self.prices.rates(
            str(record.attributes.get(names.PROVIDER, "")),
            tuple(_text(record, name) for name in (names.RESPONSE_MODEL, names.REQUEST_MODEL)),
            at_ns=record.start_ns,
        )
        if uncached <= 0 or rates is None:
            return None
        paid = (cost.input + (cost.cache_write or 0.0)) / uncached
        card = rates.card(usage.input or 0)
        # At the tier that was paid: the plain rate tells it.
        tier = (
            cost.input / (plain * card.input / FEMTO_PER_USD)
            if (plain := uncached - (usage.cache_write or 0)) > 0
            else 1.0
        )
        return max(0.0, tokens * (paid - tier * card.cache_read / FEMTO_PER_USD)) if card.input else None


def _count(record: CallRecord, name: str) -> int | None:
    value: Any = record.attributes.get(name)
    return value if isinstance(value, int) else None


def _text(record: CallRecord, name: str) -> str | None:
    value = record.attributes.get(name)
    return value if isinstance(value, str) else None
