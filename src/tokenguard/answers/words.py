"""`match = "words"`: what of a question counts, where its wording may differ.

Case, punctuation, spacing and filler words do not count. All else does, in its order: numbers, signs, negations, names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from tokenguard.answers.key import Body
from tokenguard.call.call import Call
from tokenguard.process.hashes import marshalled

_FILLER: Final = (
    "a an the this that these those is are was were am be been being do does did has have had "
    "i me my you your we our of to in on at for with as about and so then also just really very quite "
    "please kindly thanks thank hello hi hey dear can could would will shall should may might "
    "what's whats how's hows there's i'm im i'd i'll tell show give let know like want help it its"
)
FILLER: Final = frozenset(_FILLER.split())
"""English words without which a question is still the same. No negation, no quantity, no question word is here, and
none that tells one direction from the other: from A to B is not to A from B."""
NAMES: Final = frozenset({"may", "will"})
"""Of these, those that are names where they begin with a capital, even at the beginning of a sentence."""
SENTENCE_ENDS: Final = ".!?:;,\n\u2026-"
TOKEN: Final = re.compile(
    r"-?\d[\d.,:/-]*\d|-?\d|[^\W\d_]+(?:['\u2019.-][^\W\d_]+)*|[^\w\s.,;:!?'\"\u2019\u2018\u201c\u201d()\[\]\u2026-]"
)
"""A number with its sign and all that is in it, a word, or a sign that means something (%, $, +, #)."""


def content_words(text: str) -> tuple[str, ...]:
    """The words of a text that count.

    >>> content_words("Hello! What is your refund policy, please?")
    ('what', 'refund', 'policy')
    >>> content_words("Is it 3.5 %?"), content_words("Is IT on 35?"), content_words("Sales in May")
    (('3.5', '%'), ('it', '35'), ('sales', 'may'))
    """
    return tuple(
        found[0].replace("\u2019", "'").casefold()
        for found in TOKEN.finditer(text)
        if not _fills(found[0], found.start(), text)
    )


def _fills(token: str, at: int, text: str) -> bool:
    """Whether a word says nothing here. One in capitals, or with one within a sentence, may be a name: US, Will."""
    if token.lower().replace("\u2019", "'") not in FILLER:
        return False
    if token.islower() or (token.startswith("I") and (len(token) == 1 or not token[1].isalpha())):
        return True
    begins = not (before := text[:at].rstrip(" \t\"'\u201c\u2018(")) or before[-1] in SENTENCE_ENDS
    return begins and (len(token) == 1 or not token.isupper()) and token.lower() not in NAMES


def question_of(call: Call, body: Body) -> str | None:
    """The user's text, which is in a body once.

    `None` where a request is not one question: it has more turns than one, parts that are no text, or no text at all.
    """
    messages = [each for each in call.api.words.messages(call.request) if each["role"] != "system"]
    if len(messages) != 1 or messages[0]["role"] != "user":
        return None
    parts = messages[0]["parts"]
    if len(parts) != 1 or not isinstance(text := parts[0].get("content"), str):
        return None
    return text if content_words(text) and _count(body.value, text) == 1 else None


def _count(value: Any, text: str) -> int:
    """How often a text stands in a body, as a value or as a key."""
    if isinstance(value, dict):
        return sum(_count(key, text) + _count(inner, text) for key, inner in value.items())
    return sum(_count(each, text) for each in value) if isinstance(value, list) else value == text


def with_instead(body: Body, text: str, counts: Iterable[str]) -> bytes:
    """The body with what counts in the place of the user's text."""
    return marshalled(_swapped(body.value, text, tuple(counts)))  # a tuple: there is none in a body


def _swapped(value: Any, text: str, instead: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _swapped(inner, text, instead) for key, inner in value.items()}
    if isinstance(value, list):
        return [_swapped(each, text, instead) for each in value]
    return instead if value == text else value
