"""Responses that the provider works on in the background are measured when their answer is asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import httpx2
import pytest
from opentelemetry.trace import StatusCode

import tokenguard
from canned import async_openai_client, openai_client, responses_body
from tokenguard import policy
from tokenguard.installation import runtime

ASKED = {"model": "gpt-4o-mini", "input": "Research this.", "background": True}


class Provider:
    """Starts every response in the background, and has it ready when it is asked for the second time."""

    def __init__(self):
        self.asked = 0

    def __call__(self, request):
        if request.method == "POST" and not request.url.path.endswith("/cancel"):
            body = {**responses_body("queued"), "output": [], "usage": None}
            return httpx2.Response(200, json=body)
        self.asked += 1
        if request.url.path.endswith("/cancel"):
            return httpx2.Response(200, json={**responses_body("cancelled"), "output": []})
        body = {**responses_body("in_progress"), "output": [], "usage": None} if self.asked == 1 else responses_body()
        return httpx2.Response(200, json=body)

    async def asynchronously(self, request):
        return self(request)


def test_measured_when_it_is_there(installed, spans):
    """The call is one span, from its request to its answer, with the usage that the answer tells, and billed once."""
    client = openai_client(Provider())
    with tokenguard.attribution(tenant="t"), tokenguard.meter() as measured:
        made = client.responses.create(**ASKED)
    assert (made.status, len(spans), measured.calls) == ("queued", 0, 0)
    assert client.responses.retrieve(made.id).status == "in_progress"
    assert len(spans) == 0
    for _ in range(3):
        assert client.responses.retrieve(made.id).status == "completed"
    assert spans.attributes["gen_ai.usage.input_tokens"] == responses_body()["usage"]["input_tokens"]
    assert spans.attributes["tokenguard.tenant"] == "t"
    assert spans.attributes["tokenguard.cost.status"] == "exact"
    assert measured.calls == 1
    assert not installed.meter.pending


@pytest.mark.parametrize("background", [True, False])
def test_failed(background, installed, spans):
    """A response that comes back whole, but failed, is an error; what it used, if it says so, is what it cost."""

    def provider(request):
        failed = {**responses_body("failed"), "output": [], "error": {"code": "server_error", "message": "sorry"}}
        begun = {**responses_body("queued"), "output": [], "usage": None}
        return httpx2.Response(200, json=begun if background and request.method == "POST" else failed)

    client = openai_client(provider)
    made = client.responses.create(**{**ASKED, "background": background})
    if background:
        made = client.responses.retrieve(made.id)
    assert made.status == "failed"
    assert spans.one.status.status_code is StatusCode.ERROR
    assert spans.attributes["error.type"] == "server_error"
    assert spans.attributes["tokenguard.cost.status"] == "exact"
    assert [record.outcome for record in installed.records] == ["error"]


async def test_async_and_raw(installed, spans):
    """The same for coroutines, and for raw responses."""
    client = async_openai_client(Provider().asynchronously)
    made = await client.responses.create(**ASKED)
    await client.responses.with_raw_response.retrieve(made.id)
    assert len(spans) == 0
    raw = await client.responses.with_raw_response.retrieve(made.id)
    assert raw.parse().status == "completed"
    assert spans.attributes["tokenguard.cost.status"] == "exact"


def test_cancelled(installed, spans):
    """One that is cancelled ends with what was used until then."""
    client = openai_client(Provider())
    made = client.responses.create(**ASKED)
    client.responses.cancel(made.id)
    assert spans.attributes["gen_ai.response.finish_reasons"] == ("cancelled",)
    assert spans.attributes["tokenguard.cost.status"] == "exact"


def test_nobody_asks(installed, spans):
    """One that nobody asks for is ended with the process, as an estimate."""
    openai_client(Provider()).responses.create(**ASKED)
    assert len(spans) == 0
    tokenguard.uninstall()
    assert spans.attributes["tokenguard.cost.status"] == "estimated"
    assert spans.attributes["tokenguard.cost.basis"] == "missing_usage"


def test_stays_reserved(installed):
    """Its worst case stays reserved until it is settled."""
    budget = '[ledger]\nurl = "memory:"\n[[budget]]\nname = "b"\nlimit_usd = 1.0\n'
    tokenguard.install(policy.loads(budget, "tokenguard.toml"))
    ledger = runtime.installed().meter.guard.ledger
    client = openai_client(Provider())
    made = client.responses.create(**ASKED)
    assert ledger.accounts()[0].reserved_nano > 0
    client.responses.retrieve(made.id)
    client.responses.retrieve(made.id)
    balance = ledger.accounts()[0]
    assert balance.reserved_nano == 0
    assert balance.spent_nano > 0
    tokenguard.install(policy.Policy())


def test_of_another_process(installed, spans):
    """A response that this process did not start is somebody else's to measure."""
    client = openai_client(Provider())
    client.responses.retrieve("resp_other")
    client.responses.create(**ASKED)
    client.responses.retrieve("resp_other")
    assert len(spans) == 0


PROGRAM = """
import sys
import json
import os
import subprocess
import sys

import httpx2
import openai

def answer(request):
    return httpx2.Response(200, json={"id": "r1", "object": "response", "status": "queued", "output": []})

client = openai.OpenAI(api_key="k", http_client=httpx2.Client(transport=httpx2.MockTransport(answer)))
client.responses.create(model="gpt-4o-mini", input="Research this.", background=True)
"""


@pytest.mark.apart
def test_a_program_that_ends(tmp_path):
    """A program that starts one and ends leaves its record."""
    env = {**os.environ, "TOKENGUARD_STORE": str(tmp_path / "usage.db")}
    command = [sys.executable, "-m", "tokenguard", "report", "--format", "json", "--by", "model"]
    script = tmp_path / "app.py"
    script.write_text(PROGRAM)
    instrument = [sys.executable, "-c", "from tokenguard.installation.instrument import main; main()", str(script)]
    done = subprocess.run(instrument, env=env, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    shown = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert '"gpt-4o-mini"' in shown
    assert json.loads(shown)["total"]["calls"] == 1
