"""Where a wire format keeps what is said: the text of its requests, of its answers, and of its streams."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from tokenguard.facts.patterns import lazy
from tokenguard.facts.tuples import NamedTuple
from tokenguard.providers import messages
from tokenguard.providers.messages import Message, Part

SAID = ("content", "name", "arguments")
"""The keys of a message's parts, in OpenTelemetry's form, that hold what a model has generated."""


class Words(NamedTuple):
    """One format's places.

    What is recorded of content is read by the words that nearly all formats share; a format that has others brings
    readers of its own.
    """

    conversation: str = "messages"
    """The key of a request's messages; a text or a single message will do as well."""
    instructions: str = "system"
    """The key of what stands apart from the conversation."""
    said_now: str = ""
    """The key of the user's latest text, where it stands apart from the conversation."""
    results: str = ""
    """The key of tool results that stand apart from it."""
    texts: tuple[str, ...] = ()
    """The keys of a request's texts, where it is no conversation."""
    streamed: tuple[str, ...] = ()
    """The keys whose strings, anywhere in a stream's events, are what was generated; empty where nothing is."""
    tools: str = "openai"
    """Whose way of wording the descriptions of tools it is that is billed: `openai` or `anthropic`."""
    asked: Callable[[Mapping[str, Any]], list[Message]] = messages.messages
    """The messages of a request, in OpenTelemetry's form."""
    instructed: Callable[[Mapping[str, Any]], list[Part]] = messages.system_instructions
    """The instructions of a request, in the same form."""
    answered: Callable[[object], list[Message]] = messages.answers
    """The messages of an answer."""
    told: Callable[[bytes], list[Message]] = messages.streamed
    """The messages of a stream, of server-sent events or lines of JSON."""

    def turns(self, body: Mapping[str, Any]) -> list[object]:
        """The members of a request's conversation as they are, the oldest first."""
        given = body.get(self.conversation)
        if isinstance(given, str):
            turns: list[object] = [{"role": "user", "content": given}]
        elif isinstance(given, Mapping):
            turns = [given]
        else:
            turns = list(given) if isinstance(given, list | tuple) else []
        if self.said_now:
            turns.append({"role": "user", "message": body.get(self.said_now)})
        if self.results:
            turns += body.get(self.results) or ()
        return turns

    def instructions_of(self, body: Mapping[str, Any]) -> object:
        """The instructions of a request as a message; `None` where it has none."""
        given = body.get(self.instructions)
        if not given:
            return None
        return given if isinstance(given, Mapping) and "parts" in given else {"role": "system", "content": given}

    def messages(self, body: Mapping[str, Any]) -> list[Message]:
        """What a request says, in OpenTelemetry's form; each text of one that is no conversation is the user's."""
        if not self.texts:
            return self.asked(body)
        return [message for key in self.texts if key != self.instructions for message in _texts(body.get(key))]

    def answered_text(self, response: object) -> str:
        """All that an answer says and calls, for an estimate of tokens that were not reported."""
        said = (part.get(key) for message in self.answered(response) for part in message["parts"] for key in SAID)
        return "".join(each if isinstance(each, str) else json.dumps(each, default=str) for each in said if each)

    def streamed_text(self, events: bytes) -> str:
        """All that a stream has generated so far, for an estimate of tokens that were never reported."""
        if not self.streamed:
            return ""
        found = strings_of(self.streamed).findall(events)
        # Where `delta` is itself the text (the Responses API), other events say the same again when a part is done.
        deltas = [string for key, string in found if key == b"delta"]
        return "".join(map(json.loads, deltas or [string for _, string in found]))


WRAPS = ("content", "parts", "prompt", "text")
"""The keys of objects that wrap a text: Gemini's, Imagen's, Nova's."""


def _texts(given: object) -> list[Message]:
    several = given if isinstance(given, list | tuple) else [given]
    if any(isinstance(each, list | tuple) for each in several):  # documents, each in its chunks
        return [message for each in several for message in _texts(each)]
    found = (messages.parts(_content(each)) for each in several if isinstance(each, str | Mapping))
    return [{"role": "user", "parts": parts} for parts in found if parts]


def _content(text: object) -> object:
    """What is in an object that wraps a text."""
    while isinstance(text, Mapping) and (inner := next(filter(None, map(text.get, WRAPS)), None)):
        text = inner
    return text


@lru_cache(maxsize=64)
def strings_of(keys: tuple[str, ...]) -> re.Pattern[bytes]:
    """What finds the strings under these keys in JSON."""
    names = b"|".join(re.escape(key).encode() for key in keys)
    # Not a choice for each byte: an answer may be of megabytes, and its caller waits for this.
    return lazy(rb'"(' + names + rb')"\s*:\s*("[^"\\]*(?:\\.[^"\\]*)*")')


CONVERSATION = Words(streamed=("content", "text", "arguments", "reasoning", "reasoning_content", "refusal", "thinking"))
"""Of OpenAI's chat, which many hosts speak, and of most formats that are like it."""
NOTHING_GENERATED = Words(streamed=())
