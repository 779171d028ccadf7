"""Bedrock's pictures, films and ranks: Nova Canvas, Titan, Stability, Nova Reel, Luma, and rerank models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tokenguard.facts.patterns import lazy
from tokenguard.facts.usage import Usage
from tokenguard.providers.api import Api
from tokenguard.providers.reading import Reading, fields, items, text, whole
from tokenguard.providers.units import Units
from tokenguard.providers.words import Words

SEARCH_DOCUMENTS = 100
"""Documents that one search ranks; more of them are billed as more searches (https://aws.amazon.com/bedrock/pricing)."""
FILM_SECONDS = 6
"""Of a film by Nova Reel, and the least of one by Luma is 5."""


def read_pictures(response: object) -> Reading:
    """Pictures, as Nova, Titan and Stability have them."""
    made = fields(response).get("images")
    return Reading(Usage(images=len(made)) if isinstance(made, list) else None)


def _settings(body: Mapping[str, Any]) -> Mapping[str, Any]:
    return fields(body.get("imageGenerationConfig"))


def canvas_variant(body: Mapping[str, Any]) -> str:
    """`quality-size`: by the longer side, up to 512 (Titan alone), 1024 or 2048 pixels."""
    settings = _settings(body)
    side = max(whole(settings.get("width")) or 1024, whole(settings.get("height")) or 1024)
    least = 512 if "titan" in str(body.get("model")) else 1024
    return f"{settings.get('quality') or 'standard'}-{next((n for n in (least, 1024, 2048) if side <= n), side)}"


CANVAS = Api(
    "invoke_canvas",
    "image_generation",
    (),
    (),
    read_pictures,
    lambda events: Reading(),
    Words(texts=("textToImageParams", "inPaintingParams", "outPaintingParams", "imageVariationParams")),
    units=Units(
        lambda body: Usage(images=max(whole(_settings(body).get("numberOfImages")) or 1, 1)), variant=canvas_variant
    ),
)
STABILITY = Api(
    "invoke_stability",
    "image_generation",
    (),
    (),
    read_pictures,
    lambda events: Reading(),
    Words(texts=("prompt",)),
    units=Units(lambda body: Usage(images=1)),
)


def searches(body: Mapping[str, Any]) -> int:
    """The searches that a request is billed as."""
    documents = body.get("documents")
    return -(-len(documents) // SEARCH_DOCUMENTS) if isinstance(documents, list) and documents else 1


def told_rank(body: Mapping[str, Any], reading: Reading) -> Reading:
    """With the searches, which the answer does not count."""
    return reading._replace(usage=Usage(request=searches(body)))


def rank_body(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of bedrock-agent-runtime's `Rerank`, as `InvokeModel` has the same."""
    ranking = fields(fields(params.get("rerankingConfiguration")).get("bedrockRerankingConfiguration"))
    arn = text(fields(ranking.get("modelConfiguration")).get("modelArn"))
    asked = " ".join(str(fields(each.get("textQuery")).get("text") or "") for each in items(params.get("queries")))
    sources = [fields(each.get("inlineDocumentSource")) for each in items(params.get("sources"))]
    said = [fields(each.get("textDocument")).get("text") or each.get("jsonDocument") for each in sources]
    return {"model": arn and arn.rpartition("/")[2], "query": asked, "documents": said}


RANK = Api(
    "invoke_rerank",
    "rerank",
    (),
    (),
    lambda response: Reading(),
    lambda events: Reading(),
    Words(texts=("query", "documents")),
    requests=searches,
    units=Units(lambda body: Usage(request=searches(body)), told_rank),
)

# --- jobs: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_StartAsyncInvoke.html ------------------


def read_job(response: object) -> Reading:
    """A job, as it was started or asked for: under way until it is completed, or has failed, which is free."""
    body = fields(response)
    arn, status = text(body.get("invocationArn")), body.get("status")
    failed = status == "Failed"
    return Reading(
        Usage(output_seconds=0) if failed else None,
        id=None if arn is None else arn.rpartition("/")[2],
        error="Failed" if failed else None,
        complete=failed or status == "Completed",
    )


def most_film(body: Mapping[str, Any]) -> Usage:
    """The seconds that are asked for: a number, or as Luma has it `5s`."""
    asked = fields(body.get("videoGenerationConfig")).get("durationSeconds") or body.get("duration")
    seconds = whole(asked.removesuffix("s") if isinstance(asked, str) else asked)
    return Usage(output_seconds=seconds or FILM_SECONDS)


FILM = Api(
    "invoke_film",
    "video_generation",
    (),
    (),
    read_job,
    lambda events: Reading(),
    Words(texts=("textToVideoParams", "multiShotAutomatedParams", "prompt")),
    changes=True,
    units=Units(
        most_film,
        lambda body, reading: reading._replace(usage=most_film(body)),
        lambda body: text(body.get("resolution")),
    ),
)

MODELS: tuple[tuple[re.Pattern[str], Api], ...] = (
    (lazy(r"titan-image|nova-canvas"), CANVAS),
    (lazy(r"\bstability\."), STABILITY),
    (lazy(r"rerank"), RANK),
)
"""The wire formats of `InvokeModel` by the model."""
FILMS = lazy(r"nova-reel|\bluma\.")
"""Models that are run by `StartAsyncInvoke`."""
APIS = (CANVAS, STABILITY, RANK, FILM)
