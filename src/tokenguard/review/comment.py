"""The comment: its sections, one after the other, within what GitHub takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tokenguard.review.section import Section

MARK: Final = "<!-- tokenguard ci -->"
"""The comment's first line, by which the next run finds it."""
MOST: Final = 65_536
"""Characters that a comment on GitHub has at most (a constant of its API: `Body is too long`)."""
NOTHING: Final = "Nothing changed in what the tests spend, nor in what the linter finds."
SHORTENED: Final = "Left out, as the comment would be too long: {}."


def comment(base: str, sections: Sequence[Section]) -> str:
    """The sections in Markdown, under the mark and the base's commit. Those that no longer fit are named."""
    parts = [f"{MARK}\n## TokenGuard\n\nAgainst `{base}`."]
    left_out = []
    for section in sections:
        text = f"### {section.title}\n\n{section.text}"
        if len("\n\n".join([*parts, text])) > MOST - 1000:
            left_out.append(section.title)
        else:
            parts.append(text)
    if left_out:
        parts.append(SHORTENED.format(", ".join(left_out)))
    if not sections:
        parts.append(NOTHING)
    return "\n\n".join(parts) + "\n"
