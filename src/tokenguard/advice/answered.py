"""The steps in which a call gets another one's answer: kept from an earlier one, or shared with one under way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tokenguard.advice.replay import Replayed
from tokenguard.advice.steps import Step
from tokenguard.facts import names
from tokenguard.facts.dollars import dollars
from tokenguard.policy import Cache, Share
from tokenguard.report.figures import many

STOPPED: Final = frozenset({"stop", "end_turn", "stop_sequence", "completed", "complete", "STOP", "COMPLETE"})
"""Finish reasons of whole answers, which are what a cache keeps."""
Match = Callable[[Replayed], Any]


class Cached(Step):
    """Requests that are equal to an earlier one, and get its answer."""

    kind = "cache"
    basis = "recorded hashes of requests, and the times at which their answers were there"

    def __init__(self, cache: Cache, match: Match) -> None:
        super().__init__(cache.name)
        self._cache = cache
        self._match = match
        self._kept: dict[tuple[str, str], int] = {}
        self.unknown = 0
        """Calls that it is for, of whose request no hash is recorded."""
        self.sampled_calls = 0
        self.sampled_usd = 0.0
        """What it would answer, were sampled answers kept too."""

    def _change(self, call: Replayed) -> None:
        fact, cache = call.fact, self._cache
        matched = self._match(call)
        if matched.cache is not cache or matched.cache_key is None:  # of several, the first one counts
            return
        if fact.request_hash is None:
            self.unknown += fact.outcome == names.OK
            return
        if fact.toolset is not None and not cache.tools:
            return
        key = (matched.cache_key, fact.request_hash)
        kept = self._kept.get(key)
        if kept is not None and 0 <= fact.start_ns - kept < cache.ttl * 1e9:
            if fact.operation == "embeddings" or fact.temperature == 0 or cache.sampled:
                call.gone = True
            else:
                self.sampled_calls += 1
                self.sampled_usd += call.usd
        elif fact.outcome == names.OK and whole(call):
            self._kept[key] = fact.start_ns + fact.duration_ns

    def _assumes(self) -> list[str]:
        says = [f"answers are kept for {_duration(self._cache.ttl)}, as soon as they are there"]
        if self._cache.match != "exact":
            says.append("only requests that are equal to the letter are counted: what is recorded holds no words")
        if self.sampled_calls and not self._cache.sampled:
            says.append(
                f"{many(self.sampled_calls, 'more repeat')} ({dollars(self.sampled_usd)}) at a temperature "
                "that is not 0: sampled = true would answer these too, each time in the same words"
            )
        return says + _without_hash(self.unknown)


def whole(call: Replayed) -> bool:
    """Whether an answer ended by itself; unknown is taken as yes for what generates nothing."""
    if call.fact.operation == "embeddings":
        return True
    reasons = call.fact.attributes.get(names.FINISH_REASONS) or ()
    return bool(reasons) and STOPPED.issuperset(reasons)


class Shared(Step):
    """Requests that are equal to one under way, and get its answer when it is there."""

    kind = "share"
    basis = "recorded hashes of requests, and when each was under way"

    def __init__(self, share: Share, match: Match) -> None:
        super().__init__(share.name)
        self._share = share
        self._match = match
        self._flying: dict[tuple[str, str], int] = {}
        """When each request's answer is there."""
        self.unknown = 0
        """Calls that it is for, of whose request no hash is recorded."""

    def _change(self, call: Replayed) -> None:
        fact = call.fact
        matched = self._match(call)
        if matched.share is not self._share or fact.attributes.get(names.REQUEST_STREAM):
            return
        if fact.request_hash is None:
            self.unknown += fact.outcome == names.OK
            return
        key = (matched.share_key, fact.request_hash)
        if fact.start_ns < self._flying.get(key, 0):
            call.gone = True
        elif fact.outcome == names.OK:
            self._flying[key] = fact.start_ns + fact.duration_ns

    def _assumes(self) -> list[str]:
        return [
            "equal requests under way at the same time were made by one process, and the first one takes as long",
            *_without_hash(self.unknown),
        ]


def _without_hash(calls: int) -> list[str]:
    if not calls:
        return []
    return [f"{many(calls, 'call')} without a hash of the request: whether they repeat is not known"]


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
