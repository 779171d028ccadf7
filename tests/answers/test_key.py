"""The key of an answer: equal for what is the same, and for nothing else."""

from __future__ import annotations

import copy
import enum
import marshal
import random
import types
from types import SimpleNamespace

import pytest

from tokenguard.answers.fitting import refers
from tokenguard.answers.key import canonical, counted, hashing
from tokenguard.answers.key import key as key_of
from tokenguard.answers.whose import headers_that_count
from tokenguard.answers.words import content_words
from tokenguard.call.call import AskedBy
from tokenguard.policy import Cache
from tokenguard.providers import every_api
from tokenguard.providers.hosts import Endpoint
from tokenguard.providers.openai import CHAT

SECRET = b"s" * 32
BODY = {
    "model": "gpt-4o-mini",
    "messages": [
        {"role": "system", "content": "You answer for a shop."},
        {"role": "user", "content": [{"type": "text", "text": "What is the refund policy of 2025?"}]},
    ],
    "temperature": 0,
    "max_tokens": 300,
    "stop": ["\n\n", "END"],
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": {"a": None}}},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
    "logit_bias": {"50256": -100},
    "seed": 7,
    "top_p": 1.0,
}


RULE = Cache("rule")
BY = AskedBy("https://h/v1/chat/completions")


def keyed(body=BODY, api=CHAT, *, by=BY, whose="tenant=t", host="h", **more):
    at = Endpoint("openai", host, 443)
    call = SimpleNamespace(api=api, request=body, endpoint=at, stream=False, attribution={}, **more)
    return key_of(hashing(SECRET, call, by, whose, RULE)[0], counted(call, body).data)


def places(node, path=()):
    """Every place in a body, with how to get there."""
    yield path
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in inside:
        yield from places(child, (*path, key))


def changed(body, path, chance):
    """The body with another value at one place, or without it, or with one more."""
    body = copy.deepcopy(body)
    holder = body
    for key in path[:-1]:
        holder = holder[key]
    old = holder[path[-1]]
    kind = chance.randrange(4)
    if kind == 0 and isinstance(old, str):
        holder[path[-1]] = old + chance.choice([" ", "x", "é", "\u200b", "7"])
    elif kind == 1 and isinstance(old, int | float) and not isinstance(old, bool):
        holder[path[-1]] = old + chance.choice([1, -1, 0.5, 1e-9])
    elif kind == 2 and isinstance(holder, dict):
        holder[f"new{chance.randrange(1000)}"] = old
    elif kind == 3:
        del holder[path[-1]]
    else:
        holder[path[-1]] = [old]
    return body


def test_ten_thousand_pairs():
    """Bodies that differ in one field, whatever it is and wherever, share no key."""
    chance = random.Random(7)
    everywhere = [path for path in places(BODY) if path]
    known = {keyed(): BODY}
    for _ in range(10_000):
        body = changed(BODY, chance.choice(everywhere), chance)
        key = keyed(body)
        assert known.setdefault(key, body) == body
        assert canonical(known[key]) == canonical(body)


@pytest.mark.parametrize("api", every_api(), ids=lambda api: api.id)
def test_every_wire(api):
    """In every wire format a field counts, unless its row leaves it out."""
    for name in ("model", "messages", "input", "temperature", "anything_new", *api.left_out):
        same = keyed({"a": 1}, api) == keyed({"a": 1, name: "x"}, api)
        assert same == (name in api.left_out), name


def test_what_does_not_count():
    """The order of keys, the point of a whole number, marks for the cache, who asks, tracing, an SDK's own headers."""
    assert keyed(dict(reversed(BODY.items()))) == keyed()
    assert keyed({**BODY, "stream": False}) == keyed()
    marked = copy.deepcopy(BODY)
    marked["messages"][1]["content"][0]["cache_control"] = {"type": "ephemeral"}
    assert keyed(marked) == keyed()
    mark = {"cachePoint": {"type": "default"}}
    assert keyed({"content": [{"text": "a"}, mark]}) == keyed({"content": [{"text": "a"}]})
    assert keyed({"temperature": 0.0, "n": [{"x": -2.0}]}) == keyed({"temperature": 0, "n": [{"x": -2}]})
    assert keyed({"temperature": 1e30}) == keyed({"temperature": int(1e30)})
    assert keyed({"content": ":1.0,", "temperature": 0.5}) != keyed({"content": ":1,", "temperature": 0.5})
    assert keyed({"content": 'say "cache_control": now'}) != keyed({"content": "say now"})
    assert keyed({**BODY, "user": "u", "metadata": {"a": "b"}}) == keyed()
    assert headers_that_count({"Traceparent": "1", b"X-Stainless-Lang": b"python", "X-Tenant": "a"}) == {
        "x-tenant": "a"
    }


def test_what_else_counts():
    """Whose call it is, where it goes, by which credential, with which headers; a number is no text."""
    url = "https://h/v1/chat/completions"
    others = [
        keyed(),
        keyed(whose="tenant=u"),
        keyed(host="i"),
        keyed(by=AskedBy("https://h/v2/chat/completions")),
        keyed(by=AskedBy(url, [{"authorization": "Bearer a"}])),
        keyed(by=AskedBy(url, [{"authorization": "Bearer b"}])),
        keyed(by=AskedBy(url, [], {"organization": "o"})),
        keyed({**BODY, "seed": "7"}),
        keyed({**BODY, "store": True}),  # its id is good for more
        keyed({**BODY, "image": b"\x00\x01"}),
        keyed({**BODY, "image": "AAE="}),
        keyed(api=every_api()[4]),
    ]
    assert len(set(others)) == len(others)
    assert keyed(by=AskedBy(url, [{"a": "1"}, None, {"b": "2"}])) == keyed(by=AskedBy(url, [{"B": "2", "A": "1"}]))


class Word(enum.StrEnum):
    """As many applications have theirs."""

    USER = "user"


def test_kinds_of_one_value():
    """What is sent as the same JSON is the same: an enum's text, a tuple, a number of numpy's, a mapping."""

    class Real(float):
        """As numpy's are."""

    said = {"role": "user", "content": ["a", 0.5]}
    same = [
        {"role": Word.USER, "content": ("a", 0.5)},
        {"role": "user", "content": ["a", Real(0.5)]},
        types.MappingProxyType(said),
        {Word("user") if key == "user" else key: value for key, value in said.items()},
    ]
    assert {keyed({"messages": [each]}) for each in same} == {keyed({"messages": [said]})}
    assert keyed({"a": True}) != keyed({"a": 1})
    assert keyed({"a": "\ud800"}) != keyed({"a": "?"})
    assert keyed({"a": 2**70}) != keyed({"a": 2**70 + 1})


def test_what_could_pass_for_another_form():
    """A mapping is not the list of its values, nor of its keys and values, whatever stands in them."""
    one = keyed({"a": {"b": "c", "d": 1}})
    name = marshal.dumps(["b", "d"], 2)
    others = [
        {"a": {"b": 1, "d": "c"}},
        {"a": {"b": "c", "d": 1, "e": None}},
        {"a": ["c", 1]},
        {"a": [name, ["c", 1]]},
        {"a": [name, "c", 1]},
        {"a": {"bd": ["c", 1]}},
        {"a": {"b": {"c": 1}, "d": 1}},
        {"b": {"a": "c", "d": 1}},
        {"a": [{"b": "c"}, {"d": 1}]},
    ]
    keys = [one, *map(keyed, others)]
    assert len(set(keys)) == len(keys)
    assert keyed({"a": {}}) != keyed({"a": []}) != keyed({"a": None}) != keyed({})


def test_keys_that_are_no_texts():
    """JSON has no other keys: they count as the texts that are sent, and those that Python takes for equal do not."""
    assert keyed({"a": {1: "x"}}) == keyed({"a": {"1": "x"}})
    assert keyed({"a": {True: "x"}}) == keyed({"a": {"true": "x"}}) != keyed({"a": {1: "x"}})
    assert keyed({"a": {1.5: "x"}}) != keyed({"a": {1: "x"}})
    assert keyed({"a": {None: "x"}}) == keyed({"a": {"null": "x"}})


def test_shapes_are_those_of_their_keys():
    """What is known of one mapping's keys is used for another one's with the same, in that order or another."""
    for _ in range(2):  # the second time they are known
        assert keyed({"a": 1, "b": 2}) == keyed({"b": 2, "a": 1}) != keyed({"a": 2, "b": 1})
        assert keyed({"x": {"user": "u"}}) != keyed({"x": {"user": "v"}}), "left out at the top alone"
        assert keyed({"x": 1, "user": "u"}) == keyed({"x": 1, "user": "v"}) == keyed({"x": 1})
        assert keyed({"messages": [{"user": "u", "x": 1}]}) != keyed({"messages": [{"x": 1}]})


@pytest.mark.parametrize(
    "mark", [{"cache_control": {"type": "ephemeral", "ttl": "1h"}}, {"cachePoint": {"type": "default"}}]
)
def test_marks_wherever_they_stand(mark):
    """A mark for the cache does not count: in a part, as a part, at the top; what stands beside it does."""
    text = {"type": "text", "text": "a"}
    said = keyed({"messages": [{"role": "user", "content": [text]}]})
    assert keyed({"messages": [{"role": "user", "content": [{**text, **mark}]}]}) == said
    assert keyed({"messages": [{"role": "user", "content": [text, mark]}]}) == said
    assert keyed({"messages": [{"role": "user", "content": (text, mark)}]}) == said
    assert keyed({"messages": [{"role": "user", "content": [text]}], **mark}) == said
    assert keyed({"x": mark}) == keyed({"x": {}}) != keyed({}), "a mapping that is only a mark is an empty one"
    assert keyed({"messages": [{"role": "user", "content": [{**text, **mark}, {**text, "text": "b"}]}]}) != said
    assert keyed({"x": {**mark, "file_id": "f"}}) == keyed({"x": {"file_id": "f"}}) != keyed({"x": {}})


def test_parameter_with_the_name_of_a_mark():
    """A tool's parameter counts, though it is named as what marks a prompt for the cache."""

    def of(kind):
        parameters = {"type": "object", "properties": {"cache_control": {"type": kind}}}
        return keyed({"tools": [{"function": {"name": "f", "parameters": parameters}}]})

    assert of("string") != of("integer")


def test_no_plain_data():
    """What cannot be sent as JSON has no key."""
    itself = {}
    itself["x"] = itself
    for value in (object(), float("nan"), float("-inf"), {1, 2}, itself):
        with pytest.raises((TypeError, ValueError, RecursionError)):
            keyed({"x": value})


TRAPS = [
    *(("When did you open?", "When do you open?"), ("What was the price?", "What is the price?")),
    *(("Had they paid?", "Have they paid?"), ("Did you ship my order?", "Will you ship my order?")),
    *(("Can I call you?", "Can you call me?"), ("Do I owe you money?", "Do you owe me money?")),
    *(("Where is my office?", "Where is your office?"), ("Did I win?", "Do I win?")),
    *(("Should I take ibuprofen with wine?", "Can I take ibuprofen with wine?"), ("I am paid", "I have paid")),
    *(("What should I do?", "What can I do?"), ("When should I pay?", "When can I pay?")),
    *(("Who can I bring?", "Who should I bring?"), ("I'd pay", "I'll pay")),
    *(("flights to Paris", "flights in Paris"), ("costs for students", "costs with students")),
    *(("turn the light on", "turn the light"), ("log in", "log"), ("How do I sign in", "How do I sign")),
    *(("emails to Tom", "emails about Tom"), ("the top and bottom", "the top, bottom")),
    *(("these prices", "those prices"), ("very hot", "hot"), ("just one", "one"), ("want to sell", "to sell")),
    *(("How do I say thanks", "How do I say please"), ("thanks in Spanish", "please in Spanish")),
    *(("has been deleted", "is being deleted"), ("is IT open", "is it open"), ("plan a", "plan")),
    *(("hello", "hi"), ("Tell me", "tell us"), ("the", "a")),
]
"""Questions that differ in a small word."""


@pytest.mark.parametrize(("one", "other"), TRAPS)
def test_small_words_count(one, other):
    """When, who whom, whether, where and which one: none of it is left out of a question."""
    assert content_words(one) != content_words(other) or not content_words(one)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What is your refund policy?", "hello, what is the refund POLICY", True),
        ("Can you tell me about shipping to France?", "shipping to france", True),
        ("Is it 35 %?", "is it 3.5 %", False),
        ("Below -5 degrees", "below 5 degrees", False),
        ("order 48213", "order 48231", False),
        ("May I cancel?", "May I not cancel?", False),
        ("Do you ship to Norway", "Do you ship to Sweden", False),
        ("Is A better than B", "Is B better than A", False),
        ("the US tax", "the tax", False),
        ("What was the revenue in May?", "What was the revenue?", False),
        ("When did Will arrive?", "When did May arrive?", False),
        ("May revenue", "revenue", False),
        ("Hello. Could you ship it?", "can you ship it", True),
        ("How do I pay?", "So how can I pay, please? Thank you!", True),
        ("I'd like to know where I park", "where do I park", True),
        ("Who should I ask", "who do I ask", True),
        ("WHAT IS THE PRICE", "what\u2019s the price?", True),
        ("flights from Paris to London", "flights to Paris from London", False),
        ("the invoice was paid by Acme", "the invoice was paid to Acme", False),
        ("Do I need a visa?", "Do I have a visa?", False),
        ("C# or C", "C or C", False),
        ("on 2026-11-26", "on 2026-11-27", False),
        ("$5", "5", False),
        ("don\u2019t ship", "don't ship", True),
        ("Wie viel kostet es?", "wie viel kostet es", True),
        ("何時に閉まりますか", "何時に開きますか", False),
    ],
)
def test_words(one, other, same):
    """Case, punctuation and filler words do not count; numbers, signs, negations, names and their order do."""
    assert (content_words(one) == content_words(other)) == same


@pytest.mark.parametrize(
    ("part", "elsewhere"),
    [
        ({"type": "image_url", "image_url": {"url": "HTTPS://x.test/a.png"}}, True),
        ({"type": "document_url", "document_url": "https://x.test/a.pdf"}, True),
        ({"type": "input_audio", "input_audio": "https://x.test/a.mp3"}, True),
        ({"type": "file", "file": {"filename": "a.pdf", "file_data": "https://x.test/a.pdf"}}, True),
        ({"fileData": {"fileUri": "gs://bucket/a"}}, True),
        ({"document": {"source": {"s3Location": {"uri": "s3://bucket/a"}}}}, True),
        ({"images": ["https://x.test/a.png"]}, True),
        ({"type": "image_url", "image_url": "data:image/png;base64,AA"}, False),
        ({"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}, False),
        ({"type": "text", "text": 'see https://x.test, "file_id": "x"'}, False),
        ({"properties": {"url": {"type": "string", "description": "as in https://x.test"}}}, False),
    ],
)
def test_input_that_is_elsewhere(part, elsewhere):
    """Input by an address or by the name of a file may change; input in the request itself, and a text, does not."""
    call = SimpleNamespace(api=CHAT)
    found = refers(counted(call, {"messages": [{"role": "user", "content": [part]}]}).telling)
    assert (found == "files") == elsewhere
