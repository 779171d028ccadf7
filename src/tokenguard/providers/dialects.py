"""Where providers and gateways part from the wire format that they speak, in what they say of usage: for the docs."""

from __future__ import annotations

from typing import Final

from tokenguard.facts.tuples import NamedTuple


class Dialect(NamedTuple):
    """One way to say it."""

    who: str
    says: str
    read: str
    """What is made of it."""
    source: str
    """Where it was reported or is documented; empty where nothing public was found."""
    tested: str
    """`recorded` traffic, or a `wire` body that was written after the source."""


DIALECTS: Final = (
    Dialect(
        "Gemini and Vertex AI, OpenAI-compatible",
        "thoughts in `total_tokens` alone",
        "the rest of the total is output, and reasoning",
        "discuss.ai.google.dev 127400; any-llm#1290",
        "wire",
    ),
    Dialect(
        "Grok on Azure AI Foundry",
        "reasoning beside `completion_tokens`, in the total",
        "the same",
        "litellm#39426, inspect_ai#5528",
        "wire",
    ),
    Dialect(
        "x.ai, HTTP",
        "reasoning beside `completion_tokens`",
        "added once, with a total and without",
        "https://docs.x.ai/docs/key-information/consumption-and-rate-limits",
        "wire",
    ),
    Dialect(
        "any other host",
        "a total above its parts",
        "the rest is output, `estimated` as `output_by_total`; what equals the cached tokens is input",
        "",
        "wire",
    ),
    Dialect(
        "Anthropic",
        "`usage.iterations`: compaction, advisor, fallbacks",
        "each iteration is priced for itself; attempts that a fallback took over are not billed. The tokens are those "
        "of the message's model",
        "`BetaIterationsUsage` of the SDK",
        "recorded (advisor); compaction, fallbacks: wire",
    ),
    Dialect(
        "Groq's compound systems",
        "`usage_breakdown`: the models that were asked; `executed_tools`: what it ran",
        "each model is priced for itself; the tools are marked `tool_fees_excluded`, on any model",
        "`UsageBreakdown`, `ExecutedTool` of the SDK",
        "wire",
    ),
    Dialect(
        "SGLang, gateways in Anthropic's format",
        "`message_delta` with `input_tokens: 0`, cache counts likewise",
        "the larger of start and delta",
        "sglang#20830, envoy ai-gateway#1631",
        "wire",
    ),
    Dialect(
        "gateways in OpenAI's format",
        "pictures as `completion_tokens_details.image_tokens`",
        "output at the rate of pictures",
        "litellm#17410",
        "wire",
    ),
    Dialect(
        "Ollama and others by LiteLLM",
        "streamed tool calls of one index, with ids or without",
        "another id is another call; without ids, another name",
        "smolagents#1958, dynamo#4723",
        "wire",
    ),
    Dialect(
        "gateways in OpenAI's format",
        "a `function_call`, as it was before there were tools",
        "one tool call, and a round",
        "",
        "wire",
    ),
    Dialect(
        "OpenRouter, xAI",
        "what was charged as text, or as what can be no amount",
        "text is read; a negative or absurd amount is not taken, and the rates decide",
        "",
        "wire",
    ),
    Dialect(
        "Google",
        "`groundingMetadata` in any chunk, `grounding_tool_count` in interactions",
        "searches of the web and of maps; by the prompt up to Gemini 2.5, from 3 on each query that is not empty",
        "https://ai.google.dev/gemini-api/docs/google-search",
        "wire",
    ),
    Dialect(
        "gateways in OpenAI's format",
        "an all-zero usage after the real one",
        "the larger, count by count",
        "CLIProxyAPI#3077 (the like)",
        "wire",
    ),
    Dialect(
        "OpenRouter, vLLM, LiteLLM",
        "a usage chunk nobody asked for",
        "read, and left to the caller",
        "https://openrouter.ai/docs/use-cases/usage-accounting",
        "wire",
    ),
    Dialect(
        "Moonshot",
        "a stream's usage in `choices[0].usage`; `cached_tokens` beside the counts",
        "read there",
        "pi#2017",
        "wire",
    ),
    Dialect(
        "Azure OpenAI",
        "filter annotations after the usage, any number of them",
        "the usage is looked for in the whole stream",
        "langchain#18977, autogen#6465",
        "wire",
    ),
    Dialect(
        "DashScope",
        "`prompt_tokens_details.cache_creation_input_tokens`; tool pieces with empty ids",
        "cache writes; one call",
        "litellm#11364, experiential#742",
        "wire",
    ),
    Dialect(
        "LiteLLM's proxy",
        "`cache_creation_input_tokens`, `cache_read_input_tokens` beside the counts",
        "cache writes and reads",
        "litellm#11364",
        "wire",
    ),
    Dialect(
        "DeepSeek and who hosts it",
        "`prompt_cache_hit_tokens`, also beside a zero in the details",
        "the larger",
        "",
        "recorded; the zero beside it: wire",
    ),
    Dialect(
        "Fireworks",
        "id and name with every piece of a tool call",
        "one call",
        "haystack#9581, SillyTavern#5948",
        "wire",
    ),
    Dialect(
        "OpenRouter, MiniMax, Z.ai, Cloudflare, Baidu, gateways",
        "an error with status 200: `error`, `base_resp`, `success: false`, `errors`, `error_code`; a choice that ends "
        "with `error`",
        "a failed call; without a cost where nothing was generated, else what is told",
        "https://openrouter.ai/docs/api-reference/errors; nodetool#5755, OmniRoute#8210, cloudflare-docs#15116",
        "wire",
    ),
    Dialect(
        "Vertex AI, OpenAI-compatible",
        "`usage.extra_properties.google.traffic_type`",
        "the tier: flex, priority, provisioned",
        "https://cloud.google.com/vertex-ai/generative-ai/docs/provisioned-throughput/measure-provisioned-throughput",
        "wire",
    ),
    Dialect(
        "LiteLLM's proxy",
        "`usage.service_tier`, `usage.inference_geo`; cache writes of an hour in `cache_creation_token_details`",
        "the tier, the geography and the lifetime, as Anthropic has them",
        "litellm#40277 (the like)",
        "wire",
    ),
    Dialect(
        "OpenRouter, with a key of one's own",
        "`is_byok` with its fee alone: `upstream_inference_cost` is missing or null",
        "by its listed rates, `estimated` as `own_key`",
        "https://openrouter.ai/docs/use-cases/usage-accounting",
        "wire",
    ),
    Dialect(
        "OpenAI, Responses API",
        "`tool_usage`: searches that are billed, tokens of pictures",
        "its searches count, and not the items; pictures at the price of the tool's model, or `estimated` as "
        "`assumed_model` where it names none",
        "`ToolUsage` of the SDK; sub2api#1999",
        "wire",
    ),
    Dialect(
        "DeepSeek, gateways",
        "spaces before the JSON, which keep the line open, where a stream was asked for",
        "skipped",
        "https://api-docs.deepseek.com/quick_start/rate_limit",
        "wire",
    ),
    Dialect(
        "gateways in OpenAI's format: pictures",
        "`prompt_tokens` and `completion_tokens`",
        "read as input and output",
        "helicone#5003",
        "wire",
    ),
    Dialect(
        "Cloudflare, Portkey, Helicone, OpenRouter, LiteLLM, Kong",
        "an answer that the gateway had kept, with the usage of the first: a header says so "
        "(`cf-aig-cache-status: HIT` and its kin)",
        "$0, `exact`, source `reported`, and no tokens",
        "https://developers.cloudflare.com/ai-gateway/features/caching, https://portkey.ai/docs/api-reference/response-schema",
        "wire",
    ),
    Dialect(
        "Ollama",
        "`prompt_eval_cached_count`, within `prompt_eval_count`",
        "cache reads, though its SDK drops the count",
        "ollama#16916, stdapi.ai#252",
        "wire",
    ),
    Dialect(
        "GitHub Copilot",
        "`copilot_usage.total_nano_aiu` beside the usage, in all formats",
        "the cost, at $0.01 an AI credit, `exact`, source `reported`",
        "openclaw#100097, copilot-api#292",
        "wire",
    ),
    Dialect(
        "LiteLLM's proxy, at a host that nobody knows or that `[hosts]` calls `litellm`",
        "`x-litellm-response-cost`, but of streams; `usage.cost`",
        "the cost, `estimated` as `reported_estimate`, source `reported`; zero is a model that it has no price for",
        "https://docs.litellm.ai/docs/proxy/response_headers; litellm#38691, litellm#39069",
        "wire",
    ),
    Dialect(
        "Fireworks",
        "nothing of the tier that a call was served in",
        "the one that was asked for: it is that or a refusal",
        "https://docs.fireworks.ai/serverless/serverless-modes; llmgateway#3332",
        "wire",
    ),
    Dialect(
        "Bedrock's `InvokeModel`; Gemini, until May 2026",
        "the tier, and Bedrock's latency, in headers (`x-amzn-bedrock-service-tier`, `x-gemini-service-tier`)",
        "read there, by whatever client",
        "https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html; vercel/ai#15488",
        "wire",
    ),
    Dialect(
        "Gemini, embeddings",
        "`promptTokenDetails` in place of `promptTokensDetails`",
        "tokens of pictures and sound, at their rates",
        "bifrost#7295, litellm#33681",
        "wire",
    ),
    Dialect(
        "Bifrost",
        "`cached_read_tokens`, `cached_write_tokens`, `cached_write_token_details`, and a `cached_tokens` that "
        "may be their sum; searches before Claude as `num_search_queries`",
        "reads, writes and their lifetime, by its own counts",
        "bifrost#4816, bifrost#1872",
        "wire",
    ),
    Dialect(
        "Anthropic",
        "code that was run, by its blocks alone",
        "marked `tool_fees_excluded`, but not with searches and fetched pages, with which its container is free",
        "https://platform.claude.com/docs/en/agents-and-tools/tool-use/code-execution-tool",
        "wire",
    ),
    Dialect(
        "Fireworks",
        "cached tokens in the header `fireworks-cached-prompt-tokens`, or in `perf_metrics`",
        "cache reads",
        "https://docs.fireworks.ai/guides/prompt-caching; any-llm#796",
        "wire",
    ),
    Dialect(
        "LLM Gateway",
        "`usage.cost_usd_total`",
        "the cost, `exact`, source `reported`",
        "https://docs.llmgateway.io/features/cost-breakdown",
        "wire",
    ),
    Dialect(
        "llama.cpp's server",
        "`timings` with each answer, a usage only if it is asked to",
        "what was processed and what was cached are the input",
        "llama.cpp#15827",
        "wire",
    ),
    Dialect(
        "Vertex AI, OpenAI-compatible; any host",
        "a total below its parts",
        "`estimated` as `inconsistent_usage`, unless the cached tokens are what is missing",
        "openai-scala-client#96",
        "wire",
    ),
    Dialect(
        "Alibaba",
        "`prompt_tokens_details.video_tokens`",
        "input, `estimated` as `assumed_input_video`: it has a rate that no list has",
        "https://www.alibabacloud.com/help/en/model-studio/models",
        "wire",
    ),
    Dialect(
        "Azure",
        "nothing of a deployment's zone, which may cost a tenth more",
        "as Global, `estimated` as `assumed_global`, until `[prices]` has a `factor`",
        "https://pypi.org/project/azure-genai-prices/; litellm#38370",
        "wire",
    ),
    Dialect(
        "QwenCloud's and Kimi's Messages API, streamed",
        "`message_start` with all of the input and no cache; `message_delta` with the input that is left beside it",
        "the parts that came last, which are the whole again",
        "bifrost#5355",
        "wire",
    ),
    Dialect(
        "xAI, of voice",
        "`response.done` with `usage` beside the response, which has an empty one; `billable_audio_seconds`, "
        "`input_text_messages`",
        "the seconds, by which voice is billed; a text that is sent has a fee of its own, `tool_fees_excluded`",
        "pydantic/genai-prices#668, #600",
        "wire",
    ),
    Dialect(
        "Mistral's Document AI at Foundry",
        "`usage_info.pages_processed_annotation` beside `pages_processed`, which may be 0",
        "pages that are annotated and pages that are only read; without it, as the request asks",
        "litellm#38546",
        "wire",
    ),
    Dialect(
        "Mistral",
        "`prompt_token_details` beside `prompt_tokens_details`",
        "cache reads in either",
        "vercel/ai#14382",
        "wire",
    ),
    Dialect(
        "DigitalOcean, before Claude",
        "`cache_created_input_tokens` beside the counts, with `cache_creation` by lifetime",
        "cache writes, and their lifetime",
        "`CompletionUsage` of its SDK",
        "wire",
    ),
    Dialect(
        "Anthropic, a retry after a refusal",
        "`usage.fallback_credit` that was redeemed: cache writes billed as reads, of a number it does not tell",
        "cache writes, `estimated` as `fallback_credit`",
        "`BetaFallbackCreditUsage` of the SDK",
        "wire",
    ),
    Dialect(
        "Gemini on Vertex AI",
        "`candidatesTokenCount` with the thoughts in it, as the total says",
        "the thoughts once; any total of Gemini's below its parts makes an estimate, `inconsistent_usage`",
        "litellm#23731",
        "wire",
    ),
    Dialect(
        "Gemini's live models",
        "`totalTokenCount` without the thoughts, of an answer that is all sound",
        "the thoughts beside the answer; `estimated` as `inconsistent_usage`",
        "discuss.ai.google.dev/t/188765",
        "wire",
    ),
    Dialect(
        "OpenAI's realtime models",
        "`output_token_details.reasoning_tokens`, within the text",
        "reasoning, within the output",
        "litellm#39850",
        "wire",
    ),
    Dialect(
        "new-api, before Claude",
        "`claude_cache_creation_1_h_tokens` beside the counts, `cached_creation_tokens` in the details",
        "cache writes, and their lifetime",
        "new-api#6212",
        "wire",
    ),
    Dialect(
        "Vercel's gateway, in Anthropic's format",
        "zeros in `message_start`, all counts and lifetimes in `message_delta`",
        "of each count the larger",
        "pi#9210",
        "wire",
    ),
    Dialect(
        "Bedrock outside the US (but Claude), Moonshot and MiniMax in China, Alibaba outside Singapore, OpenAI gov",
        "nothing but its host, or the name of a profile (`eu.`)",
        "the listed prices, `estimated` as `assumed_region`, until `[prices]` has a `factor` or rates",
        "https://aws.amazon.com/bedrock/pricing; litellm's table by region",
        "wire",
    ),
    Dialect("Voyage", "embeddings with a total alone", "the total is input", "", "wire"),
    Dialect(
        "Cohere, gateways",
        "counts as floats or as text",
        "whole numbers; fractions rounded up",
        "litellm#28024, easyllm#40",
        "wire",
    ),
    Dialect(
        "LM Studio's embeddings, gateways",
        "a usage of zeros, or an input of zero tokens",
        "not told: no request is empty. The cost is estimated by the text",
        "lmstudio-bug-tracker#1546, open-swarm#141",
        "wire",
    ),
    Dialect(
        "gateways in OpenAI's format",
        "`input_tokens` and `output_tokens`; the usage in `meta`, or in a message",
        "read there",
        "omniai#140",
        "wire",
    ),
    Dialect(
        "CLIProxyAPI, gateways",
        "more reasoning than output, with a total or without; no output, but a total",
        "the output holds the reasoning; it is what the total leaves for it",
        "CLIProxyAPI#5733, llmgateway#3774",
        "wire",
    ),
    Dialect(
        "LiteLLM, Portkey, before Bedrock",
        "an input that leaves out the cached tokens",
        "input and cached tokens are the input; `estimated` as `inconsistent_usage` unless the total says so, too",
        "litellm#40277, Portkey gateway#1210",
        "wire",
    ),
    Dialect(
        "new-api, mini-sglang, 9router and others",
        "events where JSON was asked for, JSON where a stream was, either under another content type",
        "by what it is, and not by what it is called",
        "new-api#5230, mini-sglang#51, 9router#3492, openclaw#96497",
        "wire",
    ),
    Dialect(
        "any server",
        "an event's JSON in several lines of `data:`, a byte order mark, lines that end with CR",
        "as the standard of server-sent events has it",
        "https://html.spec.whatwg.org/multipage/server-sent-events.html",
        "wire",
    ),
    Dialect(
        "gateways in Anthropic's format",
        "no `message_delta`, or the usage in `message_stop`; cache writes by lifetime alone; keys in any order",
        "the output is estimated by the text; read there; their sum; tool calls counted all the same",
        "new-api#4760",
        "wire",
    ),
    Dialect(
        "gateways with the Responses API",
        "`response.done` at the end; an end without the items that came before it",
        "the end; function calls are counted from the items",
        "9router#2142, 9router#705",
        "wire",
    ),
    Dialect(
        "Ollama, Gemini and others",
        "streamed tool calls without an index, several of one name in a chunk",
        "each is a call",
        "ollama#7881, agentao#117",
        "wire",
    ),
    Dialect(
        "OpenRouter: embeddings, ranks, transcripts; Vercel's gateway",
        "`usage.cost`",
        "the cost, `exact`, source `reported`",
        "`CreateRerankUsage` in openrouter.ai/docs; litellm#14002, pi#6877",
        "wire",
    ),
    Dialect(
        "DeepInfra",
        "`usage.estimated_cost`",
        "the cost, `estimated` as `reported_estimate`, source `reported`",
        "litellm#38802",
        "wire",
    ),
    Dialect(
        "vLLM, SiliconFlow and others: ranks; Cohere's embeddings in OpenAI's format",
        "`meta.billed_units`, `meta.tokens`",
        "searches where there are any, else tokens",
        "litellm#36185, bifrost#4239",
        "wire",
    ),
    Dialect(
        "xAI",
        "`usage.server_side_tool_usage_details`: `web_search_calls`, `file_search_calls`, `x_posts_fetched`",
        "the searches that are billed, an opened page among them; X Search, which is billed by what it finds, is "
        "marked `tool_fees_excluded`, but where the cost is reported",
        "docs.x.ai/developers/pricing, litellm#30817",
        "wire",
    ),
    Dialect(
        "Z.ai, Moonshot, DashScope, Volcengine, xAI",
        "`web_search` beside the answer; calls of type `builtin_function`; `usage.plugins`, `x_tools`, `tool_usage`; "
        "`num_server_side_tools_used`, `num_sources_used`",
        "marked `tool_fees_excluded`, but where the cost is reported",
        "docs.z.ai, platform.moonshot.ai/docs/pricing/tools, docs.x.ai",
        "wire",
    ),
    Dialect(
        "LiteLLM's proxy",
        "searches as `server_tool_use.web_search_requests`, or within `prompt_tokens_details`",
        "searches of the web, at the model's fee for one",
        "",
        "wire",
    ),
    Dialect(
        "SGLang",
        "`reasoning_tokens` beside the counts; `prompt_tokens` and `completion_tokens` in the Responses API",
        "reasoning, within the output; read there",
        "sglang#17156, sglang#10012",
        "wire",
    ),
    Dialect(
        "Azure's model router",
        "the model that was chosen, as the answer's",
        "its price and the router's fee ($0.14 per million tokens of input), `estimated` as `assumed_router`, where "
        "what was asked for is called `model-router`",
        "litellm#22957",
        "wire",
    ),
    Dialect(
        "Mistral",
        "`usage.prompt_audio_seconds`",
        "sound is billed by the minute, too: `estimated` as `assumed_input_audio`",
        "https://mistral.ai/pricing",
        "wire",
    ),
    Dialect(
        "Bedrock",
        "Converse: a `totalTokens` above its parts; `InvokeModel`: zeros in the model's format",
        "the rest is output, `estimated`; Bedrock's own `invocationMetrics`",
        "",
        "wire",
    ),
    Dialect(
        "Bedrock, OpenAI's models",
        "Converse streams: the cache's tokens in `inputTokens`, too, and twice in `totalTokens`",
        "once, `estimated`; without a stream they are beside it, as documented",
        "bifrost#6942",
        "wire",
    ),
    Dialect(
        "Bedrock",
        "`toolUse` of type `server_tool_use`: Nova's web grounding and code interpreter",
        "no tool call of the application's; marked `tool_fees_excluded`",
        "https://docs.aws.amazon.com/nova/latest/nova2-userguide/web-grounding.html",
        "wire",
    ),
    Dialect(
        "who accounts for usage along the way (vLLM, SGLang, gateways)",
        "counts of an earlier chunk or event that the last one leaves out, or has as zeros",
        "of each count the largest, in chat, Anthropic's and Google's formats",
        "sglang#17156, cline#10148 (the like)",
        "wire",
    ),
    Dialect(
        "Gemini",
        "rounds of code: an earlier chunk tells counts that the last one leaves out, whose total is whole without them",
        "the last one, unless an earlier total is larger",
        "",
        "wire; recorded",
    ),
)
"""Each row has its test in `tests/providers/` (`test_dialects.py`, `test_gateways.py`), or in `tests/metering/`."""


class Neighbour(NamedTuple):
    """What becomes of a call that another instrumentation sees too."""

    who: str
    spans: str


NEIGHBOURS: Final = (
    Neighbour("OpenInference", "one: its own, with our facts; two for `messages.stream()` of anthropic"),
    Neighbour("Logfire", "one: its own, with our facts; for a stream it adds a log span of its own"),
    Neighbour(
        "OpenLLMetry (Traceloop)",
        "one for OpenAI's chat and embeddings: its own, with our facts; two for responses, anthropic and google-genai, "
        "whose span is not current while the SDK sends. Its spans of steps (LangChain, openai-agents) are beside ours",
    ),
    Neighbour(
        "an SDK's own span (anthropic, mistralai, xai-sdk)",
        "one: its own, by its own name, with our facts. Where it says of usage what is not billed (anthropic's leaves "
        "out compaction), what is billed stands there. Tests that compare all attributes of such a span see ours",
    ),
    Neighbour("ddtrace, Sentry", "one of ours; theirs go their own ways to their own backends"),
    Neighbour("Langfuse", "two: its observation is not current while the SDK sends"),
)
"""As `tests/neighbours` has seen, or the packages' own code says; both orders are the same."""
