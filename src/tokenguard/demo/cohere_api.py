"""Cohere's chat (v1 and v2), embed and rerank, as they are on the wire."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tokenguard.demo.answers import Answer, words
from tokenguard.demo.exchange import JSON_LINES, Desk, Event, Reply, json_line
from tokenguard.demo.openai_chat import chat_question, direction, required
from tokenguard.facts.usage import Usage
from tokenguard.tokens import count_text

PREAMBLE = 66
"""Tokens that Cohere puts around a prompt, and does not bill."""
SEARCH = 100
"""Documents in one search, the unit in which reranking is billed."""
FINISH = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL", "stop_sequence": "STOP_SEQUENCE"}


def chat(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /v2/chat`."""
    messages = required(body, "messages")
    answer = desk.model.answer(chat_question(body, messages))
    billed = _bill(json.dumps([message.get("content") for message in messages]), answer, str(required(body, "model")))
    calls = [{"id": desk.id("call_"), "type": "function", "function": call._asdict()} for call in answer.calls]
    message: dict[str, Any] = {"role": "assistant", "content": [{"type": "text", "text": answer.text}]}
    if calls:
        message |= {"tool_calls": calls, "content": []}
    head = {"id": desk.id("c")}
    end = {"finish_reason": FINISH[answer.finish], "usage": _usage(billed)}
    events = [
        _event("message-start", **head, delta={"message": {"role": "assistant", "content": []}}),
        *(
            _event("content-delta", word, index=0, delta={"message": {"content": {"text": word}}})
            for word in words(answer.text)
        ),
        *(_event("tool-call-start", index=n, delta={"message": {"tool_calls": call}}) for n, call in enumerate(calls)),
        _event("message-end", delta=end),
    ]
    broken = _event("message-end", delta={"error": "the model could not go on", "finish_reason": "ERROR"})
    return Reply({**head, "message": message, **end}, events if body.get("stream") else (), billed, broken)


def chat_v1(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /v1/chat`, whose streams are lines of JSON."""
    said = str(body.get("message") if body.get("tool_results") else required(body, "message"))
    answer = desk.model.answer(
        chat_question({"model": "command-r", **body, "tools": ()}, [{"role": "user", "content": said}])
    )
    billed = _bill(said, answer, str(body.get("model")))
    reason = FINISH[answer.finish]
    whole = {"text": answer.text, "generation_id": desk.id("g"), "finish_reason": reason, "meta": _usage(billed)}
    events = [
        Event({"is_finished": False, "event_type": "stream-start", "generation_id": whole["generation_id"]}),
        *(
            Event({"is_finished": False, "event_type": "text-generation", "text": word}, text=word)
            for word in words(answer.text)
        ),
        Event({"is_finished": True, "event_type": "stream-end", "finish_reason": reason, "response": whole}),
    ]
    failed = {**whole, "finish_reason": "ERROR"}
    broken = Event({"is_finished": True, "event_type": "stream-end", "finish_reason": "ERROR", "response": failed})
    return Reply(whole, events if body.get("stream") else (), billed, broken, framed=json_line, content_type=JSON_LINES)


def embed(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /v2/embed` and `/v1/embed`."""
    model, texts = str(required(body, "model")), required(body, "texts")
    billed = Usage(input=sum(count_text(text, model) for text in texts))
    vectors = [direction(f"{model}|{text}", 256).tolist() for text in texts]
    typed = {"response_type": "embeddings_by_type", "embeddings": {"float": vectors}}
    plain = {"response_type": "embeddings_floats", "embeddings": vectors}
    meta = {"billed_units": {"input_tokens": billed.input}}
    return Reply(
        {"id": desk.id("e"), "texts": texts, **(typed if body.get("embedding_types") else plain), "meta": meta},
        billed=billed,
    )


def rerank(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /v2/rerank` and `/v1/rerank`."""
    documents = required(body, "documents")
    searches = -(-len(documents) // SEARCH)
    results = [{"index": n, "relevance_score": 1 / (n + 1)} for n in range(len(documents))]
    meta = {"billed_units": {"search_units": searches}}
    return Reply(
        {"id": desk.id("r"), "results": results[: body.get("top_n")], "meta": meta}, billed=Usage(request=searches)
    )


def _bill(said: str, answer: Answer, model: str) -> Usage:
    return Usage(input=count_text(said, model), output=answer.output_tokens)


def _usage(billed: Usage) -> dict[str, Any]:
    seen = {"input_tokens": (billed.input or 0) + PREAMBLE, "output_tokens": (billed.output or 0) + 2}
    return {"billed_units": {"input_tokens": billed.input, "output_tokens": billed.output}, "tokens": seen}


def _event(kind: str, text: str = "", **fields: Any) -> Event:
    return Event({"type": kind, **fields}, kind, text)
