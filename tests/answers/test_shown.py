"""Kept answers as people see them: the command, the check, a trial, the report, and what-if."""

from __future__ import annotations

import json
import time

import pytest
from click.testing import CliRunner

from tokenguard.advice.proposal import load
from tokenguard.answers.entry import box_of
from tokenguard.answers.key import owner
from tokenguard.answers.sqlite import SqliteStore
from tokenguard.answers.store import Item
from tokenguard.cli import group
from tokenguard.facts import names
from tokenguard.facts.record import CallRecord, Cost
from tokenguard.store.store import Store

SECRET = "a secret of some length"


def run(*arguments):
    return CliRunner().invoke(group, [str(each) for each in arguments])


@pytest.fixture
def policy_file(tmp_path):
    def write(text):
        path = tmp_path / "tokenguard.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def kept(tmp_path, monkeypatch, policy_file):
    """A file with answers of two rules and two tenants, and its policy."""
    monkeypatch.setenv("TOKENGUARD_CACHE_KEY", SECRET)
    box = box_of("sqlite:///answers.db", "TOKENGUARD_CACHE_KEY", plain=False)
    store = SqliteStore(tmp_path / "answers.db", 2**30, timeout_s=1.0)
    for n in range(8):
        item = Item(f"r{n % 2}", owner(box.secret, f"t{n // 4}"), time.time() + 60, b"x" * 2**17)
        store.put(n.to_bytes(32, "big"), item)
    store.close()
    return policy_file('[[cache]]\nname = "r0"\n[[cache]]\nname = "r1"\n[answers]\nurl = "sqlite:///answers.db"\n')


def test_stats(kept):
    """Each rule with its answers and their size, and the sum."""
    said = run("cache", "stats", "--policy", kept)
    assert said.exit_code == 0
    assert said.output.splitlines() == [
        "r0: 4 answers, 513.0 KiB",
        "r1: 4 answers, 513.0 KiB",
        "Total: 8 answers, 1.0 MiB of 64 MiB.",
    ]
    told = json.loads(run("cache", "stats", "--policy", kept, "--format", "json").output)
    assert [(rule["rule"], rule["entries"]) for rule in told["rules"]] == [("r0", 4), ("r1", 4)]


def test_clear(kept):
    """A rule's, a tenant's, or all."""
    assert run("cache", "clear", "--policy", kept, "--rule", "r0", "--tenant", "t1").output == "Deleted 2 answers.\n"
    assert run("cache", "clear", "--policy", kept, "--tenant", "t0").output == "Deleted 4 answers.\n"
    unknown = run("cache", "clear", "--policy", kept, "--rule", "r2")
    assert unknown.output.splitlines() == [
        "Deleted 0 answers.",
        "Nothing is kept for the rule 'r2'. Answers are kept for: r1.",
    ]
    assert run("cache", "clear", "--policy", kept).output == "Deleted 2 answers.\n"


def test_eval(tmp_path):
    """What words would serve of labelled pairs, and what wrongly; a share that is too large is exit code 1."""
    path = tmp_path / "pairs.jsonl"
    path.write_text(
        '{"a": "What is your refund policy?", "b": "the refund policy, what is it", "same": true}\n'
        '{"a": "Refund policy?", "b": "what\\u0027s the Refund Policy", "same_answer": true}\n'
        '{"a": "Hi! The refund policy, please", "b": "your REFUND policy", "same": true}\n'
        '{"a": "Your opening hours", "b": "the opening hours?", "same": 1}\n\n'
        '{"a": "order 48213", "b": "order 48231", "same": false}\n'
        '{"a": "Who do I ask", "b": "Who should I ask", "same": false}\n'
    )
    said = run("cache", "eval", path)
    assert said.exit_code == 1
    assert "served: 2 of 4 same pairs (50.0%)" in said.output
    assert "wrong:  1 of 2 different pairs (50.0%" in said.output
    assert run("cache", "eval", path, "--max-wrong", "0.6").exit_code == 0
    path.write_text('{"a": "x"}\n')
    assert "pairs.jsonl:1: this is no pair" in str(run("cache", "eval", path).exception)


def test_nothing_to_see(policy_file):
    """In memory, or before anything is kept, it says so."""
    path = policy_file('[[cache]]\nname = "a"\n')
    assert "each process keeps to itself" in run("cache", "stats", "--policy", path).output
    path = policy_file('[[cache]]\nname = "a"\n[answers]\nurl = "sqlite:///none.db"\n')
    assert "Nothing is kept yet" in run("cache", "stats", "--policy", path).output


def test_check_of_what_is_lacking(policy_file, monkeypatch):
    """A secret or a package that is not here is told of: the program's start would fail without it."""
    monkeypatch.delenv("TOKENGUARD_CACHE_KEY", raising=False)
    rule = (
        '[[cache]]\nname = "faq"\nmatch = "meaning"\nencoder = "model2vec:potion"\n[answers]\nurl = "redis://host:1"\n'
    )
    path = policy_file(rule)
    assert "The environment variable TOKENGUARD_CACHE_KEY is not set here" in run("policy", "check", path).output
    monkeypatch.setattr("tokenguard.policy.doubts.find_spec", lambda package: None)
    said = run("policy", "check", path)
    assert said.exit_code == 0
    for package, extra in (
        ("cryptography", "answers"),
        ("redis", "redis"),
        ("numpy", "meaning"),
        ("model2vec", "meaning"),
    ):
        assert f"The package {package} is missing here" in said.output
        assert f'"tokenguard-otel[{extra}]"' in said.output
    plain = run(
        "policy", "check", policy_file('[[cache]]\nname = "faq"\n[answers]\nurl = "sqlite:///a.db"\nplain = true\n')
    )
    assert "[answers]" not in plain.output


def test_check(policy_file):
    """A rule for models that take no temperature is doubted, unless it says `sampled`."""
    rule = '[[cache]]\nname = "faq"\nwhen = { model = "claude-*" }\n'
    said = run("policy", "check", policy_file(rule))
    assert "1 cache;" in said.output
    assert "takes no temperature" in said.output
    assert "temperature" not in run("policy", "check", policy_file(rule + "sampled = true\n")).output
    assert "temperature" not in run("policy", "check", policy_file('[[cache]]\nname = "a"\n')).output
    meaning = '[[cache]]\nname = "m"\nmatch = "meaning"\nencoder = "app:encode"\nsampled = true\nper = []\n'
    assert '"m" only watches' in run("policy", "check", policy_file(meaning)).output
    assert "watch" in run("policy", "try", policy_file(meaning), "--model", "gpt-4o").output


@pytest.mark.parametrize(
    ("rule", "asked", "said"),
    [
        ("", (), "the call has no tenant"),
        ("", ("--tenant", "t"), "its temperature is not 0"),
        ("sampled = true\n", ("--tenant", "t"), "shared by tenant=t"),
        ("sampled = true\n", ("--tenant", "t", "--tools"), "it offers tools"),
        ('sampled = true\nwhen = { feature = "faq" }\n', ("--tenant", "t"), "it has no feature"),
    ],
)
def test_trial(rule, asked, said, policy_file):
    """`policy try` says whether a call would be looked up, and why not."""
    path = policy_file(f'[[cache]]\nname = "faq"\n{rule}[answers]\nurl = "sqlite:///a.db"\n')
    output = run("policy", "try", path, "--model", "gpt-4o", *asked).output
    assert said in " ".join(output.split())


def test_report(tmp_path):
    """The report says how many calls got a kept answer, and what that saved."""
    store = Store(str(tmp_path / "usage.db"))
    common = {names.OPERATION: "chat", names.PROVIDER: "openai", names.REQUEST_MODEL: "gpt-4o"}
    hit = {names.CACHE_RESULT: "hit", names.CACHE_RULE: "faq", names.CACHE_SAVED: 0.5, names.COST: 0.0}
    shared = {names.CACHE_RESULT: "shared", names.CACHE_RULE: "s", names.CACHE_SAVED: 0.25, names.COST: 0.0}
    watched = {names.CACHE_RESULT: "hit", names.CACHE_REASON: "observe", names.COST: 0.5}
    alike, unlike = ({**watched, names.CACHE_LIKENESS: value} for value in (1.0, 0.5))
    now = time.time_ns()
    for more, usd in ((hit, 0.0), (hit, 0.0), (shared, 0.0), (watched, 0.5), (alike, 0.5), (unlike, 0.5)):
        attributes = {**common, **more, names.COST_STATUS: "exact"}
        store.write([CallRecord(now, 1000, "ok", attributes, cost=Cost("exact", None, usd))])
    store.finish()
    said = run("report", "--source", tmp_path / "usage.db")
    assert said.exit_code == 0, said.output
    words = " ".join(said.output.split())
    assert "3 served ($1.25 saved)" in words
    assert "3 would be served ($1.50); the real answers were 75% alike" in words
    said = run("report", "--by", "cache_rule,cache_result", "--source", tmp_path / "usage.db")
    assert "faq" in said.output


def test_proposal(policy_file):
    """What-if replays the policy's own rules, and those that are only tried."""
    path = policy_file('[[cache]]\nname = "a"\n[[whatif.cache]]\nname = "b"\nsampled = true\n')
    assert [cache.name for cache in load(path).caches] == ["a", "b"]
    assert [cache.name for cache in load(path).policy.caches] == ["a"]
