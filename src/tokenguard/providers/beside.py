"""Formats of others in which one host tells something of its own beside the usage, in an answer or in an event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tokenguard.facts.patterns import lazy
from tokenguard.providers.anthropic import MESSAGES
from tokenguard.providers.api import Api
from tokenguard.providers.events import decoded, lines_with
from tokenguard.providers.openai import CHAT, COMPLETIONS, RESPONSES
from tokenguard.providers.reading import Reading, amount, believed, count, fields, with_cached

Into = Callable[[Reading, Mapping[str, Any]], Reading]
"""From what an answer says, and what is told beside the usage, to both in one."""


def with_told(api: Api, key: str, into: Into) -> Api:
    """A format in which an object under this key says more: of an answer, or of the last event that has it."""
    pattern = lazy(rb'"%b"\s*:\s*\{' % key.encode())

    def read(response: object) -> Reading:
        return into(api.read(response), fields(fields(response).get(key)))

    def fold(body: bytes) -> Reading:
        last = next(lines_with(pattern, body), b"")
        return into(api.fold(body), fields(decoded(last).get(key)))

    return api._replace(read=read, fold=fold)


USD_PER_NANO_AIU: Final = 1e-11
"""A billionth of an AI credit, which is $0.01: https://docs.github.com/copilot/concepts/billing-and-usage"""


def _credits(reading: Reading, told: Mapping[str, Any]) -> Reading:
    """What GitHub Copilot charges, in AI credits (openclaw#100097)."""
    charged = amount(told.get("total_nano_aiu"))
    return reading if charged is None else reading._replace(reported_cost=believed(charged * USD_PER_NANO_AIU))


COPILOT: Final = tuple(with_told(api, "copilot_usage", _credits) for api in (CHAT, COMPLETIONS, RESPONSES, MESSAGES))


def _cached(reading: Reading, told: Mapping[str, Any]) -> Reading:
    """What Fireworks has read from its cache (https://docs.fireworks.ai/guides/prompt-caching)."""
    return with_cached(reading, count(told.get("cached-prompt-tokens")))


FIREWORKS: Final = tuple(with_told(api, "perf_metrics", _cached) for api in (CHAT, COMPLETIONS))


def _filmed(reading: Reading, told: Mapping[str, Any]) -> Reading:
    """Tokens of films, which Alibaba sells at the rate of pictures: no rate here is theirs.

    https://www.alibabacloud.com/help/en/model-studio/models, Qwen-Omni.
    """
    filmed = count(fields(told.get("prompt_tokens_details")).get("video_tokens"))
    return reading._replace(basis=reading.basis or FILMED) if filmed else reading


FILMED: Final = "assumed_input_video"
ALIBABA: Final = (with_told(CHAT, "usage", _filmed),)
