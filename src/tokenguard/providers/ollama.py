"""Ollama's own wire formats; its OpenAI-compatible ones are OpenAI's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tokenguard.providers.api import Api, no_tool_steps
from tokenguard.providers.events import decoded
from tokenguard.providers.openai import chat_last_tool_calls, chat_tool_steps
from tokenguard.providers.reading import Reading, Shape, fields, read_usage, text
from tokenguard.providers.words import CONVERSATION, Words

CACHED: Final = "prompt_eval_cached_count"
"""Of the prompt's tokens those that were cached; the SDK's models have no field for it."""
USAGE: Final = Shape({"prompt_eval_count": "input", "eval_count": "output", CACHED: "cache_read"})


def read(response: object) -> Reading:
    """A response to chat, generate or embed; the last part of a stream has the same fields."""
    body = fields(response)
    reason = text(body.get("done_reason"))
    return Reading(
        usage=read_usage(body, USAGE),
        model=text(body.get("model")),
        finish_reasons=(reason,) if reason else (),
        tool_calls=len(fields(body.get("message")).get("tool_calls") or ()),
    )


def fold(body: bytes) -> Reading:
    """The lines of a stream, each a JSON object; the last has `done` and the counts, others the tool calls."""
    lines = body.splitlines()
    last = decoded(lines[-1]) if lines else {}
    calls = sum(read(decoded(line)).tool_calls for line in lines if b'"tool_calls":[' in line.replace(b" ", b""))
    error = "error" if last.get("error") else None
    return read(last)._replace(tool_calls=calls, error=error, complete=last.get("done") is True)


def capped(body: Mapping[str, Any], cap: int, provider: str) -> Mapping[str, Any]:
    """A request with this output cap."""
    return {**body, "options": {**fields(body.get("options")), "num_predict": cap}}


CHAT = Api(
    "ollama_chat",
    "chat",
    ("/api/chat",),
    ("num_predict",),
    read,
    fold,
    CONVERSATION,
    chat_tool_steps,
    chat_last_tool_calls,
    capped,
    settings="options",
)
GENERATE = CHAT._replace(
    id="ollama_generate",
    operation="text_completion",
    paths=("/api/generate",),
    words=Words(texts=("system", "prompt"), streamed=("response", "thinking")),
    tool_steps=no_tool_steps,
    last_tool_calls=no_tool_steps,
)
EMBED = Api(
    "ollama_embed", "embeddings", ("/api/embed", "/api/embeddings"), (), read, fold, Words(texts=("input", "prompt"))
)

APIS = (CHAT, GENERATE, EMBED)
