"""What Ollama's own SDK drops of an answer is seen all the same, and its models stay what they are."""

from __future__ import annotations

import json

import pytest

ollama = pytest.importorskip("ollama")
httpx = pytest.importorskip("httpx")

MESSAGES = [{"role": "user", "content": "Hi"}]
TOLD = {"prompt_eval_count": 1000, "prompt_eval_cached_count": 900, "eval_count": 10}
WHOLE = {
    "model": "llama3.2",
    "message": {"role": "assistant", "content": "Paris."},
    "done": True,
    "done_reason": "stop",
}
PIECE = {"model": "llama3.2", "message": {"role": "assistant", "content": "Pa"}, "done": False}


def answers(request):
    """An answer, whole or in lines."""
    if json.loads(request.content).get("stream"):
        return httpx.Response(200, text=f"{json.dumps(PIECE)}\n{json.dumps(WHOLE | TOLD)}\n")
    return httpx.Response(200, json=WHOLE | TOLD)


def check(spans, answer):
    assert type(answer) is ollama.ChatResponse
    assert "cached" not in answer.model_dump_json()
    assert spans.attributes["gen_ai.usage.input_tokens"] == 1000
    assert spans.attributes["gen_ai.usage.cache_read.input_tokens"] == 900
    spans.clear()


def test_cached_tokens(installed, spans):
    """Its count of them is in no field of the SDK's models (stdapi.ai#252)."""
    client = ollama.Client(transport=httpx.MockTransport(answers))
    check(spans, client.chat(model="llama3.2", messages=MESSAGES))
    check(spans, list(client.chat(model="llama3.2", messages=MESSAGES, stream=True))[-1])


async def test_cached_tokens_async(installed, spans):
    """The same by the asynchronous client."""
    client = ollama.AsyncClient(transport=httpx.MockTransport(answers))
    check(spans, await client.chat(model="llama3.2", messages=MESSAGES))
    parts = [part async for part in await client.chat(model="llama3.2", messages=MESSAGES, stream=True)]
    check(spans, parts[-1])
