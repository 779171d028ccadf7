"""One small exchange in every wire format, written by hand from the providers' documentation.

By the name of the row: a request, its answer, and the events of its stream, of which the first ones are what is left
when it breaks off. `rounds` is a request after two rounds of tool calls. Tests for every format walk this table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from tokenguard.facts.usage import Usage

QUESTION = "Do I need a coat in Paris today?"
SYSTEM = "Answer in a few words."
SAID = "Yes, take a coat."
PIECES = ("Yes, ", "take a coat.")
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}


class Body(NamedTuple):
    """An exchange, and what it must be read as."""

    request: dict[str, Any]
    answer: dict[str, Any]
    input: int
    output: int | None = None
    events: tuple[dict[str, Any], ...] = ()
    """The events of the answer as a stream; the last `ends` of them tell how it ended and what it used."""
    ends: int = 1
    lines: bool = False
    """Whether a stream is lines of JSON and not server-sent events."""
    rounds: dict[str, Any] | None = None
    """Keys of a request after two rounds of one tool call each; `None` where the format has no tools."""
    guarded: str = ""
    """The kind of call in `tests/sdk/families.py`, or the module of `tests/sdk`, that has it guarded and failing."""
    units: Mapping[str, int] = MappingProxyType({})
    """What else it must be read as, with what the request says."""
    comes_later: bool = False
    """Whether what it comes to depends on what is done after it, so that a request has no most."""

    def stream(self, *, whole: bool = True) -> bytes:
        """The bytes of the stream, or of its beginning."""
        events = self.events if whole else self.events[: -self.ends]
        if self.lines:
            return b"".join(json.dumps(event).encode() + b"\n" for event in events)
        return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def turns(call: Any = None, result: Any = None, *, key: str = "messages") -> dict[str, Any]:
    """A conversation of a question and two rounds of a call and its result, in one of the usual shapes."""
    call = call or {"role": "assistant", "content": None, "tool_calls": [CALL]}
    result = result or {"role": "tool", "tool_call_id": "c1", "content": "Rain"}
    return {key: [{"role": "user", "content": QUESTION}, *[call, result] * 2]}


def chunk(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "x", "model": "m", "choices": [{"index": 0, "delta": delta, **more}]}


CHAT_USAGE = {"prompt_tokens": 30, "completion_tokens": 5, "total_tokens": 35}
CHAT = Body(
    {"model": "m", "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]},
    {
        "id": "x",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": SAID}, "finish_reason": "stop"}],
        "usage": CHAT_USAGE,
    },
    *(30, 5),
    (
        *(chunk({"content": piece}) for piece in PIECES),
        chunk({}, finish_reason="stop"),
        {"id": "x", "model": "m", "choices": [], "usage": CHAT_USAGE},
    ),
    ends=2,
    rounds=turns(),
    guarded="openai chat",
)
COMPLETIONS = Body(
    {"model": "m", "prompt": QUESTION},
    {"id": "x", "model": "m", "choices": [{"index": 0, "text": SAID, "finish_reason": "stop"}], "usage": CHAT_USAGE},
    *(30, 5),
    (
        *({"id": "x", "model": "m", "choices": [{"index": 0, "text": piece}]} for piece in PIECES),
        {"id": "x", "model": "m", "choices": [{"index": 0, "text": "", "finish_reason": "stop"}], "usage": CHAT_USAGE},
    ),
    guarded="openai completions",
)
RESPONSE = {
    "id": "resp_1",
    "model": "m",
    "status": "completed",
    "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": SAID}]}],
    "usage": {"input_tokens": 30, "output_tokens": 5, "total_tokens": 35},
}
RESPONSES = Body(
    {"model": "m", "instructions": SYSTEM, "input": QUESTION},
    RESPONSE,
    *(30, 5),
    (
        {"type": "response.created", "response": {"id": "resp_1", "model": "m", "status": "in_progress"}},
        *({"type": "response.output_text.delta", "delta": piece} for piece in PIECES),
        {"type": "response.completed", "response": RESPONSE},
    ),
    rounds=turns(
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "Rain"},
        key="input",
    ),
    guarded="openai responses",
)
EMBEDDINGS = Body(
    {"model": "m", "input": [QUESTION, SAID]},
    {"model": "m", "data": [{"index": 0, "embedding": [0.1]}], "usage": {"prompt_tokens": 14, "total_tokens": 14}},
    14,
    guarded="openai embeddings",
)
CLAUDE = Body(
    {"model": "m", "max_tokens": 9, "system": SYSTEM, "messages": [{"role": "user", "content": QUESTION}]},
    {
        "id": "msg_1",
        "model": "m",
        "content": [{"type": "text", "text": SAID}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 30, "output_tokens": 5},
    },
    *(30, 5),
    (
        {"type": "message_start", "message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": 30}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            for piece in PIECES
        ),
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ),
    ends=2,
    rounds=turns(
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "weather", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "Rain"}]},
    ),
    guarded="anthropic messages",
)
GEMINI_USAGE = {"promptTokenCount": 30, "candidatesTokenCount": 5, "totalTokenCount": 35}


def candidate(text: str, **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, **more}], "modelVersion": "m"}


GENERATE = Body(
    {
        "contents": [{"role": "user", "parts": [{"text": QUESTION}]}],
        "systemInstruction": {"role": "user", "parts": [{"text": SYSTEM}]},
    },
    {**candidate(SAID, finishReason="STOP"), "usageMetadata": GEMINI_USAGE},
    *(30, 5),
    (
        *(candidate(piece) for piece in PIECES),
        {**candidate("", finishReason="STOP"), "usageMetadata": GEMINI_USAGE},
    ),
    rounds=turns(
        {"role": "model", "parts": [{"functionCall": {"name": "weather", "args": {}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "weather", "response": {"is": "Rain"}}}]},
        key="contents",
    ),
    guarded="google generate",
)
EMBED_CONTENT = Body(
    {"requests": [{"content": {"parts": [{"text": QUESTION}]}}]},
    {"embeddings": [{"values": [0.1]}], "usageMetadata": {"promptTokenCount": 9}},
    9,
    guarded="google embed",
)
INTERACTION = {
    "id": "i1",
    "model": "m",
    "status": "completed",
    "steps": [{"type": "model_output", "content": [{"type": "text", "text": SAID}]}],
    "usage": {"total_input_tokens": 30, "total_output_tokens": 5, "total_tokens": 35},
}
INTERACTIONS = Body(
    {"model": "m", "system_instruction": SYSTEM, "input": QUESTION},
    INTERACTION,
    *(30, 5),
    (
        {"event_type": "interaction.created", "interaction": {"id": "i1", "model": "m", "status": "in_progress"}},
        {"event_type": "step.start", "step": {"type": "model_output"}},
        *({"event_type": "step.delta", "delta": {"type": "text", "text": piece}} for piece in PIECES),
        {"event_type": "interaction.completed", "interaction": {**INTERACTION, "steps": None}},
    ),
    rounds=turns(
        {"type": "function_call", "id": "c1", "name": "weather", "arguments": {}},
        {"type": "function_result", "call_id": "c1", "result": "Rain"},
        key="input",
    ),
    guarded="test_interactions",
)
CONVERSATIONS = Body(
    {"agent_id": "ag_1", "instructions": SYSTEM, "inputs": QUESTION},
    {
        "conversation_id": "conv_1",
        "outputs": [{"type": "message.output", "model": "m", "role": "assistant", "content": SAID}],
        "usage": CHAT_USAGE,
    },
    *(30, 5),
    (
        {"type": "conversation.response.started", "conversation_id": "conv_1"},
        *({"type": "message.output.delta", "model": "m", "content": piece} for piece in PIECES),
        {"type": "conversation.response.done", "usage": CHAT_USAGE},
    ),
    rounds=turns(
        {"type": "function.call", "tool_call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function.result", "tool_call_id": "c1", "result": "Rain"},
        key="inputs",
    ),
    guarded="test_mistral",
)
COHERE_USAGE = {"billed_units": {"input_tokens": 30, "output_tokens": 5}}
COHERE_CHAT = Body(
    {"model": "m", "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]},
    {
        "id": "x",
        "message": {"role": "assistant", "content": [{"type": "text", "text": SAID}]},
        "finish_reason": "COMPLETE",
        "usage": COHERE_USAGE,
    },
    *(30, 5),
    (
        {"type": "message-start", "id": "x"},
        *(
            {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": piece}}}}
            for piece in PIECES
        ),
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": COHERE_USAGE}},
    ),
    rounds=turns(),
    guarded="cohere chat",
)
COHERE_1 = {"generation_id": "x", "text": SAID, "finish_reason": "COMPLETE", "meta": COHERE_USAGE}
COHERE_CHAT_V1 = Body(
    {"model": "m", "preamble": SYSTEM, "message": QUESTION},
    COHERE_1,
    *(30, 5),
    (
        {"event_type": "stream-start", "generation_id": "x"},
        *({"event_type": "text-generation", "text": piece} for piece in PIECES),
        {"event_type": "stream-end", "finish_reason": "COMPLETE", "response": COHERE_1},
    ),
    lines=True,
    rounds={
        "message": "",
        "chat_history": [{"role": "USER", "message": QUESTION}, {"role": "TOOL", "tool_results": [{"outputs": []}]}],
        "tool_results": [{"call": {"name": "weather"}, "outputs": [{"is": "Rain"}]}],
    },
    guarded="cohere1 chat",
)
COHERE_EMBED = Body(
    {"model": "m", "texts": [QUESTION], "images": ["data:image/png;base64,AAAA"]},
    {"id": "x", "embeddings": {}, "meta": {"billed_units": {"input_tokens": 9, "image_tokens": 200, "images": 1}}},
    209,
    guarded="cohere embed",
    units={"input_image": 200, "images": 1},
)
VOYAGE_MULTIMODAL = Body(
    {
        "model": "m",
        "inputs": [{"content": [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": "u"}]}],
    },
    {"model": "m", "data": [], "usage": {"text_tokens": 9, "image_pixels": 560_000, "total_tokens": 1009}},
    1009,
    guarded="test_embedded",
    units={"input_image": 1000},
)
VOYAGE_IN_CONTEXT = Body(
    {"model": "m", "inputs": [[QUESTION]]},
    {"model": "m", "data": [], "usage": {"total_tokens": 9}},
    9,
    guarded="test_embedded",
)
EMBED_MULTIMODAL = Body(
    {"model": "m", "instances": [{"text": QUESTION, "image": {"bytesBase64Encoded": "AAAA"}}]},
    {"predictions": [{"textEmbedding": [0.1], "imageEmbedding": [0.1]}]},
    0,
    guarded="test_embedded",
    units={"images": 1, "characters": len(QUESTION)},
)
RERANK = Body(
    {"model": "m", "query": QUESTION, "documents": [SAID, SYSTEM]},
    {"id": "x", "results": [{"index": 0, "relevance_score": 0.9}], "meta": {"billed_units": {"search_units": 1}}},
    0,
    guarded="cohere rerank",
)
OLLAMA_ENDS = {"model": "m", "done": True, "done_reason": "stop", "prompt_eval_count": 30, "eval_count": 5}
OLLAMA_CHAT = Body(
    CHAT.request,
    {"message": {"role": "assistant", "content": SAID}, **OLLAMA_ENDS},
    *(30, 5),
    (
        *({"model": "m", "message": {"role": "assistant", "content": piece}, "done": False} for piece in PIECES),
        {"message": {"role": "assistant", "content": ""}, **OLLAMA_ENDS},
    ),
    lines=True,
    rounds=turns(),
    guarded="ollama chat",
)
OLLAMA_GENERATE = Body(
    {"model": "m", "system": SYSTEM, "prompt": QUESTION},
    {"response": SAID, **OLLAMA_ENDS},
    *(30, 5),
    (*({"model": "m", "response": piece, "done": False} for piece in PIECES), {"response": "", **OLLAMA_ENDS}),
    lines=True,
    guarded="ollama generate",
)
OLLAMA_EMBED = Body(
    {"model": "m", "input": QUESTION},
    {"model": "m", "embeddings": [[0.1]], "prompt_eval_count": 9},
    9,
    guarded="ollama embed",
)
XAI_IMAGES = Body(
    {"model": "m", "prompt": QUESTION, "n": 2},
    {"model": "m", "images": [{"url": "u"}, {"url": "u"}]},
    0,
    guarded="test_xai",
    units={"images": 2},
)
XAI_VIDEOS = Body(
    {"model": "m", "prompt": QUESTION, "duration": 6},
    {"model": "m", "video": {"url": "u", "duration": 6}},
    0,
    guarded="test_xai",
    units={"output_seconds": 6},
)
XAI_CHAT = Body(
    {"model": "m", "messages": [{"role": "user", "content": [{"text": QUESTION}]}]},
    {
        "id": "x",
        "model": "m",
        "outputs": [
            {"index": 0, "finish_reason": "REASON_STOP", "message": {"content": SAID, "role": "ROLE_ASSISTANT"}}
        ],
        "usage": CHAT_USAGE,
    },
    *(30, 5),
    (
        *({"id": "x", "model": "m", "outputs": [{"index": 0, "delta": {"content": piece}}]} for piece in PIECES),
        {"outputs": [{"index": 0, "delta": {}, "finish_reason": "REASON_STOP"}], "usage": CHAT_USAGE},
    ),
    rounds={
        "messages": [
            {"role": "user", "content": [{"text": QUESTION}]},
            *[
                {"role": "assistant", "tool_calls": [{"id": "c1", "type": "TOOL_CALL_TYPE_CLIENT_SIDE_TOOL"}]},
                {"role": "tool", "content": [{"text": "Rain"}]},
            ]
            * 2,
        ]
    },
    guarded="test_xai",
)
XAI_COMPACT = Body(
    XAI_CHAT.request,
    {"id": "x", "model": "m", "usage": CHAT_USAGE},
    *(30, 5),
    guarded="test_xai",
)
CONVERSE_ENDS = {"usage": {"inputTokens": 30, "outputTokens": 5, "totalTokens": 35}}
CONVERSE = Body(
    {"modelId": "m", "system": [{"text": SYSTEM}], "messages": [{"role": "user", "content": [{"text": QUESTION}]}]},
    {
        "output": {"message": {"role": "assistant", "content": [{"text": SAID}]}},
        "stopReason": "end_turn",
        **CONVERSE_ENDS,
    },
    *(30, 5),
    (
        *({"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": piece}}} for piece in PIECES),
        {"messageStop": {"stopReason": "end_turn"}},
        {"metadata": CONVERSE_ENDS},
    ),
    ends=2,
    rounds=turns(
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "c1", "name": "weather", "input": {}}}]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "c1", "content": [{"text": "Rain"}]}}]},
    ),
    guarded="bedrock converse",
)
TITAN = Body(
    {"inputText": QUESTION, "textGenerationConfig": {"maxTokenCount": 9}},
    {"inputTextTokenCount": 30, "results": [{"tokenCount": 5, "outputText": SAID, "completionReason": "FINISH"}]},
    *(30, 5),
    (
        *({"outputText": piece, "index": 0, "completionReason": None} for piece in PIECES),
        {
            "outputText": "",
            "completionReason": "FINISH",
            "totalOutputTextTokenCount": 5,
            "inputTextTokenCount": 30,
            "amazon-bedrock-invocationMetrics": {"inputTokenCount": 30, "outputTokenCount": 5},
        },
    ),
    guarded="test_bedrock",
)
VECTORS = Body(
    {"inputText": QUESTION},
    {"embedding": [0.1], "inputTextTokenCount": 9},
    9,
    guarded="test_bedrock",
)
PICTURED = Body(
    {"inputText": QUESTION, "inputImage": "iVBORw0KGgo=", "embeddingConfig": {"outputEmbeddingLength": 256}},
    {"embedding": [0.1], "inputTextTokenCount": 9, "message": None},
    9,
    units={"images": 1},
    guarded="test_bedrock",
)
LLAMA = Body(
    {"prompt": QUESTION, "max_gen_len": 9},
    {"generation": SAID, "prompt_token_count": 30, "generation_token_count": 5, "stop_reason": "stop"},
    *(30, 5),
    (
        {"generation": PIECES[0], "prompt_token_count": 30, "generation_token_count": 2, "stop_reason": None},
        {"generation": PIECES[1], "generation_token_count": 5, "stop_reason": None},
        {"generation": "", "generation_token_count": 5, "stop_reason": "stop"},
    ),
    guarded="bedrock invoke meta",
)

PICTURE_USAGE = {
    "input_tokens": 30,
    "input_tokens_details": {"text_tokens": 20, "image_tokens": 10},
    "output_tokens": 272,
    "total_tokens": 302,
}
IMAGES = Body(
    {"model": "m", "prompt": QUESTION, "n": 1, "quality": "low", "size": "1024x1024"},
    {"created": 1, "data": [{"b64_json": "aGk="}], "quality": "low", "size": "1024x1024", "usage": PICTURE_USAGE},
    *(30, 272),
    (
        {"type": "image_generation.partial_image", "b64_json": "aGk=", "partial_image_index": 0},
        {"type": "image_generation.completed", "b64_json": "aGk=", "quality": "low", "usage": PICTURE_USAGE},
    ),
    guarded="openai images",
    units={"images": 1},
)
SPEECH = Body(
    {"model": "m", "voice": "alloy", "input": QUESTION},
    {"usage": {"input_tokens": 9, "output_tokens": 50}},
    *(9, 50),
    (
        {"type": "speech.audio.delta", "audio": "aGk="},
        {"type": "speech.audio.done", "usage": {"input_tokens": 9, "output_tokens": 50, "total_tokens": 59}},
    ),
    guarded="openai speech",
    units={"characters": len(QUESTION)},
)
TRANSCRIPTS = Body(
    {"model": "m", "prompt": QUESTION, "file": {"type": "file", "bytes": 278_444, "seconds": 8.7}},
    {"text": SAID, "usage": {"type": "duration", "seconds": 9}},
    0,
    None,
    (
        {"type": "transcript.text.delta", "delta": SAID},
        {"type": "transcript.text.done", "text": SAID, "usage": {"type": "duration", "seconds": 9}},
    ),
    guarded="openai transcripts",
    units={"input_seconds": 9},
)
MODERATIONS = Body(
    {"model": "m", "input": QUESTION},
    {"id": "modr-1", "model": "m", "results": [{"flagged": False}]},
    0,
    guarded="openai moderations",
    units={"request": 1},
)
DECISIONS = Body(
    {"model": "m", "input": QUESTION, "questions": [{"type": "predicate", "instructions": "It is cold."}]},
    {
        "model": "m",
        "answers": [{"type": "predicate", "probability": 0.9}],
        "usage": {"input_tokens": 30, "output_tokens": 5, "total_tokens": 35},
    },
    *(30, 5),
    guarded="openai decisions",
)
GOOGLE_DECISIONS = DECISIONS._replace(
    request={"model": "m", "input": QUESTION, "questions": {"cold": {"type": "noul", "instructions": "It is cold."}}},
    answer={
        "answers": {"cold": {"noul": 0.9}},
        "usage": {"total_input_tokens": 30, "total_output_tokens": 5, "total_tokens": 35},
    },
    guarded="google decisions",
)
VIDEOS = Body(
    {"model": "m", "prompt": QUESTION, "seconds": "8", "size": "720x1280"},
    {"id": "video_1", "model": "m", "status": "completed", "seconds": "8", "size": "720x1280"},
    0,
    guarded="openai films",
    units={"output_seconds": 8},
)

IMAGEN = Body(
    {"model": "m", "instances": [{"prompt": QUESTION}], "parameters": {"sampleCount": 2}},
    {"predictions": [{"bytesBase64Encoded": "aGk="}, {"raiFilteredReason": "x"}]},
    0,
    guarded="google imagen",
    units={"images": 1},
)
VEO = Body(
    {"model": "m", "instances": [{"prompt": QUESTION}], "parameters": {"durationSeconds": 6, "sampleCount": 2}},
    {
        "name": "models/m/operations/1",
        "done": True,
        "response": {"generateVideoResponse": {"generatedSamples": [{"video": {}}, {"video": {}}]}},
    },
    0,
    guarded="test_media_clouds",
    units={"output_seconds": 12},
)
CANVAS = Body(
    {"model": "m", "taskType": "TEXT_IMAGE", "textToImageParams": {"text": QUESTION}, "imageGenerationConfig": {}},
    {"images": ["aGk="], "error": None},
    0,
    guarded="bedrock canvas",
    units={"images": 1},
)
STABILITY = Body(
    {"model": "m", "prompt": QUESTION},
    {"images": ["aGk="], "seeds": [1], "finish_reasons": [None]},
    0,
    guarded="bedrock stability",
    units={"images": 1},
)
RANK = Body(
    {"model": "m", "query": QUESTION, "documents": [SAID] * 2},
    {"results": [{"index": 0, "relevance_score": 0.9}]},
    0,
    guarded="bedrock rerank",
    units={"request": 1},
)
FILM = Body(
    {"model": "m", "textToVideoParams": {"text": QUESTION}, "videoGenerationConfig": {"durationSeconds": 6}},
    {"invocationArn": "arn:aws:bedrock:us-east-1:1:async-invoke/1", "status": "Completed"},
    0,
    guarded="test_media_clouds",
    units={"output_seconds": 6},
)
OCR = Body(
    {"model": "m", "document": {"type": "image_url", "image_url": "u"}, "document_annotation_prompt": QUESTION},
    {"pages": [{"index": 0}], "model": "m", "usage_info": {"pages_processed": 1}},
    0,
    guarded="mistral ocr",
    units={"pages": 1},
)
OTHER_RERANK = Body(
    {"model": "m", "query": QUESTION, "documents": [SAID] * 2},
    {"model": "m", "results": [{"index": 0, "relevance_score": 0.9}], "usage": {"total_tokens": 40}},
    40,
    guarded="together rerank",
)

SPOKEN_RESPONSE = {
    "id": "resp_1",
    "status": "completed",
    "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": SAID}]}],
    "usage": {"input_tokens": 30, "output_tokens": 5, "total_tokens": 35},
}
REALTIME = Body(
    {"model": "m", "instructions": SYSTEM, "input": QUESTION, "context_tokens": 40},
    SPOKEN_RESPONSE,
    *(30, 5),
    (
        {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}},
        *({"type": "response.output_text.delta", "delta": piece} for piece in PIECES),
        {"type": "response.done", "response": SPOKEN_RESPONSE},
    ),
    guarded="test_realtime",
)
REALTIME_TRANSCRIPT = Body(
    {"model": "m", "prompt": QUESTION, "context_tokens": 40},
    {"item_id": "item_1", "transcript": SAID, "usage": {"type": "duration", "seconds": 3.0}},
    0,
    guarded="test_realtime",
    units={"input_seconds": 3},
)
LIVE = Body(
    {"model": "m", "turns": [{"role": "user", "parts": [{"text": QUESTION}]}]},
    {"usageMetadata": {"promptTokenCount": 30, "responseTokenCount": 5, "totalTokenCount": 35}},
    *(30, 5),
    guarded="test_live",
)
GROQ_TRANSCRIPTS = TRANSCRIPTS._replace(
    answer={"text": SAID, "duration": 8.6}, guarded="groq transcripts", units={"input_seconds": 10}, events=()
)

CACHE = Body(
    {"model": "m", "contents": [{"role": "user", "parts": [{"text": QUESTION}]}], "ttl": "7200s"},
    {
        "name": "cachedContents/1",
        "createTime": "2026-11-26T12:00:00Z",
        "expireTime": "2026-11-26T14:00:00Z",
        "usageMetadata": {"totalTokenCount": 30},
    },
    30,
    guarded="test_rented",
)
STORE = Body(
    {"name": QUESTION, "description": SYSTEM},
    {"id": "vs_1", "created_at": 1, "usage_bytes": 1000, "status": "completed"},
    0,
    guarded="test_rented",
    units={"megabyte_days": 0},
    comes_later=True,
)
CONTAINER = Body(
    {"name": QUESTION},
    {"id": "cntr_1", "created_at": 1, "memory_limit": "1g", "status": "running"},
    0,
    guarded="test_rented",
    units={"request": 1},
)
TUNING = Body(
    {"model": "m", "suffix": QUESTION, "training_file": "file-1"},
    {"id": "ft-1", "model": "m", "status": "succeeded", "trained_tokens": 500},
    0,
    guarded="test_rented",
    units={"trained_tokens": 500},
    comes_later=True,
)
RENT = Body(
    {"model": "m", "resource": QUESTION, "usage": Usage(megabyte_days=5)},
    {"resource": "vs_1", "usage": Usage(megabyte_days=5)},
    0,
    guarded="test_rented",
    units={"megabyte_days": 5},
)

BODIES = {
    "caches": CACHE,
    "vector_store": STORE,
    "container": CONTAINER,
    "fine_tuning": TUNING,
    "rent": RENT,
    "live": LIVE,
    "realtime": REALTIME,
    "realtime_transcript": REALTIME_TRANSCRIPT,
    "groq_transcripts": GROQ_TRANSCRIPTS,
    "imagen": IMAGEN,
    "veo": VEO,
    "invoke_canvas": CANVAS,
    "invoke_stability": STABILITY,
    "invoke_rerank": RANK,
    "invoke_film": FILM,
    "ocr": OCR,
    "rerank": OTHER_RERANK,
    "images": IMAGES,
    "speech": SPEECH,
    "transcripts": TRANSCRIPTS,
    "moderations": MODERATIONS,
    "decisions": DECISIONS,
    "google_decisions": GOOGLE_DECISIONS,
    "videos": VIDEOS,
    "video_edits": VIDEOS._replace(guarded="test_media"),
    "chat": CHAT,
    "completions": COMPLETIONS,
    "responses": RESPONSES,
    "embeddings": EMBEDDINGS,
    "messages": CLAUDE,
    "generate_content": GENERATE,
    "embed_content": EMBED_CONTENT,
    "interactions": INTERACTIONS,
    "conversations": CONVERSATIONS,
    "cohere_chat": COHERE_CHAT,
    "cohere_chat_v1": COHERE_CHAT_V1,
    "cohere_embed": COHERE_EMBED,
    "voyage_multimodal": VOYAGE_MULTIMODAL,
    "voyage_in_context": VOYAGE_IN_CONTEXT,
    "embed_multimodal": EMBED_MULTIMODAL,
    "cohere_rerank": RERANK,
    "ollama_chat": OLLAMA_CHAT,
    "ollama_generate": OLLAMA_GENERATE,
    "ollama_embed": OLLAMA_EMBED,
    "xai_chat": XAI_CHAT,
    "xai_images": XAI_IMAGES,
    "xai_videos": XAI_VIDEOS,
    "xai_compact": XAI_COMPACT,
    "converse": CONVERSE,
    "invoke_titan": TITAN,
    "invoke_embeddings": VECTORS,
    "invoke_multimodal": PICTURED,
    "invoke_text": LLAMA,
}
"""By `Api.id`: rows that share an id speak the same format, but for a detail."""
