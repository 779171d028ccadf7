"""Names and times as they are shown. What callers name their tenants is not ours to trust."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from tokenguard.report.numbers import UNKNOWN

if TYPE_CHECKING:
    from tokenguard.store.faults import Fault

NO_VALUE: Final = "(none)"
FORMULA: Final = ("=", "+", "-", "@")
"""What a spreadsheet takes for the beginning of a formula (https://owasp.org/www-community/attacks/CSV_Injection)."""


def clean(text: str) -> str:
    r"""Text that a terminal takes for text: control and bidirectional characters are a question mark each.

    >>> clean("a\x1b[2Jb")
    'a?[2Jb'
    """
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


def missed(fault: Fault) -> str:
    """What TokenGuard itself has missed, as a sentence without an end."""
    return f"TokenGuard missed something: {clean(fault.text)}, last at {when(fault.last_ns)} UTC"


def cell(text: str) -> str:
    """Text that a spreadsheet takes for text: an apostrophe before what would begin a formula.

    >>> cell("=HYPERLINK()"), cell("rag")
    ("'=HYPERLINK()", 'rag')
    """
    text = clean(text)
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text


def markdown(text: str) -> str:
    r"""Text that Markdown takes for text.

    >>> markdown("a|b <img> [x](y)")
    'a\\|b &lt;img&gt; \\[x\\](y)'
    """
    text = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~@])", r"\\\1", text)


def when(ns: int | None) -> str:
    """A Unix time as a date and a time of day in UTC."""
    return UNKNOWN if ns is None else f"{datetime.fromtimestamp(ns / 1e9, UTC):%Y-%m-%d %H:%M}"


def iso(ns: int | None) -> str | None:
    """A Unix time in ISO 8601."""
    return None if ns is None else datetime.fromtimestamp(ns // 10**9, UTC).isoformat()
