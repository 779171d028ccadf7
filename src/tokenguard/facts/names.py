"""Every name that others build on, written once: span attributes, metrics, environment variables, defaults.

Dashboards, alert rules and queries depend on these. OpenTelemetry's names come from the GenAI semantic conventions
(https://github.com/open-telemetry/semantic-conventions-genai), which are in development, so they are spelled out here
rather than imported from a package that deprecates them.
"""

from __future__ import annotations

from collections.abc import Mapping

from tokenguard.facts.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# --- span attributes: OpenTelemetry ----------------------------------------------------------------------------------

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_STREAM: Final = "gen_ai.request.stream"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_ID: Final = "gen_ai.response.id"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
AUDIO_INPUT_TOKENS: Final = "gen_ai.usage.audio.input_tokens"
AUDIO_OUTPUT_TOKENS: Final = "gen_ai.usage.audio.output_tokens"
AUDIO_CACHE_READ_TOKENS: Final = "gen_ai.usage.audio.cache_read.input_tokens"
IMAGE_INPUT_TOKENS: Final = "gen_ai.usage.image.input_tokens"
IMAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.image.output_tokens"
IMAGE_CACHE_READ_TOKENS: Final = "gen_ai.usage.image.cache_read.input_tokens"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - tokens of text
TOKEN_MODALITY: Final = "gen_ai.token.modality"  # noqa: S105 - tokens of text
PROMPT_VERSION: Final = "gen_ai.prompt.version"
REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"
RESEND_COUNT: Final = "http.request.resend_count"
CODE_FILE: Final = "code.file.path"
CODE_LINE: Final = "code.line.number"
CODE_FUNCTION: Final = "code.function.name"

# --- span attributes: TokenGuard -------------------------------------------------------------------------------------

COST: Final = "tokenguard.cost.usd"
COST_STATUS: Final = "tokenguard.cost.status"
COST_BASIS: Final = "tokenguard.cost.basis"
COST_INPUT: Final = "tokenguard.cost.input_usd"
COST_OUTPUT: Final = "tokenguard.cost.output_usd"
COST_CACHE_READ: Final = "tokenguard.cost.cache_read_usd"
COST_CACHE_WRITE: Final = "tokenguard.cost.cache_write_usd"
COST_TOOLS: Final = "tokenguard.cost.tools_usd"
COST_SOURCE: Final = "tokenguard.cost.source"
"""`reported` where the cost is the provider's own word; absent where it is computed from usage and rates."""
REPORTED: Final = "reported"
WEB_SEARCHES: Final = "tokenguard.usage.web_searches"
MAP_SEARCHES: Final = "tokenguard.usage.map_searches"
FILE_SEARCHES: Final = "tokenguard.usage.file_searches"
REQUESTS: Final = "tokenguard.usage.requests"
"""What is billed by the request, where the provider counts it: a rerank's searches."""
IMAGES: Final = "tokenguard.usage.images"
INPUT_SECONDS: Final = "tokenguard.usage.input_seconds"
OUTPUT_SECONDS: Final = "tokenguard.usage.output_seconds"
CHARACTERS: Final = "tokenguard.usage.characters"
PAGES: Final = "tokenguard.usage.pages"
ANNOTATED_PAGES: Final = "tokenguard.usage.annotated_pages"
TOKEN_HOURS: Final = "tokenguard.usage.token_hours"  # noqa: S105 - tokens of text
MEGABYTE_DAYS: Final = "tokenguard.usage.megabyte_days"
TRAINED_TOKENS: Final = "tokenguard.usage.trained_tokens"
RESOURCE: Final = "tokenguard.resource"
"""What is rented: the provider's own name of a cache, a vector store, a container."""
RESOURCE_UNTIL: Final = "tokenguard.resource.until"
"""Until when it is rented, in Unix seconds, as it was told last; in the past once it was deleted."""
SESSION_COST: Final = "tokenguard.session.cost_usd"
SESSION_RESPONSES: Final = "tokenguard.session.responses"
COST_SAVED: Final = "tokenguard.cost.saved_usd"
FINGERPRINT: Final = "tokenguard.call.fingerprint"
RETRY_ATTEMPT: Final = "tokenguard.retry.attempt"
RETRY_COST: Final = "tokenguard.retry.cost_usd"
TASK: Final = "tokenguard.task"
TASK_RUN: Final = "tokenguard.task.run"
TASK_OUTCOME: Final = "tokenguard.task.outcome"
TASK_COST: Final = "tokenguard.task.cost_usd"
TASK_CALLS: Final = "tokenguard.task.calls"
TASK_INPUT_TOKENS: Final = "tokenguard.task.input_tokens"
TASK_OUTPUT_TOKENS: Final = "tokenguard.task.output_tokens"
TOOL_STEPS: Final = "tokenguard.tool.steps"
TOOL_CALLS: Final = "tokenguard.tool.calls"
GUARD_ACTION: Final = "tokenguard.guard.action"
GUARD_RULE: Final = "tokenguard.guard.rule"
GUARD_ORIGINAL_MODEL: Final = "tokenguard.guard.original_model"
GUARD_ORIGINAL_MAX_TOKENS: Final = "tokenguard.guard.original_max_tokens"
GUARD_TRIMMED_TURNS: Final = "tokenguard.guard.trimmed_turns"
"""The turns of the history that were left out."""
GUARD_MODE: Final = "tokenguard.guard.mode"
GUARD_PREVENTED: Final = "tokenguard.guard.prevented_usd"
SHARED_CALLS: Final = "tokenguard.guard.shared_calls"
ROUTE_RULE: Final = "tokenguard.route.rule"
ROUTE_VERSION: Final = "tokenguard.route.version"
ROUTE_ARM: Final = "tokenguard.route.arm"
ROUTE_ORIGINAL_MODEL: Final = "tokenguard.route.original_model"
ROUTE_UNFIT: Final = "tokenguard.route.unfit"
"""The model that refused the request, after which the caller's own was sent."""
ROUTE_ESCALATION: Final = "tokenguard.route.escalation"
"""Why the answer of the cheaper model did not do, on the call to the larger one."""
ROUTE_SAVED: Final = "tokenguard.route.saved_usd"
"""What the model that was asked for would have cost more for the same tokens: an estimate."""
REQUEST_HASH: Final = "tokenguard.request.hash"
"""16 hex digits, equal for equal requests in any order of their keys; found out after the call, like what follows."""
INPUT_TOOLSET: Final = "tokenguard.input.toolset"
"""16 hex digits that name the tools a request offers; the store says how large each of them is."""
BATCH_ID: Final = "tokenguard.batch.id"
BATCH_CUSTOM_ID: Final = "tokenguard.batch.custom_id"
BATCH_LINES: Final = "tokenguard.batch.lines"
"""Of the span of a collected file: how many lines were new in it. Its tokens and costs are theirs together."""
CACHE_RESULT: Final = "tokenguard.cache.result"
"""What became of looking for an answer: `hit`, `miss`, `skip` of kept ones (absent where no `[[cache]]` applies), or
`shared`, which is that of an identical call under way."""
CACHE_RULE: Final = "tokenguard.cache.rule"
CACHE_REASON: Final = "tokenguard.cache.reason"
"""Why a call was not looked up (`skip`), or its answer not kept (`miss`)."""
CACHE_AGE: Final = "tokenguard.cache.age_s"
CACHE_SAVED: Final = "tokenguard.cache.saved_usd"
CACHE_LIKENESS: Final = "tokenguard.cache.likeness"
"""How like a kept answer that was only watched is to the real one, from 0 to 1; 1 is the same."""
CACHE_SIMILARITY: Final = "tokenguard.cache.similarity"
"""How near the nearest kept question was, from 0 to 1, with `match = "meaning"`."""
BREAK: Final = "tokenguard.cache.break."
BREAK_KIND: Final = "tokenguard.cache.break.kind"
BREAK_SECTION: Final = "tokenguard.cache.break.section"
BREAK_INDEX: Final = "tokenguard.cache.break.index"
BREAK_OFFSET: Final = "tokenguard.cache.break.offset"
BREAK_TOKENS: Final = "tokenguard.cache.break.tokens"
BREAK_USD: Final = "tokenguard.cache.break.usd"

INPUT_SECTIONS: Final = ("system", "tools", "history", "tool_results", "last", "media")
"""Where a request's input is: the parts that `tokenguard.input.<section>_tokens` count, which sum to the input."""


def input_attribute(section: str) -> str:
    """The span attribute of a section's tokens.

    >>> input_attribute("history")
    'tokenguard.input.history_tokens'
    """
    return f"tokenguard.input.{section}_tokens"


ATTRIBUTION_KEYS: Final = ("tenant", "feature", "route", "prompt_version", "team", "user")
"""The attribution keys with an attribute of their own, `tokenguard.<key>`; any other is `tokenguard.attr.<key>`."""

METRIC_ATTRIBUTION_KEYS: Final = ("tenant", "feature", "route", "prompt_version", "team")
"""The attribution keys that metrics carry: `user` and custom keys have too many values."""


def attribution_attribute(key: str) -> str:
    """The span attribute of an attribution key.

    >>> attribution_attribute("tenant"), attribution_attribute("region")
    ('tokenguard.tenant', 'tokenguard.attr.region')
    """
    return f"tokenguard.{key}" if key in ATTRIBUTION_KEYS else f"tokenguard.attr.{key}"


# --- values ----------------------------------------------------------------------------------------------------------

EXACT: Final = "exact"
ESTIMATED: Final = "estimated"
UNPRICED: Final = "unpriced"

MISSING_USAGE: Final = "missing_usage"
ABANDONED_STREAM: Final = "abandoned_stream"
INCONSISTENT_USAGE: Final = "inconsistent_usage"
ASSUMED_MODEL: Final = "assumed_model"
"""Why a cost is an estimate, for what more than one room finds out; docs/concepts/cost.md has all of them."""

OK: Final = "ok"
ERROR: Final = "error"
BLOCKED: Final = "blocked"
ABANDONED: Final = "abandoned"

BLOCK: Final = "block"

NOT_CAPPED: Final = (
    *("embeddings", "rerank", "image_generation", "speech", "transcription", "moderation", "video_generation"),
    *("ocr", "live", "create_cache", "create_vector_store", "create_container", "fine_tuning", "rent"),
    "decision",
)
"""The operations whose answers have no length that a request could cap."""
RENTING: Final = ("create_cache", "create_container", "create_vector_store")
"""The operations that make what is paid for by time."""

HIT: Final = "hit"
MISS: Final = "miss"
SKIP: Final = "skip"
SHARED: Final = "shared"
"""The answer of an identical call that was under way: `[[share]]`."""
PARTIAL: Final = "partial"
"""The reason beside a hit where only some of a request's inputs were kept, and the others were sent."""
SERVED_BY: Final[Mapping[object, str]] = {HIT: "cache", SHARED: "share"}
WIRE: Final = "wire"
"""The reason beside a skip where the wire cannot give an answer to another call."""
OBSERVED: Final = "observe"
"""The reason beside a hit that was only watched."""


def served_by(attributes: Mapping[str, object]) -> str:
    """What answered a call for which nothing was sent: `cache`, `share`, or nothing did."""
    return "" if CACHE_REASON in attributes else SERVED_BY.get(attributes.get(CACHE_RESULT), "")


TREATED: Final = "treated"
CONTROL: Final = "control"

# --- metrics ---------------------------------------------------------------------------------------------------------


class Metric(NamedTuple):
    """One instrument: its OTel name, unit (in braces where it counts things), kind and sentence."""

    name: str
    unit: str
    kind: str  # "histogram", "counter", "updown" or "gauge"
    description: str


DURATION: Final = Metric("gen_ai.client.operation.duration", "s", "histogram", "Duration of a GenAI call")
FIRST_CHUNK: Final = Metric(
    "gen_ai.client.operation.time_to_first_chunk", "s", "histogram", "Time to the first chunk of a streamed GenAI call"
)
TOKEN_USAGE: Final = Metric("gen_ai.client.token.usage", "{token}", "histogram", "Tokens of a GenAI call")
CALLS: Final = Metric("tokenguard.calls", "{call}", "counter", "LLM calls by outcome")
UNCAPPED_CALLS: Final = Metric("tokenguard.calls.uncapped", "{call}", "counter", "Calls with no cap on their output")
SECTION_TOKENS: Final = Metric(
    "tokenguard.input.tokens", "{token}", "counter", "Input tokens by section of the request, shared out by length"
)
CACHE_BREAKS: Final = Metric(
    "tokenguard.cache.breaks", "{break}", "counter", "Prompts that the provider's cache could have held, and did not"
)
UNPRICED_CALLS: Final = Metric("tokenguard.calls.unpriced", "{call}", "counter", "Answered calls without a known cost")
CACHE_LOOKUPS: Final = Metric("tokenguard.cache.lookups", "{lookup}", "counter", "Look-ups of kept answers")
TOKENS: Final = Metric("tokenguard.tokens", "{token}", "counter", "Tokens by type")
UNITS: Final = Metric("tokenguard.units", "{unit}", "counter", "What is billed and is no token, by type")
COST_USD: Final = Metric("tokenguard.cost.usd", "{USD}", "counter", "Cost of LLM calls")
COST_PART_USD: Final = Metric("tokenguard.cost.part.usd", "{USD}", "counter", "Cost of LLM calls by what it paid for")
SAVED_USD: Final = Metric("tokenguard.saved.usd", "{USD}", "updown", "Cost saved, by lever")
RETRIES: Final = Metric("tokenguard.retries", "{retry}", "counter", "Requests that were sent again")
RETRY_COST_USD: Final = Metric("tokenguard.retry.cost.usd", "{USD}", "counter", "Cost of attempts that were repeated")
GUARD_DECISIONS: Final = Metric("tokenguard.guard.decisions", "{decision}", "counter", "Guard decisions by action")
GUARD_PREVENTED_USD: Final = Metric("tokenguard.guard.prevented.usd", "{USD}", "counter", "Worst case of blocked calls")
BUDGET_ALERTS: Final = Metric("tokenguard.budget.alerts", "{alert}", "counter", "Thresholds that budgets reached")
BUDGET_LIMIT_USD: Final = Metric("tokenguard.budget.limit.usd", "{USD}", "gauge", "Limit of a budget")
BUDGET_SPENT_USD: Final = Metric("tokenguard.budget.spent.usd", "{USD}", "gauge", "Spent from a budget in its window")
BUDGET_RESERVED_USD: Final = Metric("tokenguard.budget.reserved.usd", "{USD}", "gauge", "Reserved by calls in flight")
BUDGET_LIMIT_TOKENS: Final = Metric("tokenguard.budget.limit.tokens", "{token}", "gauge", "Limit of a budget in tokens")
BUDGET_SPENT_TOKENS: Final = Metric("tokenguard.budget.spent.tokens", "{token}", "gauge", "Tokens spent in its window")
BUDGET_LIMIT_CALLS: Final = Metric("tokenguard.budget.limit.calls", "{call}", "gauge", "Limit of a budget in calls")
BUDGET_SPENT_CALLS: Final = Metric("tokenguard.budget.spent.calls", "{call}", "gauge", "Calls made in its window")
BUDGET_REFUSALS: Final = Metric("tokenguard.budget.refusals", "{refusal}", "counter", "Calls that a budget refused")
BUDGET_ELAPSED: Final = Metric("tokenguard.budget.elapsed.ratio", "1", "gauge", "Share of its window that is over")
BUDGET_WINDOW: Final = Metric("tokenguard.budget.window", "s", "gauge", "Length of a budget's window")
LEDGER_LOST: Final = Metric("tokenguard.ledger.lost", "{ledger}", "gauge", "1 while the shared ledger is out of reach")
BREAKER_STATE: Final = Metric("tokenguard.breaker.state", "{state}", "gauge", "0 closed, 1 half open, 2 open")
TASKS: Final = Metric("tokenguard.tasks", "{task}", "counter", "Units of business work by outcome")
TASK_COST_USD: Final = Metric("tokenguard.task.cost.usd", "{USD}", "counter", "Cost of units of business work")
SERIES_OVERFLOW: Final = Metric("tokenguard.series.overflow", "{value}", "counter", "Values counted under `other`")
DROPPED_RECORDS: Final = Metric(
    "tokenguard.records.dropped", "{record}", "counter", "Calls and tasks not counted, or not stored"
)
INTERNAL_ERRORS: Final = Metric("tokenguard.internal.errors", "{error}", "counter", "Errors inside TokenGuard")
PRICES_AGE: Final = Metric("tokenguard.prices.age", "s", "gauge", "Since the price table's newest price took effect")

INFERENCE_DURATION: Final = Metric(
    "gen_ai.client.inference.duration", "s", "histogram", "Duration of a GenAI call, by the newer conventions"
)
INFERENCE_FIRST_CHUNK: Final = Metric(
    "gen_ai.client.inference.time_to_first_chunk", "s", "histogram", "Time to the first chunk, by the newer conventions"
)
INFERENCE_INPUT: Final = Metric("gen_ai.client.inference.usage.input_tokens", "{token}", "counter", "Input tokens")
INFERENCE_OUTPUT: Final = Metric("gen_ai.client.inference.usage.output_tokens", "{token}", "counter", "Output tokens")
INFERENCE_CACHE_READ: Final = Metric(
    "gen_ai.client.inference.usage.cache_read.input_tokens", "{token}", "counter", "Input tokens read from the cache"
)
INFERENCE_CACHE_WRITE: Final = Metric(
    "gen_ai.client.inference.usage.cache_write.input_tokens", "{token}", "counter", "Input tokens written to the cache"
)
INFERENCE_REASONING: Final = Metric(
    "gen_ai.client.inference.usage.reasoning.output_tokens", "{token}", "counter", "Output tokens of reasoning"
)
INFERENCE_CALL_INPUT: Final = Metric(
    "gen_ai.client.inference.operation.input_tokens", "{token}", "histogram", "Input tokens of a GenAI call"
)
INFERENCE_CALL_OUTPUT: Final = Metric(
    "gen_ai.client.inference.operation.output_tokens", "{token}", "histogram", "Output tokens of a GenAI call"
)

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.42.0"
"""The last schema of OpenTelemetry's that has the GenAI names; where they went to is not published yet."""

SECONDS_BUCKETS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKEN_BUCKETS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)

# --- environment -----------------------------------------------------------------------------------------------------

ENV_POLICY: Final = "TOKENGUARD_POLICY"
ENV_WEBHOOK_SECRET: Final = "TOKENGUARD_WEBHOOK_SECRET"  # noqa: S105 - its name
ENV_STORE: Final = "TOKENGUARD_STORE"
ENV_EXIT_SECONDS: Final = "TOKENGUARD_EXIT_SECONDS"
"""How many seconds the end of a program waits for an OTLP endpoint; 0.8 by default."""
OTLP_ENDPOINTS: Final = tuple(f"OTEL_EXPORTER_OTLP{signal}_ENDPOINT" for signal in ("", "_TRACES", "_METRICS", "_LOGS"))
"""The variables that name an OTLP endpoint."""
ENV_INCLUDE_USAGE: Final = "TOKENGUARD_INCLUDE_USAGE"
ENV_HOSTS: Final = "TOKENGUARD_HOSTS"
"""Hosts as the policy's `[hosts]` has them: `llm.internal:8000=openai,127.0.0.1=sdk`."""
ENV_SEMCONV: Final = "OTEL_SEMCONV_STABILITY_OPT_IN"
ENV_STRICT: Final = "TOKENGUARD_STRICT"
ENV_CAPTURE_CONTENT: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

DEFAULT_STORE: Final = ".tokenguard/usage.db"
STORE_OFF: Final = ("", "0", "off", "none")


def store_path(setting: str | None) -> str | None:
    """Where the local store is, by what `TOKENGUARD_STORE` says (`None`: nothing); `None` where it is off.

    A URL as the policy has for ledgers and answers is the path in it.

    >>> store_path(None), store_path("/tmp/u.db"), store_path("Off"), store_path("sqlite:////tmp/u.db")
    ('.tokenguard/usage.db', '/tmp/u.db', None, '/tmp/u.db')
    """
    if setting is None:
        return DEFAULT_STORE
    setting = setting.removeprefix("sqlite:///")
    return None if setting.strip().lower() in STORE_OFF else setting
