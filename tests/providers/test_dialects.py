"""What providers and gateways say of usage, each in its own way, and what is read of it."""

from __future__ import annotations

import json

import pytest

from tokenguard.facts import names
from tokenguard.facts.record import Cost
from tokenguard.facts.usage import Usage
from tokenguard.providers.anthropic import MESSAGES
from tokenguard.providers.cohere import read as read_cohere
from tokenguard.providers.events import backwards, forwards
from tokenguard.providers.google import GENERATE
from tokenguard.providers.openai import CHAT, EMBEDDINGS, RESPONSES
from tokenguard.providers.reading import count, larger
from tokenguard.providers.xai import HTTP_CHAT


def sse(*events, end="\n\n"):
    """Events as a body; one with a type is named."""
    lines = []
    for event in events:
        named = f"event: {event['type']}{end[: len(end) // 2]}" if "type" in event else ""
        lines.append(f"{named}data: {json.dumps(event)}{end}")
    return "".join(lines).encode()


def delta(index=0, reason=None, **said):
    return {"model": "m", "choices": [{"index": index, "delta": said, "finish_reason": reason}]}


def used(prompt, completion, **more):
    return {"model": "m", "choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion, **more}}


# --- events -----------------------------------------------------------------------------------------------------------

QUOTES = ("data:", "\ndata: [DONE]", "data:image/png;base64,AAAA", 'data: {"usage": {"prompt_tokens": 1}}', "\r\ndata:")


@pytest.mark.parametrize("said", QUOTES)
@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r"])
def test_an_event_is_a_line(said, end):
    """`data:` in the text of an answer begins no event, whatever ends the lines."""
    events = [{"n": 1, "said": said}, {"n": 2, "said": said * 3}]
    body = sse(*events, end=end)
    assert [json.loads(data) for data in forwards(body)] == events
    assert [json.loads(data) for data in backwards(body)] == events[::-1]


@pytest.mark.parametrize("said", QUOTES)
def test_quoting_answers(said):
    """The usage beside a quoting text is read in every format."""
    usage = {"input_tokens": 2772, "output_tokens": 1166}
    whole = {"model": "m", "status": "completed", "usage": usage, "instructions": said, "output": [{"text": said}]}
    read = RESPONSES.fold(sse({"type": "response.completed", "response": whole}))
    assert (read.usage.input, read.usage.output) == (2772, 1166)
    chat = CHAT.fold(sse(delta(content=said), {**delta(reason="stop", content=said), "usage": used(5, 2)["usage"]}))
    assert (chat.usage.input, chat.usage.output, chat.finish_reasons) == (5, 2, ("stop",))
    last = {
        "modelVersion": "g",
        "candidates": [{"content": {"parts": [{"text": said}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 3},
    }
    assert GENERATE.fold(sse(last)).usage.output == 3


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "read"),
    [
        *((19, 19), (19.0, 19), ("19", 19), ("19.0", 19), (18.2, 19), (0, 0), ("0", 0)),
        *((-1, None), (True, None), (None, None), ("", None), ("many", None), ("-3", None), ([], None)),
        *((float("nan"), None), (float("inf"), None), ("inf", None), ("nan", None), ("9" * 400, None)),
    ],
)
def test_numbers(said, read):
    """A count is a whole number of tokens, however it is written; what is none is not told."""
    assert count(said) == read


@pytest.mark.parametrize("kind", [int, float, str])
def test_numbers_everywhere(kind):
    """Plain and streamed, in every format."""
    n = kind(19)
    plain = CHAT.read({"usage": {"prompt_tokens": n, "completion_tokens": n}}).usage
    streamed = CHAT.fold(sse(delta(reason="stop"), used(n, n))).usage
    assert plain == streamed == Usage(input=19, output=19)
    assert MESSAGES.read({"usage": {"input_tokens": n, "output_tokens": n}}).usage == Usage(input=19, output=19)
    assert GENERATE.read({"usageMetadata": {"promptTokenCount": n, "candidatesTokenCount": n}}).usage.output == 19
    assert read_cohere({"usage": {"billed_units": {"input_tokens": n, "output_tokens": n}}}).usage.output == 19


def test_cohere_bills_units():
    """What is billed counts, and not the larger number of tokens."""
    said = {"billed_units": {"input_tokens": 13.0}, "tokens": {"input_tokens": 542.0, "output_tokens": 9.0}}
    assert read_cohere({"usage": said}).usage == Usage(input=13, output=9)


# --- totals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "read", "by_total"),
    [
        ((20, 198, {"total_tokens": 623}), Usage(20, 603, reasoning=405), True),
        ((9, 1, {"total_tokens": 103}), Usage(9, 94, reasoning=93), True),
        (
            (12, 1, {"total_tokens": 110, "completion_tokens_details": {"reasoning_tokens": 97}}),
            Usage(12, 98, reasoning=97),
            False,
        ),
        (
            (12, 100, {"total_tokens": 112, "completion_tokens_details": {"reasoning_tokens": 97}}),
            Usage(12, 100, reasoning=97),
            None,
        ),
        ((20, 5, {"total_tokens": 25}), Usage(20, 5), None),
        ((20, 5, {"total_tokens": 0}), Usage(20, 5), None),
        ((20, 5, {}), Usage(20, 5), None),
        (
            (100, 20, {"total_tokens": 5120, "prompt_tokens_details": {"cached_tokens": 5000}}),
            Usage(5100, 20, 5000),
            False,
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_totals(usage, read, by_total, stream):
    """A total that exceeds its parts holds output that they lack, or the cached input; a lower one says nothing."""
    prompt, completion, more = usage
    reading = (
        CHAT.fold(sse(delta(reason="stop"), used(prompt, completion, **more)))
        if stream
        else CHAT.read(used(prompt, completion, **more))
    )
    assert (reading.usage, reading.by_total) == (read, by_total)


def test_totals_of_responses():
    """The Responses API likewise."""
    usage = {"input_tokens": 12, "output_tokens": 1, "total_tokens": 110}
    assert RESPONSES.read({"usage": usage, "status": "completed"}).usage == Usage(12, 98, reasoning=97)


@pytest.mark.parametrize("total", [{"total_tokens": 116 + 30}, {}])
def test_reasoning_of_grok(total):
    """x.ai counts reasoning beside the completion, and once, with a total and without."""
    details = {"completion_tokens_details": {"reasoning_tokens": 115}}
    assert HTTP_CHAT.read(used(30, 1, **details, **total)).usage == Usage(30, 116, reasoning=115)


# --- late zeros -------------------------------------------------------------------------------------------------------


def message(start, *deltas):
    events = [{"type": "message_start", "message": {"model": "c", "usage": start}}]
    events += [{"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x"}}]
    events += [{"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": told} for told in deltas]
    return MESSAGES.fold(sse(*events, {"type": "message_stop"}))


@pytest.mark.parametrize(
    ("start", "deltas", "read"),
    [
        ({"input_tokens": 5000, "output_tokens": 1}, [{"input_tokens": 0, "output_tokens": 20}], Usage(5000, 20)),
        ({"input_tokens": 5, "output_tokens": 1}, [{"input_tokens": None, "output_tokens": 20}], Usage(5, 20)),
        ({"input_tokens": 0, "output_tokens": 0}, [{"input_tokens": 9033, "output_tokens": 5}], Usage(9033, 5)),
        (
            {"input_tokens": 3, "cache_read_input_tokens": 4000},
            [{"input_tokens": 3, "cache_read_input_tokens": 0, "output_tokens": 2}],
            Usage(4003, 2, cache_read=4000),
        ),
        ({"input_tokens": 100, "output_tokens": 1}, [{"output_tokens": 25}, {"output_tokens": 0}], Usage(100, 25)),
        ({"input_tokens": 100, "output_tokens": 1}, [{"output_tokens": 12}, {"output_tokens": 25}], Usage(100, 25)),
    ],
)
def test_late_zeros_of_messages(start, deltas, read):
    """Of what the start and the deltas of a message tell, the larger counts."""
    assert message(start, *deltas).usage == read


@pytest.mark.parametrize("late", [used(0, 0), used(0, 0, total_tokens=0), {"choices": [], "usage": None}, used(100, 0)])
def test_late_zeros_of_chat(late):
    """Zeros after the usage undo nothing."""
    body = sse(delta(content="x"), delta(reason="stop"), used(100, 20), late)
    assert CHAT.fold(body).usage == Usage(100, 20)


def test_larger():
    """Numbers by size, objects by their keys, the rest as it was said last."""
    told = {"a": 5, "b": {"c": 1, "d": 2}, "e": "x", "f": [1]}
    later = {"a": 0, "b": {"c": 3, "d": None}, "e": "y", "f": [], "g": 0}
    assert larger(told, later) == {"a": 5, "b": {"c": 3, "d": 2}, "e": "y", "f": [1], "g": 0}


# --- iterations -------------------------------------------------------------------------------------------------------


def spent(kind, tokens, output, read=0, write=0, **more):
    cache = {"cache_read_input_tokens": read, "cache_creation_input_tokens": write}
    return {"type": kind, "input_tokens": tokens, "output_tokens": output, **cache, **more}


COMPACTED = [spent("compaction", 180_000, 3_500), spent("message", 23_000, 1_000)]
CACHED = [spent("compaction", 100, 131, write=55_096), spent("message", 229, 5)]
ADVISED = [
    spent("message", 100, 10),
    spent("advisor_message", 900, 50, model="claude-opus-4-6"),
    spent("message", 200, 20),
]
DECLINED = [
    spent("message", 500, 9, model="claude-fable-5-1"),
    spent("message", 510, 10, model="claude-opus-4-6"),
    spent("fallback_message", 520, 30, model="claude-opus-4-6"),
]


@pytest.mark.parametrize(
    ("iterations", "top", "read", "models"),
    [
        (COMPACTED, (23_000, 1_000), (203_000, 4_500), [None, None]),
        (CACHED, (229, 5), (55_425, 136), [None, None]),
        (ADVISED, (300, 30), (300, 30), [None, "claude-opus-4-6", None]),
        (DECLINED, (1_030, 40), (1_030, 40), ["claude-opus-4-6"] * 2),
        ([spent("compaction", 100, 10)], (5, 2), (105, 12), [None, None]),
        ([], (5, 2), (5, 2), []),
        (None, (5, 2), (5, 2), []),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_iterations(iterations, top, read, models, stream):
    """Billed are the iterations, of which an attempt that a fallback took over is none.

    The usage is the sum of those by the message's model; an advisor's tokens are another's.
    """
    usage = {"input_tokens": top[0], "output_tokens": top[1], "iterations": iterations}
    told = (
        message({"input_tokens": top[0], "output_tokens": 1}, usage)
        if stream
        else MESSAGES.read({"model": "c", "usage": usage})
    )
    assert (told.usage.input, told.usage.output) == read
    assert [part.model for part in told.parts] == models


def test_costs_sum():
    """Of two costs one is exact where both are; unpriced with one that is."""
    exact = Cost(names.EXACT, None, 1.0, 0.5, 0.5, 0.0, 0.0, 0.0)
    guessed = exact._replace(status=names.ESTIMATED, basis="assumed_model")
    assert exact.plus(exact) == Cost(names.EXACT, None, 2.0, 1.0, 1.0, 0.0, 0.0, 0.0)
    assert exact.plus(guessed)[:3] == guessed.plus(exact)[:3] == (names.ESTIMATED, "assumed_model", 2.0)
    assert exact.plus(Cost()) == Cost().plus(exact) == Cost()


# --- other places -----------------------------------------------------------------------------------------------------

NESTED = {"prompt_tokens": 19, "completion_tokens": 13, "total_tokens": 32, "cached_tokens": 10}


def test_moonshot():
    """The usage of a stream is in the last choice."""
    last = delta(reason="stop")
    last["choices"][0]["usage"] = NESTED
    assert CHAT.fold(sse(delta(content="x"), last)).usage == Usage(19, 13, cache_read=10)


@pytest.mark.parametrize("tail", [1, 13, 40])
def test_a_long_tail(tail):
    """Azure's filters annotate, in events after the usage, what was said long before."""
    annotations = [{"model": "", "choices": [{"index": 0, "finish_reason": None, "content_filter_offsets": {}}]}] * tail
    reading = CHAT.fold(sse(delta(content="x"), delta(reason="stop"), used(100, 20), *annotations))
    assert (reading.usage, reading.finish_reasons, reading.complete) == (Usage(100, 20), ("stop",), True)


@pytest.mark.parametrize(
    ("more", "read"),
    [
        ({"prompt_tokens_details": {"cache_creation_input_tokens": 70, "cached_tokens": 20}}, Usage(100, 5, 20, 70)),
        ({"cache_creation_input_tokens": 70, "cache_read_input_tokens": 20}, Usage(100, 5, 20, 70)),
        ({"prompt_cache_hit_tokens": 90, "prompt_tokens_details": {"cached_tokens": 0}}, Usage(100, 5, 90)),
        ({"prompt_tokens_details": {"cached_tokens": 0}}, Usage(100, 5, 0)),
    ],
    ids=["DashScope", "LiteLLM", "DeepSeek beside a zero", "a real zero"],
)
def test_caches(more, read):
    """Each host's names for the cache."""
    assert CHAT.read(used(100, 5, **more)).usage == read


def test_pictures_in_chat():
    """Gateways that sell Gemini's pictures tell their tokens as OpenAI's fields are named."""
    details = {"completion_tokens_details": {"reasoning_tokens": 225, "text_tokens": 0, "image_tokens": 1120}}
    assert CHAT.read(used(10, 1345, **details)).usage == Usage(10, 1345, reasoning=225, output_image=1120)


def test_embeddings_total():
    """Voyage tells but the total."""
    assert EMBEDDINGS.read({"usage": {"total_tokens": 12}}).usage == Usage(12)
    assert EMBEDDINGS.read({"usage": {"prompt_tokens": 12, "total_tokens": 12}}).usage == Usage(12)


# --- tool calls and finish reasons of streams -------------------------------------------------------------------------


def piece(index=0, own=None, name=None, arguments="", choice=0):
    function = {"name": name, "arguments": arguments}
    return delta(choice, tool_calls=[{"index": index, "id": own, "type": "function", "function": function}])


COMPOUND = {
    "usage_breakdown": {
        "models": [
            {"model": "openai/gpt-oss-120b", "usage": {"prompt_tokens": 1000, "completion_tokens": 200}},
            {"model": "llama-3.3-70b-versatile", "usage": {"prompt_tokens": 500, "completion_tokens": 50}},
        ]
    }
}


@pytest.mark.parametrize("stream", [False, True])
def test_compound_systems(stream):
    """Groq's compound systems are billed by the models that they ask, and the tools that they run."""
    ran = [{"index": 0, "type": "search", "arguments": "{}"}]
    answer = {**used(9, 9), "model": "groq/compound", **COMPOUND}
    if stream:
        chunks = delta(content="x", executed_tools=ran), delta(reason="stop")
        read = CHAT.fold(sse(*chunks, {**answer, "x_groq": {"id": "r"}}))
    else:
        message = {"role": "assistant", "content": "x", "executed_tools": ran}
        read = CHAT.read({**answer, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
    assert (read.usage.input, read.usage.output, read.extra_fees) == (1500, 250, True)
    assert [part.model for part in read.parts] == ["openai/gpt-oss-120b", "llama-3.3-70b-versatile"]


@pytest.mark.parametrize("listed", [None, {}, {"models": None}, {"models": [{"model": "m"}]}, {"models": ["x"]}])
def test_an_empty_breakdown(listed):
    """What tells no model's usage leaves the answer's own; no tool that was run is no fee."""
    message = {"role": "assistant", "content": "x", "executed_tools": []}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    read = CHAT.read({**used(9, 9), "choices": choices, "usage_breakdown": listed})
    assert (read.usage.input, read.parts, read.extra_fees) == (9, (), False)


@pytest.mark.parametrize(
    ("pieces", "calls"),
    [
        ([piece(own="a", name="f"), piece(arguments="{"), piece(arguments="}")], 1),
        ([piece(own="a", name="f"), piece(own="", name=None, arguments="{}"), piece(own="", arguments="}")], 1),
        ([piece(own="a", name="f", arguments=each) for each in "{}ab"], 1),
        ([piece(own="", name="f"), piece(own="", name="f", arguments="{}")], 1),
        ([piece(0, "a", "f"), piece(1, "b", "f"), piece(1, "b", "f", "{}")], 2),
        ([piece(0, "a", "f", "{}"), piece(0, "b", "g", "{}")], 2),
        ([piece(0, name="f", arguments="{}"), piece(0, name="g", arguments="{}")], 2),
        ([piece(own="a", name="f"), piece(own="", name="f", arguments="{}")], 1),
        ([piece(own="a", name="f"), piece(own="null", arguments="{}"), piece(own="null", arguments="}")], 1),
        ([delta(function_call={"name": "f", "arguments": ""}), delta(function_call={"arguments": "{}"})], 1),
        ([piece(own="a", name="f"), piece(own="b", name="f", choice=1)], 2),
        ([delta(content='"tool_calls":[{"name":"f"')], 0),
    ],
    ids=[
        *("OpenAI", "DashScope", "Fireworks", "no ids", "two", "two of one index", "two of one index without ids"),
        *("a name said again", "an id that is none", "as of old", "two answers", "a text about them"),
    ],
)
@pytest.mark.parametrize("reason", ["tool_calls", "stop"])
def test_streamed_calls(pieces, calls, reason):
    """Pieces of one call are one call, and it counts whatever the stream ends with."""
    assert CHAT.fold(sse(*pieces, delta(reason=reason))).tool_calls == calls


def test_a_function_call_of_old():
    """The one call that an answer could make before there were tools counts, and so does its round."""
    called = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    assert CHAT.read({"choices": [{"message": called, "finish_reason": "function_call"}]}).tool_calls == 1
    rounds = [{"role": "user", "content": "x"}, called, {"role": "function", "name": "f", "content": "1"}]
    assert CHAT.tool_steps({"messages": rounds}) == 1


def test_all_finish_reasons():
    """Each of several answers ends at its own time."""
    body = sse(delta(1, content="x"), delta(0, "length"), *[delta(1, content="x")] * 40, delta(1, "stop"), used(9, 50))
    assert CHAT.fold(body).finish_reasons == ("length", "stop")


ADVISED_USD = (300 * 3 + 30 * 15 + 900 * 5 + 50 * 25) / 1e6
"""Sonnet 4.6 at 3/15 and its advisor, Opus 4.6, at 5/25 (https://docs.anthropic.com/en/docs/about-claude/pricing)."""


@pytest.mark.parametrize(
    ("model", "iterations", "usd"),
    [
        ("claude-opus-4-6", COMPACTED, (203_000 * 5 + 4_500 * 25) / 1e6),
        ("claude-sonnet-4-6", CACHED, (329 * 3 + 55_096 * 3.75 + 136 * 15) / 1e6),
        ("claude-sonnet-4-6", ADVISED, ADVISED_USD),
    ],
)
def test_iterations_are_priced(model, iterations, usd, installed, spans):
    """Each at its own model's rates, and the call says the sum, exact."""
    import anthropic
    import httpx2

    usage = {"input_tokens": 1, "output_tokens": 1, "iterations": iterations}
    answer = {"id": "m", "type": "message", "role": "assistant", "model": model, "content": [], "usage": usage}
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, json=answer))
    client = anthropic.Anthropic(api_key="k", http_client=httpx2.Client(transport=transport))
    client.messages.create(model=model, max_tokens=9, messages=[{"role": "user", "content": "Hi"}])
    assert spans.attributes[names.COST] == pytest.approx(usd, abs=1e-9)
    assert spans.attributes[names.COST_STATUS] == names.EXACT
