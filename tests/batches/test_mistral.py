"""mistralai's batches: jobs of a file, and of requests that are in the job's creation."""

from __future__ import annotations

import asyncio
import json

import pytest

client_module = pytest.importorskip("mistralai.client")

import tokenguard  # noqa: E402 - only where it is installed
from tokenguard import BudgetExceeded, policy  # noqa: E402

pytestmark = [  # the SDK leaves its clients to the collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MODEL = "mistral-medium-2505"
"""USD 0.4 and 2 per million tokens, and half of that in batches (https://mistral.ai/pricing)."""


def lines(count):
    body = {"max_tokens": 20, "messages": [{"role": "user", "content": "Say it."}]}
    return [{"custom_id": f"m{n}", "body": body} for n in range(count)]


def create(client, count):
    content = "\n".join(map(json.dumps, lines(count))).encode()
    file = client.files.upload(file={"file_name": "in.jsonl", "content": content}, purpose="batch")
    return client.batch.jobs.create(input_files=[file.id], model=MODEL, endpoint="/v1/chat/completions")


def billed(provider):
    used = provider.billed_for(api="batch")
    return (used.input * 0.2 + used.output * 1.0) / 1e6


def test_a_job_of_a_file(installed, provider):
    """A record a line at half price, attributed to the creator, once though it is read twice."""
    with client_module.Mistral(api_key="k", server_url=provider.url) as client:
        with tokenguard.attribution(tenant="mistral-batch"), tokenguard.meter() as measured:
            job = create(client, 4)
        while (job := client.batch.jobs.get(job_id=job.id)).status in ("QUEUED", "RUNNING"):
            pass
        for _ in range(2):
            assert len(client.files.download(file_id=job.output_file).read().splitlines()) == 4
        installed.telemetry.flush()
        assert measured.calls == 4
        assert measured.cost_usd == pytest.approx(billed(provider), rel=1e-9)
        assert {record.attributes["tokenguard.tenant"] for record in measured.records} == {"mistral-batch"}
        assert {record.attributes["gen_ai.provider.name"] for record in measured.records} == {"mistral_ai"}


async def test_asynchronous_and_inline(installed, provider):
    """The same asynchronously, with the requests in the job itself."""
    async with client_module.Mistral(api_key="k", server_url=provider.url) as client:
        with tokenguard.meter() as measured:
            job = await client.batch.jobs.create_async(requests=lines(3), model=MODEL, endpoint="/v1/chat/completions")
        while (job := await client.batch.jobs.get_async(job_id=job.id)).status in ("QUEUED", "RUNNING"):
            pass
        response = await client.files.download_async(file_id=job.output_file)
        assert len((await response.aread()).splitlines()) == 3
        await asyncio.to_thread(installed.telemetry.flush)
        assert measured.cost_usd == pytest.approx(billed(provider), rel=1e-9)


def test_budgets_hold_for_it(installed, provider):
    """A job that may be too dear is refused before it is created: its file's lines are bounded for the job's model."""
    with client_module.Mistral(api_key="k", server_url=provider.url) as client:
        rules = '[[budget]]\nname = "b"\nlimit_usd = 0.0000001\nwindow = "total"\n[ledger]\nurl = "memory:"\n'
        tokenguard.install(policy.loads(rules))
        try:
            with pytest.raises(BudgetExceeded):
                client.batch.jobs.create(requests=lines(3), model=MODEL, endpoint="/v1/chat/completions")
            with pytest.raises(BudgetExceeded):
                create(client, 3)
            assert provider.desk.batches == {}
        finally:
            tokenguard.install(policy.Policy())


def test_the_helper(installed, provider):
    """`tokenguard.batch` with its client: results in the order of the requests, and on from the id."""
    asked = [{"model": MODEL, **each["body"]} for each in lines(4)]
    with client_module.Mistral(api_key="k", server_url=provider.url) as client:
        with tokenguard.meter() as measured:
            results = tokenguard.batch(client, asked, poll=0.01, metadata={"why": "tags"})
        assert [result.custom_id for result in results] == [f"request-{n:06}" for n in range(4)]
        assert all(result.response["choices"] for result in results)
        assert [each.response for each in tokenguard.batch(client, id=results.id)] == [r.response for r in results]
        with pytest.raises(TypeError, match="one model"):
            tokenguard.batch(client, [{"model": "a"}, {"model": "b"}])
    assert measured.calls == 4
    assert measured.cost_usd == pytest.approx(billed(provider), rel=1e-9)


def test_the_helper_says_whose_clients_it_takes():
    """Any other client is a mistake that is named."""
    with pytest.raises(TypeError, match="takes a client of openai"):
        tokenguard.batch(object(), [{"model": "a"}])
