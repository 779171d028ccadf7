"""A simulated provider over HTTP, a client of it, and policies that calls are put under."""

from __future__ import annotations

import openai
import pytest

from tokenguard.demo.provider import SimulatedProvider


@pytest.fixture(scope="module")
def running():
    with SimulatedProvider() as provider:
        yield provider


@pytest.fixture
def provider(running):
    """The provider of the module, as new."""
    running.requests.clear()
    yield running
    running.faults._script.clear()


@pytest.fixture
def client(provider):
    with openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=0) as client:
        yield client


@pytest.fixture
def under(under, tmp_path):
    """Put the calls under a policy: `under('''toml''')` returns the guard."""
    file = str(tmp_path / "tokenguard.toml")
    return lambda text, url="memory:": under(f'[ledger]\nurl = "{url}"\n{text}', file)
