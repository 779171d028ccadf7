"""The demo's application under budgets of its own: what each of its features may spend on one request."""

from __future__ import annotations

import anthropic
import openai
import pytest

from tokenguard.demo import workload
from tokenguard.demo.documents import QUESTIONS, TICKETS
from tokenguard.demo.provider import SimulatedProvider


@pytest.fixture(scope="module")
def warm():
    """A provider whose cache holds the handbook already, as it does after the first request of the day."""
    with SimulatedProvider() as provider:
        with openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
            client.chat.completions.create(
                model="gpt-4o",
                messages=[{"role": "system", "content": workload.HANDBOOK}, {"role": "user", "content": "Hello."}],
                max_completion_tokens=100,
            )
        yield provider


@pytest.fixture
def chat(warm):
    with openai.OpenAI(base_url=warm.openai_url, api_key="k") as client:
        yield client


@pytest.fixture
async def async_chat(warm):
    async with openai.AsyncOpenAI(base_url=warm.openai_url, api_key="k") as client:
        yield client


@pytest.mark.token_budget(max_cost_usd=0.012, max_calls=3, min_cache_hit="90%")
async def test_a_ticket_is_resolved(async_chat):
    """Three turns on one ticket; the handbook comes from the cache."""
    await workload.support_chat(async_chat, "acme", TICKETS[0], "v14")


async def test_the_clock_costs_the_cache(async_chat, tokenguard):
    """The prompt that begins with the time costs half as much again for the same ticket."""
    await workload.support_chat(async_chat, "acme", TICKETS[0], "v14")
    good = tokenguard.cost_usd
    await workload.support_chat(async_chat, "acme", TICKETS[0], "v13")
    assert tokenguard.cost_usd - good > 1.5 * good
    assert tokenguard.records[-1].usage.cache_read == 0


@pytest.mark.token_budget(max_cost_usd=0.0003, max_input_tokens=600, max_output_tokens=150)
def test_an_answer_from_five_chunks(chat):
    """A question costs no more than five chunks and a sentence."""
    workload.answer_question(chat, "acme", QUESTIONS[0], 5)


@pytest.mark.token_budget(max_cost_usd=0.005, max_tool_steps=4)
def test_an_order_is_found(chat):
    """The agent finds the order in a few rounds."""
    workload.orders_agent(chat, "acme", "Find the order with the doorbell.", finds=True)


@pytest.mark.token_budget(max_cost_usd=0.02, max_tool_steps=4, min_cache_hit="50%")
def test_the_stock_is_checked(warm):
    """The other agent caches its growing history."""
    with anthropic.Anthropic(base_url=warm.anthropic_url, api_key="k") as client:
        workload.stock_agent(client, "initech", "Can NW-20817 leave today?")


@pytest.mark.token_budget(max_cost_usd=0.0001, max_retries=2)
def test_a_record_is_extracted(warm):
    """Two refusals are borne, and paid for once."""
    warm.fail_next(429, times=2, retry_after=0.01)
    with openai.OpenAI(base_url=warm.openai_url, api_key="k", max_retries=0) as client:
        workload.extract(client, "acme", TICKETS[0])
