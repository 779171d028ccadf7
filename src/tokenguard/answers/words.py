"""`match = "words"`: what of a question counts, where its wording may differ.

Case, punctuation, spacing, courtesies and articles do not count. All else does, in its order: numbers, signs,
negations, names, tenses, persons, prepositions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from tokenguard.answers.key import Body
from tokenguard.call.call import Call
from tokenguard.process.hashes import marshalled, read_back

FILLER: Final = frozenset({"a", "an", "the", "your"})
"""Words that say nothing before another one. No other is left out within a question: not when (is, was), who (I, you),
whether (can, should), where and what for (to, in, with), which one (this, my)."""
LEADING: Final = frozenset({"hello", "hi", "hey", "dear", "please", "kindly", "thanks", "so", "ok", "okay"})
TRAILING: Final = frozenset({"please", "thanks", "thank you", "many thanks"})
"""What may stand before a question, and after it."""
SPOKEN_OF: Final = frozenset(
    {
        *("say", "says", "saying", "said", "spell", "write", "pronounce", "translate", "type", "mean", "means", "word"),
        *("is", "was", "in", "of", "for", "to", "from", "as", "and", "or", "with", "by"),
    }
)
"""Beside these, such a word is what is asked about."""
ASKING: Final = re.compile(
    r"(?:(?:can|could|will|would) you (?:please |kindly )?(?:tell (?:me|us)|let (?:me|us) know)"
    r"|tell (?:me|us)|let (?:me|us) know|i(?:'d| would) like to know|i (?:want|need) to know|(?:do|would) you know)"
    r"(?: about)? (?=\S)"
)
"""Beginnings that say no more than that a question follows."""
MODALS: Final[Mapping[str, frozenset[str]]] = {
    "how": frozenset({"do", "can", "could"}),
    "where": frozenset({"do", "can", "could"}),
    "who": frozenset({"do", "should"}),
}
"""What asks the same between these and the person: how do I, how can I, tell me how I."""
PERSONS: Final = frozenset({"i", "we"})
ASKED: Final = PERSONS | {"you"}
"""Before these, could is a polite can."""
SAME: Final = {
    **{f"{word}{mark}s": f"{word} is" for word in ("what", "how", "where", "who") for mark in ("'", "")},
    "there's": "there is",
    "it's": "it is",
    "that's": "that is",
    "i'm": "i am",
}
"""Short forms, written out."""
NAMES: Final = frozenset({"it", "us", "who", "am", "in", "or", "me", "no", "on", "at", "as", "a"})
"""Words that are names in capitals, where not all is in capitals."""
SENTENCE_ENDS: Final = ".!?:;,\n\u2026-"
TOKEN: Final = re.compile(
    r"-?\d[\d.,:/-]*\d|-?\d|[^\W\d_]+(?:['\u2019.-][^\W\d_]+)*|[^\w\s.,;:!?'\"\u2019\u2018\u201c\u201d()\[\]\u2026-]"
)
"""A number with its sign and all that is in it, a word, or a sign that means something (%, $, +, #)."""


def content_words(text: str) -> tuple[str, ...]:
    """The words of a text that count.

    >>> content_words("Hello! What's your refund policy, please?")
    ('what', 'is', 'refund', 'policy')
    >>> content_words("Could you tell me how I cancel a booking? Thanks"), content_words("How can I cancel the booking")
    (('how', 'i', 'cancel', 'booking'), ('how', 'i', 'cancel', 'booking'))
    >>> content_words("Is it 3.5 %?"), content_words("Is IT on 35?"), content_words("Sales in May")
    (('is', 'it', '3.5', '%'), ('is', 'IT', 'on', '35'), ('sales', 'in', 'may'))
    """
    shouts, words = text.isupper(), list[str]()
    for found in TOKEN.finditer(text):
        token = found[0].replace("\u2019", "'")
        word = token.casefold()
        if word in NAMES and token.isupper() and not shouts and not (len(token) == 1 and _begins(text, found.start())):
            words.append(token)
        else:
            words += SAME.get(word, word).split()
    return tuple(_without_filler(_without_courtesy(words)))


def _begins(text: str, at: int) -> bool:
    """Whether a sentence begins there."""
    before = text[:at].rstrip(" \t\"'\u201c\u2018(")
    return not before or before[-1] in SENTENCE_ENDS


def _without_courtesy(words: list[str]) -> list[str]:
    """The question itself."""
    while len(words) > 1 and words[0] in LEADING and words[1] not in SPOKEN_OF:
        words = words[1:]
    asked = " ".join(words)
    if (asking := ASKING.match(asked)) is not None:
        words = asked[asking.end() :].split()
    while (last := 1 if words[-1:] and words[-1] in TRAILING else 2 if " ".join(words[-2:]) in TRAILING else 0) and (
        len(words) > last and words[-last - 1] not in SPOKEN_OF
    ):
        words = words[:-last]
    return words


def _without_filler(words: list[str]) -> Iterator[str]:
    for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
        if after in PERSONS and word in MODALS.get(before, ()):
            continue
        if word not in FILLER or not after:
            yield "can" if word == "could" and after in ASKED else word


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
    if isinstance(value, tuple):
        name, values = value
        keys: list[str] = read_back(name)
        return keys.count(text) + sum(_count(each, text) for each in values)
    return sum(_count(each, text) for each in value) if isinstance(value, list) else int(value == text)


def with_instead(body: Body, text: str, counts: Iterable[str]) -> bytes:
    """The body with what counts in the place of the user's text."""
    return marshalled(_swapped(body.value, text, {"": tuple(counts)}))  # a mapping: there is none in that form


def _swapped(value: Any, text: str, instead: Mapping[str, Any]) -> Any:
    if isinstance(value, tuple):
        name, values = value
        return name, tuple([_swapped(each, text, instead) for each in values])
    if isinstance(value, list):
        return [_swapped(each, text, instead) for each in value]
    return instead if value == text else value
