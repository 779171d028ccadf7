"""The billing APIs of OpenAI, Anthropic and OpenRouter as they are on the wire, from the provider's own books.

The bill can be made to differ from what a program measured: by use that it did not see, a price, a credit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qs

from tokenguard.demo.exchange import Desk, Received, Refusal, Reply, dated
from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import Usage
from tokenguard.prices import PriceBook, Tier

PATHS: Final = ("/organization/", "/v1/organizations/", "/api/v1/activity")
PAGE: Final = 3
"""Buckets, or rows, of a page: so that every report has several."""
API_KEY: Final = "api_key_id"
KINDS: Final = ("input", "output", "cache_read", "cache_write")


@dataclass
class Invoice:
    """How the bill differs from the books."""

    more: list[tuple[str, Usage]] = field(default_factory=list)
    factors: dict[str, float] = field(default_factory=dict)
    credits: dict[str, float] = field(default_factory=dict)
    """USD by provider."""
    tools: dict[str, float] = field(default_factory=dict)
    """USD by provider, of hosted tools."""


class Entry(NamedTuple):
    """One day, model and kind on the bill."""

    day: str
    model: str
    kind: str
    tokens: int
    usd: float
    account: str | None
    """The key or the project that it is told by."""


def answer(desk: Desk, path: str, query: str) -> Reply:
    """A page of a report. Only admin keys may ask, which the server has looked at."""
    asked = parse_qs(query)
    if path == "/api/v1/activity":
        return Reply({"data": [_activity(day, model, of) for (day, model, _), of in _by_model(desk, None).items()]})
    whose = "anthropic" if "/organizations/" in path else "openai"
    row = next((shape for end, shape in SHAPES.items() if path.endswith(end)), None)
    if row is None:
        raise Refusal(404, "invalid_request_error", f"Invalid URL (GET {path})")
    if whose == "openai" and int(asked["limit"][0]) > (180 if path.endswith("costs") else 31):
        raise Refusal(400, "invalid_request_error", "limit is above its maximum")
    by_key = API_KEY in (*asked.get("group_by", ()), *asked.get("group_by[]", ()))
    rows = list(row(desk, whose, by_key))
    flat = "/analytics/" in path
    buckets = [] if flat else list(_days(asked))
    if flat:
        data: list[Any] = [{"starting_at": f"{day}T00:00:00Z", **facts} for day, facts in rows]
    elif whose == "openai":
        data = [
            {"object": "bucket", "start_time": _seconds(day), "results": [facts for at, facts in rows if at == day]}
            for day in buckets
        ]
    else:
        data = [
            {"starting_at": f"{day}T00:00:00Z", "results": [facts for at, facts in rows if at == day]}
            for day in buckets
        ]
    first = int(asked.get("page", ["0"])[0])
    more = len(data) > first + PAGE
    return Reply(
        {"data": data[first : first + PAGE], "has_more": more, "next_page": str(first + PAGE) if more else None}
    )


def _days(asked: Mapping[str, list[str]]) -> Iterator[str]:
    """The days asked for; each is a bucket, if only an empty one."""
    if "start_time" in asked:
        first, last = (datetime.fromtimestamp(int(asked[key][0]), UTC) for key in ("start_time", "end_time"))
    else:
        first, last = (datetime.fromisoformat(asked[key][0]) for key in ("starting_at", "ending_at"))
    while first < last:
        yield f"{first:%Y-%m-%d}"
        first += timedelta(days=1)


def _seconds(day: str) -> int:
    return int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp())


def account_of(each: Received, by_key: bool) -> str:
    """The key that a request was sent with, by its last letters, or its project; empty for the default workspace."""
    if by_key:
        key = each.headers.get("x-api-key") or each.headers.get("authorization", "").removeprefix("Bearer ")
        return f"key_{key[-8:]}"
    return each.headers.get("openai-project") or ("" if each.model.startswith("claude") else "proj_main")


def entries(desk: Desk, whose: str | None, by_key: bool = False) -> list[Entry]:
    """What the books come to, as it is billed."""
    prices, invoice = PriceBook(), desk.invoice
    sums: dict[tuple[str, str, str, str], list[float]] = defaultdict(lambda: [0, 0.0])
    last = _last(desk)
    asked = [
        (each.model, each.billed, each.at, each.api == "batch", account_of(each, by_key))
        for each in desk.received
        if each.billed
    ]
    for model, usage in invoice.more:
        one = Received("", "", {}, {"model": model}, last)
        asked.append((model, usage, last, False, account_of(one, by_key)))
    for model, usage, at, batch, account in asked:
        provider = "anthropic" if model.startswith("claude") else "openai"
        if whose not in (None, provider):
            continue
        cost = prices.cost(provider, model, usage, tier=Tier("batch" if batch else None), at_ns=int(at * 1e9))
        cached, written = usage.cache_read or 0, usage.cache_write or 0
        counts = ((usage.input or 0) - cached - written, usage.output or 0, cached, written)
        for kind, tokens, usd in zip(
            KINDS, counts, (cost.input, cost.output, cost.cache_read, cost.cache_write), strict=True
        ):
            if tokens:
                both = sums[f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}", dated(model), kind, account]
                both[0] += tokens
                both[1] += (usd or 0.0) * invoice.factors.get(model, 1.0)
    return [
        Entry(day, model, kind, int(tokens), usd, account or None)
        for (day, model, kind, account), (tokens, usd) in sorted(sums.items())
    ]


def _by_model(
    desk: Desk, whose: str | None, by_key: bool = False
) -> dict[tuple[str, str, str | None], dict[str, Entry]]:
    found: dict[tuple[str, str, str | None], dict[str, Entry]] = defaultdict(dict)
    for entry in entries(desk, whose, by_key):
        found[entry.day, entry.model, entry.account][entry.kind] = entry
    return found


def _last_day(desk: Desk) -> str:
    return f"{datetime.fromtimestamp(_last(desk), UTC):%Y-%m-%d}"


def _last(desk: Desk) -> float:
    """When the last request was charged."""
    return max((each.at for each in desk.received if each.billed is not None), default=0.0)


Shape = Iterator[tuple[str, dict[str, Any]]]


def _openai_costs(desk: Desk, whose: str, by_key: bool) -> Shape:
    words = {"input": "input", "output": "output", "cache_read": "cached input", "cache_write": "cache write input"}
    for entry in entries(desk, whose, by_key):
        yield (
            entry.day,
            _openai_cost(entry.usd, f"{entry.model}, {words[entry.kind]}", _whose("openai", entry.account, by_key)),
        )
    for said, amounts in (("Credit grant", desk.invoice.credits), ("web search tool calls", desk.invoice.tools)):
        if whose in amounts:
            yield _last_day(desk), _openai_cost(amounts[whose], said, {"project_id": "proj_main"})


def _whose(provider: str, account: str | None, by_key: bool) -> dict[str, str | None]:
    return {API_KEY if by_key else "project_id" if provider == "openai" else "workspace_id": account}


def _openai_cost(usd: float, said: str, whose: Mapping[str, str | None]) -> dict[str, Any]:
    amount = {"value": usd, "currency": "usd"}
    return {"object": "organization.costs.result", "amount": amount, "line_item": said, **whose}


def _openai_usage(desk: Desk, whose: str, by_key: bool) -> Shape:
    for (day, model, account), of in _by_model(desk, whose, by_key).items():
        tokens = {kind: of[kind].tokens if kind in of else 0 for kind in KINDS}
        yield (
            day,
            {
                "object": "organization.usage.completions.result",
                "input_tokens": tokens["input"] + tokens["cache_read"] + tokens["cache_write"],
                "input_cached_tokens": tokens["cache_read"],
                "input_cache_write_tokens": tokens["cache_write"],
                "output_tokens": tokens["output"],
                "model": model,
                **_whose("openai", account, by_key),
            },
        )


def _nothing(desk: Desk, whose: str, by_key: bool) -> Shape:
    yield from ()


def _cents(usd: float) -> str:
    return f"{usd * 100:.10f}"


_TOKENS: Final = {
    "input": "uncached_input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_input_tokens",
    "cache_write": "cache_creation.ephemeral_5m_input_tokens",
}


def _anthropic_rows(desk: Desk, whose: str, by_key: bool) -> Shape:
    for entry in entries(desk, whose, by_key):
        facts = {
            "cost_type": "tokens",
            "token_type": _TOKENS[entry.kind],
            "model": entry.model,
            **_whose("anthropic", entry.account, by_key),
        }
        yield entry.day, {**facts, "amount": _cents(entry.usd), "currency": "USD"}
    for kind, amounts in (("credit", desk.invoice.credits), ("web_search", desk.invoice.tools)):
        if whose in amounts:
            none = {"cost_type": kind, "token_type": None, "model": None, "workspace_id": None}
            yield _last_day(desk), {**none, "amount": _cents(amounts[whose]), "currency": "USD"}


def _analytics_cost(desk: Desk, whose: str, by_key: bool) -> Shape:
    for day, row in _anthropic_rows(desk, whose, by_key):
        money = {"amount": row.pop("amount"), "currency": row.pop("currency"), "requests": None}
        yield day, {"group": row, "cost": {**money, "list_amount": money["amount"]}}


def _anthropic_usage(desk: Desk, whose: str, by_key: bool) -> Shape:
    for (day, model, account), of in _by_model(desk, whose, by_key).items():
        tokens = {kind: of[kind].tokens if kind in of else 0 for kind in KINDS}
        yield (
            day,
            {
                "uncached_input_tokens": tokens["input"],
                "output_tokens": tokens["output"],
                "cache_read_input_tokens": tokens["cache_read"],
                "cache_creation": {"ephemeral_5m_input_tokens": tokens["cache_write"], "ephemeral_1h_input_tokens": 0},
                "model": model,
                **_whose("anthropic", account, by_key),
            },
        )


def _analytics_usage(desk: Desk, whose: str, by_key: bool) -> Shape:
    for day, row in _anthropic_usage(desk, whose, by_key):
        group = {key: row.pop(key) for key in ("model", API_KEY if by_key else "workspace_id")}
        yield day, {"group": group, "usage": row}


def _activity(day: str, model: str, of: Mapping[str, Entry]) -> dict[str, Any]:
    tokens = {kind: of[kind].tokens if kind in of else 0 for kind in KINDS}
    return {
        "date": day,
        "model": f"openai/{model}",
        "provider_name": "OpenAI",
        "usage": sum(entry.usd for entry in of.values()),
        "prompt_tokens": tokens["input"] + tokens["cache_read"],
        "completion_tokens": tokens["output"],
        "requests": 1,
    }


SHAPES: Final = {
    "/organization/costs": _openai_costs,
    "/organization/usage/completions": _openai_usage,
    "/organization/usage/embeddings": _nothing,
    "/organizations/cost_report": _anthropic_rows,
    "/organizations/usage_report/messages": _anthropic_usage,
    "/analytics/cost": _analytics_cost,
    "/analytics/usage": _analytics_usage,
}
