"""HTML that cannot be broken by what is in it: all text is escaped, where it is put in."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final

from tokenguard.report.labels import clean

VOID: Final = frozenset({"meta", "input", "link", "rect", "line"})
"""Elements that hold nothing. The slash at their end is SVG's; HTML passes over it."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | Iterable["Child"] | None


def text(content: str) -> Markup:
    """Text as HTML; control and bidirectional characters are a question mark each."""
    return Markup(escape(clean(content)))


def tag(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """An element. `class_` is `class`, `aria_label` is `aria-label`; an attribute that is `None` or false is left out.

    >>> tag("a", "1 < 2 & <script>", tag("b", "!"), href='"x"', hidden=True, title=None)
    '<a href="&quot;x&quot;" hidden>1 &lt; 2 &amp; &lt;script&gt;<b>!</b></a>'
    """
    said = "".join(
        f" {key}" if value is True else f' {key}="{text(_value(value))}"'
        for name_, value in attributes.items()
        if value is not None and value is not False and (key := name_.rstrip("_").replace("_", "-"))
    )
    return Markup(f"<{name}{said}/>" if name in VOID else f"<{name}{said}>{joined(*children)}</{name}>")


def joined(*children: Child) -> Markup:
    """Several pieces, one after the other."""
    return Markup("".join(_pieces(children)))


def _pieces(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, str):
            yield child if isinstance(child, Markup) else text(child)
        else:
            yield from _pieces(child)


def _value(value: str | float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
