"""Where the input of a call went: its reported tokens, shared out over the parts of the request by their length."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, Final, TypeVar

from tokenguard.facts import names
from tokenguard.inputs.pieces import MEDIA_CHARS, Head, Request

K = TypeVar("K")
SECTIONS: Final = tuple(map(names.input_attribute, names.INPUT_SECTIONS))
CHARS_PER_TOKEN: Final = 4
FIRST: Final = itemgetter(0)
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
    return shared_out(input_tokens, {name: size for name, size in zip(SECTIONS, sizes, strict=True) if size})


def shared_out(total: int, weights: Mapping[K, int]) -> dict[K, int]:
    """A whole number in parts as large as their weights, which sum to it: the largest remainders are rounded up.

    >>> shared_out(10, {"a": 1, "b": 1, "c": 1})
    {'a': 4, 'b': 3, 'c': 3}
    """
    whole = sum(weights.values())
    if not whole:
        return {}
    parts: dict[K, int] = {}
    left = []
    short = total
    for key, weight in weights.items():
        weight *= total
        parts[key] = part = weight // whole
        short -= part
        left.append((weight - part * whole, key))
    if short:
        left.sort(key=FIRST, reverse=True)
        for _, key in left[:short]:
            parts[key] += 1
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
