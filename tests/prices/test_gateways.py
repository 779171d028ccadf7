"""A model that a gateway passes on is priced as who may sell it does, however the gateway spells that: an estimate."""

from __future__ import annotations

import pytest

from tokenguard.facts.usage import Usage
from tokenguard.prices import PriceBook

SOME = Usage(10_000, 1_000)
GPT_4O = 0.035  # 10,000 x 2.50 + 1,000 x 10
PASSED_ON = [
    ("litellm", "openai/gpt-4o", GPT_4O),
    ("litellm", "azure/gpt-4o", GPT_4O),
    ("unknown", "vertex_ai/gemini-2.5-flash", 0.0055),
    ("litellm", "gemini/gemini-2.5-flash", 0.0055),
    ("litellm", "groq/llama-3.3-70b-versatile", 0.00669),
    ("litellm", "openrouter/anthropic/claude-sonnet-4", 0.045),
    ("litellm", "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", 0.0495),  # of a region: a tenth more
    ("portkey", "@openai-prod/gpt-4o", GPT_4O),
    ("portkey", "@anthropic-eu/claude-sonnet-4-5", 0.045),
    ("cloudflare", "google-ai-studio/gemini-2.5-flash", 0.0055),
    ("cloudflare", "grok/grok-4", 0.045),
    ("vercel", "xai/grok-4", 0.045),
    ("vercel", "anthropic/claude-sonnet-4.5", 0.045),
    ("helicone", "gpt-4o/openai", GPT_4O),
    ("helicone", "gpt-4o/azure,gpt-4o-mini/openai", GPT_4O),
]


@pytest.mark.parametrize(("provider", "model", "usd"), PASSED_ON, ids=[f"{by} {name}" for by, name, _ in PASSED_ON])
def test_passed_on(provider, model, usd, price):
    """By any name, and so a budget has a worst case before the call is sent."""
    cost = price(provider, (model,), SOME)
    assert (cost.total, cost.status, cost.basis) == (pytest.approx(usd), "estimated", "assumed_provider")
    assert PriceBook().worst_case_nano(provider, model, 10_000, 1_000) >= usd * 1e9


@pytest.mark.parametrize(
    "model", ["TheBloke/gpt-4o-clone", "mistralai/Mistral-7B-Instruct-v0.2", "azure/my-deployment", "@", "/", "openai/"]
)
def test_nobody_sells_it(model, price):
    """What somebody made of a model, or a name that says nothing, has no price."""
    assert price("unknown", (model,), SOME).total is None


def test_a_seller_of_models_is_no_gateway(price):
    """What looks like a gateway's name is another model where the provider sells its own."""
    assert price("openai", ("azure/gpt-4o",), SOME).total is None
