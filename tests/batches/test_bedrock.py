"""Bedrock's batches by boto3: jobs of the control plane, and their files in S3."""

from __future__ import annotations

import asyncio
import io
import json

import pytest

boto3 = pytest.importorskip("boto3")

import tokenguard  # noqa: E402 - only where it is installed
from tokenguard import BudgetExceeded, policy  # noqa: E402
from tokenguard.facts import names  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")  # older botocore

NOVA = "us.amazon.nova-lite-v1:0"
"""USD 0.06 and 0.24 per million tokens, and half of that in batches (https://aws.amazon.com/bedrock/pricing)."""
AWS = {"region_name": "us-east-1", "aws_access_key_id": "k", "aws_secret_access_key": "s"}
ROLE = "arn:aws:iam::123456789012:role/batch"
CLAUDE = "us.anthropic.claude-haiku-4-5-20251001-v1:0"


@pytest.fixture
def aws(provider):
    made = [boto3.client(service, endpoint_url=provider.url, **AWS) for service in ("s3", "bedrock")]
    yield made
    for client in made:
        client.close()


@pytest.fixture(autouse=True)
def no_policy(installed):
    yield
    tokenguard.install(policy.Policy())


def nova(n, cap=20, text="Say it."):
    body = {"messages": [{"role": "user", "content": [{"text": text}]}], "inferenceConfig": {"maxTokens": cap}}
    return {"recordId": f"b{n:07}", "modelInput": body}


def claude(n, cap=20):
    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": cap}
    return {"recordId": f"b{n:07}", "modelInput": {**body, "messages": [{"role": "user", "content": f"Say {n}."}]}}


def text_of(lines):
    return "\n".join(map(json.dumps, lines)).encode()


def create(bedrock, model=NOVA, key="in/lines.jsonl", **more):
    return bedrock.create_model_invocation_job(
        jobName="tags",
        roleArn=ROLE,
        modelId=model,
        inputDataConfig={"s3InputDataConfig": {"s3Uri": f"s3://work/{key}"}},
        outputDataConfig={"s3OutputDataConfig": {"s3Uri": "s3://work/out/"}},
        **more,
    )["jobArn"]


def ended(bedrock, arn):
    """The job as it has ended, which the second look finds."""
    for _ in range(2):
        job = bedrock.get_model_invocation_job(jobIdentifier=arn)
    return job


def results_of(arn):
    return {"Bucket": "work", "Key": f"out/{arn.rpartition('/')[2]}/lines.jsonl.out"}


def billed(provider, input_rate=0.03, output_rate=0.12):
    used = provider.billed_for(api="batch")
    return (used.input * input_rate + used.output * output_rate) / 1e6


def all_lines(body):
    return [line for line in body.iter_lines() if line]


@pytest.mark.parametrize(
    "read",
    [
        lambda body: body.read().splitlines(),
        all_lines,
        lambda body: b"".join(body.iter_chunks(100)).splitlines(),
        lambda body: b"".join(body).splitlines(),
        lambda body: body.readlines(),
        lambda body: body.__enter__().read().splitlines(),
        lambda body: b"".join(body.__enter__().stream(64)).splitlines(),
    ],
    ids=["read", "iter_lines", "iter_chunks", "iter", "readlines", "with", "stream"],
)
def test_a_job(installed, provider, aws, read):
    """A record a line at half price, attributed to the creator, once however often and in what way it is read."""
    s3, bedrock = aws
    s3.put_object(Bucket="work", Key="in/lines.jsonl", Body=text_of(map(nova, range(5))))
    with tokenguard.attribution(tenant="aws-batch"), tokenguard.meter() as measured:
        arn = create(bedrock)
    assert ended(bedrock, arn)["status"] == "Completed"
    for _ in range(2):
        assert len(read(s3.get_object(**results_of(arn))["Body"])) == 5
    installed.telemetry.flush()
    assert measured.calls == 5
    assert installed.meter.batches.made().jobs.find(arn.rpartition("/")[2]).collected_ns
    assert measured.cost_usd == pytest.approx(billed(provider), rel=1e-9)
    seen = [record.attributes for record in measured.records]
    assert {each[names.attribution_attribute("tenant")] for each in seen} == {"aws-batch"}
    assert [each[names.BATCH_CUSTOM_ID] for each in seen] == [f"b{n:07}" for n in range(5)]
    assert {each[names.BATCH_ID] for each in seen} == {arn.rpartition("/")[2]}
    assert {(each[names.PROVIDER], each[names.REQUEST_MODEL]) for each in seen} == {("aws.bedrock", NOVA)}
    assert {each[names.OPERATION] for each in seen} == {"chat"}
    assert all(each[names.CODE_FILE].endswith("test_bedrock.py") for each in seen)


@pytest.mark.parametrize(
    ("model", "line", "kind"), [(CLAUDE, claude, "InvokeModel"), (NOVA, nova, "Converse"), (CLAUDE, nova, "Converse")]
)
def test_formats(installed, provider, aws, model, line, kind):
    """Each family's own bodies, and Converse's, of a job that says which its lines are."""
    s3, bedrock = aws
    creates = bedrock.meta.service_model.operation_model("CreateModelInvocationJob").input_shape.members
    if "modelInvocationType" not in creates and kind == "Converse":
        pytest.skip("this version's jobs are of InvokeModel alone")
    s3.put_object(Bucket="work", Key="in/lines.jsonl", Body=text_of(map(line, range(3))))
    with tokenguard.meter() as measured:
        arn = create(bedrock, model, **({"modelInvocationType": kind} if "modelInvocationType" in creates else {}))
    ended(bedrock, arn)
    all_lines(s3.get_object(**results_of(arn))["Body"])
    installed.telemetry.flush()
    rates = (0.03, 0.12) if model == NOVA else (0.55, 2.75)  # with the tenth for one geography
    assert measured.calls == 3
    assert measured.cost_usd == pytest.approx(billed(provider, *rates), rel=1e-9)


def test_answers_that_tell_no_tokens(installed, provider, aws):
    """A family whose body tells no usage, which headers do elsewhere: counted from the line, and an estimate."""
    s3, bedrock = aws
    body = {"prompt": "<s>[INST] Say it. [/INST]", "max_tokens": 20}
    s3.put_object(Bucket="work", Key="in/lines.jsonl", Body=text_of([{"recordId": "one", "modelInput": body}]))
    with tokenguard.meter() as measured:
        arn = create(bedrock, "mistral.mistral-large-2402-v1:0")
    ended(bedrock, arn)
    all_lines(s3.get_object(**results_of(arn))["Body"])
    installed.telemetry.flush()
    [record] = measured.records
    used = provider.billed_for(api="batch")
    assert record.usage[:2] == pytest.approx((used.input, used.output), rel=0.3)
    assert record.attributes[names.COST_BASIS] == "missing_usage"
    assert record.cost.total > 0


@pytest.mark.parametrize("parts", [False, True])
def test_files_by_way_of_transfers(installed, provider, aws, tmp_path, parts):
    """`upload_file` and `download_file`, whose threads send and get parts: its bound is known, each line is once."""
    from boto3.s3.transfer import TransferConfig

    s3, bedrock = aws
    count = 300 if parts else 40
    config = TransferConfig(multipart_chunksize=2**18, max_concurrency=4)  # parts of at least 5 MB go up
    path = tmp_path / "lines.jsonl"
    path.write_bytes(text_of(nova(n, text="x " * (16_000 if parts else 5)) for n in range(count)))
    told = []
    s3.upload_file(str(path), "work", "in/lines.jsonl", Config=config, Callback=told.append)
    assert sum(told) == path.stat().st_size
    assert provider.desk.objects["work/in/lines.jsonl"] == path.read_bytes()
    with tokenguard.meter() as measured:
        arn = create(bedrock)
    ended(bedrock, arn)
    for _ in range(2):
        s3.download_file(results_of(arn)["Bucket"], results_of(arn)["Key"], str(tmp_path / "out"), Config=config)
        assert len((tmp_path / "out").read_bytes().splitlines()) == count
    installed.telemetry.flush()
    [job] = installed.meter.batches.made().jobs.all()
    assert job.groups[0].lines == count
    assert measured.calls == count
    assert measured.cost_usd == pytest.approx(billed(provider), rel=1e-9)


def test_read_in_pieces_by_several(installed, provider, aws):
    """Lines that one reader has read before it stopped are recorded; the next reader records the rest."""
    s3, bedrock = aws
    s3.put_object(Bucket="work", Key="in/lines.jsonl", Body=text_of(map(nova, range(30))))
    with tokenguard.meter() as measured:
        arn = create(bedrock)
    ended(bedrock, arn)
    lines = s3.get_object(**results_of(arn))["Body"].iter_lines()
    for _ in range(4):
        next(lines)
    lines.close()
    installed.telemetry.flush()
    some = measured.calls
    assert 4 <= some < 30
    all_lines(s3.get_object(**results_of(arn))["Body"])
    installed.telemetry.flush()
    assert measured.calls == 30
    assert measured.cost_usd == pytest.approx(billed(provider), rel=1e-9)


@pytest.mark.parametrize("state", ["expired", "partially_succeeded"])
def test_lines_without_an_answer(installed, provider, aws, state):
    """What ran before a job ended is billed; the other lines are errors without a cost."""
    s3, bedrock = aws
    s3.put_object(Bucket="work", Key="in/lines.jsonl", Body=text_of(map(nova, range(5))))
    provider.end_next_batch(state, 2)
    with tokenguard.meter() as measured:
        arn = create(bedrock)
    ended(bedrock, arn)
    all_lines(s3.get_object(**results_of(arn))["Body"])
    installed.telemetry.flush()
    by_outcome = [(record.outcome, record.cost is None) for record in measured.records]
    assert sorted(by_outcome) == [("error", True)] * 3 + [("ok", False)] * 2
    assert measured.cost_usd == pytest.approx(billed(provider), rel=1e-9)


def test_stopped(installed, provider, aws):
    """What ran before a job was stopped is billed and recorded."""
    s3, bedrock = aws
    s3.put_object(Bucket="work", Key="in/lines.jsonl", Body=text_of(map(nova, range(6))))
    with tokenguard.meter() as measured:
        arn = create(bedrock)
    bedrock.stop_model_invocation_job(jobIdentifier=arn)
    assert ended(bedrock, arn)["status"] == "Stopped"
    all_lines(s3.get_object(**results_of(arn))["Body"])
    installed.telemetry.flush()
    assert sum(record.cost is not None for record in measured.records) == 3
    assert measured.cost_usd == pytest.approx(billed(provider), rel=1e-9)


RULES = '[[budget]]\nname = "b"\nlimit_usd = {}\nwindow = "total"\n[ledger]\nurl = "memory:"\n'


def test_budgets(installed, provider, aws):
    """A job that may be too dear is refused before it is created; one that fits is held until its results are read."""
    s3, bedrock = aws
    s3.put_object(Bucket="work", Key="in/lines.jsonl", Body=text_of(nova(n, cap=1000) for n in range(10)))
    most = 10 * 1000 * 0.12e-6
    tokenguard.install(policy.loads(RULES.format(most)))
    with pytest.raises(BudgetExceeded):
        create(bedrock)
    assert provider.desk.batches == {}
    tokenguard.install(policy.loads(RULES.format(most * 1.2)))
    arn = create(bedrock)
    installed.telemetry.flush()
    [balance] = installed.meter.guard.ledger.accounts()
    assert most < balance.reserved_nano / 1e9 < most * 1.2
    ended(bedrock, arn)
    all_lines(s3.get_object(**results_of(arn))["Body"])
    installed.telemetry.flush()
    [balance] = installed.meter.guard.ledger.accounts()
    assert (balance.reserved_nano, balance.spent_nano / 1e9) == (0, pytest.approx(billed(provider), abs=1e-8))


def test_a_failed_job_gives_back_what_is_held(installed, provider, aws):
    """A job of which no line was run costs nothing."""
    s3, bedrock = aws
    s3.put_object(Bucket="work", Key="in/lines.jsonl", Body=text_of(map(nova, range(3))))
    tokenguard.install(policy.loads(RULES.format(1)))
    provider.end_next_batch("failed", 0)
    arn = create(bedrock)
    assert ended(bedrock, arn)["status"] == "Failed"
    installed.telemetry.flush()
    assert [each.reserved_nano for each in installed.meter.guard.ledger.accounts()] == [0]


def test_input_that_nobody_saw(installed, provider, aws):
    """Without a budget its lines are priced by the job's model; a budget that has to hold it refuses it."""
    s3, bedrock = aws
    provider.desk.objects["work/in/lines.jsonl"] = text_of(map(nova, range(3)))
    with tokenguard.meter() as measured:
        arn = create(bedrock)
    ended(bedrock, arn)
    all_lines(s3.get_object(**results_of(arn))["Body"])
    installed.telemetry.flush()
    assert measured.cost_usd == pytest.approx(billed(provider), rel=1e-9)
    tokenguard.install(policy.loads(RULES.format(1)))
    with pytest.raises(BudgetExceeded, match="input file"):
        create(bedrock)


def test_a_job_of_another_process(installed, provider, aws, monkeypatch):
    """A job that is first seen when it is listed says its model; its tags, when it is created, whose it is."""
    s3, bedrock = aws
    s3.put_object(Bucket="work", Key="in/lines.jsonl", Body=text_of(map(nova, range(3))))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(installed.meter, "batches", None)
        arn = create(bedrock)
    ended(bedrock, arn)
    assert [job["jobArn"] for job in bedrock.list_model_invocation_jobs()["invocationJobSummaries"]] == [arn]
    with tokenguard.attribution(tenant="reader"):
        body = s3.get_object(**results_of(arn))["Body"]
    all_lines(body)
    again = create(bedrock, tags=[{"key": "tokenguard.tenant", "value": "tagged"}])
    ended(bedrock, again)
    all_lines(s3.get_object(**results_of(again))["Body"])
    installed.telemetry.flush()
    found = installed.meter.batches.made().jobs.find
    assert found(arn.rpartition("/")[2]).groups[0].model == NOVA
    assert found(again.rpartition("/")[2]).attributes[names.attribution_attribute("tenant")] == "tagged"


def test_other_files_pass(installed, provider, aws):
    """Lines that are no batch's go up and come down as they are, and are kept by nobody."""
    s3, _ = aws
    for body in (b'{"a": 1}\n', io.BytesIO(b'{"a": 1}\n'), '{"a": 1}\n'):
        s3.put_object(Bucket="work", Key="some.jsonl", Body=body)
        for key in ("some.jsonl", "some.jsonl.out"):
            provider.desk.objects["work/some.jsonl.out"] = provider.desk.objects["work/some.jsonl"]
            assert s3.get_object(Bucket="work", Key=key)["Body"].read() == b'{"a": 1}\n'
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket="work", Key="none.jsonl.out")
    installed.telemetry.flush()
    assert not installed.meter.batches.made().uploads
    assert installed.meter.batches.made().jobs.all() == []


async def test_asynchronous(installed, provider):
    """The same by aiobotocore."""
    session = pytest.importorskip("aiobotocore.session", "3").get_session()

    def client(service):
        return session.create_client(service, endpoint_url=provider.url, **AWS)

    async with client("s3") as s3, client("bedrock") as bedrock:
        await s3.put_object(Bucket="work", Key="in/lines.jsonl", Body=text_of(map(nova, range(4))))
        with tokenguard.meter() as measured:
            created = await bedrock.create_model_invocation_job(
                jobName="tags",
                roleArn=ROLE,
                modelId=NOVA,
                inputDataConfig={"s3InputDataConfig": {"s3Uri": "s3://work/in/lines.jsonl"}},
                outputDataConfig={"s3OutputDataConfig": {"s3Uri": "s3://work/out/"}},
            )
        arn = created["jobArn"]
        for _ in range(2):
            job = await bedrock.get_model_invocation_job(jobIdentifier=arn)
        assert job["status"] == "Completed"
        body = (await s3.get_object(**results_of(arn)))["Body"]
        assert len([line async for line in body.iter_lines() if line]) == 4
    await asyncio.to_thread(installed.telemetry.flush)
    assert measured.calls == 4
    assert measured.cost_usd == pytest.approx(billed(provider), rel=1e-9)
