"""Amazon Bedrock's batch inference as it is on the wire: jobs of its control plane, with their files in S3."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from tokenguard.demo.batch_jobs import Answer, Asked, BatchJob, retrieved, run, text_of
from tokenguard.demo.exchange import Desk, Refusal, Reply

ARN: Final = "arn:aws:bedrock:us-east-1:123456789012:model-invocation-job/"
STATES: Final = {
    "in_progress": "InProgress",
    "completed": "Completed",
    "cancelled": "Stopped",
    "expired": "Expired",
    "failed": "Failed",
    "partially_succeeded": "PartiallyCompleted",
}


def create(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /model-invocation-job`."""
    place = body["inputDataConfig"]["s3InputDataConfig"]["s3Uri"].removeprefix("s3://")
    if (content := desk.objects.get(place)) is None:
        raise Refusal(400, "ValidationException", f"There is no object s3://{place}.")
    way = "converse" if body.get("modelInvocationType") == "Converse" else "invoke"
    lines = [
        Asked(each["recordId"], f"/model/{body['modelId']}/{way}", {**each["modelInput"], "model": body["modelId"]})
        for each in map(json.loads, content.splitlines())
    ]
    job = BatchJob(desk.id("", 12), "bedrock", lines, key, body, input=place, written=written)
    desk.batches[job.id] = job
    return Reply({"jobArn": ARN + job.id})


def asked(desk: Desk, method: str, path: str, answer: Answer) -> Reply:
    """What is asked of jobs, one of them or all."""
    if path.endswith("-jobs"):
        jobs = [job for job in reversed(desk.batches.values()) if job.dialect == "bedrock"]
        return Reply({"invocationJobSummaries": [_shown(job) for job in jobs]})
    stops = method == "POST" and path.endswith("/stop")
    name = path.removesuffix("/stop").rpartition("/")[2]
    if name not in desk.batches:
        raise Refusal(404, "ResourceNotFoundException", f"The job {name} could not be found.")
    if stops:
        if (job := desk.batches[name]).ended is None:
            run(desk, job, answer, "cancelled", len(job.lines) // 2)
        return Reply({})
    return Reply(_shown(retrieved(desk, name, answer)))


def written(desk: Desk, job: BatchJob) -> None:
    """Put the results, and what they come to together, where the job is to have them."""
    folder = f"{_place(job)}{job.id}/"
    billed = [reply.billed for _, reply in job.answered if reply.billed is not None]
    errors = {id(one): {"errorCode": refusal.status, "errorMessage": str(refusal)} for one, refusal in job.refused}
    late = {"errorCode": 408, "errorMessage": f"The job is {job.state}.", "expired": job.state == "expired"}
    answers = {id(one): {"modelOutput": reply.body} for one, reply in job.answered}
    lines = (
        {
            "recordId": one.custom_id,
            "modelInput": {name: value for name, value in one.body.items() if name != "model"},
            **(answers.get(id(one)) or {"error": errors.get(id(one), late)}),
        }
        for one in job.lines
    )
    desk.objects[f"{folder}{job.input.rpartition('/')[2]}.out"] = text_of(lines)
    manifest = {
        **{name: count for name, count in _counts(job).items() if name != "processedRecordCount"},
        "processedRecordCount": len(job.lines),
        "inputTokenCount": sum(usage.input or 0 for usage in billed),
        "outputTokenCount": sum(usage.output or 0 for usage in billed),
    }
    desk.objects[f"{folder}manifest.json.out"] = json.dumps(manifest).encode()


def _place(job: BatchJob) -> str:
    """Bucket and folder of a job's output."""
    uri = str(job.asked["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"])
    return uri.removeprefix("s3://").rstrip("/") + "/"


def _counts(job: BatchJob) -> dict[str, int]:
    done = {"successRecordCount": len(job.answered), "errorRecordCount": len(job.refused) + len(job.left)}
    return {"totalRecordCount": len(job.lines), "processedRecordCount": sum(done.values()), **done}


def _shown(job: BatchJob) -> dict[str, Any]:
    told = ("jobName", "modelId", "roleArn", "inputDataConfig", "outputDataConfig", "modelInvocationType")
    return {
        "jobArn": ARN + job.id,
        **{name: job.asked[name] for name in told if name in job.asked},
        "status": STATES.get(job.state, job.state),
        "submitTime": _rfc(job.created),
        "lastModifiedTime": _rfc(job.ended or job.created),
        "timeoutDurationInHours": job.asked.get("timeoutDurationInHours", 24),
        **({"endTime": _rfc(job.ended), **_counts(job)} if job.ended else {}),
    }


def _rfc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
