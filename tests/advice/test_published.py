"""What-if on scenarios that articles have published, at the values that their own arithmetic gives.

The articles' figures stand beside each. Where they differ, the reason is given: sums that were rounded too far, hits
that were counted too often, or a cap that is not named.
"""

from __future__ import annotations

import pytest

from advice.conftest import call, tokens
from tokenguard.facts import names as n

WITHIN = 0.001


def exactly(usd):
    return pytest.approx(usd, rel=WITHIN)


def repeats(calls, share):
    """Hashes of so many requests, of which a share repeats an earlier one."""
    new = round(calls * (1 - share))
    return [f"{min(i, new - 1) if i < new else i % new:016x}" for i in range(calls)]


def test_support_bot(whatif):
    """10,000 requests a day on gpt-4o: $127.50 before; $5.03 after, 96.1 % less.

    Published: $10.00 and 92 %. Its after-figures are twice what its own tokens, prices and hit rate come to.
    """
    kinds = ["simple"] * 6 + ["medium"] * 3 + ["hard"]
    hashes = repeats(1000, 0.35)
    calls = [
        call(
            i,
            "gpt-4o",
            tokens(3500, 400),
            route=kinds[int(hashes[i], 16) % 10],
            **{n.REQUEST_HASH: hashes[i], n.REQUEST_TEMPERATURE: 0.0},
        )
        for i in range(1000)
    ]
    fall = whatif(
        calls,
        f"""
        [[limit]]
        name = "concise"
        max_output_tokens = 150
        then = "clamp"
        [[cache]]
        name = "answers"
        per = []
        ttl = "1d"
        [[route]]
        name = "simple"
        when = {{ route = "simple" }}
        to = "gpt-4.1-nano"
        [[route]]
        name = "medium"
        when = {{ route = "medium" }}
        to = "gpt-4.1-mini"
        [[whatif.shorten]]
        name = "compressed prompt and history"
        input = {1200 / 3500}
        """,
    )
    assert fall.spent_usd == exactly(12.75)
    by_hand = (
        650
        / 1e6
        * (0.6 * (1200 * 0.10 + 150 * 0.40) + 0.3 * (1200 * 0.40 + 150 * 1.60) + 0.1 * (1200 * 2.5 + 150 * 10))
    )
    assert by_hand == pytest.approx(0.503, abs=0.001)
    assert fall.left_usd == exactly(by_hand)
    assert fall.saved_share == pytest.approx(0.961, abs=0.001)
    saved = {line.name: line.saved_usd for line in fall.lines}
    assert saved["compressed prompt and history"] == exactly(1000 * 2300 * 2.5e-6)
    assert saved["concise"] == exactly(1000 * 250 * 10e-6)
    assert saved["answers"] == exactly(350 * (1200 * 2.5e-6 + 150 * 10e-6))
    assert fall.spent_usd - sum(saved.values()) == pytest.approx(fall.left_usd)


@pytest.mark.parametrize(
    ("more", "by_hand", "share"),
    [
        ("", 0.8 * (200 + 1800 * 0.5 + 1500) * 2.5e-6 + 0.8 * 600 * 10e-6, 0.420),
        (
            '[prices]\n"openai/gpt-4o" = { input = 2.5, output = 10, cache_read = 0.25 }',
            0.8 * (200 + 1800 * 0.1 + 1500) * 2.5e-6 + 0.8 * 600 * 10e-6,
            0.504,
        ),
        (
            '[[limit]]\nname = "a cap nobody names"\nmax_output_tokens = 92\nthen = "clamp"\n'
            '[prices]\n"openai/gpt-4o" = { input = 2.5, output = 10, cache_read = 0.25 }',
            0.8 * (200 + 1800 * 0.1 + 1500) * 2.5e-6 + 0.8 * 92 * 10e-6,
            0.740,
        ),
    ],
    ids=["gpt-4o halves what is cached", "a provider that takes 90 % off", "and answers of 92 tokens"],
)
def test_rag(whatif, more, by_hand, share):
    """5,000 questions a day on gpt-4o: $86.25 before; $50.00 after, 42.0 % less.

    Published: $22.50 and 74 %. Its output alone is $24.00 after the cache. 90 % off for cached input, which gpt-4o does
    not give, makes it 50.4 %; 74 % needs answers of 92 tokens as well, which it does not mention.
    """
    hashes = repeats(500, 0.2)
    calls = [
        call(
            i,
            "gpt-4o",
            tokens(4500, 600, 0),
            **{n.REQUEST_HASH: hashes[i], n.REQUEST_TEMPERATURE: 0.0, n.BREAK_KIND: "changed", n.BREAK_TOKENS: 1800},
        )
        for i in range(500)
    ]
    rest = more.replace("[prices]", "").strip()
    fall = whatif(
        calls,
        f"""
        [[cache]]
        name = "answers"
        per = []
        ttl = "1d"
        [[whatif.shorten]]
        name = "fewer chunks"
        input = {3500 / 4500}
        [whatif]
        prompt_cache = true
        {more if rest else ""}
        """,
    )
    assert fall.spent_usd == exactly(8.625)
    assert fall.left_usd == exactly(500 * by_hand)
    assert fall.saved_share == pytest.approx(share, abs=0.001)


def test_batch(whatif):
    """100,000 articles a day on gpt-4o: $250 before; $3.60 on gpt-4o-mini in batches, 98.6 % less.

    Published: $6.00 and 97.6 %.
    """
    calls = [call(i, "gpt-4o", tokens(800, 50), feature="articles") for i in range(200)]
    fall = whatif(
        calls,
        """
        [[route]]
        name = "small model"
        to = "gpt-4o-mini"
        [[whatif.shorten]]
        input = 0.5
        output = 0.4
        [[whatif.batch]]
        name = "overnight"
        when = { feature = "articles" }
        """,
    )
    assert fall.spent_usd == exactly(0.50)
    assert fall.left_usd == exactly(200 * (400 * 0.15 + 20 * 0.60) / 2e6)
    assert 100_000 / 200 * fall.left_usd == exactly(3.60)
    assert fall.saved_share == pytest.approx(0.986, abs=0.001)


@pytest.mark.parametrize(("hits", "share"), [(80, 0.606), (98, 0.794), (99, 0.804)])
def test_prompt_caching(whatif, hits, share):
    """100 calls with a prompt of 10,000 tokens on Claude Sonnet: 60.6 % less where 80 of them find it.

    Published: 79 % 'at 80 % hits'. It multiplies 99 hits, and leaves out that writing costs a quarter more.
    """
    cold = {n.BREAK_KIND: "unmarked", n.BREAK_TOKENS: 10_000}
    calls = [
        call(i, "claude-sonnet-4-6", tokens(10_050, 200, 0, 0), feature="support", **(cold if i < hits else {}))
        for i in range(100)
    ]
    fall = whatif(calls, "[whatif]\nprompt_cache = true")
    assert fall.spent_usd == exactly(100 * (10_050 * 3 + 200 * 15) / 1e6)
    read, write = 50 * 3 + 10_000 * 0.3, 50 * 3 + 10_000 * 3.75
    assert fall.left_usd == exactly((hits * read + (100 - hits) * write + 100 * 200 * 15) / 1e6)
    assert fall.saved_share == pytest.approx(share, abs=0.001)
