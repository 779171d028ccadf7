"""A conversation without its oldest turns, where that is no loss: not where the provider's cache holds them."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final
from zlib import crc32

from tokenguard.call.call import Call
from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import Usage
from tokenguard.guard.context import Context
from tokenguard.inputs.pieces import SYSTEM_ROLES

REMEMBERED: Final = 4096
"""Conversations of which is known whether the provider's cache holds them."""
HELD: Final = 0.5
"""The share of the input that was read from the cache, from which on a conversation counts as held."""

Conversation = tuple[str, str | None, int]


class Trimmed(NamedTuple):
    """A request without its oldest turns."""

    body: Mapping[str, Any]
    turns: int
    """How many were left out."""


class Trimmer:
    """Leaves out turns, and learns from reported usage which conversations are cached."""

    def __init__(self) -> None:
        self._held: OrderedDict[Conversation, None] = OrderedDict()

    def trim(self, call: Call, context: Context, most: int) -> Trimmed | str:
        """The request with a history of at most so many tokens, as far as whole turns allow; or why it is not trimmed.

        Left out are turns from the oldest on, each from the user's words to the next ones, tool calls with their
        results; never the system prompt, and never the last turn. They go in steps of half of what is allowed, so that
        what is left begins the same for several calls, and a provider's cache may hold it.
        """
        if context.request.marked is not None:
            return "the request marks its prompt for the provider's cache, and a shorter one would be read anew"
        if self._conversation(call) in self._held:
            return "the provider reads this conversation from its cache, and a shorter one would be read anew"
        key = call.api.words.conversation
        members = call.request.get(key)
        if not isinstance(members, list | tuple):
            return "it carries no history"
        turns = _turns(call, members)
        if turns is None:
            return f"the turns of a {call.api.id} request are not known one by one"
        history = [0] * len(members)
        for piece in context.request.pieces:
            if piece.section == "history":
                history[piece.number] += context.count(piece)
        step = max(1, most // 2)
        wanted = math.ceil((sum(history) - most) / step) * step
        dropped: set[int] = set()
        left_out = 0
        for turn in turns[:-1]:
            if sum(history[n] for n in dropped) >= wanted:
                break
            dropped.update(turn)
            left_out += 1
        if not left_out:
            return "it has no earlier turn"
        kept = [member for n, member in enumerate(members) if n not in dropped]
        return Trimmed({**call.request, key: kept}, left_out)

    def learn(self, call: Call, usage: Usage) -> None:
        """See whether the provider's cache holds a conversation that was sent whole."""
        conversation = self._conversation(call)
        if conversation is None:
            return
        if usage.input and (usage.cache_read or 0) >= HELD * usage.input:
            self._held[conversation] = None
            self._held.move_to_end(conversation)
            if len(self._held) > REMEMBERED:
                self._held.popitem(last=False)
        else:
            self._held.pop(conversation, None)

    def _conversation(self, call: Call) -> Conversation | None:
        """What a conversation is known by: its host, model, and beginning."""
        members = call.request.get(call.api.words.conversation)
        if not isinstance(members, list | tuple) or not members:
            return None
        begun = repr(members[:2]).encode("utf-8", "backslashreplace")
        return call.endpoint.host, call.model, crc32(begun)


def _turns(call: Call, members: list[Any] | tuple[Any, ...]) -> list[list[int]] | None:
    """The members of each turn, the oldest first, without what is the system's; `None` where they cannot be told."""
    words = call.api.words
    said = words.asked(call.request)
    if words.said_now or len(said) != len(members):
        return None
    turns: list[list[int]] = [[]]
    for n, message in enumerate(said):
        if message["role"] in SYSTEM_ROLES:
            continue
        results = any(part["type"] == "tool_call_response" for part in message["parts"])
        if message["role"] == "user" and not results and any(said[m]["role"] == "user" for m in turns[-1]):
            turns.append([])
        turns[-1].append(n)
    return turns
