"""The price list that is read with classes of our own is genai-prices' list."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone

import genai_prices.types as theirs
import pytest
from genai_prices.data_snapshot import DataSnapshot, get_snapshot, set_custom_snapshot

from tokenguard.facts.usage import Usage
from tokenguard.prices import PriceBook, Tier, genai, listed
from tokenguard.prices.genai import types as ours

DAYS = tuple(datetime(*at, tzinfo=UTC) for at in ((2024, 6, 1, 3), (2026, 11, 20, 12, 30), (2027, 2, 1)))
WEST = timezone(timedelta(hours=-8))
CONTEXTS = ({}, {"processing": "batch"}, {"service_tier": "flex"}, {"service_tier": "priority", "speed": "fast"})


def told(price):
    """What a price of either kind says."""
    return {
        name: value if not hasattr(value, "tiers") else (value.base, [(tier.start, tier.price) for tier in value.tiers])
        for name, value in price.__dict__.items()
        if value is not None
    }


def names_of(model):
    """Its own name, and such as callers make of it."""
    return (model.id, f"{model.id}-20251211", f"x-{model.id}", model.id.upper(), model.id[:-1])


def test_it_is_read_with_our_classes():
    """Or the other tests here would compare genai-prices with itself; and the whole list is there."""
    own, real = genai.bundled(), get_snapshot()
    assert type(own) is genai.Snapshot
    assert [(p.id, [m.id for m in p.models]) for p in own.providers] == [
        (p.id, [m.id for m in p.models]) for p in real.providers
    ]


def assert_same_prices(models):
    for own, real in models:
        for at in DAYS:
            for context in CONTEXTS:
                assert told(own.get_prices(at, context)) == told(real.get_prices(at, context)), own.id


def assert_same_finds(sellers, step):
    everybody = [[*side] for side in zip(*sellers, strict=True)]
    for own, real in sellers:
        for model in real.models[::step]:
            for name in names_of(model):
                found = [
                    seller.find_model(name, all_providers=all_of_them)
                    for seller, all_of_them in zip((own, real), everybody, strict=True)
                ]
                assert getattr(found[0], "id", None) == getattr(found[1], "id", None), (own.id, name)


def sellers():
    return [*zip(genai.bundled().providers, get_snapshot().providers, strict=True)]


def test_some_of_it_is_the_same():
    """Names find the same models, and those the same prices, at any day and tier."""
    pairs = [pair for own, real in sellers() for pair in zip(own.models[::20], real.models[::20], strict=True)]
    assert_same_prices(pairs)
    assert_same_finds([pair for pair in sellers() if pair[0].id in ("openai", "anthropic", "azure")], 9)


@pytest.mark.everywhere
def test_all_of_it_is_the_same():
    """The same of the whole list."""
    assert_same_prices([pair for own, real in sellers() for pair in zip(own.models, real.models, strict=True)])
    assert_same_finds(sellers(), 3)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (time(16, 30), time(0, 30)),
        (time(1), time(5)),
        (time(20, tzinfo=WEST), time(7, tzinfo=UTC)),
    ],
)
@pytest.mark.parametrize("zone", [None, UTC, timezone(timedelta(hours=9, minutes=30))])
def test_times_of_the_day(start, end, zone):
    """A price for a part of the day holds at the same minutes, whatever the zones, midnight included."""
    made = [kind.TimeOfDateConstraint(start_time=start, end_time=end) for kind in (ours, theirs)]
    days = [kind.StartDateConstraint(start_date=date(2026, 3, 2)) for kind in (ours, theirs)]
    for minutes in range(0, 2 * 1440, 15):
        at = datetime(2026, 3, 1, tzinfo=zone) + timedelta(minutes=minutes)
        assert made[0].active(at) == made[1].active(at), at
        assert days[0].active(at) == days[1].active(at), at


def test_an_update_is_seen_at_once():
    """A list that the application sets, as an update does, is used from the next call on, as long as it is set."""
    book, usage = PriceBook(), Usage(1_000_000, 0)
    before = book.cost("openai", "gpt-4o", usage).total
    price = theirs.ModelPrice(input_mtok=listed.Decimal(7), output_mtok=listed.Decimal(9))
    model = theirs.ModelInfo(id="gpt-4o", match=theirs.ClauseEquals(equals="gpt-4o"), prices=price)
    only = theirs.Provider(id="openai", name="OpenAI", api_pattern="", models=[model])
    set_custom_snapshot(DataSnapshot([only], from_auto_update=True))
    try:
        assert book.cost("openai", "gpt-4o", usage).total == 7
        assert "updated" in listed.version()
    finally:
        set_custom_snapshot(None)
    assert book.cost("openai", "gpt-4o", usage).total == before != 7


def test_data_of_another_shape(monkeypatch):
    """Data with something in it that is not known here is left to the package itself."""
    genai.bundled.cache_clear()
    data = "from .types import *\nproviders = [NewKind(id=1)]"
    monkeypatch.setattr(genai, "_data", lambda: compile(data, "data", "exec"))
    try:
        assert genai.bundled() is get_snapshot()
    finally:
        genai.bundled.cache_clear()


def test_nothing_of_the_package_is_imported():
    """The first price loads neither genai-prices nor what that imports; its version is told all the same."""
    code = (
        "import sys; from tokenguard.prices import PriceBook, listed; from tokenguard.facts.usage import Usage\n"
        "assert PriceBook().cost('openai', 'gpt-4o', Usage(1, 0)).total\n"
        "assert not {'genai_prices', 'pydantic', 'httpx2', 'httpx', 'asyncio'} & set(sys.modules)\n"
        "said = listed.version()\n"
        "import genai_prices; assert said == f'genai-prices {genai_prices.__version__}'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tiers_of_a_rate():
    """A rate with steps by the input's length reads the same."""
    rates = PriceBook().rates("google", "gemini-2.5-pro", Tier(), 1_790_000_000 * 10**9)
    assert rates is not None
    assert len(rates.bands) > 1
