"""xAI's chat service on a gRPC server on loopback, made from the SDK's own generated messages.

No traffic of xAI's has been recorded: the shapes are those of the SDK's protos, whatever its version, and the numbers
nest as its documentation says. 1,200 in (1,024 cached), 100 out and 200 of reasoning beside them on grok-4.3: with the
price list's $1.25, $0.20 and $2.50 a million, $0.0011748 (reasoning is output).
"""

from __future__ import annotations

import threading
from concurrent import futures

import grpc
from xai_sdk.proto import chat_pb2, chat_pb2_grpc, deferred_pb2, sample_pb2

try:
    from xai_sdk.proto import image_pb2, image_pb2_grpc
except ImportError:
    image_pb2 = image_pb2_grpc = None
try:
    from xai_sdk.proto import video_pb2, video_pb2_grpc
except ImportError:
    video_pb2 = video_pb2_grpc = None


def _servicer(kind):
    """The SDK's own base of a service, where this version has it."""
    generated = {"image": image_pb2_grpc, "video": video_pb2_grpc}[kind]
    return object if generated is None else getattr(generated, f"{kind.capitalize()}Servicer")


MODEL = "grok-4.3"
USAGE = {
    "prompt_tokens": 1200,
    "prompt_text_tokens": 176,
    "cached_prompt_text_tokens": 1024,
    "completion_tokens": 100,
    "reasoning_tokens": 200,
    "total_tokens": 1500,
}
COST = ((1200 - 1024) * 1.25 + 1024 * 0.20 + 300 * 2.50) / 1e6
WORDS = ("Pa", "ris", ".")
OUTPUTS = "outputs" if "outputs" in chat_pb2.GetChatCompletionResponse.DESCRIPTOR.fields_by_name else "choices"
"""What an SDK of this version calls the answers."""
ASSISTANT = chat_pb2.MessageRole.ROLE_ASSISTANT


def tool_call(name="look_up", **more):
    return chat_pb2.ToolCall(id="call_1", function=chat_pb2.FunctionCall(name=name, arguments='{"query": "x"}'), **more)


class Refuse(Exception):
    """Answer with this status code."""

    def __init__(self, code, details="said no"):
        self.code, self.details = code, details


class Chat(chat_pb2_grpc.ChatServicer):
    """Answers every request with the same words, after what a test has scripted."""

    def __init__(self):
        self.requests = []
        self.script = []
        """What goes wrong next: a `Refuse`, one for each attempt."""
        self.usage = dict(USAGE)
        self.said = {}
        """More fields of the response."""
        self.message = {}
        """More fields of the message."""
        self.pending = 1
        """How often a deferred completion is not ready."""
        self.deferred = {}
        self.stops_after = None
        """The number of chunks after which a stream breaks off."""
        self.hold = threading.Event()
        self.hold.set()
        self.cancelled = threading.Event()

    def _begin(self, request, context):
        self.requests.append(request)
        self.attempts = dict(context.invocation_metadata()).get("grpc-previous-rpc-attempts", "0")
        context.add_callback(self.cancelled.set)
        if self.script:
            refusal = self.script.pop(0)
            context.abort(refusal.code, refusal.details)
        self.hold.wait(5)

    def _whole(self, request):
        # Its own proto: an answer of the simulation is not to be confused with what the SDK holds.
        message = {"role": ASSISTANT, "content": "".join(WORDS), **self.message}
        calls = bool(message.get("tool_calls"))
        reason = sample_pb2.FinishReason.REASON_TOOL_CALLS if calls else sample_pb2.FinishReason.REASON_STOP
        answers = [{"index": i, "message": message, "finish_reason": reason} for i in range(max(request.n, 1))]
        return chat_pb2.GetChatCompletionResponse(
            id="rsp_1", model=request.model, usage=self.usage, **{OUTPUTS: answers}, **self.said
        )

    def GetCompletion(self, request, context):
        self._begin(request, context)
        return self._whole(request)

    def GetCompletionChunk(self, request, context):
        self._begin(request, context)
        for n, word in enumerate(WORDS, 1):
            last = n == len(WORDS)
            # The usage so far; the reasoning came before the first word.
            so_far = self.usage["total_tokens"] - self.usage["completion_tokens"] + n
            usage = self.usage if last else {**self.usage, "completion_tokens": n, "total_tokens": so_far}
            ending = {"finish_reason": sample_pb2.FinishReason.REASON_STOP} if last else {}
            more = self.message if last else {}
            parts = [
                {"index": i, "delta": {"role": ASSISTANT, "content": word, **more}, **ending}
                for i in range(max(request.n, 1))
            ]
            yield chat_pb2.GetChatCompletionChunk(
                id="rsp_1", model=request.model, usage=usage, **{OUTPUTS: parts}, **(self.said if last else {})
            )
            if self.stops_after == n:
                context.abort(grpc.StatusCode.UNAVAILABLE, "going away")

    def StartDeferredCompletion(self, request, context):
        self._begin(request, context)
        key = f"deferred_{len(self.deferred)}"
        self.deferred[key] = [request, self.pending]
        return deferred_pb2.StartDeferredResponse(request_id=key)

    def GetDeferredCompletion(self, request, context):
        waiting = self.deferred[request.request_id]
        waiting[1] -= 1
        if waiting[1] >= 0:
            return chat_pb2.GetDeferredCompletionResponse(status=deferred_pb2.DeferredStatus.PENDING)
        if self.pending < 0:
            return chat_pb2.GetDeferredCompletionResponse(status=deferred_pb2.DeferredStatus.EXPIRED)
        done = deferred_pb2.DeferredStatus.DONE
        return chat_pb2.GetDeferredCompletionResponse(status=done, response=self._whole(waiting[0]))

    def CompactContext(self, request, context):
        self._begin(request, context)
        return chat_pb2.CompactContextResponse(id="cmp_1", encrypted_content="opaque", usage=self.usage)


TICKS = 400_000_000
"""Of $0.04: what a picture costs, and a second of film."""


def _refused(script, context):
    """Refuse, where that is what comes next."""
    if script:
        refusal = script.pop(0)
        context.abort(refusal.code, refusal.details)


class Image(_servicer("image")):
    """Makes as many pictures as are asked for; what they cost is told if `tells`."""

    def __init__(self):
        self.requests, self.tells, self.script = [], True, []

    def GenerateImage(self, request, context):
        self.requests.append(request)
        _refused(self.script, context)
        made = [image_pb2.GeneratedImage(url="https://x/1.png") for _ in range(max(request.n, 1))]
        usage = {"cost_in_usd_ticks": TICKS * len(made)} if self.tells else None
        return image_pb2.ImageResponse(images=made, model=request.model, usage=usage)


class Video(_servicer("video")):
    """Makes films that are there when they are asked for the second time, or fail."""

    def __init__(self):
        self.requests, self.fails, self.asked, self.script = [], False, 0, []

    def GenerateVideo(self, request, context):
        self.requests.append(request)
        _refused(self.script, context)
        return deferred_pb2.StartDeferredResponse(request_id="film_1")

    def GetDeferredVideo(self, request, context):
        self.asked += 1
        if self.asked == 1:
            return video_pb2.GetDeferredVideoResponse(status=deferred_pb2.DeferredStatus.PENDING)
        if self.fails:
            error = video_pb2.VideoError(code="moderated", message="No.")
            failed = deferred_pb2.DeferredStatus.Value("FAILED")
            return video_pb2.GetDeferredVideoResponse(status=failed, response={"error": error})
        seconds, model = self.requests[-1].duration or 6, self.requests[-1].model
        film = video_pb2.GeneratedVideo(url="https://x/1.mp4", duration=seconds, respect_moderation=True)
        usage = {"cost_in_usd_ticks": TICKS * seconds}
        made = video_pb2.VideoResponse(video=film, model=model, usage=usage)
        return video_pb2.GetDeferredVideoResponse(status=deferred_pb2.DeferredStatus.DONE, response=made)


class XaiServer:
    """The service on a port of its own; `host` is what a client takes as `api_host`."""

    def __enter__(self):
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        self.chat = Chat()
        chat_pb2_grpc.add_ChatServicer_to_server(self.chat, self._server)
        self.image, self.video = Image(), Video()
        if image_pb2 is not None:
            image_pb2_grpc.add_ImageServicer_to_server(self.image, self._server)
        if video_pb2 is not None:
            video_pb2_grpc.add_VideoServicer_to_server(self.video, self._server)
        # The SDK takes a channel with the same credentials to `localhost`.
        self.port = self._server.add_secure_port("localhost:0", grpc.local_server_credentials())
        self.host = f"localhost:{self.port}"
        self._server.start()
        return self

    def __exit__(self, *ending):
        self.chat.hold.set()
        self._server.stop(0).wait()
