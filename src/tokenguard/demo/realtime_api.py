"""`SimulatedRealtime`: OpenAI's realtime API on loopback, over real websockets (`pip install websockets`).

It speaks as the provider does: a session is created, what is said becomes part of the conversation, each response bills
the whole of it again, the part before the last turn at the cached rate; and it keeps the books.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tokenguard.facts.usage import Usage

SOUND = base64.b64encode(b"\x00\x01" * 1200).decode()
"""A piece of sound, as it is in an event: 50 ms."""
INSTRUCTIONS = 20
"""Tokens of text that a session begins with."""
SPOKEN = (40, 10)
"""Tokens of sound and of text that a response is."""
HEARD = 30
"""Tokens of sound that the words of a user are."""


class Conversation:
    """One session, as the provider keeps it."""

    def __init__(self, model: str, number: int) -> None:
        self.session: dict[str, Any] = {
            "type": "realtime",
            "id": f"sess_{number}",
            "model": model,
            "instructions": "Be brief.",
            "audio": {"input": {"turn_detection": {"type": "server_vad"}}},
        }
        self.text, self.audio, self.before = INSTRUCTIONS, 0, (0, 0)
        self.pieces = 0
        self._numbers = itertools.count(1)

    def answers(self, event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The events that follow one of the client's."""
        match event["type"]:
            case "session.update":
                self.session |= event["session"]
                yield {"type": "session.updated", "session": self.session}
            case "conversation.item.create":
                self.text += 10
                yield {"type": "conversation.item.added", "item": event["item"]}
            case "input_audio_buffer.append":
                self.pieces += 1
                if self.pieces % 3 == 0:  # silence: somebody has spoken
                    yield from self._spoken()
            case "response.create" if event.get("response", {}).get("instructions") == "refuse":
                yield {"type": "error", "error": {"type": "invalid_request_error", "code": "no", "message": "No."}}
            case "response.create":
                yield from self.response(event.get("response") or {})

    def _spoken(self) -> Iterator[dict[str, Any]]:
        self.audio += HEARD
        yield {"type": "input_audio_buffer.committed", "item_id": "item_1"}
        heard = self.session["audio"]["input"].get("transcription")
        if heard is not None:
            tokens = {"type": "tokens", "input_tokens": 30, "output_tokens": 5, "total_tokens": 35}
            tokens["input_token_details"] = {"audio_tokens": 30, "text_tokens": 0}
            seconds = {"type": "duration", "seconds": 3.0}
            usage = seconds if heard["model"] == "whisper-1" else tokens
            kind = "conversation.item.input_audio_transcription.completed"
            yield {"type": kind, "item_id": "item_1", "content_index": 0, "transcript": "A coat?", "usage": usage}
        yield from self.response({})

    def response(self, asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """A response, from its beginning to its end."""
        response = {"object": "realtime.response", "id": f"resp_{next(self._numbers)}", "output": []}
        yield {"type": "response.created", "response": {**response, "status": "in_progress"}}
        for _ in range(3):
            at = {"item_id": "item_2", "output_index": 0, "content_index": 0}
            yield {"type": "response.output_audio.delta", "response_id": response["id"], **at, "delta": SOUND}
        text, audio = self.before
        usage = {
            "total_tokens": self.text + self.audio + sum(SPOKEN),
            "input_tokens": self.text + self.audio,
            "output_tokens": sum(SPOKEN),
            "input_token_details": {
                "text_tokens": self.text,
                "audio_tokens": self.audio,
                "image_tokens": 0,
                "cached_tokens": text + audio,
                "cached_tokens_details": {"text_tokens": text, "audio_tokens": audio, "image_tokens": 0},
            },
            "output_token_details": {"audio_tokens": SPOKEN[0], "text_tokens": SPOKEN[1]},
        }
        self.before = (self.text, self.audio)
        self.audio, self.text = self.audio + SPOKEN[0], self.text + SPOKEN[1]
        yield {"type": "response.done", "response": {**response, "status": "completed", "usage": usage}}


class SimulatedRealtime:
    """The server; a context manager. `drop_after` events of a session it hangs up."""

    def __init__(self) -> None:
        from websockets.sync.server import serve

        self.received: list[dict[str, Any]] = []
        self.billed: list[Usage] = []
        self.reasons: list[tuple[int | None, str]] = []
        """How sessions were closed: the code and the reason."""
        self.drop_after: int | None = None
        self._numbers = itertools.count(1)
        self._server = serve(self._serve, "127.0.0.1", 0)
        self._thread = threading.Thread(target=self._server.serve_forever, name="simulated-realtime", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()

    @property
    def url(self) -> str:
        """`base_url` of OpenAI clients."""
        return f"http://127.0.0.1:{self._server.socket.getsockname()[1]}/v1"

    def _serve(self, websocket: Any) -> None:
        from websockets.exceptions import ConnectionClosed

        query = parse_qs(urlsplit(websocket.request.path).query)
        conversation = Conversation(query.get("model", ["gpt-realtime"])[0], next(self._numbers))
        sent = 0
        with contextlib.suppress(ConnectionClosed):  # whoever hangs up may do so in the middle of an answer
            created = {"type": "session.created", "event_id": "event_0", "session": conversation.session}
            websocket.send(json.dumps(created))
            for message in websocket:
                event = json.loads(message)
                self.received.append(event)
                for answer in conversation.answers(event):
                    if self.drop_after is not None and sent >= self.drop_after:
                        websocket.socket.shutdown(socket.SHUT_RDWR)  # a `close` alone waits for who reads from it
                        return
                    if (usage := answer.get("response", {}).get("usage")) is not None:
                        self.billed.append(Usage(usage["input_tokens"], usage["output_tokens"]))
                    sent += 1
                    websocket.send(json.dumps({"event_id": f"event_{sent}", **answer}))
        self.reasons.append((websocket.protocol.close_code, websocket.protocol.close_reason or ""))
