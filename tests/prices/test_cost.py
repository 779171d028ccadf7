"""Hand-worked costs. Rates are USD per million tokens (M), each from the page that is named beside it.

The pages, as the bundled list verified them: openai = developers.openai.com/api/docs/pricing, anthropic =
platform.claude.com/docs/en/about-claude/pricing, google = ai.google.dev/gemini-api/docs/pricing, bedrock =
aws.amazon.com/bedrock/pricing.
"""

from __future__ import annotations

import pytest

from tokenguard.facts.usage import Usage
from tokenguard.prices import PriceBook, Tier, as_reported
from tokenguard.providers import geo_of

from .conftest import AT

M = 1_000_000
BATCH = Tier("batch")

SONNET = "claude-sonnet-4-5-20250929"  # anthropic: 3 in, 0.30 read, 3.75 write, 6 one-hour write, 15 out
US_SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"  # bedrock: a tenth more, 3.30 in, 16.50 out
PROFILE = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/"
BOTH = Usage(input=60_000, output=1_000, cache_read=20_000, cache_write=30_000, cache_write_1h=20_000)

EXACT = {
    "plain input and output": (
        ("openai", "gpt-4.1-mini", Usage(10_000, 1_000)),  # openai: 0.40 in, 1.60 out
        0.0056,  # 0.0040 + 0.0016
    ),
    "OpenAI cached input at half": (
        ("openai", "gpt-4o", Usage(10_000, 1_000, cache_read=8_000)),  # openai: 2.50 in, 1.25 cached, 10 out
        0.025,  # 2,000 x 2.50/M = 0.005; 8,000 x 1.25/M = 0.010; 1,000 x 10/M = 0.010
    ),
    "OpenAI cached input at the model's own tenth": (
        ("openai", "gpt-5", Usage(10_000, 1_000, cache_read=8_000)),  # openai: 1.25 in, 0.125 cached, 10 out
        0.0135,  # 0.0025 + 0.0010 + 0.0100
    ),
    "Anthropic read and five-minute write": (
        ("anthropic", SONNET, BOTH._replace(cache_write_1h=None)),
        0.1635,  # 10,000 x 3/M = 0.03; 20,000 x 0.30/M = 0.006; 30,000 x 3.75/M = 0.1125; 1,000 x 15/M = 0.015
    ),
    "Anthropic read and writes of both lifetimes in one call": (
        ("anthropic", SONNET, BOTH),
        0.2085,  # 0.03 + 0.006 + 10,000 x 3.75/M = 0.0375 + 20,000 x 6/M = 0.12 + 0.015
    ),
    "the same as a batch: half of everything": (
        ("anthropic", SONNET, BOTH, BATCH),
        0.10425,  # 0.2085 / 2
    ),
    "Anthropic's fast mode": (
        ("anthropic", "claude-opus-5", Usage(10_000, 1_000), Tier(speed="fast")),  # anthropic: 10 in, 50 out
        0.15,  # 0.10 + 0.05
    ),
    "OpenAI batch": (
        ("openai", "gpt-5", Usage(10_000, 1_000), BATCH),  # openai: 0.625 in, 5 out
        0.01125,  # 0.00625 + 0.00500
    ),
    "OpenAI flex, cached input too": (
        ("openai", "gpt-5", Usage(10_000, 1_000, cache_read=8_000), Tier("flex")),  # openai: 0.625, 0.0625, 5
        0.00675,  # 2,000 x 0.625/M = 0.00125; 8,000 x 0.0625/M = 0.0005; 0.005
    ),
    "OpenAI priority": (
        ("openai", "gpt-4.1", Usage(10_000, 1_000), Tier("priority")),  # openai: 3.50 in, 14 out
        0.049,  # 0.035 + 0.014
    ),
    "Vertex AI's word for flex": (
        ("gcp.gemini", "gemini-3.8-flash-tts", Usage(10_000, 1_000), Tier("ON_DEMAND_FLEX")),  # google: 0.25, 4.50
        0.007,  # 0.0025 + 0.0045
    ),
    "the standard, by its many names": (
        ("groq", "llama-3.3-70b-versatile", Usage(10_000, 1_000), Tier("on_demand", geo="global")),  # 0.59, 0.79
        0.00669,  # 0.0059 + 0.00079; groq.com/pricing
    ),
    "at Gemini's threshold": (
        ("gcp.gemini", "gemini-2.5-pro", Usage(200_000, 1_000)),  # google: 1.25 in, 10 out
        0.26,  # 0.25 + 0.01
    ),
    "past Gemini's threshold every token is dearer, the cached and the generated too": (
        ("gcp.gemini", "gemini-2.5-pro", Usage(250_000, 1_000, cache_read=50_000)),  # google: 2.50, 0.25, 15
        0.5275,  # 200,000 x 2.50/M = 0.50; 50,000 x 0.25/M = 0.0125; 1,000 x 15/M = 0.015
    ),
    "a batch past the threshold": (
        ("gcp.gemini", "gemini-2.5-pro", Usage(250_000, 1_000), BATCH),  # google: 1.25 in, 7.50 out
        0.32,  # 0.3125 + 0.0075
    ),
    "reasoning is output, counted once": (
        ("openai", "o3", Usage(10_000, 5_000, reasoning=4_000)),  # openai: 2 in, 8 out
        0.06,  # 0.02 + 0.04
    ),
    "OpenAI's writes of half an hour": (
        ("openai", "gpt-6.1-sol", Usage(100_000, 1_000, cache_write=50_000, cache_write_30m=50_000)),  # 2, 2.50, 10
        0.235,  # 50,000 x 2/M = 0.10; 50,000 x 2.50/M = 0.125; 1,000 x 10/M = 0.01; openai
    ),
    "audio, fresh, cached and spoken": (
        # openai: text 4 in, 0.40 cached, 16 out; audio 32 in, 0.40 cached, 64 out
        ("openai", "gpt-realtime", Usage(1_000, 500, 200, input_audio=400, cache_audio_read=100, output_audio=300)),
        0.034080,  # 500 x 4 + 300 x 32 + 100 x 0.40 + 100 x 0.40 + 200 x 16 + 300 x 64 = 34,080 / M
    ),
    "Gemini's audio input": (
        ("gcp.gemini", "gemini-2.5-flash", Usage(10_000, 1_000, input_audio=4_000)),  # google: 0.30, audio 1, 2.50
        0.0083,  # 6,000 x 0.30/M = 0.0018; 4,000 x 1/M = 0.004; 0.0025
    ),
    "dated and regional Bedrock id": (("aws.bedrock", US_SONNET, Usage(60_000, 1_000)), 0.2145),  # 0.198 + 0.0165
    "the same by the profile's ARN": (("aws.bedrock", PROFILE + US_SONNET, Usage(60_000, 1_000)), 0.2145),
    "Bedrock's global profile, though the response names the bare model": (
        ("aws.bedrock", (SONNET, US_SONNET.replace("us.", "global.")), Usage(60_000, 1_000)),  # bedrock: 3 in, 15 out
        0.195,  # 0.18 + 0.015
    ),
    "a foundation model's ARN": (
        (
            "aws.bedrock",
            "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0",  # 0.25 in, 1.25 out
            Usage(10_000, 1_000),
        ),
        0.00375,  # 0.0025 + 0.00125; bedrock
    ),
    "Vertex AI's date": (("gcp.vertex_ai", "claude-sonnet-4-5@20250929", Usage(10_000, 1_000)), 0.045),  # 0.03 + 0.015
    "Vertex AI's resource name": (
        ("gcp.vertex_ai", "projects/p/locations/l/publishers/google/models/gemini-2.5-pro", Usage(10_000, 1_000)),
        0.0225,  # 0.0125 + 0.0100
    ),
    "fine-tune at the fine-tuned rate": (
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::abc", Usage(10_000, 1_000)),  # openai: 0.30 in, 1.20 out
        0.0042,  # 0.0030 + 0.0012
    ),
    "embeddings have no output": (
        ("openai", "text-embedding-3-small", Usage(10_000)),  # openai: 0.02
        0.0002,
    ),
    "OpenRouter's routes have one price": (
        ("openrouter", "openai/gpt-4o:nitro", Usage(10_000, 1_000)),  # openrouter.ai/openai/gpt-4o: 2.50 in, 10 out
        0.035,
    ),
    "a free model costs nothing, and that is known": (
        ("openrouter", "meta-llama/llama-3.3-70b-instruct:free", Usage(10_000, 1_000)),
        0.0,
    ),
    "a fee per call": (
        ("cohere", "rerank-v3.5", Usage(request=3)),  # cohere.com/pricing: 2 per 1,000 searches
        0.006,
    ),
    "Hugging Face's router, by who serves it": (
        ("huggingface", "deepseek-ai/DeepSeek-R1:together", Usage(10_000, 1_000)),  # together.ai/pricing: 3 in, 7 out
        0.037,
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_hand_worked(price, name):
    """The cost is right to a billionth of a dollar and exact, and its parts sum to it to the last bit."""
    (provider, model, usage, *tier), expected = EXACT[name]
    cost = price(provider, model, usage, tier=tier[0] if tier else Tier())
    assert cost.total == pytest.approx(expected, abs=1e-9)
    assert (cost.status, cost.basis) == ("exact", None)
    assert cost.input + cost.output + cost.cache_read + cost.cache_write == cost.total


ESTIMATED = {
    # The list has no such rate; each multiple is the documented one.
    "batch, unlisted": (
        ("anthropic", "claude-opus-4-1", Usage(10_000, 1_000), BATCH),  # anthropic: 15 in, 75 out
        0.1125,  # (0.150 + 0.075) / 2
        "assumed_batch",
    ),
    "batch at a seller whose batch rates nobody lists": (
        ("azure.ai.openai", "gpt-4o", Usage(10_000, 1_000), BATCH),
        0.0175,  # 0.035 / 2
        "assumed_batch",
    ),
    "batch on Bedrock": (("aws.bedrock", US_SONNET, Usage(60_000, 1_000), BATCH), 0.10725, "assumed_batch"),
    "flex, unlisted": (("openai", "gpt-4.1", Usage(10_000, 1_000), Tier("flex")), 0.014, "assumed_flex"),  # 0.028 / 2
    "priority where it means reserved capacity": (
        ("anthropic", SONNET, Usage(10_000, 1_000), Tier("priority")),
        0.045,
        "assumed_priority",
    ),
    "prepaid capacity": (("openai", "gpt-4o", Usage(10_000, 1_000), Tier("scale")), 0.035, "assumed_prepaid"),
    "a tier nobody heard of": (("openai", "gpt-4o", Usage(10_000, 1_000), Tier("warp")), 0.035, "assumed_tier"),
    "inference kept in one geography": (
        ("anthropic", "claude-opus-5", Usage(10_000, 1_000), Tier(geo="us")),  # anthropic: 5 in, 25 out, 1.1x
        0.0825,  # (0.050 + 0.025) x 1.1
        "assumed_region",
    ),
    "one-hour write, unlisted: twice the input": (
        # bedrock: 3 in, 15 out
        ("aws.bedrock", "anthropic.claude-sonnet-4-20250514-v1:0", Usage(60_000, 1_000, None, 1_000, None, 1_000)),
        0.198,  # 59,000 x 3/M = 0.177; 1,000 x 6/M = 0.006; 0.015
        "assumed_1h_write",
    ),
    "OpenAI's write of twelve hours: 2.5 times the input": (
        ("openai", "gpt-6.1-sol", Usage(100_000, 1_000, cache_write=50_000, cache_write_12h=50_000)),
        0.36,  # 50,000 x 2/M = 0.10; 50,000 x 5/M = 0.25; 0.01
        "assumed_12h_write",
    ),
    "cached input without a listed rate: nothing saved": (
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::abc", Usage(10_000, 1_000, cache_read=5_000)),
        0.0042,
        "assumed_cache_read",
    ),
    "audio without a listed rate": (
        ("openai", "gpt-4o-audio-preview", Usage(10_000, 1_000, input_audio=1_000)),  # openai, text: 2.50 in, 10 out
        0.035,
        "assumed_input_audio",
    ),
    "a fee per call that depends on what is not told": (
        # docs.perplexity.ai/getting-started/pricing: 1 in, 1 out, 5 to 12 per 1,000 calls
        ("perplexity", "sonar", Usage(10_000, 1_000)),
        0.023,  # 0.010 + 0.001 + 0.012
        "assumed_variant",
    ),
    "images may hide in the output": (
        ("gcp.gemini", "gemini-2.5-flash-image", Usage(10_000, 1_000)),  # google: 0.30 in, 2.50 text out
        0.0055,
        "assumed_text_output",
    ),
    "a snapshot nobody lists": (("openai", "gpt-4o-2031-01-31", Usage(10_000, 1_000)), 0.035, "assumed_model"),
    "a region nobody lists": (
        ("aws.bedrock", "ca." + US_SONNET.removeprefix("us."), Usage(60_000, 1_000)),
        0.2145,
        "assumed_region",
    ),
    "output not reported": (("openai", "gpt-4o", Usage(10_000)), 0.025, "missing_usage"),
    "input not reported": (("openai", "gpt-4o", Usage(output=1_000, cache_read=8_000)), 0.02, "missing_usage"),
    "more cached than sent": (
        ("openai", "gpt-4o", Usage(10, 1, cache_read=100)),
        0.000135,  # 100 x 1.25/M + 1 x 10/M
        "inconsistent_usage",
    ),
    "longer writes than writes": (
        ("anthropic", SONNET, Usage(10_000, 0, None, 1_000, None, 2_000)),
        0.036,  # 8,000 x 3/M = 0.024; 2,000 x 6/M = 0.012
        "inconsistent_usage",
    ),
    "a negative count": (("openai", "gpt-4o", Usage(10_000, -5)), 0.025, "inconsistent_usage"),
    "more spoken than generated": (
        ("openai", "gpt-realtime", Usage(0, 100, output_audio=200)),
        0.0064,  # 100 x 64/M
        "inconsistent_usage",
    ),
}


@pytest.mark.parametrize("name", ESTIMATED)
def test_estimates_say_what_they_assume(price, name):
    """Where a rate or a count had to be assumed, the cost is the documented one, never negative, and marked."""
    (provider, model, usage, *tier), expected, basis = ESTIMATED[name]
    cost = price(provider, model, usage, tier=tier[0] if tier else Tier())
    assert cost.total == pytest.approx(expected, abs=1e-9)
    assert (cost.status, cost.basis) == ("estimated", basis)
    assert min(cost.input, cost.output, cost.cache_read, cost.cache_write) >= 0
    assert cost.input + cost.output + cost.cache_read + cost.cache_write == cost.total


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-9"),
        ("anthropic", "claude-opus-9"),
        ("gcp.gemini", "gemini-9-pro"),
        ("openai", "ft:gpt-4-2025-04-14:acme::abc"),  # the base model's price is not the fine-tune's
        ("openai", "ft:gpt-4o-mini:acme::abc"),
        ("azure.ai.openai", "my-gpt4o-prod"),
        ("aws.bedrock", "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcdefgh"),
        ("openrouter", "openai/gpt-9"),
        ("ollama", "llama3.3"),
        ("my-openai", "gpt-4o"),
        ("openai", "whisper-1"),  # sold by the hour
        ("openai", "gpt-4o" * 100),
        ("openai", ""),
        ("openai", None),
        ("openai", (None, None)),
    ],
)
def test_unknown_is_unpriced(price, provider, model):
    """What has no known price has no cost at all: not 0, and not that of a similar name."""
    cost = price(provider, model, Usage(10, 10))
    assert (cost.status, *cost[1:]) == ("unpriced", *[None] * 8)


def test_no_count_at_all_is_unpriced(price):
    """A known model with no known count costs something, and nobody knows what."""
    assert price("openai", "gpt-4o", Usage()).status == "unpriced"
    assert price("openai", "gpt-4o", Usage(0, 0)).total == 0.0


def test_old_calls_have_old_prices(price):
    """A call is priced at the rates of its day, and of its hour where those differ."""
    usage = Usage(10_000, 1_000)
    before = 1_746_000_000 * 10**9  # 30 April 2025: o3 was 10 in, 40 out, until 10 June
    assert price("openai", "o3", usage, at_ns=before).total == pytest.approx(0.14)
    assert price("openai", "o3", usage).total == pytest.approx(0.028)
    peak = AT - 5 * 3_600 * 10**9  # 07:00 UTC; api-docs.deepseek.com: 0.30 in, 1.20 out, and half of it off-peak
    assert price("deepseek", "deepseek-v4-flash", usage, at_ns=peak).total == pytest.approx(0.0042)
    assert price("deepseek", "deepseek-v4-flash", usage).total == pytest.approx(0.0021)
    saturday, hour = AT + 24 * 3_600 * 10**9, 3_600 * 10**9
    for hours in range(-12, 36):  # of which DeepSeek has no dearer ones
        cost = price("deepseek", "deepseek-v4-flash", usage, at_ns=saturday + hours * hour)
        assert cost.total == pytest.approx(0.0021), hours
    monday = saturday + 48 * hour
    assert price("deepseek", "deepseek-v4-flash", usage, at_ns=monday - 9 * hour).total == pytest.approx(0.0042)


def test_batch_before_the_list_knew_it_is_an_estimate(price):
    """The list's batch rates start in October 2026; a batch before that is half price, and says so."""
    cost = price("openai", "gpt-5", Usage(10_000, 1_000), tier=BATCH, at_ns=AT - 90 * 86_400 * 10**9)
    assert (cost.total, cost.basis) == (pytest.approx(0.01125), "assumed_batch")


def test_saved(price):
    """Reads save the difference to the plain rate; writes cost their premium, which can outweigh it."""
    assert price("openai", "gpt-4o", Usage(10_000, 10, 8_000)).saved == pytest.approx(0.01)  # 8,000 x 1.25/M
    assert price("anthropic", SONNET, Usage(10_000, 10, 0, 10_000)).saved == pytest.approx(-0.0075)  # 10,000 x 0.75/M
    # 20,000 x 2.70/M = 0.054 saved; 10,000 x 0.75/M = 0.0075 and 20,000 x 3/M = 0.06 more
    assert price("anthropic", SONNET, BOTH).saved == pytest.approx(-0.0135)
    assert price("openai", "gpt-4o", Usage(10_000, 10)).saved == 0.0


def test_a_callers_basis_wins(price):
    """Usage that the caller estimated makes an estimate, whatever the rates are."""
    cost = price("openai", "gpt-4o", Usage(10_000, 1_000), tier=BATCH, basis="abandoned_stream")
    assert (cost.status, cost.basis) == ("estimated", "abandoned_stream")


def test_ledgers_get_whole_nano_dollars():
    """A ledger's amount is the exact sum, rounded up: a thousandth of a nano-dollar counts as one."""
    book = PriceBook({"x/tiny": {"input": 0.000_001}})  # a thousandth of a nano-dollar per token
    assert book.cost_nano("anthropic", SONNET, BOTH, at_ns=AT) == 208_500_000
    assert book.cost_nano("x", "tiny", Usage(1, 0)) == 1
    assert book.cost_nano("x", "tiny", Usage(2_001, 0)) == 3
    assert book.cost_nano("openai", "gpt-9", Usage(1, 1)) is None


def test_a_reported_cost_keeps_the_proportions(price):
    """A provider's own figure is the total; the parts share it as the price list would."""
    cost = as_reported(price("openai", "gpt-4o", Usage(10_000, 1_000, 8_000)), 0.05)  # twice the list's 0.025
    assert cost.total == pytest.approx(0.05)
    assert cost[3:7] == pytest.approx((0.01, 0.02, 0.02, 0.0))
    assert as_reported(price("openai", "gpt-9", Usage(1, 1)), 0.05)[:4] == ("exact", None, 0.05, None)


def test_text_alone_is_charged_as_everything_is(monkeypatch):
    """The short way for text comes to what the long one does, whatever the counts are, also where they contradict."""
    import random

    from tokenguard.prices import rates as module

    pick = random.Random(7)
    known = [PriceBook().rates(*model) for model in (("openai", "gpt-4o-mini"), ("anthropic", "claude-sonnet-4-5"))]
    text = [*Usage._fields[: module.FIRST_MEDIUM], "output_image", "token_hours"]
    for _ in range(600):
        counts = {name: pick.choice((None, 0, 0, pick.randrange(-2, 2000))) for name in text[: module.FIRST_MEDIUM]}
        usage = Usage(**{**counts, "output_image": pick.choice((None, 0)), "token_hours": pick.choice((None, 0))})
        basis, rates = pick.choice((None, "missing_usage")), pick.choice(known)
        short = module.charge(rates, usage, basis)
        with monkeypatch.context() as patch:
            patch.setattr(module, "_text", lambda *_: None)
            assert short == module.charge(rates, usage, basis), usage


@pytest.mark.parametrize(
    ("provider", "model", "usage", "variant", "usd", "basis"),
    [
        ("x_ai", "grok-imagine-video", Usage(output_seconds=6), "720p", 0.42, "unchecked_price"),
        ("x_ai", "grok-imagine-video-1.5", Usage(output_seconds=6), "720p", 0.84, "unchecked_price"),
        ("x_ai", "grok-imagine-video-1.5-lite", Usage(output_seconds=6), "480p", 0.12, "unchecked_price"),
        ("aws.bedrock", "us.stability.stable-image-inpaint-v1:0", Usage(images=2), None, 0.14, None),
        ("voyage_ai", "voyage-multimodal-3.5", Usage(input=1_000_000), None, 0.12, None),
        ("voyage_ai", "voyage-multimodal-3.5", Usage(input=1_000, input_image=1_000), None, 336e-6, "unchecked_price"),
        ("openai", "container", Usage(request=2), "1g", 0.06, None),
        ("openai", "container", Usage(request=2), "4g", 0.24, "unchecked_price"),
        ("azure.ai.openai", "container", Usage(request=2), "1g", 0.066, None),
        ("aws.bedrock", "amazon.titan-embed-image-v1", Usage(input=1_000_000, images=2), None, 0.80012, None),
        ("aws.bedrock", "amazon.titan-embed-image-v1", Usage(images=2), None, 0.00012, None),
        ("aws.bedrock", "cohere.embed-english-v3", Usage(input=1_000_000), None, 0.1, None),
        ("aws.bedrock", "cohere.embed-english-v3", Usage(input=1_000, images=1), None, 0.0002, "unchecked_price"),
        ("aws.bedrock", "global.cohere.embed-v4:0", Usage(input=1_000_000), None, 0.12, None),
        ("aws.bedrock", "cohere.embed-v4:0", Usage(input=1_000, input_image=1_000), None, 0.00047, "unchecked_price"),
    ],
)
def test_units(price, provider, model, usage, variant, usd, basis):
    """What litellm's table confirms is exact, of a row with several prices each for itself; the rest is an estimate."""
    cost = price(provider, model, usage, tier=Tier(variant=variant))
    assert (cost.total, cost.basis) == (pytest.approx(usd, abs=1e-9), basis)


@pytest.mark.parametrize(
    ("provider", "model", "usd", "basis"),
    [
        ("openai", "gpt-5", 0.01, None),
        ("openai", "gpt-4.1", 0.01, "unchecked_price"),
        ("azure.ai.openai", "gpt-5", 0.014, "assumed_global"),
        ("anthropic", "claude-sonnet-5", 0.01, None),
        ("gcp.vertex_ai", "claude-opus-4-6", 0.01, None),
        ("gcp.gemini", "gemini-3-flash-preview", 0.014, "free_quota"),
    ],
)
def test_searches(price, provider, model, usd, basis):
    """A search has the price of who runs it; where the lists have two, it is an estimate."""
    cost = price(provider, model, Usage(1_000, 100, web_searches=2))
    assert (cost.tools, cost.basis) == (pytest.approx(2 * usd), basis)


M = 1_000_000


@pytest.mark.parametrize(
    ("model", "usage", "usd", "basis"),
    [
        ("ft:gpt-4.1-2025-04-14:org::id", Usage(M, M), 15.0, None),
        ("ft:gpt-4.1-2025-04-14:org:suffix:id", Usage(M, 0, cache_read=M), 0.75, None),
        ("ft:gpt-4.1-mini-2025-04-14:org::id", Usage(M, M), 4.0, None),
        ("ft:gpt-4.1-nano-2025-04-14:org::id", Usage(M, M), 1.0, None),
        ("ft:o4-mini-2025-04-16:org::id", Usage(M, M), 20.0, None),
    ],
)
def test_tuned_models(price, model, usage, usd, basis):
    """Models that somebody has tuned have rates of their own, with the rates of their batches."""
    cost = price("openai", model, usage)
    assert (cost.total, cost.basis) == (pytest.approx(usd), basis)
    half = price("openai", model, usage, tier=Tier(service="batch"))
    assert (half.total, half.basis) == (pytest.approx(usd / 2), "assumed_batch")


def test_other_tuned_models_have_no_price(price):
    """A tuned model never has the price of the one that it was made of."""
    assert price("openai", "ft:gpt-4.1-next:org::id", Usage(M, M)).total is None
    assert price("openai", "ft:gpt-9:org::id", Usage(M, M)).total is None


@pytest.mark.parametrize(
    ("model", "usage", "host", "usd", "basis"),
    [
        ("qwen3-max", Usage(32_000, 1_000), "dashscope-intl.aliyuncs.com", 0.0444, None),
        ("qwen3-max", Usage(32_001, 1_000), "dashscope-intl.aliyuncs.com", 0.0888024, None),
        ("qwen3-max", Usage(200_000, 1_000), "dashscope-intl.aliyuncs.com", 0.615, None),
        ("qwen3.7-plus", Usage(300_000, 1_000), "dashscope-intl.aliyuncs.com", 0.3648, None),
        ("qwen3.7-plus", Usage(10_000, 0, cache_read=10_000), "dashscope-intl.aliyuncs.com", 0.0008, "unchecked_price"),
        ("qwen-plus", Usage(10_000, 1_000), "dashscope-intl.aliyuncs.com", 0.0052, "unchecked_price"),
        ("qwen3-max", Usage(32_000, 1_000), "dashscope.aliyuncs.com", 0.0444, "assumed_region"),
        ("qwen3-max", Usage(32_000, 1_000), "dashscope-us.aliyuncs.com", 0.0444, "assumed_region"),
        ("qwen-flash-2025-07-28", Usage(10_000, 1_000), "dashscope-intl.aliyuncs.com", 0.0009, "assumed_model"),
    ],
)
def test_alibaba(price, model, usage, host, usd, basis):
    """What Qwen costs in Singapore, by the length of the input; elsewhere, and where answers tell too little, about."""
    cost = price("alibaba", model, usage, tier=Tier(geo=geo_of(host)))
    assert (cost.total, cost.basis) == (pytest.approx(usd), basis)
    assert price("alibaba", "qwen-next", usage).total is None


def test_azure_deployment(price):
    """It is priced by the model that answered, as Global: whether it is, nobody tells.

    https://azure.microsoft.com/pricing/details/cognitive-services/openai-service, $2.50 and $10.
    """
    cost = price("azure.ai.openai", ("gpt-4o-2024-08-06", "my-deployment"), Usage(10_000, 1_000))
    assert (cost.total, cost.basis) == (pytest.approx(0.035), "assumed_global")


def test_tools_and_regions_of_grok(price):
    """xAI's searches, and its endpoint in the US, have their prices where an answer does not tell its cost.

    https://docs.x.ai/developers/pricing
    """

    def cost(usage, host="api.x.ai"):
        return price("x_ai", "grok-4", usage, tier=Tier(geo=geo_of(host)))

    plain = cost(Usage(1_000, 100))
    assert cost(Usage(1_000, 100, web_searches=2, file_searches=1)).tools == pytest.approx(0.0125)
    assert cost(Usage(1_000, 100), "us-east-1.api.x.ai").total == pytest.approx(plain.total * 1.1)
    assert cost(Usage(1_000, 100), "eu-west-1.api.x.ai") == plain
