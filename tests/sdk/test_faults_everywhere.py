"""The user's call is sacred, through every seam: whatever fails inside TokenGuard, the SDK's answer is the same.

`metering/test_fault_injection.py` goes into the depth of each seam; here every seam, synchronous or not, streamed or
not, is gone through with each step of the common path failing in turn, under a policy that has every kind of rule.
"""

from __future__ import annotations

import contextvars
import gc
import re

import pytest
from families import VARIANTS, Caller, Clients, over

import tokenguard
from tokenguard import policy
from tokenguard.call import call
from tokenguard.demo.provider import SimulatedProvider
from tokenguard.guard.admission import Guard
from tokenguard.guard.breakers import Breakers
from tokenguard.guard.single_flight import Flights
from tokenguard.guard.worst_case import WorstCase
from tokenguard.installation import runtime
from tokenguard.ledger import MemoryLedger
from tokenguard.metering import meter
from tokenguard.metering.bill import Bill
from tokenguard.metering.settling import Settling
from tokenguard.seams import botocore, botocore_streams, cohere, google_genai, huggingface, ollama, speakeasy, stainless
from tokenguard.seams.common import sending, watch

pytestmark = [  # old clients cannot be closed
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

RULES = """
[[limit]]
name = "large"
max_input_tokens = 100000
max_tool_steps = 50
max_retries = 50
[[budget]]
name = "b"
limit_tokens = 1000000
[[breaker]]
name = "cb"
[[share]]
name = "s"
[ledger]
url = "memory:"
"""
SEEN = {
    *("openai images", "openai speech", "openai transcripts", "bedrock canvas", "mistral ocr"),
    *("openai films", "google imagen", "bedrock stability", "bedrock rerank", "groq transcripts", "together rerank"),
    *("openai chat", "google generate", "google embed", "bedrock converse", "bedrock invoke claude", "mistral chat"),
    *("cohere chat", "cohere1 chat", "cohere rerank", "ollama chat", "huggingface chat"),
}
"""A kind of call through each seam, and each way in which a seam reads."""
STEPS = [
    *((meter.Meter, name) for name in ("begin", "_match", "_open", "_close", "_answered")),
    (Settling, "settle"),
    (Bill, "cost"),
    *((meter, name) for name in ("note_call_site", "snapshot", "identity", "outer_owner")),
    (call.Call, "__init__"),
    (call, "fingerprint"),
    *((Guard, name) for name in ("attribute", "match", "admit", "settle", "within", "reserve")),
    *((WorstCase, name) for name in ("bound", "of")),
    *((MemoryLedger, name) for name in ("reserve", "_close")),
    *((Breakers, name) for name in ("refuses", "ended")),
    (Flights, "join"),
    *((watch.Watch, name) for name in ("__init__", "_events", "_fold")),
    *((sending.SentExchange, name) for name in ("__init__", "read", "cap_retries", "shared_as")),
    *((sending, name) for name in ("tap", "Parts")),
    *((stainless.StainlessExchange, name) for name in ("__init__", "read", "cap_retries", "shared_as")),
    *((google_genai.GoogleExchange, name) for name in ("__init__", "read", "cap_retries", "shared_as")),
    *((google_genai, name) for name in ("_exchange", "_target", "_retry_options", "_event", "_embeddings_facts")),
    *((botocore.BedrockExchange, name) for name in ("__init__", "read", "cap_retries", "shared_as")),
    *((botocore, name) for name in ("_exchange", "_parsed", "_event", "watch_stream", "invoked")),
    (botocore_streams, "read_headers"),
    *((module, "located") for module in (speakeasy, cohere, ollama, huggingface)),
    (ollama.Made, "line"),
    (ollama, "api_of"),
    (huggingface, "_line"),
    (speakeasy, "_traced"),
]


def test_each_step_is_there():
    """A step that was renamed or moved is named as what it is now: the table's widest rows run elsewhere."""
    assert [(owner, name) for owner, name in STEPS if not hasattr(owner, name)] == []


class Injected(Exception):
    """What is injected; were it to reach the user, the test would see it."""


def fail(*args, **kwargs):
    raise Injected


@pytest.fixture(scope="module")
def running():
    with SimulatedProvider() as provider:
        clients = Clients(provider.url)
        yield provider, clients
        clients.close()


def seen(call):
    """What the caller gets, but for numbers and addresses, which differ each time."""
    try:
        got = contextvars.copy_context().run(call)
    except Exception as error:
        return type(error)
    if isinstance(got, list):
        # A failure between asking for usage and hiding it may show one harmless chunk more.
        got = [each for each in got if getattr(each, "choices", True)]
    return re.sub(r"[0-9a-f]*\d[0-9a-f]*", "#", repr(got))


@over([variant for variant in VARIANTS if variant.kind.name in SEEN])
def test_internal_failure(variant, running, installed, monkeypatch, caplog):
    """Each internal step raises in turn, and the answer is the bare SDK's."""
    monkeypatch.setenv("TOKENGUARD_STRICT", "0")
    caplog.set_level("CRITICAL", logger="tokenguard")
    call = Caller(variant, running[1])
    tokenguard.uninstall()
    expected = seen(call)
    assert isinstance(expected, str)
    tokenguard.install(policy.loads(RULES, "tokenguard.toml"))
    wrong = {}
    for owner, step in STEPS:
        with monkeypatch.context() as patch:
            patch.setattr(owner, step, fail)
            got = seen(call)
            gc.collect(0)
            runtime.installed().telemetry.flush()
        if got != expected:
            wrong[f"{owner.__name__}.{step}"] = got
    tokenguard.install(policy.Policy())
    assert wrong == {}
