"""google-genai's interactions over real HTTP, whichever generator made that part of the SDK."""

from __future__ import annotations

import gc

import pytest

import connections

genai = pytest.importorskip("google.genai")

import tokenguard  # noqa: E402 - only where it is installed
from loopback import Loopback  # noqa: E402
from policies import SHORT, short_and_cheap  # noqa: E402
from tokenguard import GuardrailViolation, LimitExceeded, policy  # noqa: E402

pytestmark = [  # the SDK's own: it says that this part is new, and leaves connections to the collector
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

FLASH = "gemini-2.5-flash"
ASKED = {"model": FLASH, "input": "Which of your plans has a warranty?"}
USAGE = {
    "total_input_tokens": 1000,
    "total_cached_tokens": 400,
    "total_output_tokens": 20,
    "total_thought_tokens": 30,
    "total_tool_use_tokens": 7,
    "total_tokens": 1057,
    "input_tokens_by_modality": [{"modality": "text", "tokens": 1000}],
}
COST = 607 * 0.3e-6 + 400 * 0.03e-6 + 50 * 2.5e-6
"""Gemini 2.5 flash: 0.30 in, 0.03 from the cache, 2.50 out, USD per million tokens."""
FEES = {"google_search": 0.035, "google_maps": 0.025}
FEES_EXCLUDED = "tool_fees_excluded"
WHEN = "2026-06-09T12:01:25Z"
THOUGHT = {"type": "thought", "signature": "c2ln", "summary": [{"type": "text", "text": "Plans."}]}
SAID = {"type": "model_output", "content": [{"type": "text", "text": "The Pro plan."}]}
CALLED = {"type": "function_call", "id": "call_1", "name": "look_up", "arguments": {"topic": "warranty"}}
RESULT = {"type": "function_result", "call_id": "call_1", "name": "look_up", "result": "two years"}
LOOK_UP = {"type": "function", "name": "look_up", "parameters": {"type": "object", "properties": {}}}


def interaction(*steps, status="completed", **more):
    head = {"id": "v1_a", "object": "interaction", "model": FLASH, "created": WHEN, "updated": WHEN, "role": "model"}
    return {**head, "status": status, "steps": steps or [THOUGHT, SAID], "usage": USAGE, **more}


def running(status="in_progress"):
    return {**interaction(status=status), "steps": [], "usage": None}


def streamed(*, calls=False):
    step = {key: value for key, value in CALLED.items() if key != "arguments"} if calls else {"type": "model_output"}
    deltas = [{"type": "text", "text": word} for word in ("The ", "Pro ", "plan.")]
    if calls:
        deltas = [{"type": "arguments_delta", "arguments": '{"topic": "warranty"}'}]
        step = CALLED
    whole = interaction()
    del whole["steps"]
    yield {"event_type": "interaction.created", "interaction": {**whole, "status": "in_progress", "usage": None}}
    yield {"event_type": "step.start", "index": 0, "step": step}
    for delta in deltas:
        yield {"event_type": "step.delta", "index": 0, "delta": delta}
    yield {"event_type": "step.stop", "index": 0}
    yield {"event_type": "interaction.completed", "interaction": whole}


@pytest.fixture
def at():
    """Starts a provider with these answers."""
    started = []

    def start(answer):
        started.append(Loopback(answer if callable(answer) else lambda asked: answer).__enter__())
        return started[-1]

    yield start
    for each in started:
        each.__exit__()


@pytest.fixture
def gemini():
    """Makes clients, keeps them (one that is let go is closed), and closes them."""
    kept = []

    def make(provider, **more):
        kept.append(genai.Client(api_key="k", http_options={"base_url": provider.url, **more}))
        return kept[-1]

    yield make
    for client in kept:
        client.close()


def check(spans, measured, provider="gcp.gemini"):
    attributes = spans.attributes
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": FLASH,
        "gen_ai.response.model": FLASH,
        "gen_ai.response.id": "v1_a",
        "gen_ai.response.finish_reasons": ("completed",),
        "gen_ai.usage.input_tokens": 1007,
        "gen_ai.usage.output_tokens": 50,
        "gen_ai.usage.cache_read.input_tokens": 400,
        "gen_ai.usage.reasoning.output_tokens": 30,
        "tokenguard.cost.status": "exact",
    }
    assert {key: attributes.get(key) for key in expected} == expected
    assert attributes["tokenguard.cost.usd"] == pytest.approx(COST)
    assert measured.calls == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_create(asynchronous, stream, at, gemini, installed, spans):
    """An interaction is one span with its usage: what tools put in is input, thoughts are output."""
    provider = at(list(streamed()) if stream else interaction())
    client = gemini(provider)

    async def run():
        if not stream:
            return await client.aio.interactions.create(**ASKED)
        return [event async for event in await client.aio.interactions.create(**ASKED, stream=True)]

    with tokenguard.meter() as measured:
        if asynchronous:
            connections.run(run())
        elif stream:
            assert len(list(client.interactions.create(**ASKED, stream=True))) == 7
        else:
            client.interactions.create(**ASKED)
    check(spans, measured)
    assert ("gen_ai.response.time_to_first_chunk" in spans.attributes) == stream
    assert provider.asked[0].path.partition("?")[0].endswith("/interactions")


def test_vertex(at, installed, spans):
    """On Vertex AI the path has a project, and the provider is named for it."""
    from google.oauth2.credentials import Credentials

    provider = at(interaction())
    where = {"project": "p", "location": "us-central1", "credentials": Credentials("t")}
    client = genai.Client(vertexai=True, **where, http_options={"base_url": provider.url})
    with tokenguard.meter() as measured:
        client.interactions.create(**ASKED)
    client.close()
    assert "/projects/p/locations/us-central1/interactions" in provider.asked[0].path
    check(spans, measured, "gcp.vertex_ai")


def test_search_is_billed_apart(at, gemini, installed, spans):
    """What Google bills by the search is a part of the cost; of what no list has a fee for, the cost says so."""
    for kind, basis in (("google_search", "free_quota"), ("google_maps", "free_quota"), ("retrieval", FEES_EXCLUDED)):
        usage = {**USAGE, "grounding_tool_count": [{"type": kind, "count": 1}]}
        gemini(at(interaction(usage=usage))).interactions.create(**ASKED)
        attributes = spans.all()[-1].attributes
        assert attributes["tokenguard.cost.basis"] == basis
        assert attributes.get("tokenguard.cost.tools_usd", 0) == pytest.approx(FEES.get(kind, 0))


def test_reading_is_no_call(at, gemini, installed, spans):
    """An interaction that is there already is not billed again when it is read, or read as a stream."""
    client = gemini(at(lambda asked: list(streamed()) if "stream=" in asked.path else interaction()))
    client.interactions.get("v1_a")
    list(client.interactions.get("v1_a", stream=True))
    assert len(spans) == 0


def test_agents(at, gemini, installed, spans):
    """An agent names no model, so it has no price; a cap cannot be set for one, and a limit on it refuses."""
    provider = at(interaction(model=None, agent="deep-research-preview-04-2026"))
    asked = {"agent": "deep-research-preview-04-2026", "input": "Research this."}
    gemini(provider).interactions.create(**asked)
    assert spans.attributes["gen_ai.usage.input_tokens"] == 1007
    assert spans.attributes["tokenguard.cost.status"] == "unpriced"
    tokenguard.install(policy.loads(SHORT))
    with pytest.raises(GuardrailViolation, match="takes no output cap"):
        gemini(provider).interactions.create(**asked)
    rule = '[[limit]]\nname = "short"\nmax_output_tokens = 7\nthen = "clamp"\nwhen = { model = "*-*" }'
    tokenguard.install(policy.loads(rule))
    gemini(provider).interactions.create(**asked)
    assert len(provider.asked) == 2


def test_capped_and_downgraded(at, gemini, installed, spans):
    """The cap goes into the generation's settings, beside what is there."""
    tokenguard.install(policy.loads(short_and_cheap("gemini-2.5-flash-lite")))
    provider = at(interaction())
    gemini(provider).interactions.create(**ASKED, generation_config={"temperature": 0.5, "max_output_tokens": 50})
    body = provider.asked[0].body
    assert body["generation_config"] == {"temperature": 0.5, "max_output_tokens": 7}
    assert body["model"] == "gemini-2.5-flash-lite"
    assert spans.attributes["tokenguard.guard.original_max_tokens"] == 50
    assert spans.attributes["gen_ai.request.temperature"] == 0.5


@pytest.mark.parametrize("stream", [False, True])
def test_tool_rounds(stream, at, gemini, installed, spans):
    """Rounds are counted along the chain of interactions, and the one too many is not sent."""
    tokenguard.install(policy.loads('[[limit]]\nname = "agents"\nmax_tool_steps = 1'))
    provider = at(list(streamed(calls=True)) if stream else interaction(CALLED, status="requires_action"))
    client = gemini(provider)

    def turn(given, **more):
        answer = client.interactions.create(model=FLASH, input=given, tools=[LOOK_UP], stream=stream, **more)
        return list(answer) if stream else answer

    turn("Which plan?")
    turn([RESULT], previous_interaction_id="v1_a")
    assert [span.attributes.get("tokenguard.tool.steps", 0) for span in spans] == [0, 1]
    assert [span.attributes["tokenguard.tool.calls"] for span in spans] == [1, 1]
    with pytest.raises(LimitExceeded):
        turn([RESULT], previous_interaction_id="v1_a")
    turn([CALLED, RESULT, {"type": "user_input", "content": [{"type": "text", "text": "And now?"}]}])


# --- in the background ------------------------------------------------------------------------------------------------


def in_the_background():
    """Starts an interaction, and has it ready when it is asked for the second time."""
    asked_for = []

    def answer(asked):
        if asked.path.partition("?")[0].endswith("/cancel"):
            return interaction(status="cancelled")
        if asked.method == "POST":
            return running()
        asked_for.append(asked)
        return running() if len(asked_for) == 1 else interaction()

    return answer


@pytest.mark.parametrize("asynchronous", [False, True])
def test_background(asynchronous, at, gemini, installed, spans):
    """One span, from the request to the answer, with the usage that the answer tells, and billed once."""
    client = gemini(at(in_the_background()))

    async def run():
        made = await client.aio.interactions.create(**ASKED, background=True)
        for _ in range(4):
            await client.aio.interactions.get(made.id)

    with tokenguard.meter() as measured:
        if asynchronous:
            connections.run(run())
        else:
            made = client.interactions.create(**ASKED, background=True)
            assert client.interactions.get(made.id).status == "in_progress"
            assert len(spans) == 0
            for _ in range(3):
                assert client.interactions.get(made.id).status == "completed"
    check(spans, measured)
    assert not installed.meter.pending


def test_background_cancelled(at, gemini, installed, spans):
    """One that is cancelled ends with what was used until then."""
    client = gemini(at(in_the_background()))
    made = client.interactions.create(**ASKED, background=True)
    client.interactions.cancel(made.id)
    assert spans.attributes["gen_ai.response.finish_reasons"] == ("cancelled",)
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(COST)


def test_nobody_asks(at, gemini, installed, spans):
    """One that nobody asks for is ended with the process, as an estimate."""
    gemini(at(in_the_background())).interactions.create(**ASKED, background=True)
    assert len(spans) == 0
    tokenguard.uninstall()
    assert spans.attributes["tokenguard.cost.basis"] == "missing_usage"


# --- endings ----------------------------------------------------------------------------------------------------------


def test_failed(at, gemini, installed, spans):
    """What fails on the provider's side in mid-stream is an error."""
    broken = [*list(streamed())[:3], {"event_type": "error", "error": {"code": "internal", "message": "no"}}]
    list(gemini(at(broken)).interactions.create(**ASKED, stream=True))
    assert spans.attributes["error.type"] == "internal"


def test_refused(at, gemini, installed, spans):
    """A request that the provider refuses costs nothing."""
    with pytest.raises(Exception, match="400"):
        gemini(at(400)).interactions.create(**ASKED)
    assert spans.attributes["error.type"]
    assert "tokenguard.cost.status" not in spans.attributes


def test_abandoned(at, gemini, installed, spans):
    """A stream that is dropped half-read ends its span, with an estimate."""
    stream = gemini(at(list(streamed())[:-1])).interactions.create(**ASKED, stream=True)
    next(iter(stream))
    stream.close() if hasattr(stream, "close") else None
    del stream
    gc.collect()
    (record,) = installed.records
    assert record.outcome == "abandoned"
    assert record.cost.basis == "abandoned_stream"


def test_resends(at, gemini, installed, spans):
    """The SDK's own resends are one call, counted, and capped by the guard."""
    answers = [503, 503, interaction()]
    client = gemini(at(lambda asked: answers.pop(0)), retry_options={"attempts": 4})
    client.interactions.create(**ASKED)
    assert spans.attributes["http.request.resend_count"] == 2
    spans.clear()
    tokenguard.install(policy.loads('[[limit]]\nname = "calm"\nmax_retries = 1'))
    provider = at(503)
    with pytest.raises(Exception, match="503"):
        gemini(provider, retry_options={"attempts": 4}).interactions.create(**ASKED)
    assert len(provider.asked) == 2
    assert spans.attributes["http.request.resend_count"] == 1


def test_timed_out(at, gemini, installed, spans):
    """An answer that was not waited for may be on the bill, so its cost is an estimate."""
    provider = at(interaction())
    provider.delays = [0.6] * 3
    with pytest.raises(Exception, match="timed out"):
        gemini(provider, retry_options={"attempts": 1}, timeout=250).interactions.create(**ASKED)
    assert "Timeout" in spans.attributes["error.type"]
    assert spans.attributes["tokenguard.cost.basis"] == "timed_out"
