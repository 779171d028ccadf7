"""What batches cost: a record a line, at half price, attributed to the creator, once however often it is read."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import anthropic
import openai
import pytest

import tokenguard
from batches.conftest import CLAUDE, MODEL, create, finished, hand, line, request, text_of
from exported import metric_points
from tokenguard.facts import names


def test_a_record_a_line_once_however_it_is_read(installed, provider, client):
    """The file as a whole, as a raw response, as a stream and line by line: four readings, one account."""
    with tokenguard.attribution(tenant="batch-four"), tokenguard.task("labels"), tokenguard.meter() as measured:
        batch = create(client, [line(n) for n in range(7)])
    batch = finished(client, batch)
    whole = client.files.content(batch.output_file_id).text
    assert client.files.with_raw_response.content(batch.output_file_id).http_response.text == whole
    with client.files.with_streaming_response.content(batch.output_file_id) as response:
        assert b"".join(response.iter_bytes()).decode() == whole
    with client.files.with_streaming_response.content(batch.output_file_id) as response:
        assert [each for each in response.iter_lines() if each] == whole.splitlines()
    installed.telemetry.flush()
    billed = provider.billed_for(api="batch")
    assert measured.calls == 7
    assert (measured.input_tokens, measured.output_tokens) == (billed.input, billed.output)
    assert measured.cost_usd == pytest.approx(hand(billed), rel=1e-12)
    for record in measured.records:
        seen = record.attributes
        assert seen[names.attribution_attribute("tenant")] == "batch-four"
        assert (seen[names.TASK], seen[names.BATCH_ID]) == ("labels", batch.id)
        assert (seen[names.REQUEST_MODEL], seen[names.COST_STATUS]) == (MODEL, names.EXACT)
        assert seen[names.CODE_FILE].endswith("batches/conftest.py")
        assert seen[names.REQUEST_MAX_TOKENS] == 20
    assert {record.attributes[names.BATCH_CUSTOM_ID] for record in measured.records} == {f"r{n}" for n in range(7)}


def test_metrics_and_what_half_price_saved(installed, provider, client):
    """Metrics count each line once, and the lever `batch` has saved as much as was spent."""
    with tokenguard.attribution(tenant="batch-metrics"):
        batch = finished(client, create(client, [line(n) for n in range(3)]))
    for _ in range(3):
        client.files.content(batch.output_file_id).read()
    installed.telemetry.flush()
    points = metric_points(tenant="batch-metrics")
    spent = sum(value for (name, _), value in points.items() if name == "tokenguard.cost.usd")
    calls = sum(value for (name, _), value in points.items() if name == "tokenguard.calls")
    saved = [value for (name, of), value in points.items() if "saved" in name and ("lever", "batch") in of]
    assert calls == 3
    assert spent == pytest.approx(hand(provider.billed_for(api="batch")), rel=1e-12)
    assert sum(saved) == pytest.approx(spent, rel=1e-12)


def test_one_span_a_file_has_the_sums(installed, provider, client, spans):
    """A file that is collected is a span with the sums of its new lines; a second reading of it is none."""
    batch = finished(client, create(client, [line(n) for n in range(4)]))
    client.files.content(batch.output_file_id).read()
    client.files.content(batch.output_file_id).read()
    installed.telemetry.flush()
    attributes = spans.attributes
    billed = provider.billed_for(api="batch")
    assert spans.one.name == "batch gpt-4o-mini-2024-07-18"
    assert (attributes[names.BATCH_ID], attributes[names.BATCH_LINES]) == (batch.id, 4)
    assert (attributes[names.INPUT_TOKENS], attributes[names.OUTPUT_TOKENS]) == (billed.input, billed.output)
    assert attributes[names.COST] == pytest.approx(hand(billed), rel=1e-12)


@pytest.mark.parametrize("streamed", [True, False])
async def test_asynchronous_clients(installed, provider, tmp_path: Path, streamed):
    """An asynchronous client uploads a path and collects; nothing of ours blocks its loop."""
    path = tmp_path / "input.jsonl"
    path.write_bytes(text_of([line(n) for n in range(3)]))
    async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="k", max_retries=0) as client:
        with tokenguard.meter() as measured:
            file = await client.files.create(file=path, purpose="batch")
            batch = await client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
        while (batch := await client.batches.retrieve(batch.id)).status == "in_progress":
            pass
        if streamed:
            async with client.files.with_streaming_response.content(batch.output_file_id) as response:
                assert len([each async for each in response.iter_lines() if each]) == 3
        else:
            assert len((await client.files.content(batch.output_file_id)).text.splitlines()) == 3
    await asyncio.to_thread(installed.telemetry.flush)
    assert measured.cost_usd == pytest.approx(hand(provider.billed_for(api="batch")), rel=1e-12)


def test_a_file_that_is_open_is_read_and_put_back(installed, provider, client):
    """An open file is uploaded whole, though we have looked at it; where it stood does not matter, as to httpx."""
    lines = [line(n) for n in range(3)]
    file = io.BytesIO(text_of(lines))
    file.seek(8)
    with tokenguard.meter() as measured:
        uploaded = client.files.create(file=("input.jsonl", file), purpose="batch")
        batch = client.batches.create(
            input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
    assert provider.desk.files[uploaded.id] == text_of(lines)
    client.files.content(finished(client, batch).output_file_id).read()
    installed.telemetry.flush()
    assert measured.calls == 3


def test_jobs_by_responses_that_are_read_later(installed, provider, client):
    """`with_streaming_response`: a job is known when its creator has read that it was created, and whose it is."""
    content = text_of([line(n, text=f"Say {n}. " + "x" * 2000) for n in range(200)])
    with tokenguard.attribution(tenant="later"), tokenguard.meter() as measured:
        with client.files.with_streaming_response.create(file=("in.jsonl", content), purpose="batch") as response:
            file = response.parse()
        asked = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
        with client.batches.with_streaming_response.create(input_file_id=file.id, **asked) as response:
            batch = response.parse()
    with client.batches.with_streaming_response.retrieve(batch.id) as response:
        assert response.parse().id == batch.id
    batch = finished(client, batch)
    with client.files.with_streaming_response.content(batch.output_file_id) as response:
        lines = response.iter_lines()
        for _ in range(50):
            next(lines)
    installed.telemetry.flush()
    assert 50 <= measured.calls < 200  # what was read when it was closed
    client.files.content(batch.output_file_id).read()
    installed.telemetry.flush()
    assert measured.calls == 200
    assert measured.cost_usd == pytest.approx(hand(provider.billed_for(api="batch")), rel=1e-9)
    assert {record.attributes["tokenguard.tenant"] for record in measured.records} == {"later"}


def test_anthropic(installed, provider, claude):
    """Anthropic's results are collected as they are decoded, however often."""
    with tokenguard.attribution(feature="tags"), tokenguard.meter() as measured:
        batch = claude.messages.batches.create(requests=[request(n) for n in range(5)])
    while (batch := claude.messages.batches.retrieve(batch.id)).processing_status != "ended":
        pass
    for _ in range(3):
        assert len(list(claude.messages.batches.results(batch.id))) == 5
    installed.telemetry.flush()
    billed = provider.billed_for(api="batch")
    assert measured.calls == 5
    assert measured.cost_usd == pytest.approx(hand(billed, CLAUDE), rel=1e-12)
    assert {record.attributes["tokenguard.feature"] for record in measured.records} == {"tags"}


async def test_anthropic_asynchronous(installed, provider):
    """An asynchronous decoder is watched as well; one that is left early leaves its other lines for the next."""
    async with anthropic.AsyncAnthropic(base_url=provider.anthropic_url, api_key="k", max_retries=0) as client:
        with tokenguard.meter() as measured:
            batch = await client.messages.batches.create(requests=[request(n) for n in range(40)])
        while (batch := await client.messages.batches.retrieve(batch.id)).processing_status != "ended":
            pass
        results = await client.messages.batches.results(batch.id)
        async for _ in results:
            break
        await results.close()
        assert len([each async for each in await client.messages.batches.results(batch.id)]) == 40
    await asyncio.to_thread(installed.telemetry.flush)
    assert measured.calls == 40
    assert measured.cost_usd == pytest.approx(hand(provider.billed_for(api="batch"), CLAUDE), rel=1e-12)


def test_what_expired_costs_nothing_and_what_ran_is_billed(installed, provider, client):
    """A job that expires half way: the lines that ran are billed, the others are errors without a cost."""
    provider.end_next_batch("expired", 2)
    with tokenguard.meter() as measured:
        batch = create(client, [line(n) for n in range(5)])
    batch = finished(client, batch)
    client.files.content(batch.output_file_id).read()
    client.files.content(batch.error_file_id).read()
    installed.telemetry.flush()
    by_outcome = [(record.outcome, record.cost is None) for record in measured.records]
    assert sorted(by_outcome) == [("error", True)] * 3 + [("ok", False)] * 2
    assert {record.attributes.get(names.ERROR_TYPE) for record in measured.records} == {None, "batch_expired"}
    assert measured.cost_usd == pytest.approx(hand(provider.billed_for(api="batch")), rel=1e-12)


def test_lines_that_are_refused(installed, provider, client, claude):
    """A line with a bad request is an error of its own kind, in OpenAI's error file and in Anthropic's results."""
    with tokenguard.meter() as measured:
        batch = create(client, [line(0), {**line(1), "body": {"model": MODEL}}])
        other = claude.messages.batches.create(
            requests=[request(0), {"custom_id": "a1", "params": {**request(1)["params"], "messages": []}}]
        )
    batch = finished(client, batch)
    client.files.content(batch.error_file_id).read()
    client.files.content(batch.output_file_id).read()
    claude.messages.batches.retrieve(other.id)
    claude.messages.batches.retrieve(other.id)
    list(claude.messages.batches.results(other.id))
    installed.telemetry.flush()
    errors = [record.attributes[names.ERROR_TYPE] for record in measured.records if record.outcome == "error"]
    assert errors == ["missing_required_parameter", "invalid_request_error"]
    assert measured.calls == 4


def test_cancelled(installed, provider, client):
    """What was answered before a job was cancelled is billed."""
    with tokenguard.meter() as measured:
        batch = create(client, [line(n) for n in range(6)])
    batch = client.batches.cancel(batch.id)
    assert batch.status == "cancelled"
    client.files.content(batch.output_file_id).read()
    installed.telemetry.flush()
    assert (measured.calls, measured.cost_usd) == (3, pytest.approx(hand(provider.billed_for(api="batch"))))


def test_metadata_attributes_a_batch_that_nobody_saw_created(installed, provider, client):
    """Created without TokenGuard: whose it is stands in the job's own metadata, else it is whose collects it."""
    tokenguard.uninstall()
    ours = create(client, [line(0)], metadata={"tokenguard.tenant": "from-metadata", "other": "x"})
    theirs = create(client, [line(1)])
    tokenguard.install()
    found = []
    put = installed.telemetry.put
    with tokenguard.attribution(tenant="collector"):
        for batch in (ours, theirs):
            client.files.content(finished(client, batch).output_file_id).read()
    del put, found
    tokenguard.install()
    from tokenguard.installation import runtime

    runtime.installed().telemetry.flush()
    tenants = {dict(of).get("tokenguard.tenant") for (name, of) in metric_points() if name == "tokenguard.cost.usd"}
    assert {"from-metadata", "collector"} <= tenants


def test_other_files_pass_untouched(installed, provider, client):
    """A file that is no batch's is uploaded and read with no record, and nothing is kept of it."""
    file = client.files.create(file=("notes.jsonl", b'{"note": 1}\n{"note": 2}\n'), purpose="user_data")
    assert client.files.content(file.id).text == '{"note": 1}\n{"note": 2}\n'
    installed.telemetry.flush()
    assert installed.records == []
    assert installed.meter.batches.made().jobs.all() == []


def test_seed_004_batch_processing(installed, provider, client):
    """004, scenario 3: 100,000 articles on GPT-4o at $250 come to $3.60 in gpt-4o-mini batches, 98.6 % less.

    A thousandth of it: 100 articles with 400 tokens in and 20 out, against 800 and 50 by the call.
    """
    from tokenguard.providers.openai import CHAT
    from tokenguard.tokens import estimate_request

    words = "word " * 380
    while estimate_request(CHAT.words, line(0, text=words)["body"]) < 400:
        words += "word "
    provider.answer_next(*["word " * 60] * 100)
    with tokenguard.meter() as measured:
        batch = create(client, [line(n, text=words) for n in range(100)])
        client.files.content(finished(client, batch).output_file_id).read()
        installed.telemetry.flush()
    assert (measured.input_tokens, measured.output_tokens) == (100 * 400, 100 * 20)
    assert measured.cost_usd * 1000 == pytest.approx(3.60, rel=1e-9)
    before = 100_000 * (800 * 2.50 + 50 * 10.00) / 1e6
    assert before == 250
    assert 1 - measured.cost_usd * 1000 / before == pytest.approx(0.9856)


def test_together(installed):
    """Together's job is within the answer that creates it, and alone where it is asked for; its list is bare."""
    together = pytest.importorskip("together", "2")
    httpx = pytest.importorskip("httpx")
    model = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
    job = {"id": "b1", "endpoint": "/v1/chat/completions", "input_file_id": "file-in", "model_id": model}
    ended = {**job, "status": "COMPLETED", "output_file_id": "file-out", "completed_at": "2026-11-20T01:02:03Z"}
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    answer = {"id": "x", "object": "chat.completion", "model": model, "choices": [], "usage": usage}
    results = [{"custom_id": f"t{n}", "response": {"status_code": 200, "body": answer}} for n in range(3)]

    def answered(asked):
        if asked.method == "POST":
            return httpx.Response(200, json={"job": {**job, "status": "VALIDATING"}})
        if asked.url.path.endswith("/content"):
            return httpx.Response(200, content=text_of(results))
        return httpx.Response(200, json=ended if asked.url.path.endswith("b1") else [ended])

    transport = httpx.Client(transport=httpx.MockTransport(answered))
    with together.Together(api_key="k", http_client=transport) as client, tokenguard.meter() as measured:
        with tokenguard.attribution(tenant="together"):
            assert client.batches.create(input_file_id="file-in", endpoint="/v1/chat/completions").job.id == "b1"
        assert client.batches.list()[0].id == "b1"
        assert client.batches.retrieve("b1").output_file_id == "file-out"
        client.files.content("file-out").read()
    installed.telemetry.flush()
    seen = [record.attributes for record in measured.records]
    assert {(each["tokenguard.tenant"], each[names.BATCH_ID], each[names.PROVIDER]) for each in seen} == {
        ("together", "b1", "together")
    }
    assert len(seen) == 3
    [known] = installed.meter.batches.made().jobs.all()
    assert (known.state, known.groups[0].model, known.collected_ns is not None) == ("completed", model, True)
