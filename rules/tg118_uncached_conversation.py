"""A conversation with Claude is sent again in every turn without a cache mark.

Anthropic and Bedrock cache nothing by themselves. An agent that takes ten turns sends its tools, its system prompt and
all earlier turns ten times, at the full price. With a mark, each turn reads what came before at a tenth of the price;
writing it costs a quarter more, once. From the second turn on that is cheaper. Too short a beginning is not cached and
costs nothing extra.

Reported are loops, and classes, that add to a conversation and send it. A mark anywhere in the file counts:
`cache_control` for Anthropic, `cachePoint` for Bedrock. The fix (unsafe: it changes the request) sets `cache_control`
on the request, so that the API marks the last block. It needs an SDK that knows the parameter, and is offered for
Anthropic's own API only.

Bad:

    import anthropic

    client = anthropic.Anthropic()

    def run(messages):
        for _ in range(12):
            reply = client.messages.create(  # TG118
                model="claude-sonnet-4-5", max_tokens=9, tools=T, messages=messages
            )
            messages.append({"role": "assistant", "content": reply.content})
            if reply.stop_reason != "tool_use":
                return reply
            messages.append({"role": "user", "content": call_tools(reply)})

Good:

    import anthropic

    client = anthropic.Anthropic()

    def run(messages):
        for _ in range(12):
            reply = client.messages.create(  # TG118
                model="claude-sonnet-4-5", max_tokens=9, tools=T, messages=messages, cache_control={"type": "ephemeral"}
            )
            messages.append({"role": "assistant", "content": reply.content})
            if reply.stop_reason != "tool_use":
                return reply
            messages.append({"role": "user", "content": call_tools(reply)})

Good:

    import anthropic

    client = anthropic.Anthropic()

    def each(questions):
        for question in questions:
            messages = [{"role": "user", "content": question}]
            yield client.messages.create(model="claude-sonnet-4-5", max_tokens=9, system="Be brief.", messages=messages)
"""

from __future__ import annotations

from collections.abc import Iterator

from tokenguard.lint.finding import Edit, Fix, Span
from tokenguard.lint.history import histories
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.surface import words_of

SEVERITY = "warning"
_CALLS = ("*.messages.create", "*.messages.stream", "*.converse", "*.converse_stream")
WORDS = words_of(_CALLS)
_MARKS = (b"cache_control", b"cachePoint", b"cache_point", b"CachePoint")
_OWN_API = ("anthropic.Anthropic()", "anthropic.AsyncAnthropic()")


def check(file: File) -> Iterator[Report]:
    """Report Anthropic and Bedrock requests that send a growing conversation, in files without any cache mark."""
    if any(mark in file.module.source for mark in _MARKS):
        return
    for history in histories(file):
        if history.surface is None or history.surface.path not in _CALLS or file.arguments(history.call).open:
            continue
        message = "Each turn pays for the whole conversation again at the full price. "
        if history.surface.path.startswith("*.converse"):
            yield Report(history.call, f"{message}Put a cachePoint behind the system prompt and the last message.")
            continue
        fix = None
        if file.names.path(history.call.func).startswith(_OWN_API):
            edit = Edit("set", Span.of(history.call), "cache_control", '{"type": "ephemeral"}')
            fix = Fix("Set cache_control on the request", (edit,))
        yield Report(history.call, f"{message}Mark its end with cache_control.", None, fix)
