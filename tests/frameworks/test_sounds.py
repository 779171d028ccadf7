"""Frameworks that speak, listen and draw through the SDKs: the provider's own count, as for words."""

from __future__ import annotations

import pytest

import connections
import tokenguard
from tokenguard.demo.provider import SimulatedProvider

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


@pytest.fixture
def provider(monkeypatch):
    with SimulatedProvider() as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.openai_url)
        monkeypatch.setenv("OPENAI_API_BASE", running.openai_url)
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        yield running


def test_agents_that_listen_and_speak(provider, installed):
    """openai-agents' voice: a transcript and a speech are calls with their own operations, and what was billed."""
    pytest.importorskip("agents")
    numpy = pytest.importorskip("numpy")
    voice = pytest.importorskip("agents.voice")
    openai = pytest.importorskip("openai")

    async def work():
        async with openai.AsyncOpenAI() as client:
            heard = voice.OpenAISTTModel("gpt-4o-mini-transcribe", client)
            sound = voice.AudioInput(buffer=numpy.zeros(24_000, dtype=numpy.int16))
            await heard.transcribe(sound, voice.STTModelSettings(), False, False)
            spoken = voice.OpenAITTSModel("gpt-4o-mini-tts", client)
            return [piece async for piece in spoken.run("Three are in stock.", voice.TTSModelSettings())]

    assert connections.run(work())
    heard, spoken = installed.records
    assert heard.attributes["gen_ai.operation.name"] == "transcription"
    assert heard.usage.input == provider.requests[0].billed.input > 0
    assert heard.cost.status == "exact"
    assert spoken.attributes["gen_ai.operation.name"] == "speech"
    assert spoken.attributes["tokenguard.usage.characters"] == len("Three are in stock.")
    assert spoken.cost_usd > 0


def test_a_tool_that_draws(provider, installed):
    """langchain's DALL-E wrapper: one picture, $0.04, and a budget that is spent lets none out."""
    drawing = pytest.importorskip("langchain_community.utilities.dalle_image_generator")
    tool = drawing.DallEAPIWrapper(model="dall-e-3", size="1024x1024")
    assert tool.run("A coat")
    (record,) = installed.records
    assert record.attributes["gen_ai.operation.name"] == "image_generation"
    assert record.attributes["tokenguard.usage.images"] == provider.requests[0].billed.images == 1
    assert record.cost_usd == pytest.approx(0.04)
    refusing = '[[budget]]\nname = "b"\nlimit_usd = 0.0\n[ledger]\nurl = "memory:"\n[hosts]\n"127.0.0.1" = "sdk"\n'
    tokenguard.install(tokenguard.policy.loads(refusing))
    with pytest.raises(tokenguard.BudgetExceeded):
        tool.run("A coat")
    assert len(provider.requests) == 1
