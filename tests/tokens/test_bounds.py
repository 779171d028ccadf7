"""The bound by the bytes that a request takes is the one that a walk over it finds."""

from __future__ import annotations

import copy
import marshal
import random
import subprocess
import sys

import pytest

from tokenguard.inputs.request import snapshot
from tokenguard.tokens import bounds, upper_bound_request

TEXTS = ("", "hello", "naïve", "数据保护" * 40, "x" * 3000, "\ud800", "🎉", "a\x00b")
SCHEMA = {"type": "object", "properties": {"a": {"minimum": 1}}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:"}}
MESSAGES = (
    {"role": "user", "content": "数据"},
    {"role": "tool", "tool_call_id": "c1", "content": "x"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function"}]},
    {
        "role": "user",
        "content": [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "data:"}}],
    },
    {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]},
    {
        "role": "assistant",
        "tool_calls": [{"id": "数", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "assistant", "content": "x", "tool_calls": [PICTURE]},
    {"role": "tool", "tool_call_id": None, "content": "x"},
    {"role": PICTURE, "content": "x"},
    {"role": "user", "content": "x", "images": ["data:"]},
    ["role", "content"],
    {"content": "no role"},
    {"role": "user", "content": "x", "name": "n"},
    {"role": 7, "content": "x"},
    "text",
    7,
)
MORE = (
    {},
    {"tools": [TOOL] * 3},
    {"functions": [TOOL]},
    {"tools": [{"type": "web_search"}]},
    {"tools": []},
    {"toolConfig": {"tools": [{"toolSpec": {"name": "数"}}]}},
    {"system": "数据" * 9, "temperature": 0.5, "metadata": {"user": "x"}, "stream": True, "stop": None},
    {"previous_response_id": "r1", "tools": [TOOL], "functions": [TOOL]},
    {"input": [{"role": "user", "content": "x"}]},
    {"input": [{"role": "user", "content": [PICTURE]}]},
)


@pytest.fixture(autouse=True)
def short_ones_too(monkeypatch):
    """The shortest requests are no others, but are not worth it."""
    monkeypatch.setattr(bounds, "SHORT", 0)


def size(body):
    request, plain = snapshot("openai.chat", "openai", body)
    assert plain
    assert request.size() == len(marshal.dumps(body, 2))
    return len(marshal.dumps(body, 2))


def said(body):
    """What a call knows of its messages where they are texts."""
    return snapshot("openai.chat", "openai", body)[0].said()


def written(body):
    """What a call knows of its tools."""
    return snapshot("openai.chat", "openai", body)[0].written()


@pytest.mark.parametrize("more", MORE)
def test_plain_messages(more):
    """Messages of a role and a text, with all else that a request may have: the same bound, to the token."""
    rolled = random.Random(1)
    for count in (0, 1, 2, 50):
        messages = [
            {"role": rolled.choice(("user", "assistant")), "content": rolled.choice(TEXTS)} for _ in range(count)
        ]
        body = {"model": "gpt-4o-mini", **more, "messages": messages}
        assert upper_bound_request(body, size(body)) == upper_bound_request(body)
        assert upper_bound_request(body, None, said(body)) == upper_bound_request(body)
        assert said(body) is not None


@pytest.mark.parametrize("message", MESSAGES, ids=repr)
def test_messages_that_are_more(message):
    """Parts, pictures, tool calls, marks and what is no message at all are walked: nothing of them is missed."""
    told, result = {"role": "user", "content": "x"}, {"role": "tool", "tool_call_id": "c", "content": "数据"}
    for messages in ([message], [told, message, told], [told, message, result, message, result]):
        for more in ({}, {"tools": [TOOL] * 3}, {"functions": [TOOL]}):
            body = {"model": "gpt-4o-mini", "messages": messages, **more}
            assert upper_bound_request(body, size(body)) == upper_bound_request(body)
            assert upper_bound_request(body, None, said(body)) == upper_bound_request(body)
            assert upper_bound_request(body, None, None, written(body)) == upper_bound_request(body)


def test_the_short_way_is_taken(monkeypatch):
    """Plain messages are not walked, and the same tools only once."""
    walked = []
    monkeypatch.setattr(bounds._Walk, "__call__", lambda self, node, *_: walked.append(node) or 1)
    tools = [{"type": "custom", "n": 1}]
    for text in ("first", "second"):
        for offered in (tools, copy.deepcopy(tools)):  # some SDKs make a new list for each request
            body = {"model": "m", "messages": [{"role": "user", "content": text}] * 9, "tools": offered}
            upper_bound_request(body, size(body))
            upper_bound_request(body, size(body), None, written(body))
    assert walked == [tools]


def test_what_is_written_is_of_the_tools_that_are_offered():
    """Of two lists that a request has, and of one that is no list of mappings, the right one is known by its bytes."""
    other = [{"type": "search", "description": "aaaa"}]
    for tools in (other, [], ["name"], None):
        body = {"model": "m", "tools": tools, "functions": [TOOL]}
        assert upper_bound_request(body, None, None, written(body)) == upper_bound_request(body)


def test_input_that_is_texts():
    """The input of a response is known in the same way: text of any script, and nothing that is more."""
    for content, is_known in (("x", True), ("数据", True), ([PICTURE], False), (None, False)):
        body = {"model": "m", "instructions": "数", "input": [{"content": content, "role": "user"}] * 3}
        assert (said(body) is not None) is is_known
        assert upper_bound_request(body, None, said(body)) == upper_bound_request(body)


def test_tools_that_look_like_others():
    """Tools that take as many bytes as known ones, and are not equal, are walked."""
    first, second = ([{"type": "custom", "description": each}] for each in ("aaaa", "bbbb"))
    hosted = [{"type": "search", "description": "aaaa"}]
    for tools, is_complete in ((first, True), (second, True), (hosted, False), (copy.deepcopy(hosted), False)):
        body = {"model": "m", "tools": tools}
        assert upper_bound_request(body, size(body)).complete is is_complete


def test_few_lists_of_tools_are_remembered():
    """A program that makes new tools for each request does not fill its memory with them."""
    for n in range(3 * bounds.REMEMBERED_TOOLS):
        body = {"model": "m", "tools": [{"type": "custom", "n": n}]}
        upper_bound_request(body, size(body))
    assert len(bounds._remembered) == bounds.REMEMBERED_TOOLS


def test_tools_that_were_changed():
    """A list of tools that the program changes in place says what it says now."""
    body = {"model": "m", "tools": [dict(TOOL)]}
    before = upper_bound_request(body, size(body)).tokens
    body["tools"][0]["description"] = "x" * 500
    assert upper_bound_request(body, size(body)).tokens > before + 500


@pytest.mark.apart
def test_what_a_policy_needs_is_loaded_at_the_start():
    """Where a policy may have to count, the encoding is in memory before the first call; elsewhere it is not loaded."""
    program = """
import sys, openai, tokenguard
from tokenguard import policy
tokenguard.install(policy.loads(sys.argv[1]))
from tokenguard.tokens import text
print(sorted(text._encodings), "tiktoken" in sys.modules)
"""
    told = {}
    for rule in ("max_input_tokens = 9", "max_output_tokens = 9"):
        given = f'[[limit]]\nname = "l"\n{rule}\n'
        ran = subprocess.run([sys.executable, "-c", program, given], capture_output=True, text=True, check=True)
        told[rule] = ran.stdout.strip()
    assert told == {"max_input_tokens = 9": "['o200k_base'] True", "max_output_tokens = 9": "[] False"}
