"""`upper_bound_request` is what the guard trusts without counting: it holds for whatever a body's JSON is made of."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokenguard.providers import every_api
from tokenguard.tokens import count_request, upper_bound_request
from tokenguard.tokens.bounds import KEYED_MEDIA
from tokenguard.tokens.text import O200K, encoding

FORMATS = {api.id: api.words for api in every_api()}

LONG = "Where is my order? 注文 " * 500
# Quotes and control characters are left out: JSON escapes them, the provider reads them unescaped.
WORDS = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters='"\\'), max_size=8)
MEANT = {"type", *KEYED_MEDIA}
"""Keys by which a part says what it is: where one is, a bound may say that it is not complete."""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda below: st.lists(below, max_size=40) | st.dictionaries(WORDS.filter(lambda key: key not in MEANT), below),
    max_leaves=60,
)


def with_tool_input(value):
    """A body in which the assistant called a tool with this argument."""
    call = {"type": "tool_use", "id": "t1", "name": "f", "input": {"v": value}}
    return {"model": "claude-sonnet-4-6", "messages": [{"role": "assistant", "content": [call]}]}


def tokens(value):
    """The tokens of a value's compact JSON."""
    return len(encoding(O200K).encode_ordinary(json.dumps(value, ensure_ascii=False, separators=(",", ":"))))


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(JSON)
def test_the_bound_holds_for_any_arguments(value):
    """Numbers, short strings, empty ones, deep lists and foreign keys are all bounded by what their JSON takes."""
    bound = upper_bound_request(with_tool_input(value))
    assert bound.complete
    assert bound.tokens >= tokens(value)


@pytest.mark.parametrize(
    "value",
    [
        [0, LONG],
        [10**15 + n for n in range(500)],
        [1] * 500,
        [""] * 500,
        ["a"] * 500,
        [[]] * 500,
        {f"k{n}": 1 for n in range(500)},
        {f"漢龘{n}": 1 for n in range(500)},
    ],
    ids=["number first", "long numbers", "digits", "empty", "letters", "lists", "short keys", "foreign keys"],
)
@pytest.mark.parametrize("place", ["schema", "arguments"])
def test_the_bound_holds_where_structure_outweighs_text(value, place):
    """A list is taken for tokens only where an API takes tokens, and each key and item has room for its punctuation."""
    if place == "arguments":
        body, api = with_tool_input(value), "messages"
    else:
        tool = {"type": "function", "function": {"name": "f", "parameters": {"enum": value}}}
        body, api = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "tools": [tool]}, "chat"
    bound = upper_bound_request(body)
    assert bound.complete
    assert bound.tokens >= max(tokens(value), count_request(FORMATS[api], body).tokens)


@pytest.mark.parametrize("key", ["input", "prompt"])
def test_tokens_in_place_of_text_count_one_each(key):
    """Embeddings and legacy completions take lists of tokens, and lists of such lists; the bound stays close."""
    for value, counted in (([123456] * 300, 300), ([[123456] * 100] * 3, 300)):
        assert counted <= upper_bound_request({"model": "gpt-4o", key: value}).tokens <= counted + 60


def test_a_number_among_texts_hides_none():
    """An embeddings input that begins with a number, and goes on with text, is bounded by the text."""
    body = {"model": "text-embedding-3-small", "input": [1, LONG]}
    assert upper_bound_request(body).tokens >= count_request(FORMATS["embeddings"], body).tokens > 1000


def test_marks_are_seen_wherever_they_are():
    """A request that marks anything for the cache says so: a text, a tool, a picture, or itself."""
    mark = {"cache_control": {"type": "ephemeral"}}
    picture = {"type": "image", "source": {"type": "base64", "data": "AAAA"}}
    for body in (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", **mark}]}]},
        {"messages": [{"role": "user", "content": [{**picture, **mark}]}]},
        {"tools": [{"name": "f", "input_schema": {}, **mark}]},
        {"system": [{"text": "x"}, {"cachePoint": {"type": "default"}}]},
        mark,
    ):
        assert upper_bound_request(body).marked
    assert not upper_bound_request({"messages": [{"role": "user", "content": [picture]}]}).marked
