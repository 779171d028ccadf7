"""The providers' billing APIs, as rows: where each is, what it takes, and what its answers mean.

Bucket limits, paging and units are the providers' own: OpenAI's costs are floats in dollars and its tokens are told
apart from them; Anthropic's amounts are decimal strings in cents; OpenRouter's are credits, which are dollars.
Sources: https://platform.openai.com/docs/api-reference/usage, https://platform.claude.com/docs/en/build-with-claude/usage-cost-api,
https://openrouter.ai/docs/api-reference, and the types of openai 3.57 and anthropic 2.14.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from tokenguard.facts.tuples import NamedTuple
from tokenguard.invoice.asking import Params, pages
from tokenguard.invoice.lines import (
    CACHE_READ,
    CACHE_WRITE,
    INPUT,
    OUTPUT,
    TOOLS,
    Billed,
    Counted,
    InvoiceError,
    Line,
)


class Endpoint(NamedTuple):
    """One path of an API, in requests of so many days at the most."""

    path: str
    days: int
    ask: Callable[[date, date], Params]
    """The parameters for days from the first on, before the second."""
    read: Callable[[Mapping[str, Any]], Iterable[Line]]
    keys: bool = True
    """Whether it can tell keys apart, in the place of projects or workspaces."""


PROJECT: Final = "project"
KEY: Final = "key"
ACCOUNTS: Final = ("project_id", "workspace_id")
"""What providers call a project."""
API_KEY: Final = "api_key_id"


class Reader(NamedTuple):
    """One API."""

    name: str
    env: str
    """The environment variable with its key: it is read there alone, and never written."""
    needs: str
    base_env: str
    """The environment variable with another address, for gateways and tests."""
    base: str
    headers: Callable[[str], dict[str, str]]
    endpoints: tuple[Endpoint, ...]

    @property
    def key(self) -> str | None:
        """The key, where there is one."""
        return os.environ.get(self.env) or None

    def lines(self, since: date, until: date, account: str = PROJECT) -> Iterator[Line]:
        """All it says of the days from `since` on, before `until`, by project or by key. Raises `InvoiceError`."""
        if account == KEY and not all(endpoint.keys for endpoint in self.endpoints):
            raise InvoiceError(f"{self.name}: its costs are not told by key. Compare it by project.")
        if (key := self.key) is None:
            raise InvoiceError(f"{self.name}: {self.env} is not set. It takes {self.needs}.")
        base = (os.environ.get(self.base_env) or self.base).rstrip("/")
        for endpoint in self.endpoints:
            first = since
            while first < until:
                last = min(first + timedelta(days=endpoint.days), until)
                asked = endpoint.ask(first, last)
                if account == KEY:
                    asked = [(name, API_KEY if value in ACCOUNTS else value) for name, value in asked]
                for page in pages(base + endpoint.path, asked, self.headers(key), self.needs):
                    yield from endpoint.read(page)
                first = last


def _seconds(day: date) -> str:
    return str(int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()))


def _moment(day: date) -> str:
    return f"{day.isoformat()}T00:00:00Z"


def _rows(page: Mapping[str, Any], key: str) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """The rows of a page with the beginning of their bucket, which may be empty; newer reports have rows alone."""
    for bucket in page.get("data") or ():
        if "group" in bucket:
            yield bucket.get(key), {**bucket["group"], **(bucket.get("cost") or bucket.get("usage") or {})}
        for row in bucket.get("results") or ():
            yield bucket.get(key), row


def _account(row: Mapping[str, Any]) -> str | None:
    """Whose a row is: the key or the project that it was asked by; what has none is the default workspace's."""
    for name in (API_KEY, *ACCOUNTS):
        if row.get(name):
            return str(row[name])
    return "default" if "workspace_id" in row and API_KEY not in row else None


def _money(value: object, where: str) -> Decimal:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite():
        raise InvoiceError(f"{where}: {value!r} is no amount. Report this to the provider.")
    return amount


# --- OpenAI --------------------------------------------------------------------------------------------------------


def _openai_costs(page: Mapping[str, Any]) -> Iterator[Line]:
    for at, row in _rows(page, "start_time"):
        amount = row.get("amount") or {}
        _dollars(amount.get("currency"), "OpenAI")
        said = str(row.get("line_item") or "")
        model, kind = _line_item(said)
        usd = _money(amount.get("value") or 0, "OpenAI")
        yield Billed(_day_of(at), "openai", usd, model, kind, _account(row), usd < 0, said)


_TOKENS: Final = (
    (r"cach\w+ (?:write|creation)", CACHE_WRITE),
    ("cached", CACHE_READ),
    ("input", INPUT),
    ("output", OUTPUT),
)


def _line_item(said: str) -> tuple[str | None, str | None]:
    """The model and the kind in words like `gpt-4o-mini-2024-07-18, cached input`."""
    model, comma, what = said.partition(",")
    what = what.lower().replace("_", " ")
    kind = next((kind for pattern, kind in _TOKENS if re.search(pattern, what)), None)
    if comma and kind is not None:
        return model.strip(), kind
    tools = re.search(r"search|interpreter|session|storage|container", said, re.IGNORECASE)
    return (None, TOOLS) if tools else ((model.strip() or None) if comma else None, None)


def _openai_usage(page: Mapping[str, Any]) -> Iterator[Line]:
    for at, row in _rows(page, "start_time"):
        cached, written = row.get("input_cached_tokens") or 0, row.get("input_cache_write_tokens") or 0
        counts = (
            (INPUT, (row.get("input_tokens") or 0) - cached - written),
            (CACHE_READ, cached),
            (CACHE_WRITE, written),
            (OUTPUT, row.get("output_tokens") or 0),
        )
        yield from _counted(_day_of(at), "openai", row, counts, _account(row))


def _counted(
    day: str, provider: str, row: Mapping[str, Any], counts: Iterable[tuple[str, int]], account: str | None
) -> Iterator[Line]:
    for kind, tokens in counts:
        if tokens:
            yield Counted(day, provider, row.get("model"), kind, int(tokens), account)


def _openai_ask(limit: int, *groups: str) -> Callable[[date, date], Params]:
    def ask(first: date, last: date) -> Params:
        period = [("start_time", _seconds(first)), ("end_time", _seconds(last)), ("bucket_width", "1d")]
        return [*period, ("limit", str(limit)), *(("group_by", group) for group in groups)]

    return ask


OPENAI: Final = Reader(
    "OpenAI",
    "OPENAI_ADMIN_KEY",
    "an admin key of the organization (sk-admin-...), in OPENAI_ADMIN_KEY",
    "OPENAI_ADMIN_BASE_URL",
    "https://api.openai.com/v1",
    lambda key: {"Authorization": f"Bearer {key}"},
    (
        Endpoint("/organization/costs", 180, _openai_ask(180, "project_id", "line_item"), _openai_costs),
        Endpoint("/organization/usage/completions", 31, _openai_ask(31, "project_id", "model"), _openai_usage),
        Endpoint("/organization/usage/embeddings", 31, _openai_ask(31, "project_id", "model"), _openai_usage),
    ),
)

# --- Anthropic -----------------------------------------------------------------------------------------------------

_ANTHROPIC_KINDS: Final[Mapping[str, str]] = {
    "uncached_input_tokens": INPUT,
    "output_tokens": OUTPUT,
    "cache_read_input_tokens": CACHE_READ,
    "cache_creation.ephemeral_5m_input_tokens": CACHE_WRITE,
    "cache_creation.ephemeral_1h_input_tokens": CACHE_WRITE,
}


def _anthropic_costs(page: Mapping[str, Any]) -> Iterator[Line]:
    for at, row in _rows(page, "starting_at"):
        _dollars(row.get("currency"), "Anthropic")
        usd = _money(row.get("amount") or "0", "Anthropic") / 100
        kind = _ANTHROPIC_KINDS.get(str(row.get("token_type")))
        if kind is None and row.get("cost_type") not in (None, "tokens"):
            kind = TOOLS
        said = str(
            row.get("description") or " ".join(str(row[key]) for key in ("cost_type", "token_type") if row.get(key))
        )
        yield Billed(str(at)[:10], "anthropic", usd, row.get("model"), kind, _account(row), usd < 0, said)


def _anthropic_usage(page: Mapping[str, Any]) -> Iterator[Line]:
    for at, row in _rows(page, "starting_at"):
        written = row.get("cache_creation") or {}
        counts = (
            (INPUT, row.get("uncached_input_tokens") or 0),
            (CACHE_READ, row.get("cache_read_input_tokens") or 0),
            (CACHE_WRITE, sum(tokens or 0 for tokens in written.values())),
            (OUTPUT, row.get("output_tokens") or 0),
        )
        yield from _counted(str(at)[:10], "anthropic", row, counts, _account(row))


def _anthropic_ask(limit: int, *groups: str, width: str = "bucket_width") -> Callable[[date, date], Params]:
    def ask(first: date, last: date) -> Params:
        period = [("starting_at", _moment(first)), ("ending_at", _moment(last)), (width, "1d"), ("limit", str(limit))]
        return [*period, *(("group_by[]", group) for group in groups)]

    return ask


def _anthropic_headers(key: str) -> dict[str, str]:
    return {"x-api-key": key, "anthropic-version": "2023-06-01"}


_ANTHROPIC_NEEDS: Final = "an admin key of the organization (sk-ant-admin...), in ANTHROPIC_ADMIN_KEY"
ANTHROPIC: Final = Reader(
    "Anthropic",
    "ANTHROPIC_ADMIN_KEY",
    _ANTHROPIC_NEEDS,
    "ANTHROPIC_ADMIN_BASE_URL",
    "https://api.anthropic.com",
    lambda key: {**_anthropic_headers(key), "anthropic-beta": "analytics-usage-cost-2026-08-24"},
    (
        Endpoint(
            "/v1/organizations/analytics/cost",
            31,
            _anthropic_ask(1000, "model", "workspace_id", "cost_type", "token_type", width="time_bucket_width"),
            _anthropic_costs,
        ),
        Endpoint(
            "/v1/organizations/analytics/usage",
            31,
            _anthropic_ask(1000, "model", "workspace_id", width="time_bucket_width"),
            _anthropic_usage,
        ),
    ),
)
ANTHROPIC_LEGACY: Final = ANTHROPIC._replace(
    name="Anthropic (legacy)",
    headers=_anthropic_headers,
    endpoints=(
        Endpoint(
            "/v1/organizations/cost_report",
            31,
            _anthropic_ask(31, "workspace_id", "description"),
            _anthropic_costs,
            keys=False,
        ),
        Endpoint(
            "/v1/organizations/usage_report/messages",
            31,
            _anthropic_ask(31, "workspace_id", "model"),
            _anthropic_usage,
        ),
    ),
)

# --- OpenRouter ----------------------------------------------------------------------------------------------------


def _openrouter(page: Mapping[str, Any]) -> Iterator[Line]:
    for row in page.get("data") or ():
        day, model = str(row.get("date"))[:10], row.get("model")
        yield Billed(
            day, "openrouter", _money(row.get("usage") or 0, "OpenRouter"), model, what=str(row.get("provider_name"))
        )
        counts = ((INPUT, row.get("prompt_tokens") or 0), (OUTPUT, row.get("completion_tokens") or 0))
        yield from _counted(day, "openrouter", row, counts, None)


OPENROUTER: Final = Reader(
    "OpenRouter",
    "OPENROUTER_MANAGEMENT_KEY",
    "a management key, in OPENROUTER_MANAGEMENT_KEY",
    "OPENROUTER_BASE_URL",
    "https://openrouter.ai",
    lambda key: {"Authorization": f"Bearer {key}"},
    (Endpoint("/api/v1/activity", 1, lambda first, last: [("date", first.isoformat())], _openrouter, keys=False),),
)

READERS: Final[Mapping[str, Reader]] = {
    "openai": OPENAI,
    "anthropic": ANTHROPIC,
    "anthropic-legacy": ANTHROPIC_LEGACY,
    "openrouter": OPENROUTER,
}


def _day_of(seconds: object) -> str:
    return f"{datetime.fromtimestamp(int(str(seconds)), UTC):%Y-%m-%d}"


def _dollars(currency: object, provider: str) -> None:
    if str(currency or "usd").lower() != "usd":
        raise InvoiceError(
            f"{provider} bills in {currency}, and what is measured is in USD: the two cannot be compared."
        )
