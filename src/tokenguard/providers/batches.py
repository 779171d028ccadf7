"""What the batch APIs mean: which requests are theirs, what a job says of itself, and what a line of its results says.

OpenAI's (and Azure's, Groq's, Together's), Anthropic's and Mistral's. Sources: their API references
(https://developers.openai.com/api/docs/guides/batch, https://platform.claude.com/docs/en/api/creating-message-batches,
https://docs.mistral.ai/api/endpoint/batch) and the types of their SDKs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from tokenguard.providers import api_of
from tokenguard.providers.api import Api
from tokenguard.providers.reading import fields, text, whole

UPLOAD: Final = "upload"
CREATE: Final = "create"
JOBS: Final = "jobs"
JOB: Final = "job"
FILE: Final = "file"
RESULTS: Final = "results"

_JOBS: Final = r"/(?:batches|batch/jobs)"
_PATHS: Final = tuple(
    (method, re.compile(pattern + "$"), kind)
    for method, pattern, kind in (
        ("post", "/files", UPLOAD),
        ("post", _JOBS, CREATE),
        ("get", _JOBS, JOBS),
        ("get", f"{_JOBS}/([^/]+)", JOB),
        ("post", f"{_JOBS}/([^/]+)/cancel", JOB),
        ("get", "/files/([^/]+)/content", FILE),
        ("get", f"{_JOBS}/([^/]+)/results", RESULTS),
    )
)

WINDOW_S: Final = 86_400.0
"""How long a job may take where it does not say: all of the three promise 24 hours."""


class Request(NamedTuple):
    """A request to a batch API, or one that may be: of files, only what is in them tells."""

    kind: str
    id: str = ""
    """Of the job or of the file."""


def request_at(method: str, url: str) -> Request | None:
    """What is asked at a path; `None` for anything but batches and files.

    >>> request_at("GET", "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results")
    Request(kind='results', id='msgbatch_1')
    >>> request_at("POST", "/vector_stores/vs_1/file_batches") is None
    True
    """
    if "batch" not in url and "/files" not in url:
        return None
    path, verb = url.partition("?")[0], method.lower()
    for wanted, pattern, kind in _PATHS:
        if wanted == verb and (found := pattern.search(path)) is not None:
            return Request(kind, found[1] if found.groups() else "")
    return None


class Line(NamedTuple):
    """One request of a batch."""

    custom_id: str
    url: str
    body: Mapping[str, Any]


def lines_of(body: Mapping[str, Any]) -> Iterator[Line] | None:
    """The requests that are in the body by which a job is created; `None` where they are in a file."""
    requests = body.get("requests")
    if not isinstance(requests, list | tuple):
        return None
    return (_line(each, body) for each in map(fields, requests))


def lines_in(content: bytes) -> Iterator[Line]:
    """The requests of an input file; what is no JSON object is passed over."""
    for each in objects(content):
        if "body" in each:
            yield _line(each, {})


def _line(each: Mapping[str, Any], job: Mapping[str, Any]) -> Line:
    params = each.get("params")  # Anthropic's
    url = text(each.get("url")) or text(job.get("endpoint")) or ("/v1/messages" if params is not None else "")
    request = fields(each.get("body") if params is None else params)
    if "model" not in request and job.get("model"):  # Mistral's, for all of its lines
        request = {**request, "model": job["model"]}
    return Line(text(each.get("custom_id")) or "", url, request)


def objects(content: bytes) -> Iterator[Mapping[str, Any]]:
    """The JSON objects of JSON lines."""
    for line in content.splitlines():
        if line.strip():
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                yield value


class Seen(NamedTuple):
    """What a job says of itself, when it is created, asked for, listed or cancelled. `None`: it does not say."""

    id: str
    state: str
    """In the provider's own word."""
    open: bool
    """Whether it still goes on."""
    total: int | None = None
    """Lines."""
    done: int | None = None
    """Lines that are answered, and billed."""
    input: str | None = None
    output: str | None = None
    errors: str | None = None
    """The ids of its files; a job of Anthropic's has none."""
    endpoint: str = ""
    expires_ns: int | None = None
    ended_ns: int | None = None
    metadata: Mapping[str, Any] = {}

    @property
    def unbilled(self) -> bool:
        """Whether it has ended with nothing to pay: it failed, or was cancelled before a line was answered."""
        return not self.open and self.output is None and not self.done and (self.done == 0 or self.state in NOTHING)


GOING: Final = frozenset(
    {
        *("validating", "in_progress", "finalizing", "cancelling"),  # OpenAI
        *("canceling", "queued", "running", "cancellation_requested"),  # Anthropic, Mistral
    }
)
"""States, in lower case, of jobs that go on."""
NOTHING: Final = frozenset({"failed"})
"""States of jobs of which no line was run: the input was not valid."""
_ENDED: Final = ("completed_at", "ended_at", "expired_at", "cancelled_at", "failed_at")


def seen(job: object) -> Seen | None:
    """What a job says; `None` for anything that is no job."""
    body = fields(job)
    name, state = text(body.get("id")), text(body.get("processing_status") or body.get("status"))
    if name is None or state is None:
        return None
    counts = fields(body.get("request_counts"))
    total, done = whole(counts.get("total")), whole(counts.get("completed"))
    if "succeeded" in counts:  # Anthropic's, which are all told when the job has ended
        total = sum(whole(count) or 0 for count in counts.values())
        done = whole(counts.get("succeeded"))
    elif "total_requests" in body:  # Mistral's
        total, done = whole(body.get("total_requests")), whole(body.get("succeeded_requests"))
    files = body.get("input_files")
    return Seen(
        name,
        state.lower(),
        state.lower() in GOING,
        total or None,
        done,
        text(body.get("input_file_id")) or (text(files[0]) if isinstance(files, list) and files else None),
        text(body.get("output_file_id")) or text(body.get("output_file")),
        text(body.get("error_file_id")) or text(body.get("error_file")),
        text(body.get("endpoint")) or "",
        moment_ns(body.get("expires_at")),
        next((at for key in _ENDED if (at := moment_ns(body.get(key))) is not None), None),
        fields(body.get("metadata")),
    )


def listed(page: object) -> list[Seen]:
    """The jobs of a page of a list."""
    data = fields(page).get("data")
    return [job for each in data if (job := seen(each)) is not None] if isinstance(data, list) else []


def moment_ns(value: object) -> int | None:
    """A time as Unix nanoseconds: written in seconds, as RFC 3339, or made a `datetime` by the SDK."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        return int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()) * 10**9
    return int(value) * 10**9 if isinstance(value, int | float) and value > 0 else None


class Result(NamedTuple):
    """One line of a job's results."""

    custom_id: str
    body: Mapping[str, Any] | None
    """The answer as a call by itself would have had it; `None` where there is none, and nothing to pay."""
    error: str | None
    """Why there is none."""


def result_of(line: Mapping[str, Any]) -> Result | None:
    """What a line of results says; `None` for a line that is no result."""
    custom_id = text(line.get("custom_id"))
    if custom_id is None:
        return None
    if "result" in line:  # Anthropic's
        result = fields(line["result"])
        kind = text(result.get("type")) or "error"
        if kind == "succeeded":
            return Result(custom_id, fields(result.get("message")), None)
        inner = fields(fields(result.get("error")).get("error"))
        return Result(custom_id, None, text(inner.get("type")) or kind)
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
    "message": "/v1/messages",
}
"""The wire format of an answer, where nobody has seen its job created: by the kind that it says it is."""


def api_of_line(provider: str, endpoint: str, body: Mapping[str, Any]) -> Api | None:
    """The wire format of an answer: of its job's endpoint, or else by what it says."""
    said = text(body.get("object")) or text(body.get("type")) or ""
    found = api_of(endpoint, provider) if endpoint else None
    return found or api_of(_BY_OBJECT.get(said, ""), provider)


def attribution_in(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The attribution that a job's own metadata carries, in keys like `tokenguard.tenant`."""
    prefix = "tokenguard."
    return {key.removeprefix(prefix): str(value) for key, value in metadata.items() if str(key).startswith(prefix)}


def uploaded_id(result: object) -> str | None:
    """The id of a file that was uploaded."""
    return text(fields(result).get("id"))
