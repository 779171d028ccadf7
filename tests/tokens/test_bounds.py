"""The bound by the bytes that a request takes is the one that a walk over it finds."""

from __future__ import annotations

import marshal
import random
import subprocess
import sys

import pytest

from tokenguard.call.repeats import size_of, snapshot
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
)


def size(body):
    request, plain = snapshot("openai.chat", "openai", body)
    assert plain
    assert size_of(request, "openai.chat", "openai") == len(marshal.dumps(body, 2))
    return len(marshal.dumps(body, 2))


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


@pytest.mark.parametrize("message", MESSAGES, ids=repr)
def test_messages_that_are_more(message):
    """Parts, pictures, tool calls, marks and what is no message at all are walked: nothing of them is missed."""
    for messages in ([message], [{"role": "user", "content": "x"}, message, {"role": "user", "content": "y"}]):
        body = {"model": "gpt-4o-mini", "messages": messages}
        assert upper_bound_request(body, size(body)) == upper_bound_request(body)


def test_the_short_way_is_taken(monkeypatch):
    """Plain messages are not walked, and the same tools only once."""
    walked = []
    monkeypatch.setattr(bounds._Walk, "__call__", lambda self, node, *_: walked.append(node) or 1)
    tools = [{"type": "custom", "n": 1}]
    for text in ("first", "second"):
        body = {"model": "m", "messages": [{"role": "user", "content": text}] * 9, "tools": tools}
        upper_bound_request(body, size(body))
    assert walked == [tools]


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
