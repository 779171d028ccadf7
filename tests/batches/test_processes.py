"""A batch is created by one process and collected by others: one account, in one store."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NamedTuple

import pytest

from tokenguard.facts import names
from tokenguard.facts.record import CallRecord
from tokenguard.store.store import read_store

ENVIRONMENT = """
import json, sys
import tokenguard
url, *more = sys.argv[1:]
tokenguard.install()
"""
CREATED = """
with tokenguard.attribution(tenant="creator", feature="nightly"), tokenguard.task("tagging"):
    print(create(1000))
"""
COLLECTED = """
with tokenguard.attribution(tenant="collector"):
    for _ in range(int(more[1])):
        assert collect(more[0]) == 1000
"""


class Provider(NamedTuple):
    """How one SDK creates a job of so many lines, and reads its results."""

    package: str
    program: str
    rates: tuple[float, float]
    """USD per million tokens of input and output in a batch, by hand."""


PROVIDERS = {
    "openai": Provider(
        "openai",
        """
import openai
client = openai.OpenAI(base_url=url + "/v1", api_key="k")

def line(n):
    body = {"model": "gpt-4o-mini", "max_tokens": 20, "messages": [{"role": "user", "content": f"Say {n}."}]}
    return json.dumps({"custom_id": f"r{n}", "method": "POST", "url": "/v1/chat/completions", "body": body})

def create(count):
    file = client.files.create(file=("in.jsonl", "\\n".join(map(line, range(count))).encode()), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    ).id

def collect(job):
    while (batch := client.batches.retrieve(job)).status != "completed":
        pass
    return len(client.files.content(batch.output_file_id).text.splitlines())
""",
        (0.075, 0.30),
    ),
    "anthropic": Provider(
        "anthropic",
        """
import anthropic
client = anthropic.Anthropic(base_url=url, api_key="k")

def create(count):
    params = {"model": "claude-haiku-4-5", "max_tokens": 20, "messages": [{"role": "user", "content": "Say it."}]}
    return client.messages.batches.create(requests=[{"custom_id": f"a{n}", "params": params} for n in range(count)]).id

def collect(job):
    while client.messages.batches.retrieve(job).processing_status != "ended":
        pass
    return len(list(client.messages.batches.results(job)))
""",
        (0.5, 2.5),
    ),
    "google": Provider(
        "google.genai",
        """
from google import genai
client = genai.Client(api_key="k", http_options={"base_url": url, "retry_options": {"attempts": 1}})

def create(count):
    config = {"max_output_tokens": 20, "thinking_config": {"thinking_budget": 0}}
    asked = [{"contents": "Say it.", "config": config, "metadata": {"key": f"g{n}"}} for n in range(count)]
    return client.batches.create(model="gemini-2.5-flash", src=asked).name

def collect(job):
    while not (batch := client.batches.get(name=job)).done:
        pass
    return len(batch.dest.inlined_responses)
""",
        (0.15, 1.25),
    ),
    "mistral": Provider(
        "mistralai.client",
        """
from mistralai.client import Mistral
client = Mistral(api_key="k", server_url=url)

def create(count):
    body = {"max_tokens": 20, "messages": [{"role": "user", "content": "Say it."}]}
    lines = "\\n".join(json.dumps({"custom_id": f"m{n}", "body": body}) for n in range(count)).encode()
    file = client.files.upload(file={"file_name": "in.jsonl", "content": lines}, purpose="batch")
    return client.batch.jobs.create(
        input_files=[file.id], model="mistral-medium-2505", endpoint="/v1/chat/completions"
    ).id

def collect(job):
    while (batch := client.batch.jobs.get(job_id=job)).status in ("QUEUED", "RUNNING"):
        pass
    return len(client.files.download(file_id=batch.output_file).read().splitlines())
""",
        (0.2, 1.0),
    ),
    "bedrock": Provider(
        "boto3",
        """
import boto3
keys = {"region_name": "us-east-1", "aws_access_key_id": "k", "aws_secret_access_key": "s"}
s3, bedrock = (boto3.client(name, endpoint_url=url, **keys) for name in ("s3", "bedrock"))

def create(count):
    body = {"messages": [{"role": "user", "content": [{"text": "Say it."}]}], "inferenceConfig": {"maxTokens": 20}}
    lines = "\\n".join(json.dumps({"recordId": f"b{n:07}", "modelInput": body}) for n in range(count)).encode()
    s3.put_object(Bucket="work", Key="in/lines.jsonl", Body=lines)
    return bedrock.create_model_invocation_job(
        jobName="tags",
        roleArn="arn:aws:iam::123456789012:role/batch",
        modelId="us.amazon.nova-lite-v1:0",
        inputDataConfig={"s3InputDataConfig": {"s3Uri": "s3://work/in/lines.jsonl"}},
        outputDataConfig={"s3OutputDataConfig": {"s3Uri": "s3://work/out/"}},
    )["jobArn"]

def collect(job):
    while bedrock.get_model_invocation_job(jobIdentifier=job)["status"] != "Completed":
        pass
    key = f"out/{job.rpartition('/')[2]}/lines.jsonl.out"
    return len([line for line in s3.get_object(Bucket="work", Key=key)["Body"].iter_lines() if line])
""",
        (0.03, 0.12),
    ),
}


@pytest.mark.apart
@pytest.mark.parametrize(
    "name", [name if name == "openai" else pytest.param(name, marks=pytest.mark.everywhere) for name in PROVIDERS]
)
def test_a_thousand_lines_collected_three_times_by_two_processes(provider, tmp_path, name):
    """Three readings by two processes at once, of a third's batch, come to the hand-worked sum once, the creator's."""
    package, program, (input_rate, output_rate) = PROVIDERS[name]
    pytest.importorskip(package)
    policy = tmp_path / "tokenguard.toml"
    policy.write_text(
        '[ledger]\nurl = "sqlite:///ledger.db"\n[[budget]]\nname = "all"\nlimit_usd = 5\nwindow = "total"\n'
    )
    store = tmp_path / "usage.db"
    env = {**os.environ, "TOKENGUARD_STORE": str(store), "TOKENGUARD_POLICY": str(policy)}

    def run(does, *arguments):
        command = [sys.executable, "-c", ENVIRONMENT + program + does, provider.url, *map(str, arguments)]
        return subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, text=True)

    with run(CREATED) as creator:
        created = creator.communicate(timeout=60)[0].strip()
    readers = [run(COLLECTED, created, times) for times in (2, 1)]
    for reader in readers:
        with reader:
            assert reader.wait(60) == 0
    calls = [each for each in read_store(store) if isinstance(each, CallRecord)]
    billed = provider.billed_for(api="batch")
    by_hand = (billed.input * input_rate + billed.output * output_rate) / 1e6
    assert len(calls) == 1000
    assert len({call.attributes[names.BATCH_CUSTOM_ID] for call in calls}) == 1000
    assert {call.attributes["tokenguard.tenant"] for call in calls} == {"creator"}
    assert {call.attributes[names.TASK] for call in calls} == {"tagging"}
    assert sum(call.cost_usd for call in calls) == pytest.approx(by_hand, rel=1e-12)
    from tokenguard.ledger.sqlite import SqliteLedger

    ledger = SqliteLedger(tmp_path / "ledger.db")
    (account,) = ledger.accounts()
    ledger.close()
    assert account.reserved_nano == 0
    assert account.spent_nano / 1e9 == pytest.approx(by_hand, abs=1000e-9)
