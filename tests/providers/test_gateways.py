"""What gateways and servers make of another's format, as public reports have it; each row names its source."""

from __future__ import annotations

import json

import pytest

from tokenguard.call.call import Call
from tokenguard.facts.usage import Usage
from tokenguard.providers import api_of
from tokenguard.providers.anthropic import MESSAGES
from tokenguard.providers.bedrock import ANTHROPIC, CONVERSE, api_at, conversed
from tokenguard.providers.events import backwards, in_lines, whole_answer
from tokenguard.providers.google import EMBED, GENERATE
from tokenguard.providers.google_live import read_turn
from tokenguard.providers.media import IMAGES, SPEECH, TRANSCRIPTS
from tokenguard.providers.mistral import OCR
from tokenguard.providers.ollama import CHAT as OLLAMA
from tokenguard.providers.openai import CHAT, EMBEDDINGS, RESPONSES
from tokenguard.providers.ranks import RERANK
from tokenguard.providers.reading import failure_of
from tokenguard.providers.realtime import REALTIME


def told(prompt, completion, **more):
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **more}


def choice(**said):
    return {"index": 0, "finish_reason": "stop", **said}


def sse(*events, end="\n\n"):
    return "".join(f"data: {json.dumps(event)}{end}" for event in events).encode()


TOLD = told(100, 20)
ENDED = {"model": "m", "choices": [choice(delta={})]}
BEDROCK = {"prompt_tokens": 368, "completion_tokens": 19, "cache_read_input_tokens": 10536}
DECLINED = {"completion_tokens_details": {"reasoning_tokens": 60}}
STATED = Usage(100, 20)
TWICE = {"cached_tokens": 2161, "cache_write_tokens": 2161}  # a recording of OpenRouter's


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ({"usage": {"input_tokens": 100, "output_tokens": 20}}, STATED),  # omniai#140
        ({"usage": {**TOLD, "input_tokens": 0, "output_tokens": 0}}, STATED),  # new-api
        ({"choices": [choice(usage=TOLD)]}, STATED),  # Moonshot
        ({"choices": [choice(message={"usage": TOLD})]}, STATED),
        ({"meta": {"usage": TOLD}}, STATED),
        ({"usage": {"prompt_tokens": 21, "completion_tokens": 0, "total_tokens": 81, **DECLINED}}, (21, 60)),
        ({"usage": {"prompt_tokens": 21, "completion_tokens": 5, **DECLINED}}, (21, 65)),
        ({"usage": {**BEDROCK, "total_tokens": 10923}}, (10904, 19)),  # Portkey#1210
        ({"usage": BEDROCK}, (10904, 19)),  # litellm#40277
        ({"usage": told(2168, 100, prompt_tokens_details=TWICE)}, (2168, 100)),
        ({"usage": {**BEDROCK, "prompt_tokens": 20000, "total_tokens": 30555}}, (30536, 19)),
        ({"usage": {"prompt_tokens": 100, "completion_tokens": None, "total_tokens": 120}}, STATED),
        ({"timings": {"cache_n": 90, "prompt_n": 10, "predicted_n": 20}}, STATED),  # llama.cpp#15827
    ],
)
def test_chat(answer, read):
    """The counts of an answer, wherever they are and whatever they leave out: CLIProxyAPI#5733 and those above."""
    assert CHAT.read(answer).usage[:2] == read[:2]


def test_contradictions_are_no_facts():
    """What contradicts itself is read as it must be meant, and makes an estimate."""
    assert CHAT.read({"usage": BEDROCK}).basis == "inconsistent_usage"
    assert CHAT.read({"usage": {**BEDROCK, "total_tokens": 10923}}).basis is None
    beside = {"input_tokens": 368, "output_tokens": 19, "input_tokens_details": {"cached_tokens": 10536}}
    assert RESPONSES.read({"usage": beside}).basis == "inconsistent_usage"
    assert CHAT.read({"usage": {"prompt_tokens": 21, "completion_tokens": 5, **DECLINED}}).by_total
    short = {"prompt_tokens": 14, "completion_tokens": 14, "total_tokens": 16}  # openai-scala-client#96
    assert CHAT.read({"usage": short}).basis == "inconsistent_usage"
    assert CHAT.read({"usage": {**short, "prompt_tokens_details": {"cached_tokens": 12}}}).basis is None
    assert CHAT.read({"usage": {**short, "total_tokens": 0}}).basis is None


@pytest.mark.parametrize(
    "events",
    [
        [ENDED, {"model": "m", "usage": TOLD}],  # no choices
        [{"choices": [choice(delta={"usage": TOLD})]}],
        [
            {"choices": [], "usage": TOLD},
            *[{"choices": [choice(delta={"content": "x"}, finish_reason=None)]}] * 20,
            ENDED,
        ],
        [{"choices": [choice(delta={}, finish_reason="")], "usage": told(100, n)} for n in range(20)]
        + [{**ENDED, "usage": TOLD}],
    ],
    ids=["without choices", "in the delta", "first", "in each, cumulative (GLM at Fireworks: lemma-platform#564)"],
)
def test_streams(events):
    """A stream's usage, wherever it is."""
    reading = CHAT.fold(sse(*events))
    assert (reading.usage, reading.finish_reasons) == (STATED, ("stop",))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_an_event_in_several_lines(end):
    """The lines of data in an event belong together; a byte order mark belongs to nothing."""
    events = [{"n": 1, "said": "data: }"}, {"n": 2}]
    lines = ["".join(f"data:{line}{end}" for line in json.dumps(each, indent=1).split("\n")) for each in events]
    body = in_lines(b"\xef\xbb\xbf" + f"event: x{end}{f'{end}'.join(lines)}{end}data: [DONE]{end}{end}".encode())
    assert [json.loads(data) for data in backwards(body) if data != b"[DONE]"] == events[::-1]
    assert [*backwards(in_lines(sse(*events)))] == [*backwards(sse(*events))]


@pytest.mark.parametrize("after", ["", "\n", "\n\ndata: [DONE]\n\n"])
def test_a_whole_answer(after):
    """JSON where a stream was asked for, also with a stream's end: 9router#3492."""
    assert whole_answer(json.dumps({"a": 1}).encode() + after.encode()) == {"a": 1}
    assert whole_answer(b'{"a": 1}\n{"b": 2}\n') is None  # lines of JSON
    assert whole_answer(sse({"a": 1})) is None


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (sse({**ENDED, "usage": TOLD}).decode() + "data: [DONE]\n\n", STATED),  # new-api#5230, mini-sglang#51
        (json.dumps({"usage": TOLD}) + "\n\ndata: [DONE]\n\n", STATED),
        ("data: {this is what was said}", None),
        ("said", None),
    ],
)
def test_text_where_json_was_asked_for(said, read):
    """What an SDK hands on as text, for its content type, may be a stream, or JSON."""

    class Kept:
        captures = False

    call = Call.__new__(Call)
    call.api, call._settling = CHAT, Kept()
    assert call.read(said).usage == read


def test_messages_in_a_stream():
    """A placeholder is no output, and the last event may tell the usage."""
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 100, "output_tokens": 1}}}
    assert MESSAGES.fold(sse(start, {"type": "message_stop"})).usage == Usage(100)  # new-api#4760
    assert MESSAGES.fold(sse(start, {"type": "message_stop", "usage": {"output_tokens": 20}})).usage == STATED
    called = {"id": "t", "input": {}, "name": "f", "type": "tool_use"}  # keys in the order of a Go map
    assert MESSAGES.fold(sse({"type": "content_block_start", "content_block": called})).tool_calls == 1
    quoted = {"type": "content_block_delta", "delta": {"text": '"content_block": {"type":"tool_use"'}}
    assert MESSAGES.fold(sse(quoted)).tool_calls == 0
    taken = {"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}}
    begun = {"type": "message_start", "message": {"model": "a", "usage": {"input_tokens": 100}}}
    assert MESSAGES.fold(sse(begun, {"type": "content_block_start", "content_block": taken})).model == "b"
    split = {"ephemeral_5m_input_tokens": 500, "ephemeral_1h_input_tokens": 1000}
    usage = {"input_tokens": 100, "output_tokens": 20, "cache_creation": split}
    read = MESSAGES.read({"usage": usage}).usage
    assert (read.input, read.cache_write, read.cache_write_1h) == (1600, 1500, 1000)


@pytest.mark.parametrize("tail", [3, 40])
def test_a_long_tail_in_every_format(tail):
    """Pings, keep-alives and empty chunks may follow the usage, any number of them."""
    usage = {"input_tokens": 100, "output_tokens": 20}
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 100, "output_tokens": 1}}}
    delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 20}}
    assert MESSAGES.fold(sse(start, delta, *[{"type": "ping"}] * tail)).usage == STATED
    completed = {"type": "response.completed", "response": {"status": "completed", "usage": usage}}
    assert RESPONSES.fold(sse(completed, *[{"type": "keepalive"}] * tail)).usage == STATED
    last = {
        "candidates": [{"finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 100, "totalTokenCount": 120},
    }
    read = GENERATE.fold(sse(last, *[{"candidates": [{"content": {"parts": [{"text": ""}]}}]}] * tail))
    assert (read.usage[:2], read.finish_reasons, read.complete) == ((100, 20), ("STOP",), True)


def test_responses_in_a_stream():
    """The end may be called otherwise, and leave out what was said before it: 9router#2142, 9router#705."""
    whole = {"status": "completed", "usage": {"input_tokens": 100, "output_tokens": 20}, "output": []}
    item = {"type": "response.output_item.done", "item": {"type": "function_call", "name": "f"}}
    read = RESPONSES.fold(sse(item, {"type": "response.done", "response": whole}))
    assert (read.usage, read.tool_calls, read.complete) == (STATED, 1, True)


def test_calls_without_an_index():
    """Calls of one chunk are several, with nothing to tell them apart: ollama#7881, agentao#117."""
    call = {"function": {"name": "f", "arguments": "{}"}}
    assert CHAT.fold(sse({"choices": [choice(delta={"tool_calls": [call, call]})]})).tool_calls == 2
    pieces = [{"id": "a", "function": {"name": "f"}}, {"function": {"arguments": "{}"}}, {"id": "b", **call}]
    chunks = [{"choices": [choice(delta={"tool_calls": [each]})]} for each in pieces]
    assert CHAT.fold(sse(*chunks)).tool_calls == 2


@pytest.mark.parametrize(
    ("api", "answer", "usd"),
    [
        (EMBEDDINGS, {"usage": {"prompt_tokens": 8, "total_tokens": 8, "cost": 0.5}}, 0.5),
        (RERANK, {"usage": {"search_units": 1, "total_tokens": 150, "cost": "0.5"}}, 0.5),
        (TRANSCRIPTS, {"text": "", "usage": {"type": "duration", "seconds": 9, "cost": 0.5}}, 0.5),
        (CHAT, {"usage": {**TOLD, "estimated_cost": 0.5}}, 0.5),  # DeepInfra: litellm#38802
    ],
)
def test_reported_costs(api, answer, usd):
    """The provider's own word, in every format; what it calls an estimate is none the less one."""
    read = api.read(answer)
    assert read.reported_cost == usd
    assert (read.basis == "reported_estimate") == (api is CHAT)


RAN = ["web_search", "executed_tools", "builtin"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("ran", RAN)
def test_tools_of_the_provider(ran, stream):
    """Searches of Z.ai, Groq and Moonshot, told of in places of their own, are fees."""
    called = [{"type": "builtin_function", "function": {"name": "$web_search", "arguments": "{}"}}]
    said = {"tool_calls": called} if ran == "builtin" else {ran: [{"type": "search"}]} if ran == RAN[1] else {}
    answer = {"usage": TOLD, "choices": [choice(**{"delta" if stream else "message": said})]}
    if ran == "web_search":
        answer[ran] = [{"title": "x"}]
    assert (CHAT.fold(sse(answer)) if stream else CHAT.read(answer)).extra_fees


def xai_ran(tools, **ran):
    """What xAI tells of its own tools, of each of which there is a count."""
    none = dict.fromkeys(("web_search_calls", "x_search_calls", "code_interpreter_calls", "file_search_calls"), 0)
    return {"num_server_side_tools_used": tools, "server_side_tool_usage_details": {**none, **ran}}


@pytest.mark.parametrize(
    ("item", "more", "paid"),
    [
        ({"type": "shell_call", "environment": {"type": "container_reference"}}, {}, True),
        ({"type": "shell_call", "environment": {"type": "local"}}, {}, False),
        ({"type": "web_search_call"}, {"num_server_side_tools_used": 1}, False),  # it has a price
        ({"type": "web_search_call"}, {"num_server_side_tools_used": 2}, True),
        ({"type": "web_search_call"}, {**xai_ran(3, web_search_calls=3)}, False),  # a page opened is billed, too
        ({"type": "web_search_call"}, {**xai_ran(2, web_search_calls=1, code_interpreter_calls=1)}, True),
        ({"type": "file_search_call"}, xai_ran(1, file_search_calls=1), False),
        ({"type": "x_search_call"}, {}, True),  # by what is found
        ({"type": "x_search_call"}, xai_ran(1, x_search_calls=1, x_posts_fetched=12), True),
        ({"type": "x_search_call"}, {**xai_ran(1, x_search_calls=1), "cost_in_usd_ticks": 292331500}, True),
        ({"type": "message"}, {"num_server_side_tools_used": 2}, True),
        ({"type": "message"}, {"num_sources_used": 0}, False),
    ],
)
def test_tools_of_responses(item, more, paid):
    """What runs at the provider costs a fee, and what runs at the caller's none."""
    usage = {"input_tokens": 1, "output_tokens": 1, **more}
    assert RESPONSES.read({"usage": usage, "output": [item]}).extra_fees is paid


def test_the_searches_that_xai_bills():
    """Those that it tells, which may be more than the items; without a word of it, the items that search."""
    usage = {"input_tokens": 1, "output_tokens": 1}
    output = [{"type": "web_search_call", "action": {"type": kind}} for kind in ("search", "open_page")]
    for more, web, files in (
        ({}, 1, None),
        (xai_ran(2, web_search_calls=2), 2, None),
        (xai_ran(5, web_search_calls=2, file_search_calls=3), 2, 3),
        (xai_ran(0), None, None),
    ):
        read = RESPONSES.read({"usage": usage | more, "output": output}).usage
        assert (read.web_searches, read.file_searches) == (web, files)


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (
            {"meta": {"billed_units": {"input_tokens": 30, "search_units": 0}, "tokens": {"input_tokens": 30}}},
            Usage(30),
        ),
        ({"meta": {"tokens": {"input_tokens": 30}}}, Usage(30)),  # vLLM: litellm#36185
        ({"meta": {"billed_units": {"search_units": 1}}}, Usage(request=1)),
        ({"usage": {"total_tokens": "62"}}, Usage(62)),  # gpustack#5176
    ],
)
def test_ranks(said, read):
    """Searches or tokens, in Cohere's way or in OpenAI's."""
    assert RERANK.read(said).usage == read


def test_embeddings_the_way_of_cohere():
    """As Cohere's compatible endpoint may tell them."""
    assert EMBEDDINGS.read({"usage": None, "meta": {"billed_units": {"input_tokens": 9}}}).usage == Usage(9)


def test_converse_by_its_total():
    """What only the total has was generated; with the cache it is the input's."""
    usage = {"inputTokens": 100, "outputTokens": 20, "totalTokens": 220}
    assert (CONVERSE.read({"usage": usage}).usage.output, CONVERSE.read({"usage": usage}).by_total) == (120, True)
    cached = {**usage, "cacheReadInputTokens": 100}
    assert CONVERSE.read({"usage": cached}).usage == Usage(200, 20, 100)


@pytest.mark.parametrize(
    ("model", "streams", "usage", "expected"),
    [
        ("openai.gpt-5.6", True, (4995, 0, 4993, 10007), (Usage(4995, 19, 0, 4993), "inconsistent_usage")),
        ("us.openai.gpt-5.6", True, (4995, 4993, None, 10007), (Usage(4995, 19, 4993), "inconsistent_usage")),
        ("openai.gpt-5.6", True, (2, 0, 4993, 5014), (Usage(4995, 19, 0, 4993), None)),  # as documented
        ("openai.gpt-5.6", True, (4995, 0, 0, 5014), (Usage(4995, 19, 0, 0), None)),
        ("openai.gpt-5.6", False, (2, 0, 4993, 5014), (Usage(4995, 19, 0, 4993), None)),
        ("us.anthropic.claude-sonnet-4-6", True, (5000, 0, 4993, 10012), (Usage(9993, 19, 0, 4993), None)),
    ],
)
def test_a_cache_within_the_input_of_converse(model, streams, usage, expected):
    """bifrost#6942: a stream of OpenAI's models has the cache's tokens in `inputTokens`, and twice in the total."""
    sent, read, written, total = usage
    said = {"inputTokens": sent, "outputTokens": 19, "totalTokens": total, "cacheReadInputTokens": read}
    said |= {} if written is None else {"cacheWriteInputTokens": written}
    for api in (conversed(model), api_at(f"https://h/model/{model}/converse{'-stream' * streams}", {})):
        if streams:
            found = api.fold(sse({"messageStop": {"stopReason": "end_turn"}}, {"metadata": {"usage": said}}))
        else:
            found = api.read({"usage": said, "stopReason": "end_turn"})
        assert (found.usage, found.basis) == expected


def test_tools_that_bedrock_runs():
    """Nova's web grounding and code interpreter are no calls for the application to answer, and have a fee."""
    usage = {"inputTokens": 100, "outputTokens": 20, "totalTokens": 120}
    own = {"toolUse": {"toolUseId": "a", "name": "nova_grounding", "type": "server_tool_use"}}
    mine = {"toolUse": {"toolUseId": "b", "name": "weather"}}
    for blocks, calls, paid in (([own, mine], 1, True), ([mine], 1, False), ([own], 0, True), ([], 0, False)):
        content = [*blocks, {"text": "x"}]
        whole = CONVERSE.read({"output": {"message": {"content": content}}, "stopReason": "end_turn", "usage": usage})
        begun = [{"contentBlockStart": {"start": each, "contentBlockIndex": n}} for n, each in enumerate(blocks)]
        stream = CONVERSE.fold(sse(*begun, {"messageStop": {"stopReason": "end_turn"}}, {"metadata": {"usage": usage}}))
        for read in (whole, stream):
            assert (read.tool_calls, read.extra_fees, read.usage) == (calls, paid, STATED)


def test_metrics_of_bedrock_beside_zeros():
    """Bedrock's own counts stand in where the model's format has only zeros."""
    last = {"inputTokenCount": 100, "outputTokenCount": 20}
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 0, "output_tokens": 0}}}
    stop = {"type": "message_stop", "amazon-bedrock-invocationMetrics": last}
    assert ANTHROPIC.fold(sse(start, stop)).usage == STATED


def test_gemini_does_not_repeat_itself():
    """Counts of an earlier chunk that the last one has as zeros; a count that it leaves out is of none."""
    end = {"candidates": [{"finishReason": "STOP"}]}
    late = {**end, "usageMetadata": {"promptTokenCount": 20, "candidatesTokenCount": 40}}
    zeros = {**end, "usageMetadata": {"promptTokenCount": 20, "candidatesTokenCount": 0}}
    assert GENERATE.fold(sse(late, zeros)).usage[:2] == (20, 40)
    code = {**end, "usageMetadata": {"promptTokenCount": 87, "thoughtsTokenCount": 78, "totalTokenCount": 165}}
    assert GENERATE.fold(sse(late, code)).usage[:2] == (87, 78)


PIECE = {"choices": [choice(delta={"content": "x"}, finish_reason=None)]}
PARTS = {
    "completion_tokens_details": {"reasoning_tokens": 50},
    "prompt_tokens_details": {"cached_tokens": 90, "audio_tokens": 7},
    "cache_creation_input_tokens": 5,
}


@pytest.mark.parametrize("last", [{}, {"prompt_tokens_details": {"cached_tokens": 0}, "reasoning_tokens": 0}])
def test_parts_told_along_the_way(last):
    """What an early chunk tells, and the last account leaves out or has as zeros, counts all the same."""
    early = {**PIECE, "usage": told(100, 60, **PARTS)}
    read = CHAT.fold(sse(early, *[PIECE] * 30, ENDED, {"choices": [], "usage": told(100, 70, **last)}))
    assert read.usage == Usage(100, 70, 90, 5, reasoning=50, input_audio=7)
    assert CHAT.fold(sse(*[PIECE] * 30, ENDED, {"choices": [], "usage": told(100, 70, **last)})).usage[:2] == (100, 70)


def test_parts_told_along_the_way_elsewhere():
    """The same in Anthropic's format and in Google's, whose last chunk may be a round of its own."""
    start = {"type": "message_start", "message": {"model": "claude-sonnet-4-5", "usage": {"input_tokens": 10}}}
    block = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}}
    middle = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 1, "cache_read_input_tokens": 4000}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 20}}
    assert MESSAGES.fold(sse(start, middle, block, end)).usage[:3] == (4010, 20, 4000)

    text = {"candidates": [{"content": {"parts": [{"text": "x"}]}}]}
    thoughts = {"promptTokenCount": 20, "thoughtsTokenCount": 100, "cachedContentTokenCount": 8, "totalTokenCount": 120}
    early = {**text, "usageMetadata": thoughts}
    for total in ({"totalTokenCount": 160}, {}, {"totalTokenCount": 60}):
        counts = {"promptTokenCount": 20, "candidatesTokenCount": 40, **total}
        late = {"candidates": [{"finishReason": "STOP"}], "usageMetadata": counts}
        usage = GENERATE.fold(sse(early, *[text] * 30, late)).usage
        assert (usage.input, usage.output, usage.reasoning, usage.cache_read) == (20, 140, 100, 8)


@pytest.mark.parametrize(
    ("uses", "paid"), [({"web_search": 2}, True), ({"web_search": {"count": 1}}, True), ({"web_search": 0}, False)]
)
@pytest.mark.parametrize("key", ["tool_usage", "x_tools", "plugins"])
def test_tools_in_the_usage(key, uses, paid):
    """Volcengine and DashScope tell in the usage what they have run, for a fee; a zero is none."""
    assert CHAT.read({"usage": {**TOLD, key: uses}}).extra_fees is paid
    counts = {"input_tokens": 100, "output_tokens": 20, key: uses}
    assert RESPONSES.read({"usage": counts}).extra_fees is paid


def test_litellm_tells_searches():
    """Its proxy has Anthropic's count of searches as it was, or among the parts of the prompt."""
    searched = {"web_search_requests": 3}
    assert CHAT.read({"usage": {**TOLD, "server_tool_use": searched}}).usage.web_searches == 3
    assert CHAT.read({"usage": {**TOLD, "prompt_tokens_details": searched}}).usage.web_searches == 3


def test_sglang():
    """Reasoning beside the counts is within the output; its Responses API counts as chat does (sglang#10012)."""
    assert CHAT.read({"usage": {**TOLD, "reasoning_tokens": 15}}).usage == Usage(100, 20, reasoning=15)
    assert RESPONSES.read({"usage": TOLD}).usage == STATED


def test_minutes_of_sound():
    """Mistral bills sound by the minute, beside the tokens."""
    assert CHAT.read({"usage": {**TOLD, "prompt_audio_seconds": 30}}).basis == "assumed_input_audio"
    assert CHAT.read({"usage": {**TOLD, "prompt_audio_seconds": None}}).basis is None


# --- errors that are called a success ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"error": {"message": "Rate limited", "code": 429}, "user_id": "u"}, "429"),  # OpenRouter: aider#3550
        ({"error": {"type": "overloaded_error", "message": "x"}, "type": "error"}, "overloaded_error"),
        ({"error": "upstream connect error"}, "error"),
        ({"success": False, "error": {"code": "INTERNAL_SERVER_ERROR", "status": 500}}, "INTERNAL_SERVER_ERROR"),
        ({"choices": None, "base_resp": {"status_code": 1004, "status_msg": "login fail"}}, "1004"),  # MiniMax
        ({"code": 500, "msg": "404 NOT_FOUND", "success": False}, "500"),  # Z.ai
        ({"result": None, "success": False, "errors": [{"code": 7009}], "messages": []}, "7009"),  # Cloudflare
        ({"error_code": 336003, "error_msg": "too long", "id": "as-1"}, "336003"),  # Baidu
        ({"success": True, "errors": [], "error": None, "base_resp": {"status_code": 0}}, None),
        ({"choices": [], "error": {}, "error_code": 0}, None),
        ({}, None),
    ],
)
def test_failures_in_success(answer, kind):
    """Whatever way a server has to say that it failed, though the status is 200; in a stream, too."""
    assert failure_of(answer) == kind
    if answer:
        assert CHAT.fold(sse({"choices": [], **answer})).error == kind


def test_a_choice_that_failed():
    """OpenRouter ends a choice with `error` where the provider behind it has: the tokens are told all the same."""
    failed = choice(message={"content": "He"}, finish_reason="error", error={"code": 502})
    read = CHAT.read({"model": "m", "choices": [failed], "usage": TOLD})
    assert (read.error, read.usage) == ("502", STATED)
    piece = {**failed, "delta": {"content": ""}}
    read = CHAT.fold(sse({"model": "m", "choices": [piece]}, {"choices": [], "usage": TOLD}))
    assert (read.error, read.usage, read.complete) == ("502", STATED, False)


# --- what a usage tells besides its counts ----------------------------------------------------------------------------

HOUR = {"cache_creation_tokens": 80, "cache_creation_token_details": {"ephemeral_1h_input_tokens": 80}}


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize(
    ("more", "read"),
    [
        ({"extra_properties": {"google": {"traffic_type": "ON_DEMAND_FLEX"}}}, {"service_tier": "ON_DEMAND_FLEX"}),
        ({"service_tier": "batch", "inference_geo": "us"}, {"service_tier": "batch", "geo": "us"}),
        ({"prompt_tokens_details": HOUR}, {"usage": Usage(100, 20, cache_write=80, cache_write_1h=80)}),
        ({"cost": 0.0005, "is_byok": True}, {"reported_cost": None, "basis": "own_key"}),
        ({"cost": 0.0005, "is_byok": True, "cost_details": {"upstream_inference_cost": None}}, {"basis": "own_key"}),
        ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.001}}, {"reported_cost": 0.001}),
    ],
)
def test_more_of_a_usage(more, read, fold):
    """Vertex AI's kind of traffic, LiteLLM's tier, geography and lifetimes, OpenRouter with a key of one's own."""
    usage = {**TOLD, **more}
    answer = CHAT.fold(sse(ENDED, {"choices": [], "usage": usage})) if fold else CHAT.read({"usage": usage})
    assert {name: getattr(answer, name) for name in read} == read


def test_own_key_elsewhere():
    """The same in the Responses API and in Anthropic's format."""
    own = {"input_tokens": 100, "output_tokens": 20, "cost": 0.0005, "is_byok": True}
    assert RESPONSES.read({"usage": own}).basis == "own_key" == MESSAGES.read({"usage": own}).basis


@pytest.mark.parametrize(
    ("tools", "searches", "fees"),
    [
        ({"web_search": {"num_requests": 2}}, 2, False),
        ({"web_search": {"num_requests": 0}, "image_gen": {"total_tokens": 0}}, None, False),
        (None, 1, False),
    ],
)
def test_tools_beside_the_usage(tools, searches, fees):
    """OpenAI's count of billed searches goes before the items."""
    item = {"type": "web_search_call", "action": {"type": "search"}}
    body = {"usage": {"input_tokens": 100, "output_tokens": 20}, "output": [item], "tool_usage": tools}
    read = RESPONSES.read(body)
    assert (read.usage.web_searches, read.extra_fees) == (searches, fees)


@pytest.mark.parametrize(
    ("tools", "model", "basis"),
    [
        ([{"type": "image_generation", "model": "gpt-image-2"}], "gpt-image-2", None),
        ([{"type": "web_search"}, {"type": "image_generation", "model": "gpt-image-1-mini"}], "gpt-image-1-mini", None),
        ([{"type": "image_generation"}], "gpt-image-2.6-sunburst", "assumed_model"),
        ([], "gpt-image-2.6-sunburst", "assumed_model"),
    ],
)
def test_pictures_that_a_response_draws(tools, model, basis):
    """Their tokens are of a model of their own, which the tool names, or OpenAI's default (sub2api#1999)."""
    drawn = {"input_tokens": 50, "output_tokens": 7024, "cached_tokens": 0, "total_tokens": 7074}
    item = {"type": "image_generation_call", "status": "completed"}
    body = {"model": "gpt-5.5", "usage": {"input_tokens": 1820, "output_tokens": 210}, "output": [item], "tools": tools}
    read = RESPONSES.read({**body, "tool_usage": {"image_gen": drawn}})
    assert (read.usage[:2], read.extra_fees, read.basis) == ((1820, 210), False, basis)
    assert [part.model for part in read.parts] == [None, model]
    picture = read.parts[1].usage
    assert (picture.input, picture.output, picture.output_image) == (50, 7024, 7024)
    for untold in ({}, {"image_gen": {"total_tokens": 0, "input_tokens": 0, "output_tokens": 0}}):
        read = RESPONSES.read({**body, "tool_usage": untold})
        assert (read.parts, read.extra_fees, read.basis) == ((), True, None)


def test_looking_for_tools_is_free():
    """Anthropic's tool search costs its tokens alone; what is not known may have a fee."""
    usage = {"input_tokens": 100, "output_tokens": 20}
    assert not MESSAGES.read({"usage": {**usage, "server_tool_use": {"tool_search_requests": 2}}}).extra_fees
    assert MESSAGES.read({"usage": {**usage, "server_tool_use": {"code_execution_requests": 1}}}).extra_fees


@pytest.mark.parametrize("kind", ["code_execution", "bash_code_execution", "text_editor_code_execution"])
@pytest.mark.parametrize(("searched", "fees"), [({}, True), ({"web_fetch_requests": 1}, False)])
def test_code_that_was_run(kind, searched, fees):
    """Its container is billed by the hour, which no count tells; with searches and fetched pages it is free."""
    usage = {"input_tokens": 100, "output_tokens": 20, "server_tool_use": searched}
    block = {"type": f"{kind}_tool_result", "tool_use_id": "a", "content": {}}
    assert MESSAGES.read({"usage": usage, "content": [block, {"type": "text", "text": "x"}]}).extra_fees is fees
    start = {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 100, "output_tokens": 1}}}
    begun = {"type": "content_block_start", "index": 0, "content_block": block}
    said = {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": f'"{kind}_tool_result"'}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}
    assert MESSAGES.fold(sse(start, begun, said, end)).extra_fees is fees
    assert not MESSAGES.fold(sse(start, said, end)).extra_fees


WRITES = {"cached_write_token_details": {"cached_write_tokens_5m": 400, "cached_write_tokens_1h": 600}}


@pytest.mark.parametrize(
    ("details", "read", "written"),
    [
        ({"cached_tokens": 1000, "cached_write_tokens": 1000}, 0, 1000),
        ({"cached_tokens": 3000, "cached_read_tokens": 2000, "cached_write_tokens": 1000}, 2000, 1000),
        ({"cached_tokens": 2000, "cached_read_tokens": 2000, "cached_write_tokens": 1000, **WRITES}, 2000, 1000),
        ({"cached_read_tokens": 2000}, 2000, None),
        ({"cached_tokens": 2000, "cache_write_tokens": 1000}, 2000, 1000),
    ],
)
def test_what_bifrost_has_cached(details, read, written):
    """Its own counts keep reads and writes apart; its `cached_tokens` was both (maximhq/bifrost#4816)."""
    chat = CHAT.read({"usage": told(5000, 20, prompt_tokens_details=details)}).usage
    streamed = CHAT.fold(sse(ENDED, {**ENDED, "usage": told(5000, 20, prompt_tokens_details=details)})).usage
    usage = {"input_tokens": 5000, "output_tokens": 20, "input_tokens_details": details}
    for each in (chat, streamed, RESPONSES.read({"usage": usage}).usage):
        assert (each.cache_read, each.cache_write) == (read, written)
        assert each.cache_write_1h == (600 if "cached_write_token_details" in details else None)


def test_details_are_the_same_in_all_of_openais_formats():
    """What one of them tells of the input and the output, a gateway may tell in the other."""
    sent = {"cached_tokens": 1408, "cached_tokens_details": {"audio_tokens": 64}, "audio_tokens": 110}
    made = {"audio_tokens": 299, "reasoning_tokens": 0, "num_search_queries": 2}
    chat = told(1459, 396, prompt_tokens_details=sent, completion_tokens_details=made)
    usage = {"input_tokens": 1459, "output_tokens": 396, "input_tokens_details": sent, "output_tokens_details": made}
    read = CHAT.read({"usage": chat}).usage
    assert read == RESPONSES.read({"usage": usage}).usage
    assert (read.cache_audio_read, read.input_audio, read.output_audio, read.web_searches) == (64, 110, 299, 2)
    for name in ("token_details", "tokens_details"):  # the second is of LiteLLM's proxy before Gemini: litellm#39864
        done = {"input_tokens": 1459, "output_tokens": 396, f"input_{name}": sent, f"output_{name}": made}
        assert REALTIME.read({"response": {"usage": done}}).usage == read


@pytest.mark.parametrize("details", ["promptTokensDetails", "promptTokenDetails"])
def test_what_google_has_embedded(details):
    """Embeddings spell the details in the second way: sound is dearer than text by 32 times (maximhq/bifrost#7295,
    litellm#33681)."""
    kinds = {"TEXT": 2, "IMAGE": 258, "AUDIO": 250}
    told = [{"modality": kind, "tokenCount": n} for kind, n in kinds.items()]
    read = EMBED.read({"embeddings": [], "usageMetadata": {"promptTokenCount": 510, details: told}})
    assert (read.usage.input, read.usage.input_image, read.usage.input_audio) == (510, 258, 250)
    filmed = [{"modality": "VIDEO", "tokenCount": 660}]
    film = EMBED.read({"embedding": {}, "usageMetadata": {"promptTokenCount": 660, details: filmed}})
    assert (film.usage.input_audio, film.basis) == (660, "assumed_input_video")


def test_pictures_in_words_of_chat():
    """helicone#5003."""
    usage = {"input_tokens_details": {"image_tokens": 100}, "prompt_tokens": 150, "completion_tokens": 4200}
    assert IMAGES.read({"data": [{}], "usage": usage}).usage[:2] == (150, 4200)
    details = {"prompt_tokens_details": {"image_tokens": 323}, "completion_tokens_details": {"image_tokens": 6208}}
    usage = {"prompt_tokens": 357, "completion_tokens": 6543, **details}
    assert IMAGES.read({"data": [{}], "usage": usage}).usage.output_image == 6208  # litellm#21902


def test_spaces_before_json():
    """They keep the line open until there is an answer."""
    assert whole_answer(b'\n\n  \n{"a": 1}') == {"a": 1}
    assert whole_answer(b" \n") is None


def test_what_ollama_has_kept():
    """Its prompt holds what came from the cache (stdapi.ai#252)."""
    counts = {"prompt_eval_count": 1000, "prompt_eval_cached_count": 900, "eval_count": 10, "done": True}
    assert OLLAMA.read(counts).usage == Usage(1000, 10, cache_read=900)
    assert OLLAMA.fold(json.dumps(counts).encode()).usage == Usage(1000, 10, cache_read=900)


NANO_AIU = {"copilot_usage": {"token_details": [], "total_nano_aiu": 399500000}}
IN_ANTHROPICS = [
    {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 100, "output_tokens": 1}}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 20}, **NANO_AIU},
]
IN_RESPONSES = {"model": "m", "status": "completed", "usage": {"input_tokens": 100, "output_tokens": 20}}


@pytest.mark.parametrize(
    ("path", "answer", "events"),
    [
        ("/chat/completions", {"usage": TOLD}, [ENDED, {"choices": [], "usage": TOLD, **NANO_AIU}]),
        ("/responses", IN_RESPONSES, [{"type": "response.completed", "response": IN_RESPONSES, **NANO_AIU}]),
        ("/v1/messages", {"usage": {"input_tokens": 100, "output_tokens": 20}}, IN_ANTHROPICS),
    ],
)
def test_what_copilot_charges(path, answer, events):
    """copilot-api#292: in every format that it speaks, plain and streamed, and only there."""
    api = api_of(path, "github-copilot")
    assert api.read({**answer, **NANO_AIU}).reported_cost == pytest.approx(0.003995)
    assert api.fold(sse(*events)).reported_cost == pytest.approx(0.003995)
    assert api.fold(sse(*events)).usage[:2] == (100, 20)
    assert api_of(path).read({**answer, **NANO_AIU}).reported_cost is None
    assert api.read(answer).reported_cost is None


def test_films_by_alibaba():
    """They have a rate of their own."""
    api = api_of("/compatible-mode/v1/chat/completions", "alibaba")
    filmed = {**TOLD, "prompt_tokens_details": {"text_tokens": 10, "video_tokens": 90}}
    assert api.read({"usage": filmed}).basis == "assumed_input_video"
    assert api.fold(sse(ENDED, {"choices": [], "usage": filmed})).basis == "assumed_input_video"
    assert api.read({"usage": TOLD}).basis is None


def test_cost_of_llm_gateway():
    """https://docs.llmgateway.io/features/cost-breakdown"""
    assert CHAT.read({"usage": {**TOLD, "cost_usd_total": 0.000125}}).reported_cost == 0.000125


def test_writes_of_digitalocean():
    """Its SDK's `CompletionUsage`."""
    split = {"ephemeral_1h_input_tokens": 30, "ephemeral_5m_input_tokens": 10}
    told = {**TOLD, "cache_created_input_tokens": 40, "cache_creation": split, "cache_read_input_tokens": 20}
    for usage in (CHAT.read({"usage": told}).usage, CHAT.fold(sse(ENDED, {"choices": [], "usage": told})).usage):
        assert (usage.cache_write, usage.cache_write_1h, usage.cache_read) == (40, 30, 20)
        assert usage.input == CHAT.read({"usage": TOLD}).usage.input


@pytest.mark.parametrize(
    ("status", "written", "basis"),
    [
        ({"type": "redeemed"}, 900, "fallback_credit"),
        ({"type": "redeemed"}, 0, None),
        ({"type": "not_applied", "reason": "expired"}, 900, None),
        (None, 900, None),
    ],
)
def test_credit_of_a_fallback(status, written, basis):
    """Some of what a retry writes to the cache is billed as read, and no answer says how much."""
    used = {"input_tokens": 9, "output_tokens": 4, "cache_creation_input_tokens": written}
    told = {**used, "fallback_credit": status and {"status": status}}
    assert MESSAGES.read({"usage": told}).basis == basis
    events = (
        {"type": "message_start", "message": {"id": "m", "model": "c", "usage": used}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": told},
        {"type": "message_stop"},
    )
    assert MESSAGES.fold(sse(*events)).basis == basis
    assert MESSAGES.read({"usage": {**told, "cost": 0.5}}).basis is None


def test_both_spellings_of_mistral():
    """vercel/ai#14382."""
    assert CHAT.read({"usage": {**TOLD, "prompt_token_details": {"cached_tokens": 60}}}).usage.cache_read == 60


@pytest.mark.parametrize(
    ("counts", "read", "basis"),
    [
        ((100, 120, 20, 240), (100, 140, 20), None),
        ((100, 120, 20, 220), (100, 120, 20), None),  # Vertex AI, of old: litellm#23731
        ((100, 120, 20, 150), (100, 140, 20), "inconsistent_usage"),
        ((100, 120, None, 0), (100, 120, None), None),
    ],
)
def test_totals_of_gemini(counts, read, basis):
    """The total says whether an answer holds the thoughts; one that is below its parts makes them doubtful."""
    keys = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount")
    usage = {key: count for key, count in zip(keys, counts, strict=True) if count is not None}
    answer = {"candidates": [{"finishReason": "STOP"}], "usageMetadata": usage}
    for said in (GENERATE.read(answer), GENERATE.fold(sse(answer))):
        assert (said.usage.input, said.usage.output, said.usage.reasoning, said.basis) == (*read, basis)


def test_reasoning_while_speaking():
    """litellm#39850: a realtime model's reasoning is within its text."""
    details = {"text_tokens": 29, "audio_tokens": 0, "reasoning_tokens": 19}
    usage = {"input_tokens": 346, "output_tokens": 29, "output_token_details": details}
    used = REALTIME.read({"type": "response.done", "response": {"status": "completed", "usage": usage}}).usage
    assert (used.output, used.reasoning) == (29, 19)


def test_lifetimes_by_new_api():
    """new-api#6212: beside the counts, with the names that it gives them."""
    long = {"claude_cache_creation_5_m_tokens": 0, "claude_cache_creation_1_h_tokens": 60}
    used = CHAT.read({"usage": {**TOLD, **long, "prompt_tokens_details": {"cached_creation_tokens": 60}}}).usage
    assert (used.input, used.cache_write, used.cache_write_1h) == (100, 60, 60)


def test_lifetimes_at_the_end():
    """pi#9210: Vercel's gateway begins a message with zeros, and tells of an hour at its end."""
    begun = {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 0, "output_tokens": 0}}}
    lifetimes = {"ephemeral_1h_input_tokens": 11350, "ephemeral_5m_input_tokens": 0}
    told = {"input_tokens": 10, "output_tokens": 48, "cache_creation_input_tokens": 11350, "cache_creation": lifetimes}
    ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": told}
    used = MESSAGES.fold(sse(begun, ended)).usage
    assert (used.input, used.output, used.cache_write, used.cache_write_1h) == (11360, 48, 11350, 11350)


ANNOTATED = {"document_annotation_format": {"type": "json_schema"}}


@pytest.mark.parametrize(
    ("body", "more", "read"),
    [
        ({}, {"pages_processed": 3}, Usage(pages=3)),
        (ANNOTATED, {"pages_processed": 3}, Usage(annotated_pages=3)),
        (ANNOTATED, {"pages_processed": 0, "pages_processed_annotation": 3}, Usage(annotated_pages=3)),
        (ANNOTATED, {"pages_processed": 3, "pages_processed_annotation": 0}, Usage(pages=3)),  # it was left out
        (ANNOTATED, {"pages_processed": 1, "pages_processed_annotation": 2}, Usage(pages=1, annotated_pages=2)),
        ({}, {"pages_processed": 0, "pages_processed_annotation": None}, Usage(pages=0)),
        (ANNOTATED, {}, None),
    ],
)
def test_pages_that_are_annotated(body, more, read):
    """As Foundry tells them, beside those that are only read; Mistral leaves it to the request."""
    reading = OCR.read({"model": "m", "usage_info": {"doc_size_bytes": 1, **more}})
    assert OCR.units is not None
    assert OCR.units.told(body, reading).usage == read


@pytest.mark.parametrize("keys", [("input_tokens", "output_tokens"), ("prompt_tokens", "completion_tokens")])
def test_speech_that_is_streamed(keys):
    """vLLM-Omni tells its tokens in the words of chat."""
    done = {"type": "speech.audio.done", "usage": dict(zip(keys, (12, 250), strict=True))}
    assert SPEECH.fold(sse({"type": "speech.audio.delta", "audio": "eA=="}, done)).usage == Usage(12, 250)


@pytest.mark.parametrize(
    ("told", "usage", "fees"),
    [
        (
            {"response": {"status": "completed", "usage": {}}, "usage": {"billable_audio_seconds": 60}},
            (None, 60),
            False,
        ),
        ({"response": {"usage": {}}, "usage": {"input_tokens": 9, "input_text_messages": 2}}, (9, None), True),
        ({"response": {"usage": {"input_tokens": 9}}, "usage": {"input_tokens": 5}}, (9, None), False),
        ({"response": {"status": "cancelled", "usage": None}}, None, False),
    ],
)
def test_usage_beside_a_response(told, usage, fees):
    """xAI has it there, with the seconds that it bills, and the texts that have a fee."""
    reading = REALTIME.fold(sse({"type": "response.done", **told}))
    assert (reading.usage and (reading.usage.input, reading.usage.input_seconds)) == usage
    assert reading.extra_fees is fees


@pytest.mark.parametrize(
    ("begun", "told", "read"),
    [
        ({"input_tokens": 8834}, {"input_tokens": 18, "cache_read_input_tokens": 8831}, (8849, 5, 8831, 0)),
        (
            {"input_tokens": 8834, "cache_read_input_tokens": 0},
            {"input_tokens": 18, "cache_creation_input_tokens": 8831},
            (8849, 5, 0, 8831),
        ),
        # what a gateway does not know at last, it has told at first
        ({"input_tokens": 18}, {"input_tokens": 0, "cache_read_input_tokens": 8831}, (8849, 5, 8831, 0)),
        ({"input_tokens": 18}, {"cache_read_input_tokens": 8831}, (8849, 5, 8831, 0)),
        ({"input_tokens": 18}, {"input_tokens": 0, "cache_read_input_tokens": 0}, (18, 5, 0, 0)),
        # cumulative: tools of the provider have made more of it
        (
            {"input_tokens": 18, "cache_read_input_tokens": 50},
            {"input_tokens": 30, "cache_read_input_tokens": 90},
            (120, 5, 90, 0),
        ),
    ],
)
def test_input_that_is_told_in_parts_at_last(begun, told, read):
    """Each token is counted once, whatever came first."""
    start = {"id": "m", "model": "kimi-k3", "usage": {"output_tokens": 0, **begun}}
    events = [{"type": "message_start", "message": start}]
    events += [{"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5, **told}}]
    used = MESSAGES.fold(sse(*events, {"type": "message_stop"})).usage
    assert (used.input, used.output, used.cache_read or 0, used.cache_write or 0) == read


@pytest.mark.parametrize(
    ("response", "thoughts", "total", "output", "basis"),
    [
        (42, 136, 564, 178, "inconsistent_usage"),  # as `gemini-3.8-live` has been seen to answer
        (142, 36, 664, 178, "inconsistent_usage"),  # they would fit in, but they are text
        (42, 136, 700, 178, None),
        (42, 0, 564, 42, None),
    ],
)
def test_thoughts_of_a_live_turn(response, thoughts, total, output, basis):
    """They stand beside the sound, whether the total has them or not."""
    sound = [{"modality": "AUDIO", "tokenCount": response}]
    said = {"promptTokenCount": 522, "responseTokenCount": response, "responseTokensDetails": sound}
    turn = read_turn({"usageMetadata": {**said, "totalTokenCount": total, "thoughtsTokenCount": thoughts}})
    assert (turn.usage.output, turn.usage.output_audio, turn.basis) == (output, response, basis)
