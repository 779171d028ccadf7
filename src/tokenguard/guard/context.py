"""What a request's input is made of, counted as far as a ceiling needs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenguard.call.call import Call, Exchange
from tokenguard.inputs.pieces import Piece, Request, taken_apart
from tokenguard.providers.api import Option
from tokenguard.tokens import count_text, upper_bound
from tokenguard.tokens.request import ANTHROPIC_TOOLS, OPENAI_TOOLS


class Context:
    """The input of one call, taken apart when it is first asked for."""

    __slots__ = ("_call", "_of", "_request")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._of: object = None
        self._request: Request[str] | None = None

    @property
    def request(self) -> Request[str]:
        """The request as it would be sent now."""
        if self._request is None or self._of is not self._call.request:
            self._of = self._call.request
            self._request = taken_apart(self._call.request)
        return self._request

    def tokens(self, section: str, enough: int) -> int:
        """The tokens of a section: an upper bound where that is no more than `enough`, else the count."""
        pieces = self._section(section)
        rate = self._rate(section)
        bound = sum(upper_bound(piece.text) for piece in pieces) * max(rate, 1.0)
        if bound <= enough:
            return int(bound)
        return round(sum(map(self.count, pieces)) * rate)

    def largest(self, section: str, enough: int) -> int:
        """The same of the largest piece of a section: of one tool's result, say."""
        pieces = self._section(section)
        bound = max((upper_bound(piece.text) for piece in pieces), default=0)
        return bound if bound <= enough else max(map(self.count, pieces))

    def count(self, piece: Piece[str]) -> int:
        """The tokens of a piece's text."""
        return count_text(piece.text, self._call.model)

    def load(self) -> None:
        """Have the tokenizer loaded, and long texts counted: not on an event loop."""
        for piece in self.request.pieces:
            self.count(piece)

    def _section(self, section: str) -> list[Piece[str]]:
        return [piece for piece in self.request.pieces if piece.section == section]

    def _rate(self, section: str) -> float:
        """Providers word the descriptions of tools in their own way."""
        if section != "tools":
            return 1.0
        return ANTHROPIC_TOOLS if self._call.api.words.tools == "anthropic" else OPENAI_TOOLS


def managed(call: Call, exchange: Exchange, option: Option, most: int) -> Mapping[str, Any] | str:
    """The request with what its provider does itself about a context longer than `most`; or why it has it not."""
    if call.request.get(option.key) is not None:
        return f"it sets {option.key} itself"
    if option.header is not None:
        add = getattr(exchange, "add_to_header", None)
        if add is None:
            return f"its SDK cannot be given the header {option.header[0]}"
        add(*option.header)
    return {**call.request, option.key: option.value(most)}
