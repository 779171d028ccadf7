"""Where the user's code made the call: the first frame outside SDKs, frameworks and the standard library."""

from __future__ import annotations

import os
import sys
import sysconfig
from fnmatch import fnmatchcase
from types import FrameType

from tokenguard.facts import names
from tokenguard.facts.record import AttributeValue

MAX_FRAMES = 120
_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_LIBRARIES = tuple(
    {
        real_or_not + os.sep
        for path in (*map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")), _OWN)
        for real_or_not in (path, os.path.realpath(path))  # links are followed here, once: a look at the disk blocks
    }
)
_DEMO = tuple(os.path.join(path, "demo") + os.sep for path in (_OWN, os.path.realpath(_OWN)))

_helpers: tuple[str, ...] = ()
"""Globs of the user's own wrappers, which are passed over as libraries are."""

_known: dict[str, bool] = {}
"""By file name. Not by code object: those hash their whole content at every look-up."""


def pass_over(helpers: tuple[str, ...]) -> None:
    """Pass over files that end like these globs: `llm.py`, `app/clients/*`. Replaces those given before."""
    global _helpers
    _helpers = tuple(f"*/{glob.lstrip('/')}" for glob in helpers)
    _known.clear()


def _is_library(file: str) -> bool:
    if file.startswith("<"):  # <frozen importlib>, <string>: an interpreter's or a framework's own
        return not file.startswith(("<stdin>", "<ipython", "<string>"))
    if file.startswith(_DEMO):
        return False
    if file.startswith(_LIBRARIES) or "/site-packages/" in file or "/dist-packages/" in file:
        return True
    return any(fnmatchcase("/" + file, glob) for glob in _helpers)


def call_site() -> dict[str, AttributeValue]:
    """The nearest user frame as `code.*` attributes; empty when there is none (a task started by a framework)."""
    frame: FrameType | None = sys._getframe(1)
    for _ in range(MAX_FRAMES):
        if frame is None:
            break
        code = frame.f_code
        library = _known.get(code.co_filename)
        if library is None:
            if len(_known) > 10_000:  # names of code made at run time would pile up
                _known.clear()
            library = _known[code.co_filename] = _is_library(code.co_filename)
        if not library:
            return {
                names.CODE_FILE: code.co_filename,
                names.CODE_LINE: frame.f_lineno,
                names.CODE_FUNCTION: code.co_qualname,
            }
        frame = frame.f_back
    return {}
