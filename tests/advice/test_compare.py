"""Cost per success of two versions: the interval holds what it says, and a word is said only where it may be."""

from __future__ import annotations

import json
import random

import pytest
from click.testing import CliRunner

from advice.conftest import START, call, tokens
from tokenguard.advice import compare as comparing
from tokenguard.advice.compare import Arm, Task, compare, compared, interval
from tokenguard.cli import group
from tokenguard.facts import names as n
from tokenguard.facts.errors import TokenGuardError
from tokenguard.facts.record import TaskRecord
from tokenguard.report.engine import SqliteRecords
from tokenguard.report.query import Query
from tokenguard.store.store import Store


def arm(value, tasks):
    return Arm("prompt_version", value, "task", tuple(tasks), None, None, None, None)


def drawn(chance, count, scale, success):
    """Tasks of a version: some calls each, costs with a long tail, a share that succeeds."""
    return [
        Task(scale * chance.lognormvariate(0, 0.8) * chance.randint(1, 4), 1, chance.random() < success, 1.0)
        for _ in range(count)
    ]


@pytest.mark.everywhere
def test_the_interval_holds_what_it_says(monkeypatch):
    """Of 1,000 experiments whose true ratio is known, the 95 % interval has it in 930 to 970."""
    monkeypatch.setattr(comparing, "RESAMPLES", 250)
    true = 0.8
    held = 0
    for seed in range(1_000):
        chance = random.Random(seed)
        first = drawn(chance, 30, 0.02, 0.75)
        second = drawn(chance, 40, 0.02 * true * 0.85 / 0.75, 0.85)
        low, high = interval(first, second, seed)
        held += low <= true <= high
    assert 930 <= held <= 970


def test_a_word_is_said_only_where_it_may_be():
    """A difference that chance could make is undecided, and says how many more tasks it takes; a plain one is told."""
    chance = random.Random(7)
    same = compared(arm("1", drawn(chance, 40, 0.02, 0.8)), arm("2", drawn(chance, 40, 0.021, 0.8)))
    assert same.verdict == "undecided"
    assert same.low < 1 < same.high
    assert same.more_tasks > 40
    cheaper = compared(arm("1", drawn(chance, 60, 0.02, 0.8)), arm("2", drawn(chance, 60, 0.005, 0.8)))
    assert (cheaper.verdict, cheaper.more_tasks) == ("cheaper", None)
    dearer = compared(cheaper.second, cheaper.first)
    assert dearer.verdict == "dearer"
    assert dearer.ratio == pytest.approx(1 / cheaper.ratio)


@pytest.mark.everywhere
def test_as_many_more_tasks_as_are_said_do_tell():
    """With as many more tasks as an undecided comparison asks for, most comparisons are decided."""
    asked = told = 0
    for seed in range(12):
        chance = random.Random(seed)
        first, second = drawn(chance, 30, 0.02, 0.8), drawn(chance, 30, 0.015, 0.8)
        found = compared(arm("1", first), arm("2", second))
        if found.more_tasks is None or found.more_tasks > 400:
            continue
        asked += 1
        first += drawn(chance, 2 * found.more_tasks, 0.02, 0.8)
        second += drawn(chance, 2 * found.more_tasks, 0.015, 0.8)
        told += compared(arm("1", first), arm("2", second)).verdict == "cheaper"
    assert asked >= 3
    assert told >= 0.7 * asked


def test_too_few_and_none():
    """Few tasks give a ratio and no interval; an arm without a success gives nothing."""
    few = compared(arm("1", [Task(1.0, 1, True, 1.0)] * 5), arm("2", [Task(0.5, 1, True, 1.0)] * 50))
    assert (few.ratio, few.low, few.verdict) == (0.5, None, "undecided")
    none = compared(arm("1", [Task(1.0, 1, False, 1.0)] * 50), arm("2", [Task(0.5, 1, True, 1.0)] * 50))
    assert (none.ratio, none.verdict) == (None, "undecided")


@pytest.fixture
def store(tmp_path):
    """Tasks of two prompt versions, at a dollar and at half of one, of which every second and every fourth fails."""
    store = Store(tmp_path / "usage.db")
    for i in range(40):
        for version, usd, fails in (("v1", 1.0, i % 2), ("v2", 0.5, i % 4 == 0)):
            facts = {"prompt_version": version, "attr.arm": "a*" if version == "v1" else "b"}
            outcome = "error" if fails else "ok"
            store.write([TaskRecord("resolve", START + i, 10**9, outcome, usd, 2, {**facts, "arm": facts["attr.arm"]})])
            model = "gpt-4o" if version == "v1" else "gpt-4o-mini"
            store.write([call(i, model, tokens(1000, 100), prompt_version=version, **{n.TASK: "resolve"})])
    store.close()
    return tmp_path / "usage.db"


def test_arms_of_a_store(store):
    """An arm is the tasks with a value, of this name; custom keys, and values with glob characters, are arms too."""
    records = SqliteRecords(Store(store).detached())
    found = compare(records, Query(), "prompt_version=v1", "prompt_version=v2", "res*")
    assert (found.first.usd_per_success, found.second.usd_per_success) == (2.0, 0.5 * 40 / 30)
    assert found.ratio == pytest.approx(1 / 3)
    assert found.verdict == "cheaper"
    assert (found.first.success_share, found.second.success_share) == (0.5, 0.75)
    assert (found.first.input_tokens, found.first.output_tokens) == (1000, 100)
    assert compare(records, Query(), "arm=a*", "arm=b", None).ratio == found.ratio
    assert not compare(records, Query(), "prompt_version=v1", "prompt_version=v2", "other").first.tasks
    with pytest.raises(TokenGuardError, match="is no arm"):
        compare(records, Query(), "v1", "prompt_version=v2", None)
    records.close()


def test_models_are_compared_by_their_calls(store):
    """No task says its model: there, an arm is single calls."""
    records = SqliteRecords(Store(store).detached())
    found = compare(records, Query(), "model=gpt-4o", "model=gpt-4o-mini", "resolve")
    assert (found.first.unit, len(found.first.tasks), found.verdict) == ("call", 40, "cheaper")
    assert found.ratio == pytest.approx((1000 * 0.15 + 100 * 0.6) / (1000 * 2.5 + 100 * 10))
    records.close()


def test_the_command(store):
    """The command says the verdict in words, and gives the figures as JSON."""
    arguments = ["compare", "prompt_version=v1", "prompt_version=v2", "--source", str(store)]
    said = CliRunner().invoke(group, arguments)
    assert said.exit_code == 0
    assert "A success of prompt_version=v2 costs 0.33 times one of prompt_version=v1" in said.output
    assert "it is cheaper, by 67%" in said.output
    facts = json.loads(CliRunner().invoke(group, [*arguments, "--format", "json"]).output)
    assert facts["verdict"] == "cheaper"
    assert facts["arms"][1]["usd_per_success"] == pytest.approx(2 / 3)


def routed(n_, at, model, usage, arm, **more):
    return call(
        at,
        model,
        usage,
        **{n.ROUTE_RULE: "easy", n.ROUTE_VERSION: "2", n.ROUTE_ARM: arm, n.FINGERPRINT: f"f{n_}", **more},
    )


def test_the_arms_of_a_route():
    """Arms are calls; a call that was asked again of the larger model is one with that, and costs both."""
    chance = random.Random(3)
    store = Store(":memory:")
    small, large = tokens(1000, 100), tokens(1000, 100)
    records = []
    for k in range(60):
        records.append(routed(f"c{k}", 4 * k, "gpt-4o", tokens(1000, chance.randint(50, 150)), "control"))
        records.append(routed(f"t{k}", 4 * k + 1, "gpt-4.1-mini", small, "treated", **{n.ROUTE_SAVED: 0.001}))
        if k % 6 == 0:
            again = {n.ROUTE_ESCALATION: "length", n.ROUTE_SAVED: -0.003}
            records.append(routed(f"t{k}", 4 * k + 2, "gpt-4o", large, "treated", **again))
    store.write(records)
    reader = SqliteRecords(store.connection())
    found = compare(reader, Query(where=(("route_rule", "easy"),)), "route_arm=control", "route_arm=treated", None)
    assert [len(arm.tasks) for arm in (found.first, found.second)] == [60, 60]
    assert sum(task.calls for task in found.second.tasks) == 70
    assert found.verdict == "cheaper"
    store.close()


def test_tasks_by_the_arm_of_a_route():
    """Where routed calls were made in tasks, an arm has the tasks: with how they ended, other calls' costs included."""
    chance = random.Random(5)
    store = Store(":memory:")
    records = []
    for k in range(30):
        for arm, model, wins in (("control", "gpt-4o", k % 3), ("treated", "gpt-4.1-mini", k % 2)):
            run = {n.TASK: "resolve", n.TASK_RUN: f"{arm}{k}"}
            one = routed(f"{arm}{k}", 10 * k + 1, model, tokens(1000, chance.randint(50, 150)), arm, **run)
            two = call(10 * k + 2, "gpt-4o-mini", tokens(500, 50), **run)
            records += [one, two]
            usd = one.attributes[n.COST] + two.attributes[n.COST]
            begun = START + 10 * k * 10**9  # both arms at once
            records.append(TaskRecord("resolve", begun, 5 * 10**9, "ok" if wins else "error", usd, 2))
        records.append(TaskRecord("other", START + 10 * k * 10**9, 10**9, "ok", 9.0, 1))
    mixed = {n.TASK: "resolve", n.TASK_RUN: "mixed"}
    records += [
        routed("m", 900 + k, "gpt-4o", tokens(10, 10), arm, **mixed) for k, arm in enumerate(("control", "treated"))
    ]
    records.append(TaskRecord("resolve", START + 899 * 10**9, 5 * 10**9, "ok", 1.0, 2))
    store.write(records)
    reader = SqliteRecords(store.connection())
    where = Query(where=(("route_rule", "easy"),))
    found = compare(reader, where, "route_arm=control", "route_arm=treated", "resolve")
    assert [arm.unit for arm in (found.first, found.second)] == ["task", "task"]
    assert [len(arm.tasks) for arm in (found.first, found.second)] == [30, 30]
    assert [arm.successes for arm in (found.first, found.second)] == [20, 15]
    assert all(task.calls == 2 for task in found.first.tasks)
    assert found.verdict == "cheaper"
    assert compare(reader, where, "route_arm=control", "route_arm=treated", "none").first.tasks == ()
    store.close()
