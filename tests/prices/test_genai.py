"""The price list that is read with classes of our own, and kept in the user's cache, is genai-prices' list."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time as time_now
from datetime import UTC, date, datetime, time, timedelta, timezone

import genai_prices.types as theirs
import pytest
from genai_prices.data_snapshot import DataSnapshot, get_snapshot, set_custom_snapshot

from tokenguard.facts.usage import Usage
from tokenguard.prices import PriceBook, Tier, genai, listed
from tokenguard.prices.genai import kept
from tokenguard.prices.genai import sellers as ours
from tokenguard.prices.sieve import leaves

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


def test_kept_names_are_those_of_the_models():
    """What names a seller's models can have is kept beside them, and is what the package's own objects say."""
    for own, real in sellers():
        assert own.leaves == leaves(real.models) == leaves(own.models), own.id


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


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """A folder for caches that has nothing yet, and the price list as if nobody had asked for it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    genai.bundled.cache_clear()
    yield tmp_path / "tokenguard"
    genai.bundled.cache_clear()


@pytest.mark.parametrize(
    "made",
    [
        "NewKind(id=1)",
        "Provider(id='x', models=[], resells=['y'])",
        "Provider(id='x', models=[ModelInfo(id='m', match=ClauseEquals(equals='m'), prices=ModelPrice(input=1.5))])",
        "Provider(id='x', models=[ModelInfo(id='m', match=ClauseEquals(is_='m'), prices=ModelPrice())])",
        "Provider(id='x', models=[object()])",
    ],
)
def test_data_of_another_shape(monkeypatch, cache, made):
    """Data with a class, a field or a value in it that is not known here is left to the package itself."""
    data = f"from .types import *\nproviders = [{made}]"
    monkeypatch.setattr(genai, "_data", lambda: compile(data, "data", "exec"))
    assert genai.bundled() is get_snapshot()
    assert not cache.exists()


def listed_at(monkeypatch, ran):
    """The rates of a model by a list that is loaded anew; `ran` counts how often the package's data was run."""
    run = genai._run
    monkeypatch.setattr(genai, "_run", lambda code: ran.append(1) or run(code))
    genai.bundled.cache_clear()
    listed._index = None
    found = PriceBook().rates("openai", "gpt-5", Tier("batch"), 1_790_000_000 * 10**9)
    monkeypatch.setattr(genai, "_run", run)
    return found


def test_it_is_kept_for_the_next_process(monkeypatch, cache):
    """The package's data is run once: what was made of it is read again by its owner alone, and is the same."""
    ran = []
    first = listed_at(monkeypatch, ran)
    (file,) = cache.iterdir()
    if os.name == "posix":
        assert (cache.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    assert listed_at(monkeypatch, ran) == first is not None
    assert ran == [1]
    real = {
        day
        for p in get_snapshot().providers
        for m in p.models
        if isinstance(m.prices, list)
        for c in m.prices
        if (day := getattr(c.constraint, "start_date", None))
    }
    assert set(genai.starts(genai.bundled())) == real == set(genai.starts(get_snapshot()))


def torn(file):
    file.write_bytes(file.read_bytes()[:5_000])


def flipped(file):
    content = bytearray(file.read_bytes())
    content[100_000] ^= 0x10
    file.write_bytes(content)


def a_folder(file):
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    "harm",
    [
        torn,
        flipped,
        a_folder,
        lambda file: file.write_bytes(b""),
        pytest.param(
            lambda file: file.chmod(0o622), marks=pytest.mark.skipif(os.name != "posix", reason="no modes of files")
        ),
    ],
    ids=["torn", "flipped", "a folder", "empty", "others may write"],
)
def test_what_is_broken_is_made_anew(monkeypatch, cache, harm):
    """A kept list that is not whole, or that somebody else may have written, is as if there were none."""
    ran = []
    first = listed_at(monkeypatch, ran)
    (file,) = cache.iterdir()
    harm(file)
    assert listed_at(monkeypatch, ran) == first
    assert ran == [1, 1]
    if harm is not a_folder:
        assert listed_at(monkeypatch, ran) == first
        assert ran == [1, 1]


def test_another_release_has_a_file_of_its_own(monkeypatch, cache):
    """What was made of one release is not read for another, and a file that nobody asks for goes after a month."""
    ran = []
    listed_at(monkeypatch, ran)
    (file,) = cache.iterdir()
    os.utime(file, (0, 0))
    monkeypatch.setattr(genai, "version", lambda: "99.0")
    listed_at(monkeypatch, ran)
    assert ran == [1, 1]
    (new,) = cache.iterdir()
    assert new != file


def test_environments_of_one_run(monkeypatch, cache):
    """Of many environments' files those stay that were asked for last."""
    begun = time_now.time()
    for number in range(kept.KEPT_MOST + 4):
        monkeypatch.setattr(genai, "version", lambda number=number: f"{number}.0")
        listed_at(monkeypatch, [])
        (new,) = (file for file in cache.iterdir() if file.stat().st_mtime > begun - 3_600)
        os.utime(new, (begun - 7_200 + number,) * 2)
    left = sorted(file.stat().st_mtime for file in cache.iterdir())
    assert len(left) == kept.KEPT_MOST
    assert left[-1] - left[0] < kept.KEPT_MOST


def test_a_file_that_is_asked_for_stays(monkeypatch, cache):
    """That somebody has asked is noted, once a day."""
    listed_at(monkeypatch, [])
    (file,) = cache.iterdir()
    os.utime(file, (0, 0))
    listed_at(monkeypatch, [])
    assert file.stat().st_mtime > 0


@pytest.mark.parametrize("place", ["/proc/nowhere", "relative", "file"])
def test_no_place_to_keep_it(monkeypatch, cache, tmp_path, place):
    """Where nothing can be written, prices are what they are."""
    first = listed_at(monkeypatch, [])
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked) if place == "file" else place)
    ran = []
    assert listed_at(monkeypatch, ran) == listed_at(monkeypatch, ran) == first
    assert ran == [1, 1]


def test_many_may_write_it_at_once(cache):
    """Whoever is last has its file there, whole, and nothing else is left."""
    packed = kept.packed(genai._run(genai._data()))
    source = f"{genai._folder()}/data.py"
    threads = [threading.Thread(target=kept.write, args=(source, "1", packed)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([*cache.iterdir()]) == 1
    assert kept.read(source, "1") == packed


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
