"""Which rules a text can concern, told by the words in it before anything is parsed.

An entry of a rule's `WORDS` is a word, or a tuple: its first word *and* any of the other entries, which may be patterns
over the bytes. So `("langchain", "ChatOpenAI", "ChatGroq")` is a file that has `langchain` and one of the two names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence

from tokenguard.facts.tuples import NamedTuple
from tokenguard.lint.kept import KEPT

Entry = str | re.Pattern[bytes] | tuple["Entry", ...]

# Bytes in a thousand of Python source, for the letters that occur often (26 MB of applications; the rest: about 2).
_OFTEN = {" ": 223, "e": 77, "t": 52, "s": 46, "r": 42, "o": 41, "n": 40, "i": 39, "a": 38, "_": 31, "d": 25, "c": 24,
          "l": 24, "p": 18, "u": 18, "m": 16, '"': 14, "f": 11, ".": 11, "h": 11, "g": 10, "=": 10, "(": 9, "y": 7,
          "b": 7, "-": 6, ":": 7, "k": 5, "x": 5, "v": 5}  # fmt: skip
_HOW = "gate 2"  # another one for another way to make groups or patterns: they are kept
_FEW = 4  # words looked back for one after the other
_BY_WORD = 60_000  # bytes searched word by word at first, unless the patterns are kept: compiling them costs as much


class Gate:
    """Which of many words are in a text, in some ten passes however many words there are.

    Words with a letter in common make one pattern, which starts at that letter and looks back from there: `re` skips
    to a single first letter at 0.6 ns a byte, where it tries a plain alternation at every byte (140 ns a byte for 134
    words; `in` takes 60).
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._plain = {word: word.encode() for word in words}
        self._spaced = {word for word, plain in self._plain.items() if plain.split() != [plain]}
        self._groups: list[_Group] = []
        self._key = (_HOW, *self._plain)
        self._searched = 0

    def search(self, source: bytes) -> set[str]:
        """The words that are in `source`."""
        self._searched += len(source)
        if self._searched < _BY_WORD and not KEPT.has(self._key):
            short = b" ".join({*source.split()})  # the same words, most of them once
            return {w for w, plain in self._plain.items() if plain in (source if w in self._spaced else short)}
        if not self._groups:
            self._groups = [_Group(*row) for row in KEPT.get(self._key, lambda: _rows(list(self._plain)))]
        found: set[str] = set()
        for group in self._groups:
            group.search(source, found)
        return found


class _Group:
    """Words that share a letter."""

    def __init__(self, letter: str, words: Sequence[str], pattern: bytes) -> None:
        self._pattern = KEPT.compile(pattern)
        parts = [(word, *word.partition(letter)[::2]) for word in words]
        self._words = [(word, word.encode(), len(before.encode()), behind.encode()) for word, before, behind in parts]
        self._by_rest: dict[bytes, list[tuple[str, bytes, int]]] = {}

    def search(self, source: bytes, found: set[str]) -> None:
        """Add the words of the group that are in `source`."""
        for match in self._pattern.finditer(source):
            for word, plain, before in self._candidates(match[1]):
                if word not in found and source.startswith(plain, match.start() - before):
                    found.add(word)

    def _candidates(self, rest: bytes) -> list[tuple[str, bytes, int]]:
        """The words that may stand around the letter when `rest` is behind it, with the bytes they have before it."""
        known = self._by_rest.get(rest)
        if known is None:
            known = [(w, plain, before) for w, plain, before, behind in self._words if rest.startswith(behind)]
            self._by_rest[rest] = known
        return known


def _rows(words: Sequence[str]) -> list[tuple[str, list[str], bytes]]:
    """What makes the groups of `words`: their letter, the words, and their pattern."""
    return [(letter, group, _pattern(letter, group)) for letter, group in _by_letter(words).items()]


def _by_letter(words: Sequence[str]) -> dict[str, list[str]]:
    """Few groups of words that share a letter, the rarer the better; each word is in one."""
    left = {word: frozenset(word) for word in words}
    counts = Counter(letter for letters in left.values() for letter in letters)
    chosen: list[str] = []
    while left:
        letter = min(sorted(counts), key=lambda c: _cost(c) / counts[c])
        chosen.append(letter)
        for word in [word for word, letters in left.items() if letter in letters]:
            counts.subtract(left.pop(word))
        counts = +counts
    groups: dict[str, list[str]] = {}
    for word in words:
        groups.setdefault(min((c for c in chosen if c in word), key=_cost), []).append(word)
    return groups


def _cost(letter: str) -> float:
    """A pass that stops at each of these letters, in passes that stop nowhere."""
    return 1 + _OFTEN.get(letter, 2) / 20


def _pattern(letter: str, words: Sequence[str]) -> bytes:
    """One pattern for words that hold `letter`: it takes that, and its group 1 is the longest rest of a whole word."""
    tree: _Tree = {}
    for word in words:
        node = tree
        for character in word.partition(letter)[2]:
            node = node.setdefault(character, {})
        node[f"={word}"] = {}  # the whole word, at the end of its rest
    return f"{re.escape(letter)}(?=({_spelled(tree, letter)}))".encode()


_Tree = dict[str, "_Tree"]


def _spelled(tree: _Tree, behind: str = "") -> str:
    """A tree of rests as a pattern, the longer before the shorter; a leaf is a whole word, looked back for.

    `behind` are the characters that it follows. Of many leaves, those are tried together that have one more in common.
    """
    parts = [re.escape(key) + _spelled(below, behind + key) for key, below in tree.items() if len(key) == 1]
    words = [key[1:] for key in tree if len(key) > 1]
    if len(words) > _FEW:
        shared: dict[str, list[str]] = {}
        for word in words:
            shared.setdefault(word[-len(behind) - 1 :], []).append(word)
        for end, group in shared.items():
            longer = [_back(word) for word in group if word != end]
            parts.append(_back(end) + _any(longer if end not in group else [*longer, ""]))
    else:
        parts += map(_back, words)
    return _any(parts)


def _back(word: str) -> str:
    return f"(?<={re.escape(word)})"


def _any(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"


class Prefilter:
    """Tells which of many rules can have findings in a text."""

    def __init__(self, wanted: Mapping[str, Sequence[Entry]]) -> None:
        """`wanted` holds the `WORDS` of each rule; a rule without any can have findings everywhere."""
        self._always = [rule for rule, entries in wanted.items() if not entries]
        self._by_word: dict[str, set[str]] = {}  # the rules that a word alone concerns
        entries = [(rule, entry) for rule, entries in wanted.items() for entry in entries]
        self._searched = frozenset(_first(entry) for _, entry in entries)
        self._by_first: dict[str, list[tuple[str, tuple[Entry, ...]]]] = {}  # and those that want more besides
        self._known: dict[int, _Both] = {}
        for rule, entry in entries:
            if isinstance(entry, str):
                self._by_word.setdefault(entry, set()).add(rule)
            else:
                assert isinstance(entry, tuple), "an entry begins with a word"
                self._by_first.setdefault(_first(entry), []).append((rule, entry))
        self._gate = Gate(sorted(self._searched))

    def _both(self, entry: tuple[Entry, ...]) -> _Both:
        """An entry taken apart, when a text first has its first word; rules share what is in them."""
        known = self._known.get(id(entry))
        if known is None:
            first, *rest = entry
            words = self._searched.intersection(rest)
            others = [part for part in rest if part not in words] if len(words) < len(rest) else []
            known = self._known[id(entry)] = _Both(self._part(first), words, tuple(map(self._part, others)))
        return known

    def _part(self, part: Entry) -> str | re.Pattern[bytes] | _Both:
        return self._both(part) if isinstance(part, tuple) else part

    def rules(self, source: bytes) -> set[str]:
        """The rules that `source` can concern."""
        found = set(self._always)
        near = self._gate.search(source)
        for word in near & self._by_word.keys():
            found |= self._by_word[word]
        if more := near & self._by_first.keys():
            text = _Text(source, near, self._searched)
            for word in more:
                for rule, entry in self._by_first[word]:
                    if rule not in found and text.holds(self._both(entry)):
                        found.add(rule)
        return found


class _Both(NamedTuple):
    """An entry that is a tuple: its first part, and of the others those that are searched for anyway, and the rest."""

    first: str | re.Pattern[bytes] | _Both
    words: frozenset[str]
    others: tuple[str | re.Pattern[bytes] | _Both, ...]


class _Text:
    """A text: which of `searched` are `near`, that is, in it, and what else it is found to have or not."""

    def __init__(self, source: bytes, near: set[str], searched: Container[str]) -> None:
        self._source = source
        self._near = near
        self._searched = searched
        self._known: dict[str | re.Pattern[bytes], bool] = {}

    def holds(self, entry: str | re.Pattern[bytes] | _Both) -> bool:
        """Whether the text satisfies an entry of a rule."""
        if isinstance(entry, _Both):
            first, words, others = entry
            return self.holds(first) and (not words.isdisjoint(self._near) or any(map(self.holds, others)))
        if entry in self._searched:
            return entry in self._near
        known = self._known.get(entry)
        if known is None:
            found = entry.encode() in self._source if isinstance(entry, str) else entry.search(self._source)
            known = self._known[entry] = bool(found)
        return known


def _first(entry: Entry) -> str:
    if isinstance(entry, tuple):
        return _first(entry[0])
    assert isinstance(entry, str), "an entry begins with a word"
    return entry
