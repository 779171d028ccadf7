"""Recorded provider traffic through the real SDKs: one span a call, and the very counts that the body reports."""

from __future__ import annotations

import gzip
import inspect
import json
from pathlib import Path

import anthropic
import httpx2
import openai
import pytest

FOLDER = Path(__file__).parents[3] / "shared" / "recordings"
PROVIDERS = {
    "openai": "openai",
    "azure": "azure.ai.openai",
    "openrouter": "openrouter",
    "deepseek": "deepseek",
    "groq": "groq",
    "cerebras": "cerebras",
    "huggingface": "huggingface",
    "mistral": "mistral_ai",
    "anthropic": "anthropic",
}
PATHS = ("/chat/completions", "/responses", "/embeddings", "/v1/messages", "/responses/compact")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # old models and parameters are what was recorded
    pytest.mark.skipif(not FOLDER.is_dir(), reason="the recordings are not part of the repository"),
]


def rows():
    for family in PROVIDERS:
        file = FOLDER / f"{family}.jsonl.gz"
        if not file.exists():
            continue
        with gzip.open(file, "rt") as lines:
            for number, line in enumerate(lines):
                row = json.loads(line)
                path = row["url_path"].partition("?")[0]
                if path.endswith(PATHS):
                    yield pytest.param(family, row, id=f"{family}-{number}")


def events(body):
    for line in body.splitlines():
        if line.startswith("data:") and line[5:].strip().startswith("{"):
            yield json.loads(line[5:])


def truth(path, row):
    """The counts by hand: (input, output, cache read, cache write, an hour's write, reasoning), `None` unreported."""
    streamed = "event-stream" in row["content_type"]
    if path.endswith("/v1/messages"):
        if streamed:
            usage = {}
            for event in events(row["body"]):
                if event["type"] == "message_start":
                    usage.update(event["message"]["usage"])
                elif event["type"] == "message_delta":
                    usage.update({k: v for k, v in event["usage"].items() if v is not None})
        else:
            usage = json.loads(row["body"])["usage"]
        read, written = usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")
        total = usage["input_tokens"] + (read or 0) + (written or 0)
        hour = (usage.get("cache_creation") or {}).get("ephemeral_1h_input_tokens")
        thinking = (usage.get("output_tokens_details") or {}).get("thinking_tokens")
        return total, usage["output_tokens"], read, written, hour, thinking
    if streamed:
        bodies = [e.get("response") or e for e in events(row["body"])]
        found = [b.get("usage") or (b.get("x_groq") or {}).get("usage") for b in bodies]
        usage = next((u for u in reversed(found) if u), None)
    else:
        usage = json.loads(row["body"]).get("usage")
    if not usage:
        return None
    if "input_tokens" in usage:
        details, out = usage.get("input_tokens_details") or {}, usage.get("output_tokens_details") or {}
        names = ("input_tokens", "output_tokens")
    else:
        details, out = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
        names = ("prompt_tokens", "completion_tokens")
    read = details.get("cached_tokens")
    for other in ("prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens"):
        read = usage.get(other) if read is None else read
    written = details.get("cache_write_tokens")
    return usage[names[0]], usage.get(names[1]), read, written, None, out.get("reasoning_tokens")


def replay(row, request):
    """Call the SDK's own method with the recorded request; fields it does not know go into `extra_body`."""
    path = row["url_path"].partition("?")[0]
    base = f"https://{row['host']}" + path[: -len(next(p for p in PATHS if path.endswith(p)))]
    transport = httpx2.MockTransport(
        lambda _: httpx2.Response(
            row["status"], headers={"content-type": row["content_type"]}, content=row["body"].encode()
        )
    )
    if path.endswith("/v1/messages"):
        client = anthropic.Anthropic(
            api_key="k",
            base_url=f"https://{row['host']}",
            http_client=httpx2.Client(transport=transport),
            max_retries=0,
        )
        method = client.beta.messages.create
    else:
        client = openai.OpenAI(
            api_key="k", base_url=base, http_client=httpx2.Client(transport=transport), max_retries=0
        )
        resource = client.chat.completions if "chat" in path else client.responses
        method = client.embeddings.create if "embed" in path else resource.create
        method = client.responses.compact if path.endswith("compact") else method
    known = inspect.signature(method).parameters
    given = {k: v for k, v in request.items() if k in known}
    extra = {k: v for k, v in request.items() if k not in known}
    answer = method(**given, extra_body=extra or None)
    if hasattr(answer, "__iter__") and request.get("stream"):
        list(answer)
    return answer


@pytest.mark.parametrize(("family", "row"), list(rows()) if FOLDER.is_dir() else [])
def test_recording(family, row, installed, spans):
    """One span; its counts are the body's; its cost is known or honestly unknown, and never a guess."""
    path = row["url_path"].partition("?")[0]
    request = dict(row["request"])
    request.setdefault("max_tokens", 16) if path.endswith("/v1/messages") else None
    if row["status"] != 200:
        with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)):
            replay(row, request)
        attributes = spans.attributes
        assert attributes["error.type"].endswith(
            ("BadRequestError", "NotFoundError", "not_found_error", "request_error")
        )
        assert "tokenguard.cost.usd" not in attributes
        return
    if any(event.get("error") and "choices" not in event for event in events(row["body"])):
        with pytest.raises(openai.APIError):
            replay(row, request)
        assert installed.records[-1].outcome == "error"
    else:
        replay(row, request)
        installed.meter.pending.give_up()  # whoever asked for it in the background will not ask for its answer
    attributes = spans.attributes
    assert attributes["gen_ai.provider.name"] == PROVIDERS[family]
    expected = truth(path, row)
    names = ("input_tokens", "output_tokens", "cache_read.input_tokens", "cache_write.input_tokens")
    if expected is None:
        assert "gen_ai.usage.input_tokens" not in attributes
        assert attributes["tokenguard.cost.status"] in ("estimated", "unpriced")
        return
    for name, tokens in zip(names, expected, strict=False):
        assert attributes.get(f"gen_ai.usage.{name}") == tokens, name
    assert attributes.get("gen_ai.usage.reasoning.output_tokens") == expected[5]
    assert installed.records[-1].usage.cache_write_1h == expected[4]
    status = attributes["tokenguard.cost.status"]
    assert (status == "unpriced") == ("tokenguard.cost.usd" not in attributes)
    reported = json.loads(row["body"]).get("model") if "json" in row["content_type"] else None
    if reported:
        assert attributes["gen_ai.response.model"] == reported
