"""The metrics' points that dashboards are made of."""

from __future__ import annotations

import time

import httpx2
import openai
import pytest

import tokenguard
from canned import MESSAGES, OPENAI_COST, anthropic_client, chat_body, openai_client
from exported import metric_points
from tokenguard.demo.provider import SimulatedProvider
from tokenguard.facts import names
from tokenguard.telemetry import metrics as telemetry_metrics
from tokenguard.telemetry.drain import Telemetry

CHAT = {"model": "gpt-4o-mini", "messages": MESSAGES}


@pytest.fixture
def under(under):
    """Put the calls under a policy: `under(toml)`."""
    return lambda text: under('[ledger]\nurl = "memory:"\n' + text)


def points(tenant, name):
    """{other attributes: value} of one tenant's points of a metric."""
    wanted = ("tokenguard.tenant", tenant)
    return {
        frozenset(value for key, value in attributes if key in ("outcome", "part", "type")): value
        for (metric, attributes), value in metric_points(tenant=tenant).items()
        if metric == name and wanted in attributes
    }


def test_cost_by_part(installed):
    """The parts of the cost are counters of their own, and add up to the cost."""
    with tokenguard.attribution(tenant="by-part"):
        openai_client().chat.completions.create(**CHAT)
    parts = points("by-part", "tokenguard.cost.part.usd")
    assert {tuple(key) for key in parts} == {("input",), ("output",), ("cache_read",), ("cache_write",)}
    assert sum(parts.values()) == pytest.approx(OPENAI_COST)
    assert parts[frozenset({"output"})] == pytest.approx(300 * 0.60 / 1e6)


def test_calls_without_a_cap(installed):
    """A call that leaves the length of its answer open is counted; embeddings have no length to leave open."""
    with tokenguard.attribution(tenant="uncapped"):
        openai_client().chat.completions.create(**CHAT)
        openai_client().chat.completions.create(**CHAT, max_completion_tokens=5)
        openai_client().embeddings.create(model="text-embedding-3-small", input="Paris")
    assert list(points("uncapped", "tokenguard.calls.uncapped").values()) == [1]
    with tokenguard.attribution(tenant="capped"):
        anthropic_client().messages.create(model="claude-sonnet-4-6", messages=MESSAGES, max_tokens=9)
    assert points("capped", "tokenguard.calls.uncapped") == {}


def test_calls_without_a_price(installed):
    """A call that was answered and has no known cost is counted; one that failed cost nothing."""
    house = {**chat_body(), "model": "house-model"}
    client = openai_client(lambda request: httpx2.Response(200, json=house))
    failing = openai_client(lambda request: httpx2.Response(500), max_retries=0)
    with tokenguard.attribution(tenant="unpriced"):
        client.chat.completions.create(**{**CHAT, "model": "house-model"})
        with pytest.raises(openai.InternalServerError):
            failing.chat.completions.create(**{**CHAT, "model": "house-model"})
    assert points("unpriced", "tokenguard.calls") == {frozenset({"ok"}): 1, frozenset({"error"}): 1}
    assert list(points("unpriced", "tokenguard.calls.unpriced").values()) == [1]
    assert points("unpriced", "tokenguard.cost.usd") == {}


def test_time_to_first_chunk(installed):
    """Streams have a histogram of the time to their first chunk; other calls are not in it."""

    def count():
        found = [v for (name, _), v in metric_points().items() if name == names.FIRST_CHUNK.name]
        return sum(number for number, _ in found)

    before = count()
    list(openai_client().chat.completions.create(**CHAT, stream=True))
    openai_client().chat.completions.create(**CHAT)
    assert count() == before + 1


def test_breakers_show(under):
    """A circuit's state is a gauge: 2 is open."""
    under('[[breaker]]\nname = "shown"\nfailures = 1\n')
    client = openai_client(lambda request: httpx2.Response(500), max_retries=0)
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(**CHAT)
    states = {
        (dict(attributes)["breaker"], dict(attributes)[names.REQUEST_MODEL]): value
        for (name, attributes), value in metric_points().items()
        if name == names.BREAKER_STATE.name
    }
    assert states["shown", "gpt-4o-mini"] == 2


def test_budget_windows_show(under):
    """A budget tells how long its window is and how far it has come, unless it has no end."""
    under(
        '[[budget]]\nname = "hourly"\nwindow = "hour"\nlimit_usd = 1\n'
        '[[budget]]\nname = "endless"\nwindow = "total"\nlimit_usd = 1\n'
    )
    openai_client().chat.completions.create(**CHAT)
    found = {(name, dict(attributes).get("budget")): value for (name, attributes), value in metric_points().items()}
    assert found[names.BUDGET_WINDOW.name, "hourly"] == 3600
    assert found[names.BUDGET_ELAPSED.name, "hourly"] == pytest.approx(time.time() % 3600 / 3600, abs=0.01)
    assert (names.BUDGET_LIMIT_USD.name, "endless") in found
    assert (names.BUDGET_WINDOW.name, "endless") not in found


def test_age_of_the_price_table(installed):
    """The age is that of the newest price in the list: less than a year with a list that is kept up."""
    openai_client().chat.completions.create(**CHAT)
    (age,) = (value for (name, _), value in metric_points().items() if name == names.PRICES_AGE.name)
    assert 0 < age < 365 * 86400


def test_health_starts_at_zero(installed):
    """What should never happen is there from the start, so that its first time is an increase."""
    openai_client().chat.completions.create(**CHAT)
    found = {name: value for (name, _), value in metric_points().items()}
    assert found[names.DROPPED_RECORDS.name] == installed.telemetry.dropped
    assert found[names.INTERNAL_ERRORS.name] == installed.telemetry.faults.count


def test_label_sets_are_bounded(monkeypatch):
    """Past the bound a new label set gives up its attribution and nothing else; what was there goes on."""
    monkeypatch.setattr(telemetry_metrics, "MAX_SERIES", 2)
    own = Telemetry()

    def add(tenant, model):
        key = (("tokenguard.tenant", tenant), (names.RESPONSE_MODEL, model), ("status", "exact"))
        own.metrics._add(names.COST_USD, key, 1.0)

    for tenant, model in (("a", "m"), ("b", "m"), ("c", "m"), ("d", "m"), ("a", "m"), ("e", "n")):
        add(tenant, model)
    sums = {
        (dict(key)["tokenguard.tenant"], dict(key)[names.RESPONSE_MODEL]): v
        for key, (v,) in own.metrics._sums[names.COST_USD.name].items()
    }
    assert sums == {("a", "m"): 2, ("b", "m"): 1, ("other", "m"): 2, ("other", "n"): 1}
    assert own.metrics._sums[names.SERIES_OVERFLOW.name] == {(("label", "all"),): [3]}


def test_budgets_past_the_bound_are_one():
    """Accounts whose keys are past the bound are shown as one: what they have is added, their window is not."""
    own = Telemetry(max_values=1)
    windows = {names.BUDGET_ELAPSED: 0.5, names.BUDGET_WINDOW: 60.0}
    own.metrics.watch_budgets(
        lambda: [("b", f"k{n}", dict.fromkeys(telemetry_metrics.BUDGET_GAUGES, 1.0) | windows) for n in range(3)]
    )
    for metric in telemetry_metrics.BUDGET_GAUGES:
        shown = {each.attributes["key"]: each.value for each in own.metrics._gauge(metric)(None)}
        one = windows.get(metric)
        assert shown == ({"k0": one, "other": one} if one else {"k0": 1, "other": 2}), metric.name


def test_labels_have_nothing_that_breaks_a_query():
    """Quotes, backslashes and control characters of untrusted values are replaced, and one value is one label."""
    own = Telemetry(max_values=2)
    quoted = [own.metrics._bounded("k", value) for value in ('R&D "x"', "R&D 'x'", 'R&D "x"', "a\\b\nc", "third")]
    assert quoted == ["R&D 'x'", "R&D 'x'", "R&D 'x'", "a/b c", "other"]


def test_units(installed):
    """What is billed and is no token has a counter: by its kind, and for whom."""
    with tokenguard.attribution(tenant="units"), SimulatedProvider() as provider:
        openai = pytest.importorskip("openai")
        with openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
            client.images.generate(model="dall-e-3", prompt="A coat", n=2)
            client.audio.speech.create(model="tts-1", voice="alloy", input="A coat")
            client.moderations.create(input="A coat")
    found = points("units", "tokenguard.units")
    assert {next(iter(key)): value for key, value in found.items()} == {"images": 2, "characters": 6, "requests": 1}
