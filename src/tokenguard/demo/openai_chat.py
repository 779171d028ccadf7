"""OpenAI's chat completions, legacy completions, embeddings and models, as they are on the wire."""

from __future__ import annotations

import array
import base64
import json
import math
import random
import time
from collections.abc import Mapping
from typing import Any

from tokenguard.demo.answers import Answer, Question, Tool, words
from tokenguard.demo.exchange import DATED, Desk, Event, Refusal, Reply, dated
from tokenguard.facts.usage import Usage
from tokenguard.providers import openai
from tokenguard.tokens import estimate_request
from tokenguard.tokens.text import reasons

FINGERPRINT = "fp_50cad350e4"
BROKEN = Event(
    {
        "error": {
            "message": "The server had an error while processing your request. Sorry about that!",
            "type": "server_error",
            "param": None,
            "code": None,
        }
    }
)
DONE = Event("[DONE]")
DIMENSIONS = {"text-embedding-3-large": 3072}
OBFUSCATION = "aXk3Pq9vTz"


def required(body: Mapping[str, Any], key: str) -> Any:
    """A field that the API demands."""
    if not (value := body.get(key)):
        raise Refusal(
            400, "invalid_request_error", f"Missing required parameter: '{key}'.", "missing_required_parameter", key
        )
    return value


def chat(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /chat/completions`."""
    messages = required(body, "messages")
    model = str(required(body, "model"))
    if _is_mistral(body) and "stream_options" in body:
        raise Refusal(422, "invalid_request_error", "Extra inputs are not permitted: stream_options")
    usage = desk.cache.openai(
        f"{key} {model}", body, transcript(body), estimate_request(openai.CHAT.words, body), desk.now()
    )
    question = chat_question(body, messages)
    answers = [desk.model.answer(question._replace(number=n)) for n in range(int(body.get("n") or 1))]
    billed = bill(usage, answers)
    head: dict[str, Any] = {
        "id": desk.id("chatcmpl-", 29),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": dated(model),
        "service_tier": served(body),
        "system_fingerprint": FINGERPRINT,
    }
    choices = [
        {"index": n, "message": message_of(desk, answer), "logprobs": None, "finish_reason": finish(answer)}
        for n, answer in enumerate(answers)
    ]
    counted = usage_json(billed)
    events = chat_events(head, choices, counted, body) if body.get("stream") else []
    return Reply({**head, "choices": choices, "usage": counted}, events, billed, BROKEN)


def _is_mistral(body: Mapping[str, Any]) -> bool:
    return str(body.get("model")).startswith("mistral-")


def chat_question(body: Mapping[str, Any], messages: list[Mapping[str, Any]]) -> Question:
    """What the chat request asks of the model."""
    rounds, result, said = 0, "", ""
    for message in reversed(messages):
        if message.get("role") == "user":
            said = plain(message.get("content"))
            break
        rounds += bool(message.get("tool_calls"))
        result = result or (plain(message.get("content")) if message.get("role") == "tool" else "")
    form = body.get("response_format") or {}
    schema = (form.get("json_schema") or {}).get("schema") or ({} if "json" in str(form.get("type")) else None)
    tools = [tool["function"] for tool in body.get("tools") or () if "function" in tool]
    tools += body.get("functions") or []
    choice = body.get("tool_choice") or body.get("function_call") or "auto"
    stop = body.get("stop") or ()
    return Question(
        model=str(body["model"]),
        said=said,
        instructions="\n".join(plain(m.get("content")) for m in messages if m.get("role") in ("system", "developer")),
        tools=[Tool(tool["name"], tool.get("parameters") or {}) for tool in tools],
        choice=choice if isinstance(choice, str) else (choice.get("function") or choice).get("name", "required"),
        rounds=rounds,
        result=result,
        schema=schema,
        cap=body.get("max_completion_tokens") or body.get("max_tokens"),
        stop=(stop,) if isinstance(stop, str) else stop,
        thinks=reasons(str(body["model"])) and body.get("reasoning_effort") not in ("none", "minimal"),
    )


def message_of(desk: Desk, answer: Answer) -> dict[str, Any]:
    """The assistant's message."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": answer.text or (None if answer.calls else ""),
        "refusal": None,
        "annotations": [],
    }
    if answer.calls:
        message["tool_calls"] = [
            {"id": desk.id("call_"), "type": "function", "function": call._asdict()} for call in answer.calls
        ]
    return message


def finish(answer: Answer) -> str:
    """The answer's `finish_reason`."""
    return "stop" if answer.finish == "stop_sequence" else answer.finish


def served(body: Mapping[str, Any]) -> str:
    """The tier that served the request."""
    tier = body.get("service_tier")
    return tier if isinstance(tier, str) and tier in ("flex", "priority") else "default"


def bill(usage: Usage, answers: list[Answer]) -> Usage:
    """The input's counts with what was generated; the input is billed once for all answers."""
    return usage._replace(
        output=sum(answer.output_tokens for answer in answers),
        reasoning=sum(answer.thought_tokens for answer in answers),
    )


def usage_json(billed: Usage) -> dict[str, Any]:
    """`usage` of chat and legacy completions."""
    details: dict[str, Any] = {"cached_tokens": billed.cache_read, "audio_tokens": 0}
    if billed.cache_write_30m or billed.cache_write_12h:
        details["cache_write_tokens"] = billed.cache_write
    return {
        "prompt_tokens": billed.input,
        "completion_tokens": billed.output,
        "total_tokens": billed.total,
        "prompt_tokens_details": details,
        "completion_tokens_details": {
            "reasoning_tokens": billed.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def chat_events(
    head: Mapping[str, Any], choices: list[dict[str, Any]], usage: Mapping[str, Any], body: Mapping[str, Any]
) -> list[Event]:
    """The completion in chunks, the choices in turn as they come when there are several."""
    # Mistral tells it unasked, and refuses to be asked.
    counted = bool((body.get("stream_options") or {}).get("include_usage")) or _is_mistral(body)
    base = {**head, "object": "chat.completion.chunk"}

    def chunk(index: int, delta: Mapping[str, Any], text: str = "", reason: str | None = None) -> Event:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        none = {"usage": None} if counted else {}
        return Event({**base, "choices": [choice], **none, "obfuscation": OBFUSCATION}, text=text)

    events = []
    for choice in choices:
        index, message = choice["index"], choice["message"]
        opening = None if message.get("tool_calls") else ""
        events.append(chunk(index, {"role": "assistant", "content": opening, "refusal": None}))
        events += [chunk(index, {"content": word}, word) for word in words(message["content"] or "")]
        for n, call in enumerate(message.get("tool_calls") or ()):
            function = call["function"]
            opened = {**call, "index": n, "function": {"name": function["name"], "arguments": ""}}
            events.append(chunk(index, {"tool_calls": [opened]}, function["name"]))
            events += [
                chunk(index, {"tool_calls": [{"index": n, "function": {"arguments": piece}}]}, piece)
                for piece in words(function["arguments"])
            ]
        events.append(chunk(index, {}, reason=choice["finish_reason"]))
    if counted:
        events.append(Event({**base, "choices": [], "usage": usage, "obfuscation": OBFUSCATION}))
    return [*events, DONE]


def filled(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """What Portkey's gateway asks of a model where a saved prompt is filled in."""
    said = f"Which of your plans has a warranty? {json.dumps(body['variables'])}"
    told = {"stream_options": {"include_usage": True}} if body.get("stream") else {}
    given = {name: value for name, value in body.items() if name != "variables"}
    return {**given, **told, "model": "gpt-4o", "messages": [{"role": "user", "content": said}]}


def completions(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /completions`, the legacy API."""
    if "variables" in body:
        return chat(desk, filled(body), key)
    model = str(required(body, "model"))
    prompt = required(body, "prompt")
    usage = desk.cache.openai(
        f"{key} {model}", body, str(prompt), estimate_request(openai.COMPLETIONS.words, body), desk.now()
    )
    stop = body.get("stop") or ()
    cap = body.get("max_tokens") or 16
    question = Question(model, str(prompt), cap=cap, stop=(stop,) if isinstance(stop, str) else stop)
    answers = [desk.model.answer(question._replace(number=n)) for n in range(int(body.get("n") or 1))]
    billed = bill(usage, answers)
    head = {
        "id": desk.id("cmpl-", 29),
        "object": "text_completion",
        "created": int(time.time()),
        "model": dated(model),
        "system_fingerprint": FINGERPRINT,
    }
    choices = [
        {"text": answer.text, "index": n, "logprobs": None, "finish_reason": finish(answer)}
        for n, answer in enumerate(answers)
    ]
    events: list[Event] = []
    if body.get("stream"):
        for choice in choices:
            events += [
                Event({**head, "choices": [{**choice, "text": word, "finish_reason": None}]}, text=word)
                for word in words(str(choice["text"]))
            ]
            events.append(Event({**head, "choices": [{**choice, "text": ""}]}))
        if (body.get("stream_options") or {}).get("include_usage"):
            events.append(Event({**head, "choices": [], "usage": usage_json(billed)}))
        events.append(DONE)
    return Reply({**head, "choices": choices, "usage": usage_json(billed)}, events, billed, BROKEN)


def embeddings(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /embeddings`."""
    model = str(required(body, "model"))
    inputs = required(body, "input")
    if isinstance(inputs, str) or (inputs and isinstance(inputs[0], int)):
        inputs = [inputs]
    size = body.get("dimensions") or DIMENSIONS.get(model, 1536)
    data = []
    for n, text in enumerate(inputs):
        vector = direction(f"{model}|{text}", size)
        value: object = vector.tolist()
        if body.get("encoding_format") == "base64":
            value = base64.b64encode(vector.tobytes()).decode()
        data.append({"object": "embedding", "index": n, "embedding": value})
    tokens = estimate_request(openai.EMBEDDINGS.words, body)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    head: dict[str, Any] = {"object": "list", "model": model}
    if _is_mistral(body):
        head["id"] = desk.id("emb-")
        usage["completion_tokens"] = 0
    return Reply({**head, "data": data, "usage": usage}, billed=Usage(input=tokens))


def direction(text: str, size: int) -> array.array[float]:
    """A unit vector that belongs to the text."""
    noise = random.Random(text).randbytes(size)  # noqa: S311 - no secret
    values = [byte - 127.5 for byte in noise]
    length = math.sqrt(sum(value * value for value in values)) or 1.0
    return array.array("f", [value / length for value in values])


def models() -> Reply:
    """`GET /models`."""
    names = [name for name in DATED if not name.startswith("claude")]
    return Reply({"object": "list", "data": [model_json(name) for name in names]})


def model_json(name: str) -> dict[str, Any]:
    """One model, as the list has it."""
    return {"id": name, "object": "model", "created": 1_715_367_049, "owned_by": "system"}


def transcript(body: Mapping[str, Any]) -> str:
    """The prompt as one text, in the order in which the cache sees it: tools, form of the answer, messages."""
    head = [body.get(name) for name in ("tools", "functions", "response_format", "text")]
    settings = "\n".join(json.dumps(value, sort_keys=True, default=str) for value in head if value)
    messages = body.get("messages") or body.get("input") or ()
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    spoken = "".join(f"{spoken_by(message)}\n{spoken_text(message)}\n" for message in messages)
    return f"{settings}\n{body.get('instructions') or ''}\n{spoken}"


def spoken_by(message: Mapping[str, Any]) -> str:
    """Who speaks."""
    return str(message.get("role") or message.get("type"))


def spoken_text(message: Mapping[str, Any]) -> str:
    """All that a message says."""
    rest = {k: v for k, v in message.items() if k not in ("role", "content", "id", "status")}
    return plain(message.get("content")) + (json.dumps(rest, sort_keys=True, default=str) if rest else "")


def plain(content: object) -> str:
    """The text of a content, which may be a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        return ""
    return "\n".join(
        str(part.get("text") or (part if part.get("type") not in ("text", "input_text") else "")) for part in content
    )
