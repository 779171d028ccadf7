"""`tokenguard.batch`: a batch from its requests to its results, with the provider's own client.

No queue and no workers: the job is the provider's, and its id is all that is needed to go on after a crash. Written
once as steps, for synchronous and asynchronous clients.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from tokenguard.batches.clients import Steps, client_of
from tokenguard.facts.errors import BatchError
from tokenguard.facts.tuples import NamedTuple
from tokenguard.process.progress import working
from tokenguard.providers.batches import Result

FIRST_S: Final = 2.0
LONGEST_S: Final = 60.0
GROWTH: Final = 1.5
"""How long to wait between two looks at a job: longer each time."""
FAILED: Final = frozenset({"failed", "validation_failed"})

flush: Callable[[], None] = lambda: None  # noqa: E731
"""Brings what was collected into the books; set where calls are measured."""


class Progress(NamedTuple):
    """How far a job is."""

    id: str
    state: str
    """In the provider's own word."""
    done: int | None
    total: int | None
    """Lines; `None` where the provider does not say."""
    seconds: float
    """Since the helper began to wait."""


class BatchResult(NamedTuple):
    """What came of one request: `response` is a call's own body, or `error` says why there is none."""

    custom_id: str
    response: Mapping[str, Any] | None
    error: str | None


class BatchResults(list[BatchResult]):
    """The results in the order of the requests, with the job's `id`."""

    def __init__(self, job: str, results: Sequence[BatchResult]) -> None:
        super().__init__(results)
        self.id = job


def batch(
    client: Any,
    requests: Sequence[Mapping[str, Any]] | None = None,
    *,
    id: str | None = None,  # noqa: A002 - the provider's word
    endpoint: str = "/v1/chat/completions",
    metadata: Mapping[str, str] | None = None,
    progress: Callable[[Progress], object] | bool | None = None,
    timeout: float | None = None,
    poll: float = FIRST_S,
) -> Any:
    """Send requests as one batch, at half price, wait for it, and return the results in the order of the requests.

    `client` is OpenAI's (or a compatible one's), Anthropic's, mistralai's or google-genai's (also its `client.aio`);
    with an asynchronous one this is to be awaited. `requests` are the bodies of calls: what
    `chat.completions.create(**body)`, `messages.create(**body)`, `models.generate_content(**body)` or
    `chat.complete(**body)` takes. Google's and Mistral's go to one model.
    `id` goes on with a batch that was created before, after a crash or elsewhere, instead. `endpoint` is where OpenAI
    is to send each; `metadata` is kept by OpenAI with the job.

    The batch falls under the budgets of the policy when it is created, and its lines are recorded as this code's.
    `progress` hears how far it is, at each look: `poll` seconds apart at first, then longer, up to a minute. `True`
    shows a bar on the terminal.

    Raises `BudgetExceeded` before anything is sent, `BatchError` where the provider fails the whole batch, and
    `TimeoutError` after `timeout` seconds; the batch goes on then, and `id` is in the message.
    """
    if (requests is None) == (id is None):
        raise TypeError("batch() takes either requests, or the id of a batch that was created before")
    run = partial(_run, client, requests, id, endpoint, metadata, timeout, poll)
    steps = _shown(run, requests) if progress is True else run(progress or None)
    return _drive_async(steps) if type(client).__name__.startswith("Async") else _drive(steps)


def _shown(run: Callable[[Callable[[Progress], object]], Steps], requests: Sequence[Mapping[str, Any]] | None) -> Steps:
    """What `run` does, with a bar on the terminal."""
    with working("Batch", None if requests is None else len(requests)) as work:

        def show(job: Progress) -> None:
            work.what, work.done = f"Batch {job.id}: {job.state}", job.done or 0
            work.total = job.total or work.total

        return (yield from run(show))


def _run(
    client: Any,
    requests: Sequence[Mapping[str, Any]] | None,
    job_id: str | None,
    endpoint: str,
    metadata: Mapping[str, str] | None,
    timeout: float | None,
    poll: float,
    progress: Callable[[Progress], object] | None,
) -> Steps:
    provider = client_of(client)
    names = [] if requests is None else [f"request-{n:06}" for n in range(len(requests))]
    if job_id is None:
        job_id = yield from provider.create(dict(zip(names, requests or (), strict=True)), endpoint, metadata)
        if progress is not None:  # whoever keeps the id can go on with it from here
            progress(Progress(job_id, "created", None, len(names), 0.0))
    began, wait = time.monotonic(), poll
    while True:
        job = yield "ask", lambda: provider.ask(job_id)
        told = provider.api.seen(job)
        if told is None:
            raise BatchError(f"{job_id}: the provider's answer is no batch. Is it this client's?", str(job_id))
        waited = time.monotonic() - began
        if progress is not None:
            progress(Progress(told.id, told.state, told.done, told.total, waited))
        if not told.open:
            break
        if timeout is not None and waited + wait > timeout:
            raise TimeoutError(
                f"batch {told.id} is {told.state} after {waited:.0f} s ({told.done or 0} of {told.total or '?'} done). "
                f"It goes on: tokenguard.batch(client, id={told.id!r}) waits for it."
            )
        yield "sleep", wait
        wait = min(wait * GROWTH, LONGEST_S)
    if told.state in FAILED:
        why = provider.why(job)
        raise BatchError(f"batch {told.id} {told.state}: {why}. Nothing was run, nothing is billed.", told.id)
    found = {result.custom_id: result for result in (yield from provider.results(told, job))}
    yield "flush", None
    order = names or sorted(found)
    return BatchResults(told.id, [BatchResult(*found.get(name, Result(name, None, told.state))[:3]) for name in order])


def _drive(steps: Steps) -> Any:
    try:
        step = next(steps)
        while True:
            kind, what = step
            if kind == "sleep":
                time.sleep(what)
            elif kind == "flush":
                flush()
            value = what() if kind == "ask" else None
            step = steps.send(value)
    except StopIteration as end:
        return end.value


async def _drive_async(steps: Steps) -> Any:
    import asyncio

    try:
        step = next(steps)
        while True:
            kind, what = step
            if kind == "sleep":
                await asyncio.sleep(what)
            elif kind == "flush":
                await asyncio.to_thread(flush)
            value: Any = what() if kind == "ask" else None
            step = steps.send(await value if hasattr(value, "__await__") else value)
    except StopIteration as end:
        return end.value
