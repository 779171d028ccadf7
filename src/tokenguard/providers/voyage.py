"""Voyage's wire formats beside OpenAI's embeddings: of pictures and films, of chunks in context, and ranks.

https://docs.voyageai.com/reference/multimodal-embeddings-api, https://docs.voyageai.com/docs/pricing
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tokenguard.facts.usage import Usage
from tokenguard.providers.api import Api
from tokenguard.providers.openai import EMBEDDINGS
from tokenguard.providers.reading import Reading, count, fields, items, text
from tokenguard.providers.units import Units
from tokenguard.providers.words import Words

PIXELS_OF_TOKEN = 560
"""Pixels that count as a token, and are billed by themselves (https://docs.voyageai.com/docs/multimodal-embeddings)."""
LARGEST_PICTURE = 16_000_000
"""Pixels of one picture, at the most."""


def read_multimodal(response: object) -> Reading:
    """Vectors of text and pictures: the tokens of both, and which of them are pixels."""
    body = fields(response)
    said = fields(body.get("usage"))
    words, pixels = count(said.get("text_tokens")), count(said.get("image_pixels"))
    films = count(said.get("video_pixels")) or 0
    if words is None and pixels is None:
        return Reading(model=text(body.get("model")))
    seen = math.ceil(((pixels or 0) + films) / PIXELS_OF_TOKEN)
    return Reading(Usage(input=(words or 0) + seen, input_image=seen), text(body.get("model")))


def most_multimodal(body: Mapping[str, Any]) -> Usage:
    """The pixels of its pictures, at the most; a film is taken for as many as a request may have in all."""
    content = [piece for each in items(body.get("inputs")) for piece in items(each.get("content"))]
    pictures = sum(1 for piece in content if str(piece.get("type")).startswith(("image", "video")))
    tokens = math.ceil(pictures * LARGEST_PICTURE / PIXELS_OF_TOKEN)
    return Usage(input=tokens, input_image=tokens)


MULTIMODAL = Api(
    "voyage_multimodal",
    "embeddings",
    ("/multimodalembeddings",),
    (),
    read_multimodal,
    lambda events: Reading(),
    Words(texts=("inputs",)),
    units=Units(most_multimodal),
)
IN_CONTEXT = EMBEDDINGS._replace(
    id="voyage_in_context", paths=("/contextualizedembeddings",), words=Words(texts=("inputs",))
)

APIS = (MULTIMODAL, IN_CONTEXT)
