"""Gemini's live sessions, over real websockets: each turn is a call, and budgets hold.

gemini-live-2.5-flash costs, a million tokens: text $0.50 in, $2 out; sound $3 in, $12 out; film $3 in
(https://ai.google.dev/gemini-api/docs/pricing).
"""

from __future__ import annotations

import asyncio
import importlib
import json
import threading
import time

import pytest

import connections
import tokenguard
from rows import few
from tokenguard import BudgetExceeded, LimitExceeded, policy
from tokenguard.installation import runtime
from tokenguard.metering.sessions import Session
from tokenguard.seams import google_live
from websocket_server import WebsocketServer

genai = pytest.importorskip("google.genai")
pytest.importorskip("google.genai.live")

MODEL = "gemini-live-2.5-flash"
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning")]


class Gemini(WebsocketServer):
    """A live server: whoever has said something, or sent three pieces of sound, gets a turn of sound."""

    def __init__(self):
        super().__init__()
        self.reasons, self.drop = [], False
        self.grounds = None

    def _serve(self, websocket):
        from websockets.exceptions import ConnectionClosed

        pieces = 0
        try:
            for message in websocket:
                said = json.loads(message)
                self.received.append(said)
                if "setup" in said:
                    websocket.send(json.dumps({"setupComplete": {}}))
                if "realtime_input" in said:
                    pieces += 1
                if "client_content" in said or (pieces and pieces % 3 == 0):
                    self._turn(websocket)
        except ConnectionClosed:
            pass
        self.reasons.append(websocket.protocol.close_reason or "")

    def _turn(self, websocket):
        part = {"inlineData": {"mimeType": "audio/pcm", "data": "AAAA"}}
        grounded = {"groundingMetadata": self.grounds} if self.grounds else {}
        websocket.send(json.dumps({"serverContent": {"modelTurn": {"parts": [part]}, **grounded}}))
        if self.drop:
            websocket.socket.close()
            return
        usage = {
            "promptTokenCount": 100,
            "responseTokenCount": 50,
            "totalTokenCount": 150,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 20},
                {"modality": "AUDIO", "tokenCount": 60},
                {"modality": "VIDEO", "tokenCount": 20},
            ],
            "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 50}],
        }
        websocket.send(json.dumps({"serverContent": {"turnComplete": True}, "usageMetadata": usage}))


COST = 20 * 0.5e-6 + 60 * 3e-6 + 20 * 3e-6 + 50 * 12e-6


def test_a_turn_that_searched(server, installed, spans):
    """What was searched for a turn is told before its end, and is a part of its cost."""
    server.grounds = {"webSearchQueries": ["a", "b"]}
    session(server, asked)
    (record,) = installed.records
    assert record.cost.tools == pytest.approx(0.035)
    assert record.cost.basis == "free_quota"


@pytest.fixture
def server(monkeypatch):
    """The SDK opens websockets over TLS alone; here the address is as it is."""
    with Gemini() as running:
        client = importlib.import_module("google.genai._api_client").BaseApiClient
        monkeypatch.setattr(client, "_websocket_base_url", lambda self, *options: running.url.replace("http", "ws"))
        yield running


def under(text):
    tokenguard.install(policy.loads(text + '[ledger]\nurl = "memory:"\n'))
    return runtime.installed().meter.guard


def session(server, work, **config):
    """Run `work(session)` in a live session."""

    async def run():
        client = genai.Client(api_key="k", http_options={"base_url": server.url})
        client._api_client._websocket_ssl_ctx = {}
        given = {"response_modalities": ["AUDIO"], **config}
        async with client.aio.live.connect(model=MODEL, config=given) as connection:
            return await work(connection)

    return connections.run(run())


async def ask(connection):
    await connection.send_client_content(turns={"role": "user", "parts": [{"text": "Hello?"}]}, turn_complete=True)


async def turn(connection):
    return [message async for message in connection.receive()]


async def asked(connection):
    await ask(connection)
    return await turn(connection)


async def spoken(connection):
    for _ in range(3):
        await connection.send_realtime_input(audio={"data": b"\x00\x01", "mime_type": "audio/pcm;rate=16000"})
    return await turn(connection)


@pytest.mark.parametrize("work", [asked, spoken], ids=["asked", "spoken"])
def test_a_turn(work, server, installed, spans):
    """A turn is a call within the session's span, whoever has begun it, priced by modality."""
    messages = session(server, work)
    assert messages[-1].usage_metadata.total_token_count == 150
    (record,) = installed.records
    assert record.cost_usd == pytest.approx(COST)
    assert record.cost.status == "exact"
    call, parent = spans.all()
    assert call.parent.span_id == parent.context.span_id
    assert parent.name == f"realtime {MODEL}"
    assert call.attributes["gen_ai.usage.audio.output_tokens"] == 50
    assert parent.attributes["tokenguard.session.cost_usd"] == pytest.approx(COST)


def test_a_budget_before_the_session(server, installed):
    """A budget that is spent lets no session open."""
    under('[[budget]]\nname = "b"\nlimit_usd = 0.0\n')
    with pytest.raises(BudgetExceeded):
        session(server, asked)
    assert server.received == []


def test_a_budget_before_a_turn(server, installed):
    """A turn is reserved by the session's output cap, and settled by what it came to."""
    guard = under('[[budget]]\nname = "b"\nlimit_usd = 0.01\n')
    with pytest.raises(BudgetExceeded):  # 4,096 tokens of sound are $0.049
        session(server, asked)
    assert [list(each) for each in server.received] == [["setup"]]
    session(server, asked, max_output_tokens=200)
    (account,) = guard.ledger.accounts()
    assert (account.spent_nano, account.reserved_nano) == (round(COST * 1e9), 0)


def test_a_budget_of_what_is_said(server, installed):
    """Where nothing could be refused before, the session is closed, with the reason."""
    under('[[budget]]\nname = "spent"\nlimit_usd = 0.01\n')
    with pytest.raises(BudgetExceeded):
        session(server, spoken)
    until = time.monotonic() + 5.0
    while not server.reasons and time.monotonic() < until:  # its close is read in the server's own time
        time.sleep(0.01)
    server.__exit__()
    assert 'budget "spent"' in "".join(server.reasons)
    server._thread = threading.Thread(target=lambda: None)
    server._thread.start()


def test_a_minute_is_held_ahead(server, installed):
    """While sound is sent, the turn that may follow is held with a minute of sound: 32 tokens a second, at $3."""
    guard = under('[[budget]]\nname = "b"\nlimit_usd = 1.0\n')
    held = []

    async def work(connection):
        await connection.send_realtime_input(audio={"data": b"\x00\x01" * 1600, "mime_type": "audio/pcm;rate=16000"})
        while not (accounts := guard.ledger.accounts()) or not accounts[0].reserved_nano:
            await asyncio.sleep(0.005)
        held.append(accounts[0].reserved_nano)
        for _ in range(2):
            await connection.send_realtime_input(audio={"data": b"\x00\x01", "mime_type": "audio/pcm;rate=16000"})
        return await turn(connection)

    session(server, work, max_output_tokens=100)
    assert 0 <= held[0] - (32 * 60 * 3_000 + 100 * 12_000) < 200 * 3_000
    (account,) = guard.ledger.accounts()
    assert (account.spent_nano, account.reserved_nano) == (round(COST * 1e9), 0)


def test_a_silent_session(server, installed):
    """One that is open for too long is closed, though nobody says anything."""
    under('[[limit]]\nname = "long"\nmax_session_seconds = 0.2\n')
    with pytest.raises(LimitExceeded, match=r"allows 0\.2 s"):
        session(server, turn)


def test_a_result_of_a_tool(server, installed):
    """Sending a tool's result asks for a turn, as words do: it is refused where no budget has it."""
    under('[[budget]]\nname = "b"\nlimit_usd = 0.01\n')

    async def work(connection):
        await connection.send_tool_response(function_responses={"id": "1", "name": "look_up", "response": {"r": "a"}})

    with pytest.raises(BudgetExceeded):
        session(server, work)
    assert [list(each) for each in server.received] == [["setup"]]


def test_a_limit_of_a_session(server, installed):
    """`max_session_usd` closes a session that has come to it."""
    under('[[limit]]\nname = "call"\nmax_session_usd = 0.0005\n')

    async def twice(connection):
        await asked(connection)
        await asked(connection)

    with pytest.raises(LimitExceeded, match=r"has come to \$0\.0008"):
        session(server, twice)
    assert len(installed.records) == 1


def test_a_session_that_breaks_off(server, installed):
    """The provider hangs up in the middle of a turn: it is charged as it was reserved."""
    guard = under('[[budget]]\nname = "b"\nlimit_usd = 1.0\n')
    server.drop = True
    with pytest.raises(Exception, match=r".") as broken:
        session(server, asked)
    assert not isinstance(broken.value, tokenguard.TokenGuardError)
    (record,) = installed.records
    assert record.outcome == "abandoned"
    (account,) = guard.ledger.accounts()
    assert account.reserved_nano == 0
    assert account.spent_nano >= 4096 * 12_000


STEPS = [
    *((Session, name) for name in ("__init__", "begun", "done", "passed", "end", "came_to", "flown", "named")),
    *((google_live.Live, name) for name in ("turn", "told", "asked", "sound_in", "coming")),
    *((google_live, name) for name in ("_opening", "_config", "_plain", "read_turn")),
]


@pytest.mark.parametrize(("owner", "step"), few(STEPS, 6), ids=lambda value: getattr(value, "__name__", value))
def test_internal_failure(owner, step, server, installed, monkeypatch):
    """Each internal step raises in turn, and the application gets its answers."""
    monkeypatch.setenv("TOKENGUARD_STRICT", "0")
    monkeypatch.setattr(owner, step, lambda *arguments: 1 / 0)
    under('[[limit]]\nname = "l"\nmax_session_usd = 5\n[[budget]]\nname = "b"\nlimit_usd = 5.0\n')

    async def both(connection):
        return await asked(connection), await spoken(connection)

    one, other = session(server, both)
    assert one[-1].usage_metadata.total_token_count == other[-1].usage_metadata.total_token_count == 150
