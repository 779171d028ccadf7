"""What a batch API is to us: a row of functions, and the values that they find."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from tokenguard.facts.patterns import lazy
from tokenguard.facts.tuples import NamedTuple
from tokenguard.providers.api import Api
from tokenguard.providers.reading import fields, text

UPLOAD: Final = "upload"
CREATE: Final = "create"
JOBS: Final = "jobs"
JOB: Final = "job"
FILE: Final = "file"
RESULTS: Final = "results"

WINDOW_S: Final = 86_400.0
"""How long a job may take where it does not say: all promise, or aim at, 24 hours."""


class Asked(NamedTuple):
    """What the creation of a job says of all of its lines."""

    url: str = ""
    """The path that they are sent to, where the lines name none."""
    model: str | None = None
    """Where the lines name none."""
    input: str = ""
    """The file that they are in."""
    hours: int | None = None
    """How long it may take."""


class Line(NamedTuple):
    """One request of a batch."""

    custom_id: str
    url: str
    body: Mapping[str, Any]
    api: Api | None = None
    """Its wire format, where the path does not tell."""


class Seen(NamedTuple):
    """What a job says of itself, when it is created, asked for, listed or cancelled. `None`: it does not say."""

    id: str
    state: str
    """In the provider's own word."""
    open: bool
    """Whether it still goes on."""
    total: int | None = None
    """Lines."""
    done: int | None = None
    """Lines that are answered, and billed."""
    input: str | None = None
    output: str | None = None
    errors: str | None = None
    """The ids of its files; a job of Anthropic's has none."""
    endpoint: str = ""
    expires_ns: int | None = None
    ended_ns: int | None = None
    metadata: Mapping[str, Any] = {}
    model: str | None = None
    """Of all of its lines, where the answers name none."""

    @property
    def unbilled(self) -> bool:
        """Whether it has ended with nothing to pay: it failed, or was cancelled before a line was answered."""
        return not self.open and self.output is None and not self.done and (self.done == 0 or self.state in NOTHING)


NOTHING: Final = frozenset({"failed", "validation_failed"})
"""States of jobs of which no line was run: the input was not valid."""


class Result(NamedTuple):
    """One line of a job's results."""

    custom_id: str
    body: Mapping[str, Any] | None
    """The answer as a call by itself would have had it; `None` where there is none, and nothing to pay."""
    error: str | None
    """Why there is none."""
    asked: Mapping[str, Any] = {}
    """What was asked, where the line repeats it."""


class BatchApi(NamedTuple):
    """One batch API: its paths, and what is in its requests and answers."""

    name: str
    paths: tuple[tuple[str, re.Pattern[str], str], ...]
    """Methods and ends of paths, with what each is; a group in it is the id of a job or a file."""
    asked: Callable[[Mapping[str, Any]], Asked]
    """Of the body by which a job is created."""
    inlined: Callable[[Mapping[str, Any]], Iterable[Mapping[str, Any]] | None]
    """The requests in that body; `None` where they are in a file."""
    line: Callable[[Mapping[str, Any], Asked], Line | None]
    """One of them, or one of an input file; `None` for what is none."""
    seen: Callable[[object], Seen | None]
    """What a job says, as decoded JSON or the SDK's model of it."""
    listed: str
    """Where the page of a list has its jobs."""
    held: Callable[[object], list[Mapping[str, Any]]]
    """The results that a job holds itself."""
    result: Callable[[Mapping[str, Any]], Result | None]
    """What a line of results says; `None` for a line that is no result."""
    mark: bytes
    """What a file of results has in its first line."""
    answered: Callable[[str, str, str | None, Result], Api | None]
    """The wire format of an answer, by provider, the job's endpoint, its model and the line."""
    file: Callable[[object], object] = lambda said: fields(said).get("id")
    """The id of a file that was uploaded, in the answer."""
    named: Callable[[Line, Asked], Line] = lambda line, asked: line._replace(body={"model": asked.model, **line.body})
    """A line of a job that names the model for those that name none."""

    def lines(self, requests: Iterable[Mapping[str, Any]], asked: Asked) -> Iterator[Line]:
        """The requests of a job, or of the file that it will have."""
        return (line for each in map(fields, requests) if (line := self.line(each, asked)) is not None)

    def jobs(self, page: object) -> list[Seen]:
        """The jobs of a page of a list, or of a list alone."""
        data = page if isinstance(page, list) else fields(page).get(self.listed)
        return [job for each in data if (job := self.seen(each)) is not None] if isinstance(data, list) else []


class Request(NamedTuple):
    """A request to a batch API, or one that may be: of files, only what is in them tells."""

    kind: str
    id: str
    """Of the job or of the file."""
    api: BatchApi


def paths(*rows: tuple[str, str, str]) -> tuple[tuple[str, re.Pattern[str], str], ...]:
    """The paths of a row."""
    return tuple((method, lazy(pattern + "$"), kind) for method, pattern, kind in rows)


def objects(content: bytes) -> Iterator[Mapping[str, Any]]:
    """The JSON objects of JSON lines."""
    for line in content.splitlines():
        if line.strip():
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                yield value


def moment_ns(value: object) -> int | None:
    """A time as Unix nanoseconds: written in seconds, as RFC 3339, or made a `datetime` by the SDK."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        return int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()) * 10**9
    return int(value) * 10**9 if isinstance(value, int | float) and value > 0 else None


def none_held(job: object) -> list[Mapping[str, Any]]:
    """The results of a job whose results are in files."""
    return []


def inlined(body: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """The `requests` of a body by which a job is created; `None` where they are in a file."""
    requests = body.get("requests")
    return dicts(requests) if isinstance(requests, list | tuple) else None


def dicts(values: object) -> list[Mapping[str, Any]]:
    """The mappings, or models, of a list."""
    return [fields(each) for each in values] if isinstance(values, list | tuple) else []


def first(values: object) -> str | None:
    """The first text of a list."""
    return text(values[0]) if isinstance(values, list | tuple) and values else None
