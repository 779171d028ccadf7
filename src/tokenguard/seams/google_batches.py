"""google-genai's batches: the requests of jobs, and the files that go up and come down by methods of their own.

What is looked at is `BaseApiClient.upload_file` and `download_file` with their asynchronous twins, and, by way of the
seam, the requests to the batch API. Vertex AI's results are in Cloud Storage, which this client does not read.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tokenguard.call.flow import Flow, drive, drive_async
from tokenguard.metering.meter import Meter
from tokenguard.providers import batches, located
from tokenguard.providers.batches.google import GOOGLE
from tokenguard.providers.google import model_in
from tokenguard.seams.common.files import read_again
from tokenguard.seams.common.tap import Content


class GoogleSent:
    """One request of a google-genai client to the batch API, or of a file."""

    __slots__ = ("_at", "_copy", "body", "endpoint", "request", "uploads")

    def __init__(
        self,
        asked: batches.Request,
        url: str,
        vertex: bool,
        body: Mapping[str, Any],
        at: Any = None,
        uploads: bool = False,
    ) -> None:
        self.request = asked
        self.endpoint, _ = located(url, "gcp.vertex_ai" if vertex else "gcp.gemini")
        self.body = body
        self.uploads = uploads
        """Whether a file is uploaded that may be a batch's: what for is not said."""
        self._at = at
        """Where the file is that is uploaded, or is to be written: a path, or something open."""
        self._copy: Any = None

    def uploaded(self) -> bytes | None:
        """The file that is uploaded."""
        return read_again(Path(self._at) if isinstance(self._at, str) else self._at)

    def said(self, result: Any) -> object:
        """The response's JSON."""
        body = result.response_stream[0] if result.response_stream else ""
        return json.loads(body or "{}")

    def destination(self, given: Any) -> Any:
        """Where a file is to be written to; what is open is written through us."""
        self._at = given
        if given is None or isinstance(given, str | os.PathLike):
            return given
        self._copy = Copied(given)
        return self._copy

    def collect(self, result: Any, collection: Content) -> None:
        """Hand on the file: what was returned, or what was written."""
        if self._at is None:
            collection.feed(bytes(result))
        else:
            with open(self._at, "rb") if self._copy is None else self._copy.kept as file:
                file.seek(0)
                while chunk := file.read(READ):
                    collection.feed(chunk)
        collection.over(True)


READ = 2**20
"""Bytes of a file that are read at once."""


class Copied:
    """Something open that a file is written to, with a copy of what is written."""

    def __init__(self, given: Any) -> None:
        self._given = given
        self.kept = tempfile.SpooledTemporaryFile(READ)  # noqa: SIM115 - closed by its reader, or with us

    def write(self, chunk: bytes) -> Any:
        """Write it; what is returned may be a coroutine."""
        self.kept.write(chunk)
        return self._given.write(chunk)


def _batched(client: Any, request: Any) -> GoogleSent | None:
    """A request to the batch API; `None` for any other."""
    asked = batches.request_at(request.method, request.url, (GOOGLE,))
    if asked is None or asked.kind in (batches.UPLOAD, batches.FILE):  # those go another way
        return None
    data = request.data if isinstance(request.data, Mapping) else {}
    model = model_in(request.url)
    return GoogleSent(asked, request.url, bool(client.vertexai), {"model": model, **data} if model else data)


def _uploading(client: Any, file: Any, options: Any, url: str) -> GoogleSent:
    """A file that is uploaded, whatever for."""
    headers = options.get("headers") if isinstance(options, Mapping) else getattr(options, "headers", None)
    kind = str((headers or {}).get("X-Goog-Upload-Header-Content-Type", ""))
    lines = "json" in kind or str(file).endswith(".jsonl")
    return GoogleSent(batches.Request(batches.UPLOAD, "", GOOGLE), url, False, {}, file, lines)


def _downloading(client: Any, path: str) -> GoogleSent | None:
    asked = batches.request_at("get", f"/{path}", (GOOGLE,))
    url = str(client._http_options.base_url)
    return None if asked is None else GoogleSent(asked, url, bool(client.vertexai), {})


def _flow(meter: Meter, look: Callable[..., GoogleSent | None], *args: Any) -> tuple[GoogleSent, Flow] | None:
    if meter.batches is None or (sent := meter.contain("looking at a batch", look, *args)) is None:
        return None
    return sent, meter.batches.flow(sent)


def batch_flow(meter: Meter, client: Any, request: Any) -> Flow | None:
    """The flow of a request to the batch API; `None` for any other."""
    found = _flow(meter, _batched, client, request)
    return None if found is None else found[1]


def wrap_files(wrap: Callable[..., None], meter: Meter) -> None:
    """Put the batches around the methods by which files go up and come down."""

    def upload(original: Any) -> Any:
        def put(self: Any, file_path: Any, upload_url: str, *args: Any, **kwargs: Any) -> Any:
            found = _flow(meter, _uploading, self, file_path, kwargs.get("http_options"), upload_url)
            send = functools.partial(original, self, file_path, upload_url, *args, **kwargs)
            return send() if found is None else drive(found[1], send)

        async def aput(self: Any, file_path: Any, upload_url: str, *args: Any, **kwargs: Any) -> Any:
            found = _flow(meter, _uploading, self, file_path, kwargs.get("http_options"), upload_url)
            send = functools.partial(original, self, file_path, upload_url, *args, **kwargs)
            return await (send() if found is None else drive_async(found[1], send))

        return aput if inspect.iscoroutinefunction(original) else put

    def download(original: Any) -> Any:
        def get(self: Any, path: str, *args: Any, **kwargs: Any) -> Any:
            found = _flow(meter, _downloading, self, path)
            if found is not None and "destination" in kwargs:
                kwargs["destination"] = found[0].destination(kwargs["destination"])
            send = functools.partial(original, self, path, *args, **kwargs)
            return send() if found is None else drive(found[1], send)

        async def aget(self: Any, path: str, *args: Any, **kwargs: Any) -> Any:
            found = _flow(meter, _downloading, self, path)
            if found is not None and "destination" in kwargs:
                kwargs["destination"] = found[0].destination(kwargs["destination"])
            send = functools.partial(original, self, path, *args, **kwargs)
            return await (send() if found is None else drive_async(found[1], send))

        return aget if inspect.iscoroutinefunction(original) else get

    for name in ("upload_file", "async_upload_file"):
        wrap(f"BaseApiClient.{name}", upload, optional=True)
    for name in ("download_file", "async_download_file"):
        wrap(f"BaseApiClient.{name}", download, optional=True)
