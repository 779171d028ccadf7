"""Bills in files: FOCUS and AWS CUR 2.0, as CSV, gzipped, and Parquet."""

from __future__ import annotations

import gzip

import pytest

from tokenguard.invoice.files import lines_of
from tokenguard.invoice.lines import Billed, Counted, InvoiceError, alike

FOCUS = """\
BilledCost,BillingCurrency,ChargeCategory,ChargePeriodStart,ProviderName,ResourceId,SkuMeter,\
SubAccountId,ConsumedQuantity,ConsumedUnit
4.50,USD,Usage,2026-11-20T00:00:00Z,OpenAI,gpt-4o-mini,input tokens,proj_a,30000000,Tokens
0.75,USD,Usage,2026-11-20T00:00:00Z,OpenAI,gpt-4o-mini,cached input tokens,proj_a,10,1000000 Tokens
-2.00,USD,Credit,2026-11-20T00:00:00Z,OpenAI,,,,,
"""
CUR = """\
line_item_usage_start_date,line_item_usage_account_id,line_item_product_code,line_item_usage_type,\
line_item_usage_amount,line_item_unblended_cost,line_item_currency_code,pricing_unit,line_item_line_item_type
2026-11-20T00:00:00Z,111122223333,AmazonBedrock,USE1-Claude4.5Haiku-input-tokens,3000,3.0,USD,1K tokens,Usage
2026-11-20T00:00:00Z,11112222,AmazonBedrock,USE1-Claude4.5Haiku-cache-read-input-token-count,2,0.2,USD,1M tokens,Usage
2026-11-20T00:00:00Z,111122223333,AmazonEC2,USE1-BoxUsage:t3.micro,24,0.25,USD,Hrs,Usage
2026-11-20T00:00:00Z,111122223333,AmazonBedrock,USE1-Claude4.5Haiku-output-tokens,0,-1.0,USD,1K tokens,Credit
"""


def read(path):
    lines = list(lines_of(path))
    return [line for line in lines if isinstance(line, Billed)], [line for line in lines if isinstance(line, Counted)]


@pytest.mark.parametrize("kind", ["csv", "gzip", "parquet"])
def test_focus(tmp_path, kind):
    """Money by day, model and kind; tokens in the unit that stands beside them; a credit is one."""
    path = tmp_path / {"csv": "bill.csv", "gzip": "bill.csv.gz", "parquet": "bill.parquet"}[kind]
    if kind == "parquet":
        duckdb = pytest.importorskip("duckdb")
        (tmp_path / "bill.csv").write_text(FOCUS)
        duckdb.sql(f"COPY (SELECT * FROM read_csv('{tmp_path / 'bill.csv'}')) TO '{path}' (FORMAT parquet)")
    else:
        path.write_bytes(gzip.compress(FOCUS.encode()) if kind == "gzip" else FOCUS.encode())
    billed, counted = read(path)
    assert [(float(line.usd), line.model, line.kind, line.credit) for line in billed] == [
        (4.5, "gpt-4o-mini", "input", False),
        (0.75, "gpt-4o-mini", "cache_read", False),
        (-2.0, None, None, True),
    ]
    assert {line.day for line in billed} == {"2026-11-20"}
    assert [(line.kind, line.tokens, line.account) for line in counted] == [
        ("input", 30_000_000, "proj_a"),
        ("cache_read", 10_000_000, "proj_a"),
    ]


def test_cur(tmp_path):
    """Bedrock's lines alone; thousands and millions by the unit; the model is the same as in answers, otherwise put."""
    (tmp_path / "cur.csv").write_text(CUR)
    billed, counted = read(tmp_path / "cur.csv")
    assert [(float(line.usd), line.kind, line.credit) for line in billed] == [
        (3.0, "input", False),
        (0.2, "cache_read", False),
        (-1.0, None, True),
    ]
    assert [(line.kind, line.tokens) for line in counted] == [("input", 3_000_000), ("cache_read", 2_000_000)]
    assert alike(billed[0].model) == alike("us.anthropic.claude-haiku-4-5-20251001-v1:0")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n", "columns a, b"),
        (FOCUS.replace("4.50", "NaN"), "row 2: 'NaN' is no amount"),
        (FOCUS.replace("USD", "EUR"), "bills in EUR"),
    ],
)
def test_what_is_no_bill(tmp_path, text, says):
    """What it is not, in which row, and what would do."""
    (tmp_path / "bill.csv").write_text(text)
    with pytest.raises(InvoiceError, match=says):
        list(lines_of(tmp_path / "bill.csv"))
    with pytest.raises(InvoiceError, match="cannot be read"):
        list(lines_of(tmp_path / "absent.csv"))
