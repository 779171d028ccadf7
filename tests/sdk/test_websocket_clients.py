"""Realtime sessions by clients that are no SDK's (`websockets`, aiohttp), as agent frameworks open them.

The server is OpenAI's realtime API, simulated, over real websockets; what is expected is what `test_realtime` says of
openai's own client.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import pytest

import connections
from rows import few
from tokenguard import BudgetExceeded, GuardrailViolation, LimitExceeded
from tokenguard.installation import runtime
from tokenguard.metering.sessions import Session
from tokenguard.seams import realtime, websocket_clients
from tokenguard.seams.common.sessions import reading, through
from websocket_server import WebsocketServer

pytest.importorskip("openai")  # who imports it has the price list loaded
pytest.importorskip("websockets.asyncio.client")
aiohttp = pytest.importorskip("aiohttp")
import websockets.asyncio.client  # noqa: E402
import websockets.sync.client  # noqa: E402

from tokenguard.demo.realtime_api import SOUND, SimulatedRealtime  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*must be used as a context manager")

HOSTS = '[hosts]\n"127.0.0.1" = "openai"\n[ledger]\nurl = "memory:"\n'
BUDGET = '[[budget]]\nname = "b"\nlimit_usd = 0.2\n'
CREATE = {"type": "response.create", "response": {"max_output_tokens": 100}}
SAID = {"type": "input_audio_buffer.append", "audio": SOUND}
FIRST = 20 * 4e-6 + 10 * 16e-6 + 40 * 64e-6
"""USD of the first response: 20 tokens of text in, 10 of text and 40 of sound out."""


class ByWebsockets:
    """`websockets`, asynchronous."""

    gone = websockets.exceptions.ConnectionClosed

    @contextlib.asynccontextmanager
    async def open(self, url):
        async with websockets.asyncio.client.connect(url) as connection:
            self.connection = connection
            yield self

    async def send(self, event):
        await self.connection.send(json.dumps(event))

    async def recv(self):
        return json.loads(await self.connection.recv())


class ByFunctions(ByWebsockets):
    """The same, synchronous."""

    @contextlib.asynccontextmanager
    async def open(self, url):
        with websockets.sync.client.connect(url) as self.connection:
            yield self

    async def send(self, event):
        self.connection.send(json.dumps(event))

    async def recv(self):
        return json.loads(self.connection.recv(5))


class ByIteration(ByWebsockets):
    """Messages by `async for`, as most read them."""

    async def recv(self):
        async for message in self.connection:
            return json.loads(message)
        raise EOFError

    gone = (websockets.exceptions.ConnectionClosed, EOFError)


class ByAiohttp:
    """aiohttp, with the model among the parameters."""

    gone = EOFError

    @contextlib.asynccontextmanager
    async def open(self, url):
        url, _, query = url.partition("?")
        given = {"params": dict([query.split("=")])} if query else {}
        async with aiohttp.ClientSession() as client, client.ws_connect(url, **given) as self.connection:
            yield self

    async def send(self, event):
        await self.connection.send_json(event)

    async def recv(self):
        message = await self.connection.receive()
        if message.type != aiohttp.WSMsgType.TEXT:
            raise EOFError
        return json.loads(message.data)


IN_THE_LOOP = pytest.param(ByFunctions, marks=pytest.mark.blocks)
EVERY = pytest.mark.parametrize("kind", [ByWebsockets, IN_THE_LOOP, ByIteration, ByAiohttp])


@pytest.fixture
def server():
    with SimulatedRealtime() as running:
        yield running


@pytest.fixture
def under(under):
    """Puts sessions under a policy, and returns the guard."""

    def put(text=""):
        return under(text + HOSTS)

    put()
    return put


def within(kind, server, work, path="/realtime?model=gpt-realtime"):
    """What `work(client)` comes to in a session."""

    async def session():
        async with kind().open(server.url.replace("http", "ws") + path) as client:
            result = await work(client)
        await asyncio.sleep(0.01)
        return result

    return connections.run(asyncio.wait_for(session(), 10))


async def until(client, kind="response.done"):
    seen = []
    while not seen or seen[-1] != kind:
        seen.append((await client.recv())["type"])
    return seen


def reasons(server):
    patience = time.monotonic() + 5
    while not server.reasons and time.monotonic() < patience:
        time.sleep(0.01)
    return server.reasons


@EVERY
def test_a_session(kind, server, under, installed, spans):
    """Each response is a call below the session's span, asked for or begun by the provider, to the cent."""

    async def work(client):
        await client.send(CREATE)
        seen = await until(client)
        for _ in range(3):
            await client.send(SAID)
        await until(client)
        return seen

    seen = within(kind, server, work)
    assert seen == ["session.created", "response.created", *["response.output_audio.delta"] * 3, "response.done"]
    first, second = installed.records
    assert first.cost_usd == pytest.approx(FIRST)
    told = [(r.usage.input, r.usage.output) for r in installed.records]
    assert told == [(u.input, u.output) for u in server.billed]
    assert first.cost.status == "exact"
    one, other, session = spans.all()
    assert session.name == "realtime gpt-realtime"
    assert one.parent.span_id == other.parent.span_id == session.context.span_id
    assert session.attributes["gen_ai.provider.name"] == "openai"
    assert session.attributes["tokenguard.session.cost_usd"] == pytest.approx(first.cost_usd + second.cost_usd)
    assert session.attributes["gen_ai.conversation.id"] == "sess_1"
    assert "error.type" not in session.attributes


@EVERY
def test_budgets(kind, server, under, installed):
    """A spent budget lets no session open; a response that does not fit is not sent, and the session goes on."""
    under('[[budget]]\nname = "b"\nlimit_usd = 0.0\n')
    with pytest.raises(BudgetExceeded):
        within(kind, server, until)
    assert server.received == []
    guard = under(BUDGET)

    async def work(client):
        await client.send(CREATE)
        await until(client)
        (account,) = guard.ledger.accounts()
        assert (account.spent_nano, account.reserved_nano) == (round(FIRST * 1e9), 0)
        with pytest.raises(BudgetExceeded):
            await client.send({"type": "response.create", "response": {"max_output_tokens": 4096}})
        await client.send(CREATE)
        await until(client)

    within(kind, server, work)
    assert server.received == [CREATE, CREATE]


@EVERY
def test_a_clamp(kind, server, under):
    """A limit's cap is set on the wire, wherever in the JSON the type stands; the rest is left."""
    under('[[limit]]\nname = "l"\nmax_output_tokens = 64\nthen = "clamp"\n')
    asked = {"response": {"instructions": "Sing. " * 90}, "type": "response.create"}

    async def work(client):
        await client.send(asked)
        await until(client)

    within(kind, server, work)
    assert server.received == [{**asked, "response": {**asked["response"], "max_output_tokens": 64}}]


@EVERY
def test_a_limit_of_a_session(kind, server, under):
    """A session that has come to its limit is closed, with the reason in the websocket's last frame."""
    under('[[limit]]\nname = "call"\nmax_session_usd = 0.001\n')

    async def work(client):
        await client.send(CREATE)
        await until(client)
        await client.send(CREATE)

    with pytest.raises(LimitExceeded, match=r"allows \$0\.001"):
        within(kind, server, work)
    ((code, reason),) = reasons(server)
    assert code == 1000
    assert "has come to $0.0028" in reason


@EVERY
def test_what_nobody_asked_for(kind, server, under, installed):
    """Sound for which nothing is left closes the session before the response is billed, or with it."""
    under('[[budget]]\nname = "b"\nlimit_usd = 0.02\n')

    async def work(client):
        while True:
            await client.send(SAID)
            await asyncio.sleep(0.005)

    with pytest.raises(BudgetExceeded):
        within(kind, server, work)
    assert 'budget "b"' in reasons(server)[0][1]


@EVERY
def test_a_session_that_breaks_off(kind, server, under, installed):
    """The provider hangs up in the middle: the response is charged as it was reserved, and nothing stays open."""
    guard = under(BUDGET)
    server.drop_after = 2

    async def work(client):
        await client.send(CREATE)
        with pytest.raises(client.gone):
            await until(client)

    within(kind, server, work)
    (record,) = installed.records
    assert (record.outcome, record.cost.basis) == ("abandoned", "abandoned_stream")
    (account,) = guard.ledger.accounts()
    assert account.reserved_nano == 0
    assert account.spent_nano >= 100 * 64_000


@EVERY
@pytest.mark.parametrize("path", ["/chat?model=gpt-realtime", "/realtime/calls?model=m"])
def test_other_websockets(kind, path, server, under, installed, spans):
    """What is no session is left alone."""

    async def work(client):
        await client.send(CREATE)
        await until(client)

    within(kind, server, work, path)
    assert installed.records == []
    assert len(spans) == 0


class Writing(WebsocketServer):
    """The Responses API over a websocket."""

    def _serve(self, websocket):
        for message in websocket:
            self.received.append(json.loads(message))
            usage = {"input_tokens": 30, "output_tokens": 5, "total_tokens": 35}
            response = {"id": "resp_1", "model": "gpt-4o", "status": "in_progress", "output": []}
            websocket.send(json.dumps({"type": "response.created", "response": response}))
            whole = {**response, "status": "completed", "usage": usage}
            websocket.send(json.dumps({"type": "response.completed", "response": whole}))


@EVERY
def test_responses(kind, under, installed, spans):
    """The Responses API over a websocket is seen at its address, too."""
    with Writing() as server:

        async def work(client):
            await client.send({"type": "response.create", "model": "gpt-4o", "input": "A coat?"})
            await until(client, "response.completed")

        within(kind, server, work, "/v1/responses")
    (record,) = installed.records
    assert (record.model, record.usage.input, record.usage.output) == ("gpt-4o", 30, 5)
    assert spans.all()[-1].name == "responses"


@pytest.mark.parametrize("kind", [ByWebsockets, IN_THE_LOOP, ByAiohttp])
@pytest.mark.parametrize(
    ("owner", "step"),
    few(
        [
            *((Session, name) for name in ("__init__", "begun", "done", "end", "refusal")),
            *((realtime.Realtime, name) for name in ("asked", "tells", "told", "sound_in")),
            *((websocket_clients, name) for name in ("session_at", "attach", "located")),
        ],
        4,
    ),
    ids=lambda value: getattr(value, "__name__", value),
)
def test_internal_failure(kind, owner, step, server, under, installed, monkeypatch):
    """Each internal step raises in turn, and the application sees what it would have seen."""
    monkeypatch.setenv("TOKENGUARD_STRICT", "0")
    monkeypatch.setattr(owner, step, lambda *arguments: 1 / 0)
    under('[[limit]]\nname = "l"\nmax_session_usd = 5\n[[budget]]\nname = "b"\nlimit_usd = 5.0\n')

    async def work(client):
        await client.send(CREATE)
        assert (await until(client))[-1] == "response.done"
        for _ in range(3):
            await client.send(SAID)
        assert (await until(client))[-1] == "response.done"

    within(kind, server, work)


def test_a_seam_that_fails_is_refused_where_that_is_wanted(server, under, monkeypatch):
    """A session of which nothing can be known is not opened under `on_internal_error = "block"`."""
    monkeypatch.setenv("TOKENGUARD_STRICT", "0")
    under('on_internal_error = "block"\n' + BUDGET)
    monkeypatch.setattr(websocket_clients, "session_at", lambda *arguments: 1 / 0)
    with pytest.raises(GuardrailViolation, match="was not sent"):
        within(ByWebsockets, server, until)


def test_an_event_is_not_delayed(under):
    """Passing on a piece of sound, as JSON, takes less than 20 microseconds more, under a budget and a limit."""
    under(
        '[[limit]]\nname = "l"\nmax_session_usd = 5\nmax_session_seconds = 60\n[[budget]]\nname = "b"\nlimit_usd = 5\n'
    )
    message = json.dumps({"type": "response.output_audio.delta", "response_id": "resp_1", "delta": SOUND * 4})
    event = json.dumps(SAID)

    class Connection:
        def recv(self):
            return message

        def send(self, event):
            return None

        def close(self, reason=""):
            return None

    bare = Connection()
    opening = websocket_clients.session_at("wss://api.openai.com/v1/realtime?model=gpt-realtime", "openai")
    limits = runtime.installed().meter.guard.policy.limits
    watched = Connection()
    websocket_clients.attach(runtime.installed().meter, watched, *opening, limits)
    recv, send = through(reading)(Connection.recv), websocket_clients._written()(Connection.send)

    def best(work, *arguments):
        took = []
        for _ in range(40):
            began = time.perf_counter()
            for _ in range(50):
                work(*arguments)
            took.append((time.perf_counter() - began) / 50)
        return min(took)

    assert best(recv, watched) - best(Connection.recv, bare) < 20e-6
    assert best(send, watched, event) - best(Connection.send, bare, event) < 20e-6
    watched.__dict__["_tokenguard_session"].end()
