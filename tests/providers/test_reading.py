"""What a response says, however it is put together."""

from __future__ import annotations

from tokenguard.facts.usage import Usage
from tokenguard.providers.reading import Reading, reading


def test_the_short_way_makes_the_same_reading():
    """A reading made of its values in order has each where its own constructor puts it."""
    told = {"model": "m", "finish_reasons": ("stop",), "tool_calls": 1, "service_tier": "flex", "reported_cost": 0.5}
    for by_total in (None, True, False):
        short = reading(Usage(1, 2), "m", "r1", ("stop",), 1, "flex", 0.5, True, by_total)
        assert short == Reading(usage=Usage(1, 2), id="r1", extra_fees=True, by_total=by_total, **told)
