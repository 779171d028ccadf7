"""What the simulated provider answers to options it does not know, and to bodies that make no sense."""

from __future__ import annotations

import anthropic
import httpx
import openai
import pytest

from .conftest import says


def test_an_unknown_option_is_named(provider, chat):
    """Only requests that set the option are refused, and they are free."""
    provider.refuse_next("stream_options")
    assert chat.chat.completions.create(model="gpt-4o", messages=says("Hm?")).choices
    streamed = {"model": "gpt-4o", "messages": says("Hm?"), "stream": True}
    with pytest.raises(openai.BadRequestError, match="stream_options") as refused:
        chat.chat.completions.create(**streamed, stream_options={"include_usage": True})
    assert (refused.value.param, refused.value.code) == ("stream_options", "unknown_parameter")
    assert list(chat.chat.completions.create(**streamed))
    assert [(request.status, request.billed is None) for request in provider.requests] == [
        (200, False),
        (400, True),
        (200, False),
    ]


def test_an_unknown_option_in_anthropics_words(provider, claude):
    """The same in the other wire format."""
    provider.refuse_next("metadata")
    with pytest.raises(anthropic.BadRequestError, match="metadata: Extra inputs are not permitted"):
        claude.messages.create(
            model="claude-sonnet-4-6", max_tokens=50, messages=says("Hm?"), metadata={"user_id": "u1"}
        )


def test_a_host_without_stream_options_is_measured(provider, chat, installed):
    """What TokenGuard adds to a stream, a host may refuse: the caller gets the stream, the provider's bill is met."""
    provider.refuse_next("stream_options", times=100)
    for _ in range(2):
        stream = chat.chat.completions.create(model="gpt-4o", messages=says("Where is my order?"), stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert [request.status for request in provider.requests] == [400, 200, 200]
    assert [(r.outcome, r.cost.status, r.cost.basis) for r in installed.records] == [
        ("ok", "estimated", "missing_usage")
    ] * 2
    for record, request in zip(installed.records, provider.calls, strict=True):
        billed = request.billed
        assert record.cost_usd == pytest.approx((billed.input * 2.5 + billed.output * 10) / 1e6)


HM = says("Hm?")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"model": "gpt-4o", "messages": ["Hm?"]}),
        ("/v1/chat/completions", {"model": "gpt-4o", "messages": HM, "n": "two"}),
        ("/v1/chat/completions", {"model": "gpt-4o", "messages": HM, "tools": [{"function": {}}]}),
        ("/v1/responses", {"model": "gpt-4o", "input": ["Hm?"]}),
        ("/v1/embeddings", {"model": "text-embedding-3-small", "input": 5}),
        ("/v1/messages", {"model": "claude-sonnet-4-6", "max_tokens": "many", "messages": HM}),
        ("/v1/messages", {"model": "claude-sonnet-4-6", "max_tokens": 9, "messages": HM, "tool_choice": "auto"}),
    ],
)
def test_odd_bodies_are_refused(provider, path, body):
    """A body of the wrong shape is answered with 400, costs nothing, and leaves the connection as it is."""
    with httpx.Client(base_url=provider.url, headers={"Authorization": "Bearer k"}, trust_env=False) as client:
        for _ in range(2):
            answer = client.post(path, json=body)
            assert answer.status_code == 400
            assert "not valid" in answer.json()["error"]["message"]
    assert all(request.billed is None and request.delivered for request in provider.requests)
