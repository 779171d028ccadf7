"""OpenAI's sessions by clients that are no SDK's: `websockets` and aiohttp, as agent frameworks open them.

openai-agents, pydantic-ai and Pipecat speak the realtime API through `websockets`, LiveKit through aiohttp. The address
of a websocket tells whether it is such a session; every other one is left alone. What is in one is read and guarded as
in a session of openai's own (`seams.realtime`), whose websocket is not looked at again here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tokenguard.call.flow import Flow, drive, drive_async
from tokenguard.facts.tuples import NamedTuple
from tokenguard.metering.meter import Meter
from tokenguard.metering.session_flows import received
from tokenguard.metering.sessions import Turn
from tokenguard.providers import Sdk, located
from tokenguard.providers.hosts import UNKNOWN
from tokenguard.seams.common.sessions import closing, is_taken, reading, through, writing
from tokenguard.seams.common.wrapping import Restore, replace
from tokenguard.seams.realtime import Realtime, Responses, anothing, attach, changed, nothing, permitted, smallest

Kind = type[Realtime] | type[Responses]
KINDS: Mapping[str, Kind] = {"/realtime": Realtime, "/responses": Responses}
"""By the end of a websocket's path: the session that it is."""
TEXT, BINARY, CLOSED, ERROR = 1, 2, 257, 258
"""aiohttp's `WSMsgType`."""


class Opening(NamedTuple):
    """A session that is about to open."""

    kind: Kind
    turn: Turn
    """The smallest response that it could be asked for."""


def session_at(url: str, default: str) -> Opening | None:
    """The session that a websocket's address opens, if it is one; a host that nobody knows has to be told a model.

    >>> session_at("wss://api.openai.com/v1/realtime?model=gpt-realtime", "openai").turn.body["model"]
    'gpt-realtime'
    >>> session_at("wss://example.com/realtime", "openai") is None
    True
    """
    parts = urlsplit(url)
    kind = next((kind for end, kind in KINDS.items() if parts.path.endswith(end)), None)
    if kind is None:
        return None
    query = parse_qs(parts.query)
    model = next((query[name][0] for name in ("model", "deployment") if name in query), None)
    endpoint, _ = located(parts._replace(scheme=parts.scheme.replace("ws", "http", 1), query="").geturl(), default)
    if model is None and endpoint.provider == UNKNOWN:
        return None
    return Opening(kind, smallest(endpoint, model))


class ClosedBySaying(NamedTuple):
    """A connection of aiohttp's with the `close` that the others have."""

    connection: Any

    def close(self, reason: str = "") -> Any:
        """Close it with this reason."""
        return self.connection.close(message=reason.encode())


def patch(module: ModuleType, meter: Meter, sdk: Sdk) -> Restore:
    """Wrap what opens, reads, writes and closes a connection in `websockets` or in aiohttp."""
    restore = Restore()
    (_aiohttp if module.__name__.startswith("aiohttp") else _websockets)(restore, module, meter, sdk)
    return restore


def _look(meter: Meter, url: Callable[[], str], sdk: Sdk) -> Opening | None:
    return None if is_taken() else meter.look(lambda: session_at(url(), sdk.provider))


def _written(closes: Callable[[Any], Any] = lambda connection: connection) -> Any:
    """Around the writing of a message, which is JSON here."""

    def asked(session: Any, event: Any, *args: Any, **kwargs: Any) -> Turn | None:
        return session.asked(event) if isinstance(event, str | bytes) else None

    def heard(session: Any, event: Any, *args: Any, **kwargs: Any) -> float:
        return session.sound_in(event) if isinstance(event, str | bytes) else 0.0

    return through(writing(asked, heard, changed), closes)


# --- websockets -------------------------------------------------------------------------------------------------------


def _websockets(restore: Restore, module: ModuleType, meter: Meter, sdk: Sdk) -> None:
    def url(connection: Any) -> str:
        protocol = connection.protocol
        uri = protocol.uri if hasattr(protocol, "uri") else protocol.wsuri  # its name in version 13
        return f"{'wss' if uri.secure else 'ws'}://{uri.host}:{uri.port}{uri.resource_name}"

    def shaking(original: Any) -> Any:
        def handshake(self: Any, *args: Any, **kwargs: Any) -> None:
            opening = _look(meter, partial(url, self), sdk)
            limits = opening and drive(permitted(meter, opening.kind, opening.turn), nothing)
            original(self, *args, **kwargs)
            if opening is not None:
                meter.contain("opening a session", attach, meter, self, *opening, limits)

        return handshake

    def ashaking(original: Any) -> Any:
        async def handshake(self: Any, *args: Any, **kwargs: Any) -> None:
            opening = _look(meter, partial(url, self), sdk)
            limits = opening and await drive_async(permitted(meter, opening.kind, opening.turn), anothing)
            await original(self, *args, **kwargs)
            if opening is not None:
                meter.contain("opening a session", attach, meter, self, *opening, limits)

        return handshake

    replace(restore, module, "ClientConnection.handshake", ashaking if "asyncio" in module.__name__ else shaking)
    replace(restore, module, "ClientConnection.recv", through(reading))
    replace(restore, module, "ClientConnection.send", _written())
    replace(restore, module, "ClientConnection.close", closing)


# --- aiohttp ----------------------------------------------------------------------------------------------------------


def _aiohttp(restore: Restore, module: ModuleType, meter: Meter, sdk: Sdk) -> None:
    def connecting(original: Any) -> Any:
        async def connect(self: Any, url: Any, *args: Any, **kwargs: Any) -> Any:
            def whole() -> str:
                return str(self._build_url(url).extend_query(kwargs.get("params") or ()))

            opening = _look(meter, whole, sdk)
            limits = opening and await drive_async(permitted(meter, opening.kind, opening.turn), anothing)
            connection = await original(self, url, *args, **kwargs)
            if opening is not None:
                meter.contain("opening a session", attach, meter, connection, *opening, limits, ClosedBySaying)
            return connection

        return connect

    replace(restore, module, "ClientSession._ws_connect", connecting)
    replace(restore, module, "ClientWebSocketResponse.receive", through(_receiving, ClosedBySaying))
    replace(restore, module, "ClientWebSocketResponse.send_str", _written(ClosedBySaying))
    replace(restore, module, "ClientWebSocketResponse.close", closing)


def _receiving(session: Any, receive: Any, *args: Any, **kwargs: Any) -> tuple[Flow, Callable[[], Any]]:
    """Around the reading of a message: aiohttp has one for the end of a connection as well."""

    def said(message: Any) -> str | bytes:
        if message.type in (TEXT, BINARY):
            data: str | bytes = message.data
            return data
        if message.type in (CLOSED, ERROR):
            session.end(message.data if isinstance(message.data, BaseException) else None)
        return b""

    return received(session, said), partial(receive, *args, **kwargs)
