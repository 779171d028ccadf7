"""Why a prompt was not in the provider's cache: what changed, where, and that nothing is said without reason."""

from __future__ import annotations

import copy
import random
import tracemalloc

import pytest

from tokenguard.facts import names as n
from tokenguard.facts.record import CallRecord
from tokenguard.facts.usage import Usage
from tokenguard.inputs import breaks, chains, known
from tokenguard.inputs.known import BLOCK
from tokenguard.inputs.look import Looker
from tokenguard.inputs.pieces import taken_apart
from tokenguard.inputs.request import snapshot
from tokenguard.prices import PriceBook
from tokenguard.providers import anthropic, bedrock, google, openai

SECOND = 10**9
MINUTE = 60 * SECOND
START = 1_764_000_000 * SECOND
SYSTEM = "".join(
    f"Rule {i}: answer about topic {i * 7919 % 1000} in a calm voice, and name section {i}.\n" for i in range(130)
)
TOOLS = [
    (f"tool_{letter}", " ".join(f"It looks up {letter}{i} in the records." for i in range(14))) for letter in "abcdef"
]
TURNS = [
    ("user" if i % 2 == 0 else "assistant", " ".join(f"Turn {i} says thing {j} of {i * 31 + j}." for j in range(30)))
    for i in range(9)
]
MARK = {"cache_control": {"type": "ephemeral"}}
POINT = {"cachePoint": {"type": "default"}}


def chat(system, tools, turns, model):
    said = [{"role": "system", "content": system}, *({"role": role, "content": text} for role, text in turns)]
    offered = [{"type": "function", "function": {"name": name, "description": text}} for name, text in tools]
    return {"model": model, "messages": said, "tools": offered}


def responses(system, tools, turns, model):
    said = [{"role": role, "content": text} for role, text in turns]
    offered = [{"type": "function", "name": name, "description": text, "parameters": {}} for name, text in tools]
    return {"model": model, "instructions": system, "input": said, "tools": offered}


def messages(system, tools, turns, model):
    said = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns]
    said[-1]["content"][0] |= MARK
    offered = [{"name": name, "description": text, "input_schema": {}} for name, text in tools]
    return {
        "model": model,
        "system": [{"type": "text", "text": system, **MARK}],
        "messages": said,
        "tools": offered,
        "max_tokens": 9,
    }


def gemini(system, tools, turns, model):
    said = [{"role": "model" if role == "assistant" else role, "parts": [{"text": text}]} for role, text in turns]
    offered = [{"functionDeclarations": [{"name": name, "description": text} for name, text in tools]}]
    return {"model": model, "systemInstruction": {"parts": [{"text": system}]}, "contents": said, "tools": offered}


def converse(system, tools, turns, model):
    said = [{"role": role, "content": [{"text": text}]} for role, text in turns]
    said[-1]["content"].append(POINT)
    offered = [{"toolSpec": {"name": name, "description": text}} for name, text in tools]
    return {
        "modelId": model,
        "model": model,
        "system": [{"text": system}, POINT],
        "messages": said,
        "toolConfig": {"tools": offered},
    }


FORMATS = {
    "chat": (openai.CHAT, chat, "openai", "gpt-4o", "gpt-4o-mini", 1),
    "responses": (openai.RESPONSES, responses, "openai", "gpt-4.1", "gpt-4.1-mini", 0),
    "messages": (anthropic.MESSAGES, messages, "anthropic", "claude-sonnet-4-5", "claude-sonnet-4-0", 0),
    "gemini": (google.GENERATE, gemini, "gcp.gemini", "gemini-2.5-pro", "gemini-2.5-flash", 0),
    "converse": (
        bedrock.CONVERSE,
        converse,
        "aws.bedrock",
        "anthropic.claude-sonnet-4-5-20250929-v1:0",
        "amazon.nova-pro-v1:0",
        0,
    ),
}
"""Wire format, how a request looks, provider, two models, and how many messages stand before the first turn."""


class Program:
    """Calls of one program in one wire format, one after the other."""

    def __init__(self, form):
        self.api, self.body, self.provider, self.model, self.other, self.before = FORMATS[form]
        self.looker = Looker()
        self.looker.prices = PriceBook()
        self.now = START

    def call(self, system=SYSTEM, tools=TOOLS, turns=TURNS, *, model=None, read=0, later=MINUTE, change=None, **whose):
        """What is found out about the next call; `read` is what its provider says that it read from its cache."""
        self.now += later
        body = self.body(system, list(tools), list(turns), model or self.model)
        if change is not None:
            change(body)
        chars = len(system) + sum(len(name) + len(text) + 60 for name, text in tools) + sum(len(t) for _, t in turns)
        tokens = chars // 4
        usage = Usage(input=tokens, output=50, cache_read=read, cache_write=0)
        attributes = {
            n.PROVIDER: self.provider,
            n.SERVER_ADDRESS: "api.example",
            n.REQUEST_MODEL: body["model"],
            n.INPUT_TOKENS: tokens,
            n.CACHE_READ_TOKENS: read,
            **{f"tokenguard.{key}": value for key, value in whose.items()},
        }
        cost = self.looker.prices.cost(self.provider, body["model"], usage, at_ns=self.now)
        record = CallRecord(self.now, SECOND, "ok", attributes, usage=usage, cost=cost)
        data, plain = snapshot(self.api.id, self.provider, body)
        assert plain
        self.seen = self.looker.look(record, self.api, data).attributes
        return self.seen.get(n.BREAK_KIND)

    @property
    def place(self):
        return tuple(self.seen.get(key) for key in (n.BREAK_SECTION, n.BREAK_INDEX, n.BREAK_OFFSET))


def near(place, section, number, offset):
    """Whether a break is said to be there, within a block."""
    return place[:2] == (section, number) and place[2] <= offset < place[2] + BLOCK + 64


every_format = pytest.mark.parametrize("form", FORMATS)


@every_format
def test_a_clock_at_the_beginning(form):
    """A system prompt that begins with the time is named at its first character, with what it costs."""
    program = Program(form)
    program.call(f"It is 10:01.\n{SYSTEM}", tools=())
    assert program.call(f"It is 10:02.\n{SYSTEM}", tools=()) == "changed"
    assert near(program.place, "system", 0, 0)
    assert program.seen[n.BREAK_TOKENS] > 0.8 * len(SYSTEM) / 4
    assert program.seen[n.BREAK_USD] > 0


@every_format
def test_a_word_within_the_system_prompt(form):
    """A word that is put into the middle of the system prompt is named within a block."""
    program = Program(form)
    program.call()
    assert program.call(f"{SYSTEM[:5000]}surely {SYSTEM[5000:]}") == "changed"
    assert near(program.place, "system", 0, 5000)


@every_format
def test_tools_in_another_order(form):
    """Tools that come in another order are named at the first of them."""
    program = Program(form)
    program.call()
    assert program.call(tools=TOOLS[::-1]) == "changed"
    assert near(program.place, "tools", 0, 0)


@every_format
def test_a_tool_that_changes(form):
    """A tool whose description changes is named, by its number."""
    program = Program(form)
    program.call()
    changed = [(name, f"As of today. {text}" if name == "tool_c" else text) for name, text in TOOLS]
    assert program.call(tools=changed) == "changed"
    assert near(program.place, "tools", 2, 0)


@every_format
def test_an_old_message_that_changes(form):
    """A message of the history that is rewritten is named, by its number."""
    program = Program(form)
    program.call()
    turns = [(role, f"(edited) {text}" if i == 2 else text) for i, (role, text) in enumerate(TURNS)]
    assert program.call(turns=turns) == "changed"
    assert near(program.place, "messages", program.before + 2, 0)


@every_format
def test_a_history_that_is_cut(form):
    """A history without its oldest turns says that it was shortened, and from where on."""
    program = Program(form)
    program.call()
    assert program.call(turns=TURNS[2:]) == "shortened"
    assert near(program.place, "messages", program.before, 0)


@every_format
def test_another_model(form):
    """The same prompt to another model has nothing in that model's cache."""
    program = Program(form)
    program.call()
    assert program.call(model=program.other) == "model"
    assert program.call(model=program.other, read=len(SYSTEM)) is None, "from then on the other model has it, too"


@every_format
def test_a_prompt_that_expired(form):
    """A prompt that comes again after its lifetime, and within an hour, would have been there for an hour's."""
    program = Program(form)
    program.call()
    assert program.call(later=40 * MINUTE) == "expired"
    assert program.seen[n.BREAK_USD] > 0
    assert program.call(later=3 * 60 * MINUTE) is None, "no lifetime would have held it"


@every_format
def test_a_young_prompt_that_is_cold(form):
    """The same prompt, young, and not in the cache: not marked where marks are wanted, else nobody can know."""
    program = Program(form)

    def unmark(body):
        for block in (*body.get("system", ()), *body["messages"][-1]["content"]):
            block.pop("cache_control", None)
        for blocks in (body.get("system"), body["messages"][-1]["content"]):
            blocks[:] = [block for block in blocks if block != POINT]

    change = unmark if program.api.marks_cache else None
    program.call(change=change)
    assert program.call(change=change) == ("unmarked" if program.api.marks_cache else "provider")


@every_format
def test_nothing_is_broken(form):
    """One more turn, another question, a first prompt, a warm cache, a call in flight: no break."""
    program = Program(form)
    assert program.call(turns=TURNS[:5]) is None, "the first"
    assert program.call(turns=TURNS[:7], read=4600) is None, "one more turn"
    assert program.call(turns=[("user", "Another question altogether.")], read=4400) is None
    program = Program(form)
    program.call()
    assert program.call(later=0) is None, "the earlier one had not ended"


@every_format
def test_prompts_that_take_turns(form):
    """Several prompts under one key, each of them warm or cold for its own reasons, do not look like breaks."""
    program = Program(form)
    prompts = [SYSTEM.replace("topic", word).replace("calm", f"{word} or so") for word in ("tea", "rain", "iron")]
    for _ in range(4):
        for prompt in prompts:
            assert program.call(prompt, tools=(), turns=[("user", "Yes?")], read=len(prompt) // 4) is None


def test_a_break_is_of_one_tenant():
    """What another tenant, feature or prompt version sent is no reason to expect anything."""
    program = Program("chat")
    program.call(tenant="a", prompt_version="1")
    assert program.call(tenant="b", prompt_version="1") is None
    assert program.call(tenant="a", prompt_version="2") is None
    assert program.call(tenant="a", prompt_version="1") == "provider"


def test_short_and_unknown():
    """Prompts that are too short to be cached, and providers that do not tell, are left alone."""
    program = Program("chat")
    program.call("Be brief.", tools=(), turns=TURNS[:1])
    assert program.call("Be brief!", tools=(), turns=TURNS[:1]) is None
    record = CallRecord(START, SECOND, "ok", {n.INPUT_TOKENS: 5000})
    data, _ = snapshot("chat", "openai", chat(SYSTEM, TOOLS, TURNS, "gpt-4o"))
    looker = Looker()
    for _ in range(2):
        assert n.BREAK_KIND not in looker.look(record, openai.CHAT, data).attributes


def test_nothing_of_a_prompt_is_kept():
    """What is remembered is checksums: no text of a request is reachable from it."""
    program = Program("messages")
    program.call("The secret word is xylophone. " + SYSTEM)
    import pickle

    its = program.looker
    kept = [
        its._chains._by_key,
        its._known.young,
        its._known.old,
        [(key, begun.digests) for key, begun in its._known._begun.items()],
        its._told,
        dict(program.seen),
    ]
    assert b"xylophone" not in pickle.dumps(kept)


@pytest.mark.parametrize("seed", range(40))
def test_what_is_not_looked_through_tells_nothing(monkeypatch, seed):
    """Where what differs is worth nothing, no other likeness is looked for: the break that is told is the same."""
    rng = random.Random(seed)
    lines = [f"{rng.random()} lorem ipsum dolor sit amet\n" for _ in range(rng.choice((60, 400, 2_000)))]

    def made(at, start, length):
        some = lines[:start] + rng.sample(lines, rng.randrange(length + 1)) + lines[start:]
        body = chat("".join(some[rng.choice((0, 0, 0, 3)) :]), (), TURNS[: rng.randint(1, len(TURNS))], "gpt-4o")
        request = taken_apart(body, known.Known())
        return chains.Chain(request, "gpt-4o", 1, START + at * 10**9, START + at * 10**9 + 1)

    earlier = [made(n, rng.randrange(len(lines)), 30) for n in range(rng.randint(1, 8))]
    new = made(20, rng.randrange(len(lines)), 30)
    for tokens in (1_100, new.chars // 4, new.chars):
        for read in (0, tokens // 2, tokens):
            told = breaks.find(new, earlier, tokens, read, marks=False)
            with monkeypatch.context() as patch:
                patch.setattr(breaks, "_may_differ", lambda *_: True)
                assert breaks.find(new, earlier, tokens, read, marks=False) == told


def test_memory_is_bounded(monkeypatch):
    """However many tenants and prompts there are, what is remembered stays within its bounds."""
    monkeypatch.setattr(chains, "MAX_CHAINS", 64)
    monkeypatch.setattr(known, "MOST", 4096)
    looker = Looker()
    body = chat("".join(f"{i} lorem ipsum\n" for i in range(60)), (), TURNS[:1], "gpt-4o")

    def calls(first, last):
        for i in range(first, last):
            body["messages"][1]["content"] = f"Question {i}"
            facts = {n.INPUT_TOKENS: 500, n.CACHE_READ_TOKENS: 0, "tokenguard.tenant": str(i)}
            looker.look(CallRecord(START + i, 1, "ok", facts), openai.CHAT, snapshot("chat", "openai", body)[0])

    calls(0, 200)
    tracemalloc.start()
    calls(200, 300)
    before, _ = tracemalloc.get_traced_memory()
    calls(300, 2_000)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    kept = [chain for key in looker._chains._by_key.values() for chain in key]
    assert looker._chains._chains == len(kept) <= 64
    assert looker._chains._blocks == sum(chain.weight for chain in kept)
    weights = [sum(its[-1] for its in some.values()) for some in (looker._known.young, looker._known.old)]
    assert looker._known.weight == weights[0]
    assert 0 < sum(weights) <= 4096 + 64, "and what made it too much"
    assert after < before * 1.2 + 2_000 * 64  # Python itself keeps as many tuples of a size that were let go of


def test_the_request_is_not_changed():
    """Looking changes nothing of the request."""
    body = messages(SYSTEM, TOOLS, TURNS, "claude-sonnet-4-5")
    before = copy.deepcopy(body)
    data, _ = snapshot("messages", "anthropic", body)
    Looker().look(CallRecord(START, 1, "ok", {n.INPUT_TOKENS: 9000, n.CACHE_READ_TOKENS: 0}), anthropic.MESSAGES, data)
    assert body == before
