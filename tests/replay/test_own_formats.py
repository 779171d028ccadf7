"""Recorded traffic through the SDKs with wire formats of their own: mistralai, cohere, huggingface_hub."""

from __future__ import annotations

import gzip
import importlib
import inspect
import json
import warnings
from pathlib import Path

import httpx
import httpx2
import huggingface_hub
import pytest

FOLDER = Path(__file__).parents[3] / "shared" / "recordings"
PATHS = {
    "mistral": ("/v1/chat/completions",),
    "cohere": ("/v2/chat", "/v2/embed"),
    "huggingface": ("/v1/chat/completions",),
}
PROVIDERS = {"mistral": "mistral_ai", "cohere": "cohere", "huggingface": "huggingface"}

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the recordings are not part of the repository")


def rows():
    for family, paths in PATHS.items():
        with gzip.open(FOLDER / f"{family}.jsonl.gz", "rt") as lines:
            for number, line in enumerate(lines):
                row = json.loads(line)
                if row["url_path"].endswith(paths):
                    yield pytest.param(family, row, id=f"{family}-{number}")


def given(method, request):
    """The recorded request as arguments of the SDK's method; what it does not know, it would not have sent."""
    known = inspect.signature(method).parameters
    return {key: value for key, value in request.items() if key in known and key != "stream"}


def replay(family, row, monkeypatch):
    """Call the SDK's own method on a transport that gives the recorded answer."""
    request, url = row["request"], f"https://{row['host']}{row['url_path']}"
    answer = {
        "status_code": row["status"],
        "headers": {"content-type": row["content_type"]},
        "content": row["body"].encode(),
    }
    if family == "mistral":
        from mistralai.client import Mistral

        transport = httpx2.MockTransport(lambda _: httpx2.Response(**answer))
        chat = Mistral(api_key="k", client=httpx2.Client(transport=transport)).chat
        return chat.complete(**given(chat.complete, request))
    if family == "cohere":
        import cohere

        transport = httpx.MockTransport(lambda _: httpx.Response(**answer))
        client = cohere.ClientV2(api_key="k", httpx_client=httpx.Client(transport=transport))
        if url.endswith("chat"):
            return client.chat(**{key: value for key, value in request.items() if key != "stream"})
        return client.v2.embed(**given(client.v2.embed, request))
    transport = httpx2.MockTransport(lambda _: httpx2.Response(**answer))
    module = importlib.import_module("huggingface_hub.inference._client")
    monkeypatch.setattr(module, "get_session", lambda: httpx2.Client(transport=transport))
    client = huggingface_hub.InferenceClient(base_url=url.removesuffix("/chat/completions"), api_key="k")
    return client.chat_completion(**given(client.chat_completion, request))


def truth(family, body):
    """The counts by hand: (input, output, cache read), `None` unreported."""
    if family == "cohere":
        billed = (body.get("usage") or body["meta"])["billed_units"]
        return billed["input_tokens"], billed.get("output_tokens"), None
    usage = body["usage"]
    details = usage.get("prompt_tokens_details") or usage
    read = details.get("cached_tokens", usage.get("num_cached_tokens"))
    return usage["prompt_tokens"], usage["completion_tokens"], read


@pytest.mark.parametrize(("family", "row"), list(rows()) if FOLDER.is_dir() else [])
def test_recording(family, row, installed, spans, monkeypatch):
    """One span; its counts are the body's; its cost is known or honestly unknown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if row["status"] != 200:
            with pytest.raises(Exception, match="not found"):
                replay(family, row, monkeypatch)
            assert spans.attributes["error.type"] == str(row["status"])
            assert "tokenguard.cost.status" not in spans.attributes
            return
        replay(family, row, monkeypatch)
    attributes = spans.attributes
    assert attributes["gen_ai.provider.name"] == PROVIDERS[family]
    assert attributes["gen_ai.request.model"] == row["request"]["model"]
    sent, generated, read = truth(family, json.loads(row["body"]))
    assert attributes["gen_ai.usage.input_tokens"] == sent
    assert attributes.get("gen_ai.usage.output_tokens") == generated
    assert attributes.get("gen_ai.usage.cache_read.input_tokens") == read
    status = attributes["tokenguard.cost.status"]
    assert (status == "unpriced") == ("tokenguard.cost.usd" not in attributes)
    if family == "mistral" or row["request"]["model"] in ("command-r-plus", "command-r7b-12-2024", "embed-v4.0"):
        assert status in ("exact", "estimated")
