"""The Responses API over a websocket: every response is a call like one over HTTP, and budgets hold."""

from __future__ import annotations

import json

import pytest

import connections
import tokenguard
from tokenguard import BudgetExceeded, policy
from tokenguard.installation import runtime
from websocket_server import WebsocketServer

openai = pytest.importorskip("openai")

if not hasattr(pytest.importorskip("openai.resources.responses.responses"), "ResponsesConnection"):
    pytest.skip("this version has no such sessions", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore:.*must be used as a context manager")
HOSTS = '[hosts]\n"127.0.0.1" = "sdk"\n[ledger]\nurl = "memory:"\n'
COST = 100 * 0.15e-6 + 20 * 0.60e-6
"""Of 100 tokens in and 20 out on gpt-4o-mini."""


class Server(WebsocketServer):
    """Answers each `response.create` with a response of 100 and 20 tokens, or refuses it."""

    @property
    def url(self):
        return f"{super().url}/v1"

    def _serve(self, websocket):
        for message in websocket:
            asked = json.loads(message)
            self.received.append(asked)
            if asked.get("input") == "refuse":
                websocket.send(json.dumps({"type": "error", "error": {"code": "no", "message": "No."}}))
                continue
            response = {"id": f"resp_{len(self.received)}", "object": "response", "model": asked["model"], "output": []}
            websocket.send(json.dumps({"type": "response.created", "response": {**response, "status": "in_progress"}}))
            websocket.send(json.dumps({"type": "response.output_text.delta", "delta": "response.completed"}))
            usage = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}
            done = {**response, "status": "completed", "usage": usage}
            websocket.send(json.dumps({"type": "response.completed", "response": done}))


@pytest.fixture
def server():
    with Server() as running:
        yield running


def under(text=""):
    tokenguard.install(policy.loads(text + HOSTS))
    return runtime.installed().meter.guard


@pytest.fixture
def client(server, installed):
    under()
    with openai.OpenAI(base_url=server.url, api_key="k") as client:
        yield client


def until(connection, kind="response.completed"):
    while connection.recv().type != kind:
        pass


def test_a_session(client, installed, spans):
    """Two responses are two calls within the session's span."""
    with client.responses.connect() as connection:
        for _ in range(2):
            connection.response.create(model="gpt-4o-mini", input="Hello?")
            until(connection)
    assert [record.cost_usd for record in installed.records] == [pytest.approx(COST)] * 2
    assert [record.cost.status for record in installed.records] == ["exact", "exact"]
    one, _, session = spans.all()
    assert session.name == "responses"
    assert one.name == "chat gpt-4o-mini"
    assert one.parent.span_id == session.context.span_id


def test_asynchronously(server, client, installed):
    """The same for the asynchronous client."""

    async def work():
        async with (
            openai.AsyncOpenAI(base_url=server.url, api_key="k") as asynchronous,
            asynchronous.responses.connect() as connection,
        ):
            await connection.response.create(model="gpt-4o-mini", input="Hello?")
            while (await connection.recv()).type != "response.completed":
                pass

    connections.run(work())
    assert installed.records[0].cost_usd == pytest.approx(COST)


def test_a_budget_and_a_clamp(client, server, installed):
    """A response that does not fit is not sent, and the session goes on; a cap is set in the event."""
    guard = under(
        '[[budget]]\nname = "b"\nlimit_usd = 0.001\n[[limit]]\nname = "l"\nmax_output_tokens = 64\nthen = "clamp"\n'
    )
    with client.responses.connect() as connection:
        connection.response.create(model="gpt-4o-mini", input="Hello?")
        until(connection)
        with pytest.raises(BudgetExceeded):
            connection.response.create(model="gpt-4.5-preview", input="Hello?")
    assert [(each["model"], each["max_output_tokens"]) for each in server.received] == [("gpt-4o-mini", 64)]
    assert guard.ledger.accounts()[0].spent_nano == round(COST * 1e9)


def test_a_response_that_is_refused(client, installed):
    """What the provider refuses costs nothing."""
    guard = under('[[budget]]\nname = "b"\nlimit_usd = 5.0\n')
    with client.responses.connect() as connection:
        connection.response.create(model="gpt-4o-mini", input="refuse")
        until(connection, "error")
    (record,) = installed.records
    assert (record.outcome, record.cost) == ("error", None)
    assert guard.ledger.accounts()[0].reserved_nano == 0


@pytest.mark.parametrize("step", ["asked", "told", "tells"])
def test_internal_failure(step, client, installed, monkeypatch):
    """Each step of ours raises in turn, and the application gets its answers."""
    from tokenguard.seams.realtime import Responses

    monkeypatch.setenv("TOKENGUARD_STRICT", "0")
    monkeypatch.setattr(Responses, step, lambda *arguments: 1 / 0)
    under('[[budget]]\nname = "b"\nlimit_usd = 5.0\n')
    with client.responses.connect() as connection:
        connection.response.create(model="gpt-4o-mini", input="Hello?")
        until(connection)
