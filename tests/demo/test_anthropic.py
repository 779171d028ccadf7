"""The simulated Anthropic, through the real SDK: shapes, streams, tools, thinking, and its cache."""

from __future__ import annotations

import anthropic
import pytest

from tokenguard.tokens import count_text

from .conftest import LONG, says

MODEL = "claude-sonnet-4-6"
STOCK = {
    "name": "search_stock",
    "description": "Search the stock.",
    "input_schema": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
}
FIVE = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}


def text(words, mark=None):
    return {"type": "text", "text": words, **({"cache_control": mark} if mark else {})}


def ask(claude, **more):
    """The usage of one short call."""
    body = {"model": MODEL, "max_tokens": 50, "messages": says("hello"), **more}
    return claude.messages.create(**body).usage


def counts(usage):
    """(uncached input, read, written for 5 minutes, written for an hour)."""
    made = usage.cache_creation
    assert usage.cache_creation_input_tokens == made.ephemeral_5m_input_tokens + made.ephemeral_1h_input_tokens
    return (
        usage.input_tokens,
        usage.cache_read_input_tokens,
        made.ephemeral_5m_input_tokens,
        made.ephemeral_1h_input_tokens,
    )


def test_a_message_is_complete(provider, claude):
    """All fields of the API; tokens are those of the text; the books agree."""
    message = claude.messages.create(model=MODEL, max_tokens=500, messages=says("Where is my order?"))
    assert (message.type, message.role, message.stop_reason, message.model) == (
        "message",
        "assistant",
        "end_turn",
        MODEL,
    )
    assert message.usage.output_tokens == count_text(message.content[0].text, MODEL)
    assert message.usage.service_tier == "standard"
    assert counts(message.usage)[1:] == (0, 0, 0)
    (request,) = provider.requests
    assert (request.billed.input, request.billed.output) == (message.usage.input_tokens, message.usage.output_tokens)


def test_the_cap_and_stop_sequences_are_kept(provider, claude):
    """`max_tokens` and stop sequences end the answer and are named as the reason."""
    cut = claude.messages.create(model=MODEL, max_tokens=5, messages=says("Tell me all."))
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 5)
    provider.answer_next("one END two")
    stopped = claude.messages.create(model=MODEL, max_tokens=50, messages=says("?"), stop_sequences=["END"])
    assert (stopped.stop_reason, stopped.stop_sequence, stopped.content[0].text) == ("stop_sequence", "END", "one ")


def test_a_stream_adds_up_to_the_message(claude):
    """Events in the API's order; the placeholder of `message_start` is completed by `message_delta`."""
    whole = claude.messages.create(model=MODEL, max_tokens=500, messages=says("In pieces."))
    events = list(claude.messages.create(model=MODEL, max_tokens=500, messages=says("In pieces."), stream=True))
    kinds = [event.type for event in events]
    assert kinds[0] == "message_start"
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert events[0].message.usage.output_tokens == 1
    assert events[0].message.usage.cache_creation.ephemeral_1h_input_tokens == 0
    assert events[-2].usage.output_tokens == whole.usage.output_tokens
    assert events[-2].delta.stop_reason == "end_turn"
    with claude.messages.stream(model=MODEL, max_tokens=500, messages=says("In pieces.")) as stream:
        final = stream.get_final_message()
    assert final.content[0].text == whole.content[0].text
    assert final.usage.output_tokens == whole.usage.output_tokens


async def test_async_streams(provider):
    """The asynchronous client gets the same."""
    async with (
        anthropic.AsyncAnthropic(base_url=provider.anthropic_url, api_key="k", max_retries=0) as client,
        client.messages.stream(model=MODEL, max_tokens=300, messages=says("Hello")) as stream,
    ):
        words = [word async for word in stream.text_stream]
        final = await stream.get_final_message()
    assert "".join(words) == final.content[0].text
    assert provider.billed.output == final.usage.output_tokens


def test_thinking_comes_first_and_is_output(claude):
    """Extended thinking is a signed block before the text, and its tokens are told apart."""
    answer = claude.messages.create(
        model=MODEL, max_tokens=2000, thinking={"type": "enabled", "budget_tokens": 1024}, messages=says("Why?")
    )
    assert [block.type for block in answer.content] == ["thinking", "text"]
    assert answer.content[0].signature
    thought = answer.usage.output_tokens_details.thinking_tokens
    assert thought == count_text(answer.content[0].thinking, MODEL)
    assert answer.usage.output_tokens == thought + count_text(answer.content[1].text, MODEL)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_loop_ends(claude, streamed):
    """Two rounds of `tool_use`, then the answer, streamed or not."""
    messages, rounds = says("Is it in stock?"), 0
    for _ in range(8):
        body = {"model": MODEL, "max_tokens": 500, "messages": messages, "tools": [STOCK]}
        if streamed:
            with claude.messages.stream(**body) as stream:
                answer = stream.get_final_message()
        else:
            answer = claude.messages.create(**body)
        if answer.stop_reason != "tool_use":
            break
        rounds += 1
        call = answer.content[-1]
        assert (call.name, list(call.input)) == ("search_stock", ["query"])
        messages.append({"role": "assistant", "content": [block.to_dict() for block in answer.content]})
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "4 left."}
        messages.append({"role": "user", "content": [result]})
    assert rounds == 2


# --- caching ----------------------------------------------------------------------------------------------------------


def test_nothing_is_cached_unasked(claude):
    """Without a breakpoint the same long prompt is plain input every time."""
    one, two = ask(claude, system=LONG), ask(claude, system=LONG)
    assert counts(one) == counts(two) == (one.input_tokens, 0, 0, 0)


def test_a_breakpoint_writes_and_then_reads(provider, claude):
    """What the first call writes the second reads; the rest is input; the three add up to the whole."""
    system = [text(LONG, FIVE)]
    whole = claude.messages.count_tokens(model=MODEL, system=system, messages=says("hello")).input_tokens
    first, second = counts(ask(claude, system=system)), counts(ask(claude, system=system))
    assert first[2] == second[1] > 1024
    assert first[:2] + first[3:] == (whole - first[2], 0, 0)
    assert second == (first[0], first[2], 0, 0)
    assert provider.billed.input == 2 * whole
    assert provider.billed.cache_read == provider.billed.cache_write == first[2]


def test_short_prefixes_are_not_cached(claude):
    """Under 1,024 tokens, or 4,096 for some models, a breakpoint does nothing."""
    short = [text("Be brief. " * 300, FIVE)]
    assert counts(ask(claude, system=short))[2] == counts(ask(claude, system=short))[1] == 0
    assert counts(ask(claude, system=[text(LONG, FIVE)], model="claude-haiku-4-5"))[2] == 0


def test_lifetimes(provider, claude):
    """Five minutes, renewed by reading; an hour where it was asked for."""
    five, hour = [text(LONG, FIVE)], [text("!" + LONG, HOUR)]
    assert counts(ask(claude, system=five))[2] > 0
    assert counts(ask(claude, system=hour))[3] > 0
    for _ in range(2):
        provider.advance(250)
        assert counts(ask(claude, system=five))[1] > 0
    provider.advance(301)
    assert counts(ask(claude, system=five))[1] == 0
    assert counts(ask(claude, system=hour))[1] > 0
    provider.advance(3601)
    assert counts(ask(claude, system=hour))[3] > 0


def test_two_lifetimes_in_one_request(claude):
    """Tools and system for an hour, the conversation for five minutes: each is written at its own price."""
    more = {"system": [text(LONG, HOUR)], "messages": [{"role": "user", "content": [text(LONG[::-1], FIVE)]}]}
    plain, read, five, hour = counts(ask(claude, **more))
    assert read == 0
    assert plain < 10
    assert min(five, hour) > 1024
    assert counts(ask(claude, **more)) == (plain, five + hour, 0, 0)


def test_a_growing_conversation_reads_what_it_wrote(claude):
    """With a breakpoint on the last message each turn reads the turns before and writes only what is new."""
    messages = [{"role": "user", "content": [text(LONG, FIVE)]}]
    _, _, written, _ = counts(ask(claude, messages=messages))
    messages = [{"role": "user", "content": [text(LONG)]}, {"role": "assistant", "content": "Yes."}]
    messages.append({"role": "user", "content": [text("And then? " * 20, FIVE)]})
    _, read, more, _ = counts(ask(claude, messages=messages))
    assert read == written
    assert 40 < more < 90


def test_the_automatic_breakpoint(claude):
    """`cache_control` on the request itself marks its last block."""
    first = counts(ask(claude, system=LONG, cache_control=FIVE))
    assert first[2] > 1024
    assert counts(ask(claude, system=LONG, cache_control=FIVE)) == (first[0], first[2], 0, 0)


def test_what_invalidates_a_cache(claude):
    """A changed tool comes before the system and undoes it all; another model or key has a cache of its own."""
    system = [text(LONG, FIVE)]
    ask(claude, system=system, tools=[STOCK])
    assert counts(ask(claude, system=system, tools=[STOCK]))[1] > 0
    assert counts(ask(claude, system=system, tools=[{**STOCK, "description": "Search."}]))[1] == 0
    assert counts(ask(claude, system=system, tools=[STOCK], model="claude-opus-4-8"))[1] == 0
    assert counts(ask(claude.with_options(api_key="other"), system=system, tools=[STOCK]))[1] == 0


def test_the_lookback_is_twenty_blocks(claude):
    """A prefix that ends more than twenty blocks before the breakpoint is not found."""
    ask(claude, messages=[{"role": "user", "content": [text(LONG, FIVE)]}])
    near = [text(LONG), *(text(f"note {n}") for n in range(19)), text("end", FIVE)]
    far = [text(LONG), *(text(f"remark {n}") for n in range(25)), text("end", FIVE)]
    assert counts(ask(claude, messages=[{"role": "user", "content": near}]))[1] > 0
    assert counts(ask(claude, messages=[{"role": "user", "content": far}]))[1] == 0


def test_a_fifth_breakpoint_is_refused(provider, claude):
    """Four are the most, as the API says."""
    with pytest.raises(anthropic.BadRequestError, match="maximum of 4"):
        ask(claude, system=[text(f"part {n}", FIVE) for n in range(5)])
    assert not provider.calls


def test_models_and_missing_fields(provider, claude):
    """Models come in Anthropic's shape; a request without its fields is refused in Anthropic's words."""
    assert any(model.id.startswith("claude") for model in claude.models.list())
    with pytest.raises(anthropic.BadRequestError, match="messages: Field required") as caught:
        claude.messages.create(model=MODEL, max_tokens=5, messages=[])
    assert caught.value.body["error"]["type"] == "invalid_request_error"
