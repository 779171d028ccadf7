"""The batch APIs of OpenAI, Anthropic, Gemini and Mistral as they are on the wire: files, jobs, and lines of results.

A job runs when it is asked for often enough (`Desk.batch_polls`). Each of its lines is answered, and billed, as a call
by itself would be; the books say that it was a batch's by its path. A line that is refused goes to the error file.
"""

from __future__ import annotations

import email
import email.policy
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tokenguard.demo.exchange import Desk, Event, Received, Refusal, Reply, json_line
from tokenguard.facts.tuples import NamedTuple

WINDOW_S = 86_400
LINES = "application/octet-stream"
Answer = Callable[[str, Mapping[str, Any], str], Reply]
"""Answers a line: the path that it is for, its body and the key."""


class Asked(NamedTuple):
    """One line."""

    custom_id: str
    url: str
    body: Mapping[str, Any]


@dataclass
class BatchJob:
    """One job, of any of them."""

    id: str
    dialect: str
    """`openai`, `anthropic`, `google`, `mistral` or `bedrock`."""
    lines: Sequence[Asked]
    key: str
    asked: Mapping[str, Any]
    """What it was created with."""
    created: float = field(default_factory=time.time)
    polls: int = 0
    state: str = "in_progress"
    ended: float | None = None
    answered: list[tuple[Asked, Reply]] = field(default_factory=list)
    refused: list[tuple[Asked, Refusal]] = field(default_factory=list)
    left: Sequence[Asked] = ()
    """The lines that were not run: it expired, or was cancelled."""
    metadata: Sequence[Any] = ()
    """Of each line that the job holds itself (Gemini)."""
    input: str = ""
    output: str | None = None
    errors: str | None = None
    written: Callable[[Desk, BatchJob], None] | None = None
    """Puts its results where it is to have them, when it has ended."""


def upload(desk: Desk, content_type: str, raw: bytes) -> Reply:
    """`POST /files`: a form with the file and what it is for."""
    form = email.message_from_bytes(
        b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + raw, policy=email.policy.HTTP
    )
    parts = {part.get_param("name", header="content-disposition"): part for part in form.iter_parts()}
    if "file" not in parts:
        raise Refusal(400, "invalid_request_error", "Missing required parameter: 'file'.")
    content = parts["file"].get_payload(decode=True)
    purpose = parts["purpose"].get_content().strip() if "purpose" in parts else ""
    name = desk.id("file-")
    desk.files[name] = content if isinstance(content, bytes) else b""
    return Reply(
        {
            "id": name,
            "object": "file",
            "bytes": len(desk.files[name]),
            "created_at": int(time.time()),
            "filename": parts["file"].get_filename() or "upload",
            "purpose": purpose,
            "status": "processed",
            "sample_type": "batch_request",
            "source": "upload",
        }
    )


def create(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /batches`, `/messages/batches` or `/batch/jobs`."""
    requests = body.get("requests")
    if requests is not None and "endpoint" not in body:
        dialect, lines = "anthropic", [Asked(each["custom_id"], "/v1/messages", each["params"]) for each in requests]
    else:
        dialect = "mistral" if "input_files" in body or requests is not None else "openai"
        name = body["input_files"][0] if body.get("input_files") else body.get("input_file_id")
        told = requests if requests is not None else map(json.loads, _file(desk, str(name)).splitlines())
        model = {"model": body["model"]} if body.get("model") else {}
        lines = [Asked(each["custom_id"], body["endpoint"], {**model, **each["body"]}) for each in told]
    prefix = {"anthropic": "msgbatch_", "openai": "batch_", "mistral": "job-"}[dialect]
    job = BatchJob(desk.id(prefix), dialect, lines, key, body, input=str(body.get("input_file_id", "")))
    job.written = None if dialect == "anthropic" else _files_written
    desk.batches[job.id] = job
    return Reply(_shown(job))


def create_google(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /models/NAME:batchGenerateContent` and `:asyncBatchEmbedContent`, with the requests or a file of them."""
    source = body["batch"]["inputConfig"]
    file = source.get("fileName") or source.get("file_name")
    said = source["requests"]["requests"] if file is None else map(json.loads, _file(desk, file[6:]).splitlines())
    each = list(said)
    lines = [
        Asked(
            str(one.get("key", n)),
            ":batchEmbedContents" if "content" in one["request"] else ":generateContent",
            {
                "model": body["model"],
                **({"requests": [one["request"]]} if "content" in one["request"] else one["request"]),
            },
        )
        for n, one in enumerate(each)
    ]
    job = BatchJob(desk.id("batches/"), "google", lines, key, body, input=file or "")
    job.written = _google_file_written if file else None
    job.metadata = [one.get("metadata") for one in each]
    desk.batches[job.id] = job
    return Reply(_shown(job))


def begin_upload(desk: Desk, host: str) -> Reply:
    """`POST /upload/v1beta/files`: where the file is to be sent to."""
    url = f"http://{host}/upload/v1beta/files/{desk.id('upload-')}"
    return Reply({}, headers={"x-goog-upload-url": url, "x-goog-upload-status": "active"})


def end_upload(desk: Desk, name: str, raw: bytes, last: bool) -> Reply:
    """A piece of a file that is uploaded to where it was to be sent."""
    content = desk.files[name] = desk.files.get(name, b"") + raw
    if not last:
        return Reply({}, headers={"x-goog-upload-status": "active"})
    file = {"name": f"files/{name}", "mimeType": "application/jsonl", "sizeBytes": str(len(content)), "state": "ACTIVE"}
    return Reply({"file": file}, headers={"x-goog-upload-status": "final"})


def cancel(desk: Desk, job_id: str, answer: Answer) -> Reply:
    """Cancel a job: what half of its lines were answered by then is billed."""
    job = _job(desk, job_id)
    if job.ended is None:
        run(desk, job, answer, "cancelled", len(job.lines) // 2)
    return Reply(_shown(job))


def retrieve(desk: Desk, job_id: str, answer: Answer) -> Reply:
    """A job as it is; one that was asked for often enough has run."""
    return Reply(_shown(retrieved(desk, job_id, answer)))


def retrieved(desk: Desk, job_id: str, answer: Answer) -> BatchJob:
    """A job that is asked for."""
    job = _job(desk, job_id)
    job.polls += 1
    if job.ended is None and job.polls > desk.batch_polls:
        state, most = desk.batch_ends.pop(0) if desk.batch_ends else ("completed", len(job.lines))
        run(desk, job, answer, state, most)
    return job


def listed(desk: Desk, google: bool = False) -> Reply:
    """All jobs."""
    jobs = [_shown(job) for job in reversed(desk.batches.values()) if (job.dialect == "google") is google]
    if google:
        return Reply({"operations": jobs})
    return Reply({"object": "list", "data": jobs, "first_id": None, "last_id": None, "has_more": False})


def content(desk: Desk, name: str) -> Reply:
    """`GET /files/ID/content`."""
    return _lines(map(json.loads, _file(desk, name).splitlines()))


def results(desk: Desk, job_id: str) -> Reply:
    """`GET /messages/batches/ID/results`."""
    job = _job(desk, job_id)
    if job.ended is None:
        raise Refusal(404, "not_found_error", "The batch has not ended.")
    said = [
        *(_result(asked, {"type": "succeeded", "message": _message(reply)}) for asked, reply in job.answered),
        *(
            _result(asked, {"type": "errored", "error": {"type": "error", "error": _error(refusal)}})
            for asked, refusal in job.refused
        ),
        *(_result(asked, {"type": "expired" if job.state == "expired" else "canceled"}) for asked in job.left),
    ]
    return _lines(said)


def run(desk: Desk, job: BatchJob, answer: Answer, state: str, most: int) -> None:
    """Answer so many of its lines, and let it end in this state."""
    for asked in job.lines[:most]:
        try:
            reply = answer(asked.url, asked.body, job.key)
        except Refusal as refusal:
            job.refused.append((asked, refusal))
            continue
        job.answered.append((asked, reply))
        served = Received(f"/batch{asked.url}", "batch", {}, asked.body, time.time(), 200, reply.billed, True)
        desk.received.append(served)
    job.left, job.state, job.ended = job.lines[most:], state, time.time()
    if job.written is not None:
        job.written(desk, job)


def _google_file_written(desk: Desk, job: BatchJob) -> None:
    job.output = desk.id("batch-")
    desk.files[job.output] = text_of(_google_lines(job))


def _files_written(desk: Desk, job: BatchJob) -> None:
    if job.answered:
        job.output = desk.id("file-")
        desk.files[job.output] = text_of(_answered(desk, asked, reply) for asked, reply in reversed(job.answered))
    failed = [*((asked, 400, _error(refusal)) for asked, refusal in job.refused)]
    failed += [
        (asked, 0, {"code": f"batch_{job.state}", "message": f"The batch is {job.state}."}) for asked in job.left
    ]
    if failed:
        job.errors = desk.id("file-")
        desk.files[job.errors] = text_of(_failed(desk, *each) for each in failed)


def _answered(desk: Desk, asked: Asked, reply: Reply) -> dict[str, Any]:
    response = {"status_code": 200, "request_id": desk.id("req_", 32), "body": reply.body}
    return {"id": desk.id("batch_req_"), "custom_id": asked.custom_id, "response": response, "error": None}


def _failed(desk: Desk, asked: Asked, status: int, error: Mapping[str, Any]) -> dict[str, Any]:
    response = {"status_code": status, "request_id": desk.id("req_", 32), "body": {"error": error}} if status else None
    line = {"id": desk.id("batch_req_"), "custom_id": asked.custom_id, "response": response}
    return {**line, "error": None if status else error}


def _error(refusal: Refusal) -> dict[str, Any]:
    return {"type": refusal.kind, "message": str(refusal), "code": refusal.code, "param": refusal.param}


def _result(asked: Asked, result: Mapping[str, Any]) -> dict[str, Any]:
    return {"custom_id": asked.custom_id, "result": result}


def _message(reply: Reply) -> dict[str, Any]:
    return {**reply.body, "usage": {**reply.body["usage"], "service_tier": "batch"}}


def text_of(lines: Any) -> bytes:
    """JSON lines."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _lines(lines: Any) -> Reply:
    return Reply({}, [Event(line) for line in lines], framed=json_line, content_type=LINES)


def _job(desk: Desk, name: str) -> BatchJob:
    if (job := desk.batches.get(name)) is None:
        raise Refusal(404, "invalid_request_error", f"No batch found with id '{name}'.")
    found: BatchJob = job
    return found


def _file(desk: Desk, name: str) -> bytes:
    if (found := desk.files.get(name)) is None:
        raise Refusal(404, "invalid_request_error", f"No such File object: {name}")
    return found


def _shown(job: BatchJob) -> dict[str, Any]:
    return {"openai": _openai, "anthropic": _anthropic, "google": _google, "mistral": _mistral}[job.dialect](job)


def _google_lines(job: BatchJob) -> list[dict[str, Any]]:
    """The results in the order of the requests."""
    errors = {id(asked): {"code": refusal.status, "message": str(refusal)} for asked, refusal in job.refused}
    errors |= {id(asked): {"code": 1, "message": f"The batch is {job.state}."} for asked in job.left}
    answers = {id(asked): _google_answer(reply) for asked, reply in job.answered}
    return [
        {
            "key": asked.custom_id,
            **({"response": answers[id(asked)]} if id(asked) in answers else {"error": errors[id(asked)]}),
        }
        for asked in job.lines
    ]


def _google_answer(reply: Reply) -> Mapping[str, Any]:
    """An answer; an embedding alone has its count of tokens beside it."""
    if "embeddings" not in reply.body:
        return reply.body
    return {"embedding": reply.body["embeddings"][0], "tokenCount": str(reply.billed.input if reply.billed else 0)}


def _google(job: BatchJob) -> dict[str, Any]:
    states = {
        "in_progress": "BATCH_STATE_RUNNING",
        "completed": "BATCH_STATE_SUCCEEDED",
        "partially_succeeded": "JOB_STATE_PARTIALLY_SUCCEEDED",
    }
    counts = {
        "requestCount": len(job.lines),
        "successfulRequestCount": len(job.answered),
        "failedRequestCount": len(job.refused) + len(job.left) if job.ended else 0,
        "pendingRequestCount": 0 if job.ended else len(job.lines),
    }
    facts: dict[str, Any] = {
        "model": f"models/{job.asked['model']}",
        "displayName": job.asked["batch"].get("displayName", ""),
        "state": states.get(job.state) or f"BATCH_STATE_{job.state.upper()}",
        "createTime": _rfc(job.created),
        "updateTime": _rfc(job.ended or job.created),
        "batchStats": {name: str(count) for name, count in counts.items() if count},
    }
    if job.ended is None:
        return {"name": job.id, "metadata": facts}
    output: dict[str, Any] = {"responsesFile": f"files/{job.output}"}
    if job.output is None:
        held = [{key: line[key] for key in line if key != "key"} for line in _google_lines(job)]
        each = [{**line, **({"metadata": told} if told else {})} for line, told in zip(held, job.metadata, strict=True)]
        output = {"inlinedResponses": {"inlinedResponses": each}}
    return {"name": job.id, "metadata": {**facts, "endTime": _rfc(job.ended), "output": output}, "done": True}


def _openai(job: BatchJob) -> dict[str, Any]:
    at = None if job.ended is None else int(job.ended)
    return {
        "id": job.id,
        "object": "batch",
        "endpoint": job.asked.get("endpoint"),
        "errors": None,
        "input_file_id": job.input,
        "completion_window": "24h",
        "status": job.state,
        "output_file_id": job.output,
        "error_file_id": job.errors,
        "created_at": int(job.created),
        "in_progress_at": int(job.created),
        "expires_at": int(job.created) + WINDOW_S,
        "finalizing_at": None,
        **{f"{state}_at": at if job.state == state else None for state in ("completed", "failed", "expired")},
        "cancelling_at": None,
        "cancelled_at": at if job.state == "cancelled" else None,
        "request_counts": {
            "total": len(job.lines),
            "completed": len(job.answered),
            "failed": len(job.refused) + len(job.left),
        },
        "metadata": job.asked.get("metadata"),
    }


def _anthropic(job: BatchJob) -> dict[str, Any]:
    ended = job.ended is not None
    return {
        "id": job.id,
        "type": "message_batch",
        "processing_status": "ended" if ended else "in_progress",
        "request_counts": {
            "processing": 0 if ended else len(job.lines),
            "succeeded": len(job.answered),
            "errored": len(job.refused),
            "canceled": len(job.left) if job.state == "cancelled" else 0,
            "expired": len(job.left) if job.state == "expired" else 0,
        },
        "ended_at": _rfc(job.ended),
        "created_at": _rfc(job.created),
        "expires_at": _rfc(job.created + WINDOW_S),
        "archived_at": None,
        "cancel_initiated_at": None,
        "results_url": f"{{url}}/v1/messages/batches/{job.id}/results" if ended else None,
    }


def _mistral(job: BatchJob) -> dict[str, Any]:
    states = {"in_progress": "RUNNING", "completed": "SUCCESS", "expired": "TIMEOUT_EXCEEDED"}
    return {
        "id": job.id,
        "object": "batch",
        "input_files": list(job.asked.get("input_files") or ()),
        "metadata": job.asked.get("metadata"),
        "endpoint": job.asked.get("endpoint"),
        "model": job.asked.get("model"),
        "output_file": job.output,
        "error_file": job.errors,
        "errors": [],
        "status": states.get(job.state, job.state.upper()),
        "created_at": int(job.created),
        "total_requests": len(job.lines),
        "completed_requests": len(job.answered) + len(job.refused),
        "succeeded_requests": len(job.answered),
        "failed_requests": len(job.refused),
        "started_at": int(job.created),
        "completed_at": None if job.ended is None else int(job.ended),
    }


def _rfc(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
