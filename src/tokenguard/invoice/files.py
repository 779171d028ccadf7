"""Bills in files: FOCUS and AWS's Cost and Usage Report 2.0, as CSV (gzipped too) or Parquet.

FOCUS: https://focus.finops.org/focus-specification. AWS CUR 2.0 for Bedrock: its line items are by kind of token, the
kind is in `line_item_usage_type`, and whether its amount is in thousands or millions is in `pricing_unit`.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from itertools import chain
from pathlib import Path
from typing import Any, Final

from tokenguard.invoice.lines import CACHE_READ, CACHE_WRITE, INPUT, OUTPUT, TOOLS, Billed, Counted, InvoiceError, Line

Row = Mapping[str, Any]

FOCUS_COLUMNS: Final = ("BilledCost", "ChargePeriodStart")
CUR_COLUMNS: Final = ("line_item_usage_start_date", "line_item_unblended_cost")
READS: Final = "It reads FOCUS (BilledCost, ChargePeriodStart, ...) and AWS CUR 2.0 (line_item_unblended_cost, ...)"

KINDS: Final = (
    (re.compile(r"cache.?write|cache.?creation", re.IGNORECASE), CACHE_WRITE),
    (re.compile(r"cache.?read|cached", re.IGNORECASE), CACHE_READ),
    (re.compile(r"output", re.IGNORECASE), OUTPUT),
    (re.compile(r"input", re.IGNORECASE), INPUT),
    (re.compile(r"search|interpreter|session|storage|tool", re.IGNORECASE), TOOLS),
)
UNITS: Final = (
    (re.compile(r"million|1000000|1m\b", re.IGNORECASE), 10**6),
    (re.compile(r"1000|1k\b|thousand", re.IGNORECASE), 1000),
)
PROVIDERS: Final[Mapping[str, str]] = {
    "openai": "openai",
    "anthropic": "anthropic",
    "amazon web services": "aws.bedrock",
    "aws": "aws.bedrock",
    "microsoft": "azure.ai.openai",
    "google cloud": "gcp.vertex_ai",
    "google": "gcp.gemini",
    "mistral ai": "mistral_ai",
    "openrouter": "openrouter",
}
"""OpenTelemetry's names of those that bills name."""


def lines_of(path: Path) -> Iterator[Line]:
    """The lines of a file. Raises `InvoiceError` for one that is no bill."""
    rows = iter(_rows(path))
    first = next(rows, None)
    if first is None:
        return
    names = set(first)
    read = _focus if names.issuperset(FOCUS_COLUMNS) else _cur if names.issuperset(CUR_COLUMNS) else None
    if read is None:
        columns = ", ".join(sorted(names)[:8])
        raise InvoiceError(f"{path}: this is no known bill (columns {columns}, ...). {READS}.")
    for number, row in enumerate(chain((first,), rows), 2):
        try:
            yield from read(row)
        except (ValueError, InvalidOperation, KeyError) as error:
            raise InvoiceError(f"{path}, row {number}: {error}. {READS}.") from error


def _rows(path: Path) -> Iterable[Row]:
    try:
        if path.suffix == ".parquet":
            return _parquet(path)
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
        return csv.DictReader(io.StringIO(text))
    except (OSError, UnicodeDecodeError) as error:
        raise InvoiceError(f"{path} cannot be read: {error}. {READS}, as CSV or Parquet.") from error


def _parquet(path: Path) -> Iterable[Row]:
    try:
        import duckdb
    except ModuleNotFoundError:
        raise InvoiceError(f"{path}: Parquet is read with DuckDB. pip install 'tokenguard-otel[parquet]'") from None
    with duckdb.connect() as connection:
        found = connection.execute("SELECT * FROM read_parquet(?)", [str(path)])
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _amount(value: object) -> Decimal:
    amount = Decimal(str(value if value not in (None, "") else 0))
    if not amount.is_finite():
        raise ValueError(f"{value!r} is no amount")
    return amount


def _kind(*words: object) -> str | None:
    said = " ".join(str(word) for word in words if word)
    return next((kind for pattern, kind in KINDS if pattern.search(said)), None)


def _tokens(amount: object, unit: object) -> int:
    """Tokens, by a quantity and its unit: `1000000 Tokens`, `1K tokens`, `Tokens`."""
    times = next((times for pattern, times in UNITS if pattern.search(str(unit))), 1)
    return round(_amount(amount) * times)


def _focus(row: Row) -> Iterator[Line]:
    if str(row.get("BillingCurrency") or "USD").upper() != "USD":
        raise ValueError(f"it bills in {row['BillingCurrency']}, and what is measured is in USD")
    day = str(row["ChargePeriodStart"])[:10]
    name = str(row.get("ProviderName") or row.get("ServiceProviderName") or row.get("InvoiceIssuerName") or "")
    provider = PROVIDERS.get(name.strip().lower(), name.strip().lower())
    credit = str(row.get("ChargeCategory")) in ("Credit", "Adjustment") or _amount(row["BilledCost"]) < 0
    model = row.get("x_Model") or (row.get("ResourceName") or row.get("ResourceId") or None)
    kind = _kind(row.get("x_TokenKind"), row.get("SkuMeter"), row.get("ChargeDescription"), row.get("SkuId"))
    account, what = row.get("SubAccountId") or None, str(row.get("ChargeDescription") or row.get("SkuId") or "")
    if kind == TOOLS or credit:
        model = None
    yield Billed(day, provider, _amount(row["BilledCost"]), model, None if credit else kind, account, credit, what)
    unit = str(row.get("ConsumedUnit") or "")
    if not credit and model and kind not in (None, TOOLS) and "token" in unit.lower():
        yield Counted(day, provider, model, kind, _tokens(row.get("ConsumedQuantity"), unit), account)


_BEDROCK: Final = re.compile(r"bedrock", re.IGNORECASE)
_USAGE: Final = re.compile(
    r"^(?:[A-Z]{2,4}\d?-)?(?P<model>.+?)-(?:mantle-)?(?:input-tokens|output-tokens|cache-(?:read|write)-input-token-count)"
)


def _cur(row: Row) -> Iterator[Line]:
    usage = str(row.get("line_item_usage_type") or "")
    if not _BEDROCK.search(str(row.get("line_item_product_code") or "")) and "-tokens" not in usage:
        return
    if str(row.get("line_item_currency_code") or "USD").upper() != "USD":
        raise ValueError(f"it bills in {row['line_item_currency_code']}, and what is measured is in USD")
    day, usd = str(row["line_item_usage_start_date"])[:10], _amount(row["line_item_unblended_cost"])
    credit = str(row.get("line_item_line_item_type")) in ("Credit", "Refund") or usd < 0
    found, kind = _USAGE.match(usage), _kind(usage)
    model = found["model"] if found and not credit else None
    account = row.get("line_item_usage_account_id") or None
    yield Billed(day, "aws.bedrock", usd, model, None if credit else kind, account, credit, usage)
    unit = row.get("pricing_unit")
    if model and kind is not None and unit:
        yield Counted(day, "aws.bedrock", model, kind, _tokens(row.get("line_item_usage_amount"), unit), account)
