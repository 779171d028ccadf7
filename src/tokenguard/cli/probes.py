"""One call through each SDK, to a provider on loopback, to see whether TokenGuard sees it: for `tokenguard doctor`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

MESSAGES = [{"role": "user", "content": "Which of your plans has a warranty?"}]


def _chat(module: str, kind: str, path: str = "", model: str = "gpt-4o-mini") -> Callable[[str], object]:
    """A call of a Stainless client that has OpenAI's shape."""

    def call(url: str) -> object:
        client = getattr(importlib.import_module(module), kind)(
            api_key="k", base_url=url + path, max_retries=0, timeout=9
        )
        return client.chat.completions.create(model=model, messages=MESSAGES)

    return call


def _anthropic(url: str) -> object:
    client = importlib.import_module("anthropic").Anthropic(api_key="k", base_url=url, max_retries=0, timeout=9)
    return client.messages.create(model="claude-haiku-4-5", messages=MESSAGES, max_tokens=99)


def _writer(url: str) -> object:
    client = importlib.import_module("writerai").Writer(api_key="k", base_url=url, max_retries=0, timeout=9)
    return client.chat.chat(model="palmyra-x5", messages=MESSAGES)


def _google(url: str) -> object:
    genai = importlib.import_module("google.genai")
    client = genai.Client(api_key="k", http_options=genai.types.HttpOptions(base_url=url, timeout=9000))
    return client.models.generate_content(model="gemini-2.5-flash", contents="Hello")


def _bedrock(url: str) -> object:
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "s", "region_name": "us-east-1"}
    client: Any = importlib.import_module("boto3").client("bedrock-runtime", endpoint_url=url, **keys)
    said = [{"role": "user", "content": [{"text": "Hello"}]}]
    return client.converse(modelId="anthropic.claude-haiku-4-5-20251001-v1:0", messages=said)


def _mistral(url: str) -> object:
    client = importlib.import_module("mistralai.client").Mistral(api_key="k", server_url=url, timeout_ms=9000)
    return client.chat.complete(model="mistral-small-latest", messages=MESSAGES)


def _cohere(url: str) -> object:
    client = importlib.import_module("cohere").ClientV2(api_key="k", base_url=url, timeout=9)
    return client.chat(model="command-r7b-12-2024", messages=MESSAGES)


def _ollama(url: str) -> object:
    return importlib.import_module("ollama").Client(host=url, timeout=9).chat(model="llama3.2", messages=MESSAGES)


def _huggingface(url: str) -> object:
    client = importlib.import_module("huggingface_hub").InferenceClient(base_url=f"{url}/v1", api_key="k", timeout=9)
    return client.chat_completion(messages=MESSAGES, model="meta-llama/Llama-3.1-8B-Instruct")


LLAMA = "meta-llama/llama-3.1-8b-instruct"

PROBES: dict[str, Callable[[str], object]] = {
    "openai._base_client": _chat("openai", "OpenAI", "/v1"),
    "anthropic._base_client": _anthropic,
    "groq._base_client": _chat("groq", "Groq", model=LLAMA),
    "together._base_client": _chat("together", "Together", model=LLAMA),
    "cerebras.cloud.sdk._base_client": lambda url: (
        importlib.import_module("cerebras.cloud.sdk")
        .Cerebras(api_key="k", base_url=url, max_retries=0, timeout=9, warm_tcp_connection=False)
        .chat.completions.create(model=LLAMA, messages=MESSAGES)
    ),
    "writerai._base_client": _writer,
    "google.genai._api_client": _google,
    "botocore.client": _bedrock,
    "mistralai.client.basesdk": _mistral,
    "cohere.core.http_client": _cohere,
    "ollama._client": _ollama,
    "huggingface_hub.inference._client": _huggingface,
}
"""By module of `SDKS`: makes a client for this URL, and one call."""
