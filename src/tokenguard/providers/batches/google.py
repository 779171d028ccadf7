"""The Gemini API's batch mode, and the batch prediction jobs of Vertex AI.

A job is a long-running operation, whose model is in the URL by which it is made. Its requests are in that request, or
in a file of lines `{"key", "request"}`; its results are in the job, in the order of the requests, or in a file of lines
`{"key", "response"}`. Vertex AI's results go to Cloud Storage or BigQuery, which no SDK's request brings here.
Sources: https://ai.google.dev/gemini-api/docs/batch-api and `google.genai.batches` of google-genai 3.6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

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
    moment_ns,
    paths,
)
from tokenguard.providers.google import EMBED, GENERATE
from tokenguard.providers.reading import fields, text, whole

GOING: Final = frozenset({"unspecified", "queued", "pending", "running", "cancelling", "paused", "updating"})
EMBEDS: Final = ":asyncBatchEmbedContent"


def _source(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where the requests are."""
    return fields(fields(body.get("batch")).get("inputConfig")) or fields(body.get("inputConfig"))


def _asked(body: Mapping[str, Any]) -> Asked:
    source = _source(body)
    uris = fields(source.get("gcsSource")).get("uris")
    file = text(source.get("fileName")) or text(source.get("file_name"))
    named = file or text(uris) or (uris[0] if isinstance(uris, list) and uris else "")
    model = (text(body.get("model")) or "").rpartition("/")[2]
    return Asked("", model or None, str(named).removeprefix("files/"))


def _inlined(body: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    requests = fields(_source(body).get("requests")).get("requests")
    return _in_order(dicts(requests)) if isinstance(requests, list) else None


def _in_order(each: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Requests or results of a job with a key each: that in their metadata, or else their number."""
    keys = [text(fields(one.get("metadata")).get("key")) or text(one.get("key")) for one in each]
    told = len(set(keys)) == len(keys) and None not in keys
    return [{**one, "key": keys[n] if told else str(n)} for n, one in enumerate(each)]


def _line(each: Mapping[str, Any], asked: Asked) -> Line | None:
    request = fields(each.get("request"))
    if not request:
        return None
    api = EMBED if "content" in request else GENERATE
    body = {"requests": [request]} if api is EMBED else request
    if named := text(request.get("model")):
        body = {**body, "model": named.rpartition("/")[2]}
    return Line(text(each.get("key")) or "", api.paths[-1], body, api)


def _seen(job: object) -> Seen | None:
    body = fields(job)
    facts = fields(body.get("metadata")) or body
    name, said = text(body.get("name")), facts.get("state")
    state = text(getattr(said, "value", said))  # of the SDK's model, an enumeration
    if name is None or state is None:
        return None
    state = state.lower().removeprefix("batch_state_").removeprefix("job_state_")
    stats = fields(facts.get("batchStats")) or fields(facts.get("completionStats"))
    total, done = whole(stats.get("requestCount")), whole(stats.get("successfulRequestCount"))
    if "successfulCount" in stats:  # Vertex AI's
        done = whole(stats.get("successfulCount"))
        total = sum(whole(stats.get(key)) or 0 for key in ("successfulCount", "failedCount", "incompleteCount"))
    going = state in GOING
    if stats and not going and done is None:
        done = 0  # zeros are left out
    return Seen(
        name,
        state,
        going,
        total or None,
        done,
        output=_output(body, facts),
        ended_ns=None if going else _ended(facts),
    )


def _ended(facts: Mapping[str, Any]) -> int | None:
    said = (facts.get(key) for key in ("endTime", "end_time", "updateTime", "update_time"))
    return next((at for each in said if (at := moment_ns(each)) is not None), None)


def _output(body: Mapping[str, Any], facts: Mapping[str, Any]) -> str | None:
    """The file of results; the place of Vertex AI's, which nobody reads here."""
    here = _results(body)
    file = text(here.get("responsesFile")) or text(here.get("file_name"))
    if file is not None:
        return file.removeprefix("files/")
    info = fields(facts.get("outputInfo"))
    return text(info.get("gcsOutputDirectory")) or text(info.get("bigqueryOutputTable"))


def _results(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where a job has its results: in its metadata, or in the response of its operation."""
    return (
        fields(fields(body.get("metadata")).get("output"))
        or fields(fields(body.get("response")).get("output"))
        or fields(body.get("response"))
        or fields(body.get("dest"))
    )


def _held(job: object) -> list[Mapping[str, Any]]:
    here = _results(fields(job))
    for key in ("inlinedResponses", "inlinedEmbedContentResponses"):
        if isinstance(found := fields(here.get(key)).get("inlinedResponses"), list):
            return _in_order(dicts(found))
    return []


def _result(line: Mapping[str, Any]) -> Result | None:
    key, body = text(line.get("key")), fields(line.get("response"))
    if key is None or not (body or line.get("error")):
        return None
    if "embedding" in body:  # as the answer to one request alone has it
        counts = {"promptTokenCount": whole(body.get("tokenCount") or body.get("token_count"))}
        return Result(key, {"embeddings": [body["embedding"]], "usageMetadata": counts}, None)
    if body:
        return Result(key, body, None)
    error = fields(line.get("error"))
    return Result(key, None, text(error.get("status")) or str(whole(error.get("code")) or "error"))


def _answered(provider: str, endpoint: str, model: str | None, result: Result) -> Api | None:
    return EMBED if "embeddings" in fields(result.body) else GENERATE


GOOGLE: Final = BatchApi(
    "google",
    paths(
        ("post", "/files", UPLOAD),
        ("post", ":batchGenerateContent", CREATE),
        ("post", EMBEDS, CREATE),
        ("get", "/batches", JOBS),
        ("get", "/(batches/[^/:]+)", JOB),
        ("get", "/files/([^/:]+):download", FILE),
        ("post", "/batchPredictionJobs", CREATE),
        ("get", "/(projects/[^/]+/locations/[^/]+/batchPredictionJobs/[^/:]+)", JOB),
    ),
    _asked,
    _inlined,
    _line,
    _seen,
    "operations",
    _held,
    _result,
    b'"key"',
    _answered,
    lambda said: (text(fields(fields(said).get("file")).get("name")) or "").removeprefix("files/") or None,
)
