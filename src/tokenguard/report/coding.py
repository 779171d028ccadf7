"""Coding agents as sources: the model calls in the OpenTelemetry logs that Claude Code and Codex write.

Claude Code logs `claude_code.api_request` (and `api_error`) with counts as Anthropic has them, without what the cache
had, and with its own estimate in USD. Codex logs `codex.sse_event` of the kind `response.completed` with counts as
OpenAI has them, and no cost. Both are list prices at best: a subscription is billed otherwise.
Names: https://code.claude.com/docs/en/monitoring-usage, and https://developers.openai.com/codex (`[otel]`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from tokenguard.facts import names
from tokenguard.facts.record import COST_ATTRIBUTES, USAGE_ATTRIBUTES, AttributeValue, CallRecord, Cost
from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import Usage
from tokenguard.prices.book import PriceBook

Attributes = Mapping[str, AttributeValue]
LIST_PRICE: Final = "list_price"
"""The basis of what a coding agent's call would cost by the token."""


class Agent(NamedTuple):
    """What one agent calls things."""

    feature: str
    provider: str
    session: str
    input: str
    output: str
    cache_read: str
    cache_write: str
    reasoning: str
    cached_apart: bool
    """Whether its input leaves out what the cache had, or took."""


CLAUDE_CODE: Final = Agent(
    *("claude_code", "anthropic", "session.id", "input_tokens", "output_tokens"),
    *("cache_read_tokens", "cache_creation_tokens", ""),
    cached_apart=True,
)
CODEX: Final = Agent(
    *("codex", "openai", "conversation.id", "input_token_count", "output_token_count"),
    *("cached_token_count", "cache_write_token_count", "reasoning_token_count"),
    cached_apart=False,
)
ANSWERED: Final[Mapping[str, Agent]] = {"claude_code.api_request": CLAUDE_CODE, "codex.sse_event": CODEX}
FAILED: Final[Mapping[str, Agent]] = {"claude_code.api_error": CLAUDE_CODE}
"""The events that are a call, or a failed one."""
USERS: Final = ("user.email", "user.id", "user.account_uuid", "user.account_id")
"""Who it was, by the first of these that is there."""
TEAMS: Final = ("team", "team.id")


def call(attributes: Attributes, resource: Attributes, name: str, at: str | int | None) -> CallRecord | None:
    """A log record as a call, if it is one of a coding agent's. `at` is when it was written, in Unix nanoseconds.

    Raises `ValueError` for a count, a cost or a time that is none.
    """
    event = _event(attributes, name)
    agent = ANSWERED.get(event) or FAILED.get(event)
    if agent is None or (agent is CODEX and attributes.get("event.kind") != "response.completed"):
        return None
    failed = event in FAILED
    model = str(attributes.get("model") or "")
    at_ns = int(at or 0) or _moment(attributes.get("event.timestamp"))
    if not 0 <= at_ns < 2**63:
        raise ValueError(f"no Unix time in nanoseconds: {at}")
    # A stream's last event says how long that event took, and not the call.
    duration = 0 if agent is CODEX else round(_number(attributes.get("duration_ms")) * 1e6)
    session = str(attributes.get(agent.session) or "")
    told: dict[str, AttributeValue | None] = {
        names.OPERATION: "chat",
        names.PROVIDER: agent.provider,
        names.REQUEST_MODEL: model or None,
        names.RESPONSE_MODEL: None if failed else model or None,
        names.CONVERSATION_ID: session or None,
        names.attribution_attribute("feature"): agent.feature,
        names.attribution_attribute("user"): _first(attributes, resource, USERS),
        names.attribution_attribute("team"): _first(attributes, resource, TEAMS),
        names.attribution_attribute("query_source"): _first(attributes, resource, ("query_source",)),
        names.ERROR_TYPE: str(attributes.get("status_code") or attributes.get("error") or "error") if failed else None,
    }
    usage = None if failed else _usage(agent, attributes)
    if usage is not None:
        told |= {USAGE_ATTRIBUTES[field]: getattr(usage, field) for field in ("input", "output", "cache_read")}
        told |= {names.CACHE_WRITE_TOKENS: usage.cache_write or None, names.REASONING_TOKENS: usage.reasoning or None}
        told |= dict(zip(COST_ATTRIBUTES, _cost(agent, attributes, model, usage, at_ns), strict=True))
    place: tuple[object, ...] = (attributes.get("event.sequence"), at_ns, *(usage or ()))
    number = attributes.get("request_id") or place
    return CallRecord(
        at_ns - duration,
        duration,
        names.ERROR if failed else names.OK,
        {key: value for key, value in told.items() if value is not None},
        blake2b(session.encode(), digest_size=16).hexdigest(),
        blake2b(repr((event, session, number)).encode(), digest_size=8).hexdigest(),
    )


def _event(attributes: Attributes, name: str) -> str:
    """The full name of an event: Claude Code has it in its body, and without its beginning among the attributes."""
    told = str(attributes.get("event.name") or "")
    return told if told in ANSWERED or told in FAILED else name


def _usage(agent: Agent, attributes: Attributes) -> Usage:
    def count(name: str) -> int:
        return int(_number(attributes.get(name)))

    read, written = count(agent.cache_read), count(agent.cache_write)
    return Usage(
        input=count(agent.input) + (read + written if agent.cached_apart else 0),
        output=count(agent.output),
        cache_read=read,
        cache_write=written,
        reasoning=count(agent.reasoning),
    )


def _cost(agent: Agent, attributes: Attributes, model: str, usage: Usage, at_ns: int) -> Cost:
    """What the agent says, or else what the tokens cost at list price; the parts are the list's."""
    priced = _book().cost(agent.provider, model, usage, at_ns=at_ns, basis=LIST_PRICE)
    said = attributes.get("cost_usd")
    if said is None or (priced.total is not None and math.isclose(_number(said), priced.total, rel_tol=1e-3)):
        return priced
    return Cost(names.ESTIMATED, LIST_PRICE, _number(said))


@lru_cache(maxsize=1)
def _book() -> PriceBook:
    return PriceBook()


def _first(attributes: Attributes, resource: Attributes, keys: tuple[str, ...]) -> str | None:
    found = (of[key] for key in keys for of in (attributes, resource) if of.get(key))
    return next((str(value) for value in found), None)


def _number(value: AttributeValue | None) -> float:
    """A number that may have come as text; nothing is zero."""
    number = float(str(value)) if value not in (None, "") else 0.0
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{value!r} is no count and no cost")
    return number


def _moment(text: AttributeValue | None) -> int:
    """A time in ISO 8601, as Unix nanoseconds."""
    return round(datetime.fromisoformat(str(text)).timestamp() * 1e6) * 1000
