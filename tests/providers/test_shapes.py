"""The counts of an SDK's model are those of the JSON that it was made of, whatever stands in it."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types import CompletionUsage, CreateEmbeddingResponse
from openai.types.create_embedding_response import Usage as EmbeddingUsage
from openai.types.responses import ResponseUsage
from pydantic import BaseModel, ConfigDict

from tokenguard.providers.anthropic import MESSAGES_USAGE
from tokenguard.providers.openai import CHAT_USAGE, EMBEDDINGS_USAGE, RESPONSES_USAGE
from tokenguard.providers.reading import Shape, read_usage

CHAT: dict[str, Any] = {
    "prompt_tokens": 12,
    "completion_tokens": 7,
    "total_tokens": 19,
    "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 0},
}
CHATS = [
    CHAT,
    {**CHAT, "prompt_tokens_details": None},
    {**CHAT, "completion_tokens_details": {}},
    {**CHAT, "prompt_tokens_details": {"cached_tokens": 5, "cache_creation_tokens": 2}},  # a host's own
    {**CHAT, "prompt_cache_hit_tokens": 9},
    {**CHAT, "prompt_tokens": 12.0},
    {**CHAT, "prompt_tokens": "12", "completion_tokens": -1},
    {**CHAT, "completion_tokens": True},
    {**CHAT, "prompt_tokens": None},
    {"prompt_tokens": 12},
    {},
]


@pytest.mark.parametrize("said", CHATS, ids=repr)
@pytest.mark.parametrize("first", CHATS[:3], ids=["whole", "without details", "without words"])
def test_chat(said: dict[str, Any], first: dict[str, Any]) -> None:
    """Whatever was read before, and each time."""
    shape = Shape(_spelled(CHAT_USAGE))
    read_usage(CompletionUsage.construct(**first), shape)
    wanted = read_usage(said, CHAT_USAGE)
    for _ in range(3):
        assert read_usage(CompletionUsage.construct(**said), shape) == wanted


def _spelled(shape: Shape) -> dict[str, Any]:
    """What a shape was made of."""
    from tokenguard.facts.usage import Usage

    places, below = shape.all
    return {**{key: Usage._fields[place] for key, place in places}, **{key: _spelled(its) for key, its in below}}


def test_other_formats() -> None:
    """Responses, embeddings and messages; of two keys that mean the same, the larger counts."""
    from anthropic.types import Usage as MessageUsage

    rows: list[tuple[Any, Shape, dict[str, Any]]] = [
        (EmbeddingUsage, EMBEDDINGS_USAGE, {"prompt_tokens": 0, "total_tokens": 24}),
        (
            ResponseUsage,
            RESPONSES_USAGE,
            {
                "input_tokens": 9,
                "output_tokens": 3,
                "total_tokens": 12,
                "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 1},
                "output_tokens_details": {"reasoning_tokens": 1},
            },
        ),
        (
            MessageUsage,
            MESSAGES_USAGE,
            {
                "input_tokens": 9,
                "output_tokens": 3,
                "cache_read_input_tokens": 5,
                "cache_creation_input_tokens": 2,
                "cache_creation": {"ephemeral_1h_input_tokens": 1, "ephemeral_5m_input_tokens": 1},
                "server_tool_use": {"web_search_requests": 2},
            },
        ),
    ]
    for kind, shape, said in rows:
        wanted = read_usage(said, shape)
        assert wanted is not None
        for _ in range(3):
            assert read_usage(kind.construct(**said), shape) == wanted
    assert CreateEmbeddingResponse.model_fields["usage"].annotation is EmbeddingUsage


def test_classes_that_differ() -> None:
    """A field that holds another class than before is read all the same."""

    class One(BaseModel):
        n: int | None = None

    class Other(BaseModel):
        model_config = ConfigDict(extra="allow")
        n: int | None = None

    class Whole(BaseModel):
        n: int | None = None
        more: Any = None

    shape = Shape({"n": "input", "more": {"n": "cache_read", "m": "cache_write"}})
    for more in (None, One(n=3), Other(n=4), Other.model_validate({"n": 4, "m": 2}), {"n": 5}, One(n=6), None) * 2:
        wanted = read_usage({"n": 1, "more": None if more is None else dict(more)}, shape)
        assert read_usage(Whole(n=1, more=more), shape) == wanted


class Lives(BaseModel):
    model_config = ConfigDict(extra="allow")
    short: int | None = None


class Details(BaseModel):
    n: int | None = None
    lives: Lives | None = None


class Deep(BaseModel):
    n: int | None = None
    more: Details | None = None


DEEP: list[dict[str, Any]] = [
    {"n": 1},
    {"n": 1, "more": {"n": 2}},
    {"n": 1, "more": {"n": 2, "lives": {"short": 3}}},
    {"n": 1, "more": {"n": 2, "lives": {"short": 3, "long": 4}}},
]


@pytest.mark.parametrize("first", DEEP, ids=repr)
def test_three_deep(first: dict[str, Any]) -> None:
    """However deep the counts are, and whatever was seen of a class before."""
    shape = Shape({"n": "input", "more": {"n": "cache_read", "lives": {"short": "cache_write", "long": "reasoning"}}})
    for said in (first, *DEEP, *DEEP):
        assert read_usage(Deep.model_validate(said), shape) == read_usage(said, shape)


@pytest.mark.parametrize("said", DEEP[:3], ids=repr)
def test_known_at_the_second_time(said: dict[str, Any]) -> None:
    """A class that was seen once is read by what was written for it, however deep."""
    shape = Shape({"n": "input", "more": {"n": "cache_read", "lives": {"short": "cache_write"}}})
    node = Deep.model_validate(said)
    wanted = read_usage(node, shape)
    assert shape.taken(node) == wanted
