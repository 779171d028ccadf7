"""Ollama's chat, generate and embed, as they are on the wire: streams are lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tokenguard.demo.answers import Answer, words
from tokenguard.demo.exchange import JSON_LINES, Desk, Event, Reply, json_line
from tokenguard.demo.openai_chat import chat_question, direction, required
from tokenguard.facts.usage import Usage
from tokenguard.providers import ollama
from tokenguard.tokens import count_text, estimate_request

FIRST = "2026-01-01T00:00:00.000000Z"
BROKEN = Event({"error": "an error was encountered while running the model"})


def chat(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /api/chat`."""
    messages = required(body, "messages")
    answer = desk.model.answer(chat_question(_with_cap(body), messages))
    calls = [{"function": {"name": call.name, "arguments": json.loads(call.arguments)}} for call in answer.calls]
    parts: list[tuple[dict[str, Any], str]] = [
        ({"message": {"role": "assistant", "content": word}}, word) for word in words(answer.text)
    ]
    if calls:
        parts.append(({"message": {"role": "assistant", "content": "", "tool_calls": calls}}, ""))
    message: dict[str, Any] = {"role": "assistant", "content": answer.text}
    if calls:
        message["tool_calls"] = calls
    whole = {"message": message}
    return _reply(
        body,
        answer,
        estimate_request(ollama.CHAT.words, body),
        parts,
        whole,
        {"message": {"role": "assistant", "content": ""}},
    )


def generate(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /api/generate`."""
    prompt = str(required(body, "prompt"))
    answer = desk.model.answer(chat_question(_with_cap(body), [{"role": "user", "content": prompt}]))
    parts: list[tuple[dict[str, Any], str]] = [({"response": word}, word) for word in words(answer.text)]
    return _reply(body, answer, count_text(prompt, body["model"]), parts, {"response": answer.text}, {"response": ""})


def embed(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /api/embed`."""
    model, texts = str(required(body, "model")), required(body, "input")
    texts = [texts] if isinstance(texts, str) else texts
    tokens = sum(count_text(text, model) for text in texts)
    vectors = [direction(f"{model}|{text}", 256).tolist() for text in texts]
    return Reply({"model": model, "embeddings": vectors, "prompt_eval_count": tokens}, billed=Usage(input=tokens))


def _with_cap(body: Mapping[str, Any]) -> Mapping[str, Any]:
    cap = (body.get("options") or {}).get("num_predict", -1)
    return {**body, "max_tokens": cap if cap > 0 else None}


def _reply(
    body: Mapping[str, Any],
    answer: Answer,
    tokens: int,
    parts: list[tuple[dict[str, Any], str]],
    whole: Mapping[str, Any],
    last: Mapping[str, Any],
) -> Reply:
    billed = Usage(input=tokens, output=answer.output_tokens)
    head = {"model": body["model"], "created_at": FIRST}
    end = {
        "done": True,
        "done_reason": "length" if answer.finish == "length" else "stop",
        "prompt_eval_count": billed.input,
        "eval_count": billed.output,
    }
    events = [
        *(Event({**head, **part, "done": False}, text=word) for part, word in parts),
        Event({**head, **last, **end}),
    ]
    streamed = body.get("stream", True)
    return Reply(
        {**head, **whole, **end}, events if streamed else (), billed, BROKEN, framed=json_line, content_type=JSON_LINES
    )
