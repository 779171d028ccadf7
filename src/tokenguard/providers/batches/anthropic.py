"""Anthropic's Message Batches. Source: https://platform.claude.com/docs/en/api/creating-message-batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tokenguard.providers import api_of
from tokenguard.providers.api import Api
from tokenguard.providers.batches.rows import (
    CREATE,
    JOB,
    JOBS,
    RESULTS,
    Asked,
    BatchApi,
    Line,
    Result,
    Seen,
    inlined,
    moment_ns,
    none_held,
    paths,
)
from tokenguard.providers.reading import fields, text, whole

MESSAGES: Final = "/v1/messages"


def _line(each: Mapping[str, Any], asked: Asked) -> Line | None:
    return Line(text(each.get("custom_id")) or "", MESSAGES, fields(each.get("params")))


def _seen(job: object) -> Seen | None:
    body = fields(job)
    name, state = text(body.get("id")), text(body.get("processing_status"))
    if name is None or state is None:
        return None
    counts = fields(body.get("request_counts"))  # all are told when the job has ended
    return Seen(
        name,
        state,
        state in ("in_progress", "canceling"),
        sum(whole(count) or 0 for count in counts.values()) or None,
        whole(counts.get("succeeded")),
        expires_ns=moment_ns(body.get("expires_at")),
        ended_ns=moment_ns(body.get("ended_at")),
    )


def _result(line: Mapping[str, Any]) -> Result | None:
    custom_id = text(line.get("custom_id"))
    if custom_id is None:
        return None
    result = fields(line.get("result"))
    kind = text(result.get("type")) or "error"
    if kind == "succeeded":
        return Result(custom_id, fields(result.get("message")), None)
    inner = fields(fields(result.get("error")).get("error"))
    return Result(custom_id, None, text(inner.get("type")) or kind)


def _answered(provider: str, endpoint: str, model: str | None, result: Result) -> Api | None:
    return api_of(MESSAGES, provider)


ANTHROPIC: Final = BatchApi(
    "anthropic",
    paths(
        ("post", "/messages/batches", CREATE),
        ("get", "/messages/batches", JOBS),
        ("get", "/messages/batches/([^/]+)", JOB),
        ("post", "/messages/batches/([^/]+)/cancel", JOB),
        ("get", "/messages/batches/([^/]+)/results", RESULTS),
    ),
    lambda body: Asked(MESSAGES),
    inlined,
    _line,
    _seen,
    "data",
    none_held,
    _result,
    b'"custom_id"',
    _answered,
)
