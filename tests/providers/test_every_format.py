"""Every wire format there is, whole: a piece that a row lacks would be silent zeros, so each row is asked for each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tokenguard.facts import names
from tokenguard.facts.usage import Usage
from tokenguard.providers import every_api, operations
from tokenguard.providers.api import Api, no_cap
from tokenguard.providers.reading import Reading
from tokenguard.providers.units import Units
from tokenguard.providers.words import Words
from tokenguard.tokens import count_request, upper_bound_request
from wire_bodies import BODIES, PIECES, QUESTION, SAID, Body

SDK_TESTS = Path(__file__).parents[1] / "sdk"


def faults(api: Api, body: Body) -> list[str]:
    """What a row does not know of its own format."""
    found = []

    def expect(what, is_so):
        if not is_so:
            found.append(what)

    counted = count_request(api.words, body.request, "gpt-4o").tokens
    expect("the text of a request is counted", 8 <= counted <= 60)
    expect("the bound is above the count", upper_bound_request(body.request).tokens >= counted)
    asked = json.dumps(api.words.messages(body.request))
    expect("a request's messages are read", QUESTION in asked or f'"{SAID}"' in asked)
    reading = api.read(body.answer)
    told = reading if api.units is None else api.units.told(body.request, reading)
    expect("an answer's usage is read", told.usage is not None and (told.usage.input or 0) == body.input)
    if body.output is not None:
        expect("an answer's output is read", reading.usage is not None and reading.usage.output == body.output)
    for unit, number in body.units.items():
        expect(f"an answer's {unit} are read", getattr(told.usage, unit) == number)
    if api.units is not None and not api.generates:  # of text the cap is the most
        most = api.units.most(body.request)
        expect("what a request can come to is known", any(most) is not body.comes_later)
        expect("a request has a variant, or none", isinstance(api.units.variant(body.request), str | None))
        expect(
            "no answer comes to more",
            all(n is None or n <= (m or 0) for n, m in zip(most_of(told.usage), most_of(most), strict=True)),
        )
    if body.events and not api.generates:
        expect("a stream's usage is read", api.fold(body.stream()).usage == reading.usage)
        expect("a stream that came to its end is complete", api.fold(body.stream()).complete)
        expect("a broken stream is not complete", not api.fold(body.stream(whole=False)).complete)
    if api.generates:
        expect("an answer's messages are read", SAID in json.dumps(api.words.answered(body.answer)))
        expect("an answer's text is estimated", api.words.answered_text(body.answer) == SAID)
        expect("a stream's usage is read", (api.fold(body.stream()).usage or Usage()).output == body.output)
        expect("a stream that came to its end is complete", api.fold(body.stream()).complete)
        told = [part.get("content") for message in api.words.told(body.stream()) for part in message["parts"]]
        expect("a stream's messages are read", told == [SAID])
        broken = body.stream(whole=False)
        expect("what a broken stream had said is estimated", api.words.streamed_text(broken) == "".join(PIECES))
        expect("a broken stream is not complete", not api.fold(broken).complete)
        expect("a broken stream has no output count", (api.fold(broken).usage or Usage()).output is None)
        capped = api.capped(body.request, 77, "")
        expect("a cap is set where it is read", api.capped is not no_cap and api.output_cap(capped) == 77)
    if body.rounds is not None:
        expect("tool rounds are counted", api.tool_steps(body.rounds) == 2)
        expect("tool calls of the last turn are counted", api.last_tool_calls(body.rounds) == 1)
    return found


def most_of(usage):
    """The counts that a request bounds: those of text are counted apart."""
    return usage.output, usage.images, usage.input_seconds, usage.output_seconds, usage.characters, usage.pages


@pytest.mark.parametrize("api", every_api(), ids=lambda api: f"{api.id} {api.paths[0] if api.paths else ''}")
def test_a_row_is_whole(api):
    """A row reads its requests, answers, streams, broken streams, messages and tool rounds, and sets its cap."""
    assert api.id in BODIES, f"{api.id} has no exchange in tests/wire_bodies.py"
    assert faults(api, BODIES[api.id]) == []


def test_no_exchange_is_left_over():
    """Each exchange of the table is a row's."""
    assert BODIES.keys() == {api.id for api in every_api()}


APART = {
    "test_bedrock": "titan's text and embeddings differ from the other families of InvokeModel by their body alone",
    "test_embedded": "voyageai is in an environment of its own; Vertex's multimodal embeddings go by a raw request",
    "test_interactions": "an agent or a model, in the background or not: a server of its own",
    "test_live": "a session over a websocket: what may be refused are its turns",
    "test_media": "a film made of another one names no model that another could take the place of",
    "test_media_clouds": "jobs that are polled by requests with bodies, which the tables would take for calls",
    "test_mistral": "a conversation is asked of an agent, or goes on from what the provider keeps",
    "test_realtime": "a session over a websocket: what may be refused are its responses",
    "test_rented": "no model is named, and what is billed comes later; rent is billed in any case and not refused",
    "test_xai": "gRPC, and a server of its own; `TestMedia` there is these tables for pictures and films",
}
"""The modules of tests/sdk that have rows guarded and failing which the tables cannot drive, and why they cannot."""


def test_every_row_is_guarded(monkeypatch):
    """Each format is in the tables of the guard and of faults; what cannot be says why, and has tests of its own."""
    monkeypatch.syspath_prepend(str(SDK_TESTS))
    from families import KINDS

    kinds = {kind.name for kind in KINDS}
    apart = {name: body.guarded for name, body in BODIES.items() if body.guarded not in kinds}
    assert set(apart.values()) == set(APART)
    for name, module in apart.items():
        tests = (SDK_TESTS / f"{module}.py").read_text()
        assert any(word in tests for word in ("LimitExceeded", "BudgetExceeded", "policy.loads")), name


def test_operations_are_the_rows():
    """What an operation generates is the same whichever of its rows is asked, and reports know every one."""
    generating = {api.operation for api in every_api() if api.generates}
    assert generating.isdisjoint(names.NOT_CAPPED)
    assert generating.union(names.NOT_CAPPED) == operations()
    assert sorted(names.RENTING) == sorted({api.operation for api in every_api() if api.rental is not None})


# --- a format that nobody speaks --------------------------------------------------------------------------------------


def read_talk(response):
    return Reading(Usage(30, 5) if response.get("used") else None, id="x")


def fold_talk(events):
    ended = b'"end"' in events
    return Reading(Usage(30, 5) if ended else None, complete=ended)


TALK = Body(
    {"ask": QUESTION},
    {"reply": SAID, "used": 35},
    30,
    5,
    (*({"reply": piece} for piece in PIECES), {"end": 1}),
)


def message(role, words):
    return {"role": role, "parts": [{"type": "text", "content": words}]}


def told_talk(events):
    lines = [json.loads(line[6:]) for line in events.splitlines() if line]
    return [message("assistant", "".join(line.get("reply", "") for line in lines))]


WORDS = Words(
    texts=("ask",),
    streamed=("reply",),
    answered=lambda answer: [message("assistant", answer["reply"])],
    told=told_talk,
)
NONESUCH = Api(
    "nonesuch_talk",
    "chat",
    ("/talk",),
    ("most",),
    read_talk,
    fold_talk,
    WORDS,
    capped=lambda body, cap, provider: {**body, "most": cap},
)


DRAWN = TALK._replace(units={"pages": 2, "images": 3}, events=())
MADE = NONESUCH._replace(
    caps=(),
    units=Units(
        lambda body: Usage(output=9, images=3, pages=2),
        lambda body, reading: reading._replace(usage=reading.usage._replace(images=3)),
    ),
    read=lambda response: Reading(Usage(30, 5, pages=2), id="x"),
)


def test_a_new_format():
    """A format of other words passes once its row is whole."""
    assert faults(NONESUCH, TALK) == []
    assert faults(MADE, DRAWN) == []


@pytest.mark.parametrize(
    ("row", "missing"),
    [
        (MADE._replace(units=Units(lambda body: Usage(), MADE.units.told)), "what a request can come to is known"),
        (MADE._replace(units=Units(lambda body: Usage(9, 9, images=2), MADE.units.told)), "no answer comes to more"),
        (MADE._replace(units=Units(MADE.units.most)), "an answer's images are read"),
        (MADE._replace(read=NONESUCH.read), "an answer's pages are read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_missing_unit_is_found(row, missing):
    """Whatever a row that is billed by more than tokens leaves out is named."""
    assert missing in faults(row, DRAWN)


@pytest.mark.parametrize(
    ("row", "missing"),
    [
        (NONESUCH._replace(words=WORDS._replace(texts=())), "the text of a request is counted"),
        (NONESUCH._replace(words=WORDS._replace(streamed=())), "what a broken stream had said is estimated"),
        (NONESUCH._replace(words=WORDS._replace(answered=Words().answered)), "an answer's messages are read"),
        (NONESUCH._replace(words=WORDS._replace(told=Words().told)), "a stream's messages are read"),
        (NONESUCH._replace(read=lambda response: Reading()), "an answer's usage is read"),
        (NONESUCH._replace(fold=lambda events: Reading()), "a stream's usage is read"),
        (NONESUCH._replace(capped=no_cap), "a cap is set where it is read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_missing_piece_is_found(row, missing):
    """Whatever a new row leaves out is named."""
    assert missing in faults(row, TALK)


def test_tool_rounds_are_asked_for():
    """A format with tools that does not count their rounds is found."""
    assert "tool rounds are counted" in faults(NONESUCH, TALK._replace(rounds={"ask": QUESTION}))
