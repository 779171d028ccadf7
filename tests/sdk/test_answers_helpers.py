"""Kept answers through what an SDK has above its plain calls: helpers, parsing, raw and streaming responses."""

from __future__ import annotations

import asyncio
import gc
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

import connections
import tokenguard
from policies import KEEPS
from tokenguard import policy
from tokenguard.demo.provider import SimulatedProvider
from tokenguard.facts import names
from tokenguard.policy import Policy

ASKED = [{"role": "user", "content": "Which of your plans has a warranty?"}]
CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": ASKED, "max_tokens": 4000}
RESPONSE: dict[str, Any] = {"model": "gpt-4.1-mini", "input": ASKED, "max_output_tokens": 4000}
MESSAGE: dict[str, Any] = {"model": "claude-haiku-4-5", "messages": ASKED, "max_tokens": 4000}
GEMINI: dict[str, Any] = {"model": "gemini-2.5-flash", "contents": "Which of your plans has a warranty?"}


pytestmark = [  # old clients cannot be closed
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Verdict(BaseModel):
    answer: str


class Way(NamedTuple):
    """One way to ask: what makes the client, and what the caller has in the end."""

    name: str
    sdk: str
    open: Callable[[str], Any]
    ask: Callable[[Any], Any]
    needs: str = ""
    """What old versions of the client lack."""


def client_of(module: str, kind: str, path: str = "", **more: Any) -> Callable[[str], Any]:
    def opened(url: str) -> Any:
        return getattr(importlib.import_module(module), kind)(api_key="k", base_url=url + path, **more)

    return opened


OPENAI = client_of("openai", "OpenAI", "/v1")
AOPENAI = client_of("openai", "AsyncOpenAI", "/v1")
ANTHROPIC = client_of("anthropic", "Anthropic")
AANTHROPIC = client_of("anthropic", "AsyncAnthropic")


def own_transport(url: str) -> Any:
    openai = importlib.import_module("openai")
    return openai.OpenAI(api_key="k", base_url=f"{url}/v1", http_client=openai.DefaultHttpxClient(timeout=5))


def azure(url: str) -> Any:
    openai = importlib.import_module("openai")
    return openai.AzureOpenAI(api_key="k", azure_endpoint=url, api_version="2024-10-21")


def bedrock(url: str) -> Any:
    given = {"region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "s"}
    return importlib.import_module("boto3").client("bedrock-runtime", endpoint_url=url, **given)


def gemini(url: str) -> Any:
    genai = importlib.import_module("google.genai")
    return genai.Client(api_key="k", http_options=genai.types.HttpOptions(base_url=url))


def cohere(url: str) -> Any:
    return importlib.import_module("cohere").ClientV2(api_key="k", base_url=url)


def mistral(url: str) -> Any:
    return importlib.import_module("mistralai.client").Mistral(api_key="k", server_url=url)


def events(manager: Any) -> list[Any]:
    with manager as stream:
        return list(stream)


def final(manager: Any, method: str) -> Any:
    with manager as stream:
        return getattr(stream, method)()


def texts(manager: Any) -> list[str]:
    with manager as stream:
        return list(stream.text_stream)


async def afinal(manager: Any, method: str) -> Any:
    async with manager as stream:
        return await getattr(stream, method)()


def raw(response: Any) -> Any:
    return type(response), response.parse(), response.headers.get("content-type"), response.http_response.status_code


def lines(manager: Any) -> list[str]:
    with manager as response:
        return list(response.iter_lines())


def body(manager: Any) -> bytes:
    with manager as response:
        return b"".join(response.iter_bytes())


WAYS = [
    Way("chat helper", "openai", OPENAI, lambda c: events(c.chat.completions.stream(**CHAT))),
    Way("chat final", "openai", OPENAI, lambda c: final(c.chat.completions.stream(**CHAT), "get_final_completion")),
    Way("chat parse", "openai", OPENAI, lambda c: c.chat.completions.parse(**CHAT, response_format=Verdict)),
    Way("chat raw", "openai", OPENAI, lambda c: raw(c.chat.completions.with_raw_response.create(**CHAT))),
    Way("chat lines", "openai", OPENAI, lambda c: lines(c.chat.completions.with_streaming_response.create(**CHAT))),
    Way(
        *("chat streamed lines", "openai", OPENAI),
        lambda c: lines(c.chat.completions.with_streaming_response.create(**CHAT, stream=True)),
    ),
    Way("chat own transport", "openai", own_transport, lambda c: c.chat.completions.create(**CHAT)),
    Way("chat azure", "openai", azure, lambda c: c.chat.completions.create(**CHAT)),
    Way("responses helper", "openai", OPENAI, lambda c: events(c.responses.stream(**RESPONSE))),
    Way("responses final", "openai", OPENAI, lambda c: final(c.responses.stream(**RESPONSE), "get_final_response")),
    Way("responses parse", "openai", OPENAI, lambda c: c.responses.parse(**RESPONSE, text_format=Verdict)),
    Way("responses raw", "openai", OPENAI, lambda c: raw(c.responses.with_raw_response.create(**RESPONSE))),
    Way(
        *("chat final async", "openai", AOPENAI),
        lambda c: afinal(c.chat.completions.stream(**CHAT), "get_final_completion"),
    ),
    Way("messages helper", "anthropic", ANTHROPIC, lambda c: events(c.messages.stream(**MESSAGE))),
    Way("messages texts", "anthropic", ANTHROPIC, lambda c: texts(c.messages.stream(**MESSAGE))),
    Way("messages final", "anthropic", ANTHROPIC, lambda c: final(c.messages.stream(**MESSAGE), "get_final_message")),
    Way("messages raw", "anthropic", ANTHROPIC, lambda c: raw(c.messages.with_raw_response.create(**MESSAGE))),
    Way("messages body", "anthropic", ANTHROPIC, lambda c: body(c.messages.with_streaming_response.create(**MESSAGE))),
    Way(
        *("messages final async", "anthropic", AANTHROPIC),
        lambda c: afinal(c.messages.stream(**MESSAGE), "get_final_message"),
    ),
    Way(
        *("gemini schema", "google.genai", gemini),
        lambda c: c.models.generate_content(
            **GEMINI, config={"response_mime_type": "application/json", "response_schema": Verdict}
        ),
    ),
    Way("gemini chat", "google.genai", gemini, lambda c: c.chats.create(model="gemini-2.5-flash").send_message("Hi")),
    Way(
        *("cohere raw", "cohere", cohere),
        lambda c: c.with_raw_response.chat(model="command-a-03-2025", messages=ASKED).data,
        "with_raw_response",
    ),
    Way(
        *("mistral parse", "mistralai.client", mistral),
        lambda c: c.chat.parse(Verdict, model="mistral-small-latest", messages=ASKED),
    ),
    Way(
        *("bedrock lines", "boto3", bedrock),
        lambda c: [
            *c.invoke_model(
                modelId="us.anthropic.claude-haiku-4-5-20251001-v1:0",
                body='{"anthropic_version": "bedrock-2023-05-31", "max_tokens": 4000,'
                ' "messages": [{"role": "user", "content": "Hi"}]}',
            )["body"].iter_lines()
        ],
    ),
]


@pytest.fixture
def provider(installed):
    tokenguard.install(policy.loads(KEEPS, "tokenguard.toml"))
    with SimulatedProvider() as running:
        yield running
        gc.collect()
    tokenguard.install(Policy())


def result_of(way: Way, client: Any) -> Any:
    result = way.ask(client)
    return connections.run(result) if asyncio.iscoroutine(result) else result


@pytest.mark.contract
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_second_time_sends_nothing(way, provider, spans):
    """The second time, the caller has what it had the first time, object for object, and nothing was sent."""
    pytest.importorskip(way.sdk)
    client = way.open(provider.url)
    if way.needs and not hasattr(client, way.needs):
        pytest.skip(f"this version of {way.sdk} has no {way.needs}")
    first = result_of(way, client)
    again = result_of(way, way.open(provider.url))
    assert len(provider.requests) == 1
    assert type(again) is type(first)
    assert again == first
    assert [span.attributes[names.CACHE_RESULT] for span in spans.all()] == ["miss", "hit"]
