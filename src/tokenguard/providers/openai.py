"""OpenAI's wire formats: chat, legacy completions, responses and embeddings; spoken by many hosts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from itertools import chain, islice
from typing import Any, Final

from tokenguard.facts import names
from tokenguard.facts.patterns import lazy
from tokenguard.facts.usage import Usage
from tokenguard.providers.api import Api, Option
from tokenguard.providers.events import (
    FINAL_RESPONSE,
    TAIL_EVENTS,
    backwards,
    decoded,
    forwards,
    is_alone,
    lines_with,
    told_before,
)
from tokenguard.providers.reading import (
    OWN_KEY,
    REPORTED_ESTIMATE,
    TELL_COST,
    Part,
    Reading,
    Shape,
    amount,
    believed,
    can_wait,
    copied,
    count,
    error_type,
    failure_of,
    fields,
    items,
    larger,
    read_usage,
    reading,
    reported_cost,
    tells,
    text,
    untold,
    with_total,
)
from tokenguard.providers.words import CONVERSATION, Words

# --- where usage sits (sources: the SDKs' types, and recorded traffic) ------------------------------------------------

INPUT_DETAILS: Final = {
    "web_search_requests": "web_searches",  # of LiteLLM's proxy before Google and xAI
    "cached_tokens": "cache_read",
    "cached_tokens_details": {"audio_tokens": "cache_audio_read", "image_tokens": "cache_image_read"},
    "cached_read_tokens": "cache_read",  # Bifrost
    "cached_write_tokens": "cache_write",
    "cached_write_token_details": {"cached_write_tokens_1h": "cache_write_1h"},
    "cache_write_tokens": "cache_write",
    "cache_write_tokens_details": {"ttl_30m_tokens": "cache_write_30m", "ttl_12h_tokens": "cache_write_12h"},
    "cache_read_input_tokens": "cache_read",  # Perplexity
    "cache_creation_input_tokens": "cache_write",  # and DashScope
    "cache_creation_tokens": "cache_write",  # LiteLLM's proxy
    "cached_creation_tokens": "cache_write",  # new-api
    "cache_creation_token_details": {"ephemeral_1h_input_tokens": "cache_write_1h"},
    "audio_tokens": "input_audio",
    "image_tokens": "input_image",
}
OUTPUT_DETAILS: Final = {
    "reasoning_tokens": "reasoning",
    "audio_tokens": "output_audio",
    "image_tokens": "output_image",  # of gateways that sell Gemini's
    "num_search_queries": "web_searches",  # Bifrost, before Claude
}
"""What is told of the input and of the output, in all of the formats."""
CHAT_USAGE: Final = Shape(
    {
        # Spellings of single hosts: Together, Mistral, DeepSeek, LiteLLM's proxy. Of several, the largest counts.
        "cached_tokens": "cache_read",
        "num_cached_tokens": "cache_read",
        "prompt_cache_hit_tokens": "cache_read",
        "cache_read_input_tokens": "cache_read",
        "cache_creation_input_tokens": "cache_write",
        "cache_created_input_tokens": "cache_write",  # DigitalOcean, before Claude
        "cache_creation": {"ephemeral_1h_input_tokens": "cache_write_1h"},
        "prompt_tokens": "input",
        "completion_tokens": "output",
        "input_tokens": "input",  # of gateways that pass on what the Responses API or Anthropic say
        "output_tokens": "output",
        "reasoning_tokens": "reasoning",  # SGLang
        "server_tool_use": {"web_search_requests": "web_searches"},  # of LiteLLM's proxy before Anthropic
        "claude_cache_creation_5_m_tokens": "cache_write",  # new-api, before Claude
        "claude_cache_creation_1_h_tokens": "cache_write_1h",
        "prompt_token_details": {"cached_tokens": "cache_read"},  # Mistral has both spellings
        "prompt_tokens_details": INPUT_DETAILS,
        "completion_tokens_details": OUTPUT_DETAILS,
    }
)
EMBEDDINGS_USAGE: Final = Shape({"total_tokens": "input", "prompt_tokens": "input", "input_tokens": "input"})
"""Voyage tells but the total."""
RESPONSES_USAGE: Final = Shape(
    {
        "input_tokens": "input",
        "output_tokens": "output",
        "prompt_tokens": "input",  # SGLang, and others that say what chat does
        "completion_tokens": "output",
        "input_tokens_details": INPUT_DETAILS,
        "output_tokens_details": OUTPUT_DETAILS,
    }
)

# --- responses --------------------------------------------------------------------------------------------------------


SEARCHES_ALWAYS = lazy(r"-search-(?:preview|api)\b")
"""OpenAI's chat models that search the web for each answer, for a fee (https://openai.com/api/pricing)."""


def _kept_chat(response: Any) -> dict[str, Any] | None:
    """What `read_chat` reads of a model that tells how much was used, and of no failure."""
    told, choices = copied(response), []
    told["usage"] = counts = CHAT_USAGE.copied(told["usage"])
    for each in told["choices"]:
        its = each.__dict__
        reason, message = its["finish_reason"], fields(its["message"])
        if reason == FAILED or message.get(RAN):
            return None
        its = {"tool_calls": message["tool_calls"], "function_call": message["function_call"]}
        if (calls := its["tool_calls"]) is not None:
            its["tool_calls"] = [{"type": call.__dict__["type"]} for call in calls]
        choices.append({"finish_reason": reason, "message": its})
    told["choices"] = choices
    waits = BREAKDOWN not in told and tells(counts["prompt_tokens"]) and tells(counts["completion_tokens"])
    return told if waits else None


@can_wait(_kept_chat)
def read_chat(response: object) -> Reading:
    """A chat completion, or a legacy completion."""
    body = fields(response)
    said = body.get
    reasons: tuple[str, ...] = ()
    calls, ran = 0, bool(said(FOUND))
    for choice in items(said("choices")):
        if reason := choice.get("finish_reason"):
            reasons += (str(reason),)
        if (message := choice.get("message")) is not None:
            message = fields(message)
            told = message.get
            if told("tool_calls") or told("function_call") is not None or told(RAN):  # most have but words
                calls += _calls_of(message)
                ran = ran or _ran(message)
    usage = said("usage")
    if not (details := fields(usage)):
        details = usage = _usage_of(body)
    counted = read_usage(usage, CHAT_USAGE) if details else None
    if counted is not None and counted[2] and counted[3]:
        counted = _apart(counted, details.get("prompt_tokens_details"))
    used, by_total, doubt = with_total(counted, details.get("total_tokens"))
    model = text(said("model"))
    if used is not None and model is not None and "-search" in model and SEARCHES_ALWAYS.search(model):
        used = used._replace(web_searches=1)
    tier, charged, geo = text(said("service_tier")), None, None
    if not RARE.isdisjoint(details):
        charged = reported_cost(details)
        ran = ran or any(_uses(details.get(key)) for key in SEARCHED)
        if charged is None and (guessed := amount(details.get("estimated_cost"))) is not None:
            charged, doubt = believed(guessed), REPORTED_ESTIMATE
        if charged is None:
            charged = believed(amount(details.get(STATED)))
        if count(details.get(HEARD)):
            doubt = "assumed_input_audio"
        if charged is None and details.get("is_byok"):
            doubt = OWN_KEY
        tier, geo = tier or _traffic(details), text(details.get("inference_geo"))
    made = reading(used, model, text(said("id")), reasons, calls, tier, charged, ran, by_total, doubt, geo)
    if FAILED in reasons:
        made = made._replace(error=_failure(items(said("choices"))))
    return made if (listed := said(BREAKDOWN)) is None else _by_model(made, listed)


def _apart(counted: Usage, details: object) -> Usage:
    """The usage with what was read from the cache alone: Bifrost's `cached_tokens` had what was written as well."""
    told = fields(details)
    return counted._replace(cache_read=count(told.get(READ)) or 0) if WRITTEN in told else counted


READ, WRITTEN = "cached_read_tokens", "cached_write_tokens"
"""Bifrost's own counts, beside a `cached_tokens` that was their sum (maximhq/bifrost#4816)."""
RAN = "executed_tools"
"""Where Groq tells what tools of its own it has run, for fees that are on its price page alone."""
FOUND = "web_search"
"""Where Z.ai and Zhipu have what their search has found, for a fee (https://docs.z.ai/guides/overview/pricing)."""
BUILTIN = "builtin_function"
"""The type of the calls by which Moonshot's model searches, for a fee (https://platform.moonshot.ai/docs/pricing/tools).
"""
HEARD = "prompt_audio_seconds"
"""Where Mistral tells how long it has listened, which it bills beside the tokens (https://mistral.ai/pricing)."""
TALLY: Final = "server_side_tool_usage_details"
"""Where xAI tells how often each tool was run, and of X Search also what it found."""
SEARCHED: Final = frozenset(
    {"num_sources_used", "num_server_side_tools_used", TALLY, "plugins", "x_tools", "tool_usage"}
)
"""Where a usage tells of tools that the provider ran: xAI's, DashScope's (the last two but one), Volcengine's."""
STATED: Final = "cost_usd_total"
"""What LLM Gateway calls the cost (https://docs.llmgateway.io/features/cost-breakdown)."""
TRAFFIC: Final = "extra_properties"
"""Where Vertex AI's OpenAI-compatible endpoint says what Gemini's own format has as `trafficType`."""
RARE: Final = (
    SEARCHED | TELL_COST | {"estimated_cost", STATED, HEARD, TRAFFIC, "service_tier", "inference_geo", "is_byok"}
)
"""What only single hosts have in a usage."""
FAILED: Final = "error"
"""Why a choice ended that its provider has failed in the middle of (OpenRouter)."""


def _traffic(usage: Mapping[str, Any]) -> str | None:
    """The tier that a usage tells: LiteLLM's proxy hands on Anthropic's, Vertex AI has its kind of traffic there."""
    google = fields(fields(usage.get(TRAFFIC)).get("google"))
    return text(usage.get("service_tier")) or text(google.get("traffic_type"))


def _failure(choices: Iterable[Mapping[str, Any]]) -> str:
    """The kind of an error that a choice tells of."""
    return next((named for each in choices if (named := error_type(each.get("error"))) is not None), FAILED)


def _ran(message: Mapping[str, Any]) -> bool:
    """Whether the provider ran tools of its own for a message, or is asked to by it."""
    if message.get(RAN):
        return True
    made = message.get("tool_calls")
    return bool(made) and any(call.get("type") == BUILTIN for call in items(made))


BREAKDOWN = "usage_breakdown"


def _by_model(said: Reading, listed: object) -> Reading:
    """The models that one of Groq's compound systems is billed by, each at its own price (its `UsageBreakdown`)."""
    parts = tuple(
        Part(used, text(each.get("model")))
        for each in items(fields(listed).get("models"))
        if (used := read_usage(fields(each.get("usage")), CHAT_USAGE)) is not None
    )
    return said._replace(usage=reduce(Usage.plus, (part.usage for part in parts)), parts=parts) if parts else said


def read_embeddings(response: object) -> Reading:
    """An embeddings response; the vectors are not looked at."""
    body = fields(response)
    said = fields(body.get("usage")) or fields(fields(body.get("meta")).get("billed_units"))  # Cohere's way
    charged = reported_cost(said)
    return reading(read_usage(said, EMBEDDINGS_USAGE), text(body.get("model")), None, charged=charged)


DRAWN = "image_generation_call"
DRAWN_USAGE: Final = Shape(
    {
        "input_tokens": "input",
        "output_tokens": "output",
        "cached_tokens": "cache_read",
        "cached_tokens_details": {"cached_image_tokens": "cache_image_read"},
        "input_tokens_details": {"image_tokens": "input_image"},
        "output_tokens_details": {"image_tokens": "output_image"},
    }
)
DRAWS, LIKE_DRAWS = "gpt-image-2.6-sunburst", "gpt-image-2.5-sunburst"
"""The model that draws where none is named (`ImageGeneration` of the SDK), and one with a price that is like it."""
PAID_TOOLS = frozenset({"code_interpreter_call", "x_search_call", DRAWN})
"""Output items of the Responses API with fees that no item tells: a container's time, a picture's size, and each post
and profile that was found on X (since 2026-09-21; https://docs.x.ai/developers/pricing, "Tool Invocation Costs")."""


def _is_paid(item: Mapping[str, Any]) -> bool:
    """Whether a tool was run for a fee; a shell costs one in a container, and none on the caller's machine."""
    kind = item.get("type")
    return kind in PAID_TOOLS or (
        kind == "shell_call" and fields(item.get("environment")).get("type") == "container_reference"
    )


CALLED = frozenset({"function_call", "custom_tool_call"})
"""Output items that the application answers."""


GOES_ON = frozenset({"queued", "in_progress"})
"""The statuses of a response that the provider is yet to finish (`background=True`)."""


WORDS_ALONE: Final = frozenset({"message", "reasoning"})
"""Output items that are no call of a tool."""


def _kept_response(response: Any) -> dict[str, Any] | None:
    """What `read_responses` reads of a model of a whole answer in which no tool was called."""
    own = copied(response)
    if own["status"] != "completed" or own["error"] is not None or own.get("tool_usage"):
        return None
    if not WORDS_ALONE.issuperset([item.__dict__["type"] for item in own["output"]]):
        return None
    counts = RESPONSES_USAGE.copied(own["usage"])
    told = {key: own.get(key) for key in ("id", "model", "service_tier", "status")}
    return {**told, "usage": counts} if tells(counts["input_tokens"]) and tells(counts["output_tokens"]) else None


@can_wait(_kept_response)
def read_responses(response: object) -> Reading:
    """A Responses API response."""
    body = fields(response)
    reason = text(fields(body.get("incomplete_details")).get("reason")) or text(body.get("status"))
    output = list(items(body.get("output")))
    kinds = [item.get("type") for item in output]
    said = fields(body.get("usage"))
    counted = read_usage(body.get("usage"), RESPONSES_USAGE)
    if counted is not None and counted[2] and counted[3]:
        counted = _apart(counted, said.get("input_tokens_details"))
    told, by_total, doubt = with_total(counted, said.get("total_tokens"))
    usage, parts, guessed = _with_tools_of(body, _with_searches(told, output, fields(said.get(TALLY))))
    if (charged := reported_cost(said)) is None and said.get("is_byok"):
        doubt = OWN_KEY
    return reading(
        usage,
        text(body.get("model")),
        text(body.get("id")),
        (reason,) if reason else (),
        sum(map(CALLED.__contains__, kinds)),
        text(body.get("service_tier")),
        charged,
        any(_is_paid(item) and not (parts and item.get("type") == DRAWN) for item in output)
        or _more_was_run(said, usage),
        by_total,
        doubt or guessed,
        error=_failed(body),
        complete=body.get("status") not in GOES_ON,
        parts=parts,
    )


def _failed(body: Mapping[str, Any]) -> str | None:
    """The code of the error that ended a response, which gateways may leave out of one that has failed."""
    if (error := body.get("error")) is None:
        return "failed" if body.get("status") == "failed" else None
    return text(fields(error).get("code")) or "error"


WEB = "web_search_call"
FILES = frozenset({"file_search_call", "collections_search_call"})
"""Output items of a search: OpenAI's, and xAI's."""


def _more_was_run(said: Mapping[str, Any], usage: Usage | None) -> bool:
    """Whether more tools were run, as the usage tells, than there are searches with a price."""
    if SEARCHED.isdisjoint(said):
        return False
    priced = 0 if usage is None else (usage.web_searches or 0) + (usage.file_searches or 0)
    return bool(count(said.get("num_sources_used"))) or max(_uses(said.get(key)) for key in SEARCHED) > priced


def _with_tools_of(body: Mapping[str, Any], usage: Usage | None) -> tuple[Usage | None, tuple[Part, ...], str | None]:
    """The usage with what OpenAI tells of its own tools beside it; with pictures, what is billed, and any doubt of it.

    The searches there are those that are billed (`ToolUsage` of the SDK); they may be fewer than the items, or stand
    without any. The tokens of pictures are those of the model that the tool is set to.
    """
    if usage is None or not (told := fields(body.get("tool_usage"))):
        return usage, (), None
    searched = count(fields(told.get("web_search")).get("num_requests"))
    if searched is not None and searched != (usage.web_searches or 0):
        usage = usage._replace(web_searches=searched or None)
    made = read_usage(told.get("image_gen"), DRAWN_USAGE)
    if made is None or not (made.input or made.output):
        return usage, (), None
    if made.output_image is None:
        made = made._replace(output_image=made.output)
    named = {text(tool.get("model")) for tool in items(body.get("tools")) if tool.get("type") == "image_generation"}
    model = named.pop() if len(named) == 1 else None
    return usage, (Part(usage, None), Part(made, model or DRAWS, LIKE_DRAWS)), None if model else names.ASSUMED_MODEL


def _uses(told: object) -> int:
    """How often tools were run, by a count, or by an object with one for each tool."""
    return count(told) or sum(map(_uses, fields(told).values()))


def _with_searches(usage: Usage | None, output: Sequence[Mapping[str, Any]], ran: Mapping[str, Any]) -> Usage | None:
    """The usage with what was searched: of the web's actions only `search` is billed, opening a page is not.

    https://platform.openai.com/docs/guides/tools-web-search, "Output and citations". But where the calls that are
    billed are told, it is those: xAI's has a page opened among them.
    """
    web, files = count(ran.get("web_search_calls")), count(ran.get("file_search_calls"))
    if web is None:
        web = sum(
            item.get("type") == WEB and fields(item.get("action")).get("type", "search") == "search" for item in output
        )
    if files is None:
        files = sum(item.get("type") in FILES for item in output)
    if usage is None or not (web or files):
        return usage
    return usage._replace(web_searches=web or None, file_searches=files or None)


# --- streams ----------------------------------------------------------------------------------------------------------


USAGE = lazy(rb'"usage"\s*:\s*\{')
COUNTED = b"prompt_tokens"
"""What an account of usage has in its keys; one that has other keys is not alone."""
REASON = lazy(rb'"finish_reason"\s*:\s*"')
CALLS = lazy(rb'"tool_calls"\s*:\s*\[\s*\{|"function_call"\s*:\s*\{')
BESIDE = lazy(rb'"usage_breakdown"\s*:\s*\{|"(?:executed_tools|web_search)"\s*:\s*\[\s*\{|"builtin_function"')
WORDS_BESIDE = (b"usage_breakdown", b"executed_tools", b"web_search", b"builtin_function")
WORDS_OF_CALLS = (b"tool_calls", b"function_call")
"""Words without which the patterns of these names find nothing: they are looked for in a fraction of the time."""


def fold_chat(body: bytes) -> Reading:
    """The chunks of a chat or legacy completion stream."""
    complete = False
    usage: dict[str, Any] = {}
    tier: str | None = None
    error: str | None = None
    reasons: dict[object, str] = {}
    ending = b""
    for n, data in enumerate(backwards(body)):
        if data == b"[DONE]":
            complete = True
            continue
        chunk = decoded(data)
        usage = larger(_usage_of(chunk), usage)
        tier = tier or text(chunk.get("service_tier"))
        error = error or failure_of(chunk)
        _ended(chunk, reasons)
        if error is None and FAILED in reasons.values():
            error = _failure(items(chunk.get("choices")))
        ending = ending or (data if reasons else b"")
        if (_is_told(usage) and reasons) or n >= TAIL_EVENTS:
            break
    if not _is_told(usage):  # before a long tail: Azure's filters annotate what was said long ago
        for data in lines_with(USAGE, body):
            usage = larger(_usage_of(decoded(data)), usage)
            if _is_told(usage):
                break
    if usage and not is_alone(COUNTED, body):  # some account for it along the way, and not for all of it at the end
        for data in told_before(body, untold(usage, CHAT_USAGE.keys)):
            usage = larger(_usage_of(decoded(data)), usage)
    if not reasons or _is_said_before(ending, body):  # each of several answers ends at a time of its own
        for data in lines_with(REASON, body):
            _ended(decoded(data), reasons)
    first = next((chunk for data in forwards(body) if (chunk := decoded(data)).get("model")), {})
    said = read_chat({**first, "choices": (), "usage": usage or None})
    if any(word in body for word in WORDS_BESIDE):
        said = _with_tools(said, body)
    return said._replace(
        finish_reasons=tuple(reasons[i] for i in sorted(reasons, key=str)),
        tool_calls=_streamed_calls(body),
        service_tier=tier or said.service_tier,
        error=error,
        complete=(complete or bool(reasons)) and error is None,
    )


def _is_said_before(ending: bytes, body: bytes) -> bool:
    """Whether a stream has more finish reasons than this event of it, spelled as they are there."""
    spelled = REASON.search(ending)
    return spelled is None or body.count(spelled[0]) > ending.count(spelled[0])


def _with_tools(said: Reading, body: bytes) -> Reading:
    """What chunks tell beside the usage: the models of a compound system, and the tools that the provider has run."""
    for data in lines_with(BESIDE, body):
        chunk = decoded(data)
        if chunk.get(FOUND) or any(_ran(fields(choice.get("delta"))) for choice in items(chunk.get("choices"))):
            said = said._replace(extra_fees=True)
        if (listed := chunk.get(BREAKDOWN)) is not None and not said.parts:
            said = _by_model(said, listed)
    return said


def _usage_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The usage in an answer or a chunk: its own, or where single hosts have it.

    That is beside it (Groq's `x_groq`, a gateway's `meta`), in a choice (Moonshot), in the choice's message, or in
    llama.cpp's `timings`.
    """
    if usage := body.get("usage"):
        return fields(usage)
    for node in ("x_groq", "meta", "metadata"):
        if used := fields(body.get(node)).get("usage"):
            return fields(used)
    for choice in items(body.get("choices")):
        for each in (choice, fields(choice.get("message")), fields(choice.get("delta"))):
            if used := each.get("usage"):
                return fields(used)
    return _timed(fields(body.get("timings")))


def _timed(timings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The usage by what llama.cpp's server has timed: it tells that with each answer, and usage only if asked to."""
    processed, made = count(timings.get("prompt_n")), count(timings.get("predicted_n"))
    if processed is None or made is None:
        return {}
    cached = count(timings.get("cache_n")) or 0
    return {
        "prompt_tokens": processed + cached,
        "completion_tokens": made,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def _is_told(usage: Mapping[str, Any]) -> bool:
    """Whether both counts are there, and not merely as zeros: those may follow what was told before."""
    sent = count(usage.get("prompt_tokens")) or count(usage.get("input_tokens"))
    return bool(sent and (count(usage.get("completion_tokens")) or count(usage.get("output_tokens"))))


def _ended(chunk: Mapping[str, Any], reasons: dict[object, str]) -> None:
    for choice in items(chunk.get("choices")):
        if reason := text(choice.get("finish_reason")):
            reasons.setdefault(choice.get("index"), reason)


def _streamed_calls(body: bytes) -> int:
    """The tool calls in a stream's pieces, whatever it ended with.

    A piece is of the call with its index, or at its place in the chunk (Gemini, Ollama). Its id may be empty
    (DashScope), or be said again with every piece (Fireworks); another id with a name, under an index that was there,
    is another call, and so is another name where there are no ids. A `function_call` of old is one.
    """
    if not any(word in body for word in WORDS_OF_CALLS):
        return 0
    made: dict[tuple[object, object], set[str | None]] = {}
    calls = 0
    for data in [*lines_with(CALLS, body)][::-1]:
        if b'"name"' not in data:
            continue
        for choice in items(decoded(data).get("choices")):
            delta = fields(choice.get("delta"))
            own_way = (
                [{"index": "function_call", "function": made_of}] if (made_of := delta.get("function_call")) else []
            )
            for n, piece in enumerate((*items(delta.get("tool_calls")), *own_way)):
                known = made.setdefault((choice.get("index"), piece.get("index", n)), set())
                name, own = text(fields(piece.get("function")).get("name")), text(piece.get("id"))
                if not known or (name is not None and (name if own is None else own) not in known):
                    calls += 1
                known |= {name, own}
    return calls


def fold_responses(body: bytes) -> Reading:
    """The events of a Responses API stream: the last one carries the whole response."""
    failure: str | None = None
    for data in chain(islice(backwards(body), TAIL_EVENTS), lines_with(FINAL, body)):  # before a long tail, too
        event = decoded(data)
        if event.get("type") in FINAL_RESPONSE:
            whole = read_responses(event.get("response"))
            # Gateways leave out of it what the items have said before it.
            return whole if whole.tool_calls else whole._replace(tool_calls=_items_called(body))
        if event.get("type") == "error":
            failure = text(event.get("code")) or text(fields(event.get("error")).get("code")) or "error"
    first = next((event for data in forwards(body) if (event := decoded(data)).get("response")), {})
    return read_responses(first.get("response"))._replace(
        usage=None, finish_reasons=(), error=failure, complete=False, tool_calls=0
    )


FINAL = lazy(rb'"type"\s*:\s*"response\.(?:completed|incomplete|failed|done)"')
ITEM_DONE = lazy(rb'"response\.output_item\.done"')


def _items_called(body: bytes) -> int:
    """The function calls among the items of a stream."""
    done = (fields(decoded(data).get("item")).get("type") for data in lines_with(ITEM_DONE, body))
    return sum(kind in CALLED for kind in done)


# --- requests ---------------------------------------------------------------------------------------------------------


def chat_tool_steps(body: Mapping[str, Any]) -> int:
    """Rounds of tool calls and results since the last word of the user, from a chat request's own messages."""
    steps = 0
    messages = body.get("messages")
    for message in reversed(messages) if isinstance(messages, list) else ():
        its = message if type(message) is dict else fields(message)
        role = its.get("role")
        if role == "user":
            break
        steps += role == "assistant" and _calls_of(its) > 0
    return steps


def _calls_of(message: Mapping[str, Any]) -> int:
    """The tool calls in a message; before there were tools, one `function_call`."""
    made = message.get("tool_calls")
    return len(made) if made and isinstance(made, list | tuple) else int(message.get("function_call") is not None)


def result_rounds(conversation: object, is_result: Callable[[str], bool]) -> int:
    """Rounds of tool results since the last word of the user, in a list of typed items; those of one stand together."""
    steps, before = 0, False
    for item in reversed(conversation) if isinstance(conversation, list) else ():
        member = fields(item)
        if member.get("role") == "user" or member.get("type") == "user_input":
            break
        result = is_result(str(member.get("type", "")))
        steps += result and not before
        before = result
    return steps


def results_sent(conversation: object, is_result: Callable[[str], bool]) -> int:
    """Tool calls in the model's latest turn, by the results that are sent back now."""
    made = 0
    for item in reversed(conversation) if isinstance(conversation, list) else ():
        if is_result(str(fields(item).get("type", ""))):
            made += 1
        elif made:
            break
    return made


def _is_result(kind: str) -> bool:
    return kind.endswith("_call_output")


def responses_tool_steps(body: Mapping[str, Any]) -> int:
    """The same for a Responses request; rounds of earlier responses in the chain are the caller's to add."""
    return result_rounds(body.get("input"), _is_result)


def chat_last_tool_calls(body: Mapping[str, Any]) -> int:
    """Tool calls in the model's latest turn, from a chat request's own messages."""
    messages = body.get("messages")
    for message in reversed(messages) if isinstance(messages, list) else ():
        if fields(message).get("role") == "assistant":
            return _calls_of(fields(message))
    return 0


def responses_last_tool_calls(body: Mapping[str, Any]) -> int:
    """The same for the Responses API: the results that are sent back now."""
    return results_sent(body.get("input"), _is_result)


# --- the output cap of a request --------------------------------------------------------------------------------------

MIN_RESPONSES_CAP = 16
"""The least `max_output_tokens` that OpenAI takes."""


def chat_capped(body: Mapping[str, Any], cap: int, provider: str) -> Mapping[str, Any]:
    """A chat request with this output cap, in the parameter it uses, or the one that its model and host know.

    OpenAI's reasoning models refuse `max_tokens`, its others take both; most compatible hosts know only `max_tokens`.
    """
    used = [key for key in CHAT.caps if body.get(key) is not None]
    own = "max_completion_tokens" if provider in ("openai", "azure.ai.openai") else "max_tokens"
    return {**body, **dict.fromkeys(used or (own,), cap)}


def completions_capped(body: Mapping[str, Any], cap: int, provider: str) -> Mapping[str, Any]:
    """A legacy completion request with this output cap."""
    return {**body, "max_tokens": cap}


def responses_capped(body: Mapping[str, Any], cap: int, provider: str) -> Mapping[str, Any]:
    """A Responses request with this output cap, or the least that the API takes."""
    return {**body, "max_output_tokens": max(cap, MIN_RESPONSES_CAP)}


# --- the rows ---------------------------------------------------------------------------------------------------------

LEFT_OUT = frozenset(
    {
        *("user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
        *("prompt_cache_options", "service_tier"),
    }
)
"""Not `store`: the answer's id is good for more, or is not."""

CHAT = Api(
    "chat",
    "chat",
    ("/chat/completions",),
    ("max_completion_tokens", "max_tokens"),
    read_chat,
    fold_chat,
    CONVERSATION,
    chat_tool_steps,
    chat_last_tool_calls,
    chat_capped,
    include_usage=True,
    fees=("web_search_options",),
    left_out=LEFT_OUT,
)
COMPLETIONS = Api(
    "completions",
    "text_completion",
    ("/completions",),
    ("max_tokens",),
    read_chat,
    fold_chat,
    CONVERSATION._replace(texts=("prompt",)),
    capped=completions_capped,
    include_usage=True,
    choices=("n", "best_of"),
    prompts="prompt",
    left_out=LEFT_OUT,
)
RESPONSES = Api(
    "responses",
    "chat",
    ("/responses", "/responses/compact"),
    ("max_output_tokens",),
    read_responses,
    fold_responses,
    Words("input", "instructions", streamed=("delta", "text", "arguments", "refusal", "input")),
    responses_tool_steps,
    responses_last_tool_calls,
    responses_capped,
    goes_on_from="previous_response_id",
    # https://platform.openai.com/docs/api-reference/responses/create
    shortens=Option("truncation", lambda most: "auto", ("openai", "azure.ai.openai")),
    left_out=LEFT_OUT,
)
EMBEDDINGS = Api(
    "embeddings",
    "embeddings",
    ("/embeddings",),
    (),
    read_embeddings,
    fold_chat,
    Words(texts=("input",)),
    left_out=LEFT_OUT,
)

APIS: Final = (CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS)
PERPLEXITY: Final = (EMBEDDINGS._replace(paths=("/contextualizedembeddings",)),)
