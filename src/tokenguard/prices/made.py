"""What pictures, films, speech, pages, ranks and tokens cost, where the price list does not say.

Figures are USD for one of each: a picture, a second, a character, a token, and each names the page of the seller that
has it. They were compared with litellm's price table (1.110.2) on the date of `READ`; what is not in it is not checked,
and makes an estimate. `[prices]` goes before them.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final, TypeVar

from tokenguard.facts.tuples import NamedTuple
from tokenguard.prices.models import spellings
from tokenguard.prices.rates import FREE_QUOTA, PLACE, Rates, complete, without_rates
from tokenguard.prices.tiers import Tier, assumed, marks

Row = TypeVar("Row", "Made", "Fee", "Longer")

READ: Final = "2026-11-26"

ANY: Final = ""
"""The variant of a price that holds whatever the size and quality."""
ASSUMED: Final = "assumed_variant"
"""The basis of a price of a size or quality that the page does not name: the dearest of those that it does."""


UNCHECKED: Final = "unchecked_price"
"""The basis of a price that no list confirms."""


Names = tuple[str, ...]
"""What names of models begin with, and with a `$` after it whole names."""


def _names(words: str) -> Names:
    return tuple(words.split())


def _here_or_us(*names: str) -> str:
    """The same in the profile of the United States, as Bedrock has some."""
    return " ".join(f"{name} us.{name}" for name in names)


def _is_of(model: str, names: Names) -> bool:
    return f"{model}$".startswith(names)


class Made(NamedTuple):
    """The price of one unit of some models of one seller."""

    sellers: str
    """Ids of the price list."""
    models: Names
    unit: str
    """As `Usage` counts it."""
    usd: Mapping[str, str]
    """USD for one, by the size and quality of what is made (`Tier.variant`)."""
    source: str
    checked: bool = True
    """Whether litellm's table has it so."""
    also: Mapping[str, str] = {}
    """USD for one of what else it is billed by."""
    unsure: tuple[str, ...] = ()
    """The sizes and units that the table has not, or that no answer tells apart, where it has the others."""
    longer: Mapping[int, Mapping[str, str]] = {}
    """What is dearer in calls with more input tokens than so many, for the whole call."""


def _made(
    sellers: str,
    models: str,
    unit: str,
    usd: str | Mapping[str, str],
    source: str,
    *,
    checked: bool = True,
    also: Mapping[str, str] | None = None,
    unsure: tuple[str, ...] = (),
    longer: Mapping[int, Mapping[str, str]] | None = None,
) -> Made:
    by_variant = {ANY: usd} if isinstance(usd, str) else usd
    return Made(sellers, _names(models), unit, by_variant, source, checked, also or {}, unsure, longer or {})


def _tokens(
    sellers: str, models: str, source: str, *rates: tuple[int, str], unsure: tuple[str, ...] = ("cache_read",)
) -> Made:
    """A row of tokens: what they cost from so much input on, in USD per million, `"input output cache_read"`."""
    cards = []
    for _, words in rates:
        usd = [f"{Decimal(word).scaleb(-6):f}" for word in words.split()]
        cards.append(dict(zip(("input", "output", "cache_read"), usd, strict=False)))
    first, *dearer = cards
    longer = {above: card for (above, _), card in zip(rates[1:], dearer, strict=True)}
    also = {name: usd for name, usd in first.items() if name != "input"}
    return _made(sellers, models, "input", first["input"], source, also=also, unsure=unsure, longer=longer)


def _by_seller(rows: tuple[Row, ...]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        for seller in row.sellers.split():
            found.setdefault(seller, []).append(row)
    return found


OPENAI: Final = "https://developers.openai.com/api/docs/pricing"
AZURE: Final = "https://azure.microsoft.com/pricing/details/azure-openai"
GOOGLE: Final = "https://ai.google.dev/gemini-api/docs/pricing"
VERTEX: Final = "https://cloud.google.com/vertex-ai/generative-ai/pricing"
AWS: Final = "https://aws.amazon.com/bedrock/pricing"
COHERE: Final = "https://cohere.com/pricing"
VOYAGE: Final = "https://docs.voyageai.com/docs/pricing"
TOGETHER: Final = "https://www.together.ai/pricing"
XAI: Final = "https://docs.x.ai/docs/models"
ALIBABA: Final = "https://www.alibabacloud.com/help/en/model-studio/model-pricing"
MISTRAL: Final = "https://docs.mistral.ai/models/model-cards/voxtral-tts-26-03"

PORTRAIT, LANDSCAPE = "1024x1792", "1792x1024"

MADE: Final = (
    # Free, and exactly so: https://platform.openai.com/docs/guides/moderation
    _made(
        "openai azure",
        "omni-moderation text-moderation",
        "request",
        "0",
        "https://platform.openai.com/docs/guides/moderation",
    ),
    _made("openai azure", "vector-store$", "megabyte_days", "0.0001", OPENAI, checked=False),
    _made(
        *("openai", "container$", "request"),
        {"1g": "0.03", "4g": "0.12", "16g": "0.48", "64g": "1.92"},
        OPENAI,
        unsure=("4g", "16g", "64g"),
    ),
    _made("azure", "container$", "request", "0.033", AZURE),
    _made("openai azure", "sora-2$", "output_seconds", "0.10", OPENAI),
    _made(
        *("openai azure", "sora-2-pro$", "output_seconds"),
        {"720x1280": "0.30", "1280x720": "0.30", PORTRAIT: "0.50", LANDSCAPE: "0.50"},
        OPENAI,
    ),
    # OpenAI itself has retired these on 2026-05-12, at these prices; litellm has Azure's DALL-E 3 a tenth dearer
    _made(
        *("openai azure", "dall-e-3$", "images"),
        {
            "standard-1024x1024": "0.04",
            **dict.fromkeys((f"standard-{PORTRAIT}", f"standard-{LANDSCAPE}", "hd-1024x1024"), "0.08"),
            **dict.fromkeys((f"hd-{PORTRAIT}", f"hd-{LANDSCAPE}"), "0.12"),
        },
        AZURE,
        checked=False,
    ),
    _made(
        *("openai azure", "dall-e-2$", "images"),
        {"standard-256x256": "0.016", "standard-512x512": "0.018", "standard-1024x1024": "0.02"},
        AZURE,
        checked=False,
    ),
    _made("google", "imagen-4.0-ultra-generate", "images", "0.06", GOOGLE, checked=False),
    _made("google", "imagen-4.0-fast-generate", "images", "0.02", GOOGLE, checked=False),
    _made("google", "imagen-4.0-generate", "images", "0.04", GOOGLE, checked=False),
    _made("google", "imagen-3.0-fast-generate", "images", "0.02", VERTEX),
    _made("google", "imagen-3.0-generate", "images", "0.04", VERTEX),
    _made("google", "imagen-3.0-capability", "images", "0.04", VERTEX, checked=False),
    _made("google", "veo-3.1-lite-generate", "output_seconds", {"720p": "0.05", "1080p": "0.08"}, GOOGLE),
    _made(
        *("google", "veo-3.1-fast-generate", "output_seconds"),
        {"720p": "0.10", "1080p": "0.12", "4k": "0.30"},
        GOOGLE,
    ),
    _made("google", "veo-3.1-generate", "output_seconds", {"720p": "0.40", "1080p": "0.40", "4k": "0.60"}, GOOGLE),
    _made("google", "veo-3.0-fast-generate", "output_seconds", {"720p": "0.10", "1080p": "0.12"}, GOOGLE),
    _made("google", "veo-3.0-generate", "output_seconds", {"720p": "0.40", "1080p": "0.40"}, GOOGLE),
    _made(
        *("aws", "amazon.nova-canvas", "images"),
        {"standard-1024": "0.04", "premium-1024": "0.06", "standard-2048": "0.06", "premium-2048": "0.08"},
        AWS,
        checked=False,
    ),
    _made(
        *("aws", "amazon.titan-image-generator", "images"),
        {"standard-512": "0.008", "premium-512": "0.010", "standard-1024": "0.010", "premium-1024": "0.012"},
        AWS,
        checked=False,
    ),
    _made("aws", "amazon.nova-reel", "output_seconds", "0.08", AWS, checked=False),
    _made("aws", "luma.ray-v2", "output_seconds", {"540p": "0.75", "720p": "1.50"}, AWS, checked=False),
    _made("aws", "stability.sd3-5-large stability.sd3-large", "images", "0.08", AWS),
    _made("aws", "stability.stable-image-core", "images", "0.04", AWS),
    _made("aws", "stability.stable-image-ultra", "images", "0.14", AWS),
    _made("aws", _here_or_us("stability.stable-conservative-upscale"), "images", "0.40", AWS),
    _made("aws", _here_or_us("stability.stable-creative-upscale"), "images", "0.60", AWS),
    _made("aws", _here_or_us("stability.stable-fast-upscale"), "images", "0.03", AWS),
    _made("aws", _here_or_us("stability.stable-outpaint"), "images", "0.06", AWS),
    _made("aws", _here_or_us("stability.stable-style-transfer"), "images", "0.08", AWS),
    _made(
        "aws",
        _here_or_us(
            *map("stability.stable-image-{}".format, ("control-", "erase-", "inpaint", "remove-", "search-", "style-"))
        ),
        "images",
        "0.07",
        AWS,
    ),
    _made("aws", "cohere.rerank-v3-5", "request", "0.002", AWS),
    _made("aws", "amazon.rerank-v1", "request", "0.001", AWS),
    _made("cohere", "rerank-v4.0-pro", "request", "0.0025", COHERE),
    _made(
        "cohere",
        "rerank-v4.0-fast rerank-v3.5 rerank-english-v3.0 rerank-multilingual-v3.0",
        "request",
        "0.002",
        COHERE,
    ),
    _made("voyageai", "rerank-2-lite$ rerank-2.5-lite$ rerank-3-lite$", "input", "0.00000002", VOYAGE),
    _made("voyageai", "rerank-2$ rerank-2.5$ rerank-3$", "input", "0.00000005", VOYAGE),
    # Pictures by the billion pixels, $0.60, of which 560 count as a token
    _made(
        *("voyageai", "voyage-multimodal-3", "input", "0.00000012", VOYAGE),
        also={"input_image": "0.000000336"},
        unsure=("input_image",),
    ),
    _made(
        "together", "mixedbread-ai/mxbai-rerank salesforce/llama-rank", "input", "0.0000001", TOGETHER, checked=False
    ),
    _made("cohere", "embed-english-v3", "input", "0.0000001", COHERE, also={"images": "0.0001"}),
    _made(
        *("cohere", "embed-english-light-v3 embed-multilingual-v3", "input", "0.0000001", COHERE),
        also={"images": "0.0001"},
        unsure=("images",),
    ),
    # litellm has the price of a thousand tokens as that of one
    _made(
        *("cohere", "embed-multilingual-light-v3", "input", "0.0000001", COHERE),
        checked=False,
        also={"images": "0.0001"},
    ),
    # Seconds by how often a frame is looked at, which no answer tells: as the most often
    _made(
        *("google", "multimodalembedding", "images", "0.0001", VERTEX),
        also={"characters": "0.0000002", "input_seconds": "0.002"},
        unsure=("input_seconds",),
    ),
    # Spaces seem to be free, which no page says (BerriAI/litellm-docs#1243): at the most
    _made(
        *("mistral", "voxtral-mini-tts-2603 voxtral-mini-tts-latest", "characters", "0.000016", MISTRAL),
        unsure=("characters",),
    ),
    _made("x-ai", "grok-imagine-image-2.0", "images", {"1k": "0.04", "2k": "0.06"}, XAI),
    _made("x-ai", "grok-imagine-image-quality grok-imagine-image-pro", "images", "0.05", XAI),
    # As litellm has them; but a picture that a film begins with ($0.002, from 1.5 on $0.01) is billed, and not counted
    _made(
        *("x-ai", "grok-imagine-video-1.5-lite", "output_seconds"),
        {"480p": "0.02", "720p": "0.03", "1080p": "0.14"},
        XAI,
        checked=False,
    ),
    _made(
        *("x-ai", "grok-imagine-video-1.5", "output_seconds"),
        {"480p": "0.08", "720p": "0.14", "1080p": "0.25"},
        XAI,
        checked=False,
    ),
    _made(*("x-ai", "grok-imagine-video", "output_seconds"), {"480p": "0.05", "720p": "0.07"}, XAI, checked=False),
    _made("x-ai", "grok-imagine-image", "images", "0.02", XAI),
    _made("aws", "amazon.titan-embed-image-v1", "input", "0.0000008", AWS, also={"images": "0.00006"}),
    # Of pictures as Cohere sells them itself
    _made(
        *("aws", "cohere.embed-english-v3 cohere.embed-multilingual-v3", "input", "0.0000001", AWS),
        also={"images": "0.0001"},
        unsure=("images",),
    ),
    _made(
        *("aws", "cohere.embed-v4 us.cohere.embed-v4 global.cohere.embed-v4", "input", "0.00000012", AWS),
        also={"input_image": "0.00000047"},
        unsure=("input_image",),
    ),
    # Tuned models, whoever tuned them; their snapshots are sold at one price
    _tokens("openai", "ft:gpt-4.1: ft:gpt-4.1$", OPENAI, (0, "3 12 0.75"), unsure=()),
    _tokens("openai", "ft:gpt-4.1-mini: ft:gpt-4.1-mini$", OPENAI, (0, "0.8 3.2 0.2"), unsure=()),
    _tokens("openai", "ft:gpt-4.1-nano: ft:gpt-4.1-nano$", OPENAI, (0, "0.2 0.8 0.05"), unsure=()),
    _tokens("openai", "ft:o4-mini: ft:o4-mini$", OPENAI, (0, "4 16 1"), unsure=()),
    # In Singapore. What a cache has kept by itself and what it was asked to keep have different prices, and answers do
    # not tell them apart; nor, of the last two, whether the model has thought, which costs three and two times as much
    _tokens("alibaba", "qwen3.8-max$", ALIBABA, (0, "2 6 0.25")),
    _tokens("alibaba", "qwen3.8-flash$", ALIBABA, (0, "0.15 0.47 0.016")),
    _tokens("alibaba", "qwen3.7-max$", ALIBABA, (0, "2.5 7.5 0.5")),
    _tokens("alibaba", "qwen3.7-plus$", ALIBABA, (0, "0.4 1.6 0.08"), (256_000, "1.2 4.8 0.24")),
    _tokens("alibaba", "qwen3.5-plus$", ALIBABA, (0, "0.4 2.4"), (256_000, "0.5 3")),
    _tokens(
        *("alibaba", "qwen3-max$ qwen3-max-preview$ qwen3-max-2026-01-23$", ALIBABA),
        *((0, "1.2 6"), (32_000, "2.4 12"), (128_000, "3 15")),
    ),
    _tokens(
        *("alibaba", "qwen3-coder-plus$", ALIBABA),
        *((0, "1 5 0.1"), (32_000, "1.8 9 0.18"), (128_000, "3 15 0.3"), (256_000, "6 60 0.6")),
    ),
    _tokens(
        *("alibaba", "qwen3-coder-flash$", ALIBABA),
        *((0, "0.3 1.5 0.08"), (32_000, "0.5 2.5 0.12"), (128_000, "0.8 4 0.2"), (256_000, "1.6 9.6 0.4")),
    ),
    _tokens("alibaba", "qwen3-vl-plus$", ALIBABA, (0, "0.2 1.6"), (32_000, "0.3 2.4"), (128_000, "0.6 4.8")),
    _tokens("alibaba", "qwen-flash$", ALIBABA, (0, "0.05 0.4"), (256_000, "0.25 2")),
    _tokens("alibaba", "qwen-max$", ALIBABA, (0, "1.6 6.4")),
    _tokens("alibaba", "qwq-plus$", ALIBABA, (0, "0.8 2.4")),
    _tokens("alibaba", "qwen-plus$", ALIBABA, (0, "0.4 1.2"), (256_000, "1.2 3.6"), unsure=("cache_read", "output")),
    _tokens("alibaba", "qwen-turbo$", ALIBABA, (0, "0.05 0.2"), unsure=("cache_read", "output")),
)
"""The first that matches counts."""
_MADE: Final = _by_seller(MADE)


class Fee(NamedTuple):
    """What a seller asks for beside the tokens of listed models."""

    sellers: str
    models: Names
    name: str
    """As `Usage` counts it."""
    usd: str | None
    """USD for one, whatever the list says; `None`: as it says."""
    basis: str | None = None
    """What a call that is billed for it is marked with."""


SEARCHED: Final = "assumed_search"
"""The model searches for every answer, and does not tell how often: once."""

FEES: Final = (
    Fee("openai azure", _names("gpt-4o-search-preview gpt-4o-mini-search-preview"), "web_searches", "0.025", SEARCHED),
    Fee("openai azure", _names("gpt-5-search-api"), "web_searches", "0.01", SEARCHED),
    # $10 a thousand by the tool `web_search`, $25 by `web_search_preview`, and nothing tells them apart here: `OPENAI`
    Fee("openai", _names("gpt-4o gpt-4.1"), "web_searches", None, UNCHECKED),
    Fee("azure", _names("gpt- o0 o1 o2 o3 o4 o5 o6 o7 o8 o9"), "web_searches", "0.014"),
    Fee("google azure", _names("claude-"), "web_searches", "0.01"),
    # $5 to $14 a thousand, by how much of what is found is read; the list has the dearest alone:
    # https://docs.perplexity.ai/getting-started/pricing
    Fee("perplexity", _names("sonar"), "request", None, ASSUMED),
    # By the prompt that searched, from 3 on by the search, and free for the first so many of a day or month: `GOOGLE`
    Fee("google", _names("gemini-live-2."), "web_searches", "0.035", FREE_QUOTA),
    Fee("google", _names("gemini-"), "web_searches", None, FREE_QUOTA),
    Fee("google", _names("gemini-2. gemini-live-2."), "map_searches", "0.025", FREE_QUOTA),
    Fee("google", _names("gemini-"), "map_searches", "0.014", FREE_QUOTA),
    # https://docs.x.ai/developers/pricing, "Tool Invocation Costs": of the web, and of collections
    Fee("x-ai", _names("grok-"), "web_searches", "0.005"),
    Fee("x-ai", _names("grok-"), "file_searches", "0.0025"),
    # A token of an explicit cache, an hour: `GOOGLE`; not checked, and what is rented is an estimate anyway
    Fee("google", _names("gemini-2.5-pro gemini-3-pro gemini-3.1-pro"), "token_hours", "0.0000045"),
    Fee("google", _names("gemini-2.5-flash gemini-3-flash gemini-3.1-flash"), "token_hours", "0.000001"),
    # A token of sound that is written down, as the pages of these models have it; the list has $6 and $3 a million:
    # https://developers.openai.com/api/docs/models/gpt-4o-transcribe, and litellm since BerriAI/litellm#27875
    Fee("openai", _names("gpt-4o-mini-transcribe"), "input_audio", "0.00000125", UNCHECKED),
    Fee("openai", _names("gpt-4o-transcribe"), "input_audio", "0.0000025", UNCHECKED),
    # A token of a picture that is embedded: `COHERE`, and litellm
    Fee("cohere", _names("embed-v4"), "input_image", "0.00000047"),
    # A token that a model is tuned with: `OPENAI`
    Fee("openai", _names("gpt-4.1-nano"), "trained_tokens", "0.0000015", UNCHECKED),
    Fee("openai", _names("gpt-4.1-mini"), "trained_tokens", "0.000005", UNCHECKED),
    Fee("openai", _names("gpt-4.1"), "trained_tokens", "0.000025", UNCHECKED),
    Fee("openai", _names("gpt-4o-mini"), "trained_tokens", "0.000003", UNCHECKED),
    Fee("openai", _names("gpt-4o"), "trained_tokens", "0.000025", UNCHECKED),
    Fee("openai", _names("gpt-3.5-turbo"), "trained_tokens", "0.000008", UNCHECKED),
)
"""Of each name the first that matches counts. Those of searches are as litellm has them on the date of `READ`."""
_FEES: Final = _by_seller(FEES)


class Longer(NamedTuple):
    """What a seller asks for calls with more input than so much, where the list has one price for all."""

    sellers: str
    models: Names
    """What the list's ids of them begin with."""
    above: int
    """Input tokens: with more, the whole call costs so much more."""
    sent: Decimal
    """The factor of what is sent, cached or not."""
    generated: Decimal
    source: str


SENT: Final = ("input", "cache_read", "cache_write", "cache_write_1h")

LONGER: Final = (
    # "Long Context": Sonnet 4.6 costs the same however long
    Longer(
        "aws",
        _names(" ".join(f"{at}.anthropic.claude-sonnet-4-{of}" for at in ("global", "regional") for of in ("2", "5-"))),
        200_000,
        Decimal(2),
        Decimal("1.5"),
        f"{AWS}, as listed by litellm on {READ}",
    ),
    # As invoiced: https://github.com/BerriAI/litellm/pull/38615
    Longer("aws", _names("openai.gpt-5.4 openai.gpt-5.5"), 272_000, Decimal(2), Decimal("1.5"), AWS),
)
_LONGER: Final = _by_seller(LONGER)


def longer(provider_id: str, model: str) -> Longer | None:
    """What is asked for the long calls of a listed model, by its id in the list.

    >>> longer("aws", "regional.anthropic.claude-sonnet-4-5-20250929-v1:0").above
    200000
    """
    return next((row for row in _LONGER.get(provider_id, ()) if _is_of(model, row.models)), None)


class Router(NamedTuple):
    """A model of a seller's that chooses another one for each call, for so much more."""

    sellers: str
    models: tuple[str, ...]
    """A part of the name that is asked for: the answer names the model that was chosen."""
    usd_per_mtok: Decimal
    """USD per million tokens of input."""
    source: str


ROUTED: Final = "assumed_router"
"""The basis of a price with a router's fee."""
ROUTERS: Final = (
    Router(
        "azure",
        ("model-router", "model_router"),
        Decimal("0.14"),
        f"{AZURE}, as listed by litellm on {READ}, for the router",
    ),
)


def router(provider_id: str, model: str) -> Router | None:
    """The router that is asked for by this name, if it is one's.

    >>> router("azure", "model-router").usd_per_mtok
    Decimal('0.14')
    """
    found = (
        each for each in ROUTERS if provider_id in each.sellers.split() and any(map(model.__contains__, each.models))
    )
    return next(found, None)


def fees(provider_id: str, *models: str) -> dict[str, Fee]:
    """What is asked for beside the tokens of a listed model, by its names, the first first; by the name in `Usage`."""
    found: dict[str, Fee] = {}
    for model in models:
        for fee in _FEES.get(provider_id, ()):
            if _is_of(model, fee.models):
                found.setdefault(fee.name, fee)
    return found


def made(provider_id: str, model: str, tier: Tier) -> Rates | None:
    """The rates of a model that is billed by what it makes, or `None`: none that is known.

    >>> made("openai", "sora-2", Tier()).card(0).output_seconds  # femto-dollars
    100000000000000
    """
    rows = _MADE.get(provider_id)
    if rows is None:
        return None
    for name, basis in spellings(provider_id, model):
        for row in rows:
            if _is_of(name, row.models):
                usd = row.usd.get(tier.variant or ANY, row.usd.get(ANY))
                if usd is None:
                    basis, usd = basis or ASSUMED, max(row.usd.values(), key=Decimal)
                factor, tier_basis = assumed(marks(tier, provider_id, name, model), provider_id)
                given = {of: Decimal(each) * 10**6 for of, each in {row.unit: usd, **row.also}.items()}
                card, derived = complete(given, name, factor)
                bands = [(0, card)]
                for above, dearer in row.longer.items():
                    longer = {of: Decimal(each) * 10**6 for of, each in dearer.items()}
                    bands.append((above, complete({**given, **longer}, name, factor)[0]))
                checked = row.checked and tier.variant not in row.unsure
                source = f"{row.source}, {f'as listed by litellm on {READ}' if checked else 'not checked'}"
                basis = basis or tier_basis or (None if checked else UNCHECKED)
                derived |= {PLACE[unit]: UNCHECKED for unit in row.unsure if unit in given}
                return Rates(
                    tuple(bands),
                    source,
                    f"{provider_id}/{name}",
                    basis,
                    tuple(derived.items()),
                    without_rates(given),
                )
    return None
