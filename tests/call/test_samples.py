"""A request with pictures is told from others, and its bound found, without reading the pictures."""

from __future__ import annotations

import marshal

import pytest

from tokenguard.facts import names
from tokenguard.facts.record import CallRecord
from tokenguard.inputs.look import Looker
from tokenguard.inputs.request import HEAVY, fingerprint, snapshot
from tokenguard.process.hashes import marshalled
from tokenguard.providers import every_api

BIG = HEAVY * 4


def of(body):
    request, is_plain = snapshot("a", "p", body)
    assert is_plain
    return marshalled(request.whole())


def told(body) -> str:
    return fingerprint(snapshot("a", "p", body)[0], is_plain=True)


SHAPES = {
    "openai.chat": lambda data: {
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": data}}]}]
    },
    "openai.responses": lambda data: {
        "input": [{"role": "user", "content": [{"type": "input_image", "image_url": data}]}]
    },
    "anthropic": lambda data: {
        "messages": [
            {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": data}}]},
            {"role": "user", "content": "and now?"},
        ]
    },
    "a tool's result": lambda data: {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "tool_result", "content": [{"type": "image", "source": {"data": data}}]}],
            }
        ]
    },
    "google": lambda data: {"contents": [{"role": "user", "parts": [{"inlineData": {"data": data}}]}]},
    "bedrock": lambda data: {
        "messages": [{"role": "user", "content": [{"image": {"format": "png", "source": {"bytes": data.encode()}}}]}]
    },
    "a file": lambda data: {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_data": data}}]}]},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_media_are_not_copied(shape: str) -> None:
    """Wherever a format has its media, some bytes stand for them; the request itself stays as it is."""
    body = SHAPES[shape]("A" * BIG)
    before = marshal.dumps(body, 2)
    assert len(of(body)) < BIG / 10
    assert marshal.dumps(body, 2) == before


@pytest.mark.parametrize("shape", SHAPES)
def test_other_media_are_other_requests(shape: str) -> None:
    """Another length, another beginning or end, and other data behind some place are told apart."""
    data = "".join(map(str, range(BIG // 5)))
    others = (data, data + "A", "B" + data[1:], data[:-1] + "B", data[: BIG // 2] + data[BIG // 2 :][::-1])
    assert len({told(SHAPES[shape](each)) for each in others}) == len(others)
    assert told(SHAPES[shape](data)) == told(SHAPES[shape]("".join(data)))


def test_text_is_no_medium() -> None:
    """Long text stays whole: it is what a request is looked through for."""
    text = "word " * BIG
    for part in ({"type": "text", "text": text}, {"type": "tool_result", "content": text}):
        assert text.encode() in of({"messages": [{"role": "user", "content": [part]}]})
    assert text.encode() in of({"messages": [{"role": "user", "content": text}]})


def test_the_place_of_a_picture_counts() -> None:
    """Which messages stand around a picture is told as ever, many and few."""
    picture = SHAPES["openai.chat"]("A" * BIG)["messages"][0]
    plain = {"role": "user", "content": "x"}
    many = [plain] * 40
    orders = ([plain, picture], [picture, plain], [*many, picture], [picture, *many], [*many, plain, picture])
    assert len({told({"messages": each}) for each in orders}) == len(orders)


def test_what_is_beside_plain_messages_stays_whole() -> None:
    """The bound of plain messages goes by the size of the rest, so nothing of the rest may be left out."""
    odd = {"messages": [{"role": "user", "content": "x"}], "input": SHAPES["openai.responses"]("A" * BIG)["input"]}
    assert len(of(odd)) > BIG


APIS = {"openai.chat": "chat", "openai.responses": "responses", "google": "generate_content", "bedrock": "converse"}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_request_with_media_is_looked_at(shape: str) -> None:
    """What stands for a picture is taken for one by all that looks at a request: sections, chains, tools."""
    api = next(api for api in every_api() if api.id == APIS.get(shape, "messages"))
    body = {"model": "m", **SHAPES[shape]("A" * BIG)}
    request, _ = snapshot(api.id, "p", body)
    told = {names.INPUT_TOKENS: 1000, names.REQUEST_MODEL: "m", names.CACHE_READ_TOKENS: 0}
    seen = Looker().look(CallRecord(1, 1, names.OK, told), api, request)
    small, _ = snapshot(api.id, "p", {"model": "m", **SHAPES[shape]("A" * 99)})
    plain = Looker().look(CallRecord(1, 1, names.OK, told), api, small)
    assert {k: v for k, v in seen.attributes.items() if k != names.REQUEST_HASH} == {
        k: v for k, v in plain.attributes.items() if k != names.REQUEST_HASH
    }
