"""Google's wire formats: generated content, interactions and embeddings, as the Gemini API and Vertex AI speak them.

Field names are the JSON's; contents that an application passes as dicts reach the wire as it wrote them, so those are
looked for in both spellings (`functionCall`, `function_call`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

from tokenguard.facts import names
from tokenguard.facts.errors import GuardrailViolation
from tokenguard.facts.patterns import lazy
from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import Usage
from tokenguard.providers import mistral
from tokenguard.providers.anthropic import MESSAGES
from tokenguard.providers.api import Api
from tokenguard.providers.events import TAIL_EVENTS, backwards, decoded, forwards, lines_with, told_before
from tokenguard.providers.google_media import IMAGEN, VEO
from tokenguard.providers.openai import result_rounds, results_sent
from tokenguard.providers.reading import Reading, count, fields, items, larger, reading, text, untold
from tokenguard.providers.units import Units
from tokenguard.providers.words import Words

# --- URLs -------------------------------------------------------------------------------------------------------------

RESOURCE = lazy(r"/(?:publishers/(?P<publisher>[^/]+)/)?(?P<kind>models|tunedModels|endpoints)/(?P<id>[^/:]+):")
"""The model in a URL: `/models/ID:`, `/publishers/google/models/ID:`, `/tunedModels/ID:`, `/endpoints/ID:`."""


def model_in(url: str) -> str | None:
    """The model that a URL names, a tuned model or an endpoint with its kind; `None` where it names none.

    >>> model_in("https://host/v1beta/models/gemini-2.5-flash:generateContent")
    'gemini-2.5-flash'
    """
    found = RESOURCE.search(url)
    if found is None:
        return None
    model = unquote(found["id"])
    return model if found["kind"] == "models" else f"{found['kind']}/{model}"


def put_model(url: str, body: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The URL and the body of a request whose `model` is in the body: it goes where Google wants it.

    That is the URL, and each request of a batch of embeddings.
    """
    own = dict(body)
    model = own.pop("model", None)
    if isinstance(model, str) and model != model_in(url):
        url = RESOURCE.sub(lambda found: _resource(found, model), url, count=1)
        if isinstance(own.get("requests"), list):
            own["requests"] = [{**each, "model": f"models/{model}"} for each in own["requests"]]
    return url, own


def _resource(found: re.Match[str], model: str) -> str:
    """`model` in place of the one found in a URL; a tuned model's or an endpoint's becomes one of the publisher's."""
    publisher = found["publisher"] or ("google" if found["kind"] == "endpoints" else None)
    return f"/{f'publishers/{publisher}/' if publisher else ''}models/{quote(model, safe='')}:"


# --- usage ------------------------------------------------------------------------------------------------------------


class Counts(NamedTuple):
    """Where an object of usage keeps its counts, of tokens and of tokens by modality."""

    prompt: str
    tools: str
    answer: str
    thoughts: str
    cached: str
    total: str
    heard: tuple[str, ...]
    reheard: str
    spoken: str


GENERATE_USAGE = Counts(
    "promptTokenCount",
    "toolUsePromptTokenCount",
    "candidatesTokenCount",
    "thoughtsTokenCount",
    "cachedContentTokenCount",
    "totalTokenCount",
    ("promptTokensDetails", "toolUsePromptTokensDetails", "promptTokenDetails"),  # the last of embeddings
    "cacheTokensDetails",
    "candidatesTokensDetails",
)
INTERACTIONS_USAGE = Counts(
    "total_input_tokens",
    "total_tool_use_tokens",
    "total_output_tokens",
    "total_thought_tokens",
    "total_cached_tokens",
    "total_tokens",
    ("input_tokens_by_modality", "tool_use_tokens_by_modality"),
    "cached_tokens_by_modality",
    "output_tokens_by_modality",
)


def read_google_usage(node: object, at: Counts = GENERATE_USAGE) -> Usage | None:
    """`usageMetadata`: the prompt holds the cached part; tool results are counted apart from it, thoughts from answers.

    Protobuf's JSON leaves out zeros, so that a response without candidates is known by its total
    (https://ai.google.dev/api/generate-content#UsageMetadata, https://ai.google.dev/api/interactions-api).
    """
    said = fields(node)
    prompt = count(said.get(at.prompt))
    if prompt is None:
        return None
    tools = count(said.get(at.tools)) or 0
    sent = prompt + tools
    answer, thoughts = count(said.get(at.answer)), count(said.get(at.thoughts))
    if answer is None and thoughts is None:
        total = count(said.get(at.total))
        generated = None if total is None else max(total - sent, 0)
    else:
        total = count(said.get(at.total)) or 0
        # Vertex AI has had answers that hold the thoughts, as the total says then (litellm#23731). Thoughts are text.
        held = answer is not None and thoughts is not None and thoughts <= answer and total == sent + answer
        if held and answer and thoughts and at.spoken in said:
            held = thoughts <= answer - sum(n for kind, n in kinds(said, at.spoken).items() if kind != "TEXT")
        generated = total - sent if held else max((answer or 0) + (thoughts or 0), total - sent)
    usage = Usage(sent, generated, count(said.get(at.cached)), None, None, None, None, thoughts)
    if said.keys().isdisjoint((*at.heard, at.reheard, at.spoken)):
        return usage
    heard, reheard, spoken = kinds(said, *at.heard), kinds(said, at.reheard), kinds(said, at.spoken)
    return usage._replace(
        input_audio=heard.get("AUDIO"),
        cache_audio_read=reheard.get("AUDIO"),
        output_audio=spoken.get("AUDIO"),
        input_image=heard.get("IMAGE"),
        output_image=spoken.get("IMAGE"),
    )


def doubt_of(said: Mapping[str, Any], usage: Usage | None, at: Counts = GENERATE_USAGE) -> str | None:
    """Why counts are doubtful: a total is told that is below them. `None`: they are not."""
    total = count(said.get(at.total))
    below = usage is not None and total and total < (usage.input or 0) + (usage.output or 0)
    return names.INCONSISTENT_USAGE if below else None


def kinds(said: Mapping[str, Any], *details: str) -> dict[str, int]:
    """Tokens by modality."""
    kinds: dict[str, int] = {}
    for key in details:
        for detail in items(said.get(key)):
            kind = str(detail.get("modality")).upper()
            kinds[kind] = kinds.get(kind, 0) + (count(detail.get("tokenCount")) or count(detail.get("tokens")) or 0)
    return kinds


# --- responses --------------------------------------------------------------------------------------------------------


def _holding(content: object, camel: str, snake: str) -> int:
    """How many parts of a content have a field, in either spelling."""
    held = 0
    for part in items(fields(content).get("parts")):
        held += part.get(camel) is not None or part.get(snake) is not None
    return held


def _calls(content: object) -> int:
    """The function calls in a content."""
    return _holding(content, "functionCall", "function_call")


def read_generate(response: object) -> Reading:
    """A `generateContent` response."""
    body = fields(response)
    usage = fields(body.get("usageMetadata"))
    used = read_google_usage(usage)
    reasons, grounds, calls = [], [], 0
    for candidate in items(body.get("candidates")):
        calls += _calls(candidate.get("content"))
        if reason := candidate.get("finishReason"):
            reasons.append(str(reason))
        if (ground := candidate.get("groundingMetadata")) is not None:
            grounds.append(fields(ground))
    read = reading(
        used,
        text(body.get("modelVersion")),
        text(body.get("responseId")),
        (*reasons,),
        calls,
        text(usage.get("serviceTier")) or text(usage.get("trafficType")),
        basis=doubt_of(usage, used),
    )
    return with_searches(read, grounds) if grounds else read


BY_THE_PROMPT = lazy(r"gemini-(?:live-)?[12]\b")
"""Models whose searches are billed by the prompt that searched, and not by the search.

https://ai.google.dev/gemini-api/docs/google-search#pricing: of newer ones each query that is not empty, once.
"""


def with_searches(said: Reading, grounds: Iterable[Mapping[str, Any]]) -> Reading:
    """A reading with what Google searched for it, by all the grounding metadata that there was.

    How many searches of maps there were is not told: one.
    """
    queries: set[str] = set()
    maps = found = own = False
    for each in grounds:
        queries.update(*(map(str, each.get(key) or ()) for key in ("webSearchQueries", "imageSearchQueries")))
        maps = maps or bool(each.get("googleMapsWidgetContextToken"))
        for chunk in items(each.get("groundingChunks")):
            maps, found = maps or bool(chunk.get("maps")), found or bool(chunk.get("web") or chunk.get("image"))
            own = own or _is_charged(fields(chunk.get("retrievedContext")))
    usage = said.usage
    return said._replace(
        usage=searched(usage, said.model, web=len(queries - {""}) or found, maps=int(maps)),
        extra_fees=own or (usage is None and bool(queries or maps or found)),
    )


def searched(usage: Usage | None, model: str | None, *, web: int, maps: int) -> Usage | None:
    """The usage with so many searches, as the model's are billed."""
    if usage is None or not (web or maps):
        return usage
    if BY_THE_PROMPT.match(model or ""):
        web, maps = min(web, 1), min(maps, 1)
    return usage._replace(web_searches=int(web) or None, map_searches=int(maps) or None)


def _is_charged(context: Mapping[str, Any]) -> bool:
    """Whether what was retrieved is from Vertex AI Search, which is billed by the request; file search is not."""
    return bool(context) and not (context.get("fileSearchStore") or context.get("ragChunk"))


def read_embed(response: object) -> Reading:
    """An embeddings response: `usageMetadata`, or the statistics of each of Vertex AI's predictions."""
    body = fields(response)
    said = fields(body.get("usageMetadata"))
    usage = read_google_usage(said)
    if usage is None:
        embeddings = (fields(each.get("embeddings")) for each in items(body.get("predictions")))
        statistics = (fields(each.get("statistics")) for each in embeddings)
        counts = [sent for each in statistics if (sent := count(each.get("token_count"))) is not None]
        return Reading(usage=Usage(input=sum(counts)) if counts else None)
    # A film costs more than all else, and has no rate of its own here: at that of sound, the next below it.
    filmed = kinds(said, *GENERATE_USAGE.heard).get("VIDEO")
    sound = usage.input_audio if not filmed else (usage.input_audio or 0) + filmed
    of_kinds = Usage(input=usage.input, input_audio=sound, input_image=usage.input_image)
    return Reading(usage=of_kinds, basis="assumed_input_video" if filmed else None)


REASON = lazy(rb'"finishReason"\s*:\s*"')
METADATA = lazy(rb'"usageMetadata"\s*:\s*\{')
TOTAL = GENERATE_USAGE.total
ADDED = (GENERATE_USAGE.prompt, GENERATE_USAGE.tools, GENERATE_USAGE.answer, GENERATE_USAGE.thoughts)
"""What the total is the sum of."""
OFTEN_EARLY = frozenset((GENERATE_USAGE.thoughts, GENERATE_USAGE.cached))
"""What may be missing from an account that is whole by its own total."""
ACCOUNT = frozenset(
    (*ADDED, GENERATE_USAGE.cached, *GENERATE_USAGE.heard, GENERATE_USAGE.reheard, GENERATE_USAGE.spoken)
)
FUNCTION_CALL = lazy(rb'"functionCall"\s*:\s*\{')
GROUNDED = b'"groundingMetadata"'


def _candidates(data: bytes) -> Iterable[Mapping[str, Any]]:
    return items(decoded(data).get("candidates"))


def _grounds(body: bytes) -> Iterator[Mapping[str, Any]]:
    """All grounding metadata of a stream."""
    if GROUNDED in body:
        for data in forwards(body):
            if GROUNDED in data:
                yield from (fields(each.get("groundingMetadata")) for each in _candidates(data))


def _is_whole(usage: Mapping[str, Any]) -> bool:
    """Whether an account leaves nothing out: rounds of code have accounts of their own, and the last one counts."""
    return count(usage.get(TOTAL)) == sum(count(usage.get(key)) or 0 for key in ADDED)


def fold_generate(body: bytes) -> Reading:
    """The chunks of a `streamGenerateContent` stream: each tells the usage so far, the last one all of it."""
    usage: Mapping[str, Any] = {}
    reasons: dict[object, str] = {}
    error: str | None = None
    for n, data in enumerate(backwards(body)):
        chunk = decoded(data)
        if (failure := chunk.get("error")) is not None:
            error = text(fields(failure).get("status")) or "error"
        usage = larger(fields(chunk.get("usageMetadata")), usage)
        for candidate in items(chunk.get("candidates")):
            if reason := text(candidate.get("finishReason")):
                reasons.setdefault(candidate.get("index", 0), reason)
        if (count(usage.get("promptTokenCount")) and reasons) or n >= TAIL_EVENTS:
            break
    if not usage:  # before a long tail
        for data in lines_with(METADATA, body):
            usage = larger(fields(decoded(data).get("usageMetadata")), usage)
    for data in told_before(body, untold(usage, OFTEN_EARLY if _is_whole(usage) else ACCOUNT)):
        before = fields(decoded(data).get("usageMetadata"))
        if not _is_whole(usage) or (count(before.get(TOTAL)) or 0) > (count(usage.get(TOTAL)) or 0):
            usage = larger(before, usage)
    if not reasons:
        for data in lines_with(REASON, body):
            for candidate in _candidates(data):
                reasons.setdefault(candidate.get("index", 0), str(candidate.get("finishReason")))
    first = next((chunk for data in forwards(body) if (chunk := decoded(data)).get("modelVersion")), {})
    blocked = bool(fields(first.get("promptFeedback")).get("blockReason"))
    complete = (bool(reasons) or blocked) and error is None
    grounded = [{"groundingMetadata": each} for each in _grounds(body)]
    reading = read_generate({**first, "candidates": grounded, "usageMetadata": usage})
    if not complete and reading.usage is not None:
        # Chunks tell what was generated so far; how much it came to is not known until the last.
        unknown = dict.fromkeys(("output", "reasoning", "output_audio", "output_image"))
        reading = reading._replace(usage=reading.usage._replace(**unknown))
    return reading._replace(
        finish_reasons=tuple(reasons[i] for i in sorted(reasons, key=str)),
        tool_calls=len(FUNCTION_CALL.findall(body)),
        error=error,
        complete=complete,
    )


GOES_ON = frozenset({"queued", "in_progress"})
"""The statuses of an interaction that the provider is yet to finish (`background=True`)."""


def read_interaction(response: object) -> Reading:
    """An interaction: the steps that came of its input, and what they took together."""
    body = fields(response)
    usage = fields(body.get("usage"))
    status = text(body.get("status"))
    ran: dict[str, int] = {}
    for each in items(usage.get("grounding_tool_count")):
        kind = str(each.get("type"))
        ran[kind] = ran.get(kind, 0) + (count(each.get("count")) or 0)
    model = text(body.get("model"))
    used = read_google_usage(usage, INTERACTIONS_USAGE)
    web, maps = ran.pop("google_search", 0), ran.pop("google_maps", 0)
    return Reading(
        usage=searched(used, model, web=web, maps=maps),
        model=model,
        id=text(body.get("id")),
        finish_reasons=(status,) if status else (),
        tool_calls=sum(step.get("type") == "function_call" for step in items(body.get("steps"))),
        service_tier=text(body.get("service_tier")),
        error=status if status == "failed" else None,
        extra_fees=any(ran.values()),  # of a data store of one's own
        basis=doubt_of(usage, used, INTERACTIONS_USAGE),
        complete=status not in GOES_ON,
    )


CALL_STEP = lazy(rb'"type"\s*:\s*"function_call"')


def fold_interaction(body: bytes) -> Reading:
    """The events of an interaction's stream: the last one carries the whole of it but for its steps."""
    error: str | None = None
    whole: Mapping[str, Any] | None = None
    for n, data in enumerate(backwards(body)):
        event = decoded(data)
        kind = event.get("event_type")
        if kind == "error":
            error = text(fields(event.get("error")).get("code")) or "error"
        if kind == "interaction.completed":
            whole = fields(event.get("interaction"))
        if whole is not None or n >= TAIL_EVENTS:
            break
    first = next((event for data in forwards(body) if (event := decoded(data)).get("interaction")), {})
    if whole is None:
        return read_interaction(first.get("interaction"))._replace(finish_reasons=(), error=error, complete=False)
    begun = (data for data in forwards(body) if b'"step.start"' in data)
    calls = sum(CALL_STEP.search(data) is not None for data in begun)
    return read_interaction({**fields(first.get("interaction")), **whole})._replace(tool_calls=calls, complete=True)


# --- requests ---------------------------------------------------------------------------------------------------------


def _turns(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The contents of a request, last first."""
    contents = body.get("contents")
    return map(fields, reversed(contents) if isinstance(contents, list) else ())


def generate_tool_steps(body: Mapping[str, Any]) -> int:
    """Rounds of function calls and responses since the last word of the user."""
    steps = 0
    for content in _turns(body):
        if content.get("role") == "model":
            steps += _calls(content) > 0
        elif not _holding(content, "functionResponse", "function_response"):
            break
    return steps


def generate_last_tool_calls(body: Mapping[str, Any]) -> int:
    """Function calls in the model's latest turn."""
    return next((_calls(content) for content in _turns(body) if content.get("role") == "model"), 0)


def generate_capped(body: Mapping[str, Any], cap: int, provider: str) -> Mapping[str, Any]:
    """A request with this output cap, which holds the thoughts as well."""
    settings = dict(fields(body.get(GENERATE.settings)))
    settings.pop("max_output_tokens", None)
    return {**body, GENERATE.settings: {**settings, "maxOutputTokens": cap}}


GENERATE = Api(
    "generate_content",
    "generate_content",
    (":generateContent", ":streamGenerateContent"),
    ("maxOutputTokens", "max_output_tokens"),
    read_generate,
    fold_generate,
    Words("contents", "systemInstruction", streamed=("text",)),
    generate_tool_steps,
    generate_last_tool_calls,
    generate_capped,
    settings="generationConfig",
    choices=("candidateCount", "candidate_count"),
    left_out=frozenset({"labels", "serviceTier"}),
)


def read_multimodal(response: object) -> Reading:
    """Vertex AI's vectors of pictures and films: how many there are, and the seconds of film."""
    made = [*items(fields(response).get("predictions"))]
    films = [film for each in made for film in items(each.get("videoEmbeddings"))]
    seconds = sum((count(each.get("endOffsetSec")) or 0) - (count(each.get("startOffsetSec")) or 0) for each in films)
    return Reading(Usage(images=sum("imageEmbedding" in each for each in made), input_seconds=max(seconds, 0)))


def _characters(body: Mapping[str, Any]) -> int:
    return sum(len(said) for each in items(body.get("instances")) if isinstance(said := each.get("text"), str))


LONGEST_FILM = 120
"""Seconds of a film that are embedded, where a request does not say."""


def most_multimodal(body: Mapping[str, Any]) -> Usage:
    """Its pictures, the characters of its text, and the seconds of its films."""
    given = [*items(body.get("instances"))]
    films = sum("video" in each for each in given)
    return Usage(
        images=sum("image" in each for each in given), characters=_characters(body), input_seconds=films * LONGEST_FILM
    )


EMBED_MULTIMODAL = Api(
    "embed_multimodal",
    "embeddings",
    ("/multimodalembedding*:predict",),
    (),
    read_multimodal,
    fold_generate,
    Words(texts=("instances",)),
    units=Units(
        most_multimodal,
        lambda body, reading: reading._replace(usage=(reading.usage or Usage())._replace(characters=_characters(body))),
    ),
)
EMBED = Api(
    "embed_content",
    "embeddings",
    (":embedContent", ":batchEmbedContents", ":predict"),
    (),
    read_embed,
    fold_generate,
    Words(texts=("requests", "content", "instances")),
)


def _is_result(kind: str) -> bool:
    return kind == "function_result"


def interaction_tool_steps(body: Mapping[str, Any]) -> int:
    """Rounds of function results in a request; those of earlier interactions are the caller's to add."""
    return result_rounds(body.get("input"), _is_result)


def interaction_last_tool_calls(body: Mapping[str, Any]) -> int:
    """Function calls in the model's latest turn: the results that are sent back now."""
    return results_sent(body.get("input"), _is_result)


def interaction_capped(body: Mapping[str, Any], cap: int, provider: str) -> Mapping[str, Any]:
    """A request with this output cap, which holds the thoughts as well; one to an agent has no such setting."""
    if "agent" in body:
        raise GuardrailViolation(
            f"interactions {body['agent']}: an agent takes no output cap, and a limit wants one of {cap:,} tokens. "
            'Keep agents out of the limit with when = { model = "*-*" }: an agent has no model.',
            rule="agent without a cap",
            limit=cap,
        )
    settings = fields(body.get(INTERACTIONS.settings))
    return {**body, INTERACTIONS.settings: {**settings, "max_output_tokens": cap}}


INTERACTIONS = Api(
    "interactions",
    "chat",
    ("/interactions",),
    ("max_output_tokens",),
    read_interaction,
    fold_interaction,
    Words("input", "system_instruction", streamed=("text", "arguments", "content")),
    interaction_tool_steps,
    interaction_last_tool_calls,
    interaction_capped,
    settings="generation_config",
    goes_on_from="previous_interaction_id",
)
PUBLISHERS = {"anthropic": MESSAGES, "mistralai": mistral.CHAT}
"""Who sells models on Vertex AI in a wire format of their own, which `:rawPredict` and `:streamRawPredict` pass on."""


MAKES_PICTURES = lazy(r"^(?:imagen|imagegeneration|virtual-try-on)")
"""Models of pictures, by their names."""


def api_at(url: str, body: Mapping[str, Any]) -> Api | None:
    """The wire format of a request to a URL that names its model; `None`: it is no model call.

    >>> api_at("/v1/projects/p/locations/l/publishers/anthropic/models/claude-sonnet-4-5:rawPredict", {}).id
    'messages'
    """
    path = url.partition("?")[0]
    found = RESOURCE.search(path)
    if found is None:
        return None
    if path.endswith(VEO.paths):
        return VEO
    if path.endswith(":predict") and found["id"].startswith("multimodalembedding"):
        return EMBED_MULTIMODAL
    if path.endswith(":predict") and "embed" not in found["id"]:  # of a model of one's own nothing is known
        return IMAGEN if MAKES_PICTURES.search(found["id"]) else None
    if path.endswith((":rawPredict", ":streamRawPredict")):
        return PUBLISHERS.get(found["publisher"])
    return next((api for api in (GENERATE, EMBED) if path.endswith(api.paths)), None)


APIS = (GENERATE, IMAGEN, VEO, EMBED_MULTIMODAL, EMBED, INTERACTIONS)
