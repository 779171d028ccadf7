"""Another instrumentation was there first, in the worst place for us: every kind of call is measured and guarded still.

Its wrapper stands where the SDK's own function stood, calls the function object that it found, and says of itself
nothing that could lead to it. Real ones are in `tests/neighbours`.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import inspect
import operator

import pytest
from families import VARIANTS, Caller, Clients, over

import tokenguard
from tokenguard import LimitExceeded, policy
from tokenguard.demo.provider import SimulatedProvider
from tokenguard.installation import runtime
from tokenguard.policy import Policy
from tokenguard.seams.common.wrapping import Swap

pytestmark = [  # old clients cannot be closed
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def wrapped(kept, calls):
    """A neighbour's wrapper around `kept`."""
    if inspect.iscoroutinefunction(kept):

        async def wrapper(*args, **kwargs):
            calls.append(kept.__qualname__)
            return await kept(*args, **kwargs)
    else:

        def wrapper(*args, **kwargs):
            calls.append(kept.__qualname__)
            return kept(*args, **kwargs)

    return wrapper


@pytest.fixture(scope="module")
def running():
    with SimulatedProvider() as provider:
        clients = Clients(provider.url)
        yield provider, clients
        clients.close()


@pytest.fixture
def neighbour(variant, running, installed, monkeypatch):
    """Wraps every function that a seam wraps, and then TokenGuard is installed; what it saw is in the list."""
    Caller(variant, running[1])  # its SDK is imported
    places = []
    for placed in installed.seams.values():
        assert not placed.problems()
        places += [each.function for each in placed.placed if isinstance(each, Swap)]
    tokenguard.uninstall()
    calls = []
    for function in places:
        *way, name = function.__qualname__.split(".")
        module = importlib.import_module(function.__module__)
        owner = functools.reduce(getattr, way, module)
        if vars(owner).get(name) is function:
            monkeypatch.setattr(owner, name, wrapped(function, calls))
    tokenguard.install()
    return calls


@over(VARIANTS)
def test_measured_and_guarded(variant, running, neighbour, installed, spans):
    """One call, one record; and a limit refuses before anything is sent."""
    provider, clients = running
    caller, records = Caller(variant, clients), installed.records
    for placed in runtime.installed().seams.values():
        assert not placed.problems()
    caller()
    gc.collect()
    assert neighbour
    assert len(records) == 1
    assert len(spans) == 1
    if not variant.kind.cap:
        return
    tokenguard.install(policy.loads('[[limit]]\nname = "cap"\nmax_output_tokens = 20\nthen = "block"\n'))
    try:
        before = len(provider.requests)
        with pytest.raises(LimitExceeded), contextlib.ExitStack():
            caller(cap=400)
        assert len(provider.requests) == before
    finally:
        tokenguard.install(Policy())


INHERITED = {
    module: {"close", "send_raw"}
    for module in ("openai.resources.realtime.realtime", "openai.resources.responses.responses")
} | {f"websockets.{way}.client": {"close", "recv", "send"} for way in ("asyncio", "sync")}
"""What a class has from one whose function is other connections' too."""


def test_every_seam_goes_below(installed, running):
    """What the seams wrap of the SDKs here keeps its identity: none is merely replaced, but for what is no function."""
    for module, placed in installed.seams.items():
        merely = [each for each in placed.placed if not isinstance(each, Swap)]
        names = {operator.attrgetter("_name")(each) for each in merely}
        names -= INHERITED.get(module, set())
        assert not names or module.startswith(("xai_sdk.", "dspy.utils", "haystack.")), (module, names)
