"""Prompt caching by the providers' own rules, on the texts that were really sent.

OpenAI (https://platform.openai.com/docs/guides/prompt-caching): automatic; a prefix of at least 1,024 tokens that was
seen within minutes is read in steps of 128 tokens, and costs nothing to write. Since gpt-5.6 writing has a price
and is reported.

Anthropic (https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching): up to four `cache_control` breakpoints,
or one set for the whole request; a prefix (tools, then system, then messages) of at least so many tokens is written at
each breakpoint, for 5 minutes or an hour, and read by a later request that has the same prefix at one of its own
breakpoints or within 20 blocks before one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tokenguard.facts.tuples import NamedTuple
from tokenguard.facts.usage import Usage
from tokenguard.providers import anthropic
from tokenguard.tokens.request import estimate_request
from tokenguard.tokens.text import O200K, encoding, encoding_name

LEAST = 1024
STEP = 128
OPENAI_MEMORY = 300.0
OPENAI_LIFETIMES = {"30m": 1800.0, "12h": 43200.0, "24h": 86400.0}
"""Seconds that a prefix stays without being read: as usual, and as requested."""
OPENAI_WRITES = re.compile(r"gpt-(5\.[6-9]|[6-9])")
"""Models whose cache writes OpenAI charges for."""

ANTHROPIC_LEAST = (
    (re.compile(r"opus-4-[56]|haiku-4"), 4096),
    (re.compile(r"haiku"), 2048),
)
"""Shortest prefixes of models that differ from the usual 1,024 tokens."""
LIFETIMES = {"5m": 300.0, "1h": 3600.0}
MOST_BREAKPOINTS = 4
MOST_PREFIXES = 100_000
"""Beyond so many, expired ones are forgotten."""
LOOKBACK = 20
"""Content blocks before a breakpoint at which a cached prefix is looked for."""


class PromptCache:
    """What one provider remembers of prompts; not locked, the provider asks one request at a time."""

    def __init__(self) -> None:
        self._until: dict[tuple[str, bytes], float] = {}

    def _forget(self, now: float) -> None:
        """Drop what has expired, now and then."""
        if len(self._until) > MOST_PREFIXES:
            self._until = {prefix: until for prefix, until in self._until.items() if until > now}

    def openai(self, scope: str, body: Mapping[str, Any], prompt: str, total: int, now: float) -> Usage:
        """Input counts of a request of `total` tokens whose messages read as the text `prompt`, sent at `now` seconds.

        `scope` is who shares the cache: the key and the model.
        """
        self._forget(now)
        model = str(body.get("model"))
        charged = OPENAI_WRITES.match(model) is not None
        ttl = (body.get("prompt_cache_options") or {}).get("ttl") or (
            "30m" if charged else body.get("prompt_cache_retention")
        )
        # The last token is always computed: it begins the answer.
        tokens = encoding(encoding_name(model) or O200K).encode_ordinary(prompt)[: max(total - 1, 0)]
        prefixes, digest = [], hashlib.sha256(scope.encode())
        for start in range(0, len(tokens) - STEP + 1, STEP):
            digest.update(repr(tokens[start : start + STEP]).encode())
            prefixes.append((scope, digest.digest()))
        least = LEAST // STEP
        if len(prefixes) < least:
            return Usage(input=total, cache_read=0, cache_write=0)
        read = len(prefixes)
        while read and not (read >= least and self._until.get(prefixes[read - 1], 0.0) > now):
            read -= 1
        for prefix in prefixes:
            self._until[prefix] = now + OPENAI_LIFETIMES.get(str(ttl), OPENAI_MEMORY)
        written = (len(prefixes) - read) * STEP if charged else 0
        return Usage(
            input=total,
            cache_read=read * STEP,
            cache_write=written,
            cache_write_30m=0 if ttl == "12h" else written,
            cache_write_12h=written if ttl == "12h" else 0,
        )

    def anthropic(self, scope: str, body: Mapping[str, Any], now: float) -> Usage:
        """Input counts of a messages request, sent at `now` seconds."""
        self._forget(now)
        total = estimate_request(anthropic.MESSAGES.words, body)
        blocks = blocks_of(body)
        marks = [n for n, block in enumerate(blocks) if block.ttl is not None]
        least = next((least for models, least in ANTHROPIC_LEAST if models.search(str(body.get("model")))), LEAST)
        read = max(
            (
                n
                for mark in marks
                for n in range(mark, max(mark - LOOKBACK, 0) - 1, -1)
                if self._alive(scope, blocks[n], now)
            ),
            default=None,
        )
        at = 0 if read is None else _tokens_to(body, blocks[read])
        usage = Usage(input=total, cache_read=at, cache_write=0, cache_write_1h=0)
        if read is not None:
            self._until[scope, blocks[read].prefix] = now + blocks[read].lifetime(self._until, scope, now)
        for mark in marks:
            end = _tokens_to(body, blocks[mark])
            if end < least:
                continue
            ttl = blocks[mark].ttl or "5m"
            self._until[scope, blocks[mark].prefix] = now + LIFETIMES[ttl]
            written = max(end - at, 0)
            at = max(at, end)
            usage = usage.plus(Usage(cache_write=written, cache_write_1h=written if ttl == "1h" else 0))
        return usage

    def _alive(self, scope: str, block: Block, now: float) -> bool:
        return self._until.get((scope, block.prefix), 0.0) > now


class Block(NamedTuple):
    """One cacheable block of a request: a tool, a system text or a part of a message."""

    prefix: bytes
    """The hash of everything up to its end."""
    ttl: str | None
    """`5m` or `1h` where a breakpoint is set on it."""
    place: tuple[str, int, int]
    """Where it stands: key of the request, index there, index of the part."""

    def lifetime(self, until: Mapping[tuple[str, bytes], float], scope: str, now: float) -> float:
        """What reading it renews: an hour for what was written for an hour."""
        left = until.get((scope, self.prefix), now) - now
        return LIFETIMES["1h" if left > LIFETIMES["5m"] else "5m"]


def blocks_of(body: Mapping[str, Any]) -> list[Block]:
    """The blocks of a messages request in the order of the cache: tools, system, messages."""
    found: list[tuple[tuple[str, int, int], Any]] = []
    found.extend((("tools", n, 0), tool) for n, tool in enumerate(body.get("tools") or ()))
    found.extend((("system", n, 0), part) for n, part in enumerate(parts(body.get("system"))))
    for n, message in enumerate(body.get("messages") or ()):
        found.extend((("messages", n, i), part) for i, part in enumerate(parts(message.get("content"))))
    # Settings that change how messages are read; what stands before them stays cached.
    settings = {key: body.get(key) for key in ("tool_choice", "thinking")}
    automatic = body.get("cache_control")
    digest, section = hashlib.sha256(), None
    blocks = []
    for place, block in found:
        if place[0] == "messages" and section != "messages":
            digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
        section = place[0]
        role = body["messages"][place[1]].get("role", "") if section == "messages" else section
        mark = block.get("cache_control") if isinstance(block, Mapping) else None
        content = {k: v for k, v in block.items() if k != "cache_control"} if isinstance(block, Mapping) else block
        digest.update(f"{role}:{json.dumps(content, sort_keys=True, default=str)}\n".encode())
        if mark is None and automatic and place == found[-1][0]:
            mark = automatic
        blocks.append(Block(digest.digest(), mark.get("ttl") or "5m" if mark else None, place))
    return blocks


def breakpoints(body: Mapping[str, Any]) -> int:
    """How many `cache_control` marks a request sets."""
    return sum(block.ttl is not None for block in blocks_of(body))


def parts(content: object) -> Sequence[Any]:
    """Content as its list of parts; a text is one part."""
    if isinstance(content, str):
        return ({"type": "text", "text": content},) if content else ()
    return content if isinstance(content, list | tuple) else ()


def _tokens_to(body: Mapping[str, Any], block: Block) -> int:
    """The tokens of a request up to the end of a block."""
    key, index, part = block.place
    prefix: dict[str, Any] = {"model": body.get("model"), "tools": body.get("tools")}
    if key == "tools":
        prefix["tools"] = body["tools"][: index + 1]
    else:
        system = parts(body.get("system"))
        prefix["system"] = list(system if key == "messages" else system[: index + 1])
    if key == "messages":
        last = body["messages"][index]
        messages = list(body["messages"][:index])
        prefix["messages"] = [*messages, {**last, "content": list(parts(last.get("content")))[: part + 1]}]
    return estimate_request(anthropic.MESSAGES.words, prefix)
