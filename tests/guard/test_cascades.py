"""What an application decides itself: whether a route takes a call, and whether an answer has to be asked again."""

from __future__ import annotations

import asyncio
import logging

import anthropic
import openai
import pytest

import deciding
import tokenguard
from exported import metric_points
from tokenguard import policy
from tokenguard.installation import runtime

ASKED = [{"role": "user", "content": "Which of your plans has a warranty?"}]
ROUTE = '[[route]]\nname = "easy"\nto = "gpt-4.1-mini"\nwhen = { model = "gpt-4o" }\n'
CASCADE = ROUTE + 'escalate_to = "gpt-4o"\n'
FORM = {
    "type": "json_schema",
    "json_schema": {
        "name": "a",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"a": {"type": "integer"}},
            "required": ["a"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture
def provider(provider):
    """The same, with nothing decided yet."""
    provider.model.script.clear()
    deciding.seen.clear()
    deciding.wait.clear()
    yield provider
    deciding.wait.set()


def chat(client, **options):
    return client.chat.completions.create(**{"model": "gpt-4o", "messages": ASKED, **options})


def sent(provider):
    return [request.model for request in provider.requests]


# --- decide -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def patient(monkeypatch):
    """A machine under load may take longer than 5 ms to start a thread."""
    monkeypatch.setattr("tokenguard.guard.routes.DECIDE_S", 5.0)


def test_decide(under, client, provider, patient):
    """The function says yes or no; it gets facts of the call, and nothing that was said."""
    under(ROUTE + 'decide = "deciding:easy"\n')
    for tenant in ("free", "paying"):
        with tokenguard.attribution(tenant=tenant):
            chat(client, max_tokens=5)
    assert sent(provider) == ["gpt-4.1-mini", "gpt-4o"]
    (facts, _) = deciding.seen
    assert facts == {
        "provider": "openai",
        "model": "gpt-4o",
        "operation": "chat",
        "stream": False,
        "input_tokens": provider.requests[0].billed.input,
        "output_cap": 5,
        "turns": 1,
        "tool_steps": 0,
        "tools": False,
        "images": False,
        "schema": False,
        "attribution": {"tenant": "free"},
    }


def test_decide_with_content(under, client, provider, patient):
    """With `content = true` it gets the messages, too."""
    under(ROUTE + 'decide = "deciding:easy"\ncontent = true\n')
    chat(client)
    assert deciding.seen[0]["messages"] == [
        {"role": "user", "parts": [{"type": "text", "content": ASKED[0]["content"]}]}
    ]


@pytest.mark.parametrize("function", ["deciding:broken", "deciding:missing", "no_such_module:f"])
def test_a_function_that_fails(function, under, client, provider, caplog, patient):
    """It has no say: the call is not routed, and the log says it once."""
    under(ROUTE + f'decide = "{function}"\n')
    with caplog.at_level(logging.WARNING):
        chat(client)
        chat(client)
    assert sent(provider) == ["gpt-4o", "gpt-4o"]
    assert caplog.text.count(f"{function} failed") == 1


def test_a_function_that_hangs(under, client, provider, caplog):
    """It holds up one call, for its 5 ms; while it hangs no other waits for it."""
    under(ROUTE + 'decide = "deciding:slow"\n')
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            chat(client, max_tokens=1)
    assert sent(provider) == ["gpt-4o"] * 3
    assert len(deciding.seen) == 1
    assert "took longer than 5 ms" in caplog.text


async def test_a_function_that_hangs_holds_up_no_event_loop(under, provider):
    """A coroutine waits for it without blocking the loop."""
    under(ROUTE + 'decide = "deciding:slow"\n')
    async with openai.AsyncOpenAI(api_key="k", base_url=provider.openai_url) as client:
        await asyncio.gather(*(chat(client, max_tokens=1) for _ in range(3)))
    assert sent(provider) == ["gpt-4o"] * 3


# --- escalation -------------------------------------------------------------------------------------------------------


def test_a_cut_answer_is_asked_again(under, client, provider, spans):
    """The caller gets the larger model's answer; there are two spans, one linked to the other, and both are charged."""
    guard = under(CASCADE + 'escalate_when = ["length"]\n[[budget]]\nname = "b"\nlimit_usd = 5\n')
    provider.answer_next("word " * 200, "short")
    answer = chat(client, max_tokens=20)
    assert sent(provider) == ["gpt-4.1-mini", "gpt-4o"]
    assert answer.choices[0].message.content == "short"
    first, second = spans
    assert (first.name, second.name) == ("chat gpt-4.1-mini", "chat gpt-4o")
    assert second.attributes["tokenguard.route.escalation"] == "length"
    assert second.attributes["tokenguard.route.rule"] == "easy"
    assert [link.context.span_id for link in second.links] == [first.context.span_id]
    assert second.parent == first.parent
    (account,) = guard.ledger.accounts()
    cost = sum(span.attributes["tokenguard.cost.usd"] for span in spans)
    assert account.spent_nano / 1e9 == pytest.approx(cost, abs=2e-9)
    assert account.reserved_nano == 0


def test_the_answers_of_a_cascade_cost_what_they_should(under, client, provider, spans):
    """Of 40 calls every fourth fails: the cost is that of 40 small calls and of 10 large ones, to the cent.

    What the small answers saved and what the large ones took back again are levers of their own.
    """
    under(CASCADE + 'escalate_when = ["schema"]\n')
    calls, every = 40, 4
    for n in range(calls):
        provider.answer_next(*(['{"a": "x"}', '{"a": 1}'] if n % every == 0 else ['{"a": 2}']))
        with tokenguard.attribution(tenant="cascades-cost"):
            answer = chat(client, response_format=FORM, max_tokens=50)
        assert answer.choices[0].message.content == ('{"a": 1}' if n % every == 0 else '{"a": 2}')
    assert sent(provider).count("gpt-4o") == calls // every
    book = runtime.installed().meter.settling.prices
    billed = sum(book.cost("openai", request.model, request.billed).total for request in provider.requests)
    told = sum(span.attributes["tokenguard.cost.usd"] for span in spans)
    assert told == pytest.approx(billed, abs=1e-9)
    small = book.cost("openai", "gpt-4.1-mini", provider.billed_for("gpt-4.1-mini")).total
    large = book.cost("openai", "gpt-4o", provider.billed_for("gpt-4o")).total
    assert told == pytest.approx(small + large, abs=1e-9)
    one = book.cost("openai", "gpt-4o", provider.billed_for("gpt-4.1-mini")).total
    saved = sum(span.attributes["tokenguard.route.saved_usd"] for span in spans)
    assert saved == pytest.approx(one - small - large, abs=1e-9)  # what all of them at the large model would have cost
    runtime.installed().telemetry.flush()
    points = metric_points(tenant="cascades-cost").items()
    levers = {dict(key)["lever"]: usd for (name, key), usd in points if name == "tokenguard.saved.usd"}
    assert levers == pytest.approx({"route": one - small, "escalation": -large}, abs=1e-9)


def test_a_good_answer_is_not_asked_again(under, client, provider, spans):
    """An answer that passes is the caller's."""
    under(CASCADE + 'escalate_when = ["length", "schema", "refusal", "deciding:fails"]\n')
    provider.answer_next('{"a": 1}')
    chat(client, response_format=FORM)
    assert sent(provider) == ["gpt-4.1-mini"]
    assert len(spans) == 1


def test_a_function_of_the_application(under, client, provider):
    """It gets the answer beside the facts, and says whether it fails."""
    under(CASCADE + 'escalate_when = ["deciding:fails"]\n')
    provider.answer_next("I do not know.", "The second.")
    assert chat(client).choices[0].message.content == "The second."
    assert deciding.seen[0]["answer"] == "I do not know."
    assert deciding.seen[0]["finish_reasons"] == ("stop",)


async def test_asynchronously(under, provider, spans):
    """The same of coroutines, at once."""
    under(CASCADE + 'escalate_when = ["length"]\n')
    async with openai.AsyncOpenAI(api_key="k", base_url=provider.openai_url) as client:
        provider.answer_next(*["word " * 60] * 10)
        answers = await asyncio.gather(*(chat(client, max_tokens=10) for _ in range(5)))
    assert sent(provider).count("gpt-4o") == 5
    assert all(answer.model.startswith("gpt-4o") for answer in answers)


def test_raw_responses(under, client, provider):
    """A raw response is looked at, too, and the caller gets a raw one."""
    under(CASCADE + 'escalate_when = ["length"]\n')
    provider.answer_next("word " * 60, "short")
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=ASKED, max_tokens=10)
    assert raw.parse().choices[0].message.content == "short"


def test_where_the_sdk_has_a_span(under, provider, spans):
    """anthropic starts a span for each request: there are two, each of its own call."""
    under(
        '[[route]]\nname = "easy"\nto = "claude-haiku-4-5"\nescalate_to = "claude-sonnet-4-6"\n'
        'escalate_when = ["length"]\nwhen = { model = "claude-sonnet-4-6" }\n'
    )
    provider.answer_next("word " * 60, "short")
    with anthropic.Anthropic(api_key="k", base_url=provider.url) as client:
        answer = client.messages.create(model="claude-sonnet-4-6", messages=ASKED, max_tokens=10)
    assert answer.content[0].text == "short"
    assert [span.attributes["gen_ai.request.model"] for span in spans] == ["claude-haiku-4-5", "claude-sonnet-4-6"]


@pytest.mark.parametrize(
    "options",
    [
        {"stream": True},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
    ],
)
def test_what_is_never_asked_again(options, under, client, provider):
    """Streams, and requests that offer tools: their answers are used before anybody could look at them."""
    under(CASCADE + 'escalate_when = ["length"]\n')
    provider.answer_next("word " * 60)
    answer = chat(client, max_tokens=10, **options)
    if "stream" in options:
        list(answer)
    assert sent(provider) == ["gpt-4.1-mini"]


@pytest.mark.parametrize("status", [500, 404])
def test_the_larger_model_fails(status, under, client, provider, spans):
    """Then the caller has the first answer: no call is lost for a second opinion."""
    under(CASCADE + 'escalate_when = ["length"]\n')
    provider.answer_next("word " * 60)
    meter = runtime.installed().meter
    escalate = meter.guard.escalate
    meter.guard.escalate = lambda *given: provider.fail_next(status) or escalate(*given)
    answer = chat(client, max_tokens=10)
    assert answer.choices[0].finish_reason == "length"
    assert sent(provider) == ["gpt-4.1-mini", "gpt-4o"]


def test_a_budget_that_has_no_room(under, client, provider, spans):
    """A second call that does not fit is refused, as any other; the caller has the first answer."""
    under(
        CASCADE
        + 'escalate_when = ["length"]\n[[budget]]\nname = "b"\nlimit_usd = 0.0001\nwhen = { model = "gpt-4o" }\n'
    )
    provider.answer_next("word " * 60)
    assert chat(client, max_tokens=30).choices[0].finish_reason == "length"
    assert sent(provider) == ["gpt-4.1-mini"]
    assert [span.attributes.get("tokenguard.guard.action") for span in spans] == [None, "block"]


@pytest.mark.parametrize("step", ["failure", "escalate"])
def test_an_error_of_ours(step, under, client, provider, monkeypatch):
    """Whatever fails while an answer is looked at: the caller has it."""
    monkeypatch.setenv("TOKENGUARD_STRICT", "0")
    guard = under(CASCADE + 'escalate_when = ["length"]\n')
    setattr(guard, step, lambda *given: 1 / 0)
    provider.answer_next("word " * 60)
    assert chat(client, max_tokens=10).choices[0].finish_reason == "length"
    assert sent(provider) == ["gpt-4.1-mini"]


def test_an_answer_that_may_fail_is_not_kept(under, client, provider):
    """A cascade's first answer is in no cache: it would be served without having been looked at."""
    under(CASCADE + 'escalate_when = ["length"]\n[[cache]]\nname = "c"\nper = []\nsampled = true\n')
    provider.answer_next(*["word " * 60, "short"] * 2)
    for _ in range(2):
        assert chat(client, max_tokens=10).choices[0].message.content == "short"
    assert sent(provider)[:2] == ["gpt-4.1-mini", "gpt-4o"]
    assert sent(provider)[2] == "gpt-4.1-mini"


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ('escalate_to = "gpt-4o"', "go together"),
        ('escalate_when = ["length"]', "go together"),
        ('escalate_to = "gpt-4.1-mini"\nescalate_when = ["length"]', "has just failed"),
        ('escalate_to = "gpt-4o"\nescalate_when = ["lenght"]', 'did you mean "length"'),
        ('escalate_to = "gpt-4o"\nescalate_when = ["app:"]', "package.module:function"),
        ('decide = "easy"', "package.module:function"),
    ],
)
def test_what_cannot_be_meant(rows, says):
    """Errors of the policy say what is missing."""
    with pytest.raises(tokenguard.PolicyError, match=says):
        policy.loads(f'[[route]]\nname = "r"\nto = "gpt-4.1-mini"\n{rows}\n', "/tokenguard.toml")
