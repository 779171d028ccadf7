"""Which calls may be answered by what another one was told, and which answers may be kept for that."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from tokenguard.call.call import Call
from tokenguard.facts import names
from tokenguard.policy import Cache
from tokenguard.providers import Api, Reading
from tokenguard.providers.reading import fields

HISTORY: Final = frozenset(
    {
        *("previous_response_id", "conversation", "conversation_id", "previous_interaction_id", "agent_id", "agent"),
        *("session_id", "container", "cachedContent", "cached_content", "prompt_id", "context"),
    }
)
"""Keys of a request that name what the provider holds, and what may change there."""
HOSTED: Final = frozenset(
    {
        *("web_search_options", "search_parameters", "connectors", "plugins", "mcp_servers", "data_sources"),
        *("enable_search", "search_domain_filter", "guardrailConfig"),
    }
)
"""Keys of a request that have the provider do more than answer: search the web, say."""
NAMING: Final = frozenset(
    {
        *("file_id", "fileId", "file_ids", "file_uri", "fileUri", "s3Location", "document_id"),
        *("vector_store_ids", "graph_ids", "library_ids"),
    }
)
"""Keys of input that the provider holds under a name: what is there may change."""
LINKING: Final = frozenset(
    {
        *("url", "uri", "image_url", "video_url", "audio_url", "file_url", "document_url"),
        *("image", "images", "video", "audio", "input_audio", "file", "file_data", "document", "source", "src"),
    }
)
"""Keys of input that may be given by its address, where it may change too."""
SEARCHING: Final = re.compile(r"search-preview|search-api|deep-research|(^|[/-])sonar(-|$)|(^|/)compound(-|$)|:online$")
"""In the names of models that search the web unasked: OpenAI's, Perplexity's, Groq's, OpenRouter's."""
LONGEST_SCHEME: Final = 32
TOOLS: Final = ("tools", "toolConfig", "functions")
"""Where a request offers tools."""
OWN_TOOLS: Final = frozenset({None, "function", "custom"})
"""The types of tools that the application runs."""
DEFINES: Final = frozenset(
    {
        *("function", "name", "functionDeclarations", "function_declarations", "toolSpec", "input_schema"),
        *("parameter_definitions", "parameterDefinitions"),
    }
)
"""A tool of the application's own has one of these keys."""
DETERMINED: Final = frozenset({"embeddings", "rerank", "moderation", "decision"})
"""Operations with one answer: there is nothing to be sampled."""
WORDS: Final = frozenset({"chat", "text_completion"})
"""Operations whose answer has words."""
MEDIA: Final = frozenset({"image_generation", "video_generation"})
"""Operations whose answers name what was made by an address that soon is no more, or are too large to keep."""
STOPPED: Final = frozenset(
    {
        *("stop", "end_turn", "stop_sequence", "completed", "complete", "finish", "finished", "eos", "eos_token"),
        *("endoftext", "endofturn"),
    }
)
"""Finish reasons of an answer that ended by itself, in lower case."""


def unfit(call: Call, rule: Cache) -> str | None:
    """Why a call is not looked up; `None` where it may be, unless it `refers`."""
    api, request = call.api, call.request
    samples, more = _told(api, call.model, tuple(request))
    if samples and not rule.sampled and api.settings_of(request).get("temperature") != 0:
        return "sampled"
    return _asks(call, rule) if more else None


@lru_cache(maxsize=1024)
def _told(api: Api, model: str | None, keys: tuple[str, ...]) -> tuple[bool, bool]:
    """Whether requests with these keys are sampled if they set a temperature, and whether they may ask for more."""
    unusual = HISTORY.union(HOSTED, TOOLS, ("background", api.goes_on_from, api.prompts), api.chosen_by, api.fees)
    choices = api.generates and (api.settings != "" or not set(api.choices).isdisjoint(keys))
    searches = model is not None and SEARCHING.search(model) is not None
    media = api.operation in MEDIA
    more = media or choices or searches or api.changes or not unusual.isdisjoint(keys)
    return not media and api.operation not in DETERMINED, more


def _asks(call: Call, rule: Cache) -> str | None:
    """What a request asks for besides one answer to what is in it."""
    api, request = call.api, call.request
    if api.operation in MEDIA:
        return "media"
    if api.generates and api.answers(request) > 1:
        return "several"
    if api.changes or _has(request, HISTORY.union((api.goes_on_from,), api.chosen_by)):
        return "history"
    if request.get("background"):
        return "background"
    searches = call.model is not None and SEARCHING.search(call.model) is not None
    if (searches and request.get("disable_search") is not True) or _has(request, HOSTED.union(api.fees)):
        return "hosted"
    tools = _tools(request)
    if not all(map(_is_own, tools)):
        return "hosted"
    return "tools" if tools and not rule.tools else None


def refers(parts: Iterable[Mapping[str, Any]]) -> str | None:
    """The reason where one of these parts of a body names input that is elsewhere."""
    return "files" if any(map(_names, parts)) else None


def _names(part: Mapping[str, Any]) -> bool:
    return not NAMING.isdisjoint(part) or any(_is_address(part.get(key)) for key in LINKING.intersection(part))


def _is_address(value: object) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_is_address, value))
    return isinstance(value, str) and "://" in value[:LONGEST_SCHEME] and not value.lower().startswith("data:")


def _has(request: Mapping[str, Any], keys: frozenset[str]) -> bool:
    return any(request.get(key) is not None for key in keys)


def _tools(request: Mapping[str, Any]) -> list[Any]:
    """The tools that a request offers, whatever its wire format calls them."""
    given = request.get("tools") or fields(request.get("toolConfig")).get("tools") or request.get("functions")
    return list(given) if isinstance(given, list | tuple) else [given] if given else []


def _is_own(tool: object) -> bool:
    """Whether the application runs it; a form that is not known is taken as the provider's."""
    named = fields(tool)
    return named.get("type") in OWN_TOOLS and not DEFINES.isdisjoint(named) and "systemTool" not in named


def unkept(call: Call, reading: Reading, outcome: str) -> str | None:
    """Why an answer is not kept; `None` where it may be."""
    if outcome != names.OK:
        return outcome
    if not reading.complete:
        return "incomplete"
    if reading.tool_calls:
        return "tool_call"
    usage = reading.usage
    if reading.extra_fees or (usage is not None and (usage.web_searches or usage.file_searches or usage.map_searches)):
        return "hosted"
    if call.api.generates and not _stopped(reading.finish_reasons):
        return "finish"
    if call.api.operation in WORDS and usage is not None and usage.output == 0:
        return "empty"
    return None


@lru_cache(maxsize=256)
def _stopped(reasons: tuple[str, ...]) -> bool:
    """Whether all of them say that an answer ended by itself."""
    return bool(reasons) and STOPPED.issuperset(map(str.lower, reasons))
