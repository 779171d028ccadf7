"""Google's and Bedrock's formats in the process: exact costs, odd usages, streams that break off, recorded content."""

from __future__ import annotations

import json

import httpx2
import pytest

import tokenguard
from tokenguard.facts.usage import Usage
from tokenguard.providers import bedrock, endpoint_of, google
from tokenguard.tokens import upper_bound_request

pytest.importorskip("boto3", "1.37")  # older ones drop what Converse says of caches
pytest.importorskip("google.genai", "2.34")  # older ones take no client of httpx2

from botocore.awsrequest import AWSResponse
from google.genai.types import HttpOptions

from canned_clouds import BEDROCK_SONNET, Raw, bedrock_client, gemini, google_client

# $0.30 in, 0.03 read from the cache, 2.50 out.
GEMINI_COST = (200 * 0.30 + 1000 * 0.03 + 300 * 2.50) / 1e6
# 3.30 in, 0.33 read, 4.125 written, 16.50 out: the regional premium of a tenth on each.
CONVERSE_COST = (100 * 3.3 + 2000 * 0.33 + 500 * 4.125 + 150 * 16.5) / 1e6
CONVERSE = {"modelId": BEDROCK_SONNET, "messages": [{"role": "user", "content": [{"text": "Capital of France?"}]}]}


@pytest.fixture
def client():
    http = HttpOptions(client_args={"transport": httpx2.MockTransport(gemini)})
    with google_client(http_options=http) as opened:
        yield opened


@pytest.mark.parametrize("stream", [False, True])
def test_gemini_cost(stream, client, installed, spans):
    """Cached input is part of the prompt, thoughts are output beside the answer, and each has its rate."""
    ask = {"model": "gemini-2.5-flash", "contents": "Capital of France?"}
    list(client.models.generate_content_stream(**ask)) if stream else client.models.generate_content(**ask)
    attributes = spans.attributes
    assert attributes["tokenguard.cost.usd"] == pytest.approx(GEMINI_COST, abs=1e-12)
    assert attributes["tokenguard.cost.status"] == "exact"
    assert attributes["gen_ai.usage.input_tokens"] == 1200
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 1000
    assert attributes["gen_ai.usage.output_tokens"] == 300
    assert attributes["gen_ai.usage.reasoning.output_tokens"] == 100
    assert attributes["gen_ai.response.id"] == "r1"


@pytest.mark.parametrize("stream", [False, True])
def test_converse_cost(stream, installed, spans):
    """What was read from the cache and written to it comes on top of `inputTokens`, at the region's rates."""
    client = bedrock_client()
    list(client.converse_stream(**CONVERSE)["stream"]) if stream else client.converse(**CONVERSE)
    attributes = spans.attributes
    assert attributes["tokenguard.cost.usd"] == pytest.approx(CONVERSE_COST, abs=1e-12)
    assert attributes["tokenguard.cost.status"] == "exact"
    assert attributes["gen_ai.usage.input_tokens"] == 2600
    assert attributes["gen_ai.usage.cache_write.input_tokens"] == 500


def test_a_tier_that_was_not_answered(client, installed, spans):
    """A tier that is asked for in these formats, and not told by the answer, makes an estimate as in the others."""
    client.models.generate_content(model="gemini-2.5-flash", contents="x", config={"service_tier": "flex"})
    assert spans.attributes["tokenguard.cost.basis"] == "assumed_tier"
    spans.clear()
    bedrock_client().converse(**CONVERSE, serviceTier={"type": "priority"})
    assert spans.attributes["tokenguard.cost.basis"] == "assumed_tier"


@pytest.mark.parametrize(
    ("headers", "factor", "basis"),
    [
        ({}, 1, None),
        ({"X-Amzn-Bedrock-Service-Tier": "default"}, 1, None),
        ({"X-Amzn-Bedrock-Service-Tier": "flex"}, 0.5, "assumed_flex"),
        ({"X-Amzn-Bedrock-Service-Tier": "priority"}, 1.75, "assumed_priority"),
        ({"X-Amzn-Bedrock-Service-Tier": "reserved"}, 1, "assumed_prepaid"),
        ({"X-Amzn-Bedrock-PerformanceConfig-Latency": "optimized"}, 1.25, "assumed_latency"),
    ],
)
def test_what_invoke_model_tells_in_headers(headers, factor, basis, installed, spans):
    """Converse has the tier in its answer, `InvokeModel` beside it. GPT-OSS 20B is $0.07 and $0.30."""
    body = json.dumps({"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 100}}).encode()

    def answer(request):
        return AWSResponse(request.url, 200, {"content-type": "application/json", **headers}, Raw(body))

    asked = json.dumps({"messages": [{"role": "user", "content": "x"}]})
    client = bedrock_client(answer)
    client.invoke_model(modelId="openai.gpt-oss-20b-1:0", body=asked)["body"].read()
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx((1000 * 0.07 + 100 * 0.3) * factor / 1e6)
    assert spans.attributes.get("tokenguard.cost.basis") == basis
    spans.clear()
    guarded = {"guardrailIdentifier": "g", "guardrailVersion": "1"}
    client.invoke_model(modelId="openai.gpt-oss-20b-1:0", body=asked, **guarded)["body"].read()
    assert spans.attributes["tokenguard.cost.basis"] == (basis or "tool_fees_excluded")


@pytest.mark.parametrize("served", ["flex", None])
def test_geminis_tier_in_a_header(served, installed, spans):
    """Until May 2026 the answer had it nowhere else: vercel/ai#14937."""

    def answer(request):
        told = gemini(request)
        return httpx2.Response(200, content=told.content, headers={"x-gemini-service-tier": served} if served else {})

    http = HttpOptions(client_args={"transport": httpx2.MockTransport(answer)})
    with google_client(http_options=http) as opened:
        opened.models.generate_content(model="gemini-2.5-flash", contents="x", config={"service_tier": "flex"})
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(GEMINI_COST * (0.5 if served else 1))
    assert spans.attributes["tokenguard.cost.basis"] == ("assumed_flex" if served else "assumed_tier")


def test_content(client, spans, monkeypatch):
    """Prompts and answers of these formats are recorded like any other's, where the variable asks for it."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    tokenguard.uninstall()
    tokenguard.install()
    client.models.generate_content(model="gemini-2.5-flash", contents="Capital of France?")
    bedrock_client().converse(**CONVERSE)
    tokenguard.uninstall()
    for span in spans:
        asked = json.loads(span.attributes["gen_ai.input.messages"])
        said = json.loads(span.attributes["gen_ai.output.messages"])
        assert asked == [{"role": "user", "parts": [{"type": "text", "content": "Capital of France?"}]}]
        assert said[0]["parts"] == [{"type": "text", "content": "Paris."}]
    assert len(spans) == 2


# --- usage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "usage"),
    [
        ({"promptTokenCount": 9, "totalTokenCount": 9}, Usage(9, 0)),  # a refused prompt: zeros are left out
        ({"promptTokenCount": 9, "thoughtsTokenCount": 5, "totalTokenCount": 14}, Usage(9, 5, reasoning=5)),
        (
            {"promptTokenCount": 9, "toolUsePromptTokenCount": 100, "candidatesTokenCount": 2, "totalTokenCount": 111},
            Usage(109, 2),
        ),
        (
            {
                "promptTokenCount": 60,
                "cachedContentTokenCount": 40,
                "candidatesTokenCount": 8,
                "promptTokensDetails": [
                    {"modality": "AUDIO", "tokenCount": 50},
                    {"modality": "IMAGE", "tokenCount": 6},
                    {"modality": "TEXT", "tokenCount": 4},
                ],
                "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 40}],
                "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 8}],
            },
            Usage(60, 8, 40, input_audio=50, cache_audio_read=40, output_audio=8, input_image=6),
        ),
        ({"trafficType": "ON_DEMAND"}, None),
        ({"promptTokenCount": "many"}, None),
        (None, None),
    ],
)
def test_gemini_usage(said, usage):
    """`usageMetadata` in its varieties."""
    assert google.read_google_usage(said) == usage


def test_vertex_predictions():
    """Vertex AI's predictions count each text, and may not count at all."""
    statistics = [{"embeddings": {"statistics": {"token_count": n}}} for n in (3, 4)]
    assert google.read_embed({"predictions": statistics}).usage == Usage(7)
    assert google.read_embed({"predictions": [{"embeddings": {}}]}).usage is None


def test_gemini_stream_cut_short():
    """What a stream tells before its end is not the whole output, and is not taken for it."""
    chunk = {"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 2, "totalTokenCount": 11}}
    reading = google.fold_generate(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    assert reading.usage == Usage(9)
    assert not reading.complete


USED = {"promptTokenCount": 9, "candidatesTokenCount": 2, "totalTokenCount": 11}
PLACE = {"maps": {"uri": "https://maps.google.com/?cid=1"}}


@pytest.mark.parametrize(
    ("grounds", "old", "new"),
    [
        ({}, (None, None), (None, None)),
        ({"webSearchQueries": ["a", "b", "a", ""]}, (1, None), (2, None)),
        ({"webSearchQueries": ["a"], "imageSearchQueries": ["b"]}, (1, None), (2, None)),
        ({"groundingChunks": [{"web": {"uri": "https://a"}}]}, (1, None), (1, None)),
        ({"groundingChunks": [PLACE, PLACE]}, (None, 1), (None, 1)),
        ({"webSearchQueries": ["a"], "groundingChunks": [PLACE]}, (1, 1), (1, 1)),
        ({"groundingChunks": [{"retrievedContext": {"fileSearchStore": "s"}}]}, (None, None), (None, None)),
    ],
)
def test_what_google_searched(grounds, old, new):
    """Its searches are counted as they are billed: by the prompt up to 2.5, after that each query that is not empty.

    A stream says them in any of its chunks, and may say them twice.
    """
    for model, counted in (("gemini-2.5-flash", old), ("gemini-3-flash-preview", new)):
        candidate = {"content": {"parts": [{"text": "x"}]}, "groundingMetadata": grounds}
        last = {"finishReason": "STOP", "content": {"parts": []}}
        whole = {"modelVersion": model, "candidates": [{**candidate, **last}], "usageMetadata": USED}
        chunks = [{**whole, "candidates": [candidate]}] * 2 + [{**whole, "candidates": [last]}]
        for reading in (google.read_generate(whole), google.fold_generate(sse(*chunks))):
            assert (reading.usage.web_searches, reading.usage.map_searches) == counted
            assert not reading.extra_fees


def test_a_search_of_ones_own_data_at_google():
    """Vertex AI Search is billed by the request, and no list has its fee."""
    grounds = {"groundingChunks": [{"retrievedContext": {"uri": "gs://b/a.pdf", "title": "a"}}]}
    body = {"candidates": [{"groundingMetadata": grounds}], "usageMetadata": USED}
    assert google.read_generate(body).extra_fees
    assert google.fold_generate(sse(body)).extra_fees


def sse(*events):
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


METRICS = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 5, "outputTokenCount": 3}}


@pytest.mark.parametrize(
    ("body", "model", "events", "usage", "reasons"),
    [
        (
            {"prompt": "x", "max_gen_len": 9},
            "meta.llama3-8b-instruct-v1:0",
            [
                {"generation": "Hi", "prompt_token_count": 5, "generation_token_count": 1, "stop_reason": None},
                {"generation": "", "generation_token_count": 3, "stop_reason": "stop", **METRICS},
            ],
            Usage(5, 3),
            ("stop",),
        ),
        (
            {"inputText": "x"},
            "amazon.titan-text-lite-v1",
            [
                {"outputText": "Hi", "inputTextTokenCount": 5, "totalOutputTextTokenCount": 1},
                {"inputTextTokenCount": 5, "totalOutputTextTokenCount": 3, "completionReason": "FINISH"},
            ],
            Usage(5, 3),
            ("FINISH",),
        ),
        (
            {"prompt": "x"},
            "mistral.mistral-7b-instruct-v0:2",
            [{"outputs": [{"text": "Hi", "stop_reason": None}]}, {"outputs": [{"stop_reason": "stop"}], **METRICS}],
            Usage(5, 3),
            ("stop",),
        ),
        (
            {"messages": [], "inferenceConfig": {}},
            "amazon.nova-lite-v1:0",
            [
                {"messageStart": {"role": "assistant"}},
                {"contentBlockDelta": {"delta": {"text": "Hi"}}},
                {"messageStop": {"stopReason": "end_turn"}},
                {"metadata": {"usage": {"inputTokens": 4, "outputTokens": 3, "cacheReadInputTokenCount": 1}}},
            ],
            Usage(5, 3, 1),
            ("end_turn",),
        ),
    ],
)
def test_invoked_streams(body, model, events, usage, reasons):
    """The families' streams, by their own counts or Bedrock's; cut short, nothing is known of the output."""
    api = bedrock.invoked(body, model)
    whole = api.fold(sse(*events))
    assert (whole.usage, whole.finish_reasons, whole.complete) == (usage, reasons, True)
    cut = api.fold(sse(events[0]))
    assert not cut.complete
    assert cut.usage is None or cut.usage.output is None


def test_tool_calls_of_streams():
    """Tool calls in streams are counted where they begin."""
    starts = [{"contentBlockStart": {"start": {"toolUse": {"name": "f"}}, "contentBlockIndex": n}} for n in (1, 2)]
    assert bedrock.fold_converse(sse(*starts, {"messageStop": {"stopReason": "tool_use"}})).tool_calls == 2
    parts = [{"functionCall": {"name": "f", "args": {}}}]
    chunk = {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}], "usageMetadata": {}}
    assert google.fold_generate(sse(chunk)).tool_calls == 1


# --- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "part",
    [
        {"inlineData": {"mimeType": "image/png", "data": "x" * 9000}},
        {"file_data": {"file_uri": "gs://b/f.pdf"}},
        {"image": {"format": "png", "source": {"bytes": b"x" * 9000}}},
        {"document": {"name": "d", "format": "pdf", "source": {"s3Location": {"uri": "s3://b/d.pdf"}}}},
    ],
)
def test_media_are_not_bounded_as_text(part):
    """A picture's bytes are no tokens, and a bound without them says that it is not complete."""
    bound = upper_bound_request({"contents": [{"role": "user", "parts": [part]}]})
    assert bound.tokens < 200
    assert not bound.complete


@pytest.mark.parametrize(
    "more",
    [
        {"cachedContent": "cachedContents/1"},
        {"tools": [{"googleSearch": {}}]},
        {"tools": None, "toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}},
        {"promptVariables": {"a": {"text": "b"}}},
    ],
)
def test_what_the_server_adds_is_not_bounded(more):
    """Cached contents, hosted tools and stored prompts bring text that is not in the request."""
    plain = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}], "tools": [{"functionDeclarations": []}]}
    assert upper_bound_request(plain).complete
    assert not upper_bound_request({**plain, **more}).complete


@pytest.mark.parametrize(
    "host",
    ["aiplatform.googleapis.com", "us-central1-aiplatform.googleapis.com", "aiplatform.eu.rep.googleapis.com"],
)
def test_vertex_hosts(host):
    """Vertex AI is known by its hosts, global, regional and of a continent, whatever SDK calls them."""
    assert endpoint_of(object, host, 443, "openai").provider == "gcp.vertex_ai"


@pytest.mark.parametrize(("word", "usd"), [("HIT", 0.0), ("MISS", 0.000144)])
def test_kept_by_a_gateway_before_bedrock(installed, spans, word, usd):
    """Botocore's answers come with their headers, too: what Helicone had kept costs nothing."""
    import boto3
    from botocore.stub import Stubber

    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    client = boto3.client("bedrock-runtime", endpoint_url="https://bedrock.helicone.ai", **keys)
    answer = {
        "output": {"message": {"role": "assistant", "content": [{"text": "Paris."}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 100, "outputTokens": 20, "totalTokens": 120},
        "metrics": {"latencyMs": 1},
        "ResponseMetadata": {"HTTPStatusCode": 200, "HTTPHeaders": {"helicone-cache": word}},
    }
    with Stubber(client) as stubbed:
        stubbed.add_response("converse", answer)
        client.converse(modelId="amazon.nova-pro-v1:0", messages=[{"role": "user", "content": [{"text": "Hi"}]}])
    assert spans.attributes.get("tokenguard.cost.usd", 0.000144) == pytest.approx(usd)
    assert (spans.attributes.get("tokenguard.cost.source") == "reported") is (word == "HIT")
