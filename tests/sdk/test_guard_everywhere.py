"""The guard through every seam: each of its features, over every kind of call that `families` knows.

What the server received and what the caller saw are compared, not what the guard believes. Runs in whatever versions
are installed (`scripts/matrix.py`), without those SDKs that are not.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import gc
import importlib
import importlib.util
import inspect
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from types import SimpleNamespace

import pytest
from families import CLAUDES, KINDS, VARIANTS, Ask, Caller, Clients, Variant, cohere1_turns, over, shut

import tokenguard
from tokenguard import BudgetExceeded, CircuitOpen, GuardrailViolation, LimitExceeded, policy
from tokenguard.demo.provider import SimulatedProvider
from tokenguard.facts import names
from tokenguard.guard.admission import Guard
from tokenguard.installation import runtime
from tokenguard.metering.meter import Call
from tokenguard.policy import Policy
from tokenguard.providers import SDKS
from tokenguard.seams.common.watch import Watch

pytestmark = [  # old clients cannot be closed
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

GENERATING = [variant for variant in VARIANTS if variant.kind.cap]
STREAMS = [variant for variant in VARIANTS if variant.stream]
WITH_TOOLS = [variant for variant in VARIANTS if variant.kind.tools]
RESENDING = [variant for variant in VARIANTS if variant.resends]
WHOLE = [variant for variant in VARIANTS if not variant.stream]
SYNC = [variant for variant in WHOLE if not variant.asynchronous]

ASYNC_BODIES = [variant for variant in WHOLE if variant.asynchronous and variant.kind.name.startswith("bedrock invoke")]


class Requests(list):
    """What the server was asked for, but for jobs that are polled; `on_each` is called as each of them comes in."""

    on_each = staticmethod(lambda: None)

    def append(self, request):
        if not request.body:
            return
        super().append(request)
        self.on_each()


@pytest.fixture(autouse=True)
def _collected_between_tests():
    """Some SDKs leave streams in cycles, and httpcore waits for itself if one is collected while its pool is locked."""
    gc.disable()
    yield
    gc.collect()
    gc.freeze()  # what is left of SDKs and of earlier tests need not be walked again
    gc.enable()


@pytest.fixture(scope="module")
def running():
    with SimulatedProvider() as provider:
        clients = Clients(provider.url)
        yield provider, clients
        gc.unfreeze()
        clients.close()
        gc.collect()
        gc.freeze()


@pytest.fixture
def provider(running):
    provider, _ = running
    provider.requests = Requests()
    yield provider
    provider.faults._script.clear()
    provider.chunk_delay = 0.0


@pytest.fixture
def caller(running, provider, installed):
    """Makes a caller of a variant."""
    return lambda variant, **options: Caller(variant, running[1], **options)


@pytest.fixture
def under(installed):
    """Puts the calls of one test under a policy: `under('''toml''')` returns the guard."""

    def put(text):
        tokenguard.install(policy.loads(text + '[ledger]\nurl = "memory:"\n', "tokenguard.toml"))
        return runtime.installed().meter.guard

    yield put
    tokenguard.install(Policy())


@pytest.fixture
def at_once(monkeypatch):
    """SDKs that wait before they send again do not."""

    async def asleep(seconds):
        pass

    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("google.genai")
        monkeypatch.setattr("google.genai._api_client.random.randint", lambda least, most: -1)
    if importlib.util.find_spec("botocore"):
        monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda seconds: None))
    if importlib.util.find_spec("aiobotocore"):
        monkeypatch.setattr("aiobotocore.endpoint.asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": asleep}))


@contextlib.contextmanager
def its_own_error():
    """The SDK raises an error of its own, and not the guard."""
    with pytest.raises(Exception) as failed:  # noqa: PT011 - each SDK has its own
        yield
    assert not isinstance(failed.value, GuardrailViolation)


def limit(rows, then="block"):
    return f'[[limit]]\nname = "l"\nthen = "{then}"\n{rows}\n'


def budget(usd):
    return f'[[budget]]\nname = "b"\nlimit_usd = {usd}\n'


def rates(*kinds):
    """Prices for these kinds' models."""
    rows = []
    for kind in kinds:
        rate = "{ " + ", ".join(f"{name} = {usd}" for name, usd in kind.rates) + " }"
        rows += [f'"{kind.provider}/{model}*" = {rate}' for model in (kind.cheaper, kind.model)]
    return "[prices]\n" + "\n".join(dict.fromkeys(rows)) + "\n"


def at(body, path):
    for key in path:
        body = body.get(key, {})
    return body


def with_cap(body, path, cap):
    """The same body with this cap."""
    key, *rest = path
    return {**body, key: with_cap(body.get(key, {}), rest, cap) if rest else cap}


def balance(guard):
    (account,) = guard.ledger.accounts()
    return account


# --- limits -----------------------------------------------------------------------------------------------------------


@over(VARIANTS)
def test_block(variant, caller, under, provider, spans):
    """What a limit refuses never reaches the server; the caller gets the documented exception, the span says so."""
    call = caller(variant)
    under(limit("max_input_tokens = 1"))
    with pytest.raises(LimitExceeded, match="input tokens") as refused:
        call()
    assert provider.requests == []
    assert (refused.value.rule, refused.value.limit) == ("l", 1)
    assert refused.value.observed > 1
    assert spans.attributes["tokenguard.guard.action"] == "block"
    assert spans.attributes["tokenguard.guard.rule"] == "l"
    assert spans.attributes["error.type"] == "tokenguard.LimitExceeded"
    assert "tokenguard.cost.usd" not in spans.attributes


@over(GENERATING, contract=True)
def test_clamp(variant, caller, under, provider, spans):
    """A cap is lowered, and set where none was, in its field; one below is left, and so is everything else."""
    call = caller(variant)
    path = variant.kind.cap
    call(cap=300)
    call()
    under(limit("max_output_tokens = 20", "clamp"))
    spans.clear()
    call(cap=300)
    call()
    call(cap=17)
    high, none, clamped, added, low = (request.body for request in provider.requests)
    assert at(high, path) == 300
    assert clamped == with_cap(high, path, 20)
    assert added == with_cap(none, path, 20)
    assert low == with_cap(high, path, 17)
    facts = [
        (span.attributes.get("tokenguard.guard.action"), span.attributes["gen_ai.request.max_tokens"]) for span in spans
    ]
    assert facts == [("clamp", 20), ("clamp", 20), (None, 17)]
    assert spans.all()[0].attributes["tokenguard.guard.original_max_tokens"] == 300
    assert all(request.billed.output <= 20 for request in provider.requests[2:])


@over(VARIANTS, contract=True)
def test_downgrade(variant, caller, under, provider, spans, installed):
    """The model changes on the wire and nothing else does, not the host; the span and the price are the new model's."""
    call, kind = caller(variant), variant.kind
    call()
    spans.clear()
    under(limit(f'max_input_tokens = 1\ndowngrade_to = "{kind.cheaper}"', "downgrade") + rates(kind))
    call()
    before, after = provider.requests
    assert (before.model, after.model) == (kind.model, kind.cheaper)
    assert after.path == before.path.replace(quoted(kind.model), quoted(kind.cheaper))
    said = json.dumps(before.body).replace(f"models/{kind.model}", f"models/{kind.cheaper}")
    assert {**json.loads(said), "model": kind.cheaper} == after.body
    assert after.headers["host"] == before.headers["host"]
    attributes = spans.attributes
    assert attributes["gen_ai.provider.name"] == kind.provider
    assert attributes["gen_ai.request.model"] == kind.cheaper
    assert attributes["tokenguard.guard.original_model"] == kind.model
    assert attributes["tokenguard.cost.usd"] == pytest.approx(kind.charged(after.billed) / 1e9)


def quoted(model):
    return model.replace(":", "%3A")


@over(VARIANTS)
def test_unfit(variant, caller, under, provider, spans):
    """A route's model that the provider refuses costs one request: the caller's own is sent as it was, and answered."""
    call, kind = caller(variant), variant.kind
    call()
    spans.clear()
    under(f'[[route]]\nname = "r"\nto = "{kind.cheaper}"\n' + rates(kind))
    if kind.sdk == "ollama" and variant.stream:  # sent when it is read: then it is too late, and it is not routed
        call()
        assert provider.requests[-1].model == kind.model
        return
    provider.fail_next(404)
    call()
    call()
    before, refused, after, later = provider.requests
    assert [request.model for request in (refused, after, later)] == [kind.cheaper, kind.model, kind.model]
    assert (after.path, after.body) == (before.path, before.body)
    assert (later.path, later.body) == (before.path, before.body)
    first, second = spans
    assert first.attributes["tokenguard.route.unfit"] == kind.cheaper
    assert first.attributes["gen_ai.request.model"] == kind.model
    assert first.name == second.name
    assert first.attributes["tokenguard.cost.usd"] == pytest.approx(kind.charged(after.billed) / 1e9)


@over(WITH_TOOLS)
def test_tool_steps(variant, caller, under, provider, spans):
    """Rounds of tools are read from the provider's own messages, two calls at once being one round."""
    call = caller(variant)
    under(limit("max_tool_steps = 2"))
    call(rounds=2)
    assert spans.attributes["tokenguard.tool.steps"] == 2
    with pytest.raises(LimitExceeded, match="tool rounds 3"):
        call(rounds=3)
    assert len(provider.requests) == 1
    under(limit("max_tool_calls_per_turn = 1"))
    with pytest.raises(LimitExceeded, match="tool calls in one turn 2"):
        call(rounds=1)
    assert len(provider.requests) == 1


# --- resends ----------------------------------------------------------------------------------------------------------


@over(RESENDING, contract=True)
def test_resends(variant, caller, under, provider, spans, at_once):
    """What the SDK itself sends again is seen, is one call, and is stopped where the limit says."""
    call = caller(variant, resends=3)
    provider.fail_next(500, retry_after=0.001)
    provider.fail_next(429, retry_after=0.001)
    call()
    assert len(provider.requests) == 3
    assert spans.attributes["http.request.resend_count"] == 2
    spans.clear()
    under(limit("max_retries = 1"))
    provider.fail_next(429, times=9, retry_after=0.001)
    with its_own_error():
        call(said="Something else?")
    assert len(provider.requests) == 5
    assert spans.attributes["http.request.resend_count"] == 1


@over(RESENDING)
def test_a_rate_counts_resends(variant, caller, under, provider, spans, at_once):
    """A request that the SDK sends again is one more, counted before it is sent: past the limit it is not."""
    call = caller(variant, resends=3)
    guard = under('[[budget]]\nname = "rate"\nwindow = "total"\nlimit_calls = 2\n')
    provider.fail_next(500, times=9, retry_after=0.001)
    with pytest.raises(BudgetExceeded, match="2 calls made and 0 under way of 2, and this resend would be one more"):
        call()
    assert len(provider.requests) == 2
    assert spans.attributes["http.request.resend_count"] == 1
    assert (balance(guard).spent_tokens, balance(guard).reserved_tokens) == (2, 0)


@over(WHOLE)
def test_repeats(variant, caller, under, provider):
    """Where the application repeats what fails, in place of the SDK, the limit ends that too."""
    call = caller(variant)
    under(limit("max_retries = 1"))
    provider.fail_next(500, times=9, retry_after=0.001)
    for _ in range(2):
        with its_own_error():
            call()
    with pytest.raises(LimitExceeded, match="retries 2"):
        call()
    assert len(provider.requests) == 2


# --- breaker ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [500, "refuse_connection", "disconnect", "stream_error"])
@over(VARIANTS)
def test_breaker(variant, failure, caller, under, provider, at_once):
    """The provider's failures open it, whatever they are; then nothing is sent until a probe has come back well."""
    if failure == "stream_error" and not variant.stream:
        pytest.skip("the answer is no stream")
    if failure == "disconnect" and str(variant) == "bedrock converse":
        pytest.skip("to botocore, half an answer is one")
    call = caller(variant)
    guard = under('[[breaker]]\nname = "cb"\nfailures = 2\ncooldown = 10\n')
    clock = [1000.0]
    guard.breakers._clock = lambda: clock[0]
    if failure == "disconnect" and variant in ASYNC_BODIES and metadata.version("aiobotocore") < "3":
        pytest.skip("its bodies cannot be watched")
    provider.fail_next(failure, times=9, retry_after=0.001)
    for n in range(2):
        # Some SDKs hand on an error in a stream as an event.
        with contextlib.suppress(Exception) if failure == "stream_error" else its_own_error():
            call(said=f"{n}?")
    gc.collect()  # the traceback of an error may keep the stream that it came from
    provider.faults._script.clear()
    sent = len(provider.requests)
    with pytest.raises(CircuitOpen, match="failed 2 times in a row"):
        call()
    assert len(provider.requests) == sent
    clock[0] += 11
    call()
    call()
    assert len(provider.requests) == sent + 2


@over(WHOLE)
def test_breaker_and_the_callers_mistakes(variant, caller, under, provider):
    """A request that is refused for its own fault says nothing of the provider."""
    call = caller(variant)
    under('[[breaker]]\nname = "cb"\nfailures = 1\ncooldown = 10\n')
    provider.fail_next(400, times=2)
    for _ in range(2):
        with its_own_error():
            call()


# --- budgets ----------------------------------------------------------------------------------------------------------


@over(VARIANTS, contract=True)
def test_budget(variant, caller, under, provider):
    """The worst case is held while the call is under way, the real cost is what stays, and then there is no more."""
    call = caller(variant)
    guard = under(budget(1.0) + rates(variant.kind))
    held = []
    provider.requests.on_each = lambda: held.append(balance(guard).reserved_nano)
    call(cap=300)
    (request,) = provider.requests
    assert held[0] >= variant.kind.charged(request.billed) > 0
    if variant.kind.cap:
        assert held[0] >= 300 * 2000
    assert (balance(guard).spent_nano, balance(guard).reserved_nano) == (variant.kind.charged(request.billed), 0)
    under(budget(0.000001) + rates(variant.kind))
    with pytest.raises(BudgetExceeded, match=r"spent and \$0\.000000 reserved"):
        call(cap=300)
    assert len(provider.requests) == 1


@over(VARIANTS)
def test_budget_of_refused_calls(variant, caller, under, provider):
    """What the provider refuses costs nothing, and nothing stays reserved."""
    call = caller(variant)
    guard = under(budget(1.0) + rates(variant.kind))
    provider.fail_next(400)
    with its_own_error():
        call()
    assert (balance(guard).spent_nano, balance(guard).reserved_nano) == (0, 0)


LEAVABLE = [
    variant
    for variant in STREAMS
    if variant.kind.sdk != "cohere" or (importlib.util.find_spec("cohere") and metadata.version("cohere") > "6")
]
"""But for cohere 5, whose streams catch what tells them that they are closed."""


@over(LEAVABLE)
@pytest.mark.parametrize("how", ["dropped", "closed", "cancelled"])
def test_budget_of_left_streams(variant, how, caller, under, provider, installed):
    """A stream that is left is settled: what it may have cost is charged, and nothing stays reserved."""
    if how == "cancelled" and not variant.asynchronous:
        pytest.skip("nothing can cancel it")
    call = caller(variant)
    guard = under(budget(1.0) + rates(variant.kind))
    held = []
    provider.requests.on_each = lambda: held.append(balance(guard).reserved_nano)
    provider.chunk_delay = 0.02 if variant.kind.cap else 0.1  # pictures come in few events
    call.leave(how, cap=300)
    gc.collect()
    (record,) = installed.records
    assert record.outcome == "abandoned"
    assert record.cost.basis == "abandoned_stream"
    account = balance(guard)
    assert account.reserved_nano == 0
    assert 0 < account.spent_nano <= (300 * 2000 + 100_000 if variant.kind.cap else held[0])


@over([variant for variant in WHOLE if variant.asynchronous])
def test_budget_of_cancelled_calls(variant, caller, under, provider, installed, running):
    """A call that is cancelled while it waits is settled as an estimate."""
    call = caller(variant)
    guard = under(budget(1.0) + rates(variant.kind))

    async def work():
        calling = asyncio.ensure_future(call.call())
        while not provider.requests and not calling.done():
            await asyncio.sleep(0.005)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling

    provider.fail_next("delay", seconds=0.5)
    running[1].runner.run(work())
    (record,) = installed.records
    assert record.outcome == "abandoned"
    assert balance(guard).reserved_nano == 0


# --- single flight ----------------------------------------------------------------------------------------------------


def together(variant, call, running):
    """Two identical calls at the same time, and what each got."""
    if variant.asynchronous:

        async def both():
            answers = await asyncio.gather(call.call(), call.call(), return_exceptions=True)
            gc.collect()
            await asyncio.sleep(0.01)  # streams that the SDK left behind end now
            return answers

        return running[1].runner.run(both())
    ready = threading.Barrier(2)

    def one(_):
        ready.wait()
        try:
            return call()
        except Exception as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, range(2)))


def mutable(node, found=None):
    """The ids of all that can be changed in an answer."""
    found = {} if found is None else found
    if id(node) in found or isinstance(node, type | enum.Enum) or callable(node):
        return found
    if isinstance(node, dict | list | set) or hasattr(node, "__dict__"):
        found[id(node)] = node
    children = list(node.values()) if isinstance(node, dict) else []
    children += list(node) if isinstance(node, list | tuple | set) else []
    children += list(getattr(node, "__dict__", {}).values())
    children += list((getattr(node, "__pydantic_extra__", None) or {}).values())
    for child in children:
        mutable(child, found)
    return found


@over(VARIANTS)
def test_single_flight(variant, caller, under, provider, running, spans):
    """Identical calls at once are one request, and each caller has an answer, or a stream, of its own."""
    call = caller(variant)
    shares = variant.kind.shares
    call(said="Ready?")
    provider.requests.clear()
    spans.clear()
    under('[[share]]\nname = "s"\n')
    provider.fail_next("delay", times=2, seconds=0.06)
    one, other = together(variant, call, running)
    assert len(spans) == 2
    assert len(provider.requests) == (1 if shares else 2)
    assert type(one) is type(other)
    assert not isinstance(one, Exception)
    if shares:
        assert one == other
        ours = mutable(one)
        assert [each for key, each in mutable(other).items() if key in ours] == []


@over([variant for variant in WHOLE if variant.kind.shares])
def test_single_flight_of_a_failure(variant, caller, under, provider, running):
    """A failure is shared too, as an exception of each caller's own."""
    call = caller(variant)
    under('[[share]]\nname = "s"\n')
    provider.fail_next(400, seconds=0.06)
    one, other = together(variant, call, running)
    assert len(provider.requests) == 1
    assert isinstance(one, Exception)
    assert type(one) is type(other)
    assert str(one) == str(other)
    assert one is not other


@over([variant for variant in VARIANTS if variant.stream and variant.kind.shares])
def test_leader_leaves_its_stream(variant, caller, under, provider, running, spans):
    """The one that was sent reads a little and leaves: the other has the whole stream, and is the one that pays."""
    call = caller(variant)
    guard = under('[[share]]\nname = "s"\n' + budget(1.0) + rates(variant.kind))
    provider.chunk_delay = 0.005
    if variant.asynchronous:
        running[1].runner.run(aleft_by_its_leader(call))
    else:
        left_by_its_leader(call)
    gc.collect()
    running[1].runner.run(asyncio.sleep(0.01))  # streams that the SDK left behind end now
    assert len(provider.requests) == 1
    said = [span.attributes.get(names.CACHE_RESULT) for span in spans.all()]
    assert sorted(map(str, said)) == ["None", "shared"]
    (account,) = guard.ledger.accounts()
    assert account.reserved_nano == 0
    assert account.spent_nano == variant.kind.charged(provider.requests[0].billed)


@over([variant for variant in VARIANTS if variant.stream and variant.kind.shares and variant.asynchronous])
def test_follower_is_cancelled(variant, caller, under, provider, running, spans):
    """One that is cancelled while it waits was never sent, and costs nothing; the others have the answer."""
    call = caller(variant)
    guard = under('[[share]]\nname = "s"\n' + budget(1.0) + rates(variant.kind))

    async def work():
        leading = asyncio.ensure_future(call.call())
        await asyncio.sleep(0.02)
        impatient, patient = asyncio.ensure_future(call.call()), asyncio.ensure_future(call.call())
        await asyncio.sleep(0.02)
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        assert await patient == await leading

    provider.fail_next("delay", seconds=0.15)
    running[1].runner.run(work())
    gc.collect()
    running[1].runner.run(asyncio.sleep(0.01))
    assert len(provider.requests) == 1
    (account,) = guard.ledger.accounts()
    assert account.reserved_nano == 0
    assert account.spent_nano == variant.kind.charged(provider.requests[0].billed)


def left_by_its_leader(call):
    leader = call.kind.items(call.kind.send(call._client, call.ask()))
    items = iter(leader)
    first = next(items)
    follower = iter(call.kind.items(call.kind.send(call._client, call.ask())))
    assert type(next(follower)) is type(first)  # by now it has its place, whenever its SDK sends
    shut(items), shut(leader)
    assert len(list(follower)) > 1


async def aleft_by_its_leader(call):
    leader = call.kind.items(await call.begin())
    items = aiter(leader)
    first = await anext(items)
    follower = aiter(call.kind.items(await call.begin()))
    assert type(await anext(follower)) is type(first)
    for each in (items, leader):
        if inspect.isawaitable(closing := shut(each)):
            await closing
    assert len([item async for item in follower]) > 1


@pytest.mark.blocks
@over([variant for variant in WHOLE if variant.kind.shares and variant.asynchronous and not variant.kind.async_sdk])
def test_no_sharing_across_the_loop(variant, caller, under, provider, running):
    """A synchronous call within the event loop does not wait for an asynchronous one, which could not go on."""
    call = caller(variant)
    blocking = caller(variant._replace(asynchronous=False))
    under('[[share]]\nname = "s"\n')

    async def work():
        leading = asyncio.ensure_future(call.call())
        await asyncio.sleep(0.03)
        blocking()
        await leading

    provider.fail_next("delay", seconds=0.1)
    running[1].runner.run(asyncio.wait_for(work(), 5))
    assert len(provider.requests) == 2


# --- modes ------------------------------------------------------------------------------------------------------------

EVERYTHING = """
[[limit]]
name = "clamped"
max_output_tokens = 20
then = "clamp"
[[limit]]
name = "cheap"
max_input_tokens = 1
then = "downgrade"
downgrade_to = "cheaper"
[[limit]]
name = "l"
max_input_tokens = 1
max_retries = 0
[[budget]]
name = "b"
limit_usd = 0.0
[[breaker]]
name = "cb"
failures = 1
[[share]]
name = "s"
"""


@over(VARIANTS)
def test_observe(variant, caller, under, provider, spans, at_once):
    """`observe` changes nothing: each call goes out as it was asked for, resends and all; the span tells the rest."""
    call = caller(variant, resends=2) if variant.resends else caller(variant)
    call(cap=300)
    under('mode = "observe"\n' + EVERYTHING + rates(variant.kind))
    spans.clear()
    if variant.resends:
        provider.fail_next(500, times=1, retry_after=0.001)
    call(cap=300)
    plain, *observed = provider.requests
    assert len(observed) == (2 if variant.resends else 1)
    assert all((each.path, each.body) == (plain.path, plain.body) for each in observed)
    assert spans.attributes["tokenguard.guard.action"] == "block"
    assert spans.attributes["tokenguard.guard.mode"] == "observe"
    assert spans.attributes["gen_ai.request.model"] == variant.kind.model


@over(WHOLE)
@pytest.mark.parametrize("word", ["allow", "block"])
def test_internal_error(variant, word, caller, under, provider, monkeypatch):
    """When the guard itself fails, the call goes on, or is refused, as the policy says."""
    monkeypatch.setenv("TOKENGUARD_STRICT", "0")
    call = caller(variant)
    under(f'on_internal_error = "{word}"\n' + limit("max_input_tokens = 1"))
    monkeypatch.setattr(Guard, "within", lambda *arguments: 1 / 0)
    expected = contextlib.nullcontext() if word == "allow" else pytest.raises(GuardrailViolation, match="was not sent")
    with expected:
        call()
    assert len(provider.requests) == (word == "allow")


@over(SYNC)
def test_seam_that_fails(variant, caller, under, provider, monkeypatch):
    """A seam that cannot look at a request at all: under `block` that is refused as well."""
    monkeypatch.setenv("TOKENGUARD_STRICT", "0")
    call = caller(variant)
    seams = {sdk.seam for sdk in SDKS if sdk.module.startswith(variant.sdk.partition(".")[0].replace("boto3", "boto"))}
    for seam in seams:
        module = importlib.import_module(f"tokenguard.seams.{seam}")
        for name in {"api_of", "_target", "_parsed", "located"} & set(vars(module)):
            monkeypatch.setattr(module, name, lambda *arguments: 1 / 0)
    under('on_internal_error = "block"\n' + limit("max_input_tokens = 100000"))
    with pytest.raises(GuardrailViolation, match="was not sent"):
        call()
    assert provider.requests == []
    under(limit("max_input_tokens = 100000"))
    call()
    assert len(provider.requests) == 1


# --- what one SDK alone has -------------------------------------------------------------------------------------------

TO_CHEAPER = limit('max_input_tokens = 1\ndowngrade_to = "cheaper"', "downgrade")
KIND = {kind.name: kind for kind in KINDS}


def one(name):
    return Variant(KIND[name], asynchronous=False, stream=False)


def test_deployment(provider, under, spans):
    """An Azure client that is made for one deployment cannot be downgraded: the call is refused, not mispriced."""
    openai = pytest.importorskip("openai")
    under(TO_CHEAPER)
    given = {"azure_endpoint": provider.url, "api_key": "k", "api_version": "2024-10-21", "max_retries": 0}
    ask = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello?"}]}
    fixed, free = openai.AzureOpenAI(**given, azure_deployment="prod"), openai.AzureOpenAI(**given)
    with fixed, pytest.raises(GuardrailViolation, match="names one deployment, /openai/deployments/prod/") as refused:
        fixed.chat.completions.create(**ask)
    assert refused.value.rule == "l"
    assert provider.requests == []
    assert spans.attributes["tokenguard.guard.action"] == "block"
    with free:
        free.chat.completions.create(**ask)
    assert provider.requests[0].path.endswith("/deployments/cheaper/chat/completions")


def test_family(caller, under, provider):
    """The body of `InvokeModel` is its family's own: it does not go to a model of another family."""
    call = caller(one("bedrock invoke meta"))
    under(limit(f'max_input_tokens = 1\ndowngrade_to = "us.{CLAUDES[1]}"', "downgrade"))
    with pytest.raises(GuardrailViolation, match="in the format of its model's family"):
        call()
    assert provider.requests == []


def test_body_in_a_file(provider, running, under):
    """A body that is a file is read for what it asks, and put back; one that is no JSON is refused, not replaced."""
    client = running[1].get(one("bedrock invoke claude"))
    under(limit("max_output_tokens = 20", "clamp"))
    body = {"anthropic_version": "bedrock-2023-05-31", "messages": [{"role": "user", "content": "?"}]}
    for cap in (400, 9):
        file = io.BytesIO(json.dumps({**body, "max_tokens": cap}).encode())
        client.invoke_model(modelId=CLAUDES[0], body=file)["body"].read()
    assert [(each.body["max_tokens"], each.body["messages"]) for each in provider.requests] == [
        (20, body["messages"]),
        (9, body["messages"]),
    ]
    with pytest.raises(GuardrailViolation, match="is no JSON object"):
        client.invoke_model(modelId=CLAUDES[0], body=b"not json")
    assert len(provider.requests) == 2


def test_model_in_hugging_faces_url(provider, under, installed):
    """Hugging Face's own inference names the model in the URL too, and both follow a downgrade."""
    pytest.importorskip("huggingface_hub")
    from tokenguard.seams import huggingface

    request = SimpleNamespace(
        url=f"{provider.url}/models/a/b/v1/chat/completions", json={"model": "a/b", "messages": []}
    )
    exchange = huggingface._look(lambda client: None, None, (request,), {})
    exchange.replace_body({**request.json, "model": "c/d"})
    assert (request.url, request.json["model"]) == (f"{provider.url}/models/c/d/v1/chat/completions", "c/d")


def test_additional_body_parameters(running, provider, under):
    """What Cohere's option adds to the body counts, and does not undo the clamp."""
    client = running[1].get(one("cohere chat")).client
    under(limit("max_output_tokens = 20", "clamp"))
    messages = [{"role": "user", "content": "Hello?"}]
    extra = {"request_options": {"additional_body_parameters": {"max_tokens": 300, "seed": 7}, "max_retries": 0}}
    client.chat(model="command-r7b-12-2024", messages=messages, **extra)
    assert (provider.requests[0].body["max_tokens"], provider.requests[0].body["seed"]) == (20, 7)
    assert extra["request_options"]["additional_body_parameters"]["max_tokens"] == 300


def google_waits() -> bool:
    """Whether its SDK sends again what it did not wait for: the first versions did not, nor does any on aiohttp."""
    try:
        return hasattr(importlib.import_module("google.genai._api_client"), "_HTTPX_TRANSIENT_EXC")
    except ImportError:
        return False


WAITING = [
    variant
    for variant in RESENDING
    if not variant.stream
    and (
        variant.kind.name in ("openai chat", "anthropic messages", "bedrock converse", "mistral chat")
        or (variant.kind.name == "google generate" and not variant.asynchronous and google_waits())
    )
]
"""The others do not send again what they did not wait for, or are of the same seam."""


@over(WAITING)
def test_timeouts(variant, caller, under, provider, spans, at_once):
    """An attempt whose answer was not waited for may be on the bill: it is charged with the one that was answered."""
    call = caller(variant, resends=2, timeout=0.3)
    caller(variant)(said="Ready?")
    spans.clear()
    guard = under(budget(1.0) + rates(variant.kind))
    provider.fail_next("delay", seconds=0.5)
    call()
    assert spans.attributes["http.request.resend_count"] == 1
    assert spans.attributes[names.RETRY_COST] == spans.attributes["tokenguard.cost.usd"]
    assert balance(guard).spent_nano == 2 * variant.kind.charged(provider.requests[-1].billed)


@over(WAITING)
def test_no_room_for_a_resend(variant, caller, under, provider, at_once):
    """An attempt whose answer was not waited for holds its room: where there is none for another, none is sent."""
    call, asked = caller(variant, resends=2, timeout=0.3), []
    guard = under(budget(1.0) + rates(variant.kind))
    reserve = guard.ledger.reserve
    guard.ledger.reserve = lambda entries, nano, *rest: asked.append(nano) or reserve(entries, nano, *rest)
    caller(variant)()
    sent = len(provider.requests)
    before = balance(guard).spent_nano
    guard = under(budget((before + 1.5 * asked[0]) / 1e9) + rates(variant.kind))
    provider.fail_next("delay", seconds=0.5)
    with pytest.raises(BudgetExceeded, match="worst case of this resend"):
        call()
    assert len(provider.requests) == sent + 1
    charged = balance(guard).spent_nano - before  # as it was held: with its input counted by then
    assert 0.8 * asked[0] < charged <= asked[0]
    assert balance(guard).reserved_nano == 0


def test_rounds_of_coheres_first_api():
    """A new question ends the rounds before it, though the results of the last one are in the history."""
    from tokenguard.providers.cohere import CHAT_V1

    asked = cohere1_turns(Ask("m", rounds=2))
    assert CHAT_V1.tool_steps(asked) == 2
    done = [*asked["chat_history"], {"role": "TOOL", "tool_results": asked["tool_results"]}]
    assert CHAT_V1.tool_steps({"message": "And now?", "chat_history": done}) == 0


# --- memory -----------------------------------------------------------------------------------------------------------

SEAMS = (
    "openai chat",
    "google generate",
    "bedrock converse",
    "mistral chat",
    "cohere chat",
    "ollama chat",
    "huggingface chat",
)


@over([variant for variant in LEAVABLE if variant.kind.name in SEAMS])
def test_many_left_streams(variant, caller, under, provider, installed):
    """Streams that are left behind, however many, leave no open span, no reservation, and nothing in memory."""
    call = caller(variant)
    guard = under(budget(1000.0) + rates(variant.kind))
    gc.collect()  # what earlier tests have left
    before = len(alive())
    for n in range(LEFT):
        call.leave("closed" if n % 2 else "dropped", cap=9)
        if n % 10 == 0:
            gc.collect()
    gc.collect()
    assert len(installed.records) == LEFT
    assert balance(guard).reserved_nano == 0
    assert balance(guard).spent_nano > 0
    kept = len(alive()) - before
    # A loop keeps cancelled timers for a while, each with its context, and that the call it was made in.
    assert variant.asynchronous or kept < LEFT / 10


LEFT = 120


def alive():
    """The calls and watches in memory; none of the calls is open."""
    found = [each for each in gc.get_objects() if type(each) is Call or isinstance(each, Watch)]
    assert all(each.finished for each in found if type(each) is Call)
    return found


class Meanwhile:
    """A lock, and a collection while it is held: what the collector ends then may want the same lock."""

    def __init__(self, lock):
        self.lock = lock
        self.held = self.stuck = False

    def acquire(self, *arguments):
        got = self.lock.acquire(timeout=1)
        self.stuck = self.stuck or not got
        return got

    def __enter__(self):
        assert self.acquire()
        if not self.held:
            self.held = True
            gc.collect()

    def release(self):
        self.lock.release()

    def __exit__(self, *exc):
        self.lock.release()


@pytest.mark.parametrize("which", ["ledger", "breakers", "repeats", "meter"])
def test_collected_within_a_lock(which, caller, under, provider, installed, running):
    """The collector may run anywhere, in our own locked sections too: a stream that it ends there does not hang."""
    pytest.importorskip("openai")
    client = running[1].get(one("openai chat"))
    guard = under('[[breaker]]\nname = "cb"\n' + budget(1.0))
    ask = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 9}
    gc.disable()
    try:
        with tokenguard.meter() as measured:
            provider.chunk_delay = 0.01
            ring = [client.chat.completions.create(**ask, stream=True)]
            ring.append(ring)
            next(iter(ring[0]))
            owner = {"ledger": guard.ledger, "breakers": guard.breakers, "meter": measured}.get(which)
            owner = owner or runtime.installed().meter.settling.repeats
            lock = owner._lock = Meanwhile(owner._lock)
            del ring
            provider.fail_next(500, retry_after=0.001)
            with its_own_error():
                client.chat.completions.create(**ask)
    finally:
        gc.enable()
    assert lock.held
    assert not lock.stuck
    assert balance(guard).reserved_nano == 0
    assert [record.outcome for record in installed.records] == ["abandoned", "error"]


UNSHARED = ("openai speech", "openai transcripts", "groq transcripts", "openai films")
"""A body, which can be read but once, a file, which is not compared, and a job, which is asked for again."""


def test_every_kind_is_here():
    """Each seam has a kind of call here, but for those that are tested elsewhere, and does as its row says."""
    elsewhere = {
        *("litellm", "xai", "httpx_clients", "dspy", "signing", "threads", "realtime", "google_live", "voyage"),
        "portkey",
    }
    providers = {kind.provider for kind in KINDS}
    assert {sdk.seam for sdk in SDKS} - elsewhere == {
        sdk.seam for sdk in SDKS if sdk.provider in providers and sdk.seam not in elsewhere
    }
    rows = {sdk.provider: sdk for sdk in reversed(SDKS)}
    for kind in KINDS:
        if kind.streams and kind.name != "openrouter chat":  # its SDK resends after a 5xx alone
            assert kind.resends == rows[kind.provider].resends
        if kind.name not in UNSHARED:
            assert kind.shares == bool(rows[kind.provider].shares)
