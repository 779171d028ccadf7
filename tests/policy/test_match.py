"""Which rules apply to a call, and what a repeated question costs."""

from __future__ import annotations

from tokenguard import policy
from tokenguard.policy import CompiledPolicy
from tokenguard.policy import match as match_module

TEXT = """
[attribution]
keys = ["region"]

[[limit]]
name = "support"
when = { feature = "support_*", model = ["gpt-4o*", "claude-*"], tenant = "*" }
max_retries = 1
[[limit]]
name = "with a tenant"
when = { tenant = "?*" }
max_retries = 1
[[limit]]
name = "eu"
when = { region = "eu-*" }
max_retries = 1
[[budget]]
name = "tenant"
per = ["tenant", "region"]
limit_usd = 1
[[budget]]
name = "embeddings"
when = { operation = "embeddings", provider = "openai" }
limit_tokens = 5
then = "warn"
[[breaker]]
name = "down"
[[share]]
name = "faq"
when = { feature = "faq" }
[[share]]
name = "faq too"
when = { feature = "f*" }
"""


def names_of(rules: tuple) -> list[str]:
    return [rule.name for rule in rules]


def test_globs() -> None:
    """All keys of a `when` must match, any glob of a key; an absent value is the empty text."""
    compiled = CompiledPolicy(policy.loads(TEXT))
    yes = compiled.match("openai", "gpt-4o-mini", "chat", {"feature": "support_chat"})
    assert names_of(yes.limits) == ["support"]
    assert names_of(compiled.match("openai", "gpt-4", "chat", {"feature": "support_chat"}).limits) == []
    assert names_of(compiled.match("openai", "gpt-4o", "chat", {"feature": "Support_chat"}).limits) == []
    both = compiled.match("anthropic", "claude-x", "chat", {"feature": "support_", "tenant": "t", "region": "eu-1"})
    assert names_of(both.limits) == ["support", "with a tenant", "eu"]
    assert names_of(both.breakers) == ["down"]


def test_budget_keys() -> None:
    """A budget's key states its `per` values; separators in values are escaped, long values are cut."""
    compiled = CompiledPolicy(policy.loads(TEXT))
    matched = compiled.match("openai", "m", "embeddings", {"tenant": "a=b,c", "region": "eu"})
    assert [(budget.name, key) for budget, key in matched.accounts()] == [
        ("tenant", "tenant=a%3Db%2Cc,region=eu"),
        ("embeddings", ""),
    ]
    nobody = compiled.match("openai", "m", "chat", {}).accounts()[0][1]
    assert nobody == "tenant=,region="
    long = [compiled.match("openai", "m", "chat", {"tenant": "x" * 5000 + end}).accounts()[0][1] for end in "ab"]
    assert long[0] != long[1]
    assert len(long[0]) < 200
    odd = compiled.match("openai", "m", "chat", {"tenant": "a\ud800\x00\x1f"}).accounts()[0][1]
    assert odd == "tenant=a?%00%1F,region="


def test_share() -> None:
    """The first share that matches decides, and its `per` values keep tenants apart."""
    compiled = CompiledPolicy(policy.loads(TEXT))
    matched = compiled.match("openai", "m", "chat", {"feature": "faq", "tenant": "t1"})
    assert matched.share is not None
    assert (matched.share.name, matched.share_key) == ("faq", "tenant=t1")
    assert compiled.match("openai", "m", "chat", {"feature": "other"}).share is None


def test_entries_follow_the_window() -> None:
    """Entries are made once per window, and anew when it ends; observe mode never enforces."""
    matched = CompiledPolicy(policy.loads(TEXT)).match("openai", "m", "embeddings", {"tenant": "t"})
    first = matched.entries(1_000_000_000)
    assert matched.entries(1_000_000_001) is first
    assert [(entry.enforce, entry.limit_nano, entry.limit_tokens) for entry in first] == [
        (True, 1_000_000_000, None),
        (False, None, 5),
    ]
    assert [matched.budget(entry.budget).then for entry in first] == ["block", "warn"]
    later = matched.entries(1_000_000_000 + 86400)
    assert later[0].window_start == first[0].window_end
    assert matched.entries(1_000_000_000) == first, "a clock that goes back is answered as well"
    assert not any(entry.enforce for entry in matched.entries(1_000_000_000, enforce=False))


def test_repeats_are_remembered_and_bounded(monkeypatch) -> None:
    """What is seen again is remembered; what no rule looks at makes no new combination, a flood grows nothing."""
    monkeypatch.setattr(match_module, "CACHE_SIZE", 10)
    compiled = CompiledPolicy(policy.loads(TEXT))
    compiled.match("openai", "m", "chat", {"tenant": "hot"})
    hot = compiled.match("openai", "m", "chat", {"tenant": "hot", "user": "1"})
    for i in range(1000):
        compiled.match("openai", "m", "chat", {"tenant": f"t{i}"})
        assert compiled.match("openai", "m", "chat", {"user": f"{i}", "tenant": "hot"}) is hot
        assert len(compiled._young) + len(compiled._old) <= 20
        assert len(compiled._once) <= 10
    assert len(compiled._young) + len(compiled._old) == 1  # of those that were seen once, none


def test_empty_policy() -> None:
    """Without rules nothing matches, whoever calls."""
    matched = CompiledPolicy(policy.Policy()).match("", "", "", {"tenant": "t"})
    assert (matched.limits, matched.budgets, matched.breakers, matched.share) == ((), (), (), None)
    assert matched.entries(0.0) == ()
