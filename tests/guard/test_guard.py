"""The guard, through the real SDKs: what it refuses, changes, reserves and records, and what it leaves alone."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx2
import openai
import pytest

import tokenguard
from canned import (
    MESSAGES,
    OPENAI_COST,
    SONNET,
    Script,
    anthropic_client,
    async_openai_client,
    canned,
    chat_body,
    openai_client,
    responses_body,
)
from exported import metric_points
from tokenguard import BudgetExceeded, CircuitOpen, GuardrailViolation, LimitExceeded, PolicyError, policy
from tokenguard.installation import runtime

CHAT = {"model": "gpt-4o-mini", "messages": MESSAGES}
MESSAGE = {"model": SONNET, "messages": MESSAGES, "max_tokens": 200}


def limit(rows, then="block", name="l"):
    return f'[[limit]]\nname = "{name}"\nthen = "{then}"\n{rows}\n'


# --- limits ----------------------------------------------------------------------------------------------------------


def test_input_limit_blocks(under, spans):
    """Too much input is refused before anything is sent, with its numbers, and the refusal has a span."""
    under(limit("max_input_tokens = 100"))
    script = Script()
    words = "word " * 150
    with pytest.raises(LimitExceeded, match=r"input tokens 15\d, and the limit \"l\" allows 100\. Send less") as caught:
        openai_client(script).chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": words}]
        )
    assert script.requests == []
    error = caught.value
    assert (error.rule, error.limit) == ("l", 100)
    assert 150 <= error.observed < 170
    attributes = spans.attributes
    assert attributes["tokenguard.guard.action"] == "block"
    assert attributes["tokenguard.guard.rule"] == "l"
    assert attributes["error.type"] == "tokenguard.LimitExceeded"
    assert "tokenguard.cost.usd" not in attributes


def test_input_within_the_limit_is_not_counted(under, monkeypatch):
    """What the byte length already allows never reaches a tokenizer."""
    from tokenguard.guard import worst_case

    monkeypatch.setattr(worst_case, "count_request", lambda *a: pytest.fail("counted"))
    under(limit("max_input_tokens = 500"))
    assert openai_client().chat.completions.create(**CHAT).id == "chatcmpl-1"


@pytest.mark.parametrize(
    ("call", "key", "cap"),
    [
        (lambda c, a, **k: c.chat.completions.create(**CHAT, **k), "max_completion_tokens", None),
        (lambda c, a, **k: c.chat.completions.create(**CHAT, max_tokens=900), "max_tokens", 900),
        (lambda c, a, **k: c.chat.completions.create(**CHAT, max_completion_tokens=900), "max_completion_tokens", 900),
        (lambda c, a, **k: c.responses.create(model="gpt-4o-mini", input="x"), "max_output_tokens", None),
        (lambda c, a, **k: c.completions.create(model="gpt-4o-mini", prompt="x"), "max_tokens", None),
        (lambda c, a, **k: a.messages.create(**{**MESSAGE, "max_tokens": 900}), "max_tokens", 900),
    ],
)
def test_output_clamp(call, key, cap, under, spans):
    """A missing cap is added and a larger one lowered, in the parameter that the API and model know."""
    under(limit("max_output_tokens = 300", "clamp"))
    script = Script()
    call(openai_client(script), anthropic_client(script))
    sent = script.requests[0]
    assert sent[key] == 300
    assert sum("max" in name for name in sent) == 1
    attributes = spans.attributes
    assert attributes["tokenguard.guard.action"] == "clamp"
    assert attributes["gen_ai.request.max_tokens"] == 300
    assert attributes.get("tokenguard.guard.original_max_tokens") == cap


def test_clamp_on_compatible_hosts(under):
    """Hosts that only speak OpenAI's dialect get the older parameter."""
    under(limit("max_output_tokens = 300", "clamp"))
    script = Script()
    openai_client(script, base_url="https://api.deepseek.com").chat.completions.create(**CHAT)
    assert script.requests[0]["max_tokens"] == 300


def test_smaller_cap_stays(under, spans):
    """A cap below the limit is the caller's."""
    under(limit("max_output_tokens = 300", "clamp"))
    script = Script()
    openai_client(script).chat.completions.create(**CHAT, max_tokens=10)
    assert script.requests[0]["max_tokens"] == 10
    assert "tokenguard.guard.action" not in spans.attributes


@pytest.mark.parametrize(
    ("cap", "thinking"), [(2000, {"type": "enabled", "budget_tokens": 1999}), (800, {"type": "disabled"})]
)
def test_clamp_keeps_thinking_valid(cap, thinking, under):
    """Anthropic's thinking budget stays below the cap, or thinking is off where that leaves too little."""
    under(limit(f"max_output_tokens = {cap}", "clamp"))
    script = Script()
    request = {**MESSAGE, "max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 4000}}
    anthropic_client(script).messages.create(**request)
    assert (script.requests[0]["max_tokens"], script.requests[0]["thinking"]) == (cap, thinking)


@pytest.mark.parametrize(("options", "said"), [({}, "no output cap"), ({"max_tokens": 900}, "output cap 900")])
def test_output_block(options, said, under):
    """Under `block`, a missing cap and a larger one are refused."""
    under(limit("max_output_tokens = 300"))
    with pytest.raises(LimitExceeded, match=said):
        openai_client().chat.completions.create(**CHAT, **options)


def test_cost_limit(under, spans):
    """The worst case decides before the call: 4o-mini, some 15 tokens in and 10,000 out at $0.60/M is $0.006."""
    under(limit("max_cost_usd = 0.005"))
    with pytest.raises(LimitExceeded, match=r"can cost \$0\.0060\d\d, and the limit \"l\" allows \$0\.005") as caught:
        openai_client().chat.completions.create(**CHAT, max_tokens=10_000)
    assert caught.value.observed == pytest.approx(0.006, rel=0.01)
    assert openai_client().chat.completions.create(**CHAT, max_tokens=8_000)


def test_cost_limit_without_a_price(under):
    """A model without a price cannot be under a dollar limit: it is refused, allowed, or takes the ceiling's rate."""
    client = openai_client()
    under(limit("max_cost_usd = 1"))
    with pytest.raises(LimitExceeded, match=r'no price is known for it at openai.*Add "openai/gpt-9" under \[prices\]'):
        client.chat.completions.create(model="gpt-9", messages=MESSAGES, max_tokens=10)
    tokenguard.install(policy.loads('unpriced = "allow"\n' + limit("max_cost_usd = 1")))
    client.chat.completions.create(model="gpt-9", messages=MESSAGES, max_tokens=10)
    ceiling = "unpriced = { input_per_mtok = 15, output_per_mtok = 75 }\n"
    tokenguard.install(policy.loads(ceiling + limit("max_cost_usd = 0.01")))
    with pytest.raises(LimitExceeded, match="can cost"):
        client.chat.completions.create(model="gpt-9", messages=MESSAGES, max_tokens=1000)


def test_tool_steps(under):
    """An agent's run ends after so many tool rounds, read from its own messages; a new question starts afresh."""
    under(limit("max_tool_steps = 2"))
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turn = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c1", "content": "1"}]
    client = openai_client()
    client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES + turn * 2)
    with pytest.raises(LimitExceeded, match="tool rounds 3, and the limit") as caught:
        client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES + turn * 3)
    assert (caught.value.observed, caught.value.limit) == (3, 2)
    client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES + turn * 3 + MESSAGES)


def test_tool_calls_per_turn(under):
    """A turn that asks for too many tools is not continued."""
    under(limit("max_tool_calls_per_turn = 2"))
    calls = [{"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for n in range(3)]
    results = [{"role": "tool", "tool_call_id": f"c{n}", "content": "1"} for n in range(3)]
    with pytest.raises(LimitExceeded, match="tool calls in one turn 3"):
        openai_client().chat.completions.create(
            model="gpt-4o-mini", messages=[*MESSAGES, {"role": "assistant", "tool_calls": calls}, *results]
        )


def test_retries(under, monkeypatch, spans):
    """The SDK's resends are capped, and then the application's repeats of the same failing request are refused."""
    monkeypatch.setattr(openai.OpenAI, "_calculate_retry_timeout", lambda *a, **k: 0.0)
    under(limit("max_retries = 1"))
    script = Script(*[httpx2.Response(500, json={"error": {}}) for _ in range(9)])
    client = openai_client(script, max_retries=5)
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(**CHAT)
    assert len(script.requests) == 4
    with pytest.raises(LimitExceeded, match="retries 2, and the limit"):
        client.chat.completions.create(**CHAT)
    assert len(script.requests) == 4


def test_warn(under, spans, caplog):
    """`warn` sends the call, and says so on the span and in the log."""
    under(limit("max_output_tokens = 300", "warn"))
    openai_client().chat.completions.create(**CHAT, max_tokens=900)
    assert spans.attributes["tokenguard.guard.action"] == "warn"
    assert "output cap 900" in caplog.text


def test_downgrade(under, spans):
    """`downgrade` sends the call to the cheaper model and keeps the original on record."""
    under(limit('max_cost_usd = 0.01\ndowngrade_to = "gpt-4o-mini"', "downgrade"))
    script = Script()
    openai_client(script).chat.completions.create(model="gpt-4o", messages=MESSAGES, max_tokens=2_000)
    assert script.requests[0]["model"] == "gpt-4o-mini"
    attributes = spans.attributes
    assert attributes["tokenguard.guard.original_model"] == "gpt-4o"
    assert attributes["gen_ai.request.model"] == "gpt-4o-mini"
    assert spans.one.name == "chat gpt-4o-mini"
    assert attributes["tokenguard.cost.usd"] == pytest.approx(OPENAI_COST)


def test_when(under):
    """A limit applies to the calls its globs match."""
    under(limit('when = { feature = "support_*", model = ["gpt-4o*"] }\nmax_output_tokens = 9'))
    client = openai_client()
    client.chat.completions.create(**CHAT)
    with tokenguard.attribution(feature="support_chat"), pytest.raises(LimitExceeded):
        client.chat.completions.create(**CHAT)


def test_observe_changes_nothing(under, spans):
    """`observe` decides and records everything, and sends every call as it came."""
    tokenguard.install(
        policy.loads(
            'mode = "observe"\n[ledger]\nurl = "memory:"\n'
            + limit("max_output_tokens = 300", "clamp", "caps")
            + limit("max_input_tokens = 1", "block", "tiny")
            + '[[budget]]\nname = "b"\nlimit_usd = 0.0001\n'
        )
    )
    script = Script()
    openai_client(script).chat.completions.create(**CHAT, max_tokens=900)
    assert script.requests == [{**CHAT, "max_tokens": 900}]
    attributes = spans.attributes
    assert attributes["tokenguard.guard.action"] == "block"
    assert attributes["tokenguard.guard.rule"] == "tiny"
    assert attributes["tokenguard.guard.mode"] == "observe"
    guard = runtime.installed().meter.guard
    assert guard.ledger.accounts()[0].spent_nano == round(OPENAI_COST * 1e9)


# --- budgets ---------------------------------------------------------------------------------------------------------


def priced(cents_in=0.0, cents_out=0.0):
    return f'[prices]\n"openai/gpt-4o-mini*" = {{ input = {cents_in}, output = {cents_out} }}\n'


def test_budget_settles_the_actual(under, spans):
    """The worst case is reserved, the actual cost is what stays."""
    guard = under('[[budget]]\nname = "b"\nper = ["tenant"]\nlimit_usd = 1.0\n')
    with tokenguard.attribution(tenant="t1"):
        openai_client().chat.completions.create(**CHAT, max_tokens=1000)
        list(openai_client().chat.completions.create(**CHAT, max_tokens=1000, stream=True))
    (account,) = guard.ledger.accounts()
    assert (account.budget, account.key) == ("b", "tenant=t1")
    assert account.spent_nano == 2 * round(OPENAI_COST * 1e9)
    assert account.reserved_nano == 0


def test_budget_refuses(under, spans):
    """A call whose worst case does not fit is refused with what is spent, reserved and asked."""
    # 1,000 tokens of output at $350 per million tokens: $0.35 a call.
    under('[[budget]]\nname = "day"\nlimit_usd = 0.40\n' + priced(0, 350))
    client = openai_client()
    with tokenguard.attribution(tenant="prevented"):
        client.chat.completions.create(**CHAT, max_tokens=1000)  # 300 tokens: $0.105
        with pytest.raises(
            BudgetExceeded, match=r"\$0\.105000 spent and \$0\.000000 reserved of \$0\.400000"
        ) as caught:
            client.chat.completions.create(**CHAT, max_tokens=1000)
    assert caught.value.limit == pytest.approx(0.40)
    assert caught.value.observed == pytest.approx(0.455)
    points = metric_points(tenant="prevented")
    values = {name: value for (name, _), value in points.items()}
    assert values["tokenguard.guard.prevented.usd"] == pytest.approx(0.35)
    assert values["tokenguard.guard.decisions"] == 1


def test_fifty_threads_admit_two(under):
    """A $1 budget, 50 threads, $0.35 calls: exactly two go out."""
    under('[[budget]]\nname = "b"\nlimit_usd = 1.0\n' + priced(0, 350))
    sent = []

    def handler(request):
        sent.append(1)
        time.sleep(0.05)
        body = {**chat_body(), "usage": {"prompt_tokens": 10, "completion_tokens": 1000, "total_tokens": 1010}}
        return httpx2.Response(200, json=body)

    client = openai_client(handler)

    def call(_):
        try:
            client.chat.completions.create(**CHAT, max_tokens=1000)
        except BudgetExceeded:
            return False
        return True

    with ThreadPoolExecutor(50) as pool:
        admitted = sum(pool.map(call, range(50)))
    assert (admitted, len(sent)) == (2, 2)


async def test_async_budget_on_sqlite(under, tmp_path, installed):
    """Asynchronous calls await the shared ledger, and never overspend it."""
    text = f'[ledger]\nurl = "sqlite:///{tmp_path}/l.db"\n[[budget]]\nname = "b"\nlimit_usd = 1.0\n' + priced(0, 350)
    tokenguard.install(policy.loads(text))

    async def handler(request):
        await asyncio.sleep(0.02)
        body = {**chat_body(), "usage": {"prompt_tokens": 10, "completion_tokens": 1000, "total_tokens": 1010}}
        return httpx2.Response(200, json=body)

    client = async_openai_client(handler)
    results = await asyncio.gather(
        *(client.chat.completions.create(**CHAT, max_tokens=1000) for _ in range(20)), return_exceptions=True
    )
    assert sum(not isinstance(result, BudgetExceeded) for result in results) == 2
    guard = runtime.installed().meter.guard
    (account,) = await guard.ledger.run(guard.ledger.accounts)
    assert account.spent_nano == 700_000_000
    await asyncio.to_thread(guard.close)


def test_refusal_by_the_provider_is_given_back(under):
    """A call that the provider refuses costs nothing and leaves nothing reserved."""
    guard = under('[[budget]]\nname = "b"\nlimit_usd = 1.0\n')
    with pytest.raises(openai.BadRequestError):
        openai_client(Script(httpx2.Response(400, json={"error": {}}))).chat.completions.create(**CHAT)
    (account,) = guard.ledger.accounts()
    assert (account.spent_nano, account.reserved_nano) == (0, 0)


def test_abandoned_stream_is_charged(under):
    """A stream that is left early is charged its estimate, and its reservation ends."""
    guard = under('[[budget]]\nname = "b"\nlimit_usd = 1.0\n')
    stream = openai_client().chat.completions.create(**CHAT, stream=True, max_tokens=100)
    next(iter(stream))
    assert guard.ledger.accounts()[0].reserved_nano > 0
    stream.close()
    (account,) = guard.ledger.accounts()
    assert account.spent_nano > 0
    assert account.reserved_nano == 0


def test_token_budget_and_unpriced(under):
    """A token budget holds for models without a price; a dollar budget refuses them."""
    guard = under('[[budget]]\nname = "t"\nlimit_tokens = 5000\n')
    unknown = Script(httpx2.Response(200, json={**chat_body(), "model": "gpt-9"}))
    openai_client(unknown).chat.completions.create(model="gpt-9", messages=MESSAGES, max_tokens=100)
    assert guard.ledger.accounts()[0].spent_tokens == 1500
    under('[[budget]]\nname = "usd"\nlimit_usd = 5\n')
    with pytest.raises(BudgetExceeded, match="no price is known"):
        openai_client().chat.completions.create(model="gpt-9", messages=MESSAGES)


def test_bound_too_loose_is_counted(under):
    """Where the byte length does not fit but the tokens do, the call goes out."""
    under('[[budget]]\nname = "t"\nlimit_tokens = 400\n')
    words = [{"role": "user", "content": "word " * 200}]  # 1,000 bytes, some 200 tokens
    assert openai_client().chat.completions.create(model="gpt-4o-mini", messages=words, max_tokens=100)


def test_pictures_are_reserved(under):
    """What the byte length leaves out, pictures, is counted before it is reserved: 20 of them do not fit 2 cents."""
    under('[[budget]]\nname = "b"\nlimit_usd = 0.02\n')
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}
    with pytest.raises(BudgetExceeded):
        openai_client().chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": [picture] * 20}], max_tokens=10
        )


def test_budget_downgrade(under, spans):
    """A budget may try the cheaper model before it refuses."""
    under('[[budget]]\nname = "b"\nlimit_usd = 0.01\nthen = "downgrade"\ndowngrade_to = "gpt-4o-mini"\n')
    script = Script()
    openai_client(script).chat.completions.create(model="gpt-4o", messages=MESSAGES, max_tokens=2000)
    assert script.requests[0]["model"] == "gpt-4o-mini"


def test_gauges(under, spans):
    """Budgets show as gauges with their limit, spent and reserved."""
    under('[[budget]]\nname = "gauged"\nlimit_usd = 3.0\n')
    openai_client().chat.completions.create(**CHAT)
    points = {(n, dict(a).get("budget")): v for (n, a), v in metric_points().items()}
    assert points["tokenguard.budget.limit.usd", "gauged"] == 3.0
    assert points["tokenguard.budget.spent.usd", "gauged"] == pytest.approx(OPENAI_COST)
    assert points["tokenguard.budget.reserved.usd", "gauged"] == 0


def test_alerts(under, caplog):
    """Thresholds are told once each: in the log, in the metrics, and to the webhook, which delays nobody."""
    received = []
    called = threading.Event()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            called.wait(60)  # a call that waited for it would wait for ever
            received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    guard = under(
        f'[alerts]\nwebhook = "http://127.0.0.1:{server.server_port}/hook"\n'
        '[[budget]]\nname = "alerted"\nlimit_usd = 0.5\nalert_at = [0.2, 0.4]\n' + priced(0, 350)
    )
    client = openai_client()
    for _ in range(3):
        client.chat.completions.create(**CHAT, max_tokens=500)  # $0.105 each
    assert received == []
    called.set()
    guard.alerter.close()
    server.shutdown()
    server.server_close()
    assert [alert["threshold"] for alert in received] == [0.2, 0.4]
    assert 'Budget "alerted" has reached 20%' in caplog.text


# --- breaker, single flight ------------------------------------------------------------------------------------------


def test_breaker(under, spans, monkeypatch):
    """After a run of failures nothing is sent; after the cooldown one probe goes, and its success closes it."""
    guard = under('[[breaker]]\nname = "cb"\nfailures = 2\ncooldown = 10\n')
    clock = [1000.0]
    guard.breakers._clock = lambda: clock[0]
    script = Script(*[httpx2.Response(500, json={"error": {}}) for _ in range(3)])
    client = openai_client(script, max_retries=0)
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(**CHAT)
    with pytest.raises(CircuitOpen, match="failed 2 times in a row"):
        client.chat.completions.create(**CHAT)
    assert len(script.requests) == 2
    clock[0] += 11
    with pytest.raises(openai.InternalServerError):  # the probe fails: open again
        client.chat.completions.create(**CHAT)
    with pytest.raises(CircuitOpen):
        client.chat.completions.create(**CHAT)
    clock[0] += 11
    assert client.chat.completions.create(**CHAT).id == "chatcmpl-1"
    assert client.chat.completions.create(**CHAT).id == "chatcmpl-1"


def test_breaker_counts_only_the_providers_failures(under):
    """A request that the provider refuses for its own fault says nothing of the provider; a timeout does."""
    under('[[breaker]]\nname = "cb"\nfailures = 2\ncooldown = 10\n')

    def no_answer(request):
        raise httpx2.ReadTimeout("too slow")

    script = Script(*[httpx2.Response(400, json={"error": {}}) for _ in range(5)])
    client = openai_client(script, max_retries=0)
    for _ in range(5):
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(**CHAT)
    client = openai_client(no_answer, max_retries=0)
    for _ in range(2):
        with pytest.raises(openai.APITimeoutError):
            client.chat.completions.create(**CHAT)
    with pytest.raises(CircuitOpen):
        client.chat.completions.create(**CHAT)


def test_probe_that_is_not_sent(under):
    """A probe that a limit stops makes room for the next call at once, and a refused call for none."""
    guard = under('[[breaker]]\nname = "cb"\nfailures = 1\ncooldown = 10\n' + limit("max_input_tokens = 1000"))
    clock = [1000.0]
    guard.breakers._clock = lambda: clock[0]
    client = openai_client(Script(httpx2.Response(500, json={"error": {}})), max_retries=0)
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(**CHAT)
    clock[0] += 11
    with pytest.raises(LimitExceeded):
        client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "word " * 5000}])
    assert client.chat.completions.create(**CHAT).id == "chatcmpl-1"


def test_single_flight(under, spans):
    """Identical calls under way at once are sent once and share the answer; tenants do not share."""
    under('[[share]]\nname = "s"\n')
    script = Script()

    def handler(request):
        time.sleep(0.2)
        return script(request)

    client = openai_client(handler)

    def call(tenant):
        with tokenguard.attribution(tenant=tenant):
            return client.chat.completions.create(**CHAT)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(call, ["a"] * 4 + ["b"] * 4))
    assert len(script.requests) == 2
    assert {answer.id for answer in answers} == {"chatcmpl-1"}
    assert len(spans) == 8


async def test_single_flight_async(under, spans):
    """The same for coroutines; a leader that is cancelled leaves its followers to go by themselves."""
    under('[[share]]\nname = "s"\n')
    sent = []

    async def handler(request):
        sent.append(1)
        await asyncio.sleep(0.1)
        return canned(request)

    client = async_openai_client(handler)
    answers = await asyncio.gather(*(client.chat.completions.create(**CHAT) for _ in range(5)))
    assert (len(sent), len(answers)) == (1, 5)
    leader = asyncio.ensure_future(client.chat.completions.create(**CHAT))
    await asyncio.sleep(0.02)
    follower = asyncio.ensure_future(client.chat.completions.create(**CHAT))
    await asyncio.sleep(0.02)
    leader.cancel()
    assert (await follower).id == "chatcmpl-1"
    assert len(sent) == 3


# --- trouble ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("word", "sent"), [("allow", 1), ("block", 0)])
def test_internal_error(word, sent, monkeypatch, installed):
    """When the guard itself fails, the call goes on, or is refused, as the policy says."""
    monkeypatch.setenv("TOKENGUARD_STRICT", "0")
    tokenguard.install(policy.loads(f'on_internal_error = "{word}"\n' + limit("max_input_tokens = 1000")))
    monkeypatch.setattr(type(runtime.installed().meter.guard), "within", lambda *a: 1 / 0)
    script = Script()
    client = openai_client(script)
    if word == "block":
        with pytest.raises(GuardrailViolation, match="the call was not sent"):
            client.chat.completions.create(**CHAT)
    else:
        client.chat.completions.create(**CHAT)
    assert len(script.requests) == sent
    tokenguard.install(policy.Policy())


def test_bad_policy_changes_nothing(under):
    """A policy that cannot be used is refused whole; the one in force stays."""
    guard = under(limit("max_input_tokens = 5"))
    with pytest.raises(PolicyError, match="max_inptu_tokens"):
        tokenguard.install(policy.loads(limit("max_inptu_tokens = 5"), "tokenguard.toml"))
    assert runtime.installed().meter.guard is guard


def test_reload_while_calls_run(under):
    """Swapping the policy while calls run leaves each call under one whole policy."""
    client = openai_client()
    stop = threading.Event()
    caps, errors = set(), []

    def handler(request):
        caps.add(json.loads(request.content).get("max_completion_tokens"))
        return canned(request)

    client = openai_client(handler)

    def work():
        while not stop.is_set():
            try:
                client.chat.completions.create(**CHAT)
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for n in range(40):
        under(limit(f"max_output_tokens = {100 + n % 2}", "clamp"))
        time.sleep(0.005)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert caps <= {None, 100, 101}


def test_reload_keeps_what_was_spent(under, tmp_path):
    """A new policy goes on with the ledger of the old one, unless it names another."""
    budget = '[[budget]]\nname = "b"\nlimit_usd = {}\n'
    old = under(budget.format(1.0))
    openai_client().chat.completions.create(**CHAT)
    (before,) = old.ledger.accounts()
    new = under(budget.format(2.0))
    assert new is not old
    assert new.ledger.accounts() == [before]
    assert before.spent_nano > 0
    tokenguard.install(policy.loads(f'[ledger]\nurl = "sqlite:///{tmp_path}/l.db"\n' + budget.format(2.0)))
    other = runtime.installed().meter.guard
    assert other.ledger.accounts() == []
    other.close()


def test_reload_while_a_call_is_under_way(under):
    """A call is settled where it was reserved, whatever policy is in force when it ends."""
    old = under('[[budget]]\nname = "b"\nlimit_usd = 1.0\n')

    def handler(request):
        assert old.ledger.accounts()[0].reserved_nano > 0
        tokenguard.install(policy.loads(limit("max_input_tokens = 1000")))
        return canned(request)

    openai_client(handler).chat.completions.create(**CHAT)
    (balance,) = old.ledger.accounts()
    assert balance.reserved_nano == 0
    assert balance.spent_nano > 0


def test_a_policy_without_rules_takes_the_gauges_away(under):
    """Budgets that are no longer in the policy are no longer shown."""

    def limits():
        return [value for (name, _), value in metric_points().items() if name == "tokenguard.budget.limit.usd"]

    under('[[budget]]\nname = "b"\nlimit_usd = 1.0\n')
    openai_client().chat.completions.create(**CHAT)
    assert limits() == [1.0]
    tokenguard.install(policy.Policy())
    assert limits() == []


def test_baggage_and_defaults(under, spans):
    """Attribution comes from the policy's defaults and from baggage, and the application's own word wins."""
    from opentelemetry import baggage, context

    under('[attribution]\nfrom_baggage = ["tenant"]\ndefaults = { team = "platform", tenant = "nobody" }\n')
    client = openai_client()
    token = context.attach(baggage.set_baggage("tenant", "t9"))
    client.chat.completions.create(**CHAT)
    with tokenguard.attribution(tenant="own"):
        client.chat.completions.create(**CHAT)
    context.detach(token)
    client.chat.completions.create(**CHAT)
    assert [span.attributes["tokenguard.tenant"] for span in spans] == ["t9", "own", "nobody"]
    assert spans.all()[0].attributes["tokenguard.team"] == "platform"


def test_learned_ratio(under):
    """Another provider's count is corrected by what it reports: the second decision uses the true ratio."""
    guard = under(limit("max_input_tokens = 400"))
    words = [{"role": "user", "content": "word " * 200}]
    client = anthropic_client()  # reports 2,600 tokens of input
    client.messages.create(model=SONNET, messages=words, max_tokens=9)
    assert guard.worst_case._ratios["anthropic", SONNET] > 5
    with pytest.raises(LimitExceeded):
        client.messages.create(model=SONNET, messages=words, max_tokens=9)


def test_learnt_history(under):
    """What a chain of responses brings along is held by the names of its answers: as much as it has, and no more."""
    guard = under('[[budget]]\nname = "b"\nlimit_usd = 9\n')
    held, sizes = [], {"long": 60_000, "short": 500, "picture": 1_000}

    def handler(request):
        held.append(guard.ledger.accounts()[-1].reserved_nano)
        body = responses_body()
        body["id"] = f"resp_{len(held)}"
        said = json.loads(request.content)["input"]
        size = sizes["picture" if isinstance(said, list) else said]
        body["usage"] = {"input_tokens": size, "output_tokens": 20, "total_tokens": size + 20}
        return httpx2.Response(200, json=body)

    client = openai_client(handler)
    asked = {"model": "gpt-4o", "max_output_tokens": 20}
    long = client.responses.create(**asked, input="long")
    short = client.responses.create(**asked, input="short")
    client.responses.create(**asked, input="long", previous_response_id=long.id)
    client.responses.create(**asked, input="short", previous_response_id=short.id)
    picture = {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"}
    client.responses.create(**asked, input=[{"role": "user", "content": [picture]}])
    client.responses.create(**asked, input="short", previous_response_id="resp_of_another_process")
    tokens = [nano / 2500 for nano in held]  # of input, at $2.50 per million
    assert 60_000 < tokens[2] < 61_000
    assert 500 < tokens[3] < 1_500
    assert tokens[4] < 5_000
    assert tokens[5] > 50_000


def test_worst_case_without_cache_marks(under):
    """Anthropic writes to its cache only what is marked, so only a marked request is held at the dearer write rate."""
    guard = under('[[budget]]\nname = "b"\nlimit_usd = 1.0\n')
    held = []

    def handler(request):
        held.append(guard.ledger.accounts()[-1].reserved_nano)
        return canned(request)

    client = anthropic_client(handler)
    client.messages.create(**MESSAGE)
    client.messages.create(**MESSAGE, system=[{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}])
    client.messages.create(**MESSAGE, system=[{"type": "text", "text": "x"}])
    output = 200 * 15_000  # nano-dollars of the cap, at $15 per million
    plain, marked, unmarked = (amount - output for amount in held)
    assert 0 < plain < unmarked
    assert marked > 1.9 * unmarked


def test_flights_tell_requests_apart(under):
    """Two requests that a checksum takes for one do not share an answer."""
    from tokenguard.inputs.request import fingerprint, identity, snapshot

    one, other = {"input": "plumless"}, {"input": "buckeroo"}  # a known collision of CRC-32
    assert len({fingerprint(snapshot("", "", each)[0], is_plain=True) for each in (one, other)}) == 2
    assert identity(one) != identity(other)


def test_the_order_of_keys_does_not_matter(under):
    """A request is the same in whatever order its keys are: to a flight wholly, to a retry for its arguments."""
    from tokenguard.inputs.request import identity, snapshot

    one = {"model": "m", "messages": [{"role": "user", "content": "x", "meta": {"a": 1, "b": 2}}]}
    other = {"messages": [{"meta": {"b": 2, "a": 1}, "content": "x", "role": "user"}], "model": "m"}
    assert identity(one) == identity(other)
    assert identity({"stop": ["a", "b"]}) != identity({"stop": ["b", "a"]})
    arguments = dict(reversed(one.items()))
    assert snapshot("", "", one) == snapshot("", "", arguments)
