"""A provider on loopback that gives canned answers, for what the simulated provider does not speak."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Asked(NamedTuple):
    """A request as it came."""

    method: str
    path: str
    body: dict


class Loopback:
    """Answers each request with what `answer(asked)` gives: an object, a list of server-sent events, or a status.

    `sse` makes the bytes of an event. The requests are in `asked`; `delays` holds the first answers back, in seconds.
    """

    def __init__(self, answer):
        self.answer = answer
        self.asked = []
        self.delays = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def _handler(here):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def reply(self):
                sent = self.rfile.read(int(self.headers.get("content-length") or 0))
                asked = Asked(self.command, self.path, json.loads(sent or b"{}"))
                here.asked.append(asked)
                if here.delays:
                    time.sleep(here.delays.pop(0))
                given = here.answer(asked)
                status = given if isinstance(given, int) else 200
                streams = isinstance(given, list)
                body = b"".join(map(sse, given)) if streams else json.dumps({} if status >= 400 else given).encode()
                try:
                    self.send_response(status)
                    self.send_header("content-type", "text/event-stream" if streams else "application/json")
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:  # the client has gone
                    self.close_connection = True

            do_GET = do_POST = do_DELETE = reply

        return Handler


def sse(event):
    """An event, named by its type."""
    kind = event.get("type") or event.get("event_type")
    named = f"event: {kind}\n" if kind else ""
    return f"{named}data: {json.dumps(event)}\n\n".encode()
