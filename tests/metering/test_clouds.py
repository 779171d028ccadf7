"""Anthropic's clients for Amazon Bedrock and Google Vertex AI: the same span, in their wire formats."""

from __future__ import annotations

import base64
import json
import struct
import zlib

import httpx2
import pytest

pytest.importorskip("anthropic", "1")  # older ones take no client of httpx2
pytest.importorskip("openai")

from canned import ANTHROPIC_USAGE, MESSAGES, event_stream, message_body, message_events, sse

MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
# 3.30 in, 0.33 read, 4.125 and 6.60 written, 16.50 out: the regional premium of a tenth on each.
BEDROCK_COST = (100 * 3.3 + 300 * 4.125 + 200 * 6.6 + 2000 * 0.33 + 150 * 16.5) / 1e6


def frame(event):
    """One message of Amazon's event stream: prelude, headers, payload, checksums."""
    payload = json.dumps({"bytes": base64.b64encode(json.dumps(event).encode()).decode()}).encode()
    headers = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in (
            (":event-type", "chunk"),
            (":content-type", "application/json"),
            (":message-type", "event"),
        )
    )
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    head = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return head + struct.pack(">I", zlib.crc32(head))


def answer(request):
    body = {**message_body(), "model": "claude-sonnet-4-5-20250929"}
    if "stream" not in request.url.path and not json.loads(request.content).get("stream"):
        return httpx2.Response(200, json=body)
    if "bedrock" in request.url.host:
        events = list(message_events())
        events[0]["message"]["model"] = body["model"]
        return httpx2.Response(
            200,
            headers={"content-type": "application/vnd.amazon.eventstream"},
            content=iter([frame(event) for event in events]),
        )
    return event_stream(sse(message_events()))


def bedrock():
    from anthropic import AnthropicBedrock

    return AnthropicBedrock(
        aws_access_key="a",
        aws_secret_key="s",
        aws_region="us-east-1",
        http_client=httpx2.Client(transport=httpx2.MockTransport(answer)),
    )


def vertex():
    from anthropic import AnthropicVertex

    return AnthropicVertex(
        region="us-east5",
        project_id="p",
        access_token="t",
        http_client=httpx2.Client(transport=httpx2.MockTransport(answer)),
    )


@pytest.mark.parametrize("streamed", [False, True])
def test_bedrock(streamed, installed, spans):
    """Bedrock: its provider name, its model id, its binary stream, its regional price."""
    pytest.importorskip("botocore")
    got = bedrock().messages.create(model=MODEL, messages=MESSAGES, max_tokens=200, stream=streamed)
    if streamed:
        list(got)
    attributes = spans.attributes
    assert attributes["gen_ai.provider.name"] == "aws.bedrock"
    assert attributes["gen_ai.request.model"] == MODEL
    assert attributes["gen_ai.usage.input_tokens"] == 2600
    assert attributes["gen_ai.usage.output_tokens"] == ANTHROPIC_USAGE["output_tokens"]
    assert installed.records[-1].usage.cache_write_1h == 200
    assert attributes["tokenguard.cost.usd"] == pytest.approx(BEDROCK_COST)


@pytest.mark.parametrize("streamed", [False, True])
def test_vertex(streamed, installed, spans):
    """Vertex AI: its provider name, its model spelling."""
    got = vertex().messages.create(
        model="claude-sonnet-4-5@20250929", messages=MESSAGES, max_tokens=200, stream=streamed
    )
    if streamed:
        list(got)
    attributes = spans.attributes
    assert attributes["gen_ai.provider.name"] == "gcp.vertex_ai"
    assert attributes["gen_ai.usage.input_tokens"] == 2600
    assert attributes["tokenguard.cost.status"] in ("exact", "estimated")
    assert attributes["tokenguard.cost.usd"] > 0


def test_writer(installed, spans):
    """Writer's SDK: OpenAI's chat shape at a path of its own, where Cohere's old one is elsewhere."""
    import httpx

    Writer = pytest.importorskip("writerai").Writer

    from canned import chat_body

    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={**chat_body(), "model": "palmyra-x5"}))
    with Writer(api_key="k", http_client=httpx.Client(transport=transport)) as client:
        client.chat.chat(model="palmyra-x5", messages=MESSAGES, max_tokens=50)
    attributes = spans.attributes
    assert attributes["gen_ai.provider.name"] == "writer"
    assert attributes["gen_ai.request.max_tokens"] == 50
    assert attributes["gen_ai.usage.input_tokens"] == 1200
    assert attributes["tokenguard.cost.status"] == "unpriced"
