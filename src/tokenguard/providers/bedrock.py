"""Amazon Bedrock's wire formats: Converse, and the bodies that `InvokeModel` passes to each family of models.

`InvokeModel` takes a family's own format: Anthropic's and OpenAI's are known from elsewhere, the others are here. Where
a body tells no usage, the headers of its response do, and the last event of its stream.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, unquote

from tokenguard.facts import names
from tokenguard.facts.patterns import lazy
from tokenguard.facts.usage import Usage
from tokenguard.providers.anthropic import MESSAGES, thinking_within
from tokenguard.providers.api import Api
from tokenguard.providers.bedrock_media import MODELS
from tokenguard.providers.cohere import v1_last_tool_calls, v1_tool_steps
from tokenguard.providers.events import TAIL_EVENTS, backwards, decoded, forwards, lines_with
from tokenguard.providers.openai import CHAT
from tokenguard.providers.reading import Reading, Shape, count, fields, items, read_usage, reading, text, with_total
from tokenguard.providers.units import Units
from tokenguard.providers.words import Words

# --- URLs and event streams, for who speaks to Bedrock without botocore -----------------------------------------------

RESOURCE = lazy(r"(?<=/model/)(?P<id>[^/]+)(?=/(?P<operation>converse|invoke)(?:-(?:with-response-)?stream)?$)")
"""The model in a path: `/model/ID/converse`, `/model/ID/invoke-with-response-stream`."""


def model_in(url: str) -> str | None:
    """The model that a URL names; `None` where it names none.

    >>> model_in("https://host/model/anthropic.claude-v2%3A1/converse-stream")
    'anthropic.claude-v2:1'
    """
    found = RESOURCE.search(url)
    return None if found is None else unquote(found["id"])


def put_model(url: str, body: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The URL and the body of a request whose `model` is in the body: it goes into the URL."""
    own = dict(body)
    model = own.pop("model", None)
    if isinstance(model, str) and model != model_in(url):
        url = RESOURCE.sub(quote(model, safe=""), url)
    return url, own


def api_at(url: str, body: Mapping[str, Any]) -> Api | None:
    """The wire format of a request to a URL that names its model; `None`: it is not billed by the token."""
    found = RESOURCE.search(url)
    if found is None:
        return CONVERSE
    model = unquote(found["id"])
    return conversed(model) if found["operation"] == "converse" else invoked(body, model)


EVENT_TYPE = lazy(rb":(event|exception)-type\x07(..)", re.DOTALL)


def server_sent(body: bytes) -> bytes:
    """An event stream of AWS as server-sent events, as far as it came.

    Each message has its length, the length of its headers, a checksum, the headers, the payload and a checksum
    (https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html). An event of Converse is named by
    its header, and its payload is what botocore has under that name; one of `InvokeModel` has the model's own within.
    """
    events, at = [], 0
    while at + 16 <= len(body):
        size, headers = int.from_bytes(body[at : at + 4]), int.from_bytes(body[at + 4 : at + 8])
        message, at = body[at : at + size], at + max(size, 16)
        found = EVENT_TYPE.search(message, 12, 12 + headers)
        if len(message) < size or found is None:
            continue
        kind = message[found.end() : found.end() + int.from_bytes(found[2])].decode()
        payload = message[12 + headers : -4]
        if found[1] == b"exception":
            payload = json.dumps({"type": "error", "error": {"type": kind}}).encode()
        elif kind == "chunk":
            payload = base64.b64decode(json.loads(payload)["bytes"])
        else:
            payload = b'{"%b": %b}' % (kind.encode(), payload)
        events.append(b"data: " + payload + b"\n\n")
    return b"".join(events)


# --- Converse, and Nova's own format, which is the same ---------------------------------------------------------------

CONVERSE_USAGE: Final = Shape(
    {
        # Nova's spellings first, so that Converse's wins.
        "cacheReadInputTokenCount": "cache_read",
        "cacheWriteInputTokenCount": "cache_write",
        "inputTokens": "input",
        "outputTokens": "output",
        "cacheReadInputTokens": "cache_read",
        "cacheWriteInputTokens": "cache_write",
    }
)


def _converse_usage(node: object) -> Usage | None:
    """Input leaves the cache out, whoever made the model: `totalTokens` is input, cache and output."""
    usage = read_usage(node, CONVERSE_USAGE, excludes_cache=True)
    details = items(fields(node).get("cacheDetails"))
    hour = [count(each.get("inputTokens")) for each in details if each.get("ttl") == "1h"] if details else []
    return usage if usage is None or not hour else usage._replace(cache_write_1h=sum(n or 0 for n in hour))


OWN_TOOL = "server_tool_use"
"""The type of a call that Bedrock answers itself, for a fee: Nova's web grounding, its code interpreter
(https://docs.aws.amazon.com/nova/latest/nova2-userguide/web-grounding.html)."""


def _tools(uses: Iterable[Mapping[str, Any]]) -> tuple[int, bool]:
    """How many tool calls are the application's to answer, and whether there are others."""
    kinds = [use.get("type") for use in uses]
    return len(kinds) - kinds.count(OWN_TOOL), OWN_TOOL in kinds


def read_converse(response: object) -> Reading:
    """A Converse response. It names its model only where a prompt router chose it."""
    body = fields(response)
    message = fields(fields(body.get("output")).get("message"))
    calls, ran = _tools([fields(each["toolUse"]) for each in items(message.get("content")) if "toolUse" in each])
    trace = fields(body.get("trace"))
    reason = text(body.get("stopReason"))
    usage = fields(body.get("usage"))
    used, by_total, doubt = with_total(_converse_usage(usage), usage.get("totalTokens"))
    ran = ran or any(map(count, fields(usage.get("serverToolUsage")).values()))
    return reading(
        used,
        text(fields(trace.get("promptRouter")).get("invokedModelId")),
        None,
        (reason,) if reason else (),
        calls,
        text(fields(body.get("serviceTier")).get("type")),
        None,
        ran or reason == "guardrail_intervened" or bool(trace.get("guardrail")),
        by_total,
        doubt,
        speed=text(fields(body.get("performanceConfig")).get("latency")),
    )


TOOL_USE = lazy(rb'"contentBlockStart"\s*:\s*\{[^{}]*(?:\{[^{}]*)?"toolUse"')


def fold_converse(body: bytes) -> Reading:
    """The events of a Converse stream: why it stopped, and then what it used, come last."""
    stop: str | None = None
    error: str | None = None
    metadata: Mapping[str, Any] = {}
    for n, data in enumerate(backwards(body)):
        event = decoded(data)
        error = error or text(fields(event.get("error")).get("type"))
        metadata = metadata or fields(event.get("metadata"))
        stop = stop or text(fields(event.get("messageStop")).get("stopReason"))
        if stop or n >= TAIL_EVENTS:
            break
    begun = (fields(fields(decoded(data).get("contentBlockStart")).get("start")) for data in lines_with(TOOL_USE, body))
    calls, ran = _tools(fields(start.get("toolUse")) for start in begun)
    said = read_converse({**metadata, "stopReason": stop})
    return said._replace(
        tool_calls=calls,
        extra_fees=said.extra_fees or ran,
        error=error,
        complete=stop is not None and error is None,
    )


def fold_converse_openai(body: bytes) -> Reading:
    """The events of a Converse stream of an OpenAI model, whose `inputTokens` have the cache's tokens within.

    Measured: `inputTokens` 4,995 and `cacheWriteInputTokens` 4,993, and `totalTokens` with both; the same request
    without a stream had an `inputTokens` of 2 (https://github.com/maximhq/bifrost/pull/6942).
    """
    said = fold_converse(body)
    usage = said.usage
    cached = 0 if usage is None else (usage.cache_read or 0) + (usage.cache_write or 0)
    if usage is None or usage.input is None or not 0 < cached <= usage.input - cached:
        return said
    return said._replace(usage=usage._replace(input=usage.input - cached), basis=names.INCONSISTENT_USAGE)


def _holds(message: Mapping[str, Any], key: str) -> bool:
    """Whether a block of a message has this key."""
    return any(key in block for block in items(message.get("content")))


def converse_tool_steps(body: Mapping[str, Any]) -> int:
    """Rounds of tool calls and results since the last word of the user."""
    steps = 0
    messages = body.get("messages")
    for message in reversed(messages) if isinstance(messages, list) else ():
        its = fields(message)
        own = its.get("role") != "user"
        held = _holds(its, "toolUse" if own else "toolResult")
        if own:
            steps += held
        elif not held:
            break
    return steps


def converse_last_tool_calls(body: Mapping[str, Any]) -> int:
    """Tool calls in the model's latest turn."""
    messages = body.get("messages")
    for message in reversed(messages) if isinstance(messages, list) else ():
        if fields(message).get("role") == "assistant":
            return sum("toolUse" in block for block in items(fields(message).get("content")))
    return 0


def converse_capped(body: Mapping[str, Any], cap: int, provider: str) -> Mapping[str, Any]:
    """A request with this output cap; Claude's thinking gets less than it."""
    settings = fields(body.get(CONVERSE.settings))
    used = [key for key in CONVERSE.caps if settings.get(key) is not None] or ["maxTokens"]
    capped = {**body, CONVERSE.settings: {**settings, **dict.fromkeys(used, cap)}}
    extra = fields(body.get("additionalModelRequestFields"))
    if extra.get("thinking") is not None:
        thinking = thinking_within(fields(extra["thinking"]), cap)
        capped["additionalModelRequestFields"] = {**extra, "thinking": thinking}
    return capped


CONVERSE = Api(
    "converse",
    "chat",
    (),
    ("maxTokens", "max_new_tokens"),
    read_converse,
    fold_converse,
    Words(streamed=("text", "input")),
    converse_tool_steps,
    converse_last_tool_calls,
    converse_capped,
    settings="inferenceConfig",
    marks_cache=True,
    fees=("guardrailConfig",),
    left_out=frozenset({"requestMetadata", "performanceConfig", "serviceTier"}),
)

CONVERSE_OPENAI = CONVERSE._replace(fold=fold_converse_openai)


@lru_cache(maxsize=64)
def guarded(api: Api) -> Api:
    """The format of an `InvokeModel` request with a guardrail, which is billed beside the tokens.

    It is named outside of the body, so that whatever names the model stands for it.
    """
    return api._replace(fees=("model",))


OPENAI_MODEL = lazy(r"\bopenai\.")


def conversed(model: object) -> Api:
    """The wire format of a Converse request to a model."""
    return CONVERSE_OPENAI if OPENAI_MODEL.search(str(model)) else CONVERSE


# --- the bodies of InvokeModel ----------------------------------------------------------------------------------------

INVOKE_USAGE: Final = Shape(
    {
        "prompt_token_count": "input",  # Meta
        "generation_token_count": "output",
        "inputTextTokenCount": "input",  # Titan
        "totalOutputTextTokenCount": "output",
    }
)
METRICS_USAGE: Final = Shape(
    {
        "inputTokenCount": "input",
        "outputTokenCount": "output",
        "cacheReadInputTokenCount": "cache_read",
        "cacheWriteInputTokenCount": "cache_write",
    }
)
HEADERS_USAGE: Final = Shape(
    {
        "x-amzn-bedrock-input-token-count": "input",
        "x-amzn-bedrock-output-token-count": "output",
        "x-amzn-bedrock-cache-read-input-token-count": "cache_read",
        "x-amzn-bedrock-cache-write-input-token-count": "cache_write",
    }
)
METRICS = "amazon-bedrock-invocationMetrics"


def read_headers(headers: Mapping[str, str]) -> Usage | None:
    """What the headers of an `InvokeModel` response say; caching is apart from the input."""
    return read_usage(dict(headers), HEADERS_USAGE, excludes_cache=True)


def read_text(response: object) -> Reading:
    """A completion by Titan, Meta, Mistral, Cohere, or who else answers in fields like theirs."""
    body = fields(response)
    answers = [body, *(one for key in ("results", "outputs", "generations", "choices") for one in items(body.get(key)))]
    keys = ("completionReason", "stop_reason", "finish_reason")
    usage = read_usage(body, INVOKE_USAGE)
    counted = [n for one in items(body.get("results")) if (n := count(one.get("tokenCount"))) is not None]
    if counted:
        usage = (usage or Usage())._replace(output=sum(counted))
    return Reading(
        usage=usage,
        id=text(body.get("id")) or text(body.get("generation_id")),
        finish_reasons=tuple(reason for one in answers for key in keys if (reason := text(one.get(key)))),
        tool_calls=len(list(items(body.get("tool_calls")))),
    )


def fold_text(body: bytes) -> Reading:
    """The chunks of such a completion: the last has its totals, but for the input, which Meta tells in the first."""
    reading = Reading(complete=False)
    for n, data in enumerate(backwards(body)):
        said = read_text(decoded(data))
        reading = reading._replace(
            usage=reading.usage or (said.usage if said.finish_reasons else None),
            finish_reasons=reading.finish_reasons or said.finish_reasons,
            id=reading.id or said.id,
        )
        if n >= TAIL_EVENTS:
            break
    if reading.usage is not None and reading.usage.input is None:
        first = read_text(decoded(next(forwards(body), b""))).usage
        reading = reading._replace(usage=reading.usage._replace(input=first.input if first else None))
    return reading._replace(complete=bool(reading.finish_reasons))


def read_vectors(response: object) -> Reading:
    """An embeddings response: Titan tells its tokens, the others leave it to the headers."""
    return Reading(usage=read_usage(response, INVOKE_USAGE))


def _with_metrics(fold: Callable[[bytes], Reading]) -> Callable[[bytes], Reading]:
    """`fold`, for streams whose last event has Bedrock's own counts, of use where the model's format has none."""

    def fold_invoke(body: bytes) -> Reading:
        reading = fold(body)
        if reading.usage is None or not (reading.usage.input and reading.usage.output):
            metrics = fields(decoded(next(backwards(body), b"")).get(METRICS))
            if metrics:
                return reading._replace(
                    usage=read_usage(metrics, METRICS_USAGE, excludes_cache=True), complete=reading.error is None
                )
        return reading

    return fold_invoke


def text_capped(body: Mapping[str, Any], cap: int, provider: str) -> Mapping[str, Any]:
    """A completion request with this output cap, under the name that its family has for it."""
    used = [key for key in TEXT.caps if body.get(key) is not None]
    own = "max_gen_len" if "meta.llama" in str(body.get("model")) else "max_tokens"
    return {**body, **dict.fromkeys(used or (own,), cap)}


def titan_capped(body: Mapping[str, Any], cap: int, provider: str) -> Mapping[str, Any]:
    """A Titan request with this output cap."""
    return {**body, TITAN.settings: {**fields(body.get(TITAN.settings)), "maxTokenCount": cap}}


TEXT = Api(
    "invoke_text",
    "text_completion",
    (),
    ("max_tokens", "max_gen_len", "maxTokens"),
    read_text,
    _with_metrics(fold_text),
    Words(
        texts=("prompt", "message", "chat_history"),
        streamed=("generation", "text", "outputText", "content", "response"),
    ),
    v1_tool_steps,  # Cohere's; the others have no tools in this format
    v1_last_tool_calls,
    text_capped,
)
TITAN = Api(
    "invoke_titan",
    "text_completion",
    (),
    ("maxTokenCount",),
    read_text,
    _with_metrics(fold_text),
    Words(texts=("inputText",), streamed=("outputText",)),
    capped=titan_capped,
    settings="textGenerationConfig",
)
VECTORS = Api(
    "invoke_embeddings",
    "embeddings",
    (),
    (),
    read_vectors,
    fold_text,
    Words(texts=("inputText", "texts", "singleEmbeddingParams")),
)


def pictures_of(body: Mapping[str, Any]) -> int:
    """How many pictures Titan and Cohere are to embed, which their answers do not tell."""
    given = body.get("images")
    inside = (part for each in items(body.get("inputs")) for part in items(each.get("content")))
    return bool(body.get("inputImage")) + len(given if isinstance(given, list) else ()) + sum(map(_is_picture, inside))


def _is_picture(part: Mapping[str, Any]) -> bool:
    return part.get("type") == "image_url"


def _pictured(body: Mapping[str, Any], reading: Reading) -> Reading:
    """With the pictures: what Cohere counts in tokens is theirs, as it may be, at the dearer rate."""
    used, pictures = reading.usage or Usage(), pictures_of(body)
    of_tokens = used.input if pictures and "inputImage" not in body else used.input_image
    return reading._replace(usage=used._replace(images=pictures, input_image=of_tokens))


MULTIMODAL = VECTORS._replace(
    id="invoke_multimodal", units=Units(lambda body: Usage(images=pictures_of(body)), _pictured)
)
ANTHROPIC = MESSAGES._replace(fold=_with_metrics(MESSAGES.fold))
NOVA = CONVERSE._replace(fold=_with_metrics(CONVERSE.fold))
OPENAI = CHAT._replace(fold=_with_metrics(CHAT.fold), include_usage=False)  # Bedrock counts every stream

FAMILIES: tuple[tuple[frozenset[str], Api], ...] = (
    (frozenset({"anthropic_version"}), ANTHROPIC),
    (frozenset({"schemaVersion", "inferenceConfig"}), NOVA),
    (frozenset({"textGenerationConfig"}), TITAN),
    (frozenset({"texts", "input_type", "singleEmbeddingParams", "embeddingTypes", "normalize", "dimensions"}), VECTORS),
    (frozenset({"messages"}), OPENAI),
)
"""Request bodies by a key that no other family has: a profile's ARN does not say whose model it runs."""
APIS: Final = (CONVERSE, *(api for _, api in FAMILIES), MULTIMODAL, TEXT)


FAMILY = lazy(r"\b(anthropic|amazon\.nova|amazon\.titan|meta|mistral|cohere|ai21|deepseek|openai|qwen)\.")
"""Whose model an id or an inference profile names."""


def same_family(model: object, other: object) -> bool:
    """Whether two models may take the same `InvokeModel` body, as far as their ids tell.

    >>> same_family("us.meta.llama3-3-70b-instruct-v1:0", "us.anthropic.claude-haiku-4-5-20251001-v1:0")
    False
    """
    one, another = FAMILY.search(str(model)), FAMILY.search(str(other))
    return one is None or another is None or one[1] == another[1]


NOT_KNOWN = lazy(r"luma\.|twelvelabs\.|nova-(?:reel|sonic)")
"""Models that are not run by `InvokeModel`, or whose answers tell nothing that is known."""


def invoked(body: Mapping[str, Any], model: str) -> Api | None:
    """The wire format of an `InvokeModel` body; `None` for a model of which nothing is known.

    >>> invoked({"prompt": "Hi", "max_gen_len": 9}, "meta.llama3-8b-instruct-v1:0").id
    'invoke_text'
    """
    if NOT_KNOWN.search(model):
        return None
    for models, api in MODELS:
        if models.search(model):
            return api
    if "embed" in model:
        return MULTIMODAL if "titan-embed-image" in model or pictures_of(body) else VECTORS
    if "amazon.nova" in model:
        return NOVA
    found = next((api for keys, api in FAMILIES if not keys.isdisjoint(body)), TEXT)
    return TITAN if found is TEXT and "inputText" in body else found
