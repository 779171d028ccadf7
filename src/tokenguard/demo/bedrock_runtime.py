"""Amazon Bedrock's Converse and `InvokeModel`, as they are on the wire: JSON, and AWS's event stream."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tokenguard.demo import anthropic_messages, cohere_api, media
from tokenguard.demo.answers import Answer, Question, Tool, words
from tokenguard.demo.exchange import Answerer, Desk, Event, Refusal, Reply
from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import Usage
from tokenguard.providers import bedrock
from tokenguard.tokens import count_text, estimate_request

ERRORS = {400: "ValidationException", 403: "AccessDeniedException", 404: "ResourceNotFoundException"}
ERRORS |= {429: "ThrottlingException", 500: "InternalServerException", 503: "ServiceUnavailableException"}
EVENT_STREAM = "application/vnd.amazon.eventstream"
BROKEN = Event({"message": "The model could not go on."}, "modelStreamErrorException")
STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "stop_sequence": "stop_sequence"}


def framed(event: Event) -> bytes:
    """An event as a message of AWS's event stream encoding: lengths, headers, payload, checksums.

    https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html
    """
    name = event.name or ""
    kind = "exception" if name.endswith("Exception") else "event"
    fields = {f":{kind}-type": name, ":content-type": "application/json", ":message-type": kind}
    headers = b"".join(
        struct.pack("!B", len(key)) + key.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
        for key, value in fields.items()
    )
    payload = json.dumps(event.data).encode()
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return message + struct.pack("!I", zlib.crc32(message))


def converse(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /model/{model}/converse` and `/converse-stream`."""
    if not body.get("messages"):
        raise Refusal(400, "ValidationException", "The messages are empty.")
    answer = desk.model.answer(question_of(body))
    billed = Usage(estimate_request(bedrock.CONVERSE.words, body), answer.output_tokens)
    blocks: list[dict[str, Any]] = [{"text": answer.text}] if answer.text else []
    blocks += [
        {"toolUse": {"toolUseId": desk.id("tooluse_", 22), "name": call.name, "input": json.loads(call.arguments)}}
        for call in answer.calls
    ]
    whole = {
        "output": {"message": {"role": "assistant", "content": blocks}},
        "stopReason": STOP_REASONS[answer.finish],
        "usage": usage_json(billed),
        "metrics": {"latencyMs": 1},
    }
    return Reply(
        whole,
        list(events_of(whole, answer)) if body.get("stream") else [],
        billed,
        BROKEN,
        framed=framed,
        content_type=EVENT_STREAM,
    )


def invoke(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /model/{model}/invoke` and `/invoke-with-response-stream`; counts are in the headers or the last event."""
    reply = family_of(body)(desk, body, key)
    billed = reply.billed or Usage()
    counts = {
        "input": (billed.input or 0) - (billed.cache_read or 0) - (billed.cache_write or 0),
        "output": billed.output or 0,
        "cache-read-input": billed.cache_read or 0,
        "cache-write-input": billed.cache_write or 0,
    }
    events = []
    for n, event in enumerate(reply.events, 1):
        data = dict(event.data) if isinstance(event.data, Mapping) else {}
        if n == len(reply.events):
            data["amazon-bedrock-invocationMetrics"] = {_camel(name): count for name, count in counts.items()}
        events.append(Event({"bytes": base64.b64encode(json.dumps(data).encode()).decode()}, "chunk", event.text))
    headers = {} if events else {f"x-amzn-bedrock-{name}-token-count": str(count) for name, count in counts.items()}
    return reply._replace(events=events, broken=BROKEN, framed=framed, content_type=EVENT_STREAM, headers=headers)


def _camel(name: str) -> str:
    """`cache-read-input` as `cacheReadInputTokenCount`."""
    first, *others = name.split("-")
    return f"{first}{''.join(map(str.title, others))}TokenCount"


def family_of(body: Mapping[str, Any]) -> Answerer:
    """Who answers a body of `InvokeModel`: each family of models has a format of its own."""
    if "anthropic_version" in body:
        return anthropic_messages.messages
    if "taskType" in body or "stability." in str(body.get("model")):
        return media.canvas
    if "documents" in body:
        return media.rank
    if "inferenceConfig" in body or "schemaVersion" in body:
        return nova
    return text_of(next(family for family in TEXTS if family.key in body))


def nova(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """Nova's own format: Converse's, but for the name of the cap, and the events are named inside."""
    settings = body.get("inferenceConfig") or {}
    asked = {
        **body,
        "inferenceConfig": {**settings, "maxTokens": settings.get("max_new_tokens", settings.get("maxTokens"))},
    }
    reply = converse(desk, asked, key)
    return reply._replace(events=[Event({str(event.name): event.data}, text=event.text) for event in reply.events])


class Family(NamedTuple):
    """One family of models that complete a text."""

    key: str
    """The key of a request that no other family has, but for those behind it in `TEXTS`."""
    said: str
    """The key of the text that is to be completed."""
    cap: str
    whole: Callable[[Answer, Usage], dict[str, Any]]
    piece: Callable[[str, Usage], dict[str, Any]]
    """A word in a stream."""
    last: Callable[[Answer, Usage], dict[str, Any]]


def text_of(family: Family) -> Answerer:
    """Answers in the format of this family."""

    def answerer(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
        said, model = str(body[family.said]), str(body["model"])
        answer = desk.model.answer(Question(model=model, said=said, cap=body.get(family.cap)))
        billed = Usage(count_text(said, model), answer.output_tokens)
        events = [
            *(Event(family.piece(word, billed), text=word) for word in words(answer.text)),
            Event(family.last(answer, billed)),
        ]
        return Reply(family.whole(answer, billed), events if body.get("stream") else [], billed)

    return answerer


TEXTS = (
    Family(  # Cohere
        "message",
        "message",
        "max_tokens",
        lambda answer, _: {
            "text": answer.text,
            "generation_id": "g",
            "finish_reason": cohere_api.FINISH[answer.finish],
        },
        lambda word, _: {"is_finished": False, "event_type": "text-generation", "text": word},
        lambda answer, _: {
            "is_finished": True,
            "event_type": "stream-end",
            "finish_reason": cohere_api.FINISH[answer.finish],
        },
    ),
    Family(  # Meta
        "max_gen_len",
        "prompt",
        "max_gen_len",
        lambda answer, billed: _llama(answer.text, billed, answer.finish),
        lambda word, billed: _llama(word, billed, None),
        lambda answer, billed: _llama("", billed, answer.finish),
    ),
    Family(  # Mistral
        "prompt",
        "prompt",
        "max_tokens",
        lambda answer, _: {"outputs": [{"text": answer.text, "stop_reason": answer.finish}]},
        lambda word, _: {"outputs": [{"text": word, "stop_reason": None}]},
        lambda answer, _: {"outputs": [{"text": "", "stop_reason": answer.finish}]},
    ),
)


def _llama(text: str, billed: Usage, finish: str | None) -> dict[str, Any]:
    counts = {"prompt_token_count": billed.input, "generation_token_count": billed.output if finish else 1}
    return {"generation": text, **counts, "stop_reason": finish}


def question_of(body: Mapping[str, Any]) -> Question:
    """What the request asks of the model."""
    rounds, result, said = 0, "", ""
    for message in reversed(body["messages"]):
        blocks = message.get("content") or []
        if message.get("role") != "user":
            rounds += any("toolUse" in block for block in blocks)
        elif found := [block["toolResult"] for block in blocks if "toolResult" in block]:
            result = result or json.dumps([each.get("content") for each in found])
        else:
            said = "".join(block.get("text", "") for block in blocks)
            break
    settings, config = body.get("inferenceConfig") or {}, body.get("toolConfig") or {}
    offered = [tool["toolSpec"] for tool in config.get("tools") or () if "toolSpec" in tool]
    return Question(
        model=str(body["model"]),
        said=said,
        instructions="".join(block.get("text", "") for block in body.get("system") or ()),
        tools=[Tool(each["name"], each["inputSchema"]["json"]) for each in offered],
        choice="required" if "any" in (config.get("toolChoice") or {}) else "auto",
        rounds=rounds,
        result=result,
        cap=settings.get("maxTokens"),
        stop=settings.get("stopSequences") or (),
    )


def usage_json(billed: Usage) -> dict[str, Any]:
    """`usage` of Converse."""
    sent, made = billed.input or 0, billed.output or 0
    return {"inputTokens": sent, "outputTokens": made, "totalTokens": sent + made}


def events_of(whole: Mapping[str, Any], answer: Answer) -> Iterator[Event]:
    """The answer as its stream of events: the usage comes last, behind the end of the message."""
    yield Event({"role": "assistant"}, "messageStart")
    for n, block in enumerate(whole["output"]["message"]["content"]):
        at = {"contentBlockIndex": n}
        if "toolUse" in block:
            tool = block["toolUse"]
            start = {key: tool[key] for key in ("toolUseId", "name")}
            yield Event({"start": {"toolUse": start}, **at}, "contentBlockStart")
            yield Event({"delta": {"toolUse": {"input": json.dumps(tool["input"])}}, **at}, "contentBlockDelta")
        else:
            for word in words(answer.text):
                yield Event({"delta": {"text": word}, **at}, "contentBlockDelta", word)
        yield Event(at, "contentBlockStop")
    yield Event({"stopReason": whole["stopReason"]}, "messageStop")
    yield Event({"usage": whole["usage"], "metrics": whole["metrics"]}, "metadata")
