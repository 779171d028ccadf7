"""One conversation in every wire format, whole and streamed: it is recorded as the same messages."""

from __future__ import annotations

import json

import pytest

from tokenguard.providers.messages import answers, messages, streamed, system_instructions

ARGUMENTS = {"city": "Paris"}
PIECES = ('{"city"', ': "Pa', 'ris"}')
SYSTEM = [{"type": "text", "content": "Be brief."}]
ASKED = {"role": "user", "parts": [{"type": "text", "content": "Do I need a coat?"}]}
RESULT = "Rain"
THOUGHT = {"type": "reasoning", "content": "Look it up."}
SAID = {"type": "text", "content": "Yes, a coat."}


def call(named="call_1"):
    return {"type": "tool_call", "id": named, "name": "weather", "arguments": ARGUMENTS}


def result(named="call_1", response=RESULT):
    return {"role": "tool", "parts": [{"type": "tool_call_response", "id": named, "response": response}]}


def sse(*events):
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def lines(*events):
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


FUNCTION = {"name": "weather", "arguments": json.dumps(ARGUMENTS)}
CHAT_CALL = {"id": "call_1", "type": "function", "function": FUNCTION}


def chunk(delta, reason=None):
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


MISTRAL_THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "Look it up."}]}
CHAT = {
    "request": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Do I need a coat?"},
            {"role": "assistant", "content": "", "tool_calls": [CHAT_CALL]},
            {"role": "tool", "tool_call_id": "call_1", "name": "weather", "content": "Rain"},
        ]
    },
    "messages": [
        {"role": "system", "parts": SYSTEM},
        ASKED,
        {"role": "assistant", "parts": [call()]},
        result(),
    ],
    "system": [],
    "reason": "tool_calls",
}
MISTRAL = {
    **CHAT,
    "response": {
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls",
                "message": {
                    "role": "assistant",
                    "content": [MISTRAL_THOUGHT, {"type": "text", "text": "Yes, a coat."}],
                    "tool_calls": [CHAT_CALL],
                },
            }
        ]
    },
    "events": sse(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Look "}]}]}),
        chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "it up."}]}]}),
        chunk({"content": "Yes, "}),
        chunk({"content": "a coat."}),
        chunk({"content": "", "tool_calls": [{**CHAT_CALL, "index": 0}]}, "tool_calls"),
    )
    + b"data: [DONE]\n\n",
}
OPENAI_LIKE = {  # DeepSeek, Groq, vLLM: thoughts in a field of their own, calls in pieces
    **CHAT,
    "response": {
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls",
                "message": {
                    "role": "assistant",
                    "content": "Yes, a coat.",
                    "reasoning_content": "Look it up.",
                    "tool_calls": [CHAT_CALL],
                },
            }
        ]
    },
    "events": sse(
        chunk({"role": "assistant", "content": None, "reasoning_content": "Look "}),
        chunk({"reasoning_content": "it up."}),
        chunk({"content": "Yes, "}),
        chunk({"content": "a coat."}),
        chunk({"tool_calls": [{**CHAT_CALL, "index": 0, "function": {"name": "weather", "arguments": ""}}]}),
        *(chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in PIECES),
        chunk({}, "tool_calls"),
    ),
}

ENTRY_CALL = {"type": "function.call", "id": "fc_1", "tool_call_id": "call_1", **FUNCTION}
CONVERSATIONS = {
    "request": {
        "instructions": "Be brief.",
        "inputs": [
            {"role": "user", "content": "Do I need a coat?", "type": "message.input", "object": "entry"},
            {**ENTRY_CALL, "object": "entry"},
            {"type": "function.result", "tool_call_id": "call_1", "result": "Rain", "object": "entry"},
        ],
    },
    "messages": [ASKED, {"role": "assistant", "parts": [call()]}, result()],
    "response": {
        "conversation_id": "conv_1",
        "outputs": [
            {"type": "message.output", "role": "assistant", "content": [MISTRAL_THOUGHT, "Yes, a coat."], "id": "m"},
            ENTRY_CALL,
        ],
    },
    "events": sse(
        {"type": "conversation.response.started", "conversation_id": "conv_1"},
        {"type": "message.output.delta", "id": "m", "role": "assistant", "content": MISTRAL_THOUGHT},
        {"type": "message.output.delta", "id": "m", "role": "assistant", "content": "Yes, "},
        {"type": "message.output.delta", "id": "m", "content": {"type": "text", "text": "a coat."}},
        *({**ENTRY_CALL, "type": "function.call.delta", "arguments": piece} for piece in PIECES),
        {"type": "conversation.response.done", "usage": {}},
    ),
    "reason": None,
}

GEMINI_CALL = {"functionCall": {"name": "weather", "args": ARGUMENTS}, "thoughtSignature": "c2ln"}
GEMINI = {
    "request": {
        "systemInstruction": {"parts": [{"text": "Be brief."}], "role": "user"},
        "contents": [
            {"parts": [{"text": "Do I need a coat?"}]},
            {"role": "model", "parts": [GEMINI_CALL]},
            {"role": "user", "parts": [{"functionResponse": {"name": "weather", "response": {"result": "Rain"}}}]},
        ],
    },
    "messages": [ASKED, {"role": "assistant", "parts": [call(None)]}, result("weather", {"result": "Rain"})],
    "response": {
        "candidates": [
            {
                "content": {
                    "role": "model",
                    "parts": [{"text": "Look it up.", "thought": True}, {"text": "Yes, a coat."}, GEMINI_CALL],
                },
                "finishReason": "STOP",
                "index": 0,
            }
        ]
    },
    "events": sse(
        *(
            {"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}]}
            for part in ({"text": "Look ", "thought": True}, {"text": "it up.", "thought": True}, {"text": "Yes, "})
        ),
        {
            "candidates": [
                {"content": {"role": "model", "parts": [{"text": "a coat."}, GEMINI_CALL]}, "finishReason": "STOP"}
            ]
        },
    ),
    "reason": "STOP",
    "call": call(None),
}

STEP_CALL = {"type": "function_call", "id": "call_1", "name": "weather", "arguments": ARGUMENTS}
INTERACTIONS = {
    "request": {
        "system_instruction": "Be brief.",
        "input": [
            {"type": "user_input", "content": [{"type": "text", "text": "Do I need a coat?"}]},
            STEP_CALL,
            {"type": "function_result", "call_id": "call_1", "name": "weather", "result": "Rain"},
        ],
    },
    "messages": [ASKED, {"role": "assistant", "parts": [call()]}, result()],
    "response": {
        "status": "requires_action",
        "steps": [
            {"type": "thought", "summary": [{"type": "text", "text": "Look it up."}], "signature": "c2ln"},
            {"type": "model_output", "content": [{"type": "text", "text": "Yes, a coat."}]},
            STEP_CALL,
        ],
    },
    "events": sse(
        {"event_type": "interaction.created", "interaction": {"id": "i", "status": "in_progress"}},
        {"event_type": "step.start", "index": 0, "step": {"type": "thought"}},
        *(
            {
                "event_type": "step.delta",
                "index": 0,
                "delta": {"type": "thought_summary", "content": {"type": "text", "text": words}},
            }
            for words in ("Look ", "it up.")
        ),
        {"event_type": "step.delta", "index": 0, "delta": {"type": "thought_signature", "signature": "c2ln"}},
        {"event_type": "step.start", "index": 1, "step": {"type": "model_output"}},
        *(
            {"event_type": "step.delta", "index": 1, "delta": {"type": "text", "text": words}}
            for words in ("Yes, ", "a coat.")
        ),
        {"event_type": "step.start", "index": 2, "step": {**STEP_CALL, "arguments": {}}},
        *(
            {"event_type": "step.delta", "index": 2, "delta": {"type": "arguments_delta", "arguments": piece}}
            for piece in PIECES
        ),
        {"event_type": "step.stop", "index": 2},
        {"event_type": "interaction.completed", "interaction": {"id": "i", "status": "requires_action"}},
    ),
    "reason": "requires_action",
}

CONVERSE_CALL = {"toolUse": {"toolUseId": "call_1", "name": "weather", "input": ARGUMENTS}}
CONVERSE = {
    "request": {
        "system": [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}],
        "messages": [
            {"role": "user", "content": [{"text": "Do I need a coat?"}]},
            {"role": "assistant", "content": [CONVERSE_CALL]},
            {
                "role": "user",
                "content": [
                    {"toolResult": {"toolUseId": "call_1", "content": [{"text": "Rain"}], "status": "success"}}
                ],
            },
        ],
    },
    "messages": [ASKED, {"role": "assistant", "parts": [call()]}, result(response=[{"text": "Rain"}])],
    "response": {
        "output": {
            "message": {
                "role": "assistant",
                "content": [
                    {"reasoningContent": {"reasoningText": {"text": "Look it up.", "signature": "c2ln"}}},
                    {"text": "Yes, a coat."},
                    CONVERSE_CALL,
                ],
            }
        },
        "stopReason": "tool_use",
    },
    "events": sse(
        {"messageStart": {"role": "assistant"}},
        *(
            {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": words}}}}
            for words in ("Look ", "it up.")
        ),
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"reasoningContent": {"signature": "c2ln"}}}},
        {"contentBlockStop": {"contentBlockIndex": 0}},
        *({"contentBlockDelta": {"contentBlockIndex": 1, "delta": {"text": words}}} for words in ("Yes, ", "a coat.")),
        {"contentBlockStop": {"contentBlockIndex": 1}},
        {
            "contentBlockStart": {
                "contentBlockIndex": 2,
                "start": {"toolUse": {"toolUseId": "call_1", "name": "weather"}},
            }
        },
        *({"contentBlockDelta": {"contentBlockIndex": 2, "delta": {"toolUse": {"input": piece}}}} for piece in PIECES),
        {"contentBlockStop": {"contentBlockIndex": 2}},
        {"messageStop": {"stopReason": "tool_use"}},
        {"metadata": {"usage": {}}},
    ),
    "reason": "tool_use",
}

USE = {"type": "tool_use", "id": "call_1", "name": "weather", "input": ARGUMENTS}
ANTHROPIC = {  # and Bedrock's InvokeModel with Claude
    "request": {
        "system": "Be brief.",
        "messages": [
            {"role": "user", "content": "Do I need a coat?"},
            {"role": "assistant", "content": [USE]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "Rain"}]},
        ],
    },
    "messages": [ASKED, {"role": "assistant", "parts": [call()]}, result()],
    "response": {
        "type": "message",
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Look it up.", "signature": "c2ln"},
            {"type": "text", "text": "Yes, a coat."},
            USE,
        ],
        "stop_reason": "tool_use",
    },
    "events": sse(
        {"type": "message_start", "message": {"type": "message", "role": "assistant", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Look it up."}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2ln"}},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Yes, "}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "a coat."}},
        {"type": "content_block_start", "index": 2, "content_block": {**USE, "input": {}}},
        *(
            {
                "type": "content_block_delta",
                "index": 2,
                "delta": {"type": "input_json_delta", "partial_json": piece},
            }
            for piece in PIECES
        ),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None}, "usage": {}},
        {"type": "message_stop"},
    ),
    "reason": "tool_use",
}

COHERE = {
    **CHAT,
    "response": {
        "id": "r",
        "finish_reason": "TOOL_CALL",
        "message": {
            "role": "assistant",
            "tool_plan": "Look it up.",
            "content": [{"type": "text", "text": "Yes, a coat."}],
            "tool_calls": [CHAT_CALL],
        },
    },
    "events": sse(
        {"type": "message-start", "id": "r", "delta": {"message": {"role": "assistant", "content": []}}},
        {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "Look "}}},
        {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "it up."}}},
        {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
        {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Yes, "}}}},
        {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "a coat."}}}},
        {"type": "content-end", "index": 0},
        {
            "type": "tool-call-start",
            "index": 0,
            "delta": {"message": {"tool_calls": {**CHAT_CALL, "function": {"name": "weather", "arguments": ""}}}},
        },
        *(
            {
                "type": "tool-call-delta",
                "index": 0,
                "delta": {"message": {"tool_calls": {"function": {"arguments": piece}}}},
            }
            for piece in PIECES
        ),
        {"type": "tool-call-end", "index": 0},
        {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL", "usage": {}}},
    ),
    "reason": "TOOL_CALL",
}

V1_CALL = {"name": "weather", "parameters": ARGUMENTS}
V1_ANSWER = {"text": "Yes, a coat.", "generation_id": "g", "finish_reason": "COMPLETE", "tool_calls": [V1_CALL]}
COHERE_1 = {
    "request": {
        "preamble": "Be brief.",
        "chat_history": [
            {"role": "USER", "message": "Do I need a coat?"},
            {"role": "CHATBOT", "message": "", "tool_calls": [V1_CALL]},
            {"role": "TOOL", "tool_results": [{"call": V1_CALL, "outputs": [{"sky": "Rain"}]}]},
        ],
        "message": "And now?",
        "tool_results": [{"call": V1_CALL, "outputs": [{"sky": "Rain"}]}],
    },
    "messages": [
        ASKED,
        {"role": "assistant", "parts": [call(None)]},
        result("weather", [{"sky": "Rain"}]),
        {"role": "user", "parts": [{"type": "text", "content": "And now?"}]},
        result("weather", [{"sky": "Rain"}]),
    ],
    "response": V1_ANSWER,
    "events": lines(
        {"event_type": "stream-start", "generation_id": "g"},
        {"event_type": "text-generation", "text": "Yes, "},
        {"event_type": "text-generation", "text": "a coat."},
        {"event_type": "tool-calls-generation", "tool_calls": [V1_CALL]},
        {"event_type": "stream-end", "finish_reason": "COMPLETE", "response": V1_ANSWER},
    ),
    "reason": "COMPLETE",
    "call": call(None),
    "thought": None,
}

OLLAMA_CALL = {"function": {"name": "weather", "arguments": ARGUMENTS}}
OLLAMA = {
    "request": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Do I need a coat?"},
            {"role": "assistant", "content": "", "tool_calls": [OLLAMA_CALL]},
            {"role": "tool", "content": "Rain", "tool_name": "weather"},
        ]
    },
    "messages": [
        {"role": "system", "parts": SYSTEM},
        ASKED,
        {"role": "assistant", "parts": [call(None)]},
        result("weather"),
    ],
    "system": [],
    "response": {
        "model": "m",
        "message": {
            "role": "assistant",
            "content": "Yes, a coat.",
            "thinking": "Look it up.",
            "tool_calls": [OLLAMA_CALL],
        },
        "done": True,
        "done_reason": "stop",
    },
    "events": lines(
        {"message": {"role": "assistant", "content": "", "thinking": "Look "}, "done": False},
        {"message": {"role": "assistant", "content": "", "thinking": "it up."}, "done": False},
        {"message": {"role": "assistant", "content": "Yes, "}, "done": False},
        {"message": {"role": "assistant", "content": "a coat."}, "done": False},
        {"message": {"role": "assistant", "content": "", "tool_calls": [OLLAMA_CALL]}, "done": False},
        {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"},
    ),
    "reason": "stop",
    "call": call(None),
}

FORMATS = {
    "mistral": MISTRAL,
    "openai-like": OPENAI_LIKE,
    "mistral conversations": CONVERSATIONS,
    "gemini": GEMINI,
    "google interactions": INTERACTIONS,
    "bedrock converse": CONVERSE,
    "anthropic": ANTHROPIC,
    "cohere": COHERE,
    "cohere v1": COHERE_1,
    "ollama": OLLAMA,
}


@pytest.fixture(params=FORMATS)
def form(request):
    return FORMATS[request.param]


def test_requests(form):
    """Roles, calls, results and instructions are the convention's, whatever the format calls them."""
    assert system_instructions(form["request"]) == form.get("system", SYSTEM)
    assert messages(form["request"]) == form["messages"]


def expected(form):
    said = [form.get("thought", THOUGHT), SAID, form.get("call", call())]
    reason = {} if form["reason"] is None else {"finish_reason": form["reason"]}
    return [{"role": "assistant", "parts": [part for part in said if part is not None], **reason}]


def test_answers(form):
    """What was thought, said and called are parts of their own, in this order."""
    assert answers(form["response"]) == expected(form)


def test_streams(form):
    """A stream says the same as the whole answer, arguments that came in pieces included."""
    assert streamed(form["events"]) == expected(form)


def test_cut_off_streams(form):
    """A stream that broke off says what had come, wherever that was; none of it is an error."""
    events = form["events"]
    for end in range(0, len(events), 7):
        for message in streamed(events[:end]):
            assert message["role"] == "assistant"
            said = "".join(part["content"] for part in message["parts"] if part["type"] == "text")
            assert "Yes, a coat.".startswith(said)


@pytest.mark.parametrize(
    ("request_body", "response", "events"),
    [
        (
            {"prompt": "Do I need a coat?"},
            {"response": "Yes, a coat.", "thinking": "Look it up.", "done_reason": "stop"},
            lines({"response": "", "thinking": "Look it up."}, {"response": "Yes, "}, {"response": "a coat."}),
        ),
        (
            {"prompt": "Do I need a coat?", "max_gen_len": 9},
            {"generation": "Yes, a coat.", "stop_reason": "stop"},
            sse({"generation": "Yes, "}, {"generation": "a coat.", "stop_reason": "stop"}),
        ),
        (
            {"inputText": "Do I need a coat?"},
            {"results": [{"outputText": "Yes, a coat.", "completionReason": "FINISH"}]},
            sse({"outputText": "Yes, "}, {"outputText": "a coat.", "completionReason": "FINISH"}),
        ),
        (
            {"prompt": "Do I need a coat?", "max_tokens": 9},
            {"outputs": [{"text": "Yes, a coat.", "stop_reason": "stop"}]},
            sse({"outputs": [{"text": "Yes, "}]}, {"outputs": [{"text": "a coat.", "stop_reason": "stop"}]}),
        ),
        (
            {"prompt": "Do I need a coat?", "suffix": "."},
            {"choices": [{"message": {"content": "Yes, a coat."}, "finish_reason": "stop"}]},
            sse(chunk({"content": "Yes, "}), chunk({"content": "a coat."}, "stop")),
        ),
        (
            {"input": {"type": "text", "text": "Do I need a coat?"}},
            {"status": "completed", "steps": [{"type": "model_output", "content": [{"type": "text", "text": "x"}]}]},
            b"",
        ),
    ],
    ids=["ollama generate", "llama", "titan", "bedrock mistral", "fim", "interaction of one content"],
)
def test_completions(request_body, response, events):
    """Formats that have a text and no conversation, and answers that are a text."""
    assert messages(request_body) == [ASKED]
    texts = [part["content"] for part in answers(response)[0]["parts"] if part["type"] == "text"]
    if events:
        assert texts == ["Yes, a coat."]
        assert [part["content"] for part in streamed(events)[0]["parts"] if part["type"] == "text"] == texts


def test_whose_it_is():
    """What has no role is the user's, unless only a model says such a thing."""
    picture = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    assert messages({"contents": [{"parts": [picture]}]})[0]["role"] == "user"
    assert messages({"contents": [{"parts": [GEMINI_CALL]}]})[0]["role"] == "assistant"
    assert [each["role"] for each in messages({"input": [{"type": "text", "text": "?"}, {"type": "image"}]})] == [
        "user",
        "user",
    ]
    assert messages({"input": [{"type": "web_search_call", "id": "w"}]})[0]["role"] == "assistant"


def test_what_says_nothing():
    """Vectors and ranks are no messages, and neither is a stored prompt."""
    assert answers({"results": [{"index": 0, "relevance_score": 0.9}], "id": "r"}) == []
    assert answers({"data": [{"embedding": [0.1]}], "usage": {}}) == []
    assert answers({"choices": []}) == []
    assert answers(None) == []
    assert streamed(b"") == []
    assert messages({"prompt": {"id": "pmpt_1"}}) == []


def test_several_answers():
    """Each choice is a message, in a stream too."""
    choices = [{"index": n, "delta": {"content": f"{n}!"}, "finish_reason": "stop"} for n in (0, 1)]
    assert [
        each["parts"][0]["content"] for each in streamed(sse({"choices": choices[:1]}, {"choices": choices[1:]}))
    ] == [
        "0!",
        "1!",
    ]


def test_several_calls():
    """Calls that come one after another in a stream are kept apart."""
    first = {"index": 0, "id": "a", "function": {"name": "weather", "arguments": '{"city": '}}
    second = {"index": 1, "id": "b", "function": {"name": "weather", "arguments": ""}}
    events = sse(
        chunk({"tool_calls": [first]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"Paris"}'}}]}),
        chunk({"tool_calls": [second]}),
        chunk({"tool_calls": [{"index": 1, "function": {"arguments": '{"city": "Oslo"}'}}]}, "tool_calls"),
    )
    (answer,) = streamed(events)
    assert [(part["id"], part["arguments"]["city"]) for part in answer["parts"]] == [("a", "Paris"), ("b", "Oslo")]


def test_media_is_named():
    """Pictures, sound and files are named in every format, and never copied."""
    request = {
        "contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]}],
    }
    converse = {"messages": [{"role": "user", "content": [{"image": {"format": "png", "source": {"bytes": b"AAAA"}}}]}]}
    ollama = {"messages": [{"role": "user", "content": "What is it?", "images": ["AAAA"]}]}
    mistral = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:AAAA"}]}]}
    for body in (request, converse, ollama, mistral):
        said = messages(body)
        assert "AAAA" not in repr(said)
        assert any(part["type"] in ("image", "image_url", "inlineData") for part in said[0]["parts"])
