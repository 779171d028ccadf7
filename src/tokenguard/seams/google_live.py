"""google-genai's live sessions: a websocket that `client.aio.live.connect` opens, for asynchronous programs alone.

A session is a span, and each turn of the model in it a call. The guard is asked before the websocket is opened, and
before a turn is asked for (`send_client_content`, `send_tool_response`); what the model may begin by itself, because
somebody has spoken, is held while sound is sent. A message is the SDK's own, looked at when it has been parsed.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

from tokenguard.call.flow import drive_async
from tokenguard.facts.errors import GuardrailViolation
from tokenguard.metering.meter import Meter
from tokenguard.metering.session_flows import watch
from tokenguard.metering.sessions import Session, Turn
from tokenguard.providers import Sdk, located
from tokenguard.providers.google_live import LIVE, read_turn
from tokenguard.providers.realtime import CONTEXT
from tokenguard.seams.common.sessions import ATTRIBUTE, closer, reading, through, writing
from tokenguard.seams.common.wrapping import Restore, replace
from tokenguard.seams.realtime import anothing

TOKENS_OF_SOUND, TOKENS_OF_FRAME = 32, 263
"""Of a second of sound and of a frame of film (https://ai.google.dev/gemini-api/docs/tokens)."""
BYTES_OF_TOKEN = 16_000 * 2 / TOKENS_OF_SOUND
"""Of sound, which is sent as PCM of 16,000 16-bit samples a second (https://ai.google.dev/gemini-api/docs/live-guide)."""
MEDIA = {"audio": "audio", "media": "", "video": "video"}
"""The arguments of `send_realtime_input` that have media, and what those are where they say nothing themselves."""


class LiveTurn(Turn):
    """A turn of a live session: what it may come to was said when the session was set up."""

    __slots__ = ()

    def replace_body(self, body: Mapping[str, Any]) -> None:
        """A turn cannot be changed."""
        raise GuardrailViolation(
            f"live {self.body.get('model')}: model and output cap are set when a live session is opened. Set "
            'max_output_tokens in its config, or use a limit with then = "block".',
            rule="",
        )


class Live(Session):
    """A session of Gemini's."""

    minute = TOKENS_OF_SOUND * 60
    config: Mapping[str, Any] = {}
    """`generationConfig`, as far as it is told to `connect`."""
    grounds: tuple[object, ...] = ()
    """What was searched for the turn under way."""

    def turn(self, turns: object = None, told: object = None) -> LiveTurn:
        """A turn of the model, asked for with these words or begun by itself."""
        held = self.context_tokens + math.ceil(self.unanswered)
        body = {"model": self.model, "generationConfig": self.config, CONTEXT: held}
        return LiveTurn(self.endpoint, LIVE, {**body, "turns": _plain(turns)} if turns else body, self, told)

    def asked(self, **said: Any) -> LiveTurn | None:
        """What the application sends with an end: the turn that it asks for, where none is under way."""
        if said.get("turn_complete") is False or self.waiting or self.calls:
            return None
        return self.turn(said.get("turns") or said.get("function_responses") or said.get("input"))

    def sound_in(self, **said: Any) -> float:
        """The tokens of sound, or of pictures, in what the application sends as it comes."""
        return sum(_tokens(said.get(key), kind) for key, kind in MEDIA.items())

    def coming(self, heard: int) -> LiveTurn | None:
        """The turn that may follow what is said."""
        turn = self.turn()
        turn.body = {**turn.body, CONTEXT: self.context_tokens + heard}
        return turn

    def told(self, message: Any) -> LiveTurn | None:
        """A message of the provider's; a turn that it begins, or has ended, and nobody has seen begin."""
        content = message.server_content
        if content is not None and content.grounding_metadata is not None:
            self.grounds += (_dumped(content.grounding_metadata),)
        if message.usage_metadata is None:
            begins = message.tool_call is not None or (content is not None and content.model_turn is not None)
            return self.turn() if begins and not self.waiting and not self.calls else None
        said = {"usageMetadata": _dumped(message.usage_metadata), "model": self.model, "grounds": [*self.grounds]}
        self.grounds = ()
        self.begun(None)
        return None if self.done(read_turn(said)) else self.turn(told=said)


def _tokens(blob: Any, kind: str) -> float:
    """The tokens of a piece of sound, or of a frame."""
    if blob is None:
        return 0.0
    said = blob if isinstance(blob, Mapping) else getattr(blob, "__dict__", {})
    if str(said.get("mime_type") or kind).startswith("audio"):
        return len(said.get("data") or b"") / BYTES_OF_TOKEN
    return TOKENS_OF_FRAME


def _dumped(model: Any) -> object:
    """A model of the SDK's as its JSON."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def _plain(turns: object) -> object:
    """What is said, as plain data."""
    if isinstance(turns, list | tuple):
        return [_plain(each) for each in turns]
    dump = getattr(turns, "model_dump", None)
    return turns if dump is None else dump(mode="json", exclude_none=True)


def _config(given: Any) -> dict[str, Any]:
    """The output cap that a live session's config has."""
    said = given if isinstance(given, Mapping) else getattr(given, "__dict__", {})
    held = said.get("generation_config")
    inner = held if isinstance(held, Mapping) else getattr(held, "__dict__", {})
    cap = said.get("max_output_tokens") or inner.get("max_output_tokens")
    return {"maxOutputTokens": cap} if cap else {}


def _opening(live: Any, kwargs: Mapping[str, Any], sdk: Sdk) -> tuple[LiveTurn, dict[str, Any]]:
    """The smallest turn that could be asked for, and the session's config."""
    client = live._api_client
    endpoint, _ = located(str(client._http_options.base_url), "gcp.vertex_ai" if client.vertexai else sdk.provider)
    model = str(kwargs.get("model") or "").rpartition("/")[2]
    opening = LiveTurn(endpoint, LIVE, {"model": model, "generationConfig": {"maxOutputTokens": 1}})
    return opening, _config(kwargs.get("config"))


def patch(module: ModuleType, meter: Meter, sdk: Sdk) -> Restore:
    """Wrap what opens, reads, writes and closes a session in `google.genai.live`."""
    restore = Restore()

    def attach(connection: Any, opening: LiveTurn, config: dict[str, Any], limits: Any) -> Live:
        session = Live(meter, opening.endpoint, opening.body["model"], limits or ())
        session.config = config
        session.named(connection.session_id)
        watch(session, closer(connection._ws))
        connection.__dict__[ATTRIBUTE] = session
        return session

    def connect(original: Any) -> Any:
        @asynccontextmanager
        async def connect(self: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            found = meter.look(_opening, self, kwargs, sdk)
            limits = None if found is None else await drive_async(meter.permitted(found[0]), anothing)
            async with original(self, *args, **kwargs) as connection:
                session = found and meter.contain("opening a session", attach, connection, *found, limits)
                try:
                    yield connection
                finally:
                    if session is not None:
                        meter.contain("ending a session", session.end)

        return connect

    def socket(session: Any) -> Any:
        return session._ws

    asking = through(writing(Live.asked, lambda session, **said: 0.0), socket)
    speaking = through(writing(lambda session, **said: None, Live.sound_in), socket)
    replace(restore, module, "AsyncLive.connect", connect)
    replace(restore, module, "AsyncSession._receive", through(reading, socket))
    replace(restore, module, "AsyncSession.send_client_content", asking)
    replace(restore, module, "AsyncSession.send_tool_response", asking)
    replace(restore, module, "AsyncSession.send_realtime_input", speaking)
    return restore
