"""A simulated provider with the batch APIs, and the real SDKs' clients for it."""

from __future__ import annotations

import json

import anthropic
import openai
import pytest

from tokenguard.demo.provider import SimulatedProvider

MODEL = "gpt-4o-mini"
"""USD 0.15 and 0.60 per million tokens, and half of that in batches (https://openai.com/api/pricing)."""
CLAUDE = "claude-haiku-4-5"
"""USD 1 and 5 per million tokens, and half of that in batches (https://platform.claude.com/docs)."""


@pytest.fixture
def provider():
    with SimulatedProvider() as running:
        yield running


@pytest.fixture
def client(provider):
    with openai.OpenAI(base_url=provider.openai_url, api_key="sk-simulated", max_retries=0) as made:
        yield made


@pytest.fixture
def claude(provider):
    with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="sk-ant-simulated", max_retries=0) as made:
        yield made


def line(n, model=MODEL, max_tokens=20, text=None, **more):
    """A line of OpenAI's input file."""
    body = {"model": model, "max_tokens": max_tokens, "messages": [{"role": "user", "content": text or f"Say {n}."}]}
    return {"custom_id": f"r{n}", "method": "POST", "url": "/v1/chat/completions", "body": {**body, **more}}


def request(n, model=CLAUDE, max_tokens=20):
    """A request of Anthropic's."""
    params = {"model": model, "max_tokens": max_tokens, "messages": [{"role": "user", "content": f"Say {n}."}]}
    return {"custom_id": f"a{n}", "params": params}


def text_of(lines):
    return "\n".join(map(json.dumps, lines)).encode()


def create(client, lines, **more):
    """Upload the lines and create a batch of them."""
    file = client.files.create(file=("input.jsonl", text_of(lines)), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", **more
    )


def finished(client, batch):
    """The batch once it has ended."""
    while (batch := client.batches.retrieve(batch.id)).status in ("validating", "in_progress"):
        pass
    return batch


def hand(usage, of=MODEL):
    """What tokens cost in a batch, by hand."""
    rates = {MODEL: (0.075, 0.30), CLAUDE: (0.5, 2.5)}[of]
    return (usage.input * rates[0] + usage.output * rates[1]) / 1e6
