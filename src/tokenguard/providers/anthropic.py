"""Anthropic's wire format: messages, also as Bedrock and Vertex speak it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any, Final

from tokenguard.facts.patterns import lazy
from tokenguard.facts.usage import Usage
from tokenguard.providers.api import Api, Option
from tokenguard.providers.events import backwards, decoded, forwards, is_alone, lines_with, told_before
from tokenguard.providers.reading import (
    OWN_KEY,
    Part,
    Reading,
    Shape,
    can_wait,
    copied,
    count,
    fields,
    items,
    larger,
    read_usage,
    reading,
    reported_cost,
    tells,
    text,
    untold,
)
from tokenguard.providers.words import Words

MESSAGES_USAGE: Final = Shape(
    {
        "input_tokens": "input",
        "output_tokens": "output",
        "cache_read_input_tokens": "cache_read",
        "cache_creation_input_tokens": "cache_write",
        "cache_creation": {"ephemeral_1h_input_tokens": "cache_write_1h"},
        "output_tokens_details": {"thinking_tokens": "reasoning"},
        "server_tool_use": {"web_search_requests": "web_searches"},
    }
)
FREE_TOOLS = frozenset({"web_search_requests", "web_fetch_requests", "tool_search_requests"})
"""Tools of Anthropic's servers whose use is no unknown fee: searches are priced, and to fetch a page or to look for a
tool costs its tokens alone (https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-fetch-tool)."""


CODE_RAN: Final = frozenset(f"{each}code_execution_tool_result" for each in ("", "bash_", "text_editor_"))
"""Blocks that tell of code that was run in a container, which is billed by the hour and told of nowhere else."""
RAN_CODE: Final = b"code_execution_tool_result"
"""What an event has in it that brings one."""


def _is_charged(ran: Mapping[str, Any]) -> bool:
    """Whether a container costs something: with searches and fetched pages it is free.

    https://platform.claude.com/docs/en/agents-and-tools/tool-use/code-execution-tool#usage-and-pricing
    """
    return not (count(ran.get("web_search_requests")) or count(ran.get("web_fetch_requests")))


SERVED = "fallback_message"
"""The type of the iteration that answered, where a fallback model did."""


def _billed(iterations: object, used: Usage | None) -> tuple[Part, ...]:
    """The inferences that a message is billed by, where there were several; empty where `used` is all.

    The message's own usage leaves out compaction and the advisor, who has a model of its own. Of the attempts of a
    message that a fallback model answered, those of that model are billed, and what others declined is not
    (https://docs.anthropic.com/en/docs/build-with-claude/compaction; `BetaIterationsUsage` of the SDK).
    """
    parts: list[Part] = []
    answered = used is None
    listed = list(items(iterations))
    served = next((text(each.get("model")) for each in listed if each.get("type") == SERVED), None)
    for each in listed:
        kind, model = each.get("type"), text(each.get("model"))
        if kind == "message" and served is not None and model != served:
            continue
        answered = answered or kind in ("message", SERVED)
        if (usage := read_usage(each, MESSAGES_USAGE, excludes_cache=True)) is not None:
            parts.append(Part(usage, model))
    if not answered and used is not None and parts:
        parts.append(Part(used, None))
    return tuple(parts)


CREDIT: Final = "fallback_credit"
"""Where a retry after a refusal tells that some of what it wrote to the cache is billed as if it had read that."""


def _doubt(said: Mapping[str, Any], used: Usage | None, charged: float | None) -> str | None:
    """Why the rates do not decide what is billed: a key of one's own, or a credit of an amount that nobody tells."""
    if charged is not None:
        return None
    if said.get("is_byok"):
        return OWN_KEY
    redeemed = CREDIT in said and fields(fields(said[CREDIT]).get("status")).get("type") == "redeemed"
    return CREDIT if redeemed and used is not None and used.cache_write else None


def _with_writes(used: Usage | None, said: Mapping[str, Any]) -> Usage | None:
    """The usage with what was written to the cache, where it is told by lifetime alone."""
    if used is None or used.cache_write or not (split := fields(said.get("cache_creation"))):
        return used
    written = sum(count(each) or 0 for each in split.values())
    return used._replace(input=(used.input or 0) + written, cache_write=written) if written else used


def _kept_message(response: Any) -> dict[str, Any] | None:
    """What `read_messages` reads of a model that tells of one inference."""
    told = copied(response)
    told["usage"] = counts = MESSAGES_USAGE.copied(told["usage"])
    told["content"] = [{"type": block.__dict__["type"]} for block in told["content"]]
    is_one = not counts.get("iterations") and not counts.get(CREDIT)
    return told if is_one and tells(counts["input_tokens"]) and tells(counts["output_tokens"]) else None


@can_wait(_kept_message)
def read_messages(response: object) -> Reading:
    """An Anthropic message."""
    body = fields(response)
    usage = body.get("usage")
    details = fields(usage)
    ran = fields(details.get("server_tool_use"))
    reason = text(body.get("stop_reason"))
    used = _with_writes(read_usage(usage, MESSAGES_USAGE, excludes_cache=True), details)
    parts, charged = _billed(details.get("iterations"), used), reported_cost(details)
    if own := [part.usage for part in parts if part.model in (None, body.get("model"))]:
        # An advisor's tokens are another model's, and priced as such. Searches are told of the whole alone.
        searches = None if used is None else used.web_searches
        used = reduce(Usage.plus, own)._replace(web_searches=searches)
        last = parts[-1]
        parts = (*parts[:-1], last._replace(usage=last.usage._replace(web_searches=searches)))
    fees = any(count(n) for tool, n in ran.items() if tool not in FREE_TOOLS) if ran else False
    kinds = [block.get("type") for block in items(body.get("content"))]
    if not CODE_RAN.isdisjoint(kinds):
        fees = fees or _is_charged(ran)
    return reading(
        used,
        text(body.get("model")),
        text(body.get("id")),
        (reason,) if reason else (),
        kinds.count("tool_use"),
        text(details.get("service_tier")),
        charged,
        fees,
        basis=_doubt(details, used, charged),
        geo=text(details.get("inference_geo")),
        speed=text(details.get("speed")),
        parts=parts,
    )


FALLBACK = lazy(rb'"type"\s*:\s*"fallback"')


def _served_by(body: bytes) -> str | None:
    """The model that took over in a stream: its beginning names the one that declined (`BetaFallbackBlock`)."""
    blocks = (fields(decoded(data).get("content_block")) for data in lines_with(FALLBACK, body))
    return next((text(fields(block.get("to")).get("model")) for block in blocks if block.get("to")), None)


LAST_EVENTS = frozenset({"message_delta", "message_stop", "error", "ping"})
"""Types of the events after the last of the content."""
TOOL_USE = lazy(rb'"tool_use"')
CODE_BLOCK = lazy(RAN_CODE)


def _called(body: bytes) -> int:
    """The tool calls of a stream. Gateways have the keys of a block in any order."""
    blocks = (fields(decoded(data).get("content_block")) for data in lines_with(TOOL_USE, body))
    return sum(block.get("type") == "tool_use" for block in blocks)


CACHED = ("cache_read_input_tokens", "cache_creation_input_tokens")


def _parted(begun: Mapping[str, Any], told: Mapping[str, Any]) -> bool:
    """Whether what was sent as a whole at first is told in its parts at last, as QwenCloud and Kimi do (bifrost#5355).

    >>> _parted({"input_tokens": 8834}, {"input_tokens": 18, "cache_read_input_tokens": 8831})
    True
    """
    whole, rest = count(begun.get("input_tokens")), count(told.get("input_tokens"))
    if not whole or not rest or rest >= whole:
        return False
    return any(count(told.get(key)) for key in CACHED) and not any(count(begun.get(key)) for key in CACHED)


def fold_messages(body: bytes) -> Reading:
    """The events of an Anthropic stream: usage begins in `message_start` and is completed by `message_delta`."""
    message: dict[str, Any] = {}
    for data in forwards(body):
        if b"message_start" in data and (start := decoded(data)).get("type") == "message_start":
            message = dict(fields(start.get("message")))
            break
    usage = dict(fields(message.get("usage")))
    told: dict[str, Any] = {}
    complete = False
    error: str | None = None
    for data in backwards(body):
        event = decoded(data)
        kind = event.get("type")
        if kind == "message_stop":
            complete = True
            told = larger(fields(event.get("usage")), told)
        elif kind == "error":
            error = text(fields(event.get("error")).get("type")) or "error"
        elif kind == "message_delta":
            # Cumulative totals, but gateways write zeros for what they do not know there.
            told = larger(fields(event.get("usage")), told)
            message["stop_reason"] = message.get("stop_reason") or fields(event.get("delta")).get("stop_reason")
            complete = complete or message["stop_reason"] is not None
        if kind is not None and kind not in LAST_EVENTS:  # there may be any number of pings
            break
    if served := _served_by(body):
        message["model"] = served
    if _parted(usage, told):
        usage["input_tokens"] = told["input_tokens"]
    usage = larger(usage, told)
    if not is_alone(b"message_delta", body):  # there are others than the last
        for data in told_before(body, untold(usage, MESSAGES_USAGE.keys)):
            usage = larger(fields(decoded(data).get("usage")), usage)
    if not complete or "output_tokens" not in told:
        # `message_start` carries a placeholder: how much was generated is not known until `message_delta`.
        usage.pop("output_tokens", None)
        usage.pop("iterations", None)
    message["usage"] = usage
    if RAN_CODE in body:
        blocks = (fields(decoded(data).get("content_block")) for data in lines_with(CODE_BLOCK, body))
        message["content"] = [block for block in blocks if block.get("type") in CODE_RAN]
    return read_messages(message)._replace(tool_calls=_called(body), error=error, complete=complete and error is None)


def messages_tool_steps(body: Mapping[str, Any]) -> int:
    """The same for Anthropic, whose tool results come in user messages."""
    steps = 0
    messages = body.get("messages")
    for message in reversed(messages) if isinstance(messages, list) else ():
        content = fields(message).get("content")
        kinds = {block.get("type") for block in items(content)}
        if fields(message).get("role") == "user":
            if "tool_result" not in kinds:
                break
        else:
            steps += "tool_use" in kinds
    return steps


def messages_last_tool_calls(body: Mapping[str, Any]) -> int:
    """The same for Anthropic."""
    messages = body.get("messages")
    for message in reversed(messages) if isinstance(messages, list) else ():
        if fields(message).get("role") == "assistant":
            return sum(block.get("type") == "tool_use" for block in items(fields(message).get("content")))
    return 0


MIN_THINKING = 1024
"""Tokens that Anthropic wants for thinking, at least, and fewer than the output cap
(https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking)."""


def thinking_within(thinking: Mapping[str, Any], cap: int) -> Mapping[str, Any]:
    """The `thinking` of a request with this output cap: less than it, or off where that is too little."""
    budget = count(thinking.get("budget_tokens"))
    if budget is None or budget < cap:
        return thinking
    room = cap - 1
    return {**thinking, "budget_tokens": room} if room >= MIN_THINKING else {"type": "disabled"}


def messages_capped(body: Mapping[str, Any], cap: int, provider: str) -> Mapping[str, Any]:
    """An Anthropic request with this output cap."""
    capped = {**body, "max_tokens": cap}
    if thinking := fields(body.get("thinking")):
        capped["thinking"] = thinking_within(thinking, cap)
    return capped


def edited_from(most: int) -> Mapping[str, Any]:
    """What has Anthropic clear old tool results once a request is longer than so many tokens.

    https://platform.claude.com/docs/en/build-with-claude/context-editing
    """
    return {"edits": [{"type": "clear_tool_uses_20250919", "trigger": {"type": "input_tokens", "value": most}}]}


MESSAGES = Api(
    "messages",
    "chat",
    ("/v1/messages",),
    ("max_tokens",),
    read_messages,
    fold_messages,
    Words(streamed=("text", "thinking", "partial_json"), tools="anthropic"),
    messages_tool_steps,
    messages_last_tool_calls,
    messages_capped,
    marks_cache=True,
    shortens=Option(
        "context_management", edited_from, ("anthropic",), ("anthropic-beta", "context-management-2025-06-27")
    ),
    left_out=frozenset({"metadata", "service_tier"}),
)

APIS: Final = (MESSAGES,)
SAMBANOVA: Final = (MESSAGES._replace(paths=("/messages",)),)
