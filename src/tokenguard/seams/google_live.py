"""google-genai's live sessions: a websocket that `client.aio.live.connect` opens, for asynchronous programs alone.

A session is a span, and each turn of the model in it a call. The guard is asked before the websocket is opened, and
before a turn is asked for (`send_client_content`); where the model has begun by itself, because somebody has spoken, a
refusal ends the session. A message is the SDK's own, looked at when it has been parsed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

from tokenguard.call.flow import drive_async
from tokenguard.facts.errors import GuardrailViolation
from tokenguard.metering.meter import Meter
from tokenguard.metering.sessions import Session, Turn, aclose, received
from tokenguard.providers import Sdk, located
from tokenguard.providers.google_live import LIVE, read_turn
from tokenguard.providers.realtime import CONTEXT
from tokenguard.seams.common.wrapping import Restore, replace
from tokenguard.seams.realtime import ATTRIBUTE, anothing


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

    config: Mapping[str, Any] = {}
    """`generationConfig`, as far as it is told to `connect`."""
    grounds: tuple[object, ...] = ()
    """What was searched for the turn under way."""

    def turn(self, turns: object = None, told: object = None) -> LiveTurn:
        """A turn of the model, asked for with these words or begun by itself."""
        body = {"model": self.model, "generationConfig": self.config, CONTEXT: self.context_tokens}
        return LiveTurn(self, LIVE, {**body, "turns": _plain(turns)} if turns else body, told)

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
    session: Any = type("Opening", (), {"endpoint": endpoint})
    model = str(kwargs.get("model") or "").rpartition("/")[2]
    return LiveTurn(session, LIVE, {"model": model, "generationConfig": {"maxOutputTokens": 1}}), _config(
        kwargs.get("config")
    )


def patch(module: ModuleType, meter: Meter, sdk: Sdk) -> Restore:
    """Wrap what opens, reads, writes and closes a session in `google.genai.live`."""
    restore = Restore()

    def attach(connection: Any, opening: LiveTurn, config: dict[str, Any], limits: Any) -> Live:
        session = Live(meter, opening.endpoint, opening.body["model"], limits or ())
        session.config = config
        session.named(connection.session_id)
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

    def receive(original: Any) -> Any:
        async def receive(self: Any) -> Any:
            session: Live | None = self.__dict__.get(ATTRIBUTE)
            if session is None:
                return await original(self)
            try:
                return await drive_async(received(session), lambda: original(self))
            except GuardrailViolation as refusal:
                await aclose(session, refusal, self._ws.close)
                raise

        return receive

    def send(original: Any) -> Any:
        async def send(self: Any, *args: Any, **kwargs: Any) -> Any:
            session: Live | None = self.__dict__.get(ATTRIBUTE)
            if session is None:
                return await original(self, *args, **kwargs)
            if (refusal := meter.contain("looking at a session", session.passed)) is not None:
                await aclose(session, refusal, self._ws.close)
                raise refusal
            if kwargs.get("turn_complete") is False or session.waiting or session.calls:
                return await original(self, *args, **kwargs)
            turn = meter.contain("looking at an event", session.turn, kwargs.get("turns"))
            if turn is None:
                return await original(self, *args, **kwargs)
            with session.within():
                return await drive_async(meter.flow(turn), lambda: original(self, *args, **kwargs))

        return send

    replace(restore, module, "AsyncLive.connect", connect)
    replace(restore, module, "AsyncSession._receive", receive)
    replace(restore, module, "AsyncSession.send_client_content", send)
    return restore
