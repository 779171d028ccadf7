"""google-genai's batches: requests in the job and in a file, synchronous and asynchronous."""

from __future__ import annotations

import asyncio
import inspect
import io
import json

import pytest

genai = pytest.importorskip("google.genai")

import tokenguard  # noqa: E402 - only where it is installed
from tokenguard import BudgetExceeded, policy  # noqa: E402
from tokenguard.facts import names  # noqa: E402
from tokenguard.installation import runtime  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # its sockets on aiohttp
    pytest.mark.filterwarnings("ignore:.*create_embeddings.*is experimental"),
]

MODEL = "gemini-2.5-flash"
"""USD 0.30 and 2.50 per million tokens, and half of that in batches (https://ai.google.dev/gemini-api/docs/pricing)."""
VECTORS = "gemini-embedding-001"
"""USD 0.15 per million tokens, and half of that in batches."""


@pytest.fixture
def gemini(provider):
    options = {"base_url": provider.url, "retry_options": {"attempts": 1}}
    with genai.Client(api_key="k", http_options=options) as client:
        yield client


def requests(count):
    config = {"max_output_tokens": 20, "thinking_config": {"thinking_budget": 0}}
    return [{"contents": f"Say {n}.", "config": config, "metadata": {"key": f"g{n}"}} for n in range(count)]


def file_lines(count):
    config = {"maxOutputTokens": 20, "thinkingConfig": {"thinkingBudget": 0}}
    bodies = [{"contents": [{"parts": [{"text": f"Say {n}."}]}], "generationConfig": config} for n in range(count)]
    return "\n".join(json.dumps({"key": f"f{n}", "request": body}) for n, body in enumerate(bodies)).encode()


def upload(client, count):
    return client.files.upload(file=io.BytesIO(file_lines(count)), config={"mime_type": "application/jsonl"})


def ended(client, job):
    """The job as it has ended, which the second look finds."""
    for _ in range(3):
        job = client.batches.get(name=job.name)
    return job


def billed(provider):
    used = provider.billed_for(api="batch")
    return (used.input * 0.15 + used.output * 1.25) / 1e6


def test_requests_in_the_job(installed, provider, gemini):
    """A record a line at half price, attributed to the creator, once however often the job is asked for or listed."""
    with tokenguard.attribution(tenant="gemini-batch"), tokenguard.meter() as measured:
        job = gemini.batches.create(model=MODEL, src=requests(4))
    job = ended(gemini, job)
    assert len(job.dest.inlined_responses) == 4
    for _ in range(2):
        gemini.batches.get(name=job.name)
    assert [each.name for each in gemini.batches.list()] == [job.name]
    installed.telemetry.flush()
    assert measured.calls == 4
    assert measured.cost_usd == pytest.approx(billed(provider), rel=1e-9)
    seen = [record.attributes for record in measured.records]
    assert {each[names.attribution_attribute("tenant")] for each in seen} == {"gemini-batch"}
    assert [each[names.BATCH_CUSTOM_ID] for each in seen] == [f"g{n}" for n in range(4)]
    assert {each[names.COST_STATUS] for each in seen} == {names.EXACT}
    assert {(each[names.PROVIDER], each[names.REQUEST_MODEL]) for each in seen} == {("gcp.gemini", MODEL)}
    assert {each[names.OPERATION] for each in seen} == {"generate_content"}
    assert all(each[names.CODE_FILE].endswith("test_google.py") for each in seen)


@pytest.mark.parametrize("where", ["returned", "path", "open"])
def test_requests_in_a_file(installed, provider, gemini, tmp_path, where):
    """A file that is uploaded and one that is downloaded, returned, to a path or into something open: once."""
    with tokenguard.attribution(feature="tags"), tokenguard.meter() as measured:
        job = gemini.batches.create(model=MODEL, src=upload(gemini, 5).name)
    job = ended(gemini, job)
    if where != "returned" and "destination" not in inspect.signature(gemini.files.download).parameters:
        pytest.skip("this version returns what it downloads")
    into = {"path": tmp_path / "out.jsonl", "open": io.BytesIO()}.get(where)
    for _ in range(2):
        found = gemini.files.download(file=job.dest.file_name, **({} if into is None else {"destination": into}))
    content = found if into is None else into.read_bytes() if where == "path" else into.getvalue()
    assert len(content.splitlines()) == (10 if where == "open" else 5)
    installed.telemetry.flush()
    assert measured.calls == 5
    assert measured.cost_usd == pytest.approx(billed(provider), rel=1e-9)
    assert {record.attributes["tokenguard.feature"] for record in measured.records} == {"tags"}


@pytest.mark.parametrize("inline", [True, False])
async def test_asynchronous(installed, provider, gemini, tmp_path, inline):
    """The same by the asynchronous client."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(file_lines(3))
    with tokenguard.meter() as measured:
        source = requests(3)
        if not inline:
            source = (await gemini.aio.files.upload(file=path, config={"mime_type": "jsonl"})).name
        job = await gemini.aio.batches.create(model=MODEL, src=source)
    while not (job := await gemini.aio.batches.get(name=job.name)).done:
        pass
    if not inline:
        assert len((await gemini.aio.files.download(file=job.dest.file_name)).splitlines()) == 3
    await gemini.aio.aclose()
    await asyncio.to_thread(installed.telemetry.flush)
    assert measured.calls == 3
    assert measured.cost_usd == pytest.approx(billed(provider), rel=1e-9)


def test_embeddings(installed, provider, gemini):
    """A job of embeddings is one of embeddings' records."""
    with tokenguard.meter() as measured:
        job = gemini.batches.create_embeddings(
            model=VECTORS, src={"inlined_requests": {"contents": ["one text", "another"]}}
        )
    ended(gemini, job)
    installed.telemetry.flush()
    assert measured.calls == 2
    assert measured.cost_usd == pytest.approx(provider.billed_for(api="batch").input * 0.075e-6, rel=1e-9)
    assert {record.attributes[names.OPERATION] for record in measured.records} == {"embeddings"}
    assert {record.attributes[names.BATCH_CUSTOM_ID] for record in measured.records} == {"0", "1"}


@pytest.mark.parametrize("state", ["expired", "partially_succeeded"])
def test_lines_without_an_answer(installed, provider, gemini, state):
    """What ran before a job ended is billed; the other lines are errors without a cost."""
    provider.end_next_batch(state, 2)
    with tokenguard.meter() as measured:
        job = gemini.batches.create(model=MODEL, src=requests(5))
    ended(gemini, job)
    installed.telemetry.flush()
    by_outcome = [(record.outcome, record.cost is None) for record in measured.records]
    assert sorted(by_outcome) == [("error", True)] * 3 + [("ok", False)] * 2
    assert measured.cost_usd == pytest.approx(billed(provider), rel=1e-9)


def test_cancelled(installed, provider, gemini):
    """What was answered before a job was cancelled is billed."""
    with tokenguard.meter() as measured:
        job = gemini.batches.create(model=MODEL, src=requests(6))
    gemini.batches.cancel(name=job.name)
    ended(gemini, job)
    installed.telemetry.flush()
    assert sum(record.outcome == "ok" for record in measured.records) == 3
    assert measured.cost_usd == pytest.approx(billed(provider), rel=1e-9)


@pytest.mark.parametrize("inline", [True, False])
def test_budgets_hold_for_it(installed, provider, gemini, inline):
    """A job that may be too dear is refused before it is created; one that fits is held for, and settled when read."""
    rules = '[[budget]]\nname = "b"\nlimit_usd = {}\nwindow = "total"\n[ledger]\nurl = "memory:"\n'

    def source():
        return requests(3) if inline else upload(gemini, 3).name

    tokenguard.install(policy.loads(rules.format("0.00001")))
    try:
        with pytest.raises(BudgetExceeded):
            gemini.batches.create(model=MODEL, src=source())
        assert provider.desk.batches == {}
        tokenguard.install(policy.loads(rules.format("1")))
        job = gemini.batches.create(model=MODEL, src=source())
        installed.telemetry.flush()
        assert balance() > 3 * 20 * 1.25e-6
        job = ended(gemini, job)
        if not inline:
            gemini.files.download(file=job.dest.file_name)
        installed.telemetry.flush()
        assert balance() == pytest.approx(billed(provider), abs=1e-8)
    finally:
        tokenguard.install(policy.Policy())


def balance():
    """What the budget has spent, and holds, in USD."""
    (account,) = runtime.installed().meter.guard.ledger.accounts()
    return (account.spent_nano + account.reserved_nano) / 1e9


def test_another_process_reads_it(installed, provider, gemini):
    """A process that neither uploaded nor created anything finds the creator, and its lines are recorded once."""
    with tokenguard.attribution(tenant="creator"), tokenguard.meter() as measured:
        job = gemini.batches.create(model=MODEL, src=upload(gemini, 2).name)
    installed.telemetry.flush()
    installed.meter.batches.made()._told.clear()
    installed.meter.batches.made().uploads.clear()
    job = ended(gemini, job)
    gemini.files.download(file=job.dest.file_name)
    installed.telemetry.flush()
    assert {record.attributes["tokenguard.tenant"] for record in measured.records} == {"creator"}
    assert measured.calls == 2


def test_the_helper(installed, provider, gemini):
    """Results in the order of the requests; another process goes on with the id."""
    provider.answer_next("zero", "one", "two")
    bodies = [{"model": MODEL, "contents": f"Say {n}.", "config": {"max_output_tokens": 9}} for n in range(3)]
    seen = []
    with tokenguard.meter() as measured:
        results = tokenguard.batch(gemini, bodies, progress=seen.append, poll=0.01)
    texts = [each.response["candidates"][0]["content"]["parts"][0]["text"] for each in results]
    assert texts == ["zero", "one", "two"]
    assert measured.calls == 3
    again = tokenguard.batch(gemini, id=seen[0].id, poll=0.01)
    assert [each.custom_id for each in again] == [each.custom_id for each in results]
    with pytest.raises(TypeError, match="one model"):
        tokenguard.batch(gemini, [{"model": "a"}, {"model": "b"}])


async def test_the_helper_asynchronously(installed, provider, gemini):
    """The same, awaited."""
    results = await tokenguard.batch(gemini.aio, [{"model": MODEL, "contents": "Say it."}], poll=0.01)
    await gemini.aio.aclose()
    assert [each.error for each in results] == [None]


def test_vertex_is_known_and_not_read(installed, provider):
    """Vertex AI's results go to Cloud Storage: the job is listed with where they are, and nothing is recorded."""
    from tokenguard.providers.batches import request_at
    from tokenguard.providers.batches.google import GOOGLE

    path = "/v1beta1/projects/p/locations/l/batchPredictionJobs"
    assert request_at("post", path, (GOOGLE,)).kind == "create"
    assert request_at("get", f"{path}/7", (GOOGLE,)).id == "projects/p/locations/l/batchPredictionJobs/7"
    job = {
        "name": "projects/p/locations/l/batchPredictionJobs/7",
        "state": "JOB_STATE_SUCCEEDED",
        "outputInfo": {"gcsOutputDirectory": "gs://bucket/out"},
        "completionStats": {"successfulCount": "3"},
    }
    told = GOOGLE.seen(job)
    assert (told.state, told.open, told.done, told.output) == ("succeeded", False, 3, "gs://bucket/out")
    assert GOOGLE.held(job) == []
