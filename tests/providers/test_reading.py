"""What a response says, however it is put together."""

from __future__ import annotations

from openai.types import CompletionUsage

from tokenguard.facts.usage import Usage
from tokenguard.providers.openai import CHAT_USAGE
from tokenguard.providers.reading import Reading, read_usage, reading


def test_the_short_way_makes_the_same_reading():
    """A reading made of its values in order has each where its own constructor puts it."""
    told = {"model": "m", "finish_reasons": ("stop",), "tool_calls": 1, "service_tier": "flex", "reported_cost": 0.5}
    for by_total in (None, True, False):
        short = reading(Usage(1, 2), "m", "r1", ("stop",), 1, "flex", 0.5, True, by_total)
        assert short == Reading(usage=Usage(1, 2), id="r1", extra_fees=True, by_total=by_total, **told)


def test_usage_of_one_class_is_read_by_what_each_has():
    """What is remembered of an SDK's class hides no count: neither one beside its fields, nor that of plain JSON."""
    told = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    more = {**told, "prompt_tokens_details": {"cached_tokens": 4}, "prompt_cache_hit_tokens": 2, "reasoning_tokens": 1}
    for said in (told, more, told, more):
        model = CompletionUsage.model_validate(said)
        assert read_usage(model, CHAT_USAGE) == read_usage(said, CHAT_USAGE)
    assert read_usage(more, CHAT_USAGE) == Usage(input=5, output=3, cache_read=4, reasoning=1)
