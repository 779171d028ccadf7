"""The body of a long stream, kept short: events that differ in nothing but their text become one that has it all.

What a stream generates comes in thousands of events of some hundred bytes, of which five are new. Joined, they say to
every reader of the format what they said one by one, and take the room of their text. All that is not like the others
stays as it is: tool calls, usage, what was refused, the beginning and the end.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from tokenguard.facts.patterns import lazy
from tokenguard.facts.tuples import NamedTuple
from tokenguard.providers.words import strings_of

SAMPLES: Final = 16
"""Events that are looked at, in each of three places, to learn what they have in common."""
MOST_KINDS: Final = 3
"""Kinds of events that are joined in one piece of a stream: text, thoughts, the arguments of a call."""
PADDING: Final = lazy(rb" +\}(?=\r?\n|\Z)")
"""Anthropic has some spaces before the end of an event, so that its length tells nothing."""
ONE: Final = rb'"%b"\s*:\s*(?:"[^"\\]*"|[\d.]+)'
"""The pattern of a key with a text or a number, of which nothing is escaped."""
VARIES: Final = lazy(ONE % b"(obfuscation|p|sequence_number|created|created_at)" + b"|" + PADDING.pattern)
"""What is another thing in each event, and is read by nobody: padding, numbers, the time."""
TEXT: Final = lazy(rb'[^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*')
"""What may stand between the quotes of a JSON string."""


class Kind(NamedTuple):
    """How events begin and end that are alike, around their text."""

    begin: bytes
    end: bytes


class Merger:
    """Joins the events of one stream. `keys` are those of what is generated (`Words.streamed`)."""

    __slots__ = ("_border", "_kinds", "_strings", "_varies")

    def __init__(self, keys: tuple[str, ...], *, lines: bool) -> None:
        self._strings = strings_of(keys)
        self._border = b"\n" if lines else b""
        """How an event ends, where that is known."""
        self._kinds: Sequence[Kind] = ()
        self._varies: Mapping[bytes, re.Pattern[bytes]] = {}

    def merged(self, chunks: Sequence[bytes]) -> bytes:
        """A piece of a body, in chunks, with its events joined; it may begin and end within one."""
        ends = self._border or (b"\r\n\r\n" if chunks[0].endswith(b"\r\n\r\n") else b"\n\n")
        if self._varies or not all(chunk.endswith(ends) for chunk in chunks):
            events = self._parted(b"".join(chunks), ends)
        else:
            events = list(chunks)  # each is an event, or several
        joined = self._joined(events)
        if len(joined) > len(events) // 8:
            piece = b"".join(chunks)
            if varying := _varying(events):
                self._varies = varying
            events = self._parted(piece, ends)
            self._learn(events)
            joined = self._joined(events)
        return b"".join(joined)

    def _parted(self, piece: bytes, ends: bytes) -> list[bytes]:
        """The events of a piece, without what is another thing in each; the rest is no whole event, and stays."""
        whole, border, rest = piece.rpartition(ends)
        for same, varies in self._varies.items():
            whole = varies.sub(same, whole)
        return [*(event + ends for event in whole.split(ends)), rest] if border else [rest]

    def _learn(self, events: Sequence[bytes]) -> None:
        """Find the most frequent kinds of events that have one text each."""
        found: Counter[Kind] = Counter()
        for event in _some(events):
            texts = list(self._strings.finditer(event))
            if len(texts) == 1:
                found[Kind(event[: texts[0].start(2) + 1], event[texts[0].end(2) - 1 :])] += 1
        self._kinds = [kind for kind, times in found.most_common(MOST_KINDS) if times > 1]

    def _joined(self, events: Sequence[bytes]) -> list[bytes]:
        """The events, with those of a kind that follow each other as one."""
        done: list[bytes] = []
        run: list[bytes] = []
        begin = end = b"\0"
        for event in events:
            if event.startswith(begin) and event.endswith(end):
                run.append(event)
                continue
            _close(run, begin, end, done)
            run = []
            for kind in self._kinds:
                if event.startswith(kind.begin) and event.endswith(kind.end):
                    begin, end = kind
                    run.append(event)
                    break
            else:
                done.append(event)
        _close(run, begin, end, done)
        return done


def _some(events: Sequence[bytes]) -> list[bytes]:
    return [each for at in (0, len(events) // 2, -SAMPLES) for each in events[at:][:SAMPLES]]


def _varying(events: Sequence[bytes]) -> dict[bytes, re.Pattern[bytes]]:
    """The patterns of what is another thing in each event, with what is to stand there."""
    told: dict[bytes, set[bytes]] = {}
    for event in _some(events):
        for found in VARIES.finditer(event):
            told.setdefault(found[1] or b"", set()).add(found[0])
    keys = [key for key, values in told.items() if len(values) > 1]
    return {b'"%b":0' % key if key else b"}": re.compile(ONE % key) if key else PADDING for key in keys}


def _close(run: list[bytes], begin: bytes, end: bytes, done: list[bytes]) -> None:
    """Add a run of events of one kind to what is done: as one, unless what is in them is more than a text."""
    if len(run) < 2:
        done += run
        return
    first, last = len(begin), -len(end)
    text = b"".join([event[first:last] for event in run])
    if TEXT.fullmatch(text) is None:
        done += run
    else:
        done.append(begin + text + end)
