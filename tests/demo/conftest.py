"""A simulated provider, and the real SDKs' clients for it."""

from __future__ import annotations

import anthropic
import openai
import pytest

from tokenguard.demo.provider import SimulatedProvider

LONG = " ".join(f"Rule {n}: be exact about item {n * 7}." for n in range(260))
"""A system prompt of some 3,000 tokens."""


@pytest.fixture
def provider():
    with SimulatedProvider() as running:
        yield running


@pytest.fixture
def chat(provider):
    """An OpenAI client that does not retry."""
    with openai.OpenAI(base_url=provider.openai_url, api_key="sk-simulated", max_retries=0) as client:
        yield client


@pytest.fixture
def claude(provider):
    """An Anthropic client that does not retry."""
    with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="sk-ant-simulated", max_retries=0) as client:
        yield client


def says(text):
    """Messages with one question."""
    return [{"role": "user", "content": text}]


def pytest_ignore_collect(collection_path, config):
    """Budgets need the plugin: with `-p no:tokenguard`, their marker is unknown."""
    if collection_path.name == "test_budgets.py" and not config.pluginmanager.hasplugin("tokenguard"):
        return True
    return None
