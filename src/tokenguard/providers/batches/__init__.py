"""The batch APIs, as rows: which requests are theirs, what a job says of itself, what a line of results says.

Google's and Bedrock's are in files of their own, `google` and `bedrock`: whoever speaks to neither does not load them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tokenguard.providers.batches.anthropic import ANTHROPIC
from tokenguard.providers.batches.openai import MISTRAL, OPENAI
from tokenguard.providers.batches.rows import (
    CREATE,
    FILE,
    JOB,
    JOBS,
    NOTHING,
    RESULTS,
    UPLOAD,
    WINDOW_S,
    Asked,
    BatchApi,
    Line,
    Request,
    Result,
    Seen,
    objects,
)

__all__ = [
    "ANTHROPIC",
    "CREATE",
    "FILE",
    "JOB",
    "JOBS",
    "MISTRAL",
    "NOTHING",
    "OPENAI",
    "RESULTS",
    "UPLOAD",
    "WINDOW_S",
    "Asked",
    "BatchApi",
    "Line",
    "Request",
    "Result",
    "Seen",
    "attribution_in",
    "objects",
    "request_at",
]

BY_PATH: Final = (ANTHROPIC, MISTRAL, OPENAI)
"""Those whose paths tell them apart; Google's and Bedrock's clients are told by their SDKs."""


def request_at(method: str, url: str, apis: tuple[BatchApi, ...] = BY_PATH) -> Request | None:
    """What is asked at a path; `None` for anything but batches and files.

    >>> request_at("GET", "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results")[:2]
    ('results', 'msgbatch_1')
    >>> request_at("POST", "/vector_stores/vs_1/file_batches") is None
    True
    """
    path, verb = url.partition("?")[0], method.lower()
    for api in apis:
        for wanted, pattern, kind in api.paths:
            if wanted == verb and (found := pattern.search(path)) is not None:
                return Request(kind, found[1] if found.groups() else "", api)
    return None


def attribution_in(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The attribution that a job's own metadata carries, in keys like `tokenguard.tenant`."""
    prefix = "tokenguard."
    return {key.removeprefix(prefix): str(value) for key, value in metadata.items() if str(key).startswith(prefix)}
