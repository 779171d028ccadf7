"""openai's sessions, synchronous and not: a websocket that is opened by a manager, written to and read from.

A session is a span; each response in it is a call, whether the application asks for it (`response.create`) or the
provider begins it because somebody has spoken. The guard is asked before the websocket is opened and before a response
is asked for; what the provider may begin by itself is held while sound is sent. A message is looked at for the few
types that tell of responses, and is the SDK's own bytes to the caller. The Responses API over a websocket is the same,
without anything that the provider begins by itself.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from tokenguard.call.flow import SEND, Answer, Flow, drive, drive_async
from tokenguard.facts.patterns import lazy
from tokenguard.metering.meter import Meter
from tokenguard.metering.session_flows import watch
from tokenguard.metering.sessions import Session, Turn
from tokenguard.providers import Endpoint, Sdk, endpoint_of
from tokenguard.providers.media import AUDIO_TOKENS
from tokenguard.providers.openai import RESPONSES
from tokenguard.providers.reading import fields, text
from tokenguard.providers.realtime import CONTEXT, HEARD, REALTIME, read_response
from tokenguard.seams.common.sessions import ATTRIBUTE, closer, closing, reading, taken, through, writing
from tokenguard.seams.common.wrapping import Restore, replace

TELLING = (
    *(b"response.done", b"response.created", b"transcription.completed", b'"error"'),
    *(b"session.created", b"session.updated"),
)
"""What is in the messages that are looked at; the others are sound and text on their way."""
TYPE = lazy(rb'"type"\s*:\s*"([a-z_.]+)"')
SETTINGS: Mapping[object, Mapping[str, Any]] = {
    "session.created": {},
    "session.updated": {},
    "transcription_session.created": {"type": "transcription"},
    "transcription_session.updated": {"type": "transcription"},
}
"""The events that tell how a session is set up, and what they leave unsaid."""
TURNS: Mapping[str, Any] = {}
"""How a session finds that somebody has finished, where it has told nothing of it: as the provider does by default."""
HEAD = 256
"""Bytes of a message in which its type is looked for."""


class Realtime(Session):
    """A session of OpenAI's."""

    settings: Mapping[str, Any] = {}
    """As the provider last told them."""

    def asked(self, event: Any) -> Turn | None:
        """What the application sends: a response that it asks for, as a call; `None` for anything else."""
        said = _asked(event)
        if said is None:
            return None
        return Turn(self.endpoint, REALTIME, self._request(fields(said.get("response"))), self)

    def sound_in(self, event: Any) -> float:
        """The tokens of sound in what the application sends."""
        if isinstance(event, str | bytes):
            size = _sound_of(event)
        elif _kind(event) == "input_audio_buffer.append":
            size = len((event.get("audio") if isinstance(event, Mapping) else getattr(event, "audio", None)) or "")
        else:
            return 0.0
        return size * 3 / 4 / self._bytes_of_token()

    def coming(self, heard: int) -> Turn | None:
        """The response that may follow what is said; a transcript, where that is all there is; or nothing by itself."""
        if self.settings.get("type") == "transcription":
            return Turn(self.endpoint, HEARD, {"model": self._hears_with(), CONTEXT: heard}, self)
        detection = self._input().get("turn_detection", self.settings.get("turn_detection", TURNS))
        if detection is None or fields(detection).get("create_response") is False:
            return None
        request = self._request({})
        return Turn(self.endpoint, REALTIME, {**request, CONTEXT: self.context_tokens + heard}, self)

    def _request(self, given: Mapping[str, Any]) -> dict[str, Any]:
        kept = {key: value for key in ("instructions", "max_output_tokens") if (value := self.settings.get(key))}
        held = self.context_tokens + math.ceil(self.unanswered)
        return {**kept, **given, "model": self.model, CONTEXT: held}

    def _input(self) -> Mapping[str, Any]:
        """What the session says of the sound that it hears."""
        return fields(fields(self.settings.get("audio")).get("input"))

    def _bytes_of_token(self) -> float:
        """Of sound, as it is sent: PCM of 24,000 16-bit samples a second, or G.711 of 8,000 bytes."""
        said = fields(self._input().get("format")).get("type") or self.settings.get("input_audio_format") or "audio/pcm"
        return (48_000 if "pcm1" in str(said) or str(said) == "audio/pcm" else 8_000) / AUDIO_TOKENS

    @staticmethod
    def changed(turn: Turn) -> dict[str, Any]:
        """The event that asks for it."""
        response = {key: value for key, value in turn.body.items() if key not in ("model", CONTEXT)}
        return {"type": "response.create", "response": response}

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
                return Turn(self.endpoint, REALTIME, self._request({}), self)
        elif kind == "response.done":
            if not self.done(read_response(event)):
                return Turn(self.endpoint, REALTIME, self._request({}), self, event)
        elif kind == "conversation.item.input_audio_transcription.completed":
            return Turn(self.endpoint, HEARD, {"model": self._hears_with()}, self, event)
        elif kind in SETTINGS:
            self.settings = {**SETTINGS[kind], **fields(event.get("session"))}
            if kind.endswith("created"):  # a connection that was made again begins a conversation
                self.context_tokens = 0
            self.model = self.model or text(self.settings.get("model"))
            self.named(text(self.settings.get("id")))
        elif kind == "error":
            self.refused(text(fields(event.get("error")).get("code")) or "error")
        return None

    def _hears_with(self) -> str | None:
        """The model that writes down what the user says."""
        heard = self._input().get("transcription")
        return text(fields(heard or self.settings.get("input_audio_transcription")).get("model"))

    def after(self, message: bytes | str) -> None:
        """A response that the provider has begun by itself has its call now: it goes by the response's id."""
        if self.waiting and b"response.created" in (message.encode() if isinstance(message, str) else message):
            self.begun(text(fields(json.loads(message).get("response")).get("id")))


class Written(Turn):
    """A response in a session of text: each names its own model."""

    __slots__ = ()

    def replace_body(self, body: Mapping[str, Any]) -> None:
        """Ask for this instead."""
        self.body, self.changed = body, True


class Responses(Session):
    """The Responses API over a websocket: every response is asked for, as it would be over HTTP."""

    kind = "responses"

    def asked(self, event: Any) -> Turn | None:
        """A response that the application asks for."""
        said = _asked(event)
        if said is None:
            return None
        return Written(self.endpoint, RESPONSES, {key: value for key, value in said.items() if key != "type"}, self)

    def sound_in(self, event: Any) -> float:
        """None: whatever is sent is part of what is asked for."""
        return 0.0

    def tells(self, message: bytes | str) -> bool:
        """Whether it is one of the few events that begin or end a response."""
        return str(_kind(message)) in WRITTEN

    def told(self, message: bytes | str) -> None:
        """The beginning or the end of a response, or an error that it was refused with."""
        event = json.loads(message)
        if event["type"] == "error":
            self.refused(text(fields(event.get("error")).get("code")) or text(event.get("code")) or "error")
            return
        reading = RESPONSES.read(event.get("response"))
        if event["type"] == "response.created":
            self.begun(reading.id)
        else:
            self.done(reading)

    @staticmethod
    def changed(turn: Turn) -> dict[str, Any]:
        """The event that asks for it."""
        return {"type": "response.create", **turn.body}


WRITTEN = frozenset({"response.created", "response.completed", "response.failed", "response.incomplete", "error"})
KINDS: Mapping[str, tuple[str, type[Realtime] | type[Responses]]] = {
    "openai.resources.realtime.realtime": ("Realtime", Realtime),
    "openai.resources.beta.realtime.realtime": ("Realtime", Realtime),
    "openai.resources.responses.responses": ("Responses", Responses),
}
"""By module: what its classes' names begin with, and the session that one is."""


def _kind(event: Any) -> object:
    if isinstance(event, str | bytes):
        found = TYPE.search(event.encode() if isinstance(event, str) else event, 0, HEAD)
        return found and found[1].decode()
    return event.get("type") if isinstance(event, Mapping) else getattr(event, "type", None)


def _asked(event: Any) -> Mapping[str, Any] | None:
    """An event that asks for a response, as it is sent: a mapping, a model, or JSON; `None` for any other."""
    if isinstance(event, str | bytes):
        if "response.create" not in (event if isinstance(event, str) else event.decode(errors="replace")):
            return None
        event = fields(json.loads(event))
    if _kind(event) != "response.create":
        return None
    return event if isinstance(event, Mapping) else fields(event.to_dict())


def _sound_of(event: str | bytes) -> int:
    """The length of the sound in an event that is JSON, by where it begins."""
    data = event.encode() if isinstance(event, str) else event
    if b"input_audio_buffer.append" not in data[:HEAD] and b"input_audio_buffer.append" not in data[-HEAD:]:
        return 0
    return len(data) - data.find(b'"audio"') - len(b'"audio":""}')


def changed(session: Realtime | Responses, turn: Turn, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """What is sent: the caller's own event, or one with what the guard has changed."""
    if not turn.changed:
        return args
    event = session.changed(turn)
    return (json.dumps(event) if isinstance(args[0], str | bytes) else event, *args[1:])


def smallest(endpoint: Endpoint, model: object) -> Turn:
    """A response as it could be asked for at the beginning: what the guard is asked for before a session opens."""
    named = model if isinstance(model, str) else None
    return Turn(endpoint, REALTIME, {"model": named, "max_output_tokens": 1})


def permitted(meter: Meter, kind: type[Session], opening: Turn) -> Flow:
    """Ask for the smallest response; a session of text has no model, and each of its responses is asked for."""
    return meter.permitted(opening) if kind is Realtime else _unasked()


def attach(
    meter: Meter,
    connection: Any,
    kind: type[Realtime] | type[Responses],
    opening: Turn,
    limits: Any,
    closes: Callable[[Any], Any] = lambda connection: connection,
) -> None:
    """Give a connection that has been opened its session; `closes(connection)` is what has the `close`."""
    session = kind(meter, opening.endpoint, opening.body["model"], limits or ())
    watch(session, closer(connection, closes))
    connection.__dict__[ATTRIBUTE] = session


def _opening(manager: Any, sdk: Sdk) -> Turn:
    """The smallest response that a manager's connection could be asked for."""
    name = type(manager).__name__
    client, model = getattr(manager, f"_{name}__client"), getattr(manager, f"_{name}__model", None)
    url = client._base_url
    port = url.port or (80 if url.scheme in ("http", "ws") else 443)
    endpoint = endpoint_of(type(client), url.host, port, sdk.provider)
    return smallest(endpoint, model)


def patch(module: ModuleType, meter: Meter, sdk: Sdk) -> Restore:
    """Wrap what opens, reads, writes and closes a session in `openai.resources.realtime.realtime`."""
    restore = Restore()
    wrap = functools.partial(replace, restore, module)
    prefix, kind = KINDS[module.__name__]
    write = through(writing(kind.asked, kind.sound_in, changed))

    def opened(connection: Any, opening: Turn | None, limits: Any) -> None:
        if opening is not None:
            attach(meter, connection, kind, opening, limits)

    def enter(original: Any) -> Any:
        def enter(self: Any) -> Any:
            opening = meter.look(_opening, self, sdk)
            limits = None if opening is None else drive(permitted(meter, kind, opening), nothing)
            with taken():
                connection = original(self)
            meter.contain("opening a session", opened, connection, opening, limits)
            return connection

        return enter

    def aenter(original: Any) -> Any:
        async def enter(self: Any) -> Any:
            opening = meter.look(_opening, self, sdk)
            limits = None if opening is None else await drive_async(permitted(meter, kind, opening), anothing)
            with taken():
                connection = await original(self)
            meter.contain("opening a session", opened, connection, opening, limits)
            return connection

        return enter

    def opening_again(original: Any) -> Any:
        def connect(self: Any, *args: Any, **kwargs: Any) -> Any:
            with taken():
                return original(self, *args, **kwargs)

        async def aconnect(self: Any, *args: Any, **kwargs: Any) -> Any:
            with taken():
                return await original(self, *args, **kwargs)

        return aconnect if inspect.iscoroutinefunction(original) else connect

    missing = not hasattr(module, f"{prefix}Connection")  # an older version has no such sessions
    wrap(f"{prefix}ConnectionManager.__enter__", enter, optional=missing)
    wrap(f"Async{prefix}ConnectionManager.__aenter__", aenter, optional=missing)
    for manager in (f"{prefix}ConnectionManager", f"Async{prefix}ConnectionManager"):
        wrap(f"{manager}._connect_ws", opening_again, optional=True)
    for connection in () if missing else (f"{prefix}Connection", f"Async{prefix}Connection"):
        wrap(f"{connection}.recv_bytes", through(reading))
        wrap(f"{connection}.send", write)
        wrap(f"{connection}.send_raw", write, optional=True)
        wrap(f"{connection}.close", closing)
    return restore


def _unasked() -> Flow:
    yield SEND
    return Answer()


def nothing() -> None:
    """There is nothing to send: the provider has begun by itself."""


async def anothing() -> None:
    """The same for a coroutine."""
