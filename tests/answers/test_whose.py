"""Whose a request is: credentials as far as they are known, and what an HTTP client adds."""

from __future__ import annotations

import datetime
import functools
import importlib
import threading
import uuid
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace

import anthropic
import httpx
import openai
import pytest
import requests

import connections
from tokenguard.answers.whose import SURROUNDINGS, by_client, by_name, by_surroundings, headers_that_count
from tokenguard.demo.provider import SimulatedProvider


def test_credentials_that_renew_themselves():
    """Google's: whose they are counts, and so does a token that stays; one that expires does not."""
    google = pytest.importorskip("google.oauth2.credentials")

    def credentials(token, account="a", expiry=None):
        return google.Credentials(token, refresh_token="r", client_id=account, expiry=expiry)

    soon = datetime.datetime(2030, 1, 1)
    assert by_name(credentials("t1")) != by_name(credentials("t2"))
    assert by_name(credentials("t1", expiry=soon)) == by_name(credentials("t2", expiry=soon.replace(year=2031)))
    assert by_name(credentials("t1", expiry=soon)) != by_name(credentials("t1", "b", expiry=soon))


def test_credentials_that_hold_themselves():
    """An object that leads back to itself, or nowhere, is named all the same."""
    around = SimpleNamespace(name="a")
    around.self = around
    assert by_name(around) == by_name(around)
    assert by_name(object()) == by_name(object())
    assert by_name({"client_id": "a", "at": 1.0}) == by_name({"client_id": "a", "at": 2.0})


def test_a_header_that_is_left_out():
    """What says that a header is not sent is the same in each process, and is not the same as nothing said."""
    found = headers_that_count({"x-org": anthropic.Omit(), "x-team": "a"})
    assert found == headers_that_count({"x-org": anthropic.Omit(), "x-team": b"a"})
    assert "0x" not in str(found)
    assert found != headers_that_count({"x-team": "a"})


def test_who_a_process_is_to_a_cloud(monkeypatch):
    """A key or a role that is named is enough, wherever the process runs; without, it is a user of a machine."""
    for name in SURROUNDINGS:
        monkeypatch.delenv(name, raising=False)
    here = by_surroundings()
    monkeypatch.setenv("HOME", "/home/somebody-else")
    assert by_surroundings() != here
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/a")
    role = by_surroundings()
    monkeypatch.setenv("HOME", "/home/a-third")
    assert by_surroundings() == role
    monkeypatch.setenv("AWS_PROFILE", "b")
    assert by_surroundings() != role


class Slots:
    __slots__ = ("__secret", "user_id")

    def __init__(self, user_id, secret):
        self.user_id = user_id
        self.__secret = secret


LOCAL = threading.local()
ASKING = ContextVar("asking", default=None)
REQUEST_ID = ContextVar("request_id", default=None)


def from_context():
    return f"Bearer {ASKING.get()} {LOCAL.account} {REQUEST_ID.get()}"


def token_of(account, *, region=""):
    return f"{account}{region}"


def written(token):
    return {"a": lambda: "token-a", "b": lambda: "token-b"}[token]


def made_for(account):
    session = requests.Session()
    session.auth = (account, "x")
    return session


WHOSE = {
    "a default": (lambda t="a": t, lambda t="b": t),
    "a default by its name": (lambda *, t="a": t, lambda *, t="b": t),
    "what is written in it": (written("a"), written("b")),
    "an argument": (functools.partial(token_of, "a"), functools.partial(token_of, "b")),
    "a number as an argument": (functools.partial(token_of, 17), functools.partial(token_of, 18)),
    "an argument by its name": (functools.partial(token_of, region="a"), functools.partial(token_of, region="b")),
    "bytes": (SimpleNamespace(secret=b"a"), SimpleNamespace(secret=b"b")),
    "a tuple": (SimpleNamespace(auth=("a", "x")), SimpleNamespace(auth=("b", "x"))),
    "a number that is a name": (SimpleNamespace(user_id=17), SimpleNamespace(user_id=18)),
    "a UUID": (SimpleNamespace(who=uuid.UUID(int=1)), SimpleNamespace(who=uuid.UUID(int=2))),
    "a path": (SimpleNamespace(key=Path("/a")), SimpleNamespace(key=Path("/b"))),
    "slots": (Slots(1, "a"), Slots(1, "b")),
    "a number in slots": (Slots(1, "a"), Slots(2, "a")),
    "a session of requests": (made_for("a"), made_for("b")),
}
"""What gives credentials of two accounts, and differs in one place."""


@pytest.mark.parametrize(("one", "other"), WHOSE.values(), ids=WHOSE)
def test_whose_credentials_they_are(one, other):
    """Wherever the name of an account, or a secret, is in what gives credentials: two of them are two."""
    assert by_name(one) == by_name(one)
    assert by_name(one) != by_name(other)


def test_credentials_of_the_context():
    """A function that reads whom a server works for is another one's with each; a request's own number is not."""

    def now(account, local, request):
        ASKING.set(account)
        LOCAL.account = local
        REQUEST_ID.set(request)
        return by_name(from_context)

    assert now("a", "x", "1") == now("a", "x", "2")
    assert now("a", "x", "1") != now("b", "x", "1")
    assert now("a", "x", "1") != now("a", "y", "1")


@pytest.mark.parametrize("name", ["httpx", "httpx2", "requests", "aiohttp"])
def test_clients_that_add_nothing(name):
    """An ordinary client adds nothing, used or not, with or without connections; so does what an SDK makes of one."""
    made = importlib.import_module(name)
    if name == "aiohttp":

        async def work():
            async with made.ClientSession() as session:
                return by_client(session)

        assert connections.run(work()) == [None]
        return
    kind = made.Session if name == "requests" else made.Client
    with SimulatedProvider() as running, kind() as client:
        assert by_client(client) == [None]
        client.post(
            f"{running.openai_url}/chat/completions",
            json={"model": "m", "messages": [{"role": "user", "content": "hi"}]},
        )
        assert by_client(client) == [None]
    assert by_client(openai.OpenAI(api_key="k")._client, openai.AsyncOpenAI(api_key="k")._client) == [None, None]


@pytest.mark.parametrize("given", ["http://{}:x@127.0.0.1:3128", "socket"])
def test_what_a_client_sends_through(given):
    """A proxy that is told who asks, and a socket, count: what is behind them may add what is theirs."""
    if given == "socket":
        made = [httpx.Client(transport=httpx.HTTPTransport(uds=f"/run/{each}.sock")) for each in "aab"]
    else:
        made = [httpx.Client(proxy=given.format(each)) for each in "aab"]
    one, again, other = (by_client(each) for each in made)
    assert one == again != other
