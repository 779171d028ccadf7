"""Gemini, Bedrock and Mistral in process: a call of each, and what the floor does there by hand.

Imported when their scenarios are first run, so that no contender's start has their imports in it.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import canned

SDKS = {"google": "google.genai", "bedrock": "boto3", "mistral": "mistralai"}
GEMINI, NOVA, MISTRAL = "gemini-2.5-flash", "us.amazon.nova-lite-v1:0", "mistral-small-latest"


def installed() -> list[str]:
    """The scenarios whose SDK is there."""

    def there(module: str) -> bool:
        try:
            return importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            return False

    return [scenario for scenario, module in SDKS.items() if there(module)]


# --- Gemini ----------------------------------------------------------------------------------------------------------

GEMINI_BODY = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": canned.ANSWER}]}, "finishReason": "STOP"}],
    "usageMetadata": {
        "promptTokenCount": 1200,
        "cachedContentTokenCount": 1024,
        "candidatesTokenCount": 172,
        "thoughtsTokenCount": 128,
        "totalTokenCount": 1500,
    },
    "modelVersion": GEMINI,
    "responseId": "mAITaLevIsOqxN8P",
}


def google() -> Callable[[], Any]:
    """A call of Gemini."""
    import httpx2
    from google import genai
    from google.genai.types import HttpOptions

    data = json.dumps(GEMINI_BODY).encode()
    transport = httpx2.MockTransport(
        lambda request: httpx2.Response(200, headers={"content-type": "application/json"}, content=data)
    )
    options = HttpOptions(httpx_client=httpx2.Client(transport=transport))
    models = genai.Client(api_key="k", http_options=options).models
    config = {"system_instruction": canned.SYSTEM, "max_output_tokens": 800, "temperature": 0.2}
    return lambda: models.generate_content(model=GEMINI, contents=canned.question(), config=config)


# --- Bedrock ---------------------------------------------------------------------------------------------------------

CONVERSE_BODY = {
    "output": {"message": {"role": "assistant", "content": [{"text": canned.ANSWER}]}},
    "stopReason": "end_turn",
    "usage": {
        "inputTokens": 176,
        "outputTokens": 300,
        "totalTokens": 1500,
        "cacheReadInputTokens": 1024,
        "cacheWriteInputTokens": 0,
    },
    "metrics": {"latencyMs": 900},
}


def bedrock() -> Callable[[], Any]:
    """A call of Bedrock's Converse."""
    import boto3
    from botocore.awsrequest import AWSResponse

    data = json.dumps(CONVERSE_BODY).encode()

    class Raw(io.BytesIO):
        def stream(self, **_: Any) -> Any:
            yield self.read()

    def answer(request: Any, **_: Any) -> Any:
        headers = {"content-type": "application/json", "x-amzn-requestid": "r1"}
        return AWSResponse(request.url, 200, headers, Raw(data))

    client = boto3.client("bedrock-runtime", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    client.meta.events.register("before-send.bedrock-runtime", answer)
    return lambda: client.converse(
        modelId=NOVA,
        system=[{"text": canned.SYSTEM}],
        messages=[{"role": "user", "content": [{"text": canned.question()}]}],
        inferenceConfig={"maxTokens": 800, "temperature": 0.2},
    )


# --- Mistral ---------------------------------------------------------------------------------------------------------


def mistral() -> Callable[[], Any]:
    """A call of Mistral's chat."""
    import httpx2
    from mistralai.client import Mistral

    data = json.dumps(canned.chat_body() | {"model": MISTRAL}).encode()
    transport = httpx2.MockTransport(
        lambda request: httpx2.Response(200, headers={"content-type": "application/json"}, content=data)
    )
    chat = Mistral(api_key="k", client=httpx2.Client(transport=transport)).chat
    system = {"role": "system", "content": canned.SYSTEM}
    return lambda: chat.complete(model=MISTRAL, messages=[system, *canned.turns()], max_tokens=800, temperature=0.2)


SCENARIOS = {"google": google, "bedrock": bedrock, "mistral": mistral}


def scenario(name: str, prepare: Callable[[str], None]) -> Callable[[int], None]:
    """A scenario that makes its client, behind what `prepare` wraps, when it is run for the first time."""

    @functools.cache
    def call() -> Callable[[], Any]:
        prepare(name)
        return SCENARIOS[name]()

    def turns(n: int) -> None:
        once = call()
        for _ in range(n):
            once()

    return turns


# --- the floor -------------------------------------------------------------------------------------------------------


def floor(name: str) -> None:
    """Wrap what a scenario calls, by hand."""
    import floor as by_hand
    from opentelemetry import trace

    meters = by_hand.meters()

    def around(provider: str, host: str, request: dict[str, Any], send: Callable[[], Any], answered: Any) -> Any:
        call = by_hand.Call(meters, "chat", provider, host, request)
        with trace.use_span(call.span):
            answer = send()
        call.finish(*answered(answer))
        return answer

    if name == "google":
        from google.genai.models import Models

        generate = Models.generate_content

        def generate_content(self: Any, *, model: str, contents: Any, config: Any = None) -> Any:
            def read(answer: Any) -> Any:
                usage = answer.usage_metadata
                made = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
                facts = SimpleNamespace(model=answer.model_version, id=answer.response_id)
                return facts, answer.candidates[0].finish_reason.name, usage.prompt_token_count, made

            request = {"model": model, "max_tokens": config["max_output_tokens"], "temperature": config["temperature"]}
            return around(
                "gcp.gemini",
                "generativelanguage.googleapis.com",
                request,
                lambda: generate(self, model=model, contents=contents, config=config),
                read,
            )

        Models.generate_content = generate_content  # type: ignore[method-assign]
    elif name == "bedrock":
        from botocore.client import BaseClient

        send = BaseClient._make_api_call

        def make_api_call(self: Any, operation: str, params: Any) -> Any:
            def read(answer: Any) -> Any:
                usage = answer["usage"]
                sent = usage["inputTokens"] + usage["cacheReadInputTokens"] + usage["cacheWriteInputTokens"]
                return (
                    SimpleNamespace(model=params["modelId"], id=""),
                    answer["stopReason"],
                    sent,
                    usage["outputTokens"],
                )

            own = params["inferenceConfig"]
            request = {"model": params["modelId"], "max_tokens": own["maxTokens"], "temperature": own["temperature"]}
            host = "bedrock-runtime.us-east-1.amazonaws.com"
            return around("aws.bedrock", host, request, lambda: send(self, operation, params), read)

        BaseClient._make_api_call = make_api_call
    else:
        from mistralai.client.chat import Chat

        complete = Chat.complete

        def chat_complete(self: Any, **request: Any) -> Any:
            def read(answer: Any) -> Any:
                usage = answer.usage
                return answer, answer.choices[0].finish_reason, usage.prompt_tokens, usage.completion_tokens

            return around("mistral_ai", "api.mistral.ai", request, lambda: complete(self, **request), read)

        Chat.complete = chat_complete  # type: ignore[method-assign]
