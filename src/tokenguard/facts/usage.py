"""`Usage`: the tokens of a call, and what else it is billed by, as the provider counted them."""

from __future__ import annotations

from tokenguard.facts.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

UNCAPPED_OUTPUT: Final = 4096
"""Output tokens reserved for a call that sets no cap. Only a cap makes a budget's promise a promise."""


class Usage(NamedTuple):
    """What one call, or the sum of several, is billed by; `None` is "not reported", 0 is a zero.

    Counts are tokens, but for those at the end, which are what their names say.

    The counts nest the way OpenTelemetry's GenAI conventions say: `input` holds everything that was sent, the cached
    part included, and `output` everything that was generated, reasoning included.
    """

    input: int | None = None
    """All input tokens: uncached, read from the cache, and written to it."""
    output: int | None = None
    """All output tokens, reasoning included."""
    cache_read: int | None = None
    """The part of `input` that was read from the provider's prompt cache."""
    cache_write: int | None = None
    """The part of `input` that was written to the prompt cache, over all lifetimes."""
    cache_write_30m: int | None = None
    """The part of `cache_write` with a 30 minute lifetime (OpenAI)."""
    cache_write_1h: int | None = None
    """The part of `cache_write` with a 1 hour lifetime (Anthropic). What no lifetime names lives 5 minutes there."""
    cache_write_12h: int | None = None
    """The part of `cache_write` with a 12 hour lifetime (OpenAI)."""
    reasoning: int | None = None
    """The part of `output` spent on reasoning."""
    input_audio: int | None = None
    """The part of `input` that is audio."""
    cache_audio_read: int | None = None
    """The part of `cache_read` that is audio."""
    output_audio: int | None = None
    """The part of `output` that is audio."""
    input_image: int | None = None
    """The part of `input` that is images."""
    output_image: int | None = None
    """The part of `output` that is images."""
    web_searches: int | None = None
    """Searches of the web that the provider ran for the call, as it bills them: some by the prompt that searched."""
    map_searches: int | None = None
    """The same of maps (Google)."""
    file_searches: int | None = None
    """Searches of the caller's files that the provider ran for the call."""
    request: int | None = None
    """What is billed by the request and not by tokens, where the provider counts it: a rerank's searches."""
    cache_image_read: int | None = None
    """The part of `cache_read` that is images."""
    images: int | None = None
    """Pictures that were made."""
    input_seconds: int | None = None
    """Seconds of audio that were sent, rounded up as they are billed."""
    output_seconds: int | None = None
    """Seconds of video, or of audio, that were made."""
    characters: int | None = None
    """Characters of text that were spoken."""
    pages: int | None = None
    """Pages of documents that were read."""
    annotated_pages: int | None = None
    """Pages of documents that were read and annotated: they are no part of `pages`."""
    token_hours: int | None = None
    """Tokens times the hours that the provider keeps them for (an explicit cache), rounded up."""
    megabyte_days: int | None = None
    """Megabytes (10**6 bytes) times the days that the provider keeps them for (a vector store), rounded up."""
    trained_tokens: int | None = None
    """Tokens that a model was tuned with."""

    def plus(self, other: Usage) -> Usage:
        """The sum, count by count; a count stays unknown only when both sides do not know it.

        >>> Usage(input=3, output=1).plus(Usage(input=4))
        Usage(input=7, output=1, ...)
        """
        return Usage(*(b if a is None else a if b is None else a + b for a, b in zip(self, other, strict=True)))

    @property
    def total(self) -> int:
        """Input plus output; an unknown count adds nothing."""
        return (self.input or 0) + (self.output or 0)


UNITS: Final = (
    *("images", "input_seconds", "output_seconds", "characters", "pages", "annotated_pages", "token_hours"),
    *("megabyte_days", "trained_tokens"),
)
"""The counts of what is no token, and is made or read; searches and requests are apart from them."""
