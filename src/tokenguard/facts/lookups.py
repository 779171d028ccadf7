"""What became of looking calls up among kept answers, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tokenguard.facts import names

WHY: Final[Mapping[str, Mapping[str | None, str]]] = {
    names.SKIP: {
        "per": "it has no value for one of the keys of `per`",
        "sampled": "its temperature is not 0, and the rule does not say sampled = true",
        "media": "it makes pictures or films",
        "several": "it asks for several answers",
        "history": "it goes on from what the provider holds",
        "background": "the provider works on it in the background",
        "hosted": "the provider's own tools may be used for it",
        "tools": "it offers tools, and the rule does not say tools = true",
        "files": "its input is named, and may change",
        "words": "it is not one question",
        "wire": "its answer cannot be given to another call",
        "body": "its body is no plain data",
    },
    names.MISS: {
        None: "nothing was kept for it",
        "finish": "its answer was cut off, filtered or refused, and is not kept",
        "tool_call": "its answer calls a tool, and is not kept",
        "hosted": "the provider used tools of its own, and the answer is not kept",
        "incomplete": "its answer was not read to its end",
        "abandoned": "its answer was not read to its end",
        "error": "it failed, or what was kept could not be used",
        "empty": "its answer has no output, and is not kept",
        "size": "its answer is larger than max_entry_kib",
        "encoder": "its question has no vector: the encoder failed, or was late",
        "wire": "its answer could not be listened to",
    },
    names.HIT: {
        None: "a kept answer was given",
        names.OBSERVED: "a kept answer would have been given: the rule only watches",
        names.PARTIAL: "some of its inputs were kept, the others were sent",
    },
    names.SHARED: {None: "it got the answer of an identical call"},
}
"""By `tokenguard.cache.result`, and `tokenguard.cache.reason`."""
STEPS: Final[Mapping[tuple[str, str | None], str]] = {
    (names.SKIP, "per"): "give the calls these keys (tokenguard.attribution), or take them out of `per`",
    (names.SKIP, "sampled"): "set temperature = 0, or say sampled = true where one of several answers will do for all",
    (names.SKIP, "tools"): "say tools = true in the rule: an answer that calls a tool is never kept",
    (names.MISS, None): "look at its ttl, its `per` and max_mib; calls at the same time are shared by a [[share]]",
    (names.MISS, "size"): "raise max_entry_kib",
    (names.HIT, names.OBSERVED): 'serve them: mode = "enforce", and serve = true for a rule by meaning',
}
"""What to do about calls that were sent again though a rule keeps answers."""
OTHERWISE: Final = "see why with tokenguard report --by cache_rule,cache_result,cache_reason"


def why(result: str, reason: str | None) -> str:
    """What became of a call, in words.

    >>> why("skip", "several")
    'it asks for several answers'
    """
    return WHY.get(result, {}).get(reason) or reason or ""
