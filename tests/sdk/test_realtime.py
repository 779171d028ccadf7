"""Realtime sessions, over real websockets: each response is a call, budgets hold, and nothing that passes is changed.

gpt-realtime costs, a million tokens: text $4 in, $0.40 cached, $16 out; sound $32 in, $0.40 cached, $64 out
(https://developers.openai.com/api/docs/pricing).
"""

from __future__ import annotations

import json
import time

import pytest

import connections
import tokenguard
from rows import few
from tokenguard import BudgetExceeded, LimitExceeded, policy
from tokenguard.installation import runtime
from tokenguard.metering.ahead import Ahead
from tokenguard.metering.sessions import Session
from tokenguard.seams import realtime
from tokenguard.seams.common.sessions import ATTRIBUTE, reading, through, writing

openai = pytest.importorskip("openai")
pytest.importorskip("openai.resources.realtime.realtime")
pytest.importorskip("websockets")

from tokenguard.demo.realtime_api import SOUND, SimulatedRealtime  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*must be used as a context manager")  # the SDK's own use

HOSTS = '[hosts]\n"127.0.0.1" = "sdk"\n[ledger]\nurl = "memory:"\n'
MODEL = "gpt-realtime"


@pytest.fixture
def server():
    with SimulatedRealtime() as running:
        yield running


@pytest.fixture
def client(server, installed):
    tokenguard.install(policy.loads(HOSTS))
    with openai.OpenAI(base_url=server.url, websocket_base_url=f"ws{server.url[4:]}", api_key="k") as client:
        yield client


def under(text):
    tokenguard.install(policy.loads(text + HOSTS))
    return runtime.installed().meter.guard


def until(connection, kind="response.done"):
    """The types of the events up to one of this kind."""
    seen = []
    for event in connection:
        seen.append(event.type)
        if event.type == kind:
            return seen
    return seen


def say(connection, pieces=3):
    for _ in range(pieces):
        connection.input_audio_buffer.append(audio=SOUND)


def closed(server, sessions):
    """How so many sessions were closed, as the server has it."""
    patience = time.monotonic() + 5
    while len(server.reasons) < sessions and time.monotonic() < patience:
        time.sleep(0.01)
    return server.reasons


def usd(text, heard, cached, written, spoken):
    return text * 4e-6 + heard * 32e-6 + cached * 0.4e-6 + written * 16e-6 + spoken * 64e-6


def test_a_session(client, installed, spans):
    """Two responses are two calls within the session's span, by modality and cached part, to the cent."""
    with client.realtime.connect(model=MODEL) as connection:
        connection.response.create()
        kinds = until(connection)
        connection.response.create()
        until(connection)
    assert kinds == ["session.created", "response.created", *["response.output_audio.delta"] * 3, "response.done"]
    first, second = installed.records
    assert first.cost_usd == pytest.approx(usd(20, 0, 0, 10, 40))
    assert second.cost_usd == pytest.approx(usd(30 - 20, 40, 20, 10, 40))
    assert [record.cost.status for record in installed.records] == ["exact", "exact"]
    one, other, session = spans.all()
    assert session.name == "realtime gpt-realtime"
    assert one.parent.span_id == other.parent.span_id == session.context.span_id
    assert other.attributes["gen_ai.usage.audio.input_tokens"] == 40
    assert other.attributes["gen_ai.usage.audio.output_tokens"] == 40
    assert other.attributes["gen_ai.usage.cache_read.input_tokens"] == 20
    assert session.attributes["tokenguard.session.cost_usd"] == pytest.approx(first.cost_usd + second.cost_usd)
    assert session.attributes["tokenguard.session.responses"] == 2
    assert session.attributes["gen_ai.conversation.id"] == "sess_1"


def test_a_session_asynchronously(server, client, installed):
    """The same for the asynchronous client."""

    async def work():
        async with (
            openai.AsyncOpenAI(
                base_url=server.url, websocket_base_url=f"ws{server.url[4:]}", api_key="k"
            ) as asynchronous,
            asynchronous.realtime.connect(model=MODEL) as connection,
        ):
            await connection.response.create()
            while (event := await connection.recv()).type != "response.done":
                pass
            return event.response.usage.total_tokens

    assert connections.run(work()) == 70
    (record,) = installed.records
    assert record.cost_usd == pytest.approx(usd(20, 0, 0, 10, 40))


def test_what_somebody_says(client, installed, spans):
    """A response that the provider begins by itself is a call, too."""
    with client.realtime.connect(model=MODEL) as connection:
        say(connection)
        until(connection)
    (record,) = installed.records
    assert record.cost_usd == pytest.approx(usd(20, 30, 0, 10, 40))
    assert record.outcome == "ok"


@pytest.mark.parametrize(
    ("model", "cost"),
    [("whisper-1", 3 * 0.0001), ("gpt-4o-transcribe", 30 * 2.5e-6 + 5 * 1e-5)],
    ids=["seconds", "tokens"],
)
def test_what_is_written_down(model, cost, client, installed):
    """Transcripts of what is said are calls to the model that makes them, at its price."""
    with client.realtime.connect(model=MODEL) as connection:
        connection.session.update(session={"type": "realtime", "audio": {"input": {"transcription": {"model": model}}}})
        say(connection)
        until(connection)
    heard, _ = installed.records
    assert heard.attributes["gen_ai.operation.name"] == "transcription"
    assert heard.model == model
    assert heard.cost_usd == pytest.approx(cost)


# --- budgets ----------------------------------------------------------------------------------------------------------


def test_a_budget_before_the_session(client, server, installed, spans):
    """A budget that is spent lets no session open: nothing is sent."""
    under('[[budget]]\nname = "b"\nlimit_usd = 0.0\n')
    with pytest.raises(BudgetExceeded), client.realtime.connect(model=MODEL):
        pass
    assert server.received == []
    assert spans.attributes["tokenguard.guard.action"] == "block"


def test_a_budget_before_a_response(client, server, installed):
    """What is asked for is reserved, and one that does not fit is not sent; the session stays open."""
    guard = under('[[budget]]\nname = "b"\nlimit_usd = 0.2\n')  # 4,096 tokens of sound are $0.262
    with client.realtime.connect(model=MODEL) as connection:
        connection.response.create(response={"max_output_tokens": 100})
        until(connection)
        (account,) = guard.ledger.accounts()
        assert (account.spent_nano, account.reserved_nano) == (round(usd(20, 0, 0, 10, 40) * 1e9), 0)
        with pytest.raises(BudgetExceeded):
            connection.response.create(response={"max_output_tokens": 4096})
        connection.response.create(response={"max_output_tokens": 50})
        until(connection)
    asked = [event["response"]["max_output_tokens"] for event in server.received if event["type"] == "response.create"]
    assert asked == [100, 50]


def test_a_clamp(client, server):
    """A limit with a clamp sets the cap of a response on the wire, and leaves the rest of what was asked."""
    under('[[limit]]\nname = "l"\nmax_output_tokens = 64\nthen = "clamp"\n')
    with client.realtime.connect(model=MODEL) as connection:
        connection.response.create(response={"instructions": "Sing."})
        until(connection)
    assert server.received == [
        {"type": "response.create", "response": {"instructions": "Sing.", "max_output_tokens": 64}}
    ]


def test_a_budget_of_what_is_said(client, server, installed, spans):
    """Where nothing could be refused before, the session is closed, with the reason in the websocket's last frame."""
    with client.realtime.connect(model=MODEL) as connection:
        until(connection, "session.created")
        under('[[budget]]\nname = "spent"\nlimit_usd = 0.0\n')
        with pytest.raises(BudgetExceeded):  # noqa: PT012 - it may be either
            say(connection)
            until(connection)
    ((code, reason),) = closed(server, 1)
    assert code == 1000
    assert 'budget "spent"' in reason
    session = spans.all()[-1]
    assert session.attributes["tokenguard.guard.rule"] == "spent"
    assert session.attributes["error.type"] == "tokenguard.BudgetExceeded"


def test_a_limit_of_a_session(client, server, installed):
    """`max_session_usd` closes a session that has come to it, whoever speaks next."""
    under('[[limit]]\nname = "call"\nmax_session_usd = 0.003\n')
    with client.realtime.connect(model=MODEL) as connection:
        connection.response.create()
        until(connection)  # $0.0028
        connection.response.create()
        until(connection)
        with pytest.raises(LimitExceeded, match=r"has come to \$0\.0068.*allows \$0\.003") as refused:
            connection.response.create()
    assert refused.value.rule == "call"
    assert len(installed.records) == 2


def test_a_long_session(client, server, caplog, monkeypatch):
    """`max_session_seconds` closes one that is open for too long; with `warn` it is logged, once."""
    under('[[limit]]\nname = "long"\nmax_session_seconds = 60\nthen = "warn"\n')
    with client.realtime.connect(model=MODEL) as connection:
        connection.__dict__[ATTRIBUTE].began -= 61
        for _ in range(2):
            connection.response.create()
            until(connection)
    assert caplog.text.count("has been open for 61 s") == 1
    under('[[limit]]\nname = "long"\nmax_session_seconds = 60\n')
    with client.realtime.connect(model=MODEL) as connection:
        connection.__dict__[ATTRIBUTE].began -= 61
        with pytest.raises(LimitExceeded, match=r"open for 61 s.*allows 60 s"):
            connection.input_audio_buffer.append(audio=SOUND)
    assert "open for 61 s" in "".join(reason for _, reason in closed(server, 2))


def test_a_silent_session(client, server):
    """One that is open for too long is closed though nobody says anything, and whoever waits gets the reason."""
    under('[[limit]]\nname = "long"\nmax_session_seconds = 0.2\n')
    with client.realtime.connect(model=MODEL) as connection:
        until(connection, "session.created")
        with pytest.raises(LimitExceeded, match=r"allows 0\.2 s"):
            connection.recv()
    assert "allows 0.2 s" in "".join(reason for _, reason in closed(server, 1))


def test_a_silent_session_asynchronously(server, client):
    """The same for the asynchronous client."""
    under('[[limit]]\nname = "long"\nmax_session_seconds = 0.2\n')

    async def work():
        async with (
            openai.AsyncOpenAI(
                base_url=server.url, websocket_base_url=f"ws{server.url[4:]}", api_key="k"
            ) as asynchronous,
            asynchronous.realtime.connect(model=MODEL) as connection,
        ):
            await connection.recv()
            await connection.recv()

    with pytest.raises(LimitExceeded, match=r"allows 0\.2 s"):
        connections.run(work())
    assert "allows 0.2 s" in "".join(reason for _, reason in closed(server, 1))


# --- the minute ahead -------------------------------------------------------------------------------------------------

BUDGET = '[[budget]]\nname = "b"\nlimit_usd = 5.0\n'
MINUTE = 600 * 32_000
"""Nano-dollars of a minute of sound that is heard."""


WORDS = 200 * 32_000
"""What is held for the words of a request, at the most."""


def settled(guard, reserved):
    """The only account, once this much is reserved in it, and as much for words as there may be."""
    patience, more = time.monotonic() + 5, WORDS if reserved else 0
    while (account := next(iter(guard.ledger.accounts()), None)) is None or not (
        reserved <= account.reserved_nano <= reserved + more
    ):
        assert time.monotonic() < patience, account
        time.sleep(0.005)
    return account


CAPPED = {"type": "realtime", "max_output_tokens": 100, "audio": {"input": {"turn_detection": {"type": "server_vad"}}}}


def opened_with(connection, **settings):
    until(connection, "session.created")
    connection.session.update(session={**CAPPED, **settings})
    until(connection, "session.updated")


def test_a_minute_is_held_ahead(client, server, installed):
    """While sound is sent, the response that may follow is held with a minute of sound; it becomes that response's."""
    guard = under('[[budget]]\nname = "b"\nlimit_usd = 5.0\n')
    with client.realtime.connect(model=MODEL) as connection:
        opened_with(connection)
        say(connection, 1)
        heard = settled(guard, MINUTE + 100 * 64_000)
        assert heard.spent_nano == 0
        say(connection, 2)
        until(connection)
        (record,) = installed.records
        assert settled(guard, 0).spent_nano == round(record.cost_usd * 1e9)
        assert len(server.billed) == 1
        say(connection, 1)  # the next one's
        settled(guard, MINUTE + 32_000 * 100 + 100 * 64_000)
    assert settled(guard, 0).spent_nano == round(record.cost_usd * 1e9)
    assert len(installed.records) == 1


def test_a_minute_that_cannot_be_held(client, server, installed):
    """Sound is sent, and nothing is left for what may follow: the session is closed before that is billed."""
    under('[[budget]]\nname = "b"\nlimit_usd = 0.02\n')
    with client.realtime.connect(model=MODEL) as connection:
        opened_with(connection)
        with pytest.raises(BudgetExceeded) as refused:  # noqa: PT012
            say(connection, 1)
            while connection.__dict__[ATTRIBUTE].ahead.refusal is None:
                time.sleep(0.005)
            say(connection, 1)
    assert refused.value.rule == "b"
    ((code, reason),) = closed(server, 1)
    assert code == 1000
    assert 'budget "b"' in reason
    assert server.billed == []
    assert [record.outcome for record in installed.records] == ["blocked"]


def test_much_sound_at_once(client, server, installed):
    """Sound that is sent faster than it is spoken is held by its length, and not by the clock."""
    guard = under('[[budget]]\nname = "b"\nlimit_usd = 5.0\n')
    with client.realtime.connect(model=MODEL) as connection:
        audio = {"input": {"turn_detection": {"type": "server_vad"}, "format": {"type": "audio/pcmu"}}}
        opened_with(connection, audio=audio)
        half = "A" * (8_000 * 30 * 4 // 3)
        connection.input_audio_buffer.append(audio=half)
        settled(guard, MINUTE * 3 // 2 + 100 * 64_000)
        for _ in range(2):
            connection.input_audio_buffer.append(audio=half)
        settled(guard, MINUTE * 5 // 2 + 100 * 64_000)


def test_no_turns_of_its_own(client, installed):
    """Where the provider begins nothing by itself, nothing is held; what was heard counts when it is asked for."""
    guard = under('[[budget]]\nname = "b"\nlimit_usd = 5.0\n')
    with client.realtime.connect(model=MODEL) as connection:
        opened_with(connection, audio={"input": {"turn_detection": None, "format": {"type": "audio/pcmu"}}})
        connection.input_audio_buffer.append(audio="A" * (8_000 * 60 * 4 // 3))
        assert settled(guard, 0).spent_nano == 0
        connection.response.create()
        settled(guard, MINUTE + 100 * 64_000)


def test_only_transcripts(client, installed):
    """A session that only writes down what it hears holds a minute at the price of that model."""
    guard = under('[[budget]]\nname = "b"\nlimit_usd = 5.0\n')
    with client.realtime.connect(model=MODEL) as connection:
        audio = {"input": {"transcription": {"model": "whisper-1"}}}
        opened_with(connection, type="transcription", audio=audio)
        say(connection, 1)
        settled(guard, 60 * 100_000)


def test_the_minute_that_is_held_is_held_again(client, monkeypatch):
    """After three quarters of a minute the next one is held, in the place of the first."""
    guard = under('[[budget]]\nname = "b"\nlimit_usd = 5.0\n')
    with client.realtime.connect(model=MODEL) as connection:
        opened_with(connection)
        say(connection, 1)
        settled(guard, MINUTE + 100 * 64_000)
        session = connection.__dict__[ATTRIBUTE]
        session.ahead._until -= 46
        held = session.ahead._call
        say(connection, 1)
        patience = time.monotonic() + 5
        while session.ahead._call in (held, None) and time.monotonic() < patience:
            time.sleep(0.005)
        assert held.finished
        settled(guard, MINUTE + 100 * 64_000)


def test_a_raw_event(client, server):
    """What is written as JSON is seen as well, and a limit's cap is set in it."""
    under('[[limit]]\nname = "l"\nmax_output_tokens = 64\nthen = "clamp"\n')
    with client.realtime.connect(model=MODEL) as connection:
        if not hasattr(connection, "send_raw"):
            pytest.skip("this version has none")
        connection.send_raw(json.dumps({"type": "response.create", "response": {"instructions": "Sing."}}))
        until(connection)
    assert server.received == [
        {"type": "response.create", "response": {"instructions": "Sing.", "max_output_tokens": 64}}
    ]


# --- ends -------------------------------------------------------------------------------------------------------------


def test_a_session_that_breaks_off(client, server, installed, spans):
    """The provider hangs up in the middle: the response is charged as it was reserved, and nothing stays open."""
    guard = under('[[budget]]\nname = "b"\nlimit_usd = 5.0\n')
    server.drop_after = 2
    with client.realtime.connect(model=MODEL) as connection:
        connection.response.create(response={"max_output_tokens": 100})
        with pytest.raises(Exception, match="close"):
            until(connection)
    (record,) = installed.records
    assert (record.outcome, record.cost.basis) == ("abandoned", "abandoned_stream")
    (account,) = guard.ledger.accounts()
    assert account.reserved_nano == 0
    assert account.spent_nano >= 100 * 64_000
    assert spans.all()[-1].attributes["error.type"].startswith("websockets")


def test_a_session_that_is_left(client, installed):
    """An application that leaves in the middle: the same, and it is no error."""
    with client.realtime.connect(model=MODEL) as connection:
        connection.response.create()
        until(connection, "response.output_audio.delta")
    (record,) = installed.records
    assert record.outcome == "abandoned"


def test_a_response_that_is_refused(client, installed):
    """What the provider refuses costs nothing, and gives back what was reserved."""
    guard = under('[[budget]]\nname = "b"\nlimit_usd = 5.0\n')
    with client.realtime.connect(model=MODEL) as connection:
        connection.response.create(response={"instructions": "refuse"})
        until(connection, "error")
    (record,) = installed.records
    assert (record.outcome, record.cost) == ("error", None)
    (account,) = guard.ledger.accounts()
    assert (account.spent_nano, account.reserved_nano) == (0, 0)


# --- the user's session is sacred -------------------------------------------------------------------------------------

STEPS = [
    *((Session, name) for name in ("__init__", "begun", "done", "passed", "end", "came_to", "refusal")),
    *((realtime.Realtime, name) for name in ("asked", "tells", "told", "after", "coming", "sound_in")),
    *((Ahead, name) for name in ("hold", "_ask", "take", "end")),
    *((realtime, name) for name in ("_opening", "read_response")),
]


@pytest.mark.parametrize(("owner", "step"), few(STEPS, 6), ids=lambda value: getattr(value, "__name__", value))
def test_internal_failure(owner, step, client, installed, monkeypatch):
    """Each internal step raises in turn, and what the application sees is what it would have seen."""
    monkeypatch.setenv("TOKENGUARD_STRICT", "0")
    monkeypatch.setattr(owner, step, lambda *arguments: 1 / 0)
    under('[[limit]]\nname = "l"\nmax_session_usd = 5\n[[budget]]\nname = "b"\nlimit_usd = 5.0\n')
    with client.realtime.connect(model=MODEL) as connection:
        connection.response.create()
        assert until(connection)[-1] == "response.done"
        say(connection)
        assert until(connection)[-1] == "response.done"


def test_an_event_is_not_delayed(client):
    """Reading and writing a piece of sound takes less than 20 microseconds more, with a budget and a limit in force."""
    under('[[limit]]\nname = "l"\nmax_session_usd = 5\nmax_session_seconds = 60\n' + BUDGET)
    message = json.dumps({"type": "response.output_audio.delta", "response_id": "resp_1", "delta": SOUND * 4}).encode()
    event = {"type": "input_audio_buffer.append", "audio": SOUND}

    class Connection:
        def recv_bytes(self):
            return message

        def send(self, event):
            return None

        def close(self, reason=""):
            return None

    with client.realtime.connect(model=MODEL) as real:
        bare, seen = Connection(), Connection()
        seen.__dict__[ATTRIBUTE] = real.__dict__[ATTRIBUTE]
        read = through(reading)(Connection.recv_bytes)
        write = through(writing(realtime.Realtime.asked, realtime.Realtime.sound_in))(Connection.send)
        for work, argument in ((read, ()), (write, (event,))):
            added = [_timed(work, seen, argument) - _timed(work, bare, argument) for _ in range(7)]
            assert min(added) < 20e-6


def _timed(work, connection, argument, rounds=500):
    began = time.perf_counter()
    for _ in range(rounds):
        work(connection, *argument)
    return (time.perf_counter() - began) / rounds
