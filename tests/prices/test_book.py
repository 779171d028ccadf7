"""The price book: overrides, bounds on memory, threads, and worst cases."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import threading
import types
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenguard.facts.errors import PolicyError
from tokenguard.facts.usage import Usage
from tokenguard.prices import PriceBook, Tier, genai, listed
from tokenguard.prices.sieve import Sieve

from .conftest import AT

SOME = Usage(10_000, 1_000, cache_read=4_000)


def test_an_alias_is_priced_like_its_target(price):
    """An Azure deployment costs what the model behind it costs, by either name of the provider."""
    for key in ("azure/my-gpt4o-*", "azure.ai.openai/my-gpt4o-*"):
        book = PriceBook({key: "openai/gpt-4o"}, origin="tokenguard.toml [prices]")
        cost = price("azure.ai.openai", ("gpt-4.1", "My-GPT4o-prod"), SOME, book=book)
        assert (cost.total, cost.status) == (pytest.approx(0.03), "exact")  # 6,000 x 2.50 + 4,000 x 1.25 + 1,000 x 10
        rates = book.rates("azure.ai.openai", "my-gpt4o-prod", at_ns=AT)
        assert rates.source.startswith(f'override "{key}" = "openai/gpt-4o" in tokenguard.toml [prices]; genai-prices ')


def test_the_first_match_wins(price):
    """Overrides are tried in their order, and before the price list."""
    book = PriceBook(
        {
            "openai/ft:gpt-4.1:*": {"input": 3.0, "output": 12.0, "cache_read": 0.75},
            "openai/*": {"input": 1.0, "output": 1.0},
        }
    )
    tuned = price("openai", "ft:gpt-4.1-2025-04-14:acme::x", SOME, book=book)  # the name as OpenAI makes it
    assert (tuned.total, tuned.status) == (pytest.approx(0.033), "exact")  # 6,000 x 3 + 4,000 x 0.75 + 1,000 x 12
    assert price("openai", "gpt-4o", Usage(10_000, 1_000), book=book).total == pytest.approx(0.011)


def test_what_an_override_leaves_out_is_marked(price):
    """A rate that an override does not state is derived as for the list, and the cost says so."""
    book = PriceBook({"azure/my-claude": {"input": 2.0, "output": 10.0}})
    assert price("azure.ai.inference", "my-claude", SOME, book=book).basis == "assumed_cache_read"
    cost = price("azure.ai.inference", "my-claude", Usage(1_000, 0, 0, 1_000), book=book)
    assert (cost.total, cost.basis) == (pytest.approx(0.0025), "assumed_cache_write")  # 1.25 x 2
    cost = price("azure.ai.inference", "my-claude", Usage(1_000, 0), tier=Tier("batch"), book=book)
    assert (cost.total, cost.basis) == (pytest.approx(0.001), "assumed_batch")


def test_aliases_chain_and_never_loop(price):
    """An alias may name what another override is for; a circle of aliases is unpriced."""
    book = PriceBook({"azure/a": "openai/b", "openai/b": {"input": 1.0, "output": 0.0}, "x/c": "x/d", "x/d": "x/c"})
    assert price("azure.ai.openai", "a", Usage(1_000, 0), book=book).total == pytest.approx(0.001)
    assert price("x", "c", Usage(1_000, 0), book=book).status == "unpriced"


def test_an_alias_to_nothing_is_unpriced(price):
    """An alias says what the price is; a target that nobody knows is not replaced by a guess."""
    book = PriceBook({"azure/gpt-4o": "openai/gpt-9"})
    assert price("azure.ai.openai", "gpt-4o", SOME, book=book).status == "unpriced"


def test_zero_is_a_price(price):
    """A model of one's own at zero is exactly free, which is not the same as unknown."""
    book = PriceBook({"ollama/*": {"input": 0, "output": 0, "cache_read": 0}})
    assert price("ollama", "llama3.3", SOME, book=book)[:3] == ("exact", None, 0.0)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"gpt-4o": "openai/gpt-4o"}, '[prices] "gpt-4o": a key is "provider/model"'),
        ({"azure/x": "gpt-4o"}, 'a value is "provider/model"'),
        ({"azure/x": 3.0}, "3.0 is no price"),
        ({"azure/x": {"inptu": 1.0}}, 'there is no rate "inptu"; did you mean "input"?'),
        ({"azure/x": {"input": -1}}, "input = -1 is not a rate: write USD per million tokens, 0 or more"),
        ({"azure/x": {"input": float("nan")}}, "is not a rate"),
        ({"azure/x": {"input": True}}, "is not a rate"),
        ({"azure/x": {"output": 1.0}}, '"input" is missing'),
    ],
)
def test_bad_overrides(overrides, said):
    """An override that means nothing is refused with its key, its value and the fix."""
    with pytest.raises(PolicyError) as error:
        PriceBook(overrides)
    assert said in str(error.value)


def test_memory_is_bounded():
    """Ten thousand invented names leave 64 entries here where 64 are allowed, and none in the price list's caches."""
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    caches = (snapshot._lookup_cache, snapshot._provider_cache, snapshot._provider_misses)
    before = [len(cache) for cache in caches]
    book = PriceBook(size=64)
    rng = random.Random(7)
    for number in range(10_000):
        # Most are asked of a small seller: a miss at OpenRouter walks a thousand models.
        seller = "meta" if number % 50 else "openrouter"
        assert book.rates(seller, f"model-{rng.random()}", at_ns=AT) is None
    assert book._resolve.cache_info().currsize == 64
    assert [len(cache) for cache in caches] == before


def test_long_names_are_not_kept():
    """A name longer than any model's is unpriced and not remembered, wherever it stands."""
    book = PriceBook()
    long = "m" * 100_000
    assert book.rates("openai", long) is None
    assert book.rates(long, "gpt-4o") is None
    assert book.rates("openai", ("gpt-4o", long)) is None
    assert book.rates("openai", "gpt-4o", tier=Tier(long)) is None
    assert book._resolve.cache_info().currsize == 0


def test_resolved_once():
    """The second look-up of a model within half an hour is a hit, and rates on another day are others."""
    book = PriceBook()
    book.warm("openai")  # a list that is loaded meanwhile is another edition
    assert book.rates("openai", "o3", at_ns=AT) is book.rates("openai", "o3", at_ns=AT + 1)
    assert book._resolve.cache_info().hits == 1
    assert book.rates("openai", "o3", at_ns=1_746_000_000 * 10**9).usd_per_mtok("input") == 10


def test_threads_agree():
    """Threads that price at once, through a cache too small for them, all get the same."""
    book = PriceBook(size=2)
    models = ["gpt-4o", "gpt-4.1", "gpt-5", "o3"]
    expected = {model: book.cost("openai", model, SOME, at_ns=AT) for model in models}
    wrong = []

    def work(seed):
        rng = random.Random(seed)
        for _ in range(200):
            model = rng.choice(models)
            if book.cost("openai", model, SOME, at_ns=AT) != expected[model]:
                wrong.append(model)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_list_is_left_as_it_is():
    """Pricing changes nothing in the price list."""
    model = next(m for p in genai.bundled().providers if p.id == "openai" for m in p.models if m.id == "gpt-5")
    before = repr((model.prices, model.price_variants))
    for tier in ("batch", "flex", "priority", "scale"):
        PriceBook().cost("openai", "gpt-5", SOME, tier=Tier(tier), at_ns=AT)
    assert repr((model.prices, model.price_variants)) == before


def test_the_list_is_read_at_the_first_miss():
    """Making a book, and pricing by an override, reads no price list."""
    code = (
        "import sys; from tokenguard.prices import PriceBook; from tokenguard.facts.usage import Usage\n"
        "book = PriceBook({'x/y': {'input': 1.0}}); assert book.cost('x', 'y', Usage(1)).total == 1e-6\n"
        "assert 'tokenguard.prices.genai.sellers' not in sys.modules\n"
        "assert book.cost('openai', 'gpt-4o', Usage(1, 0)).total and 'tokenguard.prices.genai.sellers' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


MODELS = [
    ("anthropic", "claude-sonnet-4-5"),
    ("openai", "gpt-6.1-sol"),
    ("openai", "gpt-realtime"),
    ("gcp.gemini", "gemini-2.5-pro"),
    ("perplexity", "sonar"),
    ("gcp.gemini", "gemini-2.5-flash-image"),
]
BOOK = PriceBook()


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_call_costs_more_than_its_worst_case(data):
    """Whatever the counts within the bounds, the ledger's amount is at most the worst case's, and none is negative."""
    provider, model = data.draw(st.sampled_from(MODELS))
    tier = Tier(data.draw(st.sampled_from([None, "batch", "flex", "priority"])))
    below = lambda most: data.draw(st.integers(0, most))  # noqa: E731 - a draw in six places
    sent, generated = below(400_000), below(10_000)
    read = below(sent)
    written = below(sent - read)
    w1h = below(written)
    w12h = below(written - w1h)
    heard = below(sent - read - written)
    reheard = below(read)
    usage = Usage(
        sent, generated, read, written, None, w1h, w12h, None, heard + reheard, reheard, below(generated), below(sent)
    )
    cost = BOOK.cost(provider, model, usage, tier=tier, at_ns=AT)
    assert min(cost.input, cost.output, cost.cache_read, cost.cache_write) >= 0
    spent = BOOK.cost_nano(provider, model, usage, tier=tier, at_ns=AT)
    writes = ("cache_write", "cache_write_1h", "cache_write_12h")
    assert spent <= BOOK.worst_case_nano(provider, model, sent, generated, tier=tier, at_ns=AT, writes=writes)
    assert abs(spent - cost.total * 1e9) < 1.01


def test_a_worst_case_can_be_narrowed():
    """A request that writes no cache and has no audio is bounded by its plain rates."""
    nano = lambda **known: BOOK.worst_case_nano("anthropic", "claude-sonnet-4-5", 10_000, 1_000, at_ns=AT, **known)  # noqa: E731
    assert nano() == 75_000_000  # 10,000 x 6/M one-hour writes + 1,000 x 15/M
    assert nano(writes=("cache_write",)) == 52_500_000  # 10,000 x 3.75/M
    assert nano(writes=()) == 45_000_000  # 10,000 x 3/M
    past = BOOK.worst_case_nano("gcp.gemini", "gemini-2.5-pro", 200_001, 0, at_ns=AT, media=False)
    assert past == 500_002_500  # 200,001 x 2.50/M
    # gpt-4o lists no write rate: writing is not charged there, and not reserved for.
    assert BOOK.worst_case_nano("openai", "gpt-4o", 10_000, 1_000, at_ns=AT) == 35_000_000


def test_a_ceiling_bounds_what_is_unpriced():
    """With a ceiling, ledgers have an amount for a model without a price; its cost stays unknown."""
    book = PriceBook(ceiling=(15, 75))
    assert book.worst_case_nano("openai", "gpt-9", 10_000, 1_000) == 225_000_000  # 0.150 + 0.075
    assert book.cost_nano("openai", "gpt-9", Usage(10_000, 1_000, cache_read=10_000)) == 225_000_000
    assert book.cost("openai", "gpt-9", Usage(10_000, 1_000)).status == "unpriced"
    assert PriceBook().worst_case_nano("openai", "gpt-9", 10_000, 1_000) is None


def test_rates_say_what_they_are():
    """Resolved rates read in USD per million tokens, with their thresholds and their source."""
    rates = BOOK.rates("gcp.gemini", "gemini-2.5-pro", at_ns=AT)
    assert [above for above, _ in rates.bands] == [0, 200_000]
    assert [rates.usd_per_mtok("input", tokens) for tokens in (200_000, 200_001)] == [Decimal("1.25"), Decimal("2.5")]
    assert (rates.model, rates.source.split()[0]) == ("google/gemini-2.5-pro", "genai-prices")


@pytest.mark.everywhere
@pytest.mark.parametrize("day", [date(2024, 6, 1), date(2026, 11, 20), date(2027, 2, 1)])
def test_every_listed_model_resolves(day):
    """No entry of the price list breaks us, at any day or tier, and no rate is negative."""
    at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    providers = {provider.id: provider for provider in genai.bundled().providers}
    priced = 0
    for provider in providers.values():
        for model in provider.models:
            for tier in (Tier(), Tier("batch"), Tier("priority", "fast")):
                rates = listed._rates(providers, provider, model, tier, at, None, model.id)
                priced += rates is not None
                assert rates is None or all(min(card) >= 0 for _, card in rates.bands), model.id
    assert priced > 5_000


def test_no_name_is_sieved_out_that_the_list_knows():
    """What is said at once of a name, that nothing is listed under it, is what trying each model finds."""
    providers = listed._providers()
    names = sorted({model.id for provider in providers.values() for model in provider.models})
    some = random.Random(7).sample(names, 40)
    for provider in providers.values():
        sieve = listed._sieve(provider)
        assert all(sieve.passes(model.id) for model in provider.models if model.is_match(model.id))
        for name in (*some, *(f"{name}-20251211" for name in some[:10]), "acme", "ft:gpt-4o:acme::x", ""):
            if not sieve.passes(name):
                assert provider.find_model(name, all_providers=list(providers.values())) is None
    assert not listed._sieve(providers["openai"]).passes("acme-17")


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (r"^gpt-5\.6-\d{4}$", "gpt-5.6-1234"),
        ("^gpt-?5", "gpt5"),
        ("^gpt-5*", "gpt-"),
        ("^gp{0}t", "gt"),
        ("^(x/)?acme", "acme"),
        ("^one|two", "two"),
        ("gpt", "a-gpt"),
        (r"^gpt\.?5", "gpt5"),
        (r"^gpt\w", "gpt5"),
        (r"^gpt\-5", "gpt-5"),
    ],
)
def test_a_pattern_is_tried_where_it_may_match(pattern, name):
    """A pattern is compiled for names alone that begin as it does, and none that it matches is left out."""
    clause = types.SimpleNamespace(regex=pattern)
    sieve = Sieve([types.SimpleNamespace(models=[types.SimpleNamespace(match=clause)])])
    assert re.search(pattern, name)
    assert sieve.passes(name)
    assert not sieve.passes("nothing-like-it")


def test_a_clause_that_is_new_lets_all_pass():
    """Where the price list matches names in a way that is not known here, it is asked."""
    clause = types.SimpleNamespace(resembles="x")
    provider = types.SimpleNamespace(models=[types.SimpleNamespace(match=clause)])
    assert Sieve([provider]).passes("acme")
