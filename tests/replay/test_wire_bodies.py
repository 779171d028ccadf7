"""The exchanges of `tests/wire_bodies.py` through the real SDKs, whole and streamed: one span, and the very counts.

The recordings beside a checkout, where there are any, say the same of real traffic; these are in every clone.
"""

from __future__ import annotations

import json

import anthropic
import cohere
import httpx
import httpx2
import openai
import pytest
from google import genai

from wire_bodies import BODIES

QUESTION = [{"role": "user", "content": "?"}]


def openai_client(transport):
    return openai.OpenAI(api_key="k", http_client=httpx2.Client(transport=transport))


def anthropic_client(transport):
    return anthropic.Anthropic(api_key="k", http_client=httpx2.Client(transport=transport))


def google_client(transport):
    options = genai.types.HttpOptions(httpx_client=httpx2.Client(transport=transport))
    return genai.Client(api_key="k", http_options=options)


def generated(client, stream):
    call = client.models.generate_content_stream if stream else client.models.generate_content
    return call(model="gemini-2.5-flash", contents="?")


CALLS = {
    "chat": (openai_client, lambda c, **k: c.chat.completions.create(model="gpt-4o", messages=QUESTION, **k)),
    "completions": (
        openai_client,
        lambda c, **k: c.completions.create(model="davinci-002", prompt="?", **k),
    ),
    "responses": (openai_client, lambda c, **k: c.responses.create(model="gpt-4o", input="?", **k)),
    "messages": (
        anthropic_client,
        lambda c, **k: c.messages.create(model="claude-sonnet-4-6", max_tokens=9, messages=QUESTION, **k),
    ),
    "generate_content": (google_client, lambda c, **k: generated(c, **{"stream": False, **k})),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("api", CALLS)
def test_through_the_sdk(api, stream, installed, spans):
    """The SDK's own answer, one span, and the counts of the body, however it is read."""
    body, (make, call) = BODIES[api], CALLS[api]
    content = body.stream() if stream else json.dumps(body.answer).encode()
    headers = {"content-type": "text/event-stream" if stream else "application/json"}
    client = make(httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, content=content)))
    result = call(client, **({"stream": True} if stream else {}))
    if stream:
        for _ in result:
            pass
    attributes = spans.attributes
    assert attributes["gen_ai.usage.input_tokens"] == body.input
    assert attributes["gen_ai.usage.output_tokens"] == body.output
    assert attributes["gen_ai.response.finish_reasons"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_through_cohere(stream, installed, spans):
    """The same for an SDK whose streams have a method of their own."""
    body = BODIES["cohere_chat"]
    content = body.stream() if stream else json.dumps(body.answer).encode()
    headers = {"content-type": "text/event-stream" if stream else "application/json"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, content=content))
    client = cohere.ClientV2(api_key="k", httpx_client=httpx.Client(transport=transport))
    if stream:
        list(client.chat_stream(model="command-a-03-2025", messages=QUESTION))
    else:
        client.chat(model="command-a-03-2025", messages=QUESTION)
    assert spans.attributes["gen_ai.usage.input_tokens"] == body.input
    assert spans.attributes["gen_ai.usage.output_tokens"] == body.output
