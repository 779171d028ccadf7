"""Kept answers through every seam: the second of two equal calls sends nothing, and gets what the first one got.

What the server received and what the caller saw are compared, over real HTTP.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
from importlib import metadata

import pytest
from families import VARIANTS, Caller, Clients, over

import tokenguard
from policies import KEEPS
from tokenguard import policy
from tokenguard.demo.provider import SimulatedProvider
from tokenguard.facts import names
from tokenguard.policy import Policy
from tokenguard.providers import SDKS
from tokenguard.seams.transports import TRANSPORTS

pytestmark = [  # old clients cannot be closed
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
LONG = 4000
"""An output cap that no answer of the simulated provider comes near: they end by themselves."""


@pytest.fixture(scope="module")
def running():
    for module in (*TRANSPORTS, *(sdk.module for sdk in SDKS)):
        with contextlib.suppress(ImportError):  # now: what is imported within the loop reads files there
            importlib.import_module(module)
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
    provider.requests.clear()
    return provider


@pytest.fixture
def keeping(installed):
    """Has answers kept for one test."""
    tokenguard.install(policy.loads(KEEPS, "tokenguard.toml"))
    yield installed
    tokenguard.install(Policy())


# Not media, and input by an address or as a file.
KEPT = [
    variant
    for variant in VARIANTS
    if not any(
        word in variant.kind.name for word in ("image", "imagen", "canvas", "stability", "films", "ocr", "transcripts")
    )
]


@over(KEPT, contract=True)
def test_second_call_sends_nothing(variant, running, provider, keeping, spans):
    """The second call gets an equal object of the same type; it costs nothing, and tells what it has saved."""
    call = Caller(variant, running[1])
    body = variant.kind.sdk == "boto3" and not variant.stream and {"invoke", "rerank"} & {*variant.kind.name.split()}
    if body and variant.asynchronous and metadata.version("aiobotocore") < "3":
        pytest.skip("its bodies cannot be watched")
    cap = {"cap": LONG} if variant.kind.cap else {}
    first = call(**cap)
    sent = len(provider.requests)
    paid = dict(spans.one.attributes)
    if paid.get(names.CACHE_REASON) == "wire":
        pytest.skip("this version sends with requests")
    assert paid[names.CACHE_RESULT] == "miss"
    assert names.CACHE_REASON not in paid
    spans.clear()
    again = call(**cap)
    assert len(provider.requests) == sent == 1
    assert type(again) is type(first)
    assert again == first
    served = dict(spans.one.attributes)
    assert served[names.CACHE_RESULT] == "hit"
    assert served[names.CACHE_RULE] == "kept"
    assert 0 <= served[names.CACHE_AGE] < 60
    assert served[names.COST] == 0.0
    assert served[names.COST_STATUS] == "exact"
    assert served.get(names.CACHE_SAVED) == paid.get(names.COST)
    assert not [name for name in served if name.startswith("gen_ai.usage.")]
    assert served.get(names.RESPONSE_ID) == paid.get(names.RESPONSE_ID)
    assert served.get(names.FINISH_REASONS) == paid.get(names.FINISH_REASONS)


@over(KEPT)
def test_another_request_is_sent(variant, running, provider, keeping):
    """A request that differs in what is said is another one."""
    call = Caller(variant, running[1])
    cap = {"cap": LONG} if variant.kind.cap else {}
    call(**cap)
    call(said="And what about the others?", **cap)
    assert len(provider.requests) == 2


@over([variant for variant in KEPT if variant.stream])
def test_stream_that_is_left_is_not_kept(variant, running, provider, keeping, spans):
    """A stream that its reader closes early is no answer."""
    call = Caller(variant, running[1])
    provider.chunk_delay = 0.02
    try:
        call.leave("closed", cap=LONG)
    finally:
        provider.chunk_delay = 0.0
    gc.collect()
    call(cap=LONG)
    assert len(provider.requests) == 2
    assert [dict(span.attributes)[names.CACHE_RESULT] for span in spans] == ["miss", "miss"]
