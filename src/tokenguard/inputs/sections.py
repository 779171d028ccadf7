"""Where the input of a call went: its reported tokens, shared out over the parts of the request by their length."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final, TypeVar

from tokenguard.facts import names
from tokenguard.inputs.pieces import MEDIA_CHARS, Head, Request

K = TypeVar("K")
SECTIONS: Final = tuple(map(names.input_attribute, names.INPUT_SECTIONS))
CHARS_PER_TOKEN: Final = 4
MAX_TOOLS: Final = 256
"""Tools of one request that are told apart."""


def sections(request: Request[Any], input_tokens: int) -> dict[str, int]:
    """The tokens of each section that the request has, by its attribute; they sum to `input_tokens`.

    What the provider remembers and adds by itself, where it does, is history.
    """
    head, history, media = request.head, request.history, MEDIA_CHARS * request.media
    if head.remembered:
        chars = history + request.system + head.tools + request.results + request.last + media
        history += max(0, input_tokens - chars // CHARS_PER_TOKEN) * CHARS_PER_TOKEN
    sizes = (request.system, head.tools, history, request.results, request.last, media)
    return shared_out(input_tokens, SECTIONS, sizes)


def shared_out(total: int, keys: Iterable[K], weights: Collection[int]) -> dict[K, int]:
    """A whole number in parts as large as their weights, which sum to it; what weighs nothing gets none.

    Each begins where the one before it ends, rounded down: so each is less than one off its share.

    >>> shared_out(10, "abcd", [1, 1, 0, 1])
    {'a': 3, 'b': 3, 'd': 4}
    """
    whole = sum(weights)
    parts: dict[K, int] = {}
    weighed = given = 0
    for key, weight in zip(keys, weights, strict=True):
        if weight:
            weighed += weight
            upto = weighed * total // whole
            parts[key] = upto - given
            given = upto
    return parts


def tool_shares(head: Head[Any]) -> dict[str, float]:
    """The part of the tools' definitions that each tool is, by its name; empty without tools."""
    sizes: dict[str, int] = {}
    for piece in head.pieces:
        if piece.section == "tools":
            name = piece.name if piece.name in sizes or len(sizes) < MAX_TOOLS else "other"
            sizes[name] = sizes.get(name, 0) + len(piece.text)
    whole = sum(sizes.values())
    return {name: size / whole for name, size in sizes.items()}
