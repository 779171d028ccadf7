"""Bedrock's batches by botocore: the jobs of its control plane, and their files, which S3's client puts and gets.

Of S3, only objects whose names end as a batch's do are looked at. A large one goes up, and comes down, in parts, by
several threads at once. Nothing is asked of AWS that the application does not ask.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

from tokenguard.call.flow import Flow
from tokenguard.facts.patterns import lazy
from tokenguard.metering.meter import Meter
from tokenguard.providers import batches, located
from tokenguard.providers.batches.bedrock import BEDROCK
from tokenguard.seams.botocore_streams import BODY_METHODS, Handed, watch_stream
from tokenguard.seams.common.files import MAX_UPLOAD, beginning, read_again
from tokenguard.seams.common.tap import Content

OPERATIONS = {
    "CreateModelInvocationJob": ("bedrock", batches.CREATE),
    "GetModelInvocationJob": ("bedrock", batches.JOB),
    "ListModelInvocationJobs": ("bedrock", batches.JOBS),
    "PutObject": ("s3", batches.UPLOAD),
    "UploadPart": ("s3", batches.UPLOAD),
    "CompleteMultipartUpload": ("s3", batches.UPLOAD),
    "GetObject": ("s3", batches.FILE),
}
"""The operations of batches, with the service of each and what it is."""
INPUT, RESULTS = ".jsonl", ".jsonl.out"
"""What the names of its files end in."""
RANGE = lazy(r"bytes (\d+)-\d+/(\d+)$")
REMEMBERED = 8
"""Files that are under way in parts."""
NOT_KNOWN = 0
"""In the place of the parts of a file that is no batch's, or too large to keep."""


class Parts:
    """The parts of files that go up."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, dict[int, bytes]] = OrderedDict()
        self._lock = Lock()

    def take(self, params: Mapping[str, Any]) -> None:
        """Keep a part that is to be sent, unless it is of another kind of file."""
        number, name, body = params["PartNumber"], params["UploadId"], params.get("Body")
        with self._lock:
            parts = self._files.setdefault(name, {})
            while len(self._files) > REMEMBERED:
                self._files.popitem(last=False)
        if NOT_KNOWN in parts:
            return
        content = read_again(body) if number != 1 or is_input(body) else None
        with self._lock:
            parts[number] = content or b""
            if content is None or sum(map(len, parts.values())) > MAX_UPLOAD:
                parts.clear()
                parts[NOT_KNOWN] = b""

    def whole(self, params: Mapping[str, Any]) -> bytes | None:
        """The file of these parts; `None` where they are not all known."""
        with self._lock:
            parts = self._files.pop(params["UploadId"], {})
        named = [part["PartNumber"] for part in params.get("MultipartUpload", {}).get("Parts", ())]
        return b"".join(parts[number] for number in sorted(named)) if named and set(named) == set(parts) else None


class InOrder:
    """The pieces of one content, which come in any order and maybe twice, handed on in theirs."""

    def __init__(self, content: Content, size: int) -> None:
        self._content = content
        self._size = size
        self._at = 0
        self._waiting: dict[int, bytes] = {}
        self._lock = Lock()

    @property
    def done(self) -> bool:
        """Whether all of it has been handed on."""
        return self._at >= self._size

    def put(self, at: int, piece: bytes) -> None:
        """Take a piece with its place."""
        with self._lock:
            self._waiting[at] = max(piece, self._waiting.get(at, b""), key=len)
            for place in sorted(self._waiting):
                if place > self._at:
                    break
                new = self._waiting.pop(place)[self._at - place :]
                if new:
                    self._content.feed(new)
                    self._at += len(new)
            if self.done:
                self._content.over(True)
            elif sum(map(len, self._waiting.values())) > MAX_UPLOAD:
                self._waiting.clear()  # whoever reads them next records them

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # an interpreter that is half gone
            self._content.over(False)


class From:
    """Content from one place on: that of one request for a part."""

    def __init__(self, whole: InOrder, at: int) -> None:
        self._whole = whole
        self._at = at

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        at, self._at = self._at, self._at + len(chunk)
        self._whole.put(at, chunk)

    def over(self, complete: bool) -> None:
        """The whole knows its size."""


class Files:
    """The files of batches that are under way in parts, up or down."""

    def __init__(self) -> None:
        self.parts = Parts()
        self._coming: OrderedDict[tuple[Any, int], InOrder] = OrderedDict()

    def part(self, name: object, said: str, content: Content) -> Content:
        """What takes the content of an answer that is a part of a file, or the whole."""
        found = RANGE.match(said)
        if found is None:
            return content
        key = name, int(found[2])
        whole = self._coming.get(key)
        if whole is None or whole.done:
            whole = self._coming[key] = InOrder(content, key[1])
        while len(self._coming) > REMEMBERED:
            self._coming.popitem(last=False)
        return From(whole, int(found[1]))


def is_input(body: Any) -> bool:
    """Whether a file that is uploaded begins as a batch's input does."""
    head = beginning(body)[1]
    return head.lstrip()[:1] == b"{" and BEDROCK.mark in head


class BedrockSent:
    """One request of a boto client to the batch API, or of a file of it."""

    __slots__ = ("_contain", "_files", "_operation", "body", "endpoint", "request")
    uploads = True

    def __init__(
        self, client: Any, operation: str, params: Mapping[str, Any], files: Files, contain: Callable[..., Any]
    ) -> None:
        folder = str(params.get("Key", "")).rpartition("/")[0]
        self.request = batches.Request(OPERATIONS[operation][1], folder.rpartition("/")[2], BEDROCK)
        self.endpoint, _ = located(client.meta.endpoint_url, "aws.bedrock")
        self.body = params
        self._operation = operation
        self._files = files
        self._contain = contain

    def uploaded(self) -> bytes | None:
        """The file that is uploaded, or was in parts."""
        if self._operation == "CompleteMultipartUpload":
            return self._files.parts.whole(self.body)
        return read_again(self.body.get("Body")) if is_input(self.body.get("Body")) else None

    def said(self, result: Any) -> object:
        """The job, with what it was created by; of a file, its place."""
        if self.request.kind == batches.UPLOAD:
            return {"id": f"s3://{self.body['Bucket']}/{self.body['Key']}"}
        return {**self.body, **result} if self.request.kind == batches.CREATE else result

    def collect(self, result: Any, collection: Content) -> None:
        """Hand on the results as they are read."""
        name = self.body["Bucket"], self.body["Key"]
        content = self._files.part(name, result.get("ContentRange") or "", collection)
        watch_stream(result["Body"], Handed(content, self._contain), BODY_METHODS)


class BedrockBatches:
    """What a seam asks of each request that is no call to a model."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._files = Files()

    def flow(self, client: Any, operation: str, params: Any) -> Flow | None:
        """The flow of a request that is a batch's; `None` for any other."""
        if operation not in OPERATIONS or self._meter.batches is None:
            return None
        sent = self._meter.contain("looking at a batch", self._sent, client, operation, params)
        return None if sent is None else self._meter.batches.flow(sent)

    def _sent(self, client: Any, operation: str, params: Mapping[str, Any]) -> BedrockSent | None:
        service, kind = OPERATIONS[operation]
        if client.meta.service_model.service_name != service:
            return None
        ends = {batches.UPLOAD: INPUT, batches.FILE: RESULTS}.get(kind, "")
        if not str(params.get("Key", "")).endswith(ends):
            return None
        if operation == "UploadPart":
            self._files.parts.take(params)
            return None
        return BedrockSent(client, operation, params, self._files, self._meter.contain)
