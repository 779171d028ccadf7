"""A request is the same in whatever order its keys are, however deep, and another one by any of its values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenguard.inputs.request import fingerprint, identity, snapshot
from tokenguard.process import hashes

TOOL = {"name": "search", "description": "Looks it up.", "input_schema": {"type": "object", "properties": {"q": {}}}}
USE = {"type": "tool_use", "id": "t1", "name": "search", "input": {"q": "tyres", "within": [[{"from": 1, "to": 2}]]}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "none"}]}
CALL = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"q": "tyres"}'}}
BODIES: dict[str, dict[str, Any]] = {
    "messages": {
        "model": "m",
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "tools": [TOOL],
        "messages": [
            {"role": "user", "content": "tyres?"},
            {"role": "assistant", "content": [{"type": "text", "text": "I look."}, USE]},
            {"role": "user", "content": [RESULT]},
        ],
    },
    "chat": {
        "model": "m",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "tyres?"}]},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "none"},
        ],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    },
    "responses": {
        "model": "m",
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "tyres?"}]},
            {"type": "function_call", "call_id": "c1", "name": "search", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "none"},
        ],
        "reasoning": {"effort": "low", "summary": "auto"},
    },
    "contents": {
        "model": "m",
        "contents": [
            {"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}, {"text": "what?"}]}
        ],
        "config": {"temperature": 0, "system_instruction": {"role": "system", "parts": [{"text": "Be brief."}]}},
    },
    "one content": {"model": "m", "contents": {"role": "user", "parts": [{"text": "what?"}]}},
    "many tools": {
        "model": "m",
        "messages": [{"role": "user", "content": "tyres?"}],
        "tools": [TOOL | {"name": f"tool{n}", "description": "Looks it up. " * 60} for n in range(200)],
    },
}


def turned(value: Any) -> Any:
    """The same data with the keys of every mapping the other way round."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    return [turned(each) for each in value] if isinstance(value, list) else value


def told(body: dict[str, Any]) -> str:
    request, is_plain = snapshot("a", "p", body)
    assert is_plain
    return fingerprint(request, is_plain=True)


@pytest.fixture(params=["of this process", "of a fleet"])
def salt(request):
    """Fingerprints of one process go by Python's hash, those of a fleet by the bytes."""
    hashes.salted("s" if request.param == "of a fleet" else None)
    yield
    hashes.salted(None)


@pytest.mark.usefixtures("salt")
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_the_order_of_keys_does_not_matter(body) -> None:
    """Not that of the arguments, of a message, of a part, of what a tool was asked for, of a schema."""
    assert told(turned(body)) == told(body)
    assert identity(turned(body)) == identity(body)


@pytest.mark.usefixtures("salt")
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_any_other_value_matters(body) -> None:
    """Each leaf is told, and so is the order of a list."""

    def others(value: Any):
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from ({**value, key: other} for other in others(inner))
        elif isinstance(value, list):
            for place, inner in enumerate(value[:3]):
                yield from ([*value[:place], other, *value[place + 1 :]] for other in others(inner))
            if len(value) > 1:
                yield value[::-1]
        else:
            yield "something else"

    found = [told(each) for each in (body, *others(body))]
    assert len(set(found)) == len(found) > 3


def test_equal_tools_are_held_once() -> None:
    """A program's tools come with each of its requests; those that wait to be looked at share one object."""
    (_, one), (_, other) = (snapshot("a", "p", BODIES["many tools"] | {"n": n})[0].nested[0] for n in range(2))
    assert one is other


def test_tools_are_told_as_they_are_now() -> None:
    """A program may change its tools, in place, between two requests, and change them back."""
    body = BODIES["many tools"] | {"tools": [TOOL | {"name": f"tool{n}"} for n in range(50)]}
    before = told(body)
    schema = body["tools"][7]["input_schema"] = {"type": "object", "properties": {"q": {"type": "string"}}}
    changed = told(body)
    schema["properties"]["q"] = {}
    assert changed != before == told(body)


class Odd:
    """No plain data, and nothing that can be compared."""

    def __eq__(self, other: object) -> bool:
        raise TypeError("not with me")

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "odd"


def test_what_cannot_be_compared_is_spelled_out() -> None:
    """Where tools hold something else than plain data, the request is told by how that is spelled."""
    tools = BODIES["many tools"]["tools"]
    told(BODIES["many tools"])  # there is something to compare with
    requests = [
        snapshot("a", "p", BODIES["many tools"] | {"tools": [tools[0] | {"name": name}, *tools[1:]]})
        for name in (Odd(), Odd(), "other")
    ]
    assert [is_plain for _, is_plain in requests] == [False, False, True]
    assert len({fingerprint(*each) for each in requests}) == 2


@pytest.mark.usefixtures("salt")
def test_a_message_that_is_no_plain_data_is_spelled_out() -> None:
    """Whatever the order of its keys."""
    parts: list[dict[str, Any]] = [{"a": 1, "b": object}, {"b": object, "a": 1}, {"a": 1, "b": list}]
    requests = [snapshot("a", "p", {"messages": [{"role": "user", "content": [part]}]}) for part in parts]
    assert not any(is_plain for _, is_plain in requests)
    one, other, third = (fingerprint(*each) for each in requests)
    assert one == other != third


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@settings(deadline=None)  # a busy machine is no defect
@given(PLAIN, PLAIN)
def test_whatever_stands_in_a_message(first, second) -> None:
    """Equal but for the order of keys: equal; else not."""
    one, other, again = (
        {"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": each}]}
        for each in (first, second, turned(first))
    )
    assert told(one) == told(again)
    assert (told(one) == told(other)) == (repr(hashes.canonical(first)) == repr(hashes.canonical(second)))
