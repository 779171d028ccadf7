"""openai's realtime sessions, synchronous and not: a websocket that is opened by a manager, written to and read from.

A session is a span; each response in it is a call, whether the application asks for it (`response.create`) or the
provider begins it because somebody has spoken. The guard is asked before the websocket is opened and before a response
is asked for; a response that the provider has begun and no budget covers ends the session, as nothing could be refused
before. A message is looked at for the few types that tell of responses, and is the SDK's own bytes to the caller.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from tokenguard.call.flow import drive, drive_async
from tokenguard.facts.errors import GuardrailViolation
from tokenguard.metering.meter import Meter
from tokenguard.metering.sessions import Session, Turn, aclose, close, received
from tokenguard.providers import Sdk, endpoint_of
from tokenguard.providers.reading import fields, text
from tokenguard.providers.realtime import CONTEXT, HEARD, REALTIME, read_response
from tokenguard.seams.common.wrapping import Restore, replace

ATTRIBUTE = "_tokenguard_session"
TELLING = (b"response.done", b"response.created", b"transcription.completed", b'"session.', b'"error"')
"""What is in the messages that are looked at; the others are sound and text on their way."""
TYPE = re.compile(rb'"type"\s*:\s*"([a-z_.]+)"')
HEAD = 256
"""Bytes of a message in which its type is looked for."""


class Realtime(Session):
    """A session of OpenAI's."""

    settings: Mapping[str, Any] = {}
    """As the provider last told them."""

    def asked(self, event: Any) -> Turn | None:
        """What the application sends: a response that it asks for, as a call; `None` for anything else."""
        kind = event.get("type") if isinstance(event, Mapping) else getattr(event, "type", None)
        if kind != "response.create":
            return None
        said = event if isinstance(event, Mapping) else event.to_dict()
        return Turn(self, REALTIME, self._request(fields(said.get("response"))))

    def _request(self, given: Mapping[str, Any]) -> dict[str, Any]:
        kept = {key: value for key in ("instructions", "max_output_tokens") if (value := self.settings.get(key))}
        return {**kept, **given, "model": self.model, CONTEXT: self.context_tokens}

    def tells(self, message: bytes | str) -> bool:
        """Whether it may be looked at: not a piece of sound or text, whose type is at its beginning."""
        data = message.encode() if isinstance(message, str) else message
        kind = TYPE.search(data, 0, HEAD)
        if kind is not None and kind[1].endswith(b".delta"):
            return False
        return any(word in data for word in TELLING)

    def told(self, message: bytes | str) -> Turn | None:
        """What the provider sends: the beginning or the end of a response; a call that is yet to be made of it."""
        event = json.loads(message)
        kind = event.get("type")
        if kind == "response.created":
            if not self.begun(text(fields(event.get("response")).get("id"))):
                return Turn(self, REALTIME, self._request({}))
        elif kind == "response.done":
            if not self.done(read_response(event)):
                return Turn(self, REALTIME, self._request({}), told=event)
        elif kind == "conversation.item.input_audio_transcription.completed":
            return Turn(self, HEARD, {"model": self._hears_with()}, told=event)
        elif kind in ("session.created", "session.updated"):
            self.settings = fields(event.get("session"))
            self.model = self.model or text(self.settings.get("model"))
            self.named(text(self.settings.get("id")))
        elif kind == "error":
            self.refused(text(fields(event.get("error")).get("code")) or "error")
        return None

    def _hears_with(self) -> str | None:
        """The model that writes down what the user says."""
        heard = fields(fields(self.settings.get("audio")).get("input")).get("transcription")
        return text(fields(heard or self.settings.get("input_audio_transcription")).get("model"))

    def after(self, message: bytes | str) -> None:
        """A response that the provider has begun by itself has its call now: it goes by the response's id."""
        if self.waiting and b"response.created" in (message.encode() if isinstance(message, str) else message):
            self.begun(text(fields(json.loads(message).get("response")).get("id")))


def _sent(turn: Turn, event: Any) -> Any:
    """What is sent: the caller's own event, or one with what the guard has changed."""
    if not turn.changed:
        return event
    response = {key: value for key, value in turn.body.items() if key not in ("model", CONTEXT)}
    return {"type": "response.create", "response": response}


def _opening(manager: Any, sdk: Sdk) -> Turn:
    """A response as it could be asked for at the beginning: what the guard is asked for before a session opens."""
    name = type(manager).__name__
    client, model = getattr(manager, f"_{name}__client"), getattr(manager, f"_{name}__model", None)
    url = client._base_url
    port = url.port or (80 if url.scheme in ("http", "ws") else 443)
    endpoint = endpoint_of(type(client), url.host, port, sdk.provider)
    said = model if isinstance(model, str) else None
    session: Any = type("Opening", (), {"endpoint": endpoint})
    return Turn(session, REALTIME, {"model": said, "max_output_tokens": 1})


def patch(module: ModuleType, meter: Meter, sdk: Sdk) -> Restore:
    """Wrap what opens, reads, writes and closes a session in `openai.resources.realtime.realtime`."""
    restore = Restore()
    wrap = functools.partial(replace, restore, module)

    def opened(connection: Any, opening: Turn | None, limits: Any) -> None:
        if opening is not None:
            model = opening.body["model"]
            session = Realtime(meter, opening.endpoint, model, limits or ())
            connection.__dict__[ATTRIBUTE] = session

    def enter(original: Any) -> Any:
        def enter(self: Any) -> Any:
            opening = meter.look(_opening, self, sdk)
            limits = None if opening is None else drive(meter.permitted(opening), _nothing)
            connection = original(self)
            meter.contain("opening a session", opened, connection, opening, limits)
            return connection

        return enter

    def aenter(original: Any) -> Any:
        async def enter(self: Any) -> Any:
            opening = meter.look(_opening, self, sdk)
            limits = None if opening is None else await drive_async(meter.permitted(opening), anothing)
            connection = await original(self)
            meter.contain("opening a session", opened, connection, opening, limits)
            return connection

        return enter

    def recv(original: Any) -> Any:
        def recv_bytes(self: Any) -> Any:
            session: Realtime | None = self.__dict__.get(ATTRIBUTE)
            if session is None:
                return original(self)
            try:
                return drive(received(session), lambda: original(self))
            except GuardrailViolation as refusal:
                close(session, refusal, self.close)
                raise

        return recv_bytes

    def arecv(original: Any) -> Any:
        async def recv_bytes(self: Any) -> Any:
            session: Realtime | None = self.__dict__.get(ATTRIBUTE)
            if session is None:
                return await original(self)
            try:
                return await drive_async(received(session), lambda: original(self))
            except GuardrailViolation as refusal:
                await aclose(session, refusal, self.close)
                raise

        return recv_bytes

    def send(original: Any) -> Any:
        def send(self: Any, event: Any) -> Any:
            session: Realtime | None = self.__dict__.get(ATTRIBUTE)
            if session is None:
                return original(self, event)
            if (refusal := meter.contain("looking at a session", session.passed)) is not None:
                close(session, refusal, self.close)
                raise refusal
            turn = meter.contain("looking at an event", session.asked, event)
            if turn is None:
                return original(self, event)
            with session.within():
                return drive(meter.flow(turn), lambda: original(self, _sent(turn, event)))

        return send

    def asend(original: Any) -> Any:
        async def send(self: Any, event: Any) -> Any:
            session: Realtime | None = self.__dict__.get(ATTRIBUTE)
            if session is None:
                return await original(self, event)
            if (refusal := meter.contain("looking at a session", session.passed)) is not None:
                await aclose(session, refusal, self.close)
                raise refusal
            turn = meter.contain("looking at an event", session.asked, event)
            if turn is None:
                return await original(self, event)
            with session.within():
                return await drive_async(meter.flow(turn), lambda: original(self, _sent(turn, event)))

        return send

    def closing(original: Any) -> Any:
        def close(
            self: Any, *args: Any, **kwargs: Any
        ) -> Any:  # its value may be a coroutine: it is passed on as it is
            if (session := self.__dict__.get(ATTRIBUTE)) is not None:
                meter.contain("ending a session", session.end)
            return original(self, *args, **kwargs)

        return close

    wrap("RealtimeConnectionManager.__enter__", enter)
    wrap("AsyncRealtimeConnectionManager.__aenter__", aenter)
    wrap("RealtimeConnection.recv_bytes", recv)
    wrap("AsyncRealtimeConnection.recv_bytes", arecv)
    wrap("RealtimeConnection.send", send)
    wrap("AsyncRealtimeConnection.send", asend)
    wrap("RealtimeConnection.close", closing)
    wrap("AsyncRealtimeConnection.close", closing)
    return restore


def _nothing() -> None:
    """There is nothing to send: the provider has begun by itself."""


async def anothing() -> None:
    """The same for a coroutine."""
