"""The SDKs, as rows: what of each is wrapped when it is imported. It imports nothing, as `install()` must be quick."""

from __future__ import annotations

from tokenguard.facts.tuples import NamedTuple


class Sdk(NamedTuple):
    """One SDK: where it sends every request, who wraps that, and whom it talks to."""

    module: str
    """The module of the SDK that is wrapped when it is imported."""
    provider: str
    """The provider it talks to, unless the host says else."""
    seam: str
    """The module of `tokenguard.seams` whose `patch(module, meter, row)` wraps it."""
    package: str = ""
    """What it is called on the package index, where that is not the module's first name."""
    tested: str = ""
    """The major versions that the tests run with; empty for the newest alone."""
    speaks: str = ""
    """Whose own wire formats it speaks, where they are not those of the provider it talks to."""
    warms: bool = True
    """Whether who imports it will call a model, so that the price list is loaded then."""
    resends: str = ""
    """What the SDK itself sends again after a failure, where it is set up to: `all`, `whole` answers, or nothing."""
    shares: str = "all"
    """The answers that `[[share]]` can share: `all`, `whole` ones, or none."""


SDKS = (
    Sdk("openai._base_client", "openai", "stainless", tested="1 to 3", resends="all"),
    Sdk("openai.resources.realtime.realtime", "openai", "realtime", tested="2 and 3", resends="all"),
    Sdk("openai.resources.beta.realtime.realtime", "openai", "realtime", tested="1 to 3", resends="all"),
    Sdk("openai.resources.responses.responses", "openai", "realtime", tested="1 to 3", resends="all"),
    Sdk("anthropic._base_client", "anthropic", "stainless", tested="0 to 2", resends="all"),
    Sdk("groq._base_client", "groq", "stainless", tested="0 and 1", resends="all"),
    Sdk("together._base_client", "together", "stainless", tested="2 and 3", resends="all"),
    Sdk("cerebras.cloud.sdk._base_client", "cerebras", "stainless", "cerebras-cloud-sdk", "1", resends="all"),
    Sdk("fireworks._base_client", "fireworks", "stainless", "fireworks-ai", "1", resends="all"),
    Sdk("perplexity._base_client", "perplexity", "stainless", "perplexityai", "0.46", resends="all"),
    Sdk("sambanova._base_client", "sambanova", "stainless", tested="1", resends="all"),
    Sdk("gradient._base_client", "digitalocean", "stainless", tested="3", resends="all"),
    Sdk("portkey_ai._vendor.openai._base_client", "portkey", "stainless", "portkey-ai", "2", resends="all"),
    Sdk("portkey_ai.api_resources.base_client", "portkey", "portkey", "portkey-ai", "2", resends="all", shares=""),
    Sdk("openrouter.basesdk", "openrouter", "speakeasy", tested="1", resends="all"),
    Sdk("writerai._base_client", "writer", "stainless", "writer-sdk", "3", resends="all"),
    Sdk("google.genai._api_client", "gcp.gemini", "google_genai", "google-genai", "2 and 3", resends="all"),
    Sdk("google.genai.live", "gcp.gemini", "google_live", "google-genai", "2 and 3", resends="all"),
    Sdk("botocore.client", "aws.bedrock", "botocore", "boto3", "1.35 to 1.44", warms=False, resends="all"),
    Sdk("aiobotocore.client", "aws.bedrock", "botocore", tested="2.15 to 3", warms=False, resends="all"),
    Sdk("google.genai._interactions._base_client", "gcp.gemini", "stainless", "google-genai", "2 and 3"),
    Sdk("google.genai._gaos.basesdk", "gcp.gemini", "speakeasy", "google-genai", "2 and 3"),
    Sdk("mistralai.client.basesdk", "mistral_ai", "speakeasy", tested="2 and 3", resends="all"),
    Sdk("mistralai.azure.client.basesdk", "azure.ai.inference", "speakeasy", "mistralai", "2 and 3", "mistral_ai"),
    Sdk("mistralai.gcp.client.basesdk", "gcp.vertex_ai", "speakeasy", "mistralai", "2 and 3", "mistral_ai"),
    Sdk("cohere.core.http_client", "cohere", "cohere", tested="5.13 to 7", resends="whole"),
    Sdk("voyageai.api_resources.api_requestor", "voyage_ai", "voyage", tested="0"),
    Sdk("ollama._client", "ollama", "ollama", tested="0.4.5 to 0.6"),
    Sdk("huggingface_hub.inference._client", "huggingface", "huggingface", tested="0.30 to 2"),
    Sdk("huggingface_hub.inference._generated._async_client", "huggingface", "huggingface", tested="0.30 to 2"),
    Sdk("xai_sdk.client", "x_ai", "xai", "xai-sdk", "1.0 to 1.21", shares="whole"),
    Sdk("xai_sdk.chat", "x_ai", "xai", "xai-sdk", "1.0 to 1.21", shares="whole"),
    Sdk("xai_sdk.image", "x_ai", "xai", "xai-sdk", "1.0 to 1.21", shares="whole"),
    Sdk("xai_sdk.video", "x_ai", "xai", "xai-sdk", "1.0 to 1.21", shares="whole"),
    Sdk("xai_sdk.sync.chat", "x_ai", "xai", "xai-sdk", "1.0 to 1.21", shares="whole"),
    Sdk("xai_sdk.aio.chat", "x_ai", "xai", "xai-sdk", "1.0 to 1.21", shares="whole"),
    Sdk("litellm.llms.custom_httpx.http_handler", "litellm", "litellm", tested="1"),
    Sdk("litellm.llms.custom_httpx.aiohttp_handler", "litellm", "litellm", tested="1"),
    Sdk("litellm.litellm_core_utils.litellm_logging", "litellm", "litellm", tested="1"),
    Sdk("langchain_mistralai.chat_models", "mistral_ai", "httpx_clients", "langchain-mistralai", "1"),
    Sdk("langchain_mistralai.embeddings", "mistral_ai", "httpx_clients", "langchain-mistralai", "1"),
    Sdk("websockets.asyncio.client", "openai", "websocket_clients", tested="13 to 17", warms=False, shares=""),
    Sdk("websockets.sync.client", "openai", "websocket_clients", tested="13 to 17", warms=False, shares=""),
    Sdk("aiohttp.client", "openai", "websocket_clients", tested="3", warms=False, shares=""),
    Sdk("dspy._vendor.lm15.transports._sync", "dspy", "dspy", tested="3"),
    Sdk("dspy._vendor.lm15.transports._async", "dspy", "dspy", tested="3"),
    # No SDKs: who signs what litellm sends to Bedrock, and pools of threads that frameworks call models from.
    Sdk("botocore.auth", "", "signing", warms=False),
    Sdk("dspy.utils.parallelizer", "", "threads", warms=False),
    Sdk("haystack.components.agents.tool_calling", "", "threads", warms=False),
    Sdk("haystack.components.extractors.llm_metadata_extractor", "", "threads", warms=False),
    Sdk("haystack.components.extractors.image.llm_document_content_extractor", "", "threads", warms=False),
    Sdk("haystack.components.retrievers.multi_query_embedding_retriever", "", "threads", warms=False),
    Sdk("haystack.components.retrievers.multi_retriever", "", "threads", warms=False),
    Sdk("agno.agent.agent", "", "threads", warms=False),
    Sdk("agno.team._init", "", "threads", warms=False),
    Sdk("autogen_core.tools._function_tool", "", "threads", warms=False),
    Sdk("semantic_kernel.utils.async_utils", "", "threads", warms=False),
)
