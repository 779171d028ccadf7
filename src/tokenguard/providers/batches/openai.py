"""OpenAI's batch API, which Azure, Groq and Together have too, and Mistral's, whose files are the same.

Sources: https://developers.openai.com/api/docs/guides/batch, https://docs.mistral.ai/api/endpoint/batch and the types
of their SDKs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tokenguard.providers import api_of
from tokenguard.providers.api import Api
from tokenguard.providers.batches.rows import (
    CREATE,
    FILE,
    JOB,
    JOBS,
    UPLOAD,
    Asked,
    BatchApi,
    Line,
    Result,
    Seen,
    dicts,
    first,
    inlined,
    moment_ns,
    none_held,
    paths,
)
from tokenguard.providers.reading import fields, text, whole

GOING: Final = frozenset(
    {
        *("validating", "in_progress", "finalizing", "cancelling"),
        *("queued", "running", "cancellation_requested"),  # Mistral
    }
)
"""States, in lower case, of jobs that go on."""
_ENDED: Final = ("completed_at", "expired_at", "cancelled_at", "failed_at")


def _asked(body: Mapping[str, Any]) -> Asked:
    return Asked(
        text(body.get("endpoint")) or "",
        text(body.get("model")) or text(body.get("model_id")),
        text(body.get("input_file_id")) or first(body.get("input_files")) or "",
        whole(body.get("timeout_hours")),
    )


def _line(each: Mapping[str, Any], asked: Asked) -> Line | None:
    body = fields(each.get("body"))
    url = text(each.get("url")) or asked.url or ("/chat/completions" if "messages" in body else "/embeddings")
    return Line(text(each.get("custom_id")) or "", url, body) if body else None


def _seen(job: object) -> Seen | None:
    body = fields(job)
    body = fields(body.get("job")) or body  # Together's answer to what creates it
    name, state = text(body.get("id")), text(body.get("status"))
    if name is None or state is None:
        return None
    counts = fields(body.get("request_counts"))
    total, done = whole(counts.get("total")), whole(counts.get("completed"))
    if "total_requests" in body:  # Mistral's
        total, done = whole(body.get("total_requests")), whole(body.get("succeeded_requests"))
    return Seen(
        name,
        state.lower(),
        state.lower() in GOING,
        total or None,
        done,
        text(body.get("input_file_id")) or first(body.get("input_files")),
        text(body.get("output_file_id")) or text(body.get("output_file")),
        text(body.get("error_file_id")) or text(body.get("error_file")),
        text(body.get("endpoint")) or "",
        moment_ns(body.get("expires_at") or body.get("job_deadline")),
        next((at for key in _ENDED if (at := moment_ns(body.get(key))) is not None), None),
        fields(body.get("metadata")),
        text(body.get("model")) or text(body.get("model_id")),
    )


def _result(line: Mapping[str, Any]) -> Result | None:
    custom_id = text(line.get("custom_id"))
    if custom_id is None or not ("response" in line or "error" in line):
        return None
    response = fields(line.get("response"))
    body, status = fields(response.get("body")), whole(response.get("status_code")) or 200
    if body and status < 400:
        return Result(custom_id, body, None)
    error = fields(line.get("error")) or fields(body.get("error"))
    code = text(error.get("code")) or text(error.get("type"))
    return Result(custom_id, None, code or (str(status) if status >= 400 else "error"))


_BY_OBJECT: Final[Mapping[str, str]] = {
    "chat.completion": "/chat/completions",
    "text_completion": "/completions",
    "response": "/responses",
    "list": "/embeddings",
}
"""The path of an answer, where nobody has seen its job created: by the kind that it says it is."""


def _answered(provider: str, endpoint: str, model: str | None, result: Result) -> Api | None:
    found = api_of(endpoint, provider) if endpoint else None
    return found or api_of(_BY_OBJECT.get(text(fields(result.body).get("object")) or "", ""), provider)


OPENAI: Final = BatchApi(
    "openai",
    paths(
        ("post", "/files", UPLOAD),
        ("post", "/batches", CREATE),
        ("get", "/batches", JOBS),
        ("get", "/batches/([^/]+)", JOB),
        ("post", "/batches/([^/]+)/cancel", JOB),
        ("get", "/files/([^/]+)/content", FILE),
    ),
    _asked,
    inlined,
    _line,
    _seen,
    "data",
    none_held,
    _result,
    b'"custom_id"',
    _answered,
)
MISTRAL: Final = OPENAI._replace(
    name="mistral",
    paths=paths(
        ("post", "/batch/jobs", CREATE),
        ("get", "/batch/jobs", JOBS),
        ("get", "/batch/jobs/([^/]+)", JOB),
        ("post", "/batch/jobs/([^/]+)/cancel", JOB),
    ),
    held=lambda job: dicts(fields(job).get("outputs")),
)
"""Its jobs name the model for all of their lines, may hold the requests, and then hold the results as well."""
