"""What each name of `names` means, for the reference pages: unit, sentence, and when it is absent.

A test asks for a row for each span attribute, metric and environment variable of `names`. Nothing at run time reads this.
"""

from __future__ import annotations

from typing import Final

from tokenguard.facts import names
from tokenguard.facts.tuples import NamedTuple

ALWAYS: Final = "never"
NOT_SENT: Final = "the call was refused before it was sent"
NO_USAGE: Final = "the provider did not report it"
UNPRICED: Final = "the cost is unpriced"


class Attribute(NamedTuple):
    """One span attribute: its type and unit, its sentence, and when it is absent."""

    name: str
    type: str
    unit: str
    says: str
    absent: str


ATTRIBUTES: Final = (
    Attribute(names.OPERATION, "string", "", "`chat`, `text_completion`, `embeddings`, `rerank`, ...", ALWAYS),
    Attribute(names.PROVIDER, "string", "", "`openai`, `anthropic`, `aws.bedrock`, ...; `unknown` for an unknown host", ALWAYS),
    Attribute(names.REQUEST_MODEL, "string", "", "The requested model; after a downgrade, the new one", "the request names none"),
    Attribute(names.RESPONSE_MODEL, "string", "", "The model that answered", "no answer, or one that names none"),
    Attribute(names.RESPONSE_ID, "string", "", "The provider's id of the answer", "no answer, or one without an id"),
    Attribute(names.CONVERSATION_ID, "string", "", "The conversation at the provider", "there is none"),
    Attribute(names.FINISH_REASONS, "string[]", "", "Why each answer ended", "no complete answer"),
    Attribute(names.REQUEST_MAX_TOKENS, "int", "token", "The output cap that was sent", "the request has no cap"),
    Attribute(names.REQUEST_TEMPERATURE, "double", "", "The temperature that was sent", "the request sets none"),
    Attribute(names.REQUEST_STREAM, "bool", "", "`true` for a streamed call", "the call is not streamed"),
    Attribute(names.TIME_TO_FIRST_CHUNK, "double", "s", "From the request to the first chunk", "not streamed, or no chunk came"),
    Attribute(names.INPUT_TOKENS, "int", "token", "All input, cache reads and writes included", NO_USAGE),
    Attribute(names.OUTPUT_TOKENS, "int", "token", "All output, reasoning included", NO_USAGE),
    Attribute(names.CACHE_READ_TOKENS, "int", "token", "Input that was read from the prompt cache; 0 if the provider reports 0", NO_USAGE),
    Attribute(names.CACHE_WRITE_TOKENS, "int", "token", "Input that was written to the prompt cache", NO_USAGE),
    Attribute(names.REASONING_TOKENS, "int", "token", "Output that was reasoning", NO_USAGE),
    Attribute(names.INPUT_MESSAGES, "string", "JSON", "The messages sent", "content is not recorded (the default)"),
    Attribute(names.OUTPUT_MESSAGES, "string", "JSON", "The answers", "content is not recorded (the default)"),
    Attribute(names.SYSTEM_INSTRUCTIONS, "string", "JSON", "The system prompt", "content is not recorded (the default)"),
    Attribute(names.SERVER_ADDRESS, "string", "", "The host that was called", "the SDK does not expose it"),
    Attribute(names.SERVER_PORT, "int", "", "Its port", "the default port of the scheme"),
    Attribute(names.ERROR_TYPE, "string", "", "An HTTP or gRPC status, or the exception's name", "the call succeeded"),
    Attribute(names.RESEND_COUNT, "int", "request", "Resends by the SDK", "it sent once"),
    Attribute(names.CODE_FILE, "string", "", "File of the call site", "no frame of the program was found"),
    Attribute(names.CODE_LINE, "int", "", "Line of the call site", "no frame of the program was found"),
    Attribute(names.CODE_FUNCTION, "string", "", "Function of the call site", "no frame of the program was found"),
    Attribute(names.COST, "double", "USD", "What the call cost", UNPRICED),
    Attribute(names.COST_STATUS, "string", "", "`exact`, `estimated` or `unpriced`", NOT_SENT),
    Attribute(names.COST_BASIS, "string", "", "What was assumed", "the cost is not estimated"),
    Attribute(names.COST_SOURCE, "string", "", "`reported`: the provider's own figure", "computed from tokens and rates"),
    Attribute(names.COST_INPUT, "double", "USD", "Input that was neither read from nor written to the cache", UNPRICED),
    Attribute(names.COST_OUTPUT, "double", "USD", "Output", UNPRICED),
    Attribute(names.COST_CACHE_READ, "double", "USD", "Cache reads", UNPRICED),
    Attribute(names.COST_CACHE_WRITE, "double", "USD", "Cache writes", UNPRICED),
    Attribute(names.COST_TOOLS, "double", "USD", "Hosted tools that are billed per use", "none was used, or its fee is unknown"),
    Attribute(names.COST_SAVED, "double", "USD", "Saved by the prompt cache; negative if writes cost more than reads saved", UNPRICED),
    Attribute(names.WEB_SEARCHES, "int", "search", "Web searches that the provider ran", "none"),
    Attribute(names.MAP_SEARCHES, "int", "search", "Searches of Google's maps", "none"),
    Attribute(names.FILE_SEARCHES, "int", "search", "File searches that the provider ran", "none"),
    Attribute(names.FINGERPRINT, "string", "", "Keyed hash of the request; equal for identical requests", "the request could not be hashed"),
    Attribute(names.REQUEST_HASH, "string", "", "16 hex digits, equal for requests that are exactly equal", "the request was not examined"),
    Attribute(names.RETRY_ATTEMPT, "int", "", "Which repeat by the program this is", "it is no repeat"),
    Attribute(names.RETRY_COST, "double", "USD", "Cost of the attempts that were repeated", "no repeat, or nothing billed"),
    Attribute(names.TASK, "string", "", "The task in which the call was made", "outside a task"),
    Attribute(names.TASK_RUN, "string", "", "16 hex digits: which run of the task", "outside a task"),
    Attribute(names.TASK_OUTCOME, "string", "", "On task spans: `ok` or `error`", "on spans of calls"),
    Attribute(names.TASK_COST, "double", "USD", "On task spans: sum of its calls", "on spans of calls"),
    Attribute(names.TASK_CALLS, "int", "call", "On task spans: number of its calls", "on spans of calls"),
    Attribute(names.TASK_INPUT_TOKENS, "int", "token", "On task spans: sum of its calls", "on spans of calls"),
    Attribute(names.TASK_OUTPUT_TOKENS, "int", "token", "On task spans: sum of its calls", "on spans of calls"),
    Attribute(names.TOOL_STEPS, "int", "round", "Tool rounds since the last user message", "no tool results in the request"),
    Attribute(names.TOOL_CALLS, "int", "call", "Tool calls in the answer", "none"),
    Attribute(names.GUARD_ACTION, "string", "", "`warn`, `clamp`, `downgrade`, `block`, ...", "no rule acted"),
    Attribute(names.GUARD_RULE, "string", "", "The rule that acted", "no rule acted"),
    Attribute(names.GUARD_MODE, "string", "", "`observe`, if the rule only recorded what it would do", "the policy is enforced"),
    Attribute(names.GUARD_ORIGINAL_MODEL, "string", "", "The model before a downgrade", "none was made"),
    Attribute(names.GUARD_ORIGINAL_MAX_TOKENS, "int", "token", "The cap before it was clamped", "none was clamped, or there was none"),
    Attribute(names.ROUTE_RULE, "string", "", "The route that applies to the call", "no route"),
    Attribute(names.ROUTE_VERSION, "string", "", "The version of the route", "no route"),
    Attribute(names.ROUTE_ARM, "string", "", "`treated`: the other model; `control`: the requested model", "no route"),
    Attribute(names.ROUTE_ORIGINAL_MODEL, "string", "", "The requested model, before the route changed it", "the call keeps its model"),
    Attribute(names.ROUTE_UNFIT, "string", "", "The model that refused the request, before the caller's own request was sent", "no refusal"),
    Attribute(names.ROUTE_ESCALATION, "string", "", "On the call to the larger model: the check that the first answer failed", "not such a call"),
    Attribute(names.ROUTE_SAVED, "double", "USD", "How much more the requested model would have cost for the same tokens; negative for the second call of a cascade", "the call keeps its model"),
    Attribute(names.GUARD_TRIMMED_TURNS, "int", "turn", "Turns that a limit removed from the history", "none was removed"),
    Attribute(names.BATCH_ID, "string", "", "The batch job of this line", "not a line of a batch"),
    Attribute(names.BATCH_CUSTOM_ID, "string", "", "The line's custom id in the batch", "not a line of a batch"),
    Attribute(names.BATCH_LINES, "int", "line", "On a batch's span: lines that were read for the first time", "on spans of calls"),
    Attribute(names.SESSION_COST, "double", "USD", "On the span of a realtime session: sum of its responses", "on spans of calls"),
    Attribute(names.SESSION_RESPONSES, "int", "response", "On the span of a realtime session: number of its responses", "on spans of calls"),
    Attribute(names.TOKEN_HOURS, "double", "token hour", "Tokens times the hours for which a cache was rented", "nothing was rented"),
    Attribute(names.MEGABYTE_DAYS, "double", "MB day", "Megabytes times the days for which a vector store was rented", "nothing was rented"),
    Attribute(names.TRAINED_TOKENS, "double", "token", "Tokens that a model was fine-tuned with", "no fine-tuning"),
    Attribute(names.RESOURCE, "string", "", "The rented resource: the provider's name of a cache, a vector store or a container", "nothing was rented"),
    Attribute(names.RESOURCE_UNTIL, "int", "Unix s", "When the rent ends; in the past after a deletion", "nothing was rented"),
    Attribute(names.GUARD_PREVENTED, "double", "USD", "Worst case of the call that was refused", "not refused, or unpriced"),
    Attribute(names.SHARED_CALLS, "int", "call", "Calls that shared this answer", "not shared"),
    Attribute(names.INPUT_TOOLSET, "string", "", "16 hex digits that name the tools offered", "none offered"),
    Attribute(names.BREAK_KIND, "string", "", "Why the prompt cache was missed", "no miss, or the cause is unknown"),
    Attribute(names.BREAK_SECTION, "string", "", "The section where the prompt changed", "it did not change"),
    Attribute(names.BREAK_INDEX, "int", "", "The message where it changed, from 0", "it did not change"),
    Attribute(names.BREAK_OFFSET, "int", "character", "Where in the message it changed", "it did not change"),
    Attribute(names.BREAK_TOKENS, "int", "token", "Tokens that could have come from the cache", "no break"),
    Attribute(names.BREAK_USD, "double", "USD", "Their extra cost over a cache read", "no break, or unpriced"),
    *(
        Attribute(name, "int", "token", f"{kind} tokens, a part of `{whole}`", "the provider did not report it, or the newer conventions are not asked for")
        for name, kind, whole in (
            (names.AUDIO_INPUT_TOKENS, "Audio", names.INPUT_TOKENS),
            (names.AUDIO_OUTPUT_TOKENS, "Audio", names.OUTPUT_TOKENS),
            (names.AUDIO_CACHE_READ_TOKENS, "Audio", names.CACHE_READ_TOKENS),
            (names.IMAGE_INPUT_TOKENS, "Image", names.INPUT_TOKENS),
            (names.IMAGE_OUTPUT_TOKENS, "Image", names.OUTPUT_TOKENS),
            (names.IMAGE_CACHE_READ_TOKENS, "Image", names.CACHE_READ_TOKENS),
        )
    ),
    Attribute(names.PROMPT_VERSION, "string", "", "The same as `tokenguard.prompt_version`", "nobody set it, or the newer conventions are not asked for"),
    Attribute(names.REASONING_LEVEL, "string", "", "The requested reasoning effort", "the request does not say, or the newer conventions are not asked for"),
    Attribute(names.REQUESTS, "int", "request", "Units billed per request: searches of a rerank", NO_USAGE),
    Attribute(names.IMAGES, "int", "image", "Images that were generated", "none was generated"),
    Attribute(names.INPUT_SECONDS, "double", "s", "Length of the audio that was sent", "no audio, or its length is unknown"),
    Attribute(names.OUTPUT_SECONDS, "double", "s", "Length of the audio or video that was generated", "none was generated"),
    Attribute(names.CHARACTERS, "int", "character", "Characters that were spoken", "no speech"),
    Attribute(names.PAGES, "int", "page", "Pages that were read", "none was read"),
    Attribute(names.ANNOTATED_PAGES, "int", "page", "Pages that were read and annotated", "none was annotated"),
    Attribute(names.CACHE_RESULT, "string", "", "Whether a kept answer was used: `hit`, `miss`, `skip`; `shared`: the answer of an identical call", "neither `[[cache]]` nor `[[share]]` applies"),
    Attribute(names.CACHE_RULE, "string", "", "The `[[cache]]` that applied", "no `[[cache]]` applies"),
    Attribute(names.CACHE_REASON, "string", "", "Why a call was not looked up, or its answer not kept", "looked up, and kept"),
    Attribute(names.CACHE_AGE, "double", "s", "Age of the kept answer", "no hit"),
    Attribute(names.CACHE_LIKENESS, "double", "0 to 1", "Similarity of the real answer to a kept one that was not served (`mode = \"observe\"`)", "nothing was compared"),
    Attribute(names.CACHE_SIMILARITY, "double", "0 to 1", "Similarity of the most similar kept question", "no `match = \"meaning\"`"),
    Attribute(names.CACHE_SAVED, "double", "USD", "What the call would have cost", "no hit, or unpriced"),
    *(
        Attribute(names.input_attribute(section), "int", "token", f"Input in the section `{section}`; the sections sum to the input", "the request was not examined, or no usage")
        for section in names.INPUT_SECTIONS
    ),
    *(Attribute(names.attribution_attribute(key), "string", "", f"Attribution `{key}`", "nobody set it") for key in names.ATTRIBUTION_KEYS),
    Attribute(names.attribution_attribute("<key>"), "string", "", "A key of your own", "nobody set it"),
)  # fmt: skip

D: Final = (
    "gen_ai.provider.name",
    "gen_ai.response.model",
    *map(names.attribution_attribute, names.METRIC_ATTRIBUTION_KEYS),
)
"""The labels of a call; an attribution key that nobody set is absent."""
GENAI: Final = (names.OPERATION, names.PROVIDER, names.REQUEST_MODEL, names.RESPONSE_MODEL, names.ERROR_TYPE)
TASK: Final = ("task", "outcome", *map(names.attribution_attribute, names.METRIC_ATTRIBUTION_KEYS))
GUARD: Final = ("rule", "action", "mode", *map(names.attribution_attribute, ("tenant", "feature")))
BUDGET: Final = ("budget", "key")

LABELS: Final[dict[str, tuple[str, ...]]] = {
    names.DURATION.name: GENAI,
    names.FIRST_CHUNK.name: GENAI,
    names.TOKEN_USAGE.name: (*GENAI, names.TOKEN_TYPE),
    names.CALLS.name: (*D, "outcome", "served"),
    names.UNCAPPED_CALLS.name: D,
    names.UNPRICED_CALLS.name: D,
    names.TOKENS.name: (*D, "type"),
    names.COST_USD.name: (*D, "status"),
    names.COST_PART_USD.name: (*D, "part"),
    names.SAVED_USD.name: (*D, "lever"),
    names.RETRIES.name: D,
    names.RETRY_COST_USD.name: D,
    names.CACHE_BREAKS.name: ("kind", "section"),
    names.SECTION_TOKENS.name: (
        names.RESPONSE_MODEL,
        names.attribution_attribute("feature"),
        names.attribution_attribute("prompt_version"),
        "section",
    ),
    names.GUARD_DECISIONS.name: GUARD,
    names.GUARD_PREVENTED_USD.name: GUARD,
    names.BUDGET_ALERTS.name: (*BUDGET, "threshold"),
    names.BUDGET_REFUSALS.name: BUDGET,
    names.BUDGET_LIMIT_USD.name: BUDGET,
    names.BUDGET_SPENT_USD.name: BUDGET,
    names.BUDGET_RESERVED_USD.name: BUDGET,
    names.BUDGET_LIMIT_TOKENS.name: BUDGET,
    names.BUDGET_SPENT_TOKENS.name: BUDGET,
    names.BUDGET_ELAPSED.name: BUDGET,
    names.BUDGET_WINDOW.name: BUDGET,
    names.LEDGER_LOST.name: (),
    names.BREAKER_STATE.name: ("breaker", names.PROVIDER, names.REQUEST_MODEL),
    names.TASKS.name: TASK,
    names.TASK_COST_USD.name: TASK,
    names.SERIES_OVERFLOW.name: ("label",),
    names.DROPPED_RECORDS.name: (),
    names.INTERNAL_ERRORS.name: (),
    names.PRICES_AGE.name: (),
    names.CACHE_LOOKUPS.name: ("rule", "result", "reason"),
    names.UNITS.name: (*D, "type"),
    names.BUDGET_LIMIT_CALLS.name: BUDGET,
    names.BUDGET_SPENT_CALLS.name: BUDGET,
    names.INFERENCE_DURATION.name: GENAI,
    names.INFERENCE_FIRST_CHUNK.name: GENAI,
    names.INFERENCE_INPUT.name: (*GENAI, names.TOKEN_MODALITY),
    names.INFERENCE_OUTPUT.name: (*GENAI, names.TOKEN_MODALITY),
    names.INFERENCE_CACHE_READ.name: (*GENAI, names.TOKEN_MODALITY),
    names.INFERENCE_CACHE_WRITE.name: (*GENAI, names.TOKEN_MODALITY),
    names.INFERENCE_REASONING.name: (*GENAI, names.TOKEN_MODALITY),
    names.INFERENCE_CALL_INPUT.name: GENAI,
    names.INFERENCE_CALL_OUTPUT.name: GENAI,
}
"""The labels of each metric, by its name."""

ENVIRONMENT: Final = {
    names.ENV_POLICY: "A policy file that nearer files can only tighten (a floor), like `/etc/tokenguard/tokenguard.toml`.",
    names.ENV_STORE: f"The local store's file (`{names.DEFAULT_STORE}`), or `off`. If set, the store is written in addition to an OTLP export.",
    "TOKENGUARD_STORE_DAYS": "How many days the store keeps calls; overrides `[store] keep_days`. 0 keeps all.",
    names.ENV_INCLUDE_USAGE: "Whether TokenGuard requests usage for streams: `always`, or `0` for never. By default it does at OpenAI and Azure, "
    "and at other hosts after a stream without usage.",
    names.ENV_HOSTS: "The provider of each host, as under `[hosts]`: `llm.internal:8000=openai,127.0.0.1=sdk`.",
    names.ENV_WEBHOOK_SECRET: "Signs the webhook of `[alerts]` (Standard Webhooks).",
    names.ENV_EXIT_SECONDS: "How many seconds a program waits at its end for an OTLP endpoint; 0.8 by default.",
    "TOKENGUARD_CACHE_KEY": "The secret that kept answers are encrypted with (`[answers] key_env` may name another variable).",
    names.ENV_SEMCONV: "Which `gen_ai.*` metrics: the older names; the newer ones with `gen_ai_latest_experimental`; both with "
    "`gen_ai_latest_experimental/dup`.",
    names.ENV_STRICT: "For tests of TokenGuard itself: errors inside it are raised.",
    names.ENV_CAPTURE_CONTENT: "Records prompts and answers: `SPAN_ONLY`, `EVENT_ONLY` or `SPAN_AND_EVENT`. Off by default; the "
    "local store never has them.",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "Where spans and metrics go. Without it, calls go to the local store. The variants "
    "`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` and `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT` count, too.",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "`grpc` or `http/protobuf`. `tokenguard-instrument` chooses HTTP for port 4318.",
    "OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER, OTEL_LOGS_EXPORTER": "OpenTelemetry's exporters. "
    "If they are not set, `tokenguard-instrument` sets them: `otlp` with an endpoint, else `none`.",
    "OTEL_SERVICE_NAME": "The name of the service on dashboards.",
    "NO_COLOR": "If set to any value, commands print no colour.",
    "COLUMNS": "The width of printed tables.",
}
"""The environment variables that TokenGuard reads, and what each does."""
