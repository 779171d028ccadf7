"""The HTTP side of the simulated provider: routes, errors, server-sent events, and what goes wrong on purpose."""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import unquote

from tokenguard.demo import (
    anthropic_messages,
    batch_jobs,
    bedrock_jobs,
    bedrock_runtime,
    billing,
    cohere_api,
    google_gemini,
    media,
    ollama_api,
    openai_chat,
    openai_responses,
    rentals,
    s3_objects,
)
from tokenguard.demo.exchange import Answerer, Desk, Event, Received, Refusal, Reply
from tokenguard.demo.faults import ERRORS, MALFORMED, Fault, Faults, replaced, with_usage, without_usage
from tokenguard.facts.usage import Usage
from tokenguard.tokens import count_text


class Provider(Protocol):
    """What the server asks of the provider that it serves (`provider.SimulatedProvider`)."""

    desk: Desk
    faults: Faults
    latency: float
    chunk_delay: float
    requests: list[Received]


def v1_chat(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """The path that Cohere's old API and Writer's share; Writer's is OpenAI's format."""
    return (openai_chat.chat if "messages" in body else cohere_api.chat_v1)(desk, body, key)


def line_answered(desk: Desk) -> batch_jobs.Answer:
    """What answers the lines of batches: whatever answers calls."""

    def answer(url: str, body: Mapping[str, Any], key: str) -> Reply:
        answerer = next((f for end, _, f in ROUTES if url.endswith(end)), None)
        if answerer is None:
            raise Refusal(400, "invalid_request_error", f"Invalid URL ({url})")
        try:
            return answerer(desk, body, key)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise Refusal(400, "invalid_request_error", f"The request is not valid: {error!r}") from error

    return answer


def uploaded(content_type: str, raw: bytes, desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /files`."""
    return batch_jobs.upload(desk, content_type, raw)


def cancelled(ask: Callable[[str], Reply], path: str, desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /batches/ID/cancel`."""
    return ask(path)


RENTED = re.compile(r"/(?:vector_stores|containers|fine_tuning/jobs|cachedContents)/[^/]+$")
BATCHES = re.compile(r"/(?:batches|batch/jobs)(?:/|$)|/files/[^/]+(?:/content|:download)$")
CANCEL = re.compile(r"/(?:batches|batch/jobs)/[^/]+[/:]cancel$")

INVOCATION_JOBS = re.compile(r"/model-invocation-job(?:s$|/)")

ROUTES: Sequence[tuple[str, str, Answerer]] = (
    ("/batches", "batch_create", batch_jobs.create),
    ("/batch/jobs", "batch_create", batch_jobs.create),
    ("/model-invocation-job", "bedrock_batch", bedrock_jobs.create),
    (":batchGenerateContent", "batch_create", batch_jobs.create_google),
    (":asyncBatchEmbedContent", "batch_create", batch_jobs.create_google),
    ("/api/chat", "ollama_chat", ollama_api.chat),
    ("/api/generate", "ollama_generate", ollama_api.generate),
    ("/api/embed", "ollama_embed", ollama_api.embed),
    ("/v1/chat", "chat_v1", v1_chat),
    ("/v2/chat", "chat_v2", cohere_api.chat),
    ("/embed", "embed", cohere_api.embed),
    ("/rerank", "rerank", cohere_api.rerank),
    ("/chat/completions", "chat", openai_chat.chat),
    ("/completions", "completions", openai_chat.completions),
    ("/embeddings", "embeddings", openai_chat.embeddings),
    (":predict", "predict", media.predict),
    (":predictLongRunning", "predict", media.film_operation),
    ("/cachedContents", "caches", rentals.cached_content),
    ("/vector_stores", "vector_store", rentals.vector_store),
    ("/containers", "container", rentals.container),
    ("/fine_tuning/jobs", "fine_tuning", rentals.tuning),
    (":fetchPredictOperation", "operation", media.fetched),
    ("/ocr", "ocr", media.ocr),
    ("/async-invoke", "async_invoke", media.async_invoke),
    ("/images/generations", "images", media.images),
    ("/images/edits", "images", media.images),
    ("/images/variations", "images", media.images),
    ("/audio/speech", "speech", media.speech),
    ("/audio/transcriptions", "transcripts", media.transcripts),
    ("/audio/translations", "transcripts", media.transcripts),
    ("/moderations", "moderations", media.moderations),
    ("/decisions", "decisions", media.decisions),
    ("/videos", "videos", media.videos),
    ("/remix", "video_edits", media.videos),
    ("/videos/edits", "video_edits", media.videos),
    ("/videos/extensions", "video_edits", media.videos),
    ("/responses/input_tokens", "count", openai_responses.input_tokens),
    ("/responses", "responses", openai_responses.responses),
    ("/messages/count_tokens", "count", anthropic_messages.count_tokens),
    ("/messages", "messages", anthropic_messages.messages),
    (":rawPredict", "messages", anthropic_messages.messages),
    (":streamRawPredict", "messages", anthropic_messages.messages),
    (":generateContent", "generate_content", google_gemini.generate),
    (":streamGenerateContent", "generate_content", google_gemini.generate),
    (":batchEmbedContents", "embed_content", google_gemini.embed),
    ("/converse", "converse", bedrock_runtime.converse),
    ("/converse-stream", "converse", bedrock_runtime.converse),
    ("/invoke", "invoke", bedrock_runtime.invoke),
    ("/invoke-with-response-stream", "invoke", bedrock_runtime.invoke),
)
"""Ends of paths, so that any prefix works: `/v1`, `/openai/v1`, Azure's `/openai/deployments/NAME`."""
MODEL_IN_PATH = re.compile(r"/(?:deployments|models?)/(?P<model>[^/]+?)(?P<end>[:/][A-Za-z-]+)*$")
"""Azure's, Google's and Bedrock's paths name the model, and the last two say whether a stream is wanted."""


class Server(ThreadingHTTPServer):
    """Serves one provider, a thread for each connection."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, port: int, provider: Provider) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.provider = provider
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Note the connection, and serve it."""
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget the connection when it closes."""
        self._open.discard(request)
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        """Hang up on everybody."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report what is wrong here; that clients hang up is not."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each stream waits 40 ms for an acknowledgement
    server: Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer models and stored responses."""
        path = self.path.partition("?")[0]
        received = self._receive(path, "", {})
        try:
            reply = self._look_up(path)
        except Refusal as refusal:
            self._refuse(received, refusal)
        else:
            (self._stream if reply.events else self._send)(received, reply, None)

    def _look_up(self, path: str) -> Reply:
        last = path.rpartition("/")[2]
        if self._is_s3():
            return self._object(b"", self.server.provider.desk)
        if INVOCATION_JOBS.search(path):
            return self._invocation_jobs(path, self.server.provider.desk)
        if BATCHES.search(path):
            return self._batch(path)
        if any(part in path for part in billing.PATHS):
            if "admin" not in self._key():
                raise Refusal(401, "invalid_request_error", "This path takes an admin key.")
            return billing.answer(self.server.provider.desk, path, self.path.partition("?")[2])
        if "/responses/" in path:
            return openai_responses.retrieved(self.server.provider.desk, last)
        if "/operations/" in path:
            return media.operation(self.server.provider.desk, last)
        if RENTED.search(path):
            return rentals.looked_up(self.server.provider.desk, last)
        if "/async-invoke/" in path:
            return media.async_invocation(self.server.provider.desk, unquote(path).rpartition("/")[2])
        if "/videos/" in path:
            if last == "content":
                return Reply({}, content=media.SOUND, content_type="video/mp4")
            return media.video(self.server.provider.desk, last)
        if last == "models":
            return anthropic_messages.models() if self._is_anthropic() else openai_chat.models()
        if "/models/" in path:
            return Reply(openai_chat.model_json(last))
        raise Refusal(404, "invalid_request_error", f"Invalid URL (GET {path})")

    def do_PUT(self) -> None:
        """Take an object of S3."""
        raw = self._read_all()
        received = self._receive(self.path, "", {})
        self._send(received, self._object(raw, self.server.provider.desk), None)

    def do_HEAD(self) -> None:
        """Say whether there is an object of S3."""
        received = self._receive(self.path, "", {})
        try:
            self._send(received, self._object(b"", self.server.provider.desk), None)
        except Refusal as refusal:
            self._send(received, Reply({}, status=refusal.status, content=b""))

    def _is_s3(self) -> bool:
        return s3_objects.SIGNED in (self.headers.get("Authorization") or "")

    def _object(self, raw: bytes, desk: Desk, *_: object) -> Reply:
        with desk.lock:
            return s3_objects.answer(desk, self.command, self.path, self.headers, raw)

    def _invocation_jobs(self, path: str, desk: Desk, *_: object) -> Reply:
        with desk.lock:
            return bedrock_jobs.asked(desk, self.command, unquote(path), line_answered(desk))

    def do_DELETE(self) -> None:
        """Delete what is rented."""
        name = self.path.partition("?")[0].rpartition("/")[2]
        self._send(self._receive(self.path, "", {}), rentals.deleted(self.server.provider.desk, name), None)

    def do_PATCH(self) -> None:
        """Give a cache another lifetime."""
        body, name = json.loads(self._read_all()), self.path.partition("?")[0].rpartition("/")[2]
        self._send(self._receive(self.path, "", body), rentals.changed(self.server.provider.desk, name, body), None)

    def _batch(self, path: str) -> Reply:
        """Answer what is asked of batch jobs and their files, in GET and POST."""
        kind, name, what = path.split("/")[-3:]
        desk = self.server.provider.desk
        with desk.lock:
            if kind == "files" and what == "content":
                return batch_jobs.content(desk, name)
            if what.endswith(":download"):
                return batch_jobs.content(desk, what.removesuffix(":download"))
            if what == "results":
                return self._addressed(batch_jobs.results(desk, name))
            if what == "cancel":
                return self._addressed(batch_jobs.cancel(desk, name, line_answered(desk)))
            if what in ("batches", "jobs"):
                return batch_jobs.listed(desk, "-goog-api-key" in str(self.headers).lower())
            if f"batches/{what.partition(':')[0]}" in desk.batches:
                what, _, verb = f"batches/{what}".partition(":")
                if verb:
                    batch_jobs.cancel(desk, what, line_answered(desk))
                    return Reply({})
            return self._addressed(batch_jobs.retrieve(desk, what, line_answered(desk)))

    def _upload(self, path: str, raw: bytes, desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
        """Google's uploads: they are begun, and then sent in pieces."""
        if path.endswith("/files"):
            return batch_jobs.begin_upload(desk, str(self.headers.get("Host")))
        last = "finalize" in (self.headers.get("X-Goog-Upload-Command") or "")
        return batch_jobs.end_upload(desk, path.rpartition("/")[2], raw, last)

    def _addressed(self, reply: Reply) -> Reply:
        url = reply.body.get("results_url")
        here = f"http://{self.headers.get('Host')}"
        return reply if url is None else reply._replace(body={**reply.body, "results_url": url.format(url=here)})

    def do_POST(self) -> None:
        """Answer a model call."""
        path = self.path.partition("?")[0]
        raw = self._read_all()
        content_type = self.headers.get("Content-Type") or ""
        try:
            body = media.parts_of(content_type, raw) if content_type.startswith("multipart/") else json.loads(raw)
        except ValueError:
            body = None
        body = body if isinstance(body, dict) else {}
        if named := MODEL_IN_PATH.search(path):
            body.setdefault("model", unquote(named["model"]))
            if "stream" in path.rpartition(named["model"])[2]:
                body["stream"] = True
        api, answerer = next(((api, f) for end, api, f in ROUTES if path.endswith(end)), ("", None))
        if path.startswith("/upload/"):
            answerer = partial(self._upload, path, raw)
        elif path.endswith("/files"):
            answerer = partial(uploaded, self.headers.get("Content-Type", ""), raw)
        elif self._is_s3():
            answerer = partial(self._object, raw)
        elif INVOCATION_JOBS.search(path):
            answerer = partial(self._invocation_jobs, path)
        elif CANCEL.search(path):
            answerer = partial(cancelled, self._batch, path)
        received = self._receive(path, api, body)
        fault = received.fault = self.server.provider.faults.next(path, body)
        try:
            reply = self._answer(path, answerer, body, fault)
        except Refusal as refusal:
            self._refuse(received, refusal, fault)
            return
        if fault is not None and fault.what == "refuse_connection":
            self.close_connection = True
            return
        received.billed, received.response_id = reply.billed, reply.body.get("id")
        reply = self._spoil(reply, fault)
        if reply.events:
            self._stream(received, reply, fault)
        else:
            self._send(received, reply, cut=fault is not None and fault.what == "disconnect")

    def _read_all(self) -> bytes:
        """The body, in one piece or in chunks."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().strip() or b"0", 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, path: str, answerer: Answerer | None, body: Mapping[str, Any], fault: Fault | None) -> Reply:
        provider = self.server.provider
        if fault is not None:
            time.sleep(fault.seconds)
        if fault is not None and isinstance(fault.what, int):
            kinds = ERRORS.get(fault.what, ERRORS[500])
            code = "rate_limit_exceeded" if fault.what == 429 else None
            if fault.option:
                anthropic = f"{fault.option}: Extra inputs are not permitted"
                message = anthropic if self._is_anthropic() else f"Unknown parameter: '{fault.option}'."
                raise Refusal(fault.what, kinds[self._is_anthropic()], message, "unknown_parameter", fault.option)
            raise Refusal(fault.what, kinds[self._is_anthropic()], kinds[2], code)
        if answerer is None:
            raise Refusal(404, ERRORS[404][self._is_anthropic()], f"Invalid URL (POST {path})")
        free = ("/api/", "/upload/")  # Ollama asks for no key, and Google for none at the address of an upload
        if not (key := self._key()) and not path.startswith(free):
            raise Refusal(401, ERRORS[401][self._is_anthropic()], "No API key was provided.")
        time.sleep(provider.latency)
        try:
            with provider.desk.lock:
                return answerer(provider.desk, body, key)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            # A provider checks a schema; that an odd body cannot be read comes to the same.
            message = f"The request body is not valid: {type(error).__name__}: {error}"
            raise Refusal(400, ERRORS[400][self._is_anthropic()], message) from error

    def _receive(self, path: str, api: str, body: Mapping[str, Any]) -> Received:
        headers = {name.lower(): value for name, value in self.headers.items()}
        received = Received(path, api, headers, body, time.time())
        self.server.provider.requests.append(received)
        return received

    def _key(self) -> str:
        bearer = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        names = ("x-api-key", "api-key", "x-goog-api-key")
        return next((key for name in names if (key := self.headers.get(name))), bearer)

    def _is_anthropic(self) -> bool:
        return self.headers.get("anthropic-version") is not None

    def _spoil(self, reply: Reply, fault: Fault | None) -> Reply:
        """The reply with its usage missing or malformed, where that is the fault."""
        match fault.what if fault is not None else None:
            case "missing_usage":
                return reply._replace(body=replaced(reply.body, None), events=without_usage(reply.events))
            case "malformed_usage":
                return reply._replace(body=replaced(reply.body, MALFORMED), events=with_usage(reply.events, MALFORMED))
            case _:
                return reply

    # --- writing ------------------------------------------------------------------------------------------------------

    def _head(self, status: int, fields: Mapping[str, str]) -> bytes:
        """Status line and headers, to be written together with what follows: one packet, one wakeup."""
        request = self.server.provider.desk.id("req_", 32)
        lines = [f"HTTP/1.1 {status} {self.responses.get(status, ('Overloaded',))[0]}"]
        shared = {"Date": self.date_time_string(), "x-request-id": request, "request-id": request, **fields}
        return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in shared.items()), "\r\n"]).encode()

    def _send(
        self, received: Received, reply: Reply, fields: Mapping[str, str] | None = None, cut: bool = False
    ) -> None:
        content, kind = reply.content, reply.content_type
        if content is None:
            content, kind = json.dumps(reply.body, ensure_ascii=False).encode("utf-8", "replace"), "application/json"
        length = {"Content-Type": kind, "Content-Length": str(len(content)), **reply.headers}
        head = self._head(reply.status, {**length, **(fields or {})})
        received.status = reply.status
        if cut:  # the connection goes away in the middle of the answer
            self.close_connection = True
            content = content[: len(content) // 2]
        # Before it is written: once the client has read it, it may ask for the books.
        received.delivered = not cut
        try:
            self.wfile.write(head + content)
        except OSError:
            received.delivered, self.close_connection = False, True

    def _refuse(self, received: Received, refusal: Refusal, fault: Fault | None = None) -> None:
        error: dict[str, Any] = {"message": str(refusal), "type": refusal.kind}
        wait = {}
        body: dict[str, Any]
        if self._is_s3():
            self._send(received, s3_objects.refused(refusal))
            return
        if received.api in ("generate_content", "embed_content", "predict"):
            body = google_gemini.refused(refusal.status, str(refusal))
        elif received.api in ("converse", "invoke", "async_invoke", "bedrock_batch"):
            body = {"message": str(refusal)}
            wait["x-amzn-ErrorType"] = bedrock_runtime.ERRORS.get(refusal.status, "InternalServerException")
        elif self._is_anthropic():
            body = {"type": "error", "error": error, "request_id": self.server.provider.desk.id("req_")}
        else:
            # OpenRouter, whose paths begin so, has the status for a code.
            code = refusal.status if self.path.startswith("/api/v1") else refusal.code
            body = {"error": {**error, "param": refusal.param, "code": code}}
        if fault is not None and fault.retry_after is not None:
            # The SDKs take `Retry-After: 0` for none and wait half a second; a millisecond they obey.
            milliseconds = max(fault.retry_after * 1000, 1)
            wait |= {"Retry-After": f"{fault.retry_after:g}", "retry-after-ms": f"{milliseconds:g}"}
        self._send(received, Reply(body, status=refusal.status), wait)

    def _stream(self, received: Received, reply: Reply, fault: Fault | None) -> None:
        events = list(reply.events)
        broken = fault is not None and fault.what in ("disconnect", "stream_error")
        if fault is not None and broken:
            events = events[: fault.after]
            received.billed = _as_far_as(reply, events, received.model)
            if fault.what == "stream_error" and reply.broken is not None:
                events.append(reply.broken)
        fields = {"Content-Type": reply.content_type, "Transfer-Encoding": "chunked"}
        head = self._head(200, {**fields, "Cache-Control": "no-cache"})
        received.status = 200
        sent = 0
        try:
            for event in events:
                sent += 1
                self.wfile.write(head + _chunk(reply.framed(event)))
                head = b""
                time.sleep(self.server.provider.chunk_delay)
                if self._left():
                    raise ConnectionAbortedError
            if fault is not None and fault.what == "disconnect":
                self.close_connection = True
                return
            received.delivered = True
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True
            received.delivered = False
            if not broken:
                received.billed = _as_far_as(reply, events[:sent], received.model)

    def _left(self) -> bool:
        """Whether the client has hung up."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)


def _as_far_as(reply: Reply, events: Sequence[Event], model: str) -> Usage | None:
    """What is charged when generating stops behind these events, because nobody listens or something broke."""
    if reply.billed is None:
        return None
    made = min(count_text("".join(event.text for event in events), model), reply.billed.output or 0)
    return reply.billed._replace(output=made, reasoning=min(reply.billed.reasoning or 0, made))


def _chunk(content: bytes) -> bytes:
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"
