"""Prices: hand-worked cases, with their arithmetic. Rates are USD per million tokens, from the providers' price pages."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime

import pytest

from tokenguard.errors import PolicyError
from tokenguard.prices import NANO, PriceBook, Tier, nano
from tokenguard.usage import Usage

AT = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()) * NANO
M = 1_000_000


def cost(provider, model, usage, *, book=None, **options):
    models = model if isinstance(model, tuple) else (model,)
    return (book or PriceBook()).cost(provider, models, usage, at_ns=AT, **options)


SONNET = "claude-sonnet-4-5-20250929"  # 3 in, 0.30 read, 3.75 write, 6 write for an hour, 15 out

CASES = {
    "plain input and output": (
        ("openai", "gpt-4.1-mini", Usage(input=10_000, output=1_000)),  # 0.40 in, 1.60 out
        (10_000 * 0.40 + 1_000 * 1.60) / M,  # 0.004 + 0.0016 = 0.0056
    ),
    "OpenAI cached input at half": (
        ("openai", "gpt-4o", Usage(input=10_000, output=1_000, cache_read=8_000)),  # 2.50 in, 1.25 cached, 10 out
        (2_000 * 2.50 + 8_000 * 1.25 + 1_000 * 10) / M,  # 0.005 + 0.010 + 0.010 = 0.025
    ),
    "OpenAI cached input at the model's own tenth": (
        ("openai", "gpt-5", Usage(input=10_000, output=1_000, cache_read=8_000)),  # 1.25 in, 0.125 cached, 10 out
        (2_000 * 1.25 + 8_000 * 0.125 + 1_000 * 10) / M,  # 0.0025 + 0.001 + 0.010 = 0.0135
    ),
    "Anthropic read and five-minute write": (
        ("anthropic", SONNET, Usage(input=60_000, output=1_000, cache_read=20_000, cache_write=30_000)),
        (10_000 * 3 + 20_000 * 0.30 + 30_000 * 3.75 + 1_000 * 15) / M,  # 0.03 + 0.006 + 0.1125 + 0.015 = 0.1635
    ),
    "Anthropic read and writes of both lifetimes in one call": (
        (
            "anthropic",
            SONNET,
            Usage(input=60_000, output=1_000, cache_read=20_000, cache_write=30_000, cache_write_1h=20_000),
        ),
        (10_000 * 3 + 20_000 * 0.30 + 10_000 * 3.75 + 20_000 * 6 + 1_000 * 15) / M,  # 0.2085
    ),
    "reasoning is output, once": (
        ("openai", "o3", Usage(input=10_000, output=5_000, reasoning=4_000)),  # 2 in, 8 out
        (10_000 * 2 + 5_000 * 8) / M,  # 0.02 + 0.04 = 0.06
    ),
    "below Gemini's cliff": (
        ("gcp.gemini", "gemini-2.5-pro", Usage(input=200_000, output=1_000)),  # 1.25 in, 10 out
        (200_000 * 1.25 + 1_000 * 10) / M,  # 0.26
    ),
    "past Gemini's cliff every token is dearer": (
        ("gcp.gemini", "gemini-2.5-pro", Usage(input=250_000, output=1_000)),  # 2.50 in, 15 out
        (250_000 * 2.50 + 1_000 * 15) / M,  # 0.625 + 0.015 = 0.64
    ),
    "regional and dated Bedrock id, with the regional premium of a tenth": (
        ("aws.bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", Usage(input=60_000, output=1_000)),
        (60_000 * 3.30 + 1_000 * 16.50) / M,  # 0.198 + 0.0165 = 0.2145
    ),
    "Bedrock inference profile by ARN": (
        (
            "aws.bedrock",
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            Usage(input=60_000, output=1_000),
        ),
        (60_000 * 3.30 + 1_000 * 16.50) / M,
    ),
    "Vertex spelling of a Claude": (
        ("gcp.vertex_ai", "claude-sonnet-4-5@20250929", Usage(input=1_000, output=1_000)),
        (1_000 * 3 + 1_000 * 15) / M,
    ),
    "fine-tune at the fine-tuned rate": (
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::abc", Usage(input=10_000, output=1_000)),  # 0.30 in, 1.20 out
        (10_000 * 0.30 + 1_000 * 1.20) / M,  # 0.0042
    ),
    "Azure deployment priced by the model that answered": (
        ("azure.ai.openai", ("gpt-4o-2024-08-06", "my-deployment"), Usage(input=10_000, output=1_000)),
        (10_000 * 2.50 + 1_000 * 10) / M,  # 0.035
    ),
    "embeddings have no output": (
        ("openai", "text-embedding-3-small", Usage(input=10_000)),  # 0.02
        10_000 * 0.02 / M,  # 0.0002
    ),
    "OpenRouter's own name": (
        ("openrouter", "openai/gpt-4o:nitro", Usage(input=1_000, output=100)),
        (1_000 * 2.50 + 100 * 10) / M,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_hand_worked(name):
    """The cost is right to a billionth of a dollar, exact, and its parts sum to it."""
    (provider, model, usage), expected = CASES[name]
    got = cost(provider, model, usage)
    assert got.total == pytest.approx(expected, abs=1e-9)
    assert (got.status, got.basis) == ("exact", None)
    assert got.input + got.output + got.cache_read + got.cache_write == got.total


TIERS = {
    # https://developers.openai.com/api/docs/pricing: gpt-5 flex 0.625 in, 5 out; priority 2.50 in, 20 out
    "flex": (("openai", "gpt-5", Tier("flex")), (1_000 * 0.625 + 100 * 5) / M, None),
    "priority": (("openai", "gpt-5", Tier("priority")), (1_000 * 2.50 + 100 * 20) / M, None),
    "batch": (("openai", "gpt-5", Tier("batch")), (1_000 * 0.625 + 100 * 5) / M, None),
    "Anthropic batch": (("anthropic", SONNET, Tier("batch")), (1_000 * 1.50 + 100 * 7.50) / M, None),
    "default is the standard": (("openai", "gpt-5", Tier("default")), (1_000 * 1.25 + 100 * 10) / M, None),
    # The price book lists no batch rates for Azure: half the standard is assumed, and said.
    "assumed": (("azure.ai.openai", "gpt-4o", Tier("batch")), (1_000 * 1.25 + 100 * 5) / M, "assumed_batch"),
}


@pytest.mark.parametrize("name", TIERS)
def test_tiers(name):
    """Batch, flex and priority have their own rates; where the book has none, the assumption is marked."""
    (provider, model, tier), expected, basis = TIERS[name]
    got = cost(provider, model, Usage(input=1_000, output=100), tier=tier)
    assert got.total == pytest.approx(expected, abs=1e-9)
    assert (got.status, got.basis) == ("estimated" if basis else "exact", basis)


def test_derived_write_rates_are_estimates():
    """A lifetime that the price book has no rate for costs the documented multiple, and says so."""
    usage = Usage(input=60_000, output=1_000, cache_write=1_000, cache_write_1h=1_000)
    got = cost("aws.bedrock", "anthropic.claude-sonnet-4-20250514-v1:0", usage)  # 3 in; an hour at 2x = 6; 15 out
    assert got.total == pytest.approx((59_000 * 3 + 1_000 * 6 + 1_000 * 15) / M, abs=1e-9)
    assert (got.status, got.basis) == ("estimated", "assumed_cache_write_1h")


def test_saved():
    """Reads save the difference to the plain rate; writes cost their premium, which can outweigh it."""
    got = cost("openai", "gpt-4o", Usage(input=10_000, output=10, cache_read=8_000))
    assert got.saved == pytest.approx(8_000 * (2.50 - 1.25) / M, abs=1e-12)  # 0.01
    got = cost("anthropic", SONNET, Usage(input=10_000, output=10, cache_write=10_000))
    assert got.saved == pytest.approx(10_000 * (3 - 3.75) / M, abs=1e-12)  # -0.0075


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "gpt-9"), ("anthropic", "claude-opus-9"), ("azure.ai.openai", "my-deployment"), ("nobody", "x")],
)
def test_unknown_is_unpriced(provider, model):
    """An unknown model, or provider, has no cost at all: not 0, and not that of a similar name."""
    got = cost(provider, model, Usage(input=10, output=10))
    assert (got.status, got.total, got.saved) == ("unpriced", None, None)


def test_no_model_name():
    """A call that never named a model is unpriced."""
    assert cost("openai", (None, None), Usage(input=1)).status == "unpriced"
    assert cost("openai", "m" * 100_000, Usage(input=1)).status == "unpriced"


def test_overrides():
    """The first match wins, an alias is priced like its target, and a table is used as it is."""
    book = PriceBook(
        {
            "azure/my-gpt4o-*": "openai/gpt-4o",
            "openai/ft:gpt-4.1:*": {"input": 3.0, "output": 12.0, "cache_read": 0.75},
            "openai/*": {"input": 1.0},
        }
    )
    usage = Usage(input=10_000, output=1_000, cache_read=4_000)
    assert cost("azure.ai.openai", "my-gpt4o-prod", usage, book=book).total == pytest.approx(
        (6_000 * 2.50 + 4_000 * 1.25 + 1_000 * 10) / M
    )
    tuned = cost("openai", "ft:gpt-4.1:acme::x", usage, book=book)
    assert tuned.total == pytest.approx((6_000 * 3 + 4_000 * 0.75 + 1_000 * 12) / M)
    assert tuned.status == "exact"
    assert cost("openai", "gpt-4o", Usage(input=10), book=book).total == pytest.approx(10 / M)
    price = book.price("azure.ai.openai", ("my-gpt4o-prod",), at_ns=AT)
    assert price is not None
    assert price.source.startswith('override "azure/my-gpt4o-*" = "openai/gpt-4o", genai-prices')


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"gpt-4o": "openai/gpt-4o"}, 'the key is "provider/model"'),
        ({"azure/x": "gpt-4o"}, 'the value is "provider/model"'),
        ({"azure/x": {"inptu": 1.0}}, 'unknown rate "inptu"; known are input'),
        ({"azure/x": {"input": -1}}, "input = -1 is no rate"),
        ({"azure/x": {"input": float("nan")}}, "is no rate"),
        ({"azure/x": {"output": 1.0}}, '"input" is missing'),
    ],
)
def test_bad_overrides(overrides, said):
    """An override that means nothing is refused with its key, its value and the fix."""
    with pytest.raises(PolicyError, match=said.replace("(", r"\(")):
        PriceBook(overrides)


def test_inconsistent_usage():
    """More cached tokens than input is never a negative cost; it is an estimate that says why."""
    got = cost("openai", "gpt-4o", Usage(input=10, output=1, cache_read=100))
    assert got.total == pytest.approx((100 * 1.25 + 10) / M)
    assert (got.status, got.basis) == ("estimated", "inconsistent_usage")


def test_audio_parts():
    """Audio tokens are charged at the audio rates of the model."""
    usage = Usage(input=1_000, output=500, input_audio=400, output_audio=300)
    got = cost("openai", "gpt-realtime", usage)  # 4 text in, 32 audio in, 16 text out, 64 audio out
    assert got.total == pytest.approx((600 * 4 + 400 * 32 + 200 * 16 + 300 * 64) / M, abs=1e-9)


def test_memory_is_bounded():
    """Ten thousand invented model names leave neither our cache nor the price book's own caches grown."""
    from genai_prices.data_snapshot import get_snapshot

    book = PriceBook()
    snapshot = get_snapshot()
    before = len(snapshot._lookup_cache) + len(snapshot._provider_misses) + len(snapshot._provider_cache)
    rng = random.Random(7)
    for _ in range(300):
        cost("openai", f"model-{rng.random()}", Usage(input=1), book=book)
    for _ in range(10_000 - 300):
        book._resolve("nobody", (f"model-{rng.random()}",), Tier(), 0)
    assert book._resolve.cache_info().currsize <= 1024
    after = len(snapshot._lookup_cache) + len(snapshot._provider_misses) + len(snapshot._provider_cache)
    assert after == before


def test_threads_agree():
    """Many threads pricing at once get one answer."""
    book = PriceBook()
    seen = set()

    def work():
        for _ in range(50):
            seen.add(cost("openai", "gpt-4o", Usage(input=1_000, output=10), book=book).total)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 1
    assert seen.pop() == pytest.approx((1_000 * 2.50 + 10 * 10) / M)


def test_worst_case_bounds_the_cost():
    """The worst case is never below the cost of any usage within its token counts."""
    book = PriceBook()
    rng = random.Random(3)
    for provider, model in [("anthropic", SONNET), ("openai", "gpt-4o"), ("gcp.gemini", "gemini-2.5-pro")]:
        price = book.price(provider, (model,), at_ns=AT)
        assert price is not None
        for _ in range(200):
            sent, generated = rng.randrange(400_000), rng.randrange(10_000)
            read = rng.randrange(sent + 1)
            written = rng.randrange(sent - read + 1)
            usage = Usage(sent, generated, read, written, cache_write_1h=rng.randrange(written + 1))
            assert cost(provider, model, usage, book=book).total <= book.worst_case(price, sent, generated) + 1e-12


def test_nano_rounds_up():
    """Ledgers never lose a fraction: nano-dollars are rounded up, but not for a float's last bit."""
    assert nano(0.1635) == 163_500_000
    assert nano(0.1 + 0.2) == 300_000_000
    assert nano(1e-10) == 1
