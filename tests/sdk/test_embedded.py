"""Vectors of pictures, and ranks, priced by hand from the sellers' pages.

Cohere: embed-v4 $0.12 a million tokens of text, $0.47 of pictures; embed-v3 $0.0001 a picture (https://cohere.com/pricing).
Voyage: voyage-multimodal-3.5 $0.12 a million tokens, $0.60 a billion pixels; rerank-2.5 $0.05 a million tokens
(https://docs.voyageai.com/docs/pricing). Vertex AI's multimodalembedding: $0.0001 a picture, $0.0002 a thousand
characters (https://cloud.google.com/vertex-ai/generative-ai/pricing). Bedrock: $2 a thousand searches of Cohere's.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from families import AWS

import connections
import tokenguard
from tokenguard import BudgetExceeded, policy
from tokenguard.facts.usage import Usage
from tokenguard.installation import runtime
from tokenguard.prices import PriceBook
from tokenguard.providers import cohere, google, voyage

BUDGET = '[[budget]]\nname = "b"\nlimit_usd = 100.0\n[ledger]\nurl = "memory:"\n[hosts]\n"127.0.0.1" = "sdk"\n'


def cost(provider, model, reading):
    found = PriceBook().cost(provider, (reading.model, model), reading.usage)
    return found.total, found.status, found.basis


def test_cohere_pictures():
    """Version 4 bills pictures by their tokens, version 3 by the picture; the text of either is priced as before."""
    told = {"meta": {"billed_units": {"input_tokens": 100, "image_tokens": 2000}}}
    reading = cohere.EMBED.read(told)
    assert reading.usage == Usage(input=2100, input_image=2000)
    usd, status, basis = cost("cohere", "embed-v4.0", reading)
    assert (usd, status, basis) == (pytest.approx(100 * 0.12e-6 + 2000 * 0.47e-6), "exact", None)
    pictures = cohere.EMBED.read({"meta": {"billed_units": {"images": 3}}})
    assert cost("cohere", "embed-english-v3.0", pictures) == (pytest.approx(3 * 0.0001), "exact", None)
    assert cost("cohere", "embed-multilingual-v3.0", pictures)[::2] == (pytest.approx(3 * 0.0001), "unchecked_price")
    assert cost("cohere", "embed-multilingual-v3.0", reading._replace(usage=Usage(input=9)))[1] == "exact"
    assert (
        cost("cohere", "embed-v4.0", cohere.EMBED.read({"meta": {"billed_units": {"input_tokens": 9}}}))[1] == "exact"
    )


def test_voyage_pictures():
    """560 pixels are a token, and pixels have a price of their own."""
    told = {
        "model": "voyage-multimodal-3.5",
        "usage": {"text_tokens": 50, "image_pixels": 1_120_000, "total_tokens": 2050},
    }
    usd, status, basis = cost("voyage_ai", None, voyage.MULTIMODAL.read(told))
    assert usd == pytest.approx(50 * 0.12e-6 + 1_120_000 * 0.60e-9)
    assert (status, basis) == ("estimated", "unchecked_price")


def test_vertex_pictures():
    """Two pictures and forty characters."""
    body = {"instances": [{"text": "a" * 40, "image": {}}, {"image": {}}]}
    told = {"predictions": [{"imageEmbedding": [0.1], "textEmbedding": [0.1]}, {"imageEmbedding": [0.1]}]}
    api = google.api_at("/v1/projects/p/locations/l/publishers/google/models/multimodalembedding@001:predict", body)
    assert api is google.EMBED_MULTIMODAL
    reading = api.units.told(body, api.read(told))
    usd, _, basis = cost("gcp.vertex_ai", "multimodalembedding@001", reading)
    assert (usd, basis) == (pytest.approx(2 * 0.0001 + 40 * 0.0000002), None)
    film = reading._replace(usage=Usage(input_seconds=3))
    assert cost("gcp.vertex_ai", "multimodalembedding@001", film)[::2] == (pytest.approx(0.006), "unchecked_price")


def test_a_film_is_an_estimate():
    """Tokens of film cost more than all else, at a rate that is not known here: the price says so."""
    details = [{"modality": "TEXT", "tokenCount": 10}, {"modality": "VIDEO", "tokenCount": 90}]
    reading = google.read_embed({"usageMetadata": {"promptTokenCount": 100, "promptTokensDetails": details}})
    assert (reading.usage.input_audio, reading.basis) == (90, "assumed_input_video")


def under(text=BUDGET):
    tokenguard.install(policy.loads(text))
    return runtime.installed().meter.guard


# --- Bedrock's service of agents --------------------------------------------------------------------------------------

MODEL = "arn:aws:bedrock:us-east-1::foundation-model/cohere.rerank-v3-5:0"


def ranked(documents):
    source = {"type": "INLINE", "inlineDocumentSource": {"type": "TEXT", "textDocument": {"text": "A plan."}}}
    model = {"modelConfiguration": {"modelArn": MODEL}, "numberOfResults": 1}
    return {
        "queries": [{"type": "TEXT", "textQuery": {"text": "Which plan?"}}],
        "sources": [source] * documents,
        "rerankingConfiguration": {"type": "BEDROCK_RERANKING_MODEL", "bedrockRerankingConfiguration": model},
    }


@pytest.fixture
def agents(installed):
    boto3 = pytest.importorskip("boto3")
    stub = pytest.importorskip("botocore.stub")
    client = boto3.client("bedrock-agent-runtime", **AWS)
    if not hasattr(client, "rerank"):
        pytest.skip("this version has none")
    with stub.Stubber(client) as stubbed:
        yield client, stubbed
    client.close()


def test_bedrock_ranks(agents, installed):
    """A rank of 150 documents is two searches, $0.004; it is seen, and the other operations of agents are not."""
    client, stubbed = agents
    guard = under()
    stubbed.add_response("rerank", {"results": [{"index": 0, "relevanceScore": 0.5}]})
    client.rerank(**ranked(150))
    (record,) = installed.records
    assert record.attributes["gen_ai.operation.name"] == "rerank"
    assert record.attributes["gen_ai.request.model"] == "cohere.rerank-v3-5:0"
    assert record.attributes["tokenguard.usage.requests"] == 2
    assert (record.cost.total, record.cost.status) == (pytest.approx(0.004), "exact")
    assert guard.ledger.accounts()[0].spent_nano == 4_000_000
    under(BUDGET.replace("100.0", "0.003"))
    with pytest.raises(BudgetExceeded):
        client.rerank(**ranked(150))


# --- voyageai, where it is installed ----------------------------------------------------------------------------------


class Voyage(BaseHTTPRequestHandler):
    """Voyage's API: every text is 5 tokens, every picture 560,000 pixels."""

    asked: ClassVar[list[str]] = []

    def log_message(self, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(self.path)
        data, usage = [{"embedding": [0.1], "index": 0, "object": "embedding"}], {"total_tokens": 5}
        if "rerank" in self.path:
            data = [{"relevance_score": 0.9, "index": 0}]
        if "multimodal" in self.path:
            usage = {"text_tokens": 5, "image_pixels": 560_000, "video_pixels": 0, "total_tokens": 1005}
        said = json.dumps({"object": "list", "data": data, "model": body["model"], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)


@pytest.fixture
def voyage_url():
    Voyage.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Voyage)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def asked_of(client, picture):
    return [
        ("embed", {"texts": ["Which plan?"], "model": "voyage-3.5"}, 5 * 0.06e-6),
        ("rerank", {"query": "Which?", "documents": ["A plan."], "model": "rerank-2.5"}, 5 * 0.05e-6),
        (
            "multimodal_embed",
            {"inputs": [["A plan.", picture]], "model": "voyage-multimodal-3.5"},
            5 * 0.12e-6 + 560_000 * 0.6e-9,
        ),
    ]


@pytest.mark.parametrize("number", range(3), ids=["embed", "rerank", "multimodal"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_voyage(number, asynchronous, voyage_url, installed):
    """Each is a call, with the provider's own count, and a budget that is spent lets none out."""
    voyageai = pytest.importorskip("voyageai")
    image = pytest.importorskip("PIL.Image")
    under()
    client = (voyageai.AsyncClient if asynchronous else voyageai.Client)(api_key="k", base_url=voyage_url)
    method, given, usd = asked_of(client, image.new("RGB", (800, 700)))[number]

    def call():
        result = getattr(client, method)(**given)
        return connections.run(_awaited(result)) if asynchronous else result

    call()
    (record,) = installed.records
    assert record.attributes["gen_ai.provider.name"] == "voyage_ai"
    assert record.cost.total == pytest.approx(usd)
    under(BUDGET.replace("100.0", "0.0"))
    with pytest.raises(BudgetExceeded):
        call()
    assert len(Voyage.asked) == 1


async def _awaited(result):
    return await result
