"""Alerts reach a callback and a webhook, and neither can delay or break a call."""

from __future__ import annotations

import base64
import hmac
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tokenguard.ledger import Alert, Entry, nano
from tokenguard.ledger import receivers as module
from tokenguard.ledger.receivers import Receivers, message
from tokenguard.ledger.webhook import signed
from tokenguard.policy.windows import FOREVER
from tokenguard.process import ends

IT = Entry("tenant per day", "tenant=t1", 1_800_000_000, 1_800_086_400, nano(20), 1000)
ALERT = Alert(IT, 0.8, nano(16.5), 400)

heard: list[dict] = []
gate = threading.Event()


def hear(what: dict) -> None:
    heard.append(what)


def fail(what: dict) -> None:
    raise ValueError("no such pager")


def hang(what: dict) -> None:
    gate.wait(10)


@pytest.fixture(autouse=True)
def _afresh() -> None:
    heard.clear()
    gate.clear()


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict]]]:
    posts: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if self.path == "/secret/broken" else 204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", posts
    server.shutdown()
    thread.join()
    server.server_close()


def test_message() -> None:
    """A message says in a sentence and in numbers whose budget has reached what."""
    assert message(ALERT) == {
        "text": 'Budget "tenant per day" (tenant=t1) has reached 80%: '
        "$16.5000 of $20.0000 and 400 of 1,000 tokens spent since 2027-01-15T08:00:00+00:00. "
        "It resets at 2027-01-16T08:00:00+00:00: wait, raise the limit, or send less.",
        "budget": "tenant per day",
        "key": "tenant=t1",
        "threshold": 0.8,
        "refused": False,
        "window_start": "2027-01-15T08:00:00+00:00",
        "window_end": "2027-01-16T08:00:00+00:00",
        "resets_at": "2027-01-16T08:00:00+00:00",
        "spent_usd": 16.5,
        "limit_usd": 20.0,
        "spent_tokens": 400,
        "limit_tokens": 1000,
    }
    forever = message(Alert(Entry("all", "", 0, FOREVER, None, 5), 1.0, 0, 5, refused=True))
    assert forever["window_end"] is None
    assert 'Budget "all" refuses calls: 5 of 5 tokens spent' in forever["text"]
    assert "It never resets: raise the limit" in forever["text"]
    tiny = message(Alert(Entry("all", "", 0, FOREVER, 20_000, None), 0.8, 16_000, 0, refused=False))
    assert "$0.000016 of $0.000020 spent" in tiny["text"]


def test_callback_and_webhook(hook: tuple[str, list[dict]]) -> None:
    """Both are told of every alert, in order; the thread ends when there is nothing more to tell."""
    url, posts = hook
    receivers = Receivers(f"{__name__}:hear", url)
    receivers.tell([ALERT, ALERT._replace(threshold=1.0)])
    receivers.close()
    assert [what["threshold"] for what in heard] == [0.8, 1.0]
    assert posts == heard
    receivers.tell([ALERT])
    receivers.close()
    assert len(posts) == 3
    assert not receivers._worker.runs


def test_webhook_is_tried_again(
    hook: tuple[str, list[dict]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A webhook that fails is tried again; what it never took is in the log, whole, for somebody to look at."""
    monkeypatch.setattr(module, "RETRIES_S", (0.01, 0.01))
    url, posts = hook
    receivers = Receivers(None, url + "/secret/broken")
    receivers.tell([ALERT])
    receivers.close()
    assert len(posts) == 3
    assert "an alert could not be delivered" in caplog.text
    assert '"budget": "tenant per day"' in caplog.text


def test_webhook_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a secret in the environment the receiver can tell who has sent it, as Standard Webhooks has it."""
    monkeypatch.setenv("TOKENGUARD_WEBHOOK_SECRET", "whsec_" + base64.b64encode(b"key").decode())
    headers = signed(b"body")
    told = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.body".encode()
    digest = base64.b64encode(hmac.digest(b"key", told, "sha256")).decode()
    assert headers["webhook-signature"] == f"v1,{digest}"
    monkeypatch.setenv("TOKENGUARD_WEBHOOK_SECRET", "")
    assert signed(b"body") == {}


def test_failures_are_logged(
    hook: tuple[str, list[dict]], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver that fails is logged without its URL, and the other one is told all the same."""
    monkeypatch.setattr(module, "RETRIES_S", ())
    url, posts = hook
    with caplog.at_level(logging.WARNING):
        for callback in (f"{__name__}:fail", f"{__name__}:nothing", "no_such_module_here:f"):
            receivers = Receivers(callback, url + "/secret/broken")
            receivers.tell([ALERT])
            receivers.close()
    assert len(posts) == 3
    text = caplog.text
    assert "fail failed: ValueError: no such pager" in text
    assert "nothing failed: AttributeError" in text
    assert "no_such_module_here:f failed: ModuleNotFoundError" in text
    assert "[alerts] webhook failed: HTTPError: HTTP Error 500" in text
    assert "secret" not in text


def test_slow_receiver(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A receiver that hangs delays nobody; what it cannot take any more is logged and dropped."""
    monkeypatch.setattr(module, "_MAX_WAITING", 3)
    receivers = Receivers(f"{__name__}:hang")
    start = time.monotonic()
    with caplog.at_level(logging.WARNING):
        receivers.tell([ALERT] * 10)
    assert time.monotonic() - start < 1
    assert "was dropped, because its receiver is too slow" in caplog.text
    receivers.close(0.05)
    assert time.monotonic() - start < 5
    gate.set()
    receivers.close()
    assert not receivers._worker.runs


@pytest.mark.parametrize("since", ["before the end", "at the end"])
def test_a_webhook_that_hangs_at_the_end(
    since: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The end of a process waits for all of its alerts together no longer than for one; each is in the log, once."""
    monkeypatch.setattr(ends, "PATIENCE_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        receivers = Receivers(webhook=f"http://127.0.0.1:{silent.getsockname()[1]}/secret", timeout_s=1)
        if since == "at the end":
            monkeypatch.setattr(ends, "ending", True)
        began = time.monotonic()
        receivers.tell([ALERT] * 4)
        monkeypatch.setattr(ends, "ending", True)
        receivers.finish()
        assert time.monotonic() - began < 2
        receivers.close()
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert [json.loads(text.partition(": ")[2]) for text in said] == [message(ALERT)] * 4
    assert "secret" not in caplog.text


def test_nobody_to_tell() -> None:
    """Without receivers there is no thread."""
    receivers = Receivers()
    receivers.tell([ALERT])
    receivers.close()
    assert not receivers._worker.runs
