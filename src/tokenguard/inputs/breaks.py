"""Why the provider's prompt cache did not have what it could have had.

Compared are the request and the last ones of the same host, tenant, feature and prompt version, for calls whose
reported cache read is below what they have in common. A break is said only where the earlier request had ended when
this one began, and where what is lost is worth a cache's least.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from itertools import islice
from typing import Final

from tokenguard.facts.patterns import lazy
from tokenguard.facts.tuples import NamedTuple
from tokenguard.inputs.chains import Chain, Place, Spot, common

LEAST: Final = 1024
"""Input tokens below which providers do not cache: OpenAI, and most of Anthropic's models."""
LEAST_OF: Final = (
    # https://platform.claude.com/docs/en/build-with-claude/prompt-caching#cache-limitations
    (lazy(r"opus-4-[5-8]|haiku-4"), 4096),
    (lazy(r"claude-.*haiku"), 2048),
)
WORTH: Final = 512
"""Tokens that must be lost: providers cache in steps, and a token is never counted twice alike."""
SLACK: Final = 0.1
"""The part of what could be read that may be missing: tokens are shared out by length."""
ENOUGH: Final = 0.95
"""The part of a prompt that another has in common, from which on no other is looked for that has more."""
MAX_LENGTH: Final = 40_000
"""Blocks that are looked through for what has moved."""
MINUTES_NS: Final = 300 * 10**9
HOUR_NS: Final = 3600 * 10**9


class Break(NamedTuple):
    """One break."""

    kind: str
    """`changed`, `expired`, `shortened`, `model`, `unmarked` or `provider`."""
    tokens: int
    """Input tokens that the cache would have had."""
    place: Place | None = None
    """Where the prompts part, for `changed` and `shortened`."""


def find(new: Chain, earlier: list[Chain], input_tokens: int, read: int, *, marks: bool) -> Break | None:
    """The break of a request against earlier ones of its key, the newest last; `None` where there is none to tell.

    `read` is what the provider says that it read from its cache; `marks` whether it caches only what is marked.
    """
    if input_tokens - read < WORTH or not _lost(input_tokens, read):
        return None  # whatever has become of the cache
    least = least_of(new.model)
    known = [old for old in earlier if old.ended_ns <= new.sent_ns < old.ended_ns + HOUR_NS]
    if not new.chars or not known:
        return None
    per_char = input_tokens / new.chars
    limit = new.marked if marks and new.marked is not None else new.chars
    own = [_Match(old, same := common(new, old), min(same.chars, limit)) for old in known if old.model == new.model]
    if not own:
        return _switched(new, known, per_char, read, least)
    if (not marks or new.marked is not None) and _may_differ(own, limit, per_char):
        best = _most_alike(new, own, limit)
        whole = round(best.shared * per_char)
        if round((best.shared - best.match.prefix) * per_char) >= WORTH and whole >= least and _lost(whole, read):
            kind = "shortened" if best.shortened else "changed"
            return Break(kind, whole - read, new.place(best.match.parting))
    prefix = round(max(match.prefix for match in own) * per_char)
    return _cold(new, own, prefix, read, marks=marks) if prefix >= least else None


def _may_differ(own: list[_Match], limit: int, per_char: float) -> bool:
    """Whether so much stands after what is the same from the beginning that it is worth to be looked through."""
    most = max(match.prefix for match in own)
    return most < ENOUGH * limit or round((limit - most) * per_char) >= WORTH


def _switched(new: Chain, known: list[Chain], per_char: float, read: int, least: int) -> Break | None:
    """What is to be said of a prompt whose like was sent to other models only."""
    young = [old for old in known if new.sent_ns - old.ended_ns < _lifetime(new)]
    prefix = round(max((common(new, old).chars for old in young), default=0) * per_char)
    return Break("model", prefix - read) if prefix >= least and _lost(prefix, read) else None


@lru_cache(maxsize=256)
def least_of(model: str) -> int:
    """The shortest prompt, in tokens, that is cached for a model."""
    return next((tokens for models, tokens in LEAST_OF if models.search(model)), LEAST)


def _cold(new: Chain, own: list[_Match], prefix: int, read: int, *, marks: bool) -> Break | None:
    """What is to be said of a prompt that begins as earlier ones do, and was not read from the cache."""
    if not _lost(prefix, read):
        return None
    same = [match for match in own if match.prefix >= 0.9 * max(each.prefix for each in own)]
    age = min(new.sent_ns - match.old.ended_ns for match in same)
    lost = prefix - read
    if age >= _lifetime(new):
        return Break("expired", lost)
    if marks and new.marked is None:
        return Break("unmarked", lost)
    return None if new.media else Break("provider", lost)


def _lifetime(new: Chain) -> int:
    return HOUR_NS if new.lasting else MINUTES_NS


def _lost(could: int, read: int) -> bool:
    return could - read >= max(WORTH, SLACK * could)


class _Match(NamedTuple):
    """What two prompts have in common from their beginning."""

    old: Chain
    parting: Spot
    """Where they part."""
    prefix: int
    """The characters before that."""


class _Alike(NamedTuple):
    """What two prompts have in common, wherever it stands."""

    match: _Match
    shared: int
    """Characters of the newer one, those of the prefix included."""
    shortened: bool
    """Whether the newer goes on where the older is later: messages between were left out."""


def _most_alike(new: Chain, own: list[_Match], limit: int) -> _Alike:
    """The earlier prompt that has most of this one, the newest first."""
    best: _Alike | None = None
    for match in sorted(own, key=lambda match: (match.prefix, match.old.ended_ns), reverse=True):
        alike = _alike(new, match, limit)
        if best is None or alike.shared > best.shared:
            best = alike
        if best.shared >= ENOUGH * limit:
            break  # it will not be more
    assert best is not None, "there is a match"
    return best


def _alike(new: Chain, match: _Match, limit: int) -> _Alike:
    old, parting, shared = match.old, match.parting, match.prefix
    left = Counter(checksum for checksum, _ in old.after(parting))
    end, moved = parting.chars, False
    for n, (checksum, chars) in enumerate(islice(new.after(parting), MAX_LENGTH)):
        end += chars
        if end > limit:
            break
        if left[checksum] > 0:
            left[checksum] -= 1
            shared += chars
            moved = moved or n == 0
    return _Alike(match, shared, moved and new.place(parting).section == "messages")
