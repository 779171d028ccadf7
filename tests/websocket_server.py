"""A server of websockets on loopback, in a thread: what it answers is its subclass's."""

from __future__ import annotations

import threading

import pytest

serve = pytest.importorskip("websockets.sync.server").serve


class WebsocketServer:
    """Runs while it is entered; `_serve(websocket)` is one connection."""

    def __init__(self):
        self.received = []
        self._server = serve(self._serve, "127.0.0.1", 0)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._server.shutdown()
        self._thread.join()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.socket.getsockname()[1]}"

    def _serve(self, websocket):
        raise NotImplementedError
