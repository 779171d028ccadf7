"""`tokenguard report --format focus`: the specification's MUSTs, column by column, and the sums of the report."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from click.testing import CliRunner

from tokenguard.cli import group
from tokenguard.facts import names
from tokenguard.facts.record import COST_ATTRIBUTES, USAGE_ATTRIBUTES, CallRecord
from tokenguard.facts.usage import Usage
from tokenguard.invoice.focus import NULL
from tokenguard.prices import PriceBook, Tier
from tokenguard.store.store import Store

AT = int(datetime(2026, 11, 20, 9, tzinfo=UTC).timestamp()) * 10**9
NUMBER, NOT_NEGATIVE = r"-?\d+(\.\d+)?", r"\d+(\.\d+)?"
MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
SOME = r".+"
ANY = r".*"

MUSTS = {
    # FOCUS 1.2 (https://focus.finops.org/focus-specification/v1-2/, CC BY 4.0): what each column must look like.
    # Mandatory, and never null:
    "BilledCost": NUMBER,
    "BillingAccountId": SOME,
    "BillingCurrency": r"[A-Z]{3}",
    "BillingPeriodStart": MOMENT,
    "BillingPeriodEnd": MOMENT,
    "ChargeCategory": "Usage|Purchase|Tax|Credit|Adjustment",
    "ChargePeriodStart": MOMENT,
    "ChargePeriodEnd": MOMENT,
    "ContractedCost": NUMBER,
    "EffectiveCost": NUMBER,
    "InvoiceIssuerName": SOME,
    "ListCost": NUMBER,
    "ProviderName": SOME,
    "PublisherName": SOME,
    "ServiceCategory": "AI and Machine Learning",
    "ServiceName": SOME,
    # Never null for charges of usage:
    "PricingQuantity": NUMBER,
    "PricingUnit": r"1000000 Tokens|Requests",
    "ConsumedQuantity": NUMBER,
    "ConsumedUnit": r"Tokens|Requests",
    "ListUnitPrice": NOT_NEGATIVE,
    "ContractedUnitPrice": NOT_NEGATIVE,
    "PricingCategory": "Standard|Dynamic|Committed|Other",
    "SkuId": SOME,
    "SkuPriceId": SOME,
    # Never null where the column is there:
    "BillingAccountType": SOME,
    # May be null:
    "BillingAccountName": ANY,
    "ChargeClass": "|Correction",
    "ChargeDescription": ANY,
    "ChargeFrequency": "One-Time|Recurring|Usage-Based",
    "ResourceId": ANY,
    "ResourceName": ANY,
    "ResourceType": SOME,  # not null where ResourceId is not
    "ServiceSubcategory": "Generative AI",
    "SkuMeter": ANY,
    "Tags": r"\{.*\}",
    **dict.fromkeys(NULL, ""),
}


def call(model=None, usage=None, tier=None, maker="openai", **more):
    cost = PriceBook().cost(maker, model, usage, tier=Tier(tier), at_ns=AT)
    facts = {names.OPERATION: "chat", names.PROVIDER: maker, names.RESPONSE_MODEL: model}
    facts |= {name: getattr(usage, field) for field, name in USAGE_ATTRIBUTES.items()}
    facts |= dict(zip(COST_ATTRIBUTES, cost, strict=True))
    facts |= more
    return CallRecord(AT, 10**9, "ok", {name: value for name, value in facts.items() if value is not None})


USE = Usage(input=1000, output=200, cache_read=300, cache_write=0)


@pytest.fixture
def asked(tmp_path, monkeypatch):
    path = tmp_path / "usage.db"
    store = Store(str(path), 0)
    calls = [
        call("gpt-4o-mini-2024-07-18", USE, **{"tokenguard.tenant": "t1", "tokenguard.feature": "support"}),
        call("gpt-4o-mini-2024-07-18", USE, **{"tokenguard.tenant": "t1", "tokenguard.feature": "support"}),
        call("gpt-4o-mini-2024-07-18", USE, "batch", **{"tokenguard.tenant": "t1", names.BATCH_ID: "batch_1"}),
        call("claude-haiku-4-5", Usage(input=900, output=20, cache_read=0, cache_write=500), maker="anthropic"),
        call("claude-haiku-4-5", Usage(input=900, output=20, web_searches=3), maker="anthropic"),
        call("nobody-knows", USE),
    ]
    store.write(calls)
    store.close()
    monkeypatch.setenv("TOKENGUARD_STORE", str(path))

    def ask(form="focus", *more):
        done = CliRunner().invoke(group, ["report", "--format", form, *more])
        assert done.exit_code == 0, done.output
        return list(csv.DictReader(io.StringIO(done.stdout))), calls, done.stderr

    return ask


def test_every_must(asked):
    """Presence, null rules, types and allowed values of each column; own columns begin with `x_`."""
    rows, _, _ = asked()
    assert len(rows) >= 9
    for row in rows:
        assert set(MUSTS) == {name for name in row if not name.startswith("x_")}
        wrong = {name: row[name] for name, form in MUSTS.items() if re.fullmatch(form, row[name]) is None}
        assert wrong == {}


def test_across_columns(asked):
    """A price times its quantity is its cost; periods begin before they end, and the day is in the billing month."""
    rows, _, _ = asked()
    for row in rows:
        for price, cost in (("ListUnitPrice", "ListCost"), ("ContractedUnitPrice", "ContractedCost")):
            assert Decimal(row[price]) * Decimal(row["PricingQuantity"]) == Decimal(row[cost])
        assert row["BilledCost"] == row["EffectiveCost"] == row["ContractedCost"] == row["ListCost"]
        assert row["BillingPeriodStart"] <= row["ChargePeriodStart"] < row["ChargePeriodEnd"] <= row["BillingPeriodEnd"]
        assert (row["ChargePeriodStart"], row["ChargePeriodEnd"]) == ("2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z")
        assert json.loads(row["Tags"]) == ({"tenant": "t1"} if row["x_Tenant"] else {}) | (
            {"feature": "support"} if row["x_Feature"] else {}
        )


def test_whole_days(asked):
    """A row says what a day came to, so a beginning within a day is that day's midnight."""
    rows, _, _ = asked()
    assert asked("focus", "--since", "2026-11-20T15:00")[0] == rows
    assert asked("focus", "--since", "2026-11-21")[0] == []


def test_what_it_sums_to(asked):
    """The rows come to the priced calls' cost, kind by kind; what has no price is left out, and said."""
    rows, calls, said = asked()
    spent = sum(call.attributes[names.COST] for call in calls if names.COST in call.attributes)
    assert float(sum(Decimal(row["BilledCost"]) for row in rows)) == pytest.approx(spent, rel=1e-9)
    assert "1 calls have no known price" in said
    (twice,) = [row for row in rows if row["x_TokenKind"] == "input" and row["x_Feature"] == "support"]
    assert (twice["x_Calls"], twice["ConsumedQuantity"], twice["ListUnitPrice"]) == ("2", "1400.0", "0.15")
    (batch,) = [row for row in rows if "/batch/" in row["SkuPriceId"] and row["x_TokenKind"] == "input"]
    assert batch["ListUnitPrice"] == "0.075"
    (searched,) = [row for row in rows if row["x_TokenKind"] == "tools"]
    assert (searched["ConsumedQuantity"], searched["PricingUnit"]) == ("3.0", "Requests")


def test_version_1_3(asked):
    """The newer version names who provides the service and who hosts it, and no publisher."""
    rows, _, _ = asked("focus-1.3")
    assert {"ServiceProviderName", "HostProviderName"} <= set(rows[0])
    assert not {"ProviderName", "PublisherName"} & set(rows[0])


def test_it_reads_what_it_writes(asked, tmp_path):
    """Its own rows are a bill that `reconcile` reads: money and tokens of each model and kind."""
    from tokenguard.invoice.files import lines_of
    from tokenguard.invoice.lines import Billed

    rows, _, _ = asked()
    with (tmp_path / "bill.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    lines = list(lines_of(tmp_path / "bill.csv"))
    billed = [line for line in lines if isinstance(line, Billed)]
    assert sum(line.usd for line in billed) == sum(Decimal(row["BilledCost"]) for row in rows)
    assert {line.provider for line in billed} == {"openai", "anthropic"}
    tokens = sum(line.tokens for line in lines if not isinstance(line, Billed))
    consumed = sum(Decimal(row["ConsumedQuantity"]) for row in rows if row["ConsumedUnit"] == "Tokens")
    assert tokens == consumed


def test_list_prices_beside_own(asked, tmp_path, monkeypatch):
    """Where `[prices]` has a discount, list cost and list price are the list's, and their product still holds."""
    rows, _, _ = asked()
    (paid,) = {row["ListUnitPrice"] for row in rows if row["SkuId"] == "claude-haiku-4-5/output"}
    policy = tmp_path / "tokenguard.toml"
    policy.write_text('[prices]\n"anthropic/claude-haiku-4-5" = { input = 0.8, output = 4.0 }\n')
    monkeypatch.setenv("TOKENGUARD_POLICY", str(policy))
    store = Store(str(tmp_path / "discount.db"), 0)
    usage = Usage(input=1000, output=200)
    cost = PriceBook({"anthropic/claude-haiku-4-5": {"input": 0.8, "output": 4.0}}).cost(
        "anthropic", "claude-haiku-4-5", usage, at_ns=AT
    )
    store.write([call("claude-haiku-4-5", usage, maker="anthropic", **dict(zip(COST_ATTRIBUTES, cost, strict=True)))])
    store.close()
    monkeypatch.setenv("TOKENGUARD_STORE", str(tmp_path / "discount.db"))
    rows, _, _ = asked()
    output = next(row for row in rows if row["x_TokenKind"] == "output")
    assert (output["ContractedUnitPrice"], output["ListUnitPrice"]) == ("4.0", paid)
    assert Decimal(output["ListCost"]) == Decimal(paid) * Decimal(output["PricingQuantity"])
    assert output["BilledCost"] == output["EffectiveCost"] == output["ContractedCost"] == "0.0008"


@pytest.mark.parametrize("version", ["focus", "focus-1.3"])
def test_parquet(asked, tmp_path, version):
    """The rows as Parquet: the same values, in the types of the specification."""
    duckdb = pytest.importorskip("duckdb")
    rows, _, _ = asked(version)
    path = tmp_path / "focus.parquet"
    assert CliRunner().invoke(group, ["report", "--format", version, "-o", str(path)]).exit_code == 0
    with duckdb.connect() as connection:
        found = connection.execute("SELECT * FROM read_parquet(?)", [str(path)])
        kinds = {column[0]: str(column[1]) for column in found.description}
        values = found.fetchall()
    assert list(kinds) == list(rows[0])
    assert kinds["ListCost"].startswith("DECIMAL")
    assert kinds["ChargePeriodStart"].startswith("TIMESTAMP")
    names_ = list(kinds)
    for row, told in zip(rows, values, strict=True):
        cells = dict(zip(names_, told, strict=True))
        assert cells["BilledCost"] == Decimal(row["BilledCost"])
        assert cells["BillingAccountName"] is None
        assert cells["SkuPriceId"] == row["SkuPriceId"]
