"""Bedrock's runtime through boto3 and aiobotocore over real HTTP; runs with the oldest and the newest versions."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import json
import subprocess
import sys
from importlib import metadata

import pytest

import connections

boto3 = pytest.importorskip("boto3")

from botocore.config import Config  # noqa: E402 - only where it is installed
from botocore.eventstream import EventStream  # noqa: E402
from botocore.exceptions import BotoCoreError, ClientError, EventStreamError, HTTPClientError  # noqa: E402
from botocore.response import StreamingBody  # noqa: E402
from botocore.stub import Stubber  # noqa: E402
from urllib3.exceptions import HTTPError  # noqa: E402

import tokenguard  # noqa: E402
from tokenguard.demo.provider import SimulatedProvider  # noqa: E402
from tokenguard.facts import names  # noqa: E402
from tokenguard.facts.errors import BudgetExceeded, LimitExceeded  # noqa: E402

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
MESSAGES = [{"role": "user", "content": [{"text": "Which of your plans has a warranty?"}]}]
CONVERSE = {"modelId": SONNET, "messages": MESSAGES, "inferenceConfig": {"maxTokens": 400}}
CLAUDE = {
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 400,
    "messages": [{"role": "user", "content": "Which of your plans has a warranty?"}],
}
INVOKE = {"modelId": SONNET, "body": json.dumps(CLAUDE)}
AWS = {"region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "s"}
TOOLS = {"tools": [{"toolSpec": {"name": "look_up", "inputSchema": {"json": {"type": "object", "properties": {}}}}}]}

pytestmark = pytest.mark.filterwarnings("ignore:.*utcnow:DeprecationWarning")


@pytest.fixture
def provider():
    with SimulatedProvider() as running:
        yield running


@pytest.fixture
def bedrock(provider):
    """Makes clients with so many resends."""

    with contextlib.ExitStack() as opened:

        def client(resends=0, read_timeout=60):
            config = Config(retries={"total_max_attempts": resends + 1, "mode": "standard"}, read_timeout=read_timeout)
            made = boto3.client("bedrock-runtime", endpoint_url=provider.url, config=config, **AWS)
            opened.callback(made.close)
            return made

        yield client


def check(provider, measured, spans, n=1):
    """The spans' tokens are those that the provider billed, and so is what they cost."""
    billed = [request.billed for request in provider.requests[-n:]]
    assert [span.attributes["gen_ai.usage.input_tokens"] for span in spans] == [usage.input for usage in billed]
    assert [span.attributes["gen_ai.usage.output_tokens"] for span in spans] == [usage.output for usage in billed]
    assert {span.attributes["gen_ai.provider.name"] for span in spans} == {"aws.bedrock"}
    assert {span.attributes["tokenguard.cost.status"] for span in spans} == {"exact"}
    assert measured.calls == n


CALLS = {
    "converse": lambda c: c.converse(**CONVERSE)["output"],
    "converse stream": lambda c: list(c.converse_stream(**CONVERSE)["stream"]),
    "invoke": lambda c: json.loads(c.invoke_model(**INVOKE)["body"].read()),
    "invoke json": lambda c: json.load(c.invoke_model(**INVOKE)["body"]),
    "invoke chunks": lambda c: list(c.invoke_model(**INVOKE)["body"].iter_chunks(64)),
    "invoke lines": lambda c: list(c.invoke_model(**INVOKE)["body"].iter_lines()),
    "invoke readlines": lambda c: c.invoke_model(**INVOKE)["body"].readlines(),
    "invoke with": lambda c: read_within(c.invoke_model(**INVOKE)["body"]),
    "invoke stream": lambda c: list(c.invoke_model_with_response_stream(**INVOKE)["body"]),
}


def read_within(body):
    with body as raw:
        return raw.read()


@pytest.mark.parametrize("name", CALLS)
def test_sync(name, bedrock, provider, installed, spans):
    """One span with the tokens that were billed, however the answer is read."""
    client = bedrock()
    with tokenguard.meter() as measured:
        assert CALLS[name](client)
        gc.collect()
    check(provider, measured, spans)
    span = spans.one
    assert span.name == f"chat {SONNET}"
    assert span.attributes["gen_ai.request.max_tokens"] == 400
    assert span.attributes.get("gen_ai.request.stream", False) == name.endswith("stream")
    assert span.attributes["code.file.path"] == __file__
    assert span.attributes["gen_ai.response.finish_reasons"] == ("end_turn",)


def test_results_keep_their_types(bedrock, installed):
    """The streams are what boto3 promises, by class and by name."""
    client = bedrock()
    stream, body = client.converse_stream(**CONVERSE)["stream"], client.invoke_model(**INVOKE)["body"]
    assert isinstance(stream, EventStream)
    assert type(stream).__name__ == "EventStream"
    assert isinstance(body, StreamingBody)
    assert repr(type(body)) == repr(StreamingBody)
    stream.close()
    body.close()


def test_other_services_pass(installed, spans):
    """Other services of AWS, and Bedrock's other operations, are none of our business."""
    client = boto3.client("s3", **AWS)
    with Stubber(client) as stub:
        stub.add_response("list_buckets", {"Buckets": []})
        assert client.list_buckets()["Buckets"] == []
    assert len(spans) == 0


# --- the formats of InvokeModel --------------------------------------------------------------------------------------

HEADERS = {"x-amzn-bedrock-input-token-count": "11", "x-amzn-bedrock-output-token-count": "7"}
PROMPT = {"prompt": "Hello", "max_tokens": 20}
FAMILIES = {
    "amazon.nova-lite-v1:0": (
        {"messages": MESSAGES, "inferenceConfig": {"max_new_tokens": 20}},
        {
            "output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}},
            "stopReason": "end_turn",
            "usage": {"inputTokens": 6, "outputTokens": 7, "totalTokens": 18, "cacheReadInputTokenCount": 5},
        },
        "chat",
    ),
    "amazon.titan-text-express-v1": (
        {"inputText": "Hello", "textGenerationConfig": {"maxTokenCount": 20}},
        {"inputTextTokenCount": 11, "results": [{"tokenCount": 7, "outputText": "Hi", "completionReason": "FINISH"}]},
        "text_completion",
    ),
    "meta.llama3-8b-instruct-v1:0": (
        {"prompt": "Hello", "max_gen_len": 20},
        {"generation": "Hi", "prompt_token_count": 11, "generation_token_count": 7, "stop_reason": "stop"},
        "text_completion",
    ),
    "mistral.mistral-7b-instruct-v0:2": (
        PROMPT,
        {"outputs": [{"text": "Hi", "stop_reason": "stop"}]},
        "text_completion",
    ),
    "cohere.command-r-v1:0": (
        {"message": "Hello", "max_tokens": 20},
        {"text": "Hi", "generation_id": "g", "finish_reason": "COMPLETE"},
        "text_completion",
    ),
    "mistral.pixtral-large-2502-v1:0": (
        {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 20},
        {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]},
        "chat",
    ),
}


def stubbed(answer, model, body, headers=HEADERS):
    """A call of a client that is answered with this JSON and Bedrock's headers."""
    client = boto3.client("bedrock-runtime", **AWS)
    content = json.dumps(answer).encode()
    with Stubber(client) as stub:
        stub.add_response(
            "invoke_model",
            {
                "body": StreamingBody(io.BytesIO(content), len(content)),
                "contentType": "application/json",
                "ResponseMetadata": {"HTTPHeaders": headers, "HTTPStatusCode": 200},
            },
        )
        return json.load(client.invoke_model(modelId=model, body=json.dumps(body))["body"])


@pytest.mark.parametrize("model", FAMILIES)
def test_families(model, installed, spans):
    """Each family's own request and answer, with the headers where the answer tells no usage."""
    body, answer, operation = FAMILIES[model]
    assert stubbed(answer, model, body) == answer
    attributes = spans.attributes
    assert attributes["gen_ai.operation.name"] == operation
    assert attributes["gen_ai.request.max_tokens"] == 20
    assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (11, 7)
    assert attributes["gen_ai.response.finish_reasons"]


def test_embeddings(installed, spans):
    """Embeddings are priced by the headers' count; the vectors are not decoded for it."""
    headers = {"x-amzn-bedrock-input-token-count": "11"}
    stubbed({"embedding": [0.5] * 8}, "amazon.titan-embed-text-v2:0", {"inputText": "Hello"}, headers)
    attributes = spans.attributes
    assert attributes["gen_ai.operation.name"] == "embeddings"
    assert attributes["gen_ai.usage.input_tokens"] == 11
    assert attributes["tokenguard.cost.status"] == "exact"


COHERE_ANSWER = {"embeddings": {"float": [[0.5]]}, "response_type": "embeddings_by_type"}
PICTURE = "data:image/png;base64,AA"


@pytest.mark.parametrize(
    ("model", "body", "answer", "usd"),
    [
        ("amazon.titan-embed-image-v1", {"inputText": "Hi", "inputImage": "AA"}, {"inputTextTokenCount": 11}, 688e-7),
        ("amazon.titan-embed-image-v1", {"inputImage": "AA"}, {"inputTextTokenCount": 0}, 6e-5),
        ("amazon.titan-embed-image-v1", {"inputText": "Hi"}, {"inputTextTokenCount": 11}, 88e-7),
        ("cohere.embed-english-v3", {"texts": ["Hi"], "input_type": "search_query"}, COHERE_ANSWER, 11e-7),
        ("cohere.embed-english-v3", {"images": [PICTURE], "input_type": "image"}, COHERE_ANSWER, 1e-4 + 11e-7),
        ("us.cohere.embed-v4:0", {"texts": ["Hi"], "input_type": "search_query"}, COHERE_ANSWER, 11 * 0.12e-6),
        (
            "us.cohere.embed-v4:0",
            {"inputs": [{"content": [{"type": "image_url", "image_url": {"url": PICTURE}}]}], "input_type": "image"},
            COHERE_ANSWER,
            11 * 0.47e-6,
        ),
    ],
)
def test_embeddings_of_pictures(model, body, answer, usd, installed, spans):
    """Pictures that are embedded are counted in the request; the price of text alone is exact, and that of Titan's."""
    stubbed({"embedding": [0.5], **answer}, model, body, {"x-amzn-bedrock-input-token-count": "11"})
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(usd)
    sure = "titan" in model or "texts" in body
    assert spans.attributes["tokenguard.cost.status"] == ("exact" if sure else "estimated")


@pytest.mark.parametrize("model", FAMILIES)
def test_caps_of_families(model, under, spans, monkeypatch):
    """A clamp goes where the family has its cap."""
    under('[[limit]]\nname = "short"\nmax_output_tokens = 9\nthen = "clamp"')
    sent = []
    import botocore.client

    def see(self, operation_model, request_dict, context):
        sent.append(json.loads(request_dict["body"]))
        raise KeyboardInterrupt

    monkeypatch.setattr(botocore.client.BaseClient, "_make_request", see)
    client = boto3.client("bedrock-runtime", **AWS)
    body = FAMILIES[model][0]
    with pytest.raises(KeyboardInterrupt):
        client.invoke_model(modelId=model, body=json.dumps(body))
    assert json.dumps(sent[0]) == json.dumps(body).replace(" 20", " 9")


def test_pictures(installed, spans):
    """Models that make pictures are billed by the picture, and not by the token."""
    stubbed({"images": ["aGk="]}, "amazon.titan-image-generator-v2:0", {"taskType": "TEXT_IMAGE"})
    assert spans.attributes["gen_ai.operation.name"] == "image_generation"
    assert spans.attributes["tokenguard.usage.images"] == 1
    assert "gen_ai.usage.input_tokens" not in spans.attributes


def test_same_tokens_same_count(bedrock, provider, installed, spans):
    """Converse and Anthropic's own body exclude what was cached, by different names: the input is all of it."""
    from tokenguard.providers import bedrock as formats
    from tokenguard.providers.anthropic import read_messages

    converse = {"inputTokens": 3, "outputTokens": 9, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 20}
    details = [{"ttl": "1h", "inputTokens": 20}]
    anthropic = {"input_tokens": 3, "output_tokens": 9, "cache_read_input_tokens": 100}
    anthropic |= {"cache_creation_input_tokens": 20, "cache_creation": {"ephemeral_1h_input_tokens": 20}}
    one = formats.read_converse({"usage": {**converse, "cacheDetails": details}}).usage
    assert one == read_messages({"usage": anthropic}).usage
    assert one.input == 123


# --- endings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["converse_stream", "invoke_model_with_response_stream"])
def test_abandoned(operation, bedrock, installed, spans):
    """A stream whose reader stops ends its span at once, with an estimate."""
    arguments = CONVERSE if operation.startswith("converse") else INVOKE
    response = getattr(bedrock(), operation)(**arguments)
    stream = response.get("stream") or response["body"]
    for n, _ in enumerate(stream):
        if n == 5:
            break
    assert installed.records[-1].outcome == "abandoned"
    assert installed.records[-1].cost.basis == "abandoned_stream"
    assert installed.records[-1].cost.output > 0
    stream.close()


def test_closed_and_dropped(bedrock, installed, spans):
    """Streams and bodies that nobody reads end their calls when they are closed, or collected."""
    client = bedrock()
    client.converse_stream(**CONVERSE)["stream"].close()
    assert installed.records[-1].outcome == "abandoned"
    client.invoke_model(**INVOKE)["body"].close()
    assert installed.records[-1].outcome == "ok"  # the headers have told what it cost
    assert installed.records[-1].cost.status == "exact"
    response = client.converse_stream(**CONVERSE)
    response["stream"]._raw_stream.close()
    del response
    gc.collect()
    assert [record.outcome for record in installed.records] == ["abandoned", "ok", "abandoned"]


def test_broken_stream(bedrock, provider, installed, spans):
    """An error in mid-stream is the call's error."""
    provider.fail_next("stream_error", after=3)
    stream = bedrock().converse_stream(**CONVERSE)["stream"]
    with pytest.raises(EventStreamError):
        list(stream)
    stream.close()
    assert installed.records[-1].outcome == "error"
    assert spans.attributes["error.type"] == "botocore.exceptions.EventStreamError"


def test_broken_body(bedrock, provider, installed, spans):
    """A connection that breaks while the body is read is the call's error, and its tokens are on the bill."""
    provider.fail_next("disconnect")
    body = bedrock().invoke_model(**INVOKE)["body"]
    with pytest.raises((BotoCoreError, HTTPError)):
        body.read()
    body.close()
    assert installed.records[-1].outcome == "error"
    assert installed.records[-1].cost.status == "exact"


def test_refused(bedrock, provider, installed, spans):
    """A request that the provider refuses costs nothing."""
    provider.fail_next(400)
    with pytest.raises(ClientError):
        bedrock().converse(**CONVERSE)
    assert spans.attributes["error.type"] == "botocore.errorfactory.ValidationException"
    assert "tokenguard.cost.status" not in spans.attributes


def test_missing_usage(bedrock, provider, installed, spans):
    """Where the provider tells no usage the cost is an estimate, and no tokens are recorded as facts."""
    provider.fail_next("missing_usage")
    bedrock().converse(**CONVERSE)
    assert spans.attributes["tokenguard.cost.basis"] == "missing_usage"
    assert "gen_ai.usage.input_tokens" not in spans.attributes


# --- resends ---------------------------------------------------------------------------------------------------------


def test_resends(bedrock, provider, installed, spans):
    """What botocore sends again is seen, and an attempt whose answer was not waited for is taken as billed."""
    bedrock().converse(**CONVERSE)  # loads the simulated provider's tokenizer, which takes a while
    spans.clear()
    provider.fail_next(503, times=1)
    provider.fail_next("delay", seconds=1.2)
    bedrock(resends=3, read_timeout=1).converse(**CONVERSE)
    assert spans.attributes["http.request.resend_count"] == 2
    assert spans.attributes[names.RETRY_COST] == spans.attributes["tokenguard.cost.usd"]


def test_resends_are_capped(bedrock, provider, under, spans):
    """`max_retries` holds for botocore's resends."""
    under('[[limit]]\nname = "few"\nmax_retries = 0\nthen = "block"')
    provider.fail_next(503, times=1)
    with pytest.raises(ClientError):
        bedrock(resends=3).converse(**CONVERSE)
    assert len(provider.requests) == 1
    provider.fail_next("refuse_connection")
    with pytest.raises(HTTPClientError):
        bedrock(resends=3).invoke_model(**INVOKE)
    assert len(provider.requests) == 2


# --- the guard -------------------------------------------------------------------------------------------------------


def test_clamp(bedrock, provider, under, spans):
    """The cap goes into `inferenceConfig`, and Claude's thinking gets less than it."""
    under('[[limit]]\nname = "short"\nmax_output_tokens = 20\nthen = "clamp"')
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 2000}}
    asked = {**CONVERSE, "inferenceConfig": {"temperature": 1.0}, "additionalModelRequestFields": thinking}
    bedrock().converse(**asked)
    body = provider.requests[-1].body
    assert body["inferenceConfig"] == {"temperature": 1.0, "maxTokens": 20}
    assert body["additionalModelRequestFields"] == {"thinking": {"type": "disabled"}}
    assert asked["inferenceConfig"] == {"temperature": 1.0}  # the caller's own is not touched
    bedrock().invoke_model(**INVOKE)["body"].read()
    assert provider.requests[-1].body["max_tokens"] == 20


@pytest.mark.parametrize("name", ["converse", "invoke"])
def test_downgrade(name, bedrock, provider, under, spans):
    """A downgrade goes into `modelId`, and so into the URL."""
    haiku = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
    under(f'[[limit]]\nname = "l"\nmax_input_tokens = 1\nthen = "downgrade"\ndowngrade_to = "{haiku}"')
    CALLS[name](bedrock())
    assert provider.requests[-1].model == haiku
    assert "model" not in json.loads(json.dumps(provider.requests[-1].body["messages"]))
    assert spans.attributes["gen_ai.request.model"] == haiku
    assert spans.attributes["tokenguard.guard.original_model"] == SONNET


def test_tool_steps(bedrock, provider, under, spans):
    """A run that goes on calling tools is stopped, by the rounds in its own messages."""
    under('[[limit]]\nname = "steps"\nmax_tool_steps = 1\nthen = "block"')
    client = bedrock()

    def run(messages):
        answer = client.converse(modelId=SONNET, messages=messages, toolConfig=TOOLS)["output"]["message"]
        results = [
            {"toolResult": {"toolUseId": block["toolUse"]["toolUseId"], "content": [{"text": "not found"}]}}
            for block in answer["content"]
            if "toolUse" in block
        ]
        run([*messages, answer, {"role": "user", "content": results}])

    with pytest.raises(LimitExceeded, match="tool rounds 2"):
        run(MESSAGES)
    assert [span.attributes.get("tokenguard.tool.calls") for span in spans] == [1, 1, None]
    assert [span.attributes.get("tokenguard.guard.action") for span in spans] == [None, None, "block"]


def test_budget(bedrock, provider, under, spans):
    """A budget holds the worst case of a regional profile at its own rates, and charges the actual."""
    under('[[budget]]\nname = "tiny"\nwindow = "total"\nlimit_usd = 0.009\n[ledger]\nurl = "memory:"')
    client = bedrock()
    client.converse(**CONVERSE)
    with pytest.raises(BudgetExceeded, match="tiny"):
        client.converse(**{**CONVERSE, "inferenceConfig": {"maxTokens": 600}})
    assert len(provider.requests) == 1


def test_profiles_by_arn(bedrock, provider, installed, spans):
    """An inference profile's ARN has the profile's price; an application's own profile has none that anybody knows."""
    arn = "arn:aws:bedrock:us-east-1:123456789012"
    client = bedrock()
    client.converse(**{**CONVERSE, "modelId": f"{arn}:inference-profile/{SONNET}"})
    client.converse(**{**CONVERSE, "modelId": f"{arn}:application-inference-profile/mi1dadi0g15f"})
    assert [span.attributes["tokenguard.cost.status"] for span in spans] == ["exact", "unpriced"]


# --- aiobotocore -----------------------------------------------------------------------------------------------------


async def read_stream(response):
    return [event async for event in response["stream" if "stream" in response else "body"]]


async def read_body(response):
    return await response["body"].read()


async def read_pieces(response):
    return [piece async for piece in response["body"].iter_chunks(64)]


async def read_all(response):
    return response["output"]


ASYNC = {
    "converse": ("converse", CONVERSE, read_all),
    "converse stream": ("converse_stream", CONVERSE, read_stream),
    "invoke": ("invoke_model", INVOKE, read_body),
    "invoke pieces": ("invoke_model", INVOKE, read_pieces),
    "invoke stream": ("invoke_model_with_response_stream", INVOKE, read_stream),
}


def asynchronously(provider, work, resends=0):
    session = pytest.importorskip("aiobotocore.session")

    async def run():
        config = Config(retries={"total_max_attempts": resends + 1, "mode": "standard"})
        maker = session.get_session().create_client("bedrock-runtime", endpoint_url=provider.url, config=config, **AWS)
        async with maker as client:
            return await work(client)

    return connections.run(run())


@pytest.mark.parametrize("name", ASYNC)
def test_async(name, provider, installed, spans):
    """The same through aiobotocore."""
    operation, arguments, read = ASYNC[name]

    async def work(client):
        with tokenguard.meter() as measured:
            assert await read(await getattr(client, operation)(**arguments))
        return measured

    check(provider, asynchronously(provider, work), spans)
    if read not in (read_body, read_pieces) or metadata.version("aiobotocore") > "3":
        assert spans.attributes["gen_ai.response.finish_reasons"] == ("end_turn",)


def test_async_resends(provider, under, spans):
    """Resends of aiobotocore are seen and capped."""

    async def work(client):
        await client.converse(**CONVERSE)

    provider.fail_next(503)
    asynchronously(provider, work, resends=2)
    assert spans.attributes["http.request.resend_count"] == 1
    under('[[limit]]\nname = "few"\nmax_retries = 0\nthen = "block"')
    provider.fail_next(503)
    with pytest.raises(ClientError):
        asynchronously(provider, work, resends=2)
    assert len(provider.requests) == 3


def test_async_abandoned(provider, installed, spans):
    """A stream whose reader stops ends its span."""

    async def work(client):
        stream = (await client.converse_stream(**CONVERSE))["stream"]
        async for _ in stream:
            break
        stream.close()

    asynchronously(provider, work)
    gc.collect()
    assert installed.records[-1].outcome == "abandoned"


def test_async_cancelled(provider, installed, spans):
    """A cancelled call ends its span."""

    async def work(client):
        call = asyncio.ensure_future(client.converse(**CONVERSE))
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    provider.fail_next("delay", seconds=0.5)
    asynchronously(provider, work)
    assert installed.records[-1].outcome == "abandoned"
    assert installed.records[-1].cost.basis == "cancelled"


def test_events_are_taken_apart(bedrock, provider, installed, spans):
    """What a reader takes out of an event was told all the same."""
    for event in bedrock().converse_stream(**CONVERSE)["stream"]:
        if "metadata" in event:
            event["metadata"].pop("usage")
    assert spans.attributes["gen_ai.usage.output_tokens"] == provider.requests[-1].billed.output


PRICES_AFTER = """
import sys, tokenguard
tokenguard.install()
import boto3
boto3.client("s3", region_name="us-east-1")
assert "tokenguard.prices.genai.sellers" not in sys.modules, "S3 needs no prices"
boto3.client("bedrock-runtime", region_name="us-east-1")
assert "tokenguard.prices.genai.sellers" in sys.modules, "a model will be called"
"""


def test_prices_are_loaded_for_models_alone():
    """The price list is loaded as a client of Bedrock is made, and not for any other service."""
    subprocess.run([sys.executable, "-c", PRICES_AFTER], check=True, timeout=60)
