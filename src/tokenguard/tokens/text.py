"""Counting tokens before the provider does: bounds that cost nothing, and exact counts that need no network.

A text has at most as many tokens as UTF-8 bytes, because every token of a byte-level encoding stands for at least one:
`upper_bound` decides most questions. `count_text` is exact for OpenAI's models; the ranks of their encodings come with
the package (`data/README.md`) and are loaded, with tiktoken, at the first count. For other providers, whose tokenizers
are not published, the same count is an estimate, and `is_exact` says so.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from tokenguard.facts.patterns import lazy
from tokenguard.process.native import RLock
from tokenguard.process.threads import elsewhere

if TYPE_CHECKING:
    from tiktoken import Encoding

O200K = "o200k_base"
CL100K = "cl100k_base"

FAMILIES = (
    (O200K, lazy(r"(chatgpt-4o|gpt-4o|gpt-4\.[15]|gpt-[5-9]|gpt-oss|o[1-9])(?![a-z0-9])")),
    (CL100K, lazy(r"(gpt-4|gpt-3\.5|gpt-35|text-embedding|davinci-002|babbage-002)(?![a-z0-9.])")),
)
"""Which encoding a model's name means, by how it begins. Source: `tiktoken/model.py`, which is silent on gpt-6."""

PATTERNS = {
    O200K: (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    CL100K: (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
        r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
    ),
}
"""How an encoding splits a text before it merges bytes. Source: `tiktoken_ext/openai_public.py` (MIT)."""

SPECIAL_TOKENS = {O200K: {"<|endoftext|>": 199999}, CL100K: {"<|endoftext|>": 100257}}
"""An encoding must have one; in a user's text they are ordinary characters, as they are for the provider."""

DATA = Path(__file__).parent.parent / "data"

SEGMENT = 50_000
"""Characters. Texts twice this long are counted in pieces: tiktoken 0.14 panics on a megabyte of spaces."""
BOUNDARY = lazy(r"(?<=[^\W_])(?=[ \n])")
"""Where a cut changes no count: in both patterns, white space behind a letter or digit begins a new piece."""

REMEMBERED_LENGTH = 256
"""Characters. Shorter texts are counted again in less time than it takes to be clever."""
REMEMBERED_TEXTS = 4096
LONGEST = 2**18
"""Characters of an answer that are counted for an estimate: its caller waits for that."""

_loading = RLock()  # the collector may end a stream while its own thread holds one
_encodings: dict[str, Encoding] = {}
_remembering = RLock()
_remembered: OrderedDict[tuple[str, int, int], int] = OrderedDict()


def upper_bound(text: str) -> int:
    """A number that the tokens of `text` cannot pass: its length in UTF-8 bytes.

    >>> upper_bound("naïve")
    6
    """
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def count_text(text: str, model: str | None) -> int:
    """The tokens of `text`: exact where `is_exact(model)`, elsewhere what OpenAI's current encoding makes of it.

    What looks like a special token is counted as the ordinary text it is. In a text of more than 100,000 characters
    with no white space behind a letter, every 100,000th may cut a token and add one to the count.
    """
    if not text:
        return 0
    name = encoding_name(model) or O200K
    if len(text) < REMEMBERED_LENGTH:
        return _count(text, name)
    key = (name, hash(text), len(text))  # not the text: a memory of counts must not keep what people wrote
    with _remembering:
        if (known := _remembered.get(key)) is not None:
            _remembered.move_to_end(key)
            return known
    counted = _count(text, name)
    with _remembering:
        _remembered[key] = counted
        if len(_remembered) > REMEMBERED_TEXTS:
            _remembered.popitem(last=False)
    return counted


def estimate_tokens(text: str, model: str | None = None) -> int:
    """The tokens of `text` for any model, as well as is known: of one beyond `LONGEST`, by its beginning."""
    if len(text) <= LONGEST:
        return count_text(text, model)
    return count_text(text[:LONGEST], model) * len(text) // LONGEST


def is_exact(model: str | None) -> bool:
    """Whether `count_text` counts as this model's provider does.

    >>> is_exact("gpt-4o-mini"), is_exact("claude-sonnet-4-5")
    (True, False)
    """
    return encoding_name(model) is not None


@lru_cache(maxsize=1024)
def encoding_name(model: str | None) -> str | None:
    """The encoding of an OpenAI model, also one that is fine-tuned or named with its provider; `None` for others.

    >>> encoding_name("ft:gpt-4o-mini-2024-07-18:acme::x1")
    'o200k_base'
    """
    base = _base(model)
    return next((name for name, family in FAMILIES if family.match(base)), None)


def reasons(model: str | None) -> bool:
    """Whether an OpenAI model thinks before it answers: o1 and its kin, gpt-oss, and everything since gpt-5.

    >>> reasons("o3-mini"), reasons("gpt-4.1")
    (True, False)
    """
    return encoding_name(model) == O200K and not _base(model).startswith(("gpt-4", "chatgpt-4"))


def _base(model: str | None) -> str:
    """A model's own name, without a provider before it or a fine-tune's prefix."""
    return (model or "").lower().rpartition("/")[2].removeprefix("ft:")


def encoding(name: str) -> Encoding:
    """The encoding `o200k_base` or `cl100k_base`, made from the packaged ranks; loaded once, in about 0.2 s."""
    if name not in _encodings:
        with _loading:
            if name not in _encodings:
                _encodings[name] = elsewhere(_load, name)  # not on an event loop, which files may block
    return _encodings[name]


def warm() -> None:
    """Load what most models count with now (0.2 s), so that no call has to, and no event loop waits for it."""
    encoding(O200K)


def _load(name: str) -> Encoding:
    from tiktoken import Encoding

    # The format is told in scripts/build_ranks.py.
    data = BytesIO(zlib.decompress((DATA / f"{name}.zlib").read_bytes()))
    size = int.from_bytes(data.read(4), "little")
    ranks = dict(zip(map(data.read, data.read(size)), range(size), strict=True))
    made = Encoding(name, pat_str=PATTERNS[name], mergeable_ranks=ranks, special_tokens=SPECIAL_TOKENS[name])
    ranks.clear()  # 25 MB that it holds for who pickles it: what counts has a copy
    return made


def _count(text: str, name: str) -> int:
    encode = encoding(name).encode_ordinary
    if len(text) <= 2 * SEGMENT:
        return len(encode(text))
    return sum(len(encode(segment)) for segment in _segments(text))


def _segments(text: str) -> Iterator[str]:
    """`text` in pieces of at most two segments, cut where no token is, if there is such a place."""
    start = 0
    while len(text) - start > 2 * SEGMENT:
        cut = BOUNDARY.search(text, start + SEGMENT, start + 2 * SEGMENT)
        end = cut.start() if cut else start + 2 * SEGMENT
        yield text[start:end]
        start = end
    yield text[start:]
