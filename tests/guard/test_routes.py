"""Routes: which calls another model answers, through real SDKs, over HTTP, with the simulated provider."""

from __future__ import annotations

import asyncio
import logging
import math

import anthropic
import openai
import pytest

import tokenguard
from exported import metric_points
from tokenguard import BudgetExceeded, policy
from tokenguard.installation import runtime
from tokenguard.policy import CompiledPolicy

ASKED = [{"role": "user", "content": "Which of your plans has a warranty?"}]
ROUTE = '[[route]]\nname = "easy"\nto = "gpt-4.1-mini"\n'


def chat(client, model="gpt-4o", **options):
    return client.chat.completions.create(model=model, messages=options.pop("messages", ASKED), **options)


def sent(provider):
    return [request.model for request in provider.requests]


def test_a_route_changes_the_model(under, client, provider, spans):
    """The request goes to the other model, and the span says by which rule, in which version, from which model."""
    under(ROUTE + 'version = "2"\nwhen = { model = "gpt-4o*" }\n')
    chat(client)
    chat(client, "o3-mini")
    assert sent(provider) == ["gpt-4.1-mini", "o3-mini"]
    routed, other = (span.attributes for span in spans)
    assert routed["tokenguard.route.rule"] == "easy"
    assert routed["tokenguard.route.version"] == "2"
    assert routed["tokenguard.route.arm"] == "treated"
    assert routed["tokenguard.route.original_model"] == "gpt-4o"
    assert routed["gen_ai.request.model"] == "gpt-4.1-mini"
    assert not [key for key in other if "route" in key]


def test_what_it_saves(under, client, provider, spans):
    """Saved is what the tokens would have cost at the model that was asked for, less what they did; by lever."""
    under(ROUTE)
    with tokenguard.attribution(tenant="routes-saved"):
        chat(client, max_tokens=50)
    attributes = spans.attributes
    book = runtime.installed().meter.settling.prices
    billed = provider.requests[0].billed
    full, less = (book.cost("openai", model, billed).total for model in ("gpt-4o", "gpt-4.1-mini"))
    assert attributes["tokenguard.cost.usd"] == pytest.approx(less)
    assert attributes["tokenguard.route.saved_usd"] == pytest.approx(full - less)
    assert attributes["tokenguard.route.saved_usd"] > 0
    runtime.installed().telemetry.flush()
    points = {
        dict(key)["lever"]: value
        for (name, key), value in metric_points(tenant="routes-saved").items()
        if name == "tokenguard.saved.usd"
    }
    assert points["route"] == pytest.approx(full - less)


FACTS = [
    ("max_input_tokens = 30", {}, {"messages": [{"role": "user", "content": "word " * 100}]}),
    ("max_output_tokens = 100", {"max_tokens": 100}, {"max_tokens": 101}),
    ("max_output_tokens = 100", {"max_tokens": 100}, {}),
    ("max_turns = 1", {}, {"messages": [*ASKED, {"role": "assistant", "content": "All."}, *ASKED]}),
    ("tools = false", {}, {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}),
    ("schema = true", {"response_format": {"type": "json_object"}}, {}),
    (
        "images = false",
        {},
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}
            ]
        },
    ),
]


@pytest.mark.parametrize(("fact", "easy", "hard"), FACTS)
def test_facts_of_the_request(fact, easy, hard, under, client, provider):
    """A route takes only the requests of which all its facts hold."""
    under(ROUTE + fact)
    chat(client, **easy)
    chat(client, **hard)
    assert sent(provider) == ["gpt-4.1-mini", "gpt-4o"]


def test_the_first_route_that_holds_counts(under, client, provider, spans):
    """Rules are asked in the order of the file; the control arm of the first is no call for the second."""
    under(
        '[[route]]\nname = "tiny"\nto = "gpt-4.1-nano"\nmax_output_tokens = 10\n'
        '[[route]]\nname = "none"\nto = "gpt-4o-mini"\nshare = 0\nmax_output_tokens = 20\n' + ROUTE
    )
    for cap in (10, 20, 30):
        chat(client, max_tokens=cap)
    assert sent(provider) == ["gpt-4.1-nano", "gpt-4o", "gpt-4.1-mini"]
    arms = [(span.attributes["tokenguard.route.rule"], span.attributes["tokenguard.route.arm"]) for span in spans]
    assert arms == [("tiny", "treated"), ("none", "control"), ("easy", "treated")]


def test_limits_see_the_model_that_is_sent(under, client, provider):
    """A limit for the routed model holds, and one for the model that was asked for does not."""
    under(
        ROUTE
        + '[[limit]]\nname = "new"\nwhen = { model = "gpt-4.1-mini" }\nmax_output_tokens = 7\nthen = "clamp"\n'
        + '[[limit]]\nname = "old"\nwhen = { model = "gpt-4o" }\nmax_output_tokens = 1\nthen = "block"\n'
    )
    chat(client)
    assert provider.requests[0].body["max_completion_tokens"] == 7


# --- the arms ---------------------------------------------------------------------------------------------------------


def arms(share, users, version="1"):
    text = f'[[route]]\nname = "r"\nto = "b"\nshare = {share}\nversion = "{version}"\n'
    compiled = CompiledPolicy(policy.loads(text, "/tokenguard.toml"))
    return [
        compiled.match("openai", "a", "chat", {"tenant": f"t{n % 7}", "user": f"u{n}"}).routes[0][1]
        for n in range(users)
    ]


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_share_is_kept(share):
    """Of 10,000 users the share that is treated lies within its binomial interval (99.9 %)."""
    treated = arms(share, 10_000).count("treated")
    assert abs(treated - 10_000 * share) < 3.29 * math.sqrt(10_000 * share * (1 - share))


def test_arms_are_stable():
    """A user stays in one arm, whatever the process; more share keeps who was treated; a version draws anew."""
    few, more = arms(0.1, 2_000), arms(0.3, 2_000)
    assert few == arms(0.1, 2_000)
    assert all(b == "treated" for a, b in zip(few, more, strict=True) if a == "treated")
    both = sum(a == b == "treated" for a, b in zip(few, arms(0.1, 2_000, "2"), strict=True))
    assert 5 <= both <= 40  # 20, where the draws have nothing to do with each other
    assert few[:12].count("treated") == arms(0.1, 12).count("treated")


def test_one_user_is_in_one_arm(under, client, provider):
    """All calls of a user go to one model, whatever they ask; there are both arms."""
    under(ROUTE + "share = 0.5\n")
    models = {}
    for n in range(24):
        with tokenguard.attribution(tenant="t", user=f"u{n % 8}"):
            chat(client, messages=[{"role": "user", "content": f"question {n}"}], max_tokens=1)
        models.setdefault(n % 8, set()).add(provider.requests[-1].model)
    assert all(len(of_one) == 1 for of_one in models.values())
    assert set().union(*models.values()) == {"gpt-4o", "gpt-4.1-mini"}


def test_without_a_user_the_request_is_drawn(under, client, provider):
    """Calls that say nobody's name are not all in one arm: each request has its own."""
    under(ROUTE + "share = 0.5\n")
    for n in range(40):
        chat(client, messages=[{"role": "user", "content": f"question {n}"}], max_tokens=1)
    assert 5 <= sent(provider).count("gpt-4o") <= 35


def test_observe_draws_and_sends_what_was_asked(under, client, provider, spans):
    """In observe mode the arm is recorded, and both arms are the same model: a test of the test."""
    tokenguard.install(policy.loads('mode = "observe"\n' + ROUTE, "/tokenguard.toml"))
    chat(client)
    assert sent(provider) == ["gpt-4o"]
    attributes = spans.attributes
    assert (attributes["tokenguard.route.arm"], attributes["tokenguard.guard.mode"]) == ("treated", "observe")
    assert "tokenguard.route.saved_usd" not in attributes


# --- a model that does not fit ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 404])
@pytest.mark.parametrize("stream", [False, True])
def test_unfit(status, stream, under, client, provider, spans, caplog):
    """A refusal of the other model costs one request, once: the caller's own is sent, and no call is lost."""
    under(ROUTE + '[[budget]]\nname = "b"\nlimit_usd = 5\n')
    provider.fail_next(status)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            answer = chat(client, stream=stream, max_tokens=20)
            if stream:
                assert [chunk for chunk in answer if not chunk.choices] == []  # the usage was our own wish
    assert sent(provider) == ["gpt-4.1-mini", "gpt-4o", "gpt-4o", "gpt-4o"]
    assert (
        caplog.text.count("gpt-4.1-mini at 127.0.0.1 is refused, where the request of gpt-4o as it was is taken") == 1
    )
    first, *others = spans
    assert first.name == "chat gpt-4o"
    assert first.attributes["tokenguard.route.unfit"] == "gpt-4.1-mini"
    assert first.attributes["gen_ai.request.model"] == "gpt-4o"
    assert first.attributes["gen_ai.usage.output_tokens"] > 0
    assert not {"tokenguard.route.saved_usd", "tokenguard.route.original_model"} & set(first.attributes)
    assert not any("tokenguard.route.rule" in span.attributes for span in others)
    (account,) = runtime.installed().meter.guard.ledger.accounts()
    assert account.reserved_nano == 0
    assert account.spent_nano / 1e9 == pytest.approx(sum(span.attributes["tokenguard.cost.usd"] for span in spans))


async def test_unfit_asynchronously(under, provider, spans):
    """The same of a coroutine."""
    under(ROUTE)
    provider.fail_next(404)
    async with openai.AsyncOpenAI(api_key="k", base_url=f"{provider.url}/v1", max_retries=0) as client:
        answers = await asyncio.gather(*(chat(client, max_tokens=5) for _ in range(2)))
    assert all(answer.choices for answer in answers)
    assert sorted(sent(provider)).count("gpt-4.1-mini") >= 1


def test_unfit_where_the_sdk_has_a_span(under, provider, spans):
    """anthropic starts a span for each request: the call has one, of the model that answered."""
    under('[[route]]\nname = "easy"\nto = "claude-haiku-4-5"\n')
    provider.fail_next(404)
    with anthropic.Anthropic(api_key="k", base_url=provider.url, max_retries=0) as client:
        client.messages.create(model="claude-sonnet-4-6", messages=ASKED, max_tokens=20)
    assert sent(provider) == ["claude-haiku-4-5", "claude-sonnet-4-6"]
    assert spans.one.name == "anthropic.messages.create"
    assert spans.attributes["gen_ai.request.model"] == "claude-sonnet-4-6"


def test_the_callers_own_mistake(under, client, provider):
    """A request that no model takes is the caller's error, and says nothing of the other model."""
    under(ROUTE)
    provider.fail_next(400, times=2)
    with pytest.raises(openai.BadRequestError):
        chat(client)
    chat(client)
    assert sent(provider) == ["gpt-4.1-mini", "gpt-4o", "gpt-4.1-mini"]


def test_an_error_of_ours(under, client, provider, monkeypatch):
    """Where falling back fails inside TokenGuard, the caller has the refusal, and the process goes on."""
    monkeypatch.setenv("TOKENGUARD_STRICT", "0")
    guard = under(ROUTE)

    def broken(*given):
        yield 1 / 0

    guard.reconsider = broken
    provider.fail_next(404)
    with pytest.raises(openai.NotFoundError):
        chat(client)
    assert chat(client).choices


def test_unfit_error(under, client, provider):
    """`unfit = "error"` leaves the refusal to the caller."""
    under(ROUTE + 'unfit = "error"\n')
    provider.fail_next(404)
    with pytest.raises(openai.NotFoundError):
        chat(client)
    assert sent(provider) == ["gpt-4.1-mini"]


def test_unfit_downgrade(under, client, provider, spans):
    """A limit's cheaper model that refuses: the caller's own request goes out, with a warning, then and later."""
    under('[[limit]]\nname = "l"\nmax_output_tokens = 5\nthen = "downgrade"\ndowngrade_to = "claude-haiku-4-5"\n')
    provider.fail_next(404)
    for _ in range(2):
        chat(client, max_tokens=10)
    assert sent(provider) == ["claude-haiku-4-5", "gpt-4o", "gpt-4o"]
    assert [span.attributes["tokenguard.guard.action"] for span in spans] == ["warn", "warn"]
    assert "tokenguard.guard.original_model" not in spans.all()[0].attributes


def test_unfit_never_breaks_a_budget(under, client, provider, spans):
    """A budget's cheaper model that refuses: what does not fit at the caller's own model is refused."""
    guard = under('[[budget]]\nname = "b"\nlimit_usd = 0.0002\nthen = "downgrade"\ndowngrade_to = "gpt-4.1-nano"\n')
    provider.fail_next(404)
    with pytest.raises(BudgetExceeded):
        chat(client, max_tokens=50)
    assert sent(provider) == ["gpt-4.1-nano"]
    assert spans.attributes["tokenguard.guard.action"] == "block"
    (account,) = guard.ledger.accounts()
    assert (account.spent_nano, account.reserved_nano) == (0, 0)


def test_a_client_of_one_deployment(under, provider, spans):
    """An Azure client's URL names the model: the route leaves the call alone, and no call fails for it."""
    under('[[route]]\nname = "easy"\nto = "small"\n')
    with openai.AzureOpenAI(
        api_key="k", azure_endpoint=provider.url, api_version="2024-10-21", azure_deployment="large"
    ) as client:
        chat(client, "large")
    assert sent(provider) == ["large"]
    assert "tokenguard.route.rule" not in spans.attributes


# --- three SDKs, plain and streamed, at once and awaited --------------------------------------------------------------

SMALLER = {"openai": "gpt-4.1-mini", "anthropic": "claude-haiku-4-5", "google": "gemini-2.5-flash-lite"}
OWN = {"openai": "gpt-4o", "anthropic": "claude-sonnet-4-6", "google": "gemini-2.5-pro"}


def asking(sdk, provider, *, stream, waits):
    """Asks by this SDK, and returns the number of parts of the answer: one, where it is not streamed."""

    async def counted(parts):
        return len([part async for part in parts]) if stream else 1

    if sdk == "google":
        genai = pytest.importorskip("google.genai")
        client = genai.Client(api_key="k", http_options={"base_url": provider.url})
        models = client.aio.models if waits else client.models
        send = models.generate_content_stream if stream else models.generate_content
        given = {"model": OWN[sdk], "contents": "Which plan?", "config": {"max_output_tokens": 20}}
    elif sdk == "anthropic":
        kind = anthropic.AsyncAnthropic if waits else anthropic.Anthropic
        client = kind(api_key="k", base_url=provider.url, max_retries=0)
        send, given = client.messages.create, {"model": OWN[sdk], "messages": ASKED, "max_tokens": 20, "stream": stream}
    else:
        kind = openai.AsyncOpenAI if waits else openai.OpenAI
        client = kind(api_key="k", base_url=provider.openai_url, max_retries=0)
        send = client.chat.completions.create
        given = {"model": OWN[sdk], "messages": ASKED, "max_tokens": 20, "stream": stream}

    async def waited():
        parts = await counted(await send(**given))
        await (client.aio.aclose() if sdk == "google" else client.close())
        return parts

    def ask():
        if waits:
            return asyncio.run(waited())
        with client:
            return len(list(send(**given))) if stream else bool(send(**given))

    return ask


@pytest.mark.filterwarnings("ignore:Inheritance class Aiohttp:DeprecationWarning")  # google's own
@pytest.mark.everywhere
@pytest.mark.parametrize("waits", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("status", [400, 404, 422])
@pytest.mark.parametrize("sdk", SMALLER)
def test_no_call_is_lost(sdk, status, stream, waits, under, provider, spans):
    """However the other model refuses, and whoever asks: one request more, once, and every call has its answer."""
    under("".join(f'[[route]]\nname = "{n}"\nto = "{SMALLER[n]}"\nwhen = {{ model = "{OWN[n]}" }}\n' for n in SMALLER))
    provider.fail_next(status)
    for _ in range(3):
        assert asking(sdk, provider, stream=stream, waits=waits)() >= 1
    assert sent(provider) == [SMALLER[sdk], *[OWN[sdk]] * 3]
    first, *others = (span.attributes for span in spans)
    assert len(others) == 2
    assert first["tokenguard.route.unfit"] == SMALLER[sdk]
    assert all("error.type" not in each and each["tokenguard.cost.usd"] > 0 for each in (first, *others))
