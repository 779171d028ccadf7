"""The part of a prompt that a provider can cache, as a hash; nothing of the prompt itself is kept.

Providers cache a request from its beginning: tools, system prompt, and the messages before the user's last one. A
request that goes on with an earlier conversation begins with it, answers included, and says nothing new.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from tokenguard.providers.reading import fields

HEAD: Final = ("tools", "toolConfig", "system", "systemInstruction", "instructions")
"""Where requests keep what goes before the conversation, in any wire format."""
CONVERSATION: Final = ("messages", "input", "contents")


class Prefixes:
    """The prompt prefixes of one test's calls."""

    def __init__(self) -> None:
        self.hashes: set[str] = set()
        """16 hex digits each."""
        self._conversations: set[str] = set()

    def add(self, body: Mapping[str, Any]) -> None:
        """Note the prefix of a request; one without any, or that continues an earlier conversation, adds nothing."""
        if body.get("previous_response_id") is not None:
            return
        head = [_plain(body.get(key)) for key in HEAD]
        messages: list[Any] = next((body[key] for key in CONVERSATION if isinstance(body.get(key), list)), [])
        chain = hashlib.sha256()
        _feed(chain, head)
        states = [_digest(chain)]
        for message in messages:
            _feed(chain, _plain(message))
            states.append(_digest(chain))
        continued = not self._conversations.isdisjoint(states[1:])
        if messages:
            self._conversations.add(states[-1])
        before = max((at for at, each in enumerate(messages) if fields(each).get("role") == "user"), default=0)
        if not continued and (before or any(head)):
            self.hashes.add(states[before])


def _feed(chain: Any, value: object) -> None:
    chain.update(json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")


def _digest(chain: Any) -> str:
    return str(chain.hexdigest())[:16]


def _plain(value: object) -> object:
    """Plain data; without the marks that say where to cache, which move from turn to turn and are not cached."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    named = value if isinstance(value, Mapping) else fields(value)
    return {str(key): _plain(each) for key, each in named.items() if key != "cache_control"}
