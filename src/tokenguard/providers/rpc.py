"""gRPC's status codes, for SDKs that talk gRPC: what an error says, and which HTTP status it stands for.

Read from the error by name, as every gRPC client raises a subclass of `grpc.RpcError` with a method `code()`; grpc
itself is never imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

HTTP_STATUS: Final[Mapping[str, int]] = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
}
"""By https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto."""

UNWAITED: Final = frozenset({"CANCELLED", "DEADLINE_EXCEEDED"})
"""The codes of a client that stopped waiting: the provider has the request, and may go on with it."""


def code_of(error: BaseException) -> str | None:
    """The name of the status code that a gRPC error carries, `UNAVAILABLE`; `None` for any other error."""
    if not any(kind.__name__ == "RpcError" for kind in type(error).__mro__):
        return None
    code = getattr(error, "code", None)
    name = getattr(code() if callable(code) else code, "name", None)
    return name if isinstance(name, str) else None
