"""Frameworks that hold realtime sessions, each with a websocket client of its own: the provider's own count."""

from __future__ import annotations

import asyncio

import pytest

import connections
import tokenguard
from tokenguard import policy

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
pytest.importorskip("websockets.asyncio.client")

from tokenguard.demo.realtime_api import SimulatedRealtime  # noqa: E402

HOSTS = '[hosts]\n"127.0.0.1" = "openai"\n'


@pytest.fixture
def server(installed, monkeypatch):
    tokenguard.install(policy.loads(HOSTS))
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with SimulatedRealtime() as running:
        yield running
    tokenguard.install(policy.Policy())


async def answered(server, responses=1):
    """Until the provider has billed so many, and they were read."""
    for _ in range(500):
        if len(server.billed) >= responses:
            await asyncio.sleep(0.1)
            return
        await asyncio.sleep(0.01)
    raise AssertionError(server.received)


def as_billed(server, records):
    """Each response is a call with the usage that the provider has billed."""
    assert [(r.usage.input, r.usage.output) for r in records] == [(b.input, b.output) for b in server.billed]
    assert all(record.cost.status == "exact" for record in records)
    assert {record.model for record in records} == {"gpt-realtime"}
    assert len(records) >= 1


def test_openai_agents(server, installed, spans):
    """openai-agents' realtime agents, by `websockets`."""
    realtime = pytest.importorskip("agents.realtime")

    async def work():
        model = realtime.OpenAIRealtimeWebSocketModel()
        config = {
            "url": server.url.replace("http", "ws") + "/realtime?model=gpt-realtime",
            "api_key": "k",
            "initial_model_settings": {"model_name": "gpt-realtime"},
        }
        runner = realtime.RealtimeRunner(realtime.RealtimeAgent(name="a", instructions="Be brief."), model=model)
        async with await runner.run(model_config=config) as session:
            await session.send_message("A coat?")
            await answered(server)

    connections.run(asyncio.wait_for(work(), 30))
    as_billed(server, installed.records)
    assert spans.all()[-1].name == "realtime gpt-realtime"


def test_pydantic_ai(server, installed, monkeypatch):
    """pydantic-ai's realtime sessions, by `websockets`."""
    pytest.importorskip("pydantic_ai.realtime.openai")
    from pydantic_ai import Agent
    from pydantic_ai.providers.openai import OpenAIProvider
    from pydantic_ai.realtime.openai import OpenAIRealtimeModel

    async def work():
        model = OpenAIRealtimeModel("gpt-realtime", provider=OpenAIProvider(base_url=server.url, api_key="k"))
        async with Agent(instructions="Be brief.").realtime(model).session() as session:
            await session.send("A coat?")
            await answered(server)

    connections.run(asyncio.wait_for(work(), 30))
    as_billed(server, installed.records)


def test_pipecat(server, installed):
    """Pipecat's service, by `websockets`."""
    llm = pytest.importorskip("pipecat.services.openai.realtime.llm")
    from pipecat.frames.frames import LLMContextFrame
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.runner import PipelineRunner
    from pipecat.pipeline.task import PipelineTask
    from pipecat.processors.aggregators.llm_context import LLMContext

    async def work():
        service = llm.OpenAIRealtimeLLMService(
            api_key="k",
            base_url=server.url.replace("http", "ws") + "/realtime",
            settings=llm.OpenAIRealtimeLLMService.Settings(model="gpt-realtime"),
        )
        task = PipelineTask(Pipeline([service]))
        running = asyncio.ensure_future(PipelineRunner(handle_sigint=False).run(task))
        await task.queue_frame(LLMContextFrame(LLMContext([{"role": "user", "content": "A coat?"}])))
        await answered(server)
        await task.cancel()
        await asyncio.wait([running], timeout=5)

    connections.run(asyncio.wait_for(work(), 30))
    as_billed(server, installed.records)


def test_livekit(server, installed):
    """LiveKit's sessions, by aiohttp."""
    openai = pytest.importorskip("livekit.plugins.openai")
    aiohttp = pytest.importorskip("aiohttp")

    async def work():
        async with aiohttp.ClientSession() as client:
            model = openai.realtime.RealtimeModel(
                model="gpt-realtime", base_url=server.url, api_key="k", http_session=client
            )
            session = model.session()
            asked = asyncio.ensure_future(session.generate_reply(instructions="A coat?"))
            await answered(server)
            asked.cancel()
            await session.aclose()

    connections.run(asyncio.wait_for(work(), 30))
    as_billed(server, installed.records)
