"""Pictures, films, pages and ranks of other providers than OpenAI, priced by hand from the providers' pages."""

from __future__ import annotations

import json

import pytest
from families import AWS, wav

import tokenguard
from tokenguard import BudgetExceeded, policy
from tokenguard.demo.provider import SimulatedProvider
from tokenguard.installation import runtime

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed"),
]
TEXT = "Which of your plans has a warranty?"


@pytest.fixture(scope="module")
def provider():
    with SimulatedProvider() as running:
        yield running


@pytest.fixture
def bedrock(provider, installed):
    client = pytest.importorskip("boto3").client("bedrock-runtime", endpoint_url=provider.url, **AWS)
    yield client
    client.close()


@pytest.fixture
def google(provider, installed):
    genai = pytest.importorskip("google.genai")
    client = genai.Client(vertexai=True, api_key="k", http_options={"base_url": provider.url})
    yield client
    client.close()


@pytest.fixture
def mistral(provider, installed):
    with pytest.importorskip("mistralai.client").Mistral(api_key="k", server_url=provider.url) as client:
        yield client


def under(text):
    tokenguard.install(policy.loads(f'{text}\n[ledger]\nurl = "memory:"\n'))
    return runtime.installed().meter.guard


def spent(guard):
    (account,) = guard.ledger.accounts()
    assert account.reserved_nano == 0
    return account.spent_nano / 1e9


BUDGET = '[[budget]]\nname = "b"\nlimit_usd = 100.0\n'


def cost(installed):
    (record,) = installed.records
    return record.cost


# --- Google: https://ai.google.dev/gemini-api/docs/pricing ------------------------------------------------------------


@pytest.mark.parametrize(("prompt", "pictures"), [(TEXT, 3), ("filter one", 2)])
def test_imagen(prompt, pictures, google, installed):
    """Imagen 4 costs $0.04 a picture; one that a filter has taken out is not billed."""
    made = google.models.generate_images(
        model="imagen-4.0-generate-001", prompt=prompt, config={"number_of_images": 3, "include_rai_reason": True}
    )
    assert len(made.generated_images) == 3
    assert cost(installed)[:3] == ("estimated", "unchecked_price", pytest.approx(pictures * 0.04))


def test_veo(google, installed):
    """Veo 3.1 costs $0.60 a second in 4k; the operation that is polled is one call."""
    guard = under(BUDGET)
    config = {"duration_seconds": 6, "resolution": "4k", "number_of_videos": 2}
    operation = google.models.generate_videos(model="veo-3.1-generate-preview", prompt=TEXT, config=config)
    assert installed.records == []
    while not operation.done:
        operation = google.operations.get(operation)
    assert cost(installed)[:3] == ("exact", None, pytest.approx(2 * 6 * 0.60))
    assert spent(guard) == pytest.approx(7.2)


def test_veo_fails(google, installed):
    """A film that was not made costs nothing."""
    guard = under(BUDGET)
    operation = google.models.generate_videos(model="veo-3.1-fast-generate-preview", prompt="a failure")
    while not operation.done:
        operation = google.operations.get(operation)
    (record,) = installed.records
    assert (record.outcome, record.cost_usd) == ("error", 0.0)
    assert spent(guard) == 0


def test_veo_is_refused(google, provider):
    """Eight seconds of Veo 3.1 are $3.20, where nobody says how long."""
    under('[[budget]]\nname = "b"\nlimit_usd = 3.1\n')
    provider.requests.clear()
    with pytest.raises(BudgetExceeded, match=r"worst case of this call is \$3\.2"):
        google.models.generate_videos(model="veo-3.1-generate-preview", prompt=TEXT)
    assert provider.requests == []


# --- what is rented: https://ai.google.dev/gemini-api/docs/pricing ----------------------------------------------------


def test_cache(provider, installed, spans):
    """A cache is its tokens, $0.30 a million for gemini-2.5-flash; `test_rented` has what it costs to keep."""
    genai = pytest.importorskip("google.genai")
    guard = under(BUDGET)
    client = genai.Client(api_key="k", http_options={"base_url": provider.url})
    cache = client.caches.create(model="gemini-2.5-flash", config={"contents": [TEXT * 90], "ttl": "7200s"})
    client.close()
    attributes = spans.attributes
    assert attributes["gen_ai.operation.name"] == "create_cache"
    assert attributes["tokenguard.resource"] == cache.name
    assert attributes["tokenguard.resource.until"] == cache.expire_time.replace(microsecond=0).timestamp()
    assert cost(installed)[:3] == ("exact", None, pytest.approx(10_000 * 0.30e-6))
    assert spent(guard) == pytest.approx(0.003)
    runtime.installed().meter.rents._open.clear()


def test_cache_is_refused(provider, installed):
    """What a cache may cost until it expires is reserved: a week of it does not fit."""
    genai = pytest.importorskip("google.genai")
    under('[[budget]]\nname = "b"\nlimit_usd = 0.05\n')
    provider.requests.clear()
    client = genai.Client(api_key="k", http_options={"base_url": provider.url})
    with pytest.raises(BudgetExceeded):
        client.caches.create(model="gemini-2.5-flash", config={"contents": [TEXT * 90], "ttl": "604800s"})
    client.close()
    assert provider.requests == []


# --- Bedrock: https://aws.amazon.com/bedrock/pricing ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "body", "usd", "status"),
    [
        (
            "amazon.nova-canvas-v1:0",
            {"taskType": "TEXT_IMAGE", "textToImageParams": {"text": TEXT}, "imageGenerationConfig": {"width": 2048}},
            0.06,
            "estimated",
        ),
        (
            "amazon.titan-image-generator-v2:0",
            {
                "taskType": "TEXT_IMAGE",
                "textToImageParams": {"text": TEXT},
                "imageGenerationConfig": {"width": 512, "height": 512, "numberOfImages": 3},
            },
            3 * 0.008,
            "estimated",
        ),
        ("stability.stable-image-ultra-v1:1", {"prompt": TEXT}, 0.14, "exact"),
        ("us.stability.stable-image-inpaint-v1:0", {"prompt": TEXT, "image": "aGk="}, 0.07, "exact"),
        ("cohere.rerank-v3-5:0", {"query": TEXT, "documents": ["a plan"] * 250, "api_version": 2}, 3 * 0.002, "exact"),
    ],
    ids=["canvas", "titan", "stability", "a region", "rerank"],
)
def test_invoked(model, body, usd, status, bedrock, installed):
    """Pictures by size and quality, ranks by the hundred documents; a row that names a region holds for its models."""
    guard = under(BUDGET)
    bedrock.invoke_model(modelId=model, body=json.dumps(body))["body"].read()
    assert cost(installed).total == pytest.approx(usd)
    assert cost(installed).status == status
    assert spent(guard) == pytest.approx(usd)


def test_invoked_is_refused(bedrock, provider):
    """A budget stops pictures before they are made."""
    under('[[budget]]\nname = "b"\nlimit_usd = 0.13\n')
    provider.requests.clear()
    with pytest.raises(BudgetExceeded):
        bedrock.invoke_model(modelId="stability.stable-image-ultra-v1:1", body=json.dumps({"prompt": TEXT}))
    assert provider.requests == []


@pytest.mark.parametrize(("text", "usd"), [(TEXT, 0.48), ("a failure", 0.0)])
def test_reel(text, usd, bedrock, installed):
    """Nova Reel costs $0.08 a second; its job is asked for by its ARN."""
    if not hasattr(bedrock, "start_async_invoke"):
        pytest.skip("this boto3 has no asynchronous jobs")
    guard = under(BUDGET)
    job = bedrock.start_async_invoke(
        modelId="amazon.nova-reel-v1:1",
        modelInput={
            "taskType": "TEXT_VIDEO",
            "textToVideoParams": {"text": text},
            "videoGenerationConfig": {"durationSeconds": 6, "fps": 24, "dimension": "1280x720"},
        },
        outputDataConfig={"s3OutputDataConfig": {"s3Uri": "s3://bucket/films"}},
    )
    assert installed.records == []
    while bedrock.get_async_invoke(invocationArn=job["invocationArn"])["status"] == "InProgress":
        assert installed.records == []
    assert cost(installed).total == pytest.approx(usd)
    assert spent(guard) == pytest.approx(usd)


# --- Mistral: https://mistral.ai/pricing ------------------------------------------------------------------------------


def test_ocr(mistral, installed, spans):
    """Three pages at $4 a thousand; annotated ones at $5."""
    document = {"type": "document_url", "document_url": "https://host/plan.pdf"}
    mistral.ocr.process(model="mistral-ocr-latest", document=document)
    assert cost(installed)[:3] == ("exact", None, pytest.approx(0.012))
    installed.records.clear()
    form = {"type": "json_schema", "json_schema": {"name": "plan", "schema": {"type": "object"}}}
    mistral.ocr.process(model="mistral-ocr-latest", document=document, document_annotation_format=form)
    assert cost(installed)[:3] == ("exact", None, pytest.approx(0.015))
    assert spans.all()[1].attributes["tokenguard.usage.annotated_pages"] == 3


def test_ocr_reserves_the_longest_document(mistral, provider):
    """How long a document is, nobody knows before: a thousand pages are held, or as many as are asked for."""
    under('[[budget]]\nname = "b"\nlimit_usd = 3.9\n')
    provider.requests.clear()
    document = {"type": "document_url", "document_url": "https://host/plan.pdf"}
    with pytest.raises(BudgetExceeded):
        mistral.ocr.process(model="mistral-ocr-latest", document=document)
    mistral.ocr.process(model="mistral-ocr-latest", document=document, pages=[0, 1])
    assert len(provider.requests) == 1


def test_mistral_transcript(mistral, installed, provider):
    """Voxtral is billed by the second, $0.18 an hour, and its upload is untouched by a limit that looks at it."""
    under('[[limit]]\nname = "l"\nmax_cost_usd = 0.5\n')
    mistral.audio.transcriptions.complete(
        model="voxtral-mini-2602", file={"content": wav(60), "file_name": "a.wav"}, language="en"
    )
    assert provider.requests[-1].body["file"]["seconds"] == 60
    assert cost(installed)[:3] == ("exact", None, pytest.approx(0.003))


def test_mistral_transcript_of_another_model(mistral, provider):
    """A downgrade changes the model of an upload, and sends the same file."""
    under('[[limit]]\nname = "l"\nmax_cost_usd = 0.001\nthen = "downgrade"\ndowngrade_to = "voxtral-mini-latest"\n')
    mistral.audio.transcriptions.complete(model="voxtral-mini-2602", file={"content": wav(60), "file_name": "a.wav"})
    sent = provider.requests[-1].body
    assert (sent["model"], sent["file"]["seconds"]) == ("voxtral-mini-latest", 60)


# --- hosts that speak OpenAI's formats --------------------------------------------------------------------------------


def test_groq(provider, installed):
    """Groq bills ten seconds at the least: whisper-large-v3 is $0.111 an hour."""
    groq = pytest.importorskip("groq")
    with groq.Groq(base_url=provider.url, api_key="k") as client:
        client.audio.transcriptions.create(
            model="whisper-large-v3", file=("a.wav", wav(4)), response_format="verbose_json"
        )
    assert cost(installed)[:3] == ("exact", None, pytest.approx(10 * 0.111 / 3600))


def test_together(provider, installed):
    """Pictures of Together's have a price from `[prices]`, and its ranks are billed by tokens."""
    together = pytest.importorskip("together")
    under('[prices]\n"together/black-forest-labs/*" = { images = 2700 }')
    with together.Together(base_url=provider.url, api_key="k") as client:
        client.images.generate(model="black-forest-labs/FLUX.1-schnell", prompt=TEXT, n=2)
    assert cost(installed)[:3] == ("exact", None, pytest.approx(0.0054))
