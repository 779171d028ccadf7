"""Whose a host is: the providers' hosts, regional and sovereign ones too, and where the work is done."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from tokenguard.facts.patterns import lazy
from tokenguard.facts.tuples import NamedTuple

CLIENTS = {
    "BaseAzureClient": "azure.ai.openai",
    "BaseBedrockClient": "aws.bedrock",
    "BaseVertexClient": "gcp.vertex_ai",
    "BaseFoundryClient": "azure.ai.inference",
    # Anthropic's own platform, billed by a cloud, at Anthropic's prices
    "BaseGoogleCloudClient": "anthropic",
    "AnthropicAWS": "anthropic",
    "AsyncAnthropicAWS": "anthropic",
}
"""Client classes that belong to a provider whatever host they are pointed at (a proxy, a private endpoint)."""

HOSTS = {
    "api.openai.com": "openai",  # and eu.api.openai.com and its kin
    "openai.azure.com": "azure.ai.openai",
    "openai.azure.us": "azure.ai.openai",
    "openai.azure.cn": "azure.ai.openai",
    "cognitiveservices.azure.us": "azure.ai.openai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "api.cognitive.microsoft.com": "azure.ai.openai",  # eastus and its kin
    "services.ai.azure.com": "azure.ai.inference",
    "services.ai.azure.us": "azure.ai.inference",
    "inference.ai.azure.com": "azure.ai.inference",
    "models.ai.azure.com": "azure.ai.inference",
    "api.anthropic.com": "anthropic",
    "aws-external-anthropic.api.aws": "anthropic",
    "claude.googleapis.com": "anthropic",
    "amazonaws.com": "aws.bedrock",
    "amazonaws.com.cn": "aws.bedrock",
    "api.aws": "aws.bedrock",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "rep.googleapis.com": "gcp.vertex_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "openrouter.ai": "openrouter",
    "api.groq.com": "groq",
    "together.ai": "together",  # api, us-api, ca-api
    "together.xyz": "together",
    "api.deepseek.com": "deepseek",
    "api.mistral.ai": "mistral_ai",
    "codestral.mistral.ai": "mistral_ai",
    "api.x.ai": "x_ai",  # and us-east-1.api.x.ai and its kin
    "api.fireworks.ai": "fireworks",
    "api.cerebras.ai": "cerebras",
    "api.perplexity.ai": "perplexity",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    "api.kimi.com": "moonshot_ai",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "router.huggingface.co": "huggingface",
    "api.deepinfra.com": "deepinfra",
    "api.novita.ai": "novita",
    "api.sambanova.ai": "sambanova",
    "integrate.api.nvidia.com": "nvidia",
    "nebius.com": "nebius",  # api.studio, api.tokenfactory
    "nebius.ai": "nebius",
    "inference.baseten.co": "baseten",
    "models.github.ai": "github",
    "models.inference.ai.azure.com": "github",
    "githubcopilot.com": "github-copilot",  # api, api.individual, api.business, api.enterprise
    "dashscope.aliyuncs.com": "alibaba",
    "dashscope-intl.aliyuncs.com": "alibaba",
    "dashscope-us.aliyuncs.com": "alibaba",
    "dashscope-finance.aliyuncs.com": "alibaba",
    "maas.aliyuncs.com": "alibaba",
    "api.minimax.io": "minimax",
    "api.minimaxi.com": "minimax",
    "api.minimax.chat": "minimax",
    "api.minimaxi.chat": "minimax",
    "api.writer.com": "writer",
    "ollama.com": "ollama",
    "api.z.ai": "z_ai",
    "open.bigmodel.cn": "zhipuai",  # the same maker's shop in China, with prices of its own
    "ml.cloud.ibm.com": "ibm.watsonx.ai",  # us-south, eu-de, jp-tok and the others
    "api.voyageai.com": "voyage_ai",
    "ai.mongodb.com": "voyage_ai",
    "azuredatabricks.net": "databricks",
    "cloud.databricks.com": "databricks",
    "gcp.databricks.com": "databricks",
    "snowflakecomputing.com": "snowflake",
    "ai-gateway.vercel.sh": "vercel",
    "router.requesty.ai": "requesty",
    "llmgateway.io": "llmgateway",
    "helicone.ai": "helicone",  # ai-gateway, gateway, oai
    "api.portkey.ai": "portkey",
    "gateway.ai.cloudflare.com": "cloudflare",
    "api.cloudflare.com": "cloudflare",
    "api.hyperbolic.xyz": "hyperbolic",
    "api.lambda.ai": "lambda",
    "api.ai21.com": "ai21",
    "api.inceptionlabs.ai": "inception",
    "api.llama.com": "meta",
    "api.meta.ai": "meta",
    "api.arcee.ai": "arcee",
    "api.avian.io": "avian",
    "api.doubleword.ai": "doubleword",
    "volces.com": "volcengine",  # ark.cn-beijing and its kin
    "bytepluses.com": "byteplus",
    "api.hunyuan.cloud.tencent.com": "tencent",
    "api.lkeap.cloud.tencent.com": "tencent",
    "qianfan.baidubce.com": "baidu",
    "api.siliconflow.com": "siliconflow",
    "api.siliconflow.cn": "siliconflow",
    "api.scaleway.ai": "scaleway",
    "kepler.ai.cloud.ovh.net": "ovhcloud",
    "api.friendli.ai": "friendli",
    "api.upstage.ai": "upstage",
    "api.reka.ai": "reka",
    "inference.do-ai.run": "digitalocean",
    "api.parasail.io": "parasail",
    "llm.chutes.ai": "chutes",
}
"""Ends of host names with the provider behind them. OpenTelemetry's `gen_ai.provider.name` values where it has one."""

REGIONAL = lazy(r"^[a-z0-9-]+-(?=aiplatform\.)|(?<=^aws-external-anthropic\.)[a-z0-9-]+\.")
"""The region in a host's name: `us-central1-aiplatform.googleapis.com`, `aws-external-anthropic.us-west-2.api.aws`."""
OLLAMA_PORT = 11434
SELF_HOSTED = lazy(r"(?:^|[.-])(vllm|ollama|sglang|llamacpp|lmstudio)(?:[.-]|$)")
"""Servers that people run themselves are recognised by the name they gave the machine."""

UNKNOWN: Final = "unknown"
"""The provider behind a host that nobody knows: a company's proxy, a server of one's own."""
SPOKEN_BY_OTHERS: Final = frozenset({"openai", "anthropic"})
"""SDKs whose wire formats everybody speaks: where such a client is pointed elsewhere, it does not talk to its maker."""
SDK_OWN: Final = "sdk"
"""In the policy's `[hosts]`: whoever the SDK is made for. Of a proxy that passes everything on."""

REGIONAL_HOSTS: Final = lazy(
    r"-aiplatform\.googleapis\.com$|\.rep\.googleapis\.com$"
    r"|^(?:us|eu|au|ca|jp|in|sg|kr|gb|ae)\.api\.openai\.com$|^(?:us|ca)-api\.together\.(?:ai|xyz)$"
    r"|^us(?:-[a-z]+-\d)?\.api\.x\.ai$"
)
"""Hosts that keep the work in one place, for a price: Vertex AI's regions (but its global endpoint), OpenAI's and
Together's, xAI's in the US."""
SOVEREIGN_HOSTS: Final = lazy(
    r"\.azure\.(?:us|cn)$|\.amazonaws\.com\.cn$|\.us-gov-[a-z]+-\d\.(?:vpce\.)?(?:amazonaws\.com|api\.aws)$"
    r"|^gov\.api\.openai\.com$|\.moonshot\.cn$|\.minimaxi?\.chat$|\.minimaxi\.com$"
    r"|(?<!dashscope-intl)\.aliyuncs\.com$"
)
"""Hosts of clouds that are apart, for governments and in China: they have price lists of their own. Alibaba has one for
each region, and Singapore's is the one that is known here."""
ABROAD_HOSTS: Final = lazy(r"\.(?!us-)[a-z]{2}(?:-[a-z]+)+-\d\.(?:vpce\.)?(?:amazonaws\.com|api\.aws)$")
"""AWS's regions outside the US, where Bedrock has other prices."""

_own: dict[str, str] = {}


def know_hosts(hosts: Mapping[str, str]) -> None:
    """Know these hosts, too, by globs of `host` or `host:port`: a provider each, or `sdk`. Replaces those given before.

    Clients that have been used keep the endpoint that they had.
    """
    _own.clear()
    _own.update((pattern.lower(), provider) for pattern, provider in hosts.items())
    located.cache_clear()


def hosts_of(setting: str) -> dict[str, str]:
    """The hosts that an environment variable names.

    >>> hosts_of("llm.internal:8000=openai, 127.0.0.1=sdk")
    {'llm.internal:8000': 'openai', '127.0.0.1': 'sdk'}
    """
    pairs = (each.strip().partition("=") for each in setting.split(","))
    return {host.strip(): provider.strip() for host, equals, provider in pairs if equals}


@lru_cache(maxsize=512)
def geo_of(host: str) -> str | None:
    """`regional` for a host that keeps the work in one place, where that has a price, `sovereign` in a cloud apart.

    `abroad` is AWS outside the US.

    >>> geo_of("us-east5-aiplatform.googleapis.com"), geo_of("aiplatform.googleapis.com"), geo_of("x.openai.azure.us")
    ('regional', None, 'sovereign')
    """
    host = host.lower()
    if SOVEREIGN_HOSTS.search(host):
        return "sovereign"
    if ABROAD_HOSTS.search(host):
        return "abroad"
    return "regional" if REGIONAL_HOSTS.search(host) else None


class Endpoint(NamedTuple):
    """Where a client sends its requests."""

    provider: str
    """`gen_ai.provider.name`."""
    host: str
    port: int


def endpoint_of(client: type, host: str, port: int, default: str) -> Endpoint:
    """The endpoint of a client class with this host and port; `default` is its SDK's own provider.

    >>> endpoint_of(object, "llm.example.com", 443, "openai").provider
    'unknown'
    """
    provider = _provider(client, host, port)
    if provider is None:
        provider = UNKNOWN if default in SPOKEN_BY_OTHERS else default
    return Endpoint(default if provider == SDK_OWN else provider, host, port)


def _provider(client: type, host: str, port: int) -> str | None:
    for base in client.__mro__:
        if base.__name__ in CLIENTS:
            return CLIENTS[base.__name__]
    for pattern, provider in _own.items():
        if fnmatchcase(f"{host.lower()}:{port}", pattern if ":" in pattern else f"{pattern}:*"):
            return provider
    if found := listed(host):
        return found
    if named := SELF_HOSTED.search(host.lower()):
        return named[1]
    return "ollama" if port == OLLAMA_PORT else None


def listed(host: str) -> str | None:
    """The provider that a host is known to be of, whatever the policy says of it."""
    labels = REGIONAL.sub("", host.lower()).split(".")
    ends = (".".join(labels[n:]) for n in range(len(labels)))
    return next((found for end in ends if (found := HOSTS.get(end))), None)


@lru_cache(maxsize=512)
def located(url: str, default: str) -> tuple[Endpoint, str]:
    """Where a whole URL points: the endpoint, and the path; `default` is the provider unless the host says else.

    >>> located("https://api.cohere.com/v2/chat", "cohere")
    (Endpoint(provider='cohere', host='api.cohere.com', port=443), '/v2/chat')
    """
    parts = urlsplit(url)
    if default == "gcp.gemini" and "/projects/" in parts.path:
        default = "gcp.vertex_ai"
    port = parts.port or (80 if parts.scheme == "http" else 443)
    return endpoint_of(object, parts.hostname or "", port, default), parts.path
