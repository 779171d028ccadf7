"""Where the input of a request is, in any wire format."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenguard.facts import names
from tokenguard.inputs import pieces
from tokenguard.inputs.pieces import taken_apart
from tokenguard.inputs.sections import sections, shared_out, tool_shares

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}


def test_a_chat_with_everything():
    """Each part of a chat is in its section: a tool's result is not history, and the last turn is the user's last."""
    body = {
        "messages": [
            {"role": "system", "content": "s" * 400},
            {"role": "user", "content": "h" * 100},
            {"role": "assistant", "content": "a" * 100},
            {"role": "user", "content": [{"type": "text", "text": "l" * 200}, PICTURE]},
            {"role": "assistant", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "r" * 800},
        ],
        "tools": [{"type": "function", "function": {"name": "look", "description": "d" * 300}}],
    }
    found = sections(taken_apart(body), 5000)
    assert sum(found.values()) == 5000
    per_char = found[names.input_attribute("system")] / 400
    for name, chars in (("history", 212), ("last", 200), ("tool_results", 800), ("media", 3000), ("tools", 365)):
        assert found[names.input_attribute(name)] / per_char == pytest.approx(chars, rel=0.03), name


def test_what_the_provider_remembers_is_history():
    """Input beyond what the request says, where it goes on from an earlier answer, is history."""
    found = sections(taken_apart({"input": "x" * 400, "previous_response_id": "resp_1"}), 5000)
    assert found == {names.input_attribute("history"): 4900, names.input_attribute("last"): 100}


@pytest.mark.parametrize(
    "tools",
    [
        {"tools": [{"type": "function", "function": {"name": "a"}}, {"type": "function", "function": {"name": "b"}}]},
        {"tools": [{"type": "function", "name": "a"}, {"type": "function", "name": "b"}]},
        {"tools": [{"name": "a", "input_schema": {}}, {"name": "b", "input_schema": {}}]},
        {"tools": [{"functionDeclarations": [{"name": "a"}, {"name": "b"}]}]},
        {"toolConfig": {"tools": [{"toolSpec": {"name": "a"}}, {"toolSpec": {"name": "b"}}, {"cachePoint": {}}]}},
        {"functions": [{"name": "a"}, {"name": "b"}]},
    ],
)
def test_tools_by_name(tools):
    """The tools of every wire format are told apart by their names."""
    assert tool_shares(taken_apart(tools).head) == {"a": 0.5, "b": 0.5}


@given(st.integers(0, 10**9), st.dictionaries(st.text(max_size=3), st.integers(1, 10**6), min_size=1, max_size=9))
def test_parts_sum_to_the_whole(total, weights):
    """No token is lost or counted twice, and no part is more than one off its share."""
    parts = shared_out(total, weights, weights.values())
    assert sum(parts.values()) == total
    whole = sum(weights.values())
    assert all(abs(parts[key] - total * weight / whole) < 1 for key, weight in weights.items())


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "messages",
                        "content",
                        "role",
                        "tools",
                        "system",
                        "parts",
                        "type",
                        "text",
                        "input",
                        "function",
                        "toolConfig",
                        "cache_control",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    )
)
def test_odd_requests(body):
    """A request of any shape is taken apart without an error."""
    request = taken_apart(body if isinstance(body, dict) else {"messages": body})
    assert sum(sections(request, 77).values()) in (0, 77)


@pytest.mark.parametrize("role", sorted(pieces.SPEAKERS))
@pytest.mark.parametrize("content", ["Hello.", "", "line one\nline two", [{"type": "text", "text": "Hello."}], None, 7])
def test_a_message_of_a_text_is_read_as_any_other(role, content):
    """What is not looked through because there is nothing more to find is what looking through it finds."""
    short = pieces.TEXTS.turn({"role": role, "content": content})
    long = pieces.TEXTS.turn({"role": role, "content": content, "name": None})
    assert short == long


def test_marks_in_messages_count_wherever_the_conversation_stands():
    """A mark is found in the messages of every format, at the message that has it, and not one before or after."""
    marked = {"role": "user", "content": [{"type": "text", "text": "b", "cache_control": {"ttl": "1h"}}]}
    for key in ("messages", "input"):
        conversation = [{"role": "user", "content": "a"}, {}, marked, {"role": "user", "content": "c"}]
        found = pieces.taken_apart({key: conversation})
        assert (found.marked, found.lasting) == (2, True)
