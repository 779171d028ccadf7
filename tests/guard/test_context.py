"""Ceilings on the parts of the input, and what shortens a history, through real SDKs over HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
from itertools import pairwise

import anthropic
import httpx2
import openai
import pytest

import tokenguard
from tokenguard import LimitExceeded, policy
from tokenguard.tokens import count_text

WORDS = "alpha beta gamma delta " * 25
"""Some 100 tokens."""


def said(role, text=WORDS):
    return {"role": role, "content": text}


def call(n, text="{}"):
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": text}}],
    }


def result(n, text="a plan"):
    return {"role": "tool", "tool_call_id": f"c{n}", "content": text}


TOOL = {"type": "function", "function": {"name": "f", "description": WORDS, "parameters": {"type": "object"}}}


@pytest.fixture
def claude(provider):
    with anthropic.Anthropic(api_key="k", base_url=provider.url, max_retries=0) as client:
        yield client


@pytest.fixture
def under(under):
    return lambda rows, then="block": under(f'[[limit]]\nname = "l"\nthen = "{then}"\n{rows}\n')


def chat(client, *messages, model="gpt-4o", **options):
    return client.chat.completions.create(model=model, messages=list(messages), max_tokens=9, **options)


# --- ceilings ---------------------------------------------------------------------------------------------------------

SHORT, ASKED = "hello", said("user", "And now?")
PARTS = [
    ("max_system_tokens", "tokens of the system prompt", [said("system"), ASKED], {}),
    ("max_tools_tokens", "tokens of tools", [ASKED], {"tools": [TOOL]}),
    ("max_history_tokens", "tokens of history", [said("user"), said("assistant", "yes"), ASKED], {}),
    ("max_tool_result_tokens", "tokens of a tool result", [ASKED, call(1), result(1, WORDS)], {}),
]


@pytest.mark.parametrize(("field", "words", "messages", "options"), PARTS)
def test_a_part_that_is_too_long(field, words, messages, options, under, client, provider, spans):
    """Each ceiling looks at its part alone: it refuses what is above, says how much, and lets pass what is below."""
    under(f"{field} = 40")
    with pytest.raises(LimitExceeded, match=words) as caught:
        chat(client, *messages, **options)
    assert provider.requests == []
    assert 40 < caught.value.observed < 160
    under(f"{field} = 200")
    chat(client, *messages, **options)
    others = [other for other, *_ in PARTS if other != field]
    under("\n".join(f"{other} = 40" for other in others))
    chat(client, *messages, **options)
    assert len(provider.requests) == 2


@pytest.mark.parametrize(("field", "words", "messages", "options"), PARTS)
def test_a_warning(field, words, messages, options, under, client, provider, spans, caplog):
    """With `warn` the call goes out, and log and span say so."""
    under(f"{field} = 40", "warn")
    with caplog.at_level(logging.WARNING):
        chat(client, *messages, **options)
    assert words in caplog.text
    assert spans.attributes["tokenguard.guard.action"] == "warn"
    assert len(provider.requests) == 1


def test_one_result_is_looked_at_by_itself(under, client, provider):
    """Several small tool results are not one large one."""
    under("max_tool_result_tokens = 120")
    results = [each for n in range(5) for each in (call(n), result(n, WORDS))]
    chat(client, ASKED, *results)
    with pytest.raises(LimitExceeded):
        chat(client, ASKED, *results, call(9), result(9, WORDS * 2))


def test_other_wire_formats(under, client, claude, provider):
    """Anthropic's and the Responses API's parts are found where they stand."""
    under("max_system_tokens = 40")
    with pytest.raises(LimitExceeded, match="system prompt"):
        claude.messages.create(model="claude-haiku-4-5", max_tokens=9, system=WORDS, messages=[ASKED])
    with pytest.raises(LimitExceeded, match="system prompt"):
        client.responses.create(model="gpt-4o", instructions=WORDS, input="hello")
    under("max_history_tokens = 40")
    with pytest.raises(LimitExceeded, match="history"):
        client.responses.create(model="gpt-4o", input=[said("user"), said("assistant"), ASKED])
    assert provider.requests == []


def test_short_requests_are_not_taken_apart(under, client, monkeypatch):
    """What is shorter in bytes than every ceiling is not looked into."""
    from tokenguard.guard import context

    monkeypatch.setattr(context, "taken_apart", lambda body: pytest.fail("taken apart"))
    under("max_system_tokens = 500\nmax_history_tokens = 800")
    chat(client, said("system", "Be brief."), ASKED)


# --- trim -------------------------------------------------------------------------------------------------------------


def turn(n, tools=False):
    middle = [call(n), result(n)] if tools else []
    return [said("user", f"question {n}: {WORDS}"), *middle, said("assistant", f"answer {n}: {WORDS}")]


def test_trim_leaves_out_the_oldest_turns(under, client, provider, spans):
    """Whole turns go, tool calls with their results; the system prompt and the last turn stay."""
    under("max_history_tokens = 500", "trim")
    messages = [said("system", "Be brief."), *turn(1, tools=True), *turn(2), *turn(3), ASKED]
    chat(client, *messages)
    (request,) = provider.requests
    assert request.body["messages"] == [messages[0], *turn(3), ASKED]
    assert spans.attributes["tokenguard.guard.trimmed_turns"] == 2
    assert spans.attributes["tokenguard.guard.action"] == "trim"
    assert messages[1] == turn(1)[0]  # the caller's own list is as it was


def test_trim_within_the_ceiling(under, client, provider, spans):
    """What is short enough goes out as it is."""
    under("max_history_tokens = 700", "trim")
    chat(client, *turn(1), *turn(2), ASKED)
    assert len(provider.requests[0].body["messages"]) == 5
    assert "tokenguard.guard.action" not in spans.attributes


def test_trim_goes_in_steps(under, client, provider):
    """A conversation that grows begins the same for several calls, and is not cut a little further at each."""
    under("max_history_tokens = 1200", "trim")
    begins = []
    messages = []
    for n in range(1, 17):
        messages += turn(n)
        chat(client, *messages, ASKED)
        sent = provider.requests[-1].body["messages"]
        begins.append(sent[0]["content"][:12])
        assert sum(count_text(each["content"], "gpt-4o") for each in sent[:-1]) <= 1200
    assert begins[:5] == ["question 1: "] * 5
    assert len(set(begins)) <= 6
    assert sum(a != b for a, b in pairwise(begins)) == len(set(begins)) - 1


def test_trim_of_anthropics_tool_results(under, claude, provider):
    """Results that come in a message of the user's are no turn of their own."""
    under("max_history_tokens = 350", "trim")
    used = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]}
    given = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "a plan"}]}
    messages = [said("user"), said("assistant"), said("user"), used, given, said("assistant"), ASKED]
    claude.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=messages)
    assert provider.requests[0].body["messages"] == messages[2:]


def test_trim_random_conversations(under, client, provider):
    """Whatever the conversation: calls keep their results, system and last turn stay, and nothing is reordered."""
    under("max_history_tokens = 300", "trim")
    chance = random.Random(7)
    for _ in range(40):
        messages, n = [said("system", "Be brief.")], 0
        for k in range(chance.randint(1, 8)):
            messages.append(said("user", f"{k} " + "words " * chance.randint(1, 150)))
            for _ in range(chance.randint(0, 2)):
                n += 1
                messages += [call(n), result(n, "x " * chance.randint(1, 90))]
            messages.append(said("assistant", f"{k} " + "words " * chance.randint(1, 150)))
        last = [ASKED, *([call(99), result(99)] if chance.random() < 0.5 else [])]
        messages += last
        chat(client, *messages)
        sent = provider.requests[-1].body["messages"]
        assert sent[0] == messages[0]
        assert sent[-len(last) :] == last
        assert sent == [each for each in messages if each in sent]
        made = [each["tool_calls"][0]["id"] for each in sent if each.get("tool_calls")]
        assert made == [each["tool_call_id"] for each in sent if each["role"] == "tool"]
        if len(sent) > 1 + len(last):
            assert sent[1]["role"] == "user"


CALLS = {
    "chat": (lambda n: [call(n)], lambda n, text: [result(n, text)]),
    "responses": (
        lambda n: [
            {"type": "reasoning", "id": f"r{n}", "summary": [], "encrypted_content": "x"},
            {"type": "function_call", "call_id": f"c{n}", "name": "f", "arguments": "{}"},
        ],
        lambda n, text: [{"type": "function_call_output", "call_id": f"c{n}", "output": text}],
    ),
    "messages": (
        lambda n: [{"role": "assistant", "content": [{"type": "tool_use", "id": f"c{n}", "name": "f", "input": {}}]}],
        lambda n, text: [
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": f"c{n}", "content": text}]}
        ],
    ),
}
"""How each format says that a tool is called, and what came of it; the calls have ids."""
ID, GIVEN = re.compile(r'"(?:id|call_id)": "(c\d+)"'), re.compile(r'"(?:tool_call_id|tool_use_id|call_id)": "(c\d+)"')


@pytest.mark.parametrize("api", CALLS)
def test_tool_calls_keep_their_results(api, under, client, claude, provider):
    """Of random conversations: a result never goes without its call, nor a call without its result."""
    under("max_history_tokens = 250", "trim")
    calls, gives = CALLS[api]
    chance, trimmed = random.Random(11), 0
    for _ in range(25):
        messages, n = [], 0
        for k in range(chance.randint(2, 7)):
            messages.append(said("user", f"{k} " + "words " * chance.randint(1, 120)))
            for _ in range(chance.randint(0, 3)):
                n += 1
                messages += [*calls(n), *gives(n, "x " * chance.randint(1, 60))]
            messages.append(said("assistant", f"{k} " + "words " * chance.randint(1, 120)))
        messages.append(ASKED)
        if chance.random() < 0.5:
            messages += [*calls(99), *gives(99, "the last")]
        if api == "chat":
            chat(client, *messages)
        elif api == "responses":
            client.responses.create(model="gpt-4o", input=messages, max_output_tokens=20)
        else:
            claude.messages.create(model="claude-haiku-4-5", messages=messages, max_tokens=9)
        sent = provider.requests[-1].body["input" if api == "responses" else "messages"]
        assert sent == messages[len(messages) - len(sent) :]
        text = json.dumps([each for each in sent if each.get("type") != "function_call_output"])
        given = json.dumps([each for each in sent if each.get("type") != "function_call"])
        assert ID.findall(text) == GIVEN.findall(given)
        assert sent[0]["role"] == "user"
        trimmed += len(sent) < len(messages)
    assert trimmed > 10


def test_what_is_cached_is_not_trimmed(under, client, provider, spans, caplog):
    """A conversation that the provider reads from its cache goes out whole: shorter it would cost more."""
    under("max_history_tokens = 3000", "trim")
    long = WORDS * 14
    messages = [said("user", long), said("assistant", "yes"), said("user", long), said("assistant", "yes")]
    for _ in range(2):
        chat(client, *messages[:2], ASKED)
    assert spans.all()[-1].attributes["gen_ai.usage.cache_read.input_tokens"] > 1000
    with caplog.at_level(logging.WARNING):
        chat(client, *messages, said("user", long), said("assistant", "yes"), ASKED)
    assert len(provider.requests[-1].body["messages"]) == 7
    assert "reads this conversation from its cache" in caplog.text
    assert spans.all()[-1].attributes["tokenguard.guard.action"] == "warn"


def test_what_is_marked_is_not_trimmed(under, claude, provider, spans):
    """A request that marks its prompt for Anthropic's cache goes out whole."""
    under("max_history_tokens = 50", "trim")
    marked = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    claude.messages.create(
        model="claude-haiku-4-5", max_tokens=9, system=marked, messages=[said("user"), said("assistant"), ASKED]
    )
    assert len(provider.requests[0].body["messages"]) == 3
    assert spans.attributes["tokenguard.guard.action"] == "warn"


def test_observe_trims_nothing(under, client, provider, spans):
    """In observe mode it is said what would have been done."""
    text = 'mode = "observe"\n[[limit]]\nname = "l"\nthen = "trim"\nmax_history_tokens = 150\n'
    tokenguard.install(policy.loads(text, "/tokenguard.toml"))
    chat(client, *turn(1), ASKED)
    assert len(provider.requests[0].body["messages"]) == 3
    assert spans.attributes["tokenguard.guard.action"] == "trim"
    tokenguard.install(policy.Policy())


# --- the provider's own -----------------------------------------------------------------------------------------------


def test_the_responses_apis_truncation(under, client, provider, spans):
    """Past the ceiling the provider is asked to drop what is oldest; below it, nothing is asked."""
    under("max_history_tokens = 100", "provider")
    client.responses.create(model="gpt-4o", input=[said("user"), said("assistant"), ASKED])
    client.responses.create(model="gpt-4o", input=[said("user", SHORT), said("assistant", SHORT), ASKED])
    first, second = (request.body for request in provider.requests)
    assert first["truncation"] == "auto"
    assert "truncation" not in second
    assert [span.attributes.get("tokenguard.guard.action") for span in spans] == ["provider", None]


def test_anthropics_context_management(under, provider):
    """Anthropic gets the edit with the ceiling as its trigger, and the beta header beside those of the caller."""
    under("max_history_tokens = 100", "provider")
    headers = []
    client = anthropic.Anthropic(
        api_key="k",
        base_url=provider.url,
        http_client=httpx2.Client(event_hooks={"request": [lambda request: headers.append(request.headers)]}),
    )
    client.messages.create(
        model="claude-haiku-4-5",
        max_tokens=9,
        messages=[said("user"), said("assistant"), ASKED],
        extra_headers={"anthropic-beta": "mine"},
    )
    client.close()
    (edit,) = provider.requests[0].body["context_management"]["edits"]
    assert edit == {"type": "clear_tool_uses_20250919", "trigger": {"type": "input_tokens", "value": 100}}
    assert headers[0]["anthropic-beta"] == "mine,context-management-2025-06-27"


LONG = [said("user"), said("assistant"), ASKED]


@pytest.mark.parametrize("way", ["stream", "raw", "parse", "async", "own"])
def test_truncation_however_it_is_asked(way, under, client, provider, spans):
    """Each way of asking sends the setting; one of the caller's own stays."""
    under("max_history_tokens = 100", "provider")
    given = {"model": "gpt-4o", "input": LONG}
    if way == "stream":
        list(client.responses.create(**given, stream=True))
    elif way == "raw":
        client.responses.with_raw_response.create(**given).parse()
    elif way == "parse":
        client.responses.parse(**given)
    elif way == "own":
        client.responses.create(**given, truncation="disabled")
    else:

        async def waited():
            async with openai.AsyncOpenAI(api_key="k", base_url=provider.openai_url) as own:
                await own.responses.create(**given)

        asyncio.run(waited())
    assert provider.requests[0].body["truncation"] == ("disabled" if way == "own" else "auto")
    assert spans.attributes.get("tokenguard.guard.action") == ("warn" if way == "own" else "provider")


@pytest.mark.parametrize("way", ["stream", "helper", "raw", "beta", "async", "own"])
def test_context_management_however_it_is_asked(way, under, provider, spans):
    """Each way of asking sends the edit, and the header with the caller's own; an edit of the caller's own stays."""
    under("max_history_tokens = 100", "provider")
    headers = []
    given = {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": LONG}
    own = {"edits": [{"type": "clear_tool_uses_20250919"}]}

    def hear(request):
        headers.append(request.headers)

    async def hear_async(request):
        hear(request)

    async def waited():
        http = httpx2.AsyncClient(event_hooks={"request": [hear_async]})
        async with anthropic.AsyncAnthropic(api_key="k", base_url=provider.url, http_client=http) as client:
            await client.messages.create(**given)

    http = httpx2.Client(event_hooks={"request": [hear]})
    with anthropic.Anthropic(api_key="k", base_url=provider.url, http_client=http) as client:
        if way == "stream":
            list(client.messages.create(**given, stream=True))
        elif way == "helper":
            with client.messages.stream(**given) as stream:
                stream.until_done()
        elif way == "raw":
            client.messages.with_raw_response.create(**given).parse()
        elif way == "beta":
            client.beta.messages.create(**given, betas=["mine"])
        elif way == "own":
            client.beta.messages.create(**given, context_management=own, betas=["context-management-2025-06-27"])
        else:
            asyncio.run(waited())
    (request,) = provider.requests
    if way == "own":
        assert request.body["context_management"] == own
        assert headers[0]["anthropic-beta"] == "context-management-2025-06-27"
    else:
        (edit,) = request.body["context_management"]["edits"]
        assert edit["trigger"] == {"type": "input_tokens", "value": 100}
        assert headers[0]["anthropic-beta"] == ("mine," if way == "beta" else "") + "context-management-2025-06-27"
        assert spans.attributes["tokenguard.guard.action"] == "provider"


def test_what_has_no_such_setting(under, client, provider, spans):
    """Where the wire format has none, the call goes out as it is, with a warning."""
    under("max_history_tokens = 100", "provider")
    chat(client, *turn(1), ASKED)
    assert len(provider.requests[0].body["messages"]) == 3
    assert spans.attributes["tokenguard.guard.action"] == "warn"


def test_a_host_that_nobody_knows(under, caplog):
    """Whose setting it would be is not known there: the warning says where to say it."""
    under("max_history_tokens = 100", "provider")
    answers = httpx2.MockTransport(lambda request: httpx2.Response(200, json={"object": "response", "output": []}))
    with (
        httpx2.Client(transport=answers) as http,
        openai.OpenAI(api_key="k", base_url="https://llm.corp.test/v1", http_client=http) as client,
    ):
        client.responses.create(model="gpt-4o-mini", input=[*turn(1), ASKED])
    assert "llm.corp.test is a host that nobody knows; say whose it is under [hosts]" in caplog.text


def test_a_setting_that_is_refused(under, client, provider, spans):
    """A host that does not know the setting costs one request, once."""
    under("max_history_tokens = 100", "provider")
    provider.refuse_next("truncation")
    for _ in range(2):
        client.responses.create(model="gpt-4o", input=[said("user"), said("assistant"), ASKED])
    assert ["truncation" in request.body for request in provider.requests] == [True, False, False]
    assert [span.attributes["tokenguard.guard.action"] for span in spans] == ["warn", "warn"]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ('max_input_tokens = 5\nthen = "trim"', "needs max_history_tokens"),
        ('max_output_tokens = 5\nthen = "provider"', "is for a long context"),
    ],
)
def test_what_cannot_be_meant(rows, says):
    """Errors of the policy say what is missing."""
    with pytest.raises(tokenguard.PolicyError, match=says):
        policy.loads(f'[[limit]]\nname = "l"\n{rows}\n', "/tokenguard.toml")


# --- over the wires ---------------------------------------------------------------------------------------------------

WIRES = {
    "gemini": (
        "contents",
        lambda who, words: {"role": "model" if who == "assistant" else who, "parts": [{"text": words}]},
        {
            "max_system_tokens": {"systemInstruction": {"parts": [{"text": WORDS}]}},
            "max_tools_tokens": {"tools": [{"functionDeclarations": [{"name": "f", "description": WORDS}]}]},
        },
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"result": WORDS}}}]},
    ),
    "converse": (
        "messages",
        lambda who, words: {"role": who, "content": [{"text": words}]},
        {
            "max_system_tokens": {"system": [{"text": WORDS}]},
            "max_tools_tokens": {
                "toolConfig": {
                    "tools": [{"toolSpec": {"name": "f", "description": WORDS, "inputSchema": {"json": {}}}}]
                }
            },
        },
        {"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content": [{"text": WORDS}]}}]},
    ),
}
"""How a wire says what the SDKs above say: where turns are, one of them, its parts, and a tool's result."""


@pytest.fixture(params=WIRES)
def wire(request, provider):
    """Sends a request in this wire format, by its own SDK: `ask(turns, more)`; and how it says things."""
    key, turn_of, parts, told = WIRES[request.param]
    if request.param == "gemini":
        genai = pytest.importorskip("google.genai")
        with genai.Client(api_key="k", http_options={"base_url": provider.url}) as client:

            def ask(turns, more=None):
                names = {"systemInstruction": "system_instruction"}
                config = {names.get(name, name): value for name, value in (more or {}).items()}
                return client.models.generate_content(model="gemini-2.5-flash", contents=turns, config=config)

            yield ask, key, turn_of, parts, told
        return
    boto3 = pytest.importorskip("boto3")
    given = {"region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "s"}
    client = boto3.client("bedrock-runtime", endpoint_url=provider.url, **given)
    model = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
    yield (
        lambda turns, more=None: client.converse(modelId=model, messages=turns, **(more or {})),
        key,
        turn_of,
        parts,
        told,
    )
    client.close()


@pytest.mark.parametrize("field", [field for field, *_ in PARTS])
def test_parts_of_google_and_bedrock(field, wire, under, provider):
    """Every part is found where these formats have it, and bounded by itself."""
    ask, _, turn_of, parts, told = wire
    under(f"{field} = 40")
    asked = turn_of("user", "And now?")
    turns = {
        "max_history_tokens": [turn_of("user", WORDS), turn_of("assistant", "yes"), asked],
        "max_tool_result_tokens": [asked, told],
    }
    with pytest.raises(LimitExceeded, match="tokens of"):
        ask(turns.get(field, [asked]), parts.get(field))
    assert provider.requests == []
    others = [name for name in parts if name != field]
    for name in others:
        ask([asked], parts[name])
    assert len(provider.requests) == len(others)


def test_trim_of_google_and_bedrock(wire, under, provider, spans):
    """Whole turns go from the oldest, tool results with them; the last turn stays, and the caller's list as it was."""
    ask, key, turn_of, _, told = wire
    under("max_history_tokens = 250", "trim")
    old = [turn_of("user", WORDS), turn_of("assistant", WORDS), told, turn_of("assistant", WORDS)]
    last = [turn_of("user", "short"), turn_of("assistant", "yes"), turn_of("user", "And now?")]
    turns = [*old, *last]
    ask(turns)
    (request,) = provider.requests
    assert request.body[key] == last
    assert spans.attributes["tokenguard.guard.trimmed_turns"] == 1
    assert turns == [*old, *last]


def test_no_setting_of_google_and_bedrock(wire, under, provider, spans):
    """What has no setting of its own for long contexts goes out as it was, with a warning."""
    ask, key, turn_of, _, _ = wire
    under("max_history_tokens = 40", "provider")
    turns = [turn_of("user", WORDS), turn_of("assistant", WORDS), turn_of("user", "And now?")]
    ask(turns)
    assert provider.requests[0].body[key] == turns
    assert spans.attributes["tokenguard.guard.action"] == "warn"
