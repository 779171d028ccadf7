"""How a failed call failed: who is to blame, and whether it is on the bill all the same.

Errors are known by the names of their classes, so that no SDK and no transport is imported to ask. One table has them
all.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any, Final

from tokenguard.facts.tuples import NamedTuple
from tokenguard.process.interrupts import interrupt

if TYPE_CHECKING:
    from tokenguard.call.flow import Answer

UNREACHED: Final = False
UNANSWERED: Final = True

TRANSPORT: Final[Mapping[str, bool]] = {
    # Base classes: the SDKs' own, httpx's, requests', Python's, botocore's and aiohttp's.
    "APIConnectionError": UNREACHED,
    "TransportError": UNREACHED,
    "ConnectionError": UNREACHED,
    "OSError": UNREACHED,
    "HTTPClientError": UNREACHED,
    "ClientConnectionError": UNREACHED,
    # httpx
    "ReadTimeout": UNANSWERED,
    "ReadError": UNANSWERED,
    "RemoteProtocolError": UNANSWERED,
    # an answer that is none: the provider has made one, and it cannot be read
    "JSONDecodeError": UNANSWERED,
    "DecodingError": UNANSWERED,
    "APIResponseValidationError": UNANSWERED,
    "ResponseValidationError": UNANSWERED,
    "UnknownApiResponseError": UNANSWERED,
    "ResponseParserError": UNANSWERED,
    "ChunkedEncodingError": UNANSWERED,
    # aiohttp
    "SocketTimeoutError": UNANSWERED,
    "ServerDisconnectedError": UNANSWERED,
    "ClientPayloadError": UNANSWERED,
    # botocore, and urllib3 below it
    "ReadTimeoutError": UNANSWERED,
    "AioReadTimeoutError": UNANSWERED,
    "ConnectionClosedError": UNANSWERED,
    "ResponseStreamingError": UNANSWERED,
    "IncompleteReadError": UNANSWERED,
    "ProtocolError": UNANSWERED,
}
"""Errors of no answer, or half of one, by the name of the class. All are the provider's failures. The call may be on
the bill where the request was sent, and its answer broke off or was not waited for."""
OVERLOADED: Final = frozenset({408, 429})
"""Client errors by number that are the provider's state and not the request's fault."""


UNFIT: Final = frozenset({400, 404, 422})
"""Statuses by which a provider says that a model cannot do such a request, or is not there."""


class Code(NamedTuple):
    """A status code of gRPC."""

    http_status: int
    """Which HTTP status it stands for."""
    billed: bool = False
    """The client stopped waiting; the provider has the request, and may go on with it."""


CODES: Final[Mapping[str, Code]] = {
    "CANCELLED": Code(499, billed=True),
    "UNKNOWN": Code(500),
    "INVALID_ARGUMENT": Code(400),
    "DEADLINE_EXCEEDED": Code(504, billed=True),
    "NOT_FOUND": Code(404),
    "ALREADY_EXISTS": Code(409),
    "PERMISSION_DENIED": Code(403),
    "UNAUTHENTICATED": Code(401),
    "RESOURCE_EXHAUSTED": Code(429),
    "FAILED_PRECONDITION": Code(400),
    "ABORTED": Code(409),
    "OUT_OF_RANGE": Code(400),
    "UNIMPLEMENTED": Code(501),
    "INTERNAL": Code(500),
    "UNAVAILABLE": Code(503),
    "DATA_LOSS": Code(500),
}
"""By https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto."""


class Refused(Exception):
    """The provider refused the request, as a seam sees it that gets the response before the SDK raises its error."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status_code = status


def may_be_billed(error: BaseException | None) -> bool:
    """Whether a call that ended like this may be on the bill: it was sent, and its answer was not waited for."""
    if error is None:
        return False
    if not isinstance(error, Exception) or type(error) is TimeoutError:  # aiohttp's, for the request as a whole
        return True
    if interrupt(error) is not None:
        return True
    if (code := grpc_code(error)) is not None:
        return CODES[code].billed if code in CODES else False
    return any(
        TRANSPORT.get(type(each).__name__, UNREACHED) is UNANSWERED
        for each in (error, error.__cause__, error.__context__)
    )


def provider_failed(error: BaseException | str | None) -> bool:
    """Whether an error is the provider's failure: a 5xx, 429 or 408, no answer, or one that broke off a stream."""
    if not isinstance(error, Exception):
        return isinstance(error, str) and not error.lower().startswith("invalid")
    status = status_of(error)
    if status is not None and status >= 400:
        return status >= 500 or status in OVERLOADED
    return any(kind.__name__ in TRANSPORT for kind in type(error).__mro__)


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an SDK's error carries, wherever it does, or that its gRPC code stands for."""
    response = getattr(error, "response", None)
    code = CODES.get(grpc_code(error) or "")
    places: tuple[Any, ...] = (
        getattr(error, "status_code", None),
        getattr(error, "http_status", None),  # voyageai's
        getattr(error, "code", None),
        getattr(response, "status_code", None),
        response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None,
        code and code.http_status,
    )
    return next((status for status in places if type(status) is int and status > 0), None)


def refuses(answer: Answer, statuses: Container[int]) -> bool:
    """Whether the provider refused a request with one of these statuses.

    Some SDKs raise it later, and bring back the response.
    """
    if answer.error is not None:
        return isinstance(answer.error, Exception) and status_of(answer.error) in statuses
    value = answer.value
    return any(getattr(value, name, None) in statuses for name in ("status_code", "status"))


def type_name(error: BaseException) -> str:
    """`error.type` of an exception: its qualified name, `openai.RateLimitError`; or a refusal's status, `429`.

    Of an error of gRPC, whose classes tell nothing, its code: `UNAVAILABLE`.
    """
    if (code := grpc_code(error)) is not None:
        return code
    if isinstance(error, Refused):
        return str(error.status_code)
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def grpc_code(error: BaseException) -> str | None:
    """The name of the status code that a gRPC error carries, `UNAVAILABLE`; `None` for any other error.

    Read by name, as every gRPC client raises a subclass of `grpc.RpcError` with a method `code()`; grpc itself is never
    imported.
    """
    if not any(kind.__name__ == "RpcError" for kind in type(error).__mro__):
        return None
    code = getattr(error, "code", None)
    name = getattr(code() if callable(code) else code, "name", None)
    return name if isinstance(name, str) else None
