"""Recorded traffic of Google and Bedrock through the real SDKs: one span a call, and the very counts of the body."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import boto3
import httpx2
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError
from google import genai
from google.genai import errors, types
from google.oauth2.credentials import Credentials

FOLDER = Path(__file__).parents[3] / "shared" / "recordings"
GOOGLE = (":generateContent", ":streamGenerateContent", ":batchEmbedContents", ":embedContent")
BEDROCK = ("/converse", "/invoke")

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the recordings are not part of the repository")


def rows(*families, ends):
    for family in families if FOLDER.is_dir() else ():
        with gzip.open(FOLDER / f"{family}.jsonl.gz", "rt") as lines:
            for number, line in enumerate(lines):
                row = json.loads(line)
                if row["url_path"].partition("?")[0].endswith(ends):
                    yield pytest.param(family, row, id=f"{family}-{number}")


def check(spans, installed, provider, operation, expected):
    """`expected` is (input, output, cache read, cache write, reasoning), `None` for what the body does not say."""
    attributes = spans.attributes
    assert attributes["gen_ai.provider.name"] == provider
    assert attributes["gen_ai.operation.name"] == operation
    names = ("input_tokens", "output_tokens", "cache_read.input_tokens", "cache_write.input_tokens")
    for name, tokens in zip((*names, "reasoning.output_tokens"), expected, strict=True):
        assert attributes.get(f"gen_ai.usage.{name}") == tokens, name
    status = attributes["tokenguard.cost.status"]
    assert (status == "unpriced") == ("tokenguard.cost.usd" not in attributes)
    if expected[0] is None:
        assert attributes.get("tokenguard.cost.basis", "missing_usage") == "missing_usage"
        assert status != "exact"
    assert installed.records[-1].outcome == "ok"
    return attributes


# --- Google ----------------------------------------------------------------------------------------------------------


def google_truth(row):
    """The counts by hand, the output from the total: the code under test adds its parts up."""
    bodies = [row["body"]]
    if "event-stream" in row["content_type"]:
        bodies = [line[5:] for line in row["body"].splitlines() if line.startswith("data:")]
    usage = next((u for body in reversed(bodies) if (u := json.loads(body).get("usageMetadata"))), {})
    if "promptTokenCount" not in usage:
        return (None,) * 5
    sent = usage["promptTokenCount"] + usage.get("toolUsePromptTokenCount", 0)
    embeds = "mbed" in row["url_path"]
    made = None if embeds else usage["totalTokenCount"] - sent
    return sent, made, usage.get("cachedContentTokenCount"), None, usage.get("thoughtsTokenCount")


@pytest.fixture(scope="module")
def google():
    """A client for each of the two services, answered with what `.row` holds: clients take long to make."""
    playing = SimpleNamespace(row=None)

    def answer(request):
        row = playing.row
        headers = {"content-type": row["content_type"]}
        return httpx2.Response(row["status"], headers=headers, content=row["body"].encode())

    http = types.HttpOptions(client_args={"transport": httpx2.MockTransport(answer)})
    cloud = {"vertexai": True, "project": "p", "location": "global", "credentials": Credentials("t")}
    with genai.Client(api_key="k", http_options=http) as gemini, genai.Client(**cloud, http_options=http) as vertex:
        playing.clients = {"google": gemini, "vertex": vertex}
        yield playing


@pytest.mark.parametrize(("family", "row"), list(rows("google", "vertex", ends=GOOGLE)))
def test_google(family, row, google, installed, spans):
    """One span; its counts are the body's; its cost is known or honestly unknown, and never a guess."""
    google.row = row
    api = google.clients[family]._api_client
    resource = row["url_path"].partition("?")[0].split("/", 2)[2]
    request = dict(row["request"])
    if row["status"] != 200:
        with pytest.raises(errors.ClientError):
            api.request("post", resource, request)
        assert spans.attributes["error.type"] == "google.genai.errors.ClientError"
        assert "tokenguard.cost.status" not in spans.attributes
        return
    if "stream" in resource:
        assert list(api.request_streamed("post", f"{resource}?alt=sse", request))
    else:
        assert api.request("post", resource, request).body == row["body"]
    provider = {"google": "gcp.gemini", "vertex": "gcp.vertex_ai"}[family]
    operation = "embeddings" if "mbed" in resource else "generate_content"
    attributes = check(spans, installed, provider, operation, google_truth(row))
    assert resource.endswith(f"/{attributes['gen_ai.request.model']}:{resource.rpartition(':')[2]}")


# --- Bedrock ---------------------------------------------------------------------------------------------------------


class Raw(io.BytesIO):
    def stream(self, **_):
        yield self.read()


def bedrock_truth(row):
    """The counts by hand: of Converse the input is what the total leaves beside the output."""
    body = json.loads(row["body"])
    usage = body.get("usage")
    if usage is None:
        return body.get("inputTextTokenCount"), None, None, None, None
    if "totalTokens" in usage:
        read, written = usage.get("cacheReadInputTokens"), usage.get("cacheWriteInputTokens")
        return usage["totalTokens"] - usage["outputTokens"], usage["outputTokens"], read, written, None
    read, written = usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]
    thinking = usage["output_tokens_details"]["thinking_tokens"]
    return usage["input_tokens"] + read + written, usage["output_tokens"], read, written, thinking


@pytest.fixture(scope="module")
def bedrock():
    """A client that is answered with what `.row` holds."""
    playing = SimpleNamespace(row=None)

    def answer(request, **_):
        row = playing.row
        refused = {"x-amzn-errortype": "ValidationException"} if row["status"] != 200 else {}
        headers = {"content-type": row["content_type"], **refused}
        return AWSResponse(request.url, row["status"], headers, Raw(row["body"].encode()))

    config = Config(parameter_validation=False, retries={"total_max_attempts": 1})
    playing.client = boto3.client(
        "bedrock-runtime", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="s", config=config
    )
    playing.client.meta.events.register("before-send.bedrock-runtime", answer)
    yield playing
    playing.client.close()


@pytest.mark.parametrize(("family", "row"), list(rows("bedrock", ends=BEDROCK)))
def test_bedrock(family, row, bedrock, installed, spans):
    """The same through boto3."""
    bedrock.row, client = row, bedrock.client
    model, _, operation = unquote(row["url_path"]).removeprefix("/model/").rpartition("/")

    def call():
        if operation == "converse":
            return client.converse(modelId=model, **row["request"])
        return client.invoke_model(modelId=model, body=json.dumps(row["request"]))["body"].read()

    if row["status"] != 200:
        with pytest.raises(ClientError):
            call()
        assert spans.attributes["error.type"].endswith("ValidationException")
        assert "tokenguard.cost.status" not in spans.attributes
        return
    assert call()
    kind = "embeddings" if "mbed" in model or "inputText" in row["request"] else "chat"
    attributes = check(spans, installed, "aws.bedrock", kind, bedrock_truth(row))
    assert attributes["gen_ai.request.model"] == model
