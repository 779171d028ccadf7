"""A call that is put to a policy without being made: the same decisions as of one that is made, and why."""

from __future__ import annotations

import openai
import pytest

import tokenguard
from tokenguard import LimitExceeded, policy
from tokenguard.demo.provider import SimulatedProvider
from tokenguard.guard.trial import Asked, try_call
from tokenguard.policy.doubts import doubts
from tokenguard.prices import PriceBook

POLICY = """
[[route]]
name = "easy"
when = { feature = ["faq", "triage"], model = "gpt-4o*" }
max_input_tokens = 200
max_turns = 1
tools = false
to = "gpt-4.1-mini"
share = 0.5
by = ["tenant"]

[[route]]
name = "json"
schema = true
to = "gpt-4o-mini"

[[limit]]
name = "cap"
when = { model = "gpt-4.1*" }
max_output_tokens = 50
then = "clamp"

[[limit]]
name = "long"
when = { model = "gpt-4o" }
max_input_tokens = 300
then = "downgrade"
downgrade_to = "gpt-4.1-nano"

[[limit]]
name = "agents"
when = { feature = "agent" }
max_output_tokens = 10

[[budget]]
name = "tenant"
per = ["tenant"]
limit_usd = 1
"""
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
CALLS = [
    *(Asked("gpt-4o", input_tokens=20, attribution={"feature": "faq", "tenant": f"t{n}"}) for n in range(6)),
    Asked("gpt-4o", input_tokens=250, attribution={"feature": "faq", "tenant": "t1"}),
    Asked("gpt-4o", input_tokens=400, attribution={"feature": "faq"}),
    Asked("gpt-4o", input_tokens=20, turns=2, attribution={"feature": "triage"}),
    Asked("gpt-4o", input_tokens=20, tools=True, attribution={"feature": "triage"}),
    Asked("gpt-4o", input_tokens=20, schema=True),
    Asked("gpt-4.1", input_tokens=20, output_cap=90),
    Asked("gpt-4o", input_tokens=20, output_cap=11, attribution={"feature": "agent"}),
    Asked("gpt-4o", input_tokens=20, output_cap=10, attribution={"feature": "agent"}),
]


@pytest.fixture(scope="module")
def provider():
    with SimulatedProvider() as provider:
        yield provider


def made(provider, asked):
    """What becomes of the call when it is made: the model and cap that were sent, and the guard's action."""
    provider.requests.clear()
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}] * (asked.turns - 1)
    messages = [*turns, {"role": "user", "content": "word " * (asked.input_tokens - 8 - 8 * len(turns) // 2)}]
    options = {"tools": TOOLS} if asked.tools else {}
    options |= {"response_format": {"type": "json_object"}} if asked.schema else {}
    options |= {"max_completion_tokens": asked.output_cap} if asked.output_cap else {}
    with (
        openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=0) as client,
        tokenguard.attribution(**asked.attribution),
        tokenguard.meter() as m,
    ):
        try:
            client.chat.completions.create(model=asked.model, messages=messages, **options)
        except LimitExceeded:
            return None, None, "block"
    (request,) = provider.requests
    action = m.records[0].attributes.get("tokenguard.guard.action", "allow")
    return request.model, request.body.get("max_completion_tokens"), action


@pytest.mark.parametrize("asked", CALLS)
def test_the_trial_says_what_the_guard_does(asked, installed, provider):
    """Model, output cap and action are those of the call when it is made, through the real SDK."""
    text = '[ledger]\nurl = "memory:"\n' + POLICY
    values = policy.loads(text, "/tokenguard.toml")
    tokenguard.install(values)
    tried = try_call(values, PriceBook(), asked)
    model, cap, action = made(provider, asked)
    assert tried.action == action
    if action != "block":
        assert (tried.model, tried.output_cap) == (model, cap)
    tokenguard.install(policy.Policy())


def test_each_rule_says_why():
    """Every rule of the file has a decision, with its reason."""
    tried = try_call(
        policy.loads(POLICY, "/tokenguard.toml"),
        PriceBook(),
        Asked("gpt-4o", input_tokens=900, tools=True, attribution={"feature": "faq"}),
    )
    assert {one.rule: (one.action, one.why) for one in tried.decisions} == {
        "easy": ("-", "it has tools, and its input is 900 tokens, and the most is 200"),
        "json": ("-", "it has no form of JSON for its answer"),
        "cap": ("-", 'its model is "gpt-4o", not "gpt-4.1*"'),
        "long": (
            "downgrade",
            'goes to gpt-4.1-nano: chat gpt-4o: input tokens 900, and the limit "long" allows 300. '
            "Send less: fewer chunks, a shorter history.",
        ),
        "agents": ("-", 'its feature is "faq", not "agent"'),
        "tenant": ("reserve", "$0.001728 at the most, of $1.00 a day for tenant="),
    }
    assert (tried.action, tried.rule) == ("downgrade", "long")


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ('when = { model = "gpt-4o*" }\nto = "claude-haiku-4-5"', "is a model of anthropic"),
        (
            'when = { provider = "openai" }\nto = "gemini-2.5-flash"',
            "is a model of google, and the rule is for calls to openai",
        ),
        ('when = { provider = "anthropic" }\nto = "claude-haiku-4-5"', ""),
        ('when = { model = "claude-*" }\nto = "claude-haiku-4-5"', ""),
        ('when = { provider = "azure.ai.openai" }\nto = "our-deployment"', ""),
        ('when = { provider = "aws.bedrock" }\nto = "anthropic.claude-haiku-4-5-20251001-v1:0"', ""),
        ('when = { feature = "faq" }\nto = "claude-haiku-4-5"', ""),
    ],
)
def test_models_of_others(rule, says):
    """A model that the price list knows to be another provider's is doubted; what nobody knows is not."""
    found = doubts(policy.loads(f'[[route]]\nname = "r"\n{rule}\n', "/tokenguard.toml"), PriceBook())
    assert bool(found) == bool(says)
    assert says in "".join(found)


def test_downgrades_are_doubted_too():
    """`downgrade_to` of limits and budgets, which providers would answer with 404."""
    text = """
    [[limit]]
    name = "l"
    when = { provider = "openai" }
    max_input_tokens = 1
    then = "downgrade"
    downgrade_to = "claude-haiku-4-5"
    [[budget]]
    name = "b"
    when = { model = "claude-*" }
    limit_usd = 1
    then = "downgrade"
    downgrade_to = "gpt-4o-mini"
    """
    found = doubts(policy.loads(text, "/tokenguard.toml"), PriceBook())
    assert [each.split(":")[0] for each in found] == ['[[limit]] "l"', '[[budget]] "b"']


def test_budgets_of_every_unit():
    """Money, tokens, calls, and what a run of a task may come to: each in its own words."""
    text = """
    [[budget]]
    name = "calls"
    limit_calls = 5
    window = "minute"
    [[budget]]
    name = "run"
    per = ["task_run"]
    limit_usd = 1
    [[budget]]
    name = "both"
    limit_usd = 2
    limit_tokens = 10
    then = "warn"
    [[budget]]
    name = "none"
    limit_calls = 0
    """
    tried = try_call(policy.loads(text, "/tokenguard.toml"), PriceBook(), Asked("gpt-4o", output_cap=100))
    assert [one[2:] for one in tried.decisions] == [
        ("reserve", "1 call of 5 a minute"),
        ("reserve", "$0.003500 at the most, of $1.00 a run"),
        ("warn", "$0.003500 at the most, of $2.00 and 1,100 tokens at the most, of 10 a day"),
        ("block", "1 call of 0 a day"),
    ]
