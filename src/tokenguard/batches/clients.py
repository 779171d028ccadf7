"""How the clients of the SDKs create a job, ask for it and read its results: for `tokenguard.batch`."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Mapping
from typing import Any, Protocol

from tokenguard.facts.errors import BatchError
from tokenguard.providers.batches import ANTHROPIC, MISTRAL, OPENAI, BatchApi, Result, Seen, objects
from tokenguard.providers.batches.google import GOOGLE

Step = tuple[str, Any]
Steps = Generator[Step, Any, Any]
"""What is to be done outside: ("ask", a function of the client's), ("sleep", seconds) or ("flush", None)."""
Lines = Mapping[str, Mapping[str, Any]]
"""The bodies of requests, by name."""


class Client(Protocol):
    """A client, as the helper uses it."""

    api: BatchApi

    def create(self, lines: Lines, endpoint: str, metadata: Mapping[str, str] | None) -> Generator[Step, Any, str]:
        """Create the job; its id."""
        ...

    def ask(self, job_id: str) -> Any:
        """Ask for the job."""
        ...

    def results(self, told: Seen, job: Any) -> Generator[Step, Any, list[Result]]:
        """Read what came of it."""
        ...

    def why(self, job: Any) -> str:
        """Why the whole of it failed."""
        ...


def client_of(client: Any) -> Client:
    """The client of whichever SDK. Raises `TypeError` for one whose jobs are not made here."""
    if hasattr(client, "messages"):
        return AnthropicClient(client)
    module = type(client).__module__
    for package, kind in (("google.genai", GoogleClient), ("mistralai", MistralClient), ("", OpenAIClient)):
        if module.startswith(package) and (package or hasattr(client, "batches")):
            return kind(client)
    raise TypeError(
        f"tokenguard.batch takes a client of openai (or one like it), anthropic, google-genai or mistralai, not "
        f"{module}.{type(client).__qualname__}. Create the job with that client: its lines are recorded all the same."
    )


def _read(api: BatchApi, lines: Iterable[Mapping[str, Any]]) -> list[Result]:
    return [result for result in map(api.result, lines) if result is not None]


def _one_model(lines: Lines, whose: str) -> str:
    models = sorted({str(body.get("model")) for body in lines.values()})
    if len(models) != 1:
        raise TypeError(
            f"a batch of {whose}'s goes to one model; here are {', '.join(models)}. Make a batch for each model."
        )
    return models[0]


def _without_model(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key != "model"}


class OpenAIClient:
    """OpenAI's, and those that are like it."""

    api = OPENAI

    def __init__(self, client: Any) -> None:
        self._client = client

    def create(self, lines: Lines, endpoint: str, metadata: Mapping[str, str] | None) -> Generator[Step, Any, str]:
        """Upload the lines, and create a job of them."""
        content = "".join(
            json.dumps({"custom_id": name, "method": "POST", "url": endpoint, "body": body}) + "\n"
            for name, body in lines.items()
        ).encode()
        file = yield (
            "ask",
            lambda: self._client.files.create(file=("requests.jsonl", content), purpose="batch"),
        )
        more = {} if metadata is None else {"metadata": dict(metadata)}
        ask = {"input_file_id": file.id, "endpoint": endpoint, "completion_window": "24h", **more}
        job = yield "ask", lambda: self._client.batches.create(**ask)
        return str(job.id)

    def ask(self, job_id: str) -> Any:
        """Ask for the job."""
        return self._client.batches.retrieve(job_id)

    def results(self, told: Seen, job: Any) -> Generator[Step, Any, list[Result]]:
        """Read both of its files."""
        found = []
        for name in filter(None, (told.output, told.errors)):
            content = yield "ask", lambda name=name: self._client.files.content(name)
            found += _read(self.api, objects(content.read()))
        return found

    def why(self, job: Any) -> str:
        """What the job says of its input."""
        errors = getattr(getattr(job, "errors", None), "data", None) or ()
        return "; ".join(str(error.message) for error in errors if error.message) or "the provider does not say why"


class MistralClient:
    """mistralai's, for calls that are waited for."""

    api = MISTRAL

    def __init__(self, client: Any) -> None:
        self._jobs = client.batch.jobs
        self._files = client.files

    def create(self, lines: Lines, endpoint: str, metadata: Mapping[str, str] | None) -> Generator[Step, Any, str]:
        """Upload the lines, and create a job of them for their model."""
        model = _one_model(lines, "Mistral")
        content = "".join(
            json.dumps({"custom_id": name, "body": _without_model(body)}) + "\n" for name, body in lines.items()
        ).encode()
        file = yield (
            "ask",
            lambda: self._files.upload(file={"file_name": "requests.jsonl", "content": content}, purpose="batch"),
        )
        more = {} if metadata is None else {"metadata": dict(metadata)}
        job = yield "ask", lambda: self._jobs.create(input_files=[file.id], model=model, endpoint=endpoint, **more)
        return str(job.id)

    def ask(self, job_id: str) -> Any:
        """Ask for the job."""
        return self._jobs.get(job_id=job_id)

    def results(self, told: Seen, job: Any) -> Generator[Step, Any, list[Result]]:
        """Read both of its files."""
        found = []
        for name in filter(None, (told.output, told.errors)):
            content = yield "ask", lambda name=name: self._files.download(file_id=name)
            found += _read(self.api, objects(content.read()))
        return found

    def why(self, job: Any) -> str:
        """What the job says of its requests."""
        errors = (str(error.message) for error in getattr(job, "errors", None) or ())
        return "; ".join(errors) or "the provider does not say why"


class AnthropicClient:
    """Anthropic's."""

    api = ANTHROPIC

    def __init__(self, client: Any) -> None:
        self._jobs = client.messages.batches

    def create(self, lines: Lines, endpoint: str, metadata: Mapping[str, str] | None) -> Generator[Step, Any, str]:
        """Create a job that has the requests in it."""
        asked = [{"custom_id": name, "params": body} for name, body in lines.items()]
        job = yield "ask", lambda: self._jobs.create(requests=asked)
        return str(job.id)

    def ask(self, job_id: str) -> Any:
        """Ask for the job."""
        return self._jobs.retrieve(job_id)

    def results(self, told: Seen, job: Any) -> Generator[Step, Any, list[Result]]:
        """Read what its decoder reads."""
        decoder = yield "ask", lambda: self._jobs.results(told.id)
        models = yield "ask", lambda: _all_of(decoder)
        return _read(self.api, (model.model_dump(mode="json") for model in models))

    def why(self, job: Any) -> str:
        """Nothing is said."""
        return "the provider does not say why"


class GoogleClient:
    """google-genai's, for the Gemini API."""

    api = GOOGLE

    def __init__(self, client: Any) -> None:
        self._client = client

    def create(self, lines: Lines, endpoint: str, metadata: Mapping[str, str] | None) -> Generator[Step, Any, str]:
        """Create a job that has the requests in it, each with its name as the key of its metadata."""
        if metadata is not None:
            raise TypeError("a batch of Google's has no metadata; leave it out")
        model = _one_model(lines, "Google")
        asked = [{**_without_model(body), "metadata": {"key": name}} for name, body in lines.items()]
        job = yield "ask", lambda: self._client.batches.create(model=model, src=asked)
        return str(job.name)

    def ask(self, job_id: str) -> Any:
        """Ask for the job."""
        return self._client.batches.get(name=job_id)

    def results(self, told: Seen, job: Any) -> Generator[Step, Any, list[Result]]:
        """Read what the job holds, in the order of the requests, or its file."""
        if (held := job.dest and job.dest.inlined_responses) is None and told.output is None:
            raise BatchError(
                f"{told.id}: its results are in {job.dest}, which is not read here. Read them there.", told.id
            )
        if told.output is not None:
            content = yield "ask", lambda: self._client.files.download(file=f"files/{told.output}")
            return _read(self.api, objects(content))
        models = (each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in held)
        return _read(self.api, self.api.held({"response": {"inlinedResponses": {"inlinedResponses": list(models)}}}))

    def why(self, job: Any) -> str:
        """What the job says of its error."""
        return str(getattr(getattr(job, "error", None), "message", None) or "the provider does not say why")


def _all_of(decoder: Any) -> Any:
    """What a decoder reads; to be awaited where it is an asynchronous one."""

    async def read() -> list[Any]:
        return [each async for each in decoder]

    return read() if hasattr(decoder, "__anext__") else list(decoder)
