"""What is rented by time: counted as time passes, at a deletion and at the end, each priced by hand.

Vector stores $0.10 a GB and day, containers $0.03 a session of twenty minutes, gpt-4.1-mini $5 a million tokens of
training (https://developers.openai.com/api/docs/pricing); a cache of gemini-2.5-flash $0.30 a million tokens to write,
and $1 a million for an hour (https://ai.google.dev/gemini-api/docs/pricing).
"""

from __future__ import annotations

import inspect
import time

import pytest

import tokenguard
from tokenguard import policy
from tokenguard.demo.provider import SimulatedProvider
from tokenguard.installation import runtime
from tokenguard.metering import rents

openai = pytest.importorskip("openai")

BUDGET = '[[budget]]\nname = "b"\nlimit_usd = 100.0\n[ledger]\nurl = "memory:"\n[hosts]\n"127.0.0.1" = "sdk"\n'
HOUR, DAY = 3600.0, 86_400.0


@pytest.fixture(scope="module")
def provider():
    with SimulatedProvider() as running:
        yield running


@pytest.fixture
def client(provider, installed):
    tokenguard.install(policy.loads(BUDGET))
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k", max_retries=0) as client:
        if not hasattr(client, "containers"):
            pytest.skip("this version has none")
        yield client
        runtime.installed().meter.rents._open.clear()


@pytest.fixture
def passes(monkeypatch):
    """Have time pass, as rents see it."""
    ahead = [0.0]
    real = time.time
    monkeypatch.setattr(rents.time, "time", lambda: real() + ahead[0])

    def passes(seconds):
        ahead[0] += seconds

    return passes


def counted(installed, number):
    """The records, once there are so many."""
    patience = time.monotonic() + 5
    while len(installed.records) < number and time.monotonic() < patience:
        time.sleep(0.005)
    assert len(installed.records) == number
    return installed.records


def spent():
    (account,) = runtime.installed().meter.guard.ledger.accounts()
    assert account.reserved_nano == 0
    return account.spent_nano / 1e9


def test_a_vector_store(client, installed, provider, passes):
    """It is free while it is empty; a day of 2 GB is $0.20, and half a day of 3 GB more, when it is deleted, $0.15."""
    with tokenguard.attribution(tenant="t1"):
        store = client.vector_stores.create(name="plans")
    first = counted(installed, 1)[0]
    assert first.attributes["gen_ai.operation.name"] == "create_vector_store"
    assert (first.cost.total, first.cost.status) == (0.0, "estimated")
    provider.desk.jobs[store.id]["usage_bytes"] = 2 * 10**9
    client.vector_stores.retrieve(store.id)
    passes(DAY)
    provider.desk.jobs[store.id]["usage_bytes"] = 3 * 10**9
    client.vector_stores.retrieve(store.id)
    second = counted(installed, 2)[1]
    assert second.cost.total == pytest.approx(0.20, rel=1e-3)
    assert second.attributes["tokenguard.usage.megabyte_days"] == pytest.approx(2000, abs=1)
    assert second.attributes["tokenguard.cost.basis"] == "unchecked_price"
    assert second.attributes["tokenguard.resource"] == store.id
    assert second.attributes["tokenguard.tenant"] == "t1"
    passes(DAY / 2)
    client.vector_stores.delete(store.id)
    third = counted(installed, 3)[2]
    assert third.cost.total == pytest.approx(0.15, rel=1e-3)
    assert third.attributes["tokenguard.resource.until"] <= rents.time.time()
    assert spent() == pytest.approx(0.35, rel=1e-3)
    assert len(runtime.installed().meter.rents) == 0


def test_a_container(client, installed, passes):
    """The largest is $1.92 from the start, and as much again for each twenty minutes until it is deleted."""
    if "memory_limit" not in inspect.signature(client.containers.create).parameters:
        pytest.skip("this version knows no other size")
    box = client.containers.create(
        name="box", expires_after={"anchor": "last_active_at", "minutes": 60}, extra_body={"memory_limit": "64g"}
    )
    assert counted(installed, 1)[0].cost.total == pytest.approx(1.92)
    passes(1250)
    client.containers.delete(box.id)
    assert counted(installed, 2)[1].cost.total == pytest.approx(1.92)
    assert installed.records[1].attributes["tokenguard.usage.requests"] == 1


def test_a_container_that_is_idle(client, installed, passes):
    """It ends by itself when nobody has used it for twenty minutes: that is the one session."""
    client.containers.create(name="box")
    passes(DAY)
    runtime.installed().meter.rents.settle()
    assert counted(installed, 1)[0].cost.total == pytest.approx(0.03)
    assert len(runtime.installed().meter.rents) == 0


def test_as_time_passes(client, installed, provider, passes):
    """A process that runs on counts what it rents every hour, without anybody asking."""
    store = client.vector_stores.create(name="plans")
    provider.desk.jobs[store.id]["usage_bytes"] = 24 * 10**9
    client.vector_stores.retrieve(store.id)
    for n in range(1, 3):
        passes(HOUR)
        runtime.installed().meter.rents.settle()
        assert counted(installed, n + 1)[n].cost.total == pytest.approx(0.10, rel=2e-3)


def test_whoever_did_not_make_it(client, installed, provider, passes):
    """What another process has made is that one's to count."""
    store = client.vector_stores.create(name="plans")
    runtime.installed().meter.rents._open.clear()
    provider.desk.jobs[store.id]["usage_bytes"] = 10**9
    client.vector_stores.retrieve(store.id)
    passes(DAY)
    client.vector_stores.delete(store.id)
    assert len(installed.records) == 1


def test_a_budget_that_is_spent(client, installed, provider, passes):
    """Rent is billed whatever a budget says: it is charged, and nothing is refused or raised."""
    store = client.vector_stores.create(name="plans")
    tokenguard.install(policy.loads(BUDGET.replace("100.0", "0.0")))
    provider.desk.jobs[store.id]["usage_bytes"] = 10**9
    client.vector_stores.retrieve(store.id)
    passes(DAY)
    client.vector_stores.delete(store.id)
    assert [record.outcome for record in counted(installed, 2)] == ["ok", "ok"]
    assert spent() == pytest.approx(0.1, rel=2e-3)


def test_tuning(client, installed):
    """A job is one call, from its start to when it is told to be done: 100,000 tokens are $0.50."""
    job = client.fine_tuning.jobs.create(model="gpt-4.1-mini-2025-04-14", training_file="file-1")
    assert installed.records == []
    while client.fine_tuning.jobs.retrieve(job.id).status != "succeeded":
        pass
    (record,) = counted(installed, 1)
    assert record.attributes["gen_ai.operation.name"] == "fine_tuning"
    assert record.attributes["tokenguard.usage.trained_tokens"] == 100_000
    assert (record.cost.status, record.cost.basis) == ("estimated", "unchecked_price")
    assert record.cost.total == pytest.approx(0.50)
    assert spent() == pytest.approx(0.50)


def test_tuning_that_fails(client, installed):
    """A job that failed is an error, and not billed."""
    job = client.fine_tuning.jobs.create(model="gpt-4.1-mini-2025-04-14", training_file="file-1", suffix="fails")
    while client.fine_tuning.jobs.retrieve(job.id).status != "failed":
        pass
    (record,) = installed.records
    assert (record.outcome, record.attributes["error.type"]) == ("error", "bad_file")
    assert record.cost is None or record.cost.total in (None, 0.0)


def test_tuning_that_nobody_asks_for(client, installed):
    """What a job has come to is not known before it is told: it is unpriced then, and not free."""
    client.fine_tuning.jobs.create(model="gpt-4.1-mini-2025-04-14", training_file="file-1")
    runtime.installed().meter.pending.give_up()
    (record,) = installed.records
    assert (record.outcome, record.cost.status, record.cost.total) == ("abandoned", "unpriced", None)


def test_a_price_of_ones_own(client, installed, provider, passes):
    """`[prices]` says what a unit costs, in USD per million of it."""
    tokenguard.install(policy.loads(BUDGET + '[prices]\n"openai/vector-store" = { megabyte_days = 200 }\n'))
    store = client.vector_stores.create(name="plans")
    provider.desk.jobs[store.id]["usage_bytes"] = 10**9
    client.vector_stores.retrieve(store.id)
    passes(DAY)
    client.vector_stores.delete(store.id)
    last = counted(installed, 2)[1]
    assert (last.cost.status, last.cost.basis) == ("estimated", "rented_so_far")
    assert last.cost.total == pytest.approx(0.2, rel=2e-3)


@pytest.fixture
def google(provider, installed):
    genai = pytest.importorskip("google.genai")
    tokenguard.install(policy.loads(BUDGET))
    client = genai.Client(api_key="k", http_options={"base_url": provider.url})
    yield client
    client.close()
    runtime.installed().meter.rents._open.clear()


def cached(google):
    return google.caches.create(model="gemini-2.5-flash", config={"contents": ["A plan. " * 90], "ttl": "7200s"})


def test_a_cache_that_is_deleted(google, installed, passes):
    """Half an hour of 10,000 tokens is $0.005: the two hours that it was made for are not paid."""
    cache = cached(google)
    assert counted(installed, 1)[0].cost[:3] == ("exact", None, pytest.approx(0.003))
    passes(HOUR / 2)
    google.caches.delete(name=cache.name)
    last = counted(installed, 2)[1]
    assert (last.cost.basis, last.cost.total) == ("rented_so_far", pytest.approx(0.005, rel=1e-3))
    assert spent() == pytest.approx(0.008, rel=1e-3)


def test_a_cache_with_another_lifetime(google, installed, passes):
    """Made for two hours, and then kept for five: who does not delete it pays for five."""
    cache = cached(google)
    google.caches.update(name=cache.name, config={"ttl": "18000s"})
    passes(10 * HOUR)
    runtime.installed().meter.rents.settle()
    last = counted(installed, 2)[1]
    assert last.attributes["tokenguard.usage.token_hours"] == pytest.approx(50_000, rel=1e-3)
    assert last.cost.total == pytest.approx(0.05, rel=1e-3)


def test_a_cache_at_the_end_of_the_process(google, installed):
    """Nobody will delete it any more, as far as is known: it is counted until it expires, and says so."""
    cached(google)
    runtime.installed().meter.rents.give_up()
    last = counted(installed, 2)[1]
    assert (last.cost.basis, last.cost.total) == ("rented_to_expiry", pytest.approx(0.02))


STEPS = [
    *((rents.Rents, name) for name in ("keep", "waits", "seen", "_tell")),
    *((rents.Rented, name) for name in ("__init__", "renew", "accrued")),
]


@pytest.mark.parametrize(("owner", "step"), STEPS, ids=lambda value: getattr(value, "__name__", value))
def test_internal_failure(owner, step, client, installed, monkeypatch):
    """Each step of ours raises in turn, and the application makes, reads and deletes what it rents."""
    monkeypatch.setenv("TOKENGUARD_STRICT", "0")
    monkeypatch.setattr(owner, step, lambda *arguments, **more: 1 / 0)
    tokenguard.install(policy.loads(BUDGET))
    store = client.vector_stores.create(name="plans")
    assert client.vector_stores.retrieve(store.id).id == store.id
    assert client.vector_stores.delete(store.id).deleted
    assert installed.records[0].attributes["gen_ai.operation.name"] == "create_vector_store"
