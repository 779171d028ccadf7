"""What was measured as FOCUS rows, which FinOps tools read: one a day, model, kind of token, price and attribution.

Columns, null rules and products are those of the FinOps Open Cost and Usage Specification 1.2, CC BY 4.0
(https://focus.finops.org/focus-specification/v1-2/); 1.3 replaces `ProviderName` and `PublisherName`. A unit price
times its quantity is exactly the cost, so calls of several prices are several rows. Costs are what was measured at list
price or by `[prices]`, not what was invoiced.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from tokenguard.facts import names
from tokenguard.facts.errors import TokenGuardError
from tokenguard.facts.tuples import NamedTuple
from tokenguard.invoice.list_prices import ListPrices
from tokenguard.report.engine import Dialect, Records
from tokenguard.report.query import Query, conditions, expression
from tokenguard.store.layout import NS_PER_DAY

VERSIONS: Final = ("1.2", "1.3")
KEYS: Final = ("day", "provider", "model", "tenant", "feature", "team", "task")
MILLION: Final = Decimal(1_000_000)


class Sold(NamedTuple):
    """Who sells a model, and who made it."""

    seller: str
    service: str
    maker: str = ""
    """Empty where the seller made it, or the model's name tells."""


SELLERS: Final[Mapping[str, Sold]] = {
    "openai": Sold("OpenAI", "OpenAI API"),
    "anthropic": Sold("Anthropic", "Anthropic API"),
    "azure.ai.openai": Sold("Microsoft", "Azure OpenAI Service", "OpenAI"),
    "azure.ai.inference": Sold("Microsoft", "Azure AI Foundry"),
    "aws.bedrock": Sold("Amazon Web Services", "Amazon Bedrock"),
    "gcp.vertex_ai": Sold("Google Cloud", "Vertex AI"),
    "gcp.gemini": Sold("Google", "Gemini API"),
    "mistral_ai": Sold("Mistral AI", "Mistral API"),
    "openrouter": Sold("OpenRouter", "OpenRouter"),
}
MAKERS: Final[Mapping[str, str]] = {
    "claude": "Anthropic",
    "gpt": "OpenAI",
    "gemini": "Google",
    "llama": "Meta",
    "mistral": "Mistral AI",
    "nova": "Amazon",
}


NULL: Final = (
    *(f"CommitmentDiscount{what}" for what in ("Category", "Id", "Name", "Status", "Type")),
    *("RegionId", "RegionName", "SubAccountId", "SubAccountName"),
)
"""Columns that 1.0 asked for, and that calls say nothing of."""


class Kind(NamedTuple):
    """What is paid for: in SQL, its quantity and its cost."""

    name: str
    meter: str
    quantity: str
    usd: str
    unit: str = "Tokens"


def _kinds(dialect: Dialect) -> tuple[Kind, ...]:
    plain = "(input_tokens - coalesce(cache_read_tokens, 0) - coalesce(cache_write_tokens, 0))"
    used = " + ".join(
        f"coalesce(CAST({dialect.attribute('more', name)} AS DOUBLE PRECISION), 0)"
        for name in (names.WEB_SEARCHES, names.FILE_SEARCHES)
    )
    tools = f"CAST({dialect.attribute('more', names.COST_TOOLS)} AS DOUBLE PRECISION)"
    return (
        Kind("input", "input tokens", plain, "input_usd"),
        Kind("output", "output tokens", "output_tokens", "output_usd"),
        Kind("cache_read", "cached input tokens", "cache_read_tokens", "cache_read_usd"),
        Kind("cache_write", "cache write tokens", "cache_write_tokens", "cache_write_usd"),
        Kind("tools", "hosted tool requests", f"({used})", tools, "Requests"),
        Kind("call", "requests", "NULL", "CASE WHEN input_usd IS NULL THEN cost_usd END", "Requests"),
    )


class Charge(NamedTuple):
    """What one kind came to, for calls of one price."""

    keys: Mapping[str, str | None]
    kind: Kind
    status: str
    tier: str
    price: Decimal
    """USD for one of `unit`, a million of them where they are tokens."""
    quantity: Decimal
    """In the price's unit."""
    unit: str
    calls: int


def whole_days(query: Query) -> Query:
    """The same from the midnight (UTC) on before its beginning: a row says what a whole day came to."""
    return query if query.since_ns is None else replace(query, since_ns=query.since_ns // NS_PER_DAY * NS_PER_DAY)


def charges(records: Records, query: Query) -> Iterator[Charge]:
    """What was spent, by day and attribution, kind and price; calls without a known price are not in it."""
    dialect = records.dialect
    where, values = conditions(query, dialect)
    batch = f"CASE WHEN {dialect.attribute('more', names.BATCH_ID)} IS NOT NULL THEN 'batch' ELSE 'standard' END"
    keys = [expression(key, dialect) for key in KEYS]
    for kind in _kinds(dialect):
        told = f"CASE WHEN {kind.quantity} > 0 THEN {kind.quantity} END"
        wanted = [*keys, "cost_status", batch, f"round({kind.usd} * 1000000.0 / {told}, 6)"]
        groups = ", ".join(str(n + 1) for n in range(len(wanted)))
        rows = records.rows(
            f"SELECT {', '.join(wanted)}, count(*), sum({told}), sum({kind.usd}) FROM {dialect.calls} "  # noqa: S608
            f"WHERE {where} AND cost_usd IS NOT NULL AND {kind.usd} > 0 GROUP BY {groups}",
            values,
        )
        for row in rows:
            status, tier, price, calls, quantity, usd = row[len(KEYS) :]
            found = dict(zip(KEYS, row, strict=False))
            if price is None:  # billed by something that is no count of its own: by the call
                each = Decimal(repr(float(usd))) / calls
                yield Charge(found, kind, str(status), tier, each, Decimal(calls), "Requests", calls)
            elif kind.unit == "Tokens":
                whole = Decimal(int(quantity))
                yield Charge(
                    found, kind, str(status), tier, Decimal(repr(float(price))), whole / MILLION, "Tokens", calls
                )
            else:
                each = Decimal(repr(float(price))) / MILLION
                yield Charge(found, kind, str(status), tier, each, Decimal(int(quantity)), kind.unit, calls)


def unpriced(records: Records, query: Query) -> int:
    """How many answered calls have no known price, and so no row."""
    where, values = conditions(query, records.dialect)
    ((count,),) = records.rows(
        f"SELECT count(*) FROM {records.dialect.calls} WHERE {where} AND cost_usd IS NULL "  # noqa: S608
        "AND outcome <> 'blocked' AND cost_status = 'unpriced'",
        values,
    )
    return int(count)


def rows(
    found: Iterator[Charge],
    version: str = "1.2",
    own_prices: Mapping[str, str | Mapping[str, float]] | None = None,
    account: str = "default",
) -> Iterator[dict[str, str]]:
    """The rows of a version of the specification; a null is empty.

    With a policy's `own_prices`, what is listed is told apart from what is paid.
    """
    listed = ListPrices(own_prices or {})
    for charge in found:
        row = _row(charge, account, listed)
        if version == "1.3":
            row["ServiceProviderName"], row["HostProviderName"] = row.pop("ProviderName"), row["InvoiceIssuerName"]
            del row["PublisherName"]
        yield row


def _row(charge: Charge, account: str, listed: ListPrices) -> dict[str, str]:
    keys, kind = charge.keys, charge.kind
    provider, model = keys["provider"] or "unknown", keys["model"] or "unknown"
    sold = SELLERS.get(provider, Sold(provider, provider))
    day = date.fromisoformat(str(keys["day"]))
    month = day.replace(day=1)
    cost, price = _text(charge.price * charge.quantity), _text(charge.price)
    tokens = charge.unit == "Tokens"
    list_price = charge.price
    if tokens:
        a_call = round(charge.quantity * MILLION / charge.calls)
        at_ns = int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp()) * 10**9
        list_price = listed.of(provider, model, kind.name, a_call, charge.tier, at_ns, charge.price)
    sku = f"{model}/{kind.name}"
    tags = {key: keys[key] for key in ("tenant", "feature", "team", "task") if keys[key] is not None}
    return {
        "BilledCost": cost,
        "BillingAccountId": account,
        "BillingAccountName": "",
        "BillingAccountType": "Account",
        "BillingCurrency": "USD",
        "BillingPeriodStart": _moment(month),
        "BillingPeriodEnd": _moment((month + timedelta(days=32)).replace(day=1)),
        "ChargeCategory": "Usage",
        "ChargeClass": "",
        "ChargeDescription": f"{model}, {kind.meter}",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": _moment(day),
        "ChargePeriodEnd": _moment(day + timedelta(days=1)),
        "ConsumedQuantity": _text(charge.quantity * (MILLION if tokens else 1)),
        "ConsumedUnit": charge.unit,
        "ContractedCost": cost,
        "ContractedUnitPrice": price,
        "EffectiveCost": cost,
        "InvoiceIssuerName": sold.seller,
        "ListCost": _text(list_price * charge.quantity),
        "ListUnitPrice": _text(list_price),
        "PricingCategory": "Standard",
        "PricingQuantity": _text(charge.quantity),
        "PricingUnit": "1000000 Tokens" if tokens else charge.unit,
        "ProviderName": sold.seller,
        "PublisherName": sold.maker or _maker(model) or sold.seller,
        "ResourceId": model,
        "ResourceName": model,
        "ResourceType": "Model",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": sold.service,
        "ServiceSubcategory": "Generative AI",
        "SkuId": sku,
        "SkuMeter": kind.meter,
        "SkuPriceId": f"{sku}/{charge.tier}/{price}",
        "Tags": json.dumps(tags),
        **dict.fromkeys(NULL, ""),
        "x_Tenant": keys["tenant"] or "",
        "x_Feature": keys["feature"] or "",
        "x_Task": keys["task"] or "",
        "x_Model": model,
        "x_TokenKind": kind.name,
        "x_CostStatus": charge.status,
        "x_Calls": str(charge.calls),
    }


def _maker(model: str) -> str:
    return next((maker for word, maker in MAKERS.items() if word in model.lower()), "")


def _text(amount: Decimal) -> str:
    """A decimal without an exponent, and with a point, as some readers want one."""
    text = f"{amount:f}"
    text = text.rstrip("0") if "." in text else text
    return text + "0" if text.endswith(".") else text if "." in text else f"{text}.0"


def _moment(day: date) -> str:
    return f"{day.isoformat()}T00:00:00Z"


def as_csv(found: Sequence[Mapping[str, str]]) -> str:
    """The rows as CSV with a header; nothing without a row."""
    out = io.StringIO()
    if found:
        writer: csv.DictWriter[Any] = csv.DictWriter(out, list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
    return out.getvalue()


def write_parquet(found: Sequence[Mapping[str, str]], path: Path) -> None:
    """The rows as Parquet: amounts are decimals, times are timestamps in UTC, a null is null.

    Raises `TokenGuardError` without DuckDB, or where the file cannot be written.
    """
    try:
        import duckdb
    except ModuleNotFoundError:
        raise TokenGuardError(
            f"{path}: Parquet is written with DuckDB. pip install 'tokenguard-otel[parquet]'"
        ) from None
    if not found:
        raise TokenGuardError(f"{path}: there is no row to write")
    columns = ", ".join(f"""{_typed(name)} AS "{name}\"""" for name in found[0])
    with tempfile.TemporaryDirectory() as made, duckdb.connect() as connection:
        text = Path(made) / "rows.csv"
        text.write_text(as_csv(found), encoding="utf-8", newline="")
        rows = "read_csv(?, header = true, all_varchar = true, nullstr = '', quote = '\"', escape = '\"')"
        target = str(path).replace("'", "''")
        try:
            connection.execute(
                f"COPY (SELECT {columns} FROM {rows}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)",  # noqa: S608
                [str(text)],
            )
        except duckdb.Error as error:
            raise TokenGuardError(f"{path} cannot be written: {error}") from error


def _typed(name: str) -> str:
    """A column as the specification has its type."""
    if name.endswith(("Cost", "UnitPrice", "Quantity")):
        return f'CAST("{name}" AS DECIMAL(38, 18))'
    if name.endswith(("Start", "End")):
        return f"CAST(replace(\"{name}\", 'Z', '') AS TIMESTAMP) AT TIME ZONE 'UTC'"
    return f'CAST("{name}" AS BIGINT)' if name == "x_Calls" else f'"{name}"'
