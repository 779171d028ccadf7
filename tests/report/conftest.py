"""A small store whose figures can be checked by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import md5

import pytest

from tokenguard.facts import names as n
from tokenguard.facts.record import CallRecord, TaskRecord
from tokenguard.store.store import Store

START = int(datetime(2026, 11, 2, 9, tzinfo=UTC).timestamp()) * 10**9
HOUR = 3600 * 10**9


def call(hours, feature, model, tokens, cost, outcome="ok", **more):
    """A call `hours` after the start; `tokens` are input, output and read from the cache; `None` is not reported."""
    provider = "anthropic" if model.startswith("claude") else "openai"
    attributes = {n.OPERATION: "chat", n.PROVIDER: provider, n.REQUEST_MODEL: model, n.COST_STATUS: "exact"}
    values = {
        n.INPUT_TOKENS: tokens[0],
        n.OUTPUT_TOKENS: tokens[1],
        n.CACHE_READ_TOKENS: tokens[2],
        n.COST: cost,
        "tokenguard.feature": feature,
        n.REQUEST_MAX_TOKENS: 400,
        **{key: value for key, value in more.items() if "." in key},
    }
    attributes |= {key: value for key, value in values.items() if value is not None}
    for key in ("tenant", "prompt_version"):
        if key in more:
            attributes[f"tokenguard.{key}"] = more[key]
    span_id = md5(repr((hours, feature, outcome)).encode()).hexdigest()[:16]
    return CallRecord(START + hours * HOUR, 10**9, outcome, attributes, "a" * 32, span_id)


def records():
    """Twelve calls and three tasks."""
    long = {
        "tenant": "acme",
        "prompt_version": "v14",
        n.COST_SAVED: 0.0,
        "tokenguard.attr.region": "eu",
        n.COST_INPUT: 0.375,
        n.COST_OUTPUT: 0.125,
        n.COST_CACHE_READ: 0.0,
    }
    warm = {"tenant": "acme", n.COST_SAVED: 0.3, "tokenguard.attr.region": "us"}
    return [
        *(call(hour, "support_answer", "gpt-4o", (6000, 200, 0), 0.5, **long) for hour in range(4)),
        *(call(hour, "rag", "claude-sonnet-4-5", (9000, 300, 8000), 0.25, **warm) for hour in (1, 25)),
        call(
            2,
            "rag",
            "claude-sonnet-4-5",
            (9000, 40, 0),
            0.2,
            "abandoned",
            tenant="beta",
            **{n.COST_STATUS: "estimated", n.COST_BASIS: "abandoned_stream"},
        ),
        call(3, "rag", "my-tuned-model", (500, 50, None), None, tenant="beta", **{n.COST_STATUS: "unpriced"}),
        call(4, None, "gpt-4o-mini", (100, 20, None), 0.001, **{n.REQUEST_MAX_TOKENS: None}),
        call(5, "digest", "gpt-4o", (700, 100, 0), 0.05, **{n.RESEND_COUNT: 2, n.RETRY_COST: 0.02}),
        call(
            26, "digest", "gpt-4o", (None,) * 3, None, "error", **{n.ERROR_TYPE: "RateLimitError", n.COST_STATUS: None}
        ),
        call(
            26,
            "digest",
            "gpt-4o",
            (None,) * 3,
            None,
            "blocked",
            **{n.GUARD_ACTION: "block", n.GUARD_RULE: "digest per day", n.GUARD_PREVENTED: 0.75, n.COST_STATUS: None},
        ),
        TaskRecord("resolve_ticket", START, 10**9, "ok", 1.5, 3, {"tenant": "acme", "feature": "support_answer"}),
        TaskRecord("resolve_ticket", START + HOUR, 10**9, "ok", 0.25, 1, {"tenant": "acme"}),
        TaskRecord("resolve_ticket", START + HOUR, 10**9, "error", 0.25, 1, {"tenant": "beta"}),
    ]


@pytest.fixture
def store_path(tmp_path, monkeypatch):
    """The store, as `usage.db` in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKENGUARD_STORE_DAYS", "0")
    monkeypatch.delenv("TOKENGUARD_STORE", raising=False)
    store = Store("usage.db")
    store.write(records())
    store.close()
    return tmp_path / "usage.db"
