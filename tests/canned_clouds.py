"""Canned answers of Google and Bedrock, and the real SDKs on an in-process transport that gives them.

Gemini: 1,200 in (1,000 cached), 300 out (100 of them thoughts) on gemini-2.5-flash. Converse: 100 in plain, 2,000 read
from the cache and 500 written to it, 150 out on Sonnet.
"""

from __future__ import annotations

import io
import json

import boto3
import httpx2
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from google import genai

from tokenguard.demo.bedrock_runtime import framed
from tokenguard.demo.exchange import Event

GEMINI_USAGE = {
    "promptTokenCount": 1200,
    "cachedContentTokenCount": 1000,
    "candidatesTokenCount": 200,
    "thoughtsTokenCount": 100,
    "totalTokenCount": 1500,
}
CONVERSE_USAGE = {
    "inputTokens": 100,
    "outputTokens": 150,
    "totalTokens": 2750,
    "cacheReadInputTokens": 2000,
    "cacheWriteInputTokens": 500,
}
BEDROCK_SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"


def gemini_chunks(words=("Pa", "ris", ".")):
    for n, word in enumerate(words, 1):
        end = {"finishReason": "STOP"} if n == len(words) else {}
        usage = GEMINI_USAGE if end else {"promptTokenCount": 1200, "candidatesTokenCount": n, "totalTokenCount": 1200}
        yield {
            "candidates": [{"content": {"role": "model", "parts": [{"text": word}]}, "index": 0, **end}],
            "usageMetadata": usage,
            "modelVersion": "gemini-2.5-flash",
            "responseId": "r1",
        }


def gemini(request: httpx2.Request) -> httpx2.Response:
    """Google's answer to a request."""
    path = request.url.path
    if path.endswith(":streamGenerateContent"):
        content = b"".join(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in gemini_chunks())
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=content)
    if path.endswith(":batchEmbedContents"):
        usage = {"promptTokenCount": 10_000}
        return httpx2.Response(200, json={"embeddings": [{"values": [0.25] * 8}], "usageMetadata": usage})
    return httpx2.Response(200, json=next(gemini_chunks(("Paris.",))))


def google_client(**options):
    return genai.Client(api_key="k", **options)


class Raw(io.BytesIO):
    """A response body as urllib3 has it."""

    def stream(self, **_):
        yield self.read()


def converse_events(words=("Pa", "ris", ".")):
    yield Event({"role": "assistant"}, "messageStart")
    for word in words:
        yield Event({"contentBlockIndex": 0, "delta": {"text": word}}, "contentBlockDelta")
    yield Event({"contentBlockIndex": 0}, "contentBlockStop")
    yield Event({"stopReason": "end_turn"}, "messageStop")
    yield Event({"usage": CONVERSE_USAGE, "metrics": {"latencyMs": 1}}, "metadata")


def bedrock_answer(request) -> AWSResponse:
    """Bedrock's answer to a request."""
    if request.url.endswith("/converse-stream"):
        content = b"".join(map(framed, converse_events()))
        return AWSResponse(request.url, 200, {"content-type": "application/vnd.amazon.eventstream"}, Raw(content))
    if request.url.endswith("/converse"):
        message = {"role": "assistant", "content": [{"text": "Paris."}]}
        body = {"output": {"message": message}, "stopReason": "end_turn", "usage": CONVERSE_USAGE}
    else:
        usage = {"input_tokens": 100, "output_tokens": 150}
        body = {"content": [{"type": "text", "text": "Paris."}], "stop_reason": "end_turn", "usage": usage}
    return AWSResponse(request.url, 200, {"content-type": "application/json"}, Raw(json.dumps(body).encode()))


def bedrock_client(answer=bedrock_answer):
    """A client whose requests are answered in the process, and which sends each of them twice at the most."""
    client = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="s",
        config=Config(retries={"total_max_attempts": 2, "mode": "standard"}),
    )
    client.meta.events.register("before-send.bedrock-runtime", lambda request, **_: answer(request))
    return client


class Refusing:
    """Refuses every first attempt, and answers the second."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = 0

    def __call__(self, request):
        self.asked += 1
        if self.asked % 2 == 0:
            return self.answer(request)
        if isinstance(request, httpx2.Request):
            return httpx2.Response(503, json={"error": {"code": 503, "status": "UNAVAILABLE"}})
        headers = {"x-amzn-errortype": "ServiceUnavailableException"}
        return AWSResponse(request.url, 503, headers, Raw(b"{}"))
