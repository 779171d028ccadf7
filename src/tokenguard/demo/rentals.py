"""What is rented by time, and jobs that tune a model: vector stores, containers, fine-tuning, Google's caches."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from tokenguard.demo.exchange import Desk, Refusal, Reply
from tokenguard.facts.usage import Usage

CREATED = "2026-11-26T12:00:00.123456789Z"
TRAINED = 100_000
"""Tokens that a model is tuned with."""
POLLS = 1


def vector_store(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /vector_stores`."""
    now = int(time.time())
    days = (body.get("expires_after") or {}).get("days")
    until = {} if days is None else {"expires_after": body["expires_after"], "expires_at": now + days * 86_400}
    counts = dict.fromkeys(("cancelled", "completed", "failed", "in_progress", "total"), 0)
    told = {"object": "vector_store", "created_at": now, "last_active_at": now, "name": body.get("name") or ""}
    return _kept(desk, "vs_", {**told, "usage_bytes": 0, "status": "completed", "file_counts": counts, **until})


def container(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /containers`."""
    now, after = int(time.time()), body.get("expires_after") or {"anchor": "last_active_at", "minutes": 20}
    told = {"object": "container", "created_at": now, "last_active_at": now, "name": body["name"], "status": "running"}
    limit = body.get("memory_limit") or "1g"
    return _kept(desk, "cntr_", {**told, "expires_after": after, "memory_limit": limit})._replace(
        billed=Usage(request=1)
    )


def tuning(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /fine_tuning/jobs`, and Together's `POST /fine-tunes`."""
    job = {"object": "fine_tuning.job", "model": body["model"], "status": "queued", "created_at": int(time.time())}
    job |= {"training_file": body["training_file"], "polls": 0, "fails": body.get("suffix") == "fails"}
    return _kept(desk, "ft-", job)


def cached_content(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /cachedContents`: a cache of 10,000 tokens, kept for the hours of its `ttl`."""
    hours = int(float(str(body.get("ttl") or "3600s").removesuffix("s")) / 3600)
    told = {"model": body["model"], "createTime": CREATED, "updateTime": CREATED, "expireTime": _in_hours(hours)}
    name = desk.id("cachedContents/")
    desk.jobs[name.rpartition("/")[2]] = {**told, "name": name, "usageMetadata": {"totalTokenCount": 10_000}}
    return Reply(desk.jobs[name.rpartition("/")[2]], billed=Usage(10_000, token_hours=10_000 * hours))


def _in_hours(hours: int) -> str:
    return f"2026-11-26T{12 + hours}:00:00.123456789Z"


def _kept(desk: Desk, kind: str, told: Mapping[str, Any]) -> Reply:
    name = desk.id(kind)
    desk.jobs[name] = {"id": name, **told}
    return Reply(desk.jobs[name])


def looked_up(desk: Desk, name: str) -> Reply:
    """`GET` of one of them; a job is done when it was asked for often enough."""
    if (found := desk.jobs.get(name)) is None:
        raise Refusal(404, "invalid_request_error", f"No such object: {name}")
    if "polls" in found:
        found["polls"] += 1
        if found["polls"] > POLLS:
            ends = {"status": "failed", "error": {"code": "bad_file", "message": "No.", "param": None}}
            found |= ends if found["fails"] else {"status": "succeeded", "trained_tokens": TRAINED}
    return Reply(found)


def changed(desk: Desk, name: str, body: Mapping[str, Any]) -> Reply:
    """`PATCH /cachedContents/ID`: another lifetime, from when it was made."""
    hours = int(float(str(body["ttl"]).removesuffix("s")) / 3600)
    desk.jobs[name] |= {"expireTime": _in_hours(hours)}
    return Reply(desk.jobs[name])


def deleted(desk: Desk, name: str) -> Reply:
    """`DELETE` of one of them."""
    found = desk.jobs.pop(name)
    return Reply({} if "expireTime" in found else {"id": name, "object": f"{found['object']}.deleted", "deleted": True})
