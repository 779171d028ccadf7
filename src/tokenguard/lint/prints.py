"""What code scanning knows a line by, from one upload to the next (`primaryLocationLineHash`).

GitHub's upload action works it out where it is missing (github/codeql-action, `src/fingerprints.ts`): a hash of the
hundred characters from the line's start on, without spaces and tabs, and how many lines before have the same.
Uploads by the API have to bring it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection

from tokenguard.lint.sources import lines_of

_WINDOW = 100
_BASE = 37
_END = "\uffff"  # of the file; what is behind it counts as zeros
_BLANK = str.maketrans("", "", " \t")
_WIDE = re.compile("[\U00010000-\U0010ffff]")


def prints(source: bytes, wanted: Collection[int]) -> dict[int, str]:
    """The prints of the `wanted` lines of a file, which count from 1."""
    lines = [line.translate(_BLANK) for line in lines_of(_WIDE.sub(_halves, source.decode("utf-8", "replace")))]
    text = "\n".join(lines) + _END + "\0" * _WINDOW
    found, seen, start = {}, Counter[str](), 0
    for number, line in enumerate(lines, 1):
        window = text[start : start + _WINDOW]
        seen[window] += 1
        if number in wanted:
            found[number] = f"{_hash(window):x}:{seen[window]}"
        start += len(line) + 1
    return found


def _halves(match: re.Match[str]) -> str:
    """A character beyond 16 bits as the two that JavaScript sees."""
    high, low = divmod(ord(match[0]) - 0x10000, 0x400)
    return chr(0xD800 + high) + chr(0xDC00 + low)


def _hash(window: str) -> int:
    number = 0
    for character in window:
        number = number * _BASE + ord(character)
    return number & 0xFFFF_FFFF_FFFF_FFFF
