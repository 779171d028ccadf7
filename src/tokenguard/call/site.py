"""Where the user's code made the call: the first frame outside SDKs, frameworks and the standard library."""

from __future__ import annotations

import os
import sys
import sysconfig
from fnmatch import fnmatchcase
from types import FrameType

from tokenguard.facts import names
from tokenguard.facts.record import AttributeValue

OUR_FRAMES = 5
"""Frames before the user's, at the least, where a call begins: this one, two of the flow, its driver's, a seam's."""
FRAMES = (None,) * 120
"""So many are looked at, at the most."""
MAX_KNOWN = 10_000
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

_libraries_seen: set[str] = set()
_users_seen: set[str] = set()
"""Files that have been seen, of either kind. By name, and not by code object: those hash their whole content."""


def pass_over(helpers: tuple[str, ...]) -> None:
    """Pass over files that end like these globs: `llm.py`, `app/clients/*`. Replaces those given before."""
    global _helpers
    _helpers = tuple(f"*/{glob.lstrip('/')}" for glob in helpers)
    _libraries_seen.clear()
    _users_seen.clear()


def _is_library(file: str) -> bool:
    if file.startswith("<"):  # <frozen importlib>, <string>: an interpreter's or a framework's own
        return not file.startswith(("<stdin>", "<ipython", "<string>"))
    if file.startswith(_DEMO):
        return False
    if file.startswith(_LIBRARIES) or "/site-packages/" in file or "/dist-packages/" in file:
        return True
    return any(fnmatchcase("/" + file, glob) for glob in _helpers)


def note_call_site(attributes: dict[str, AttributeValue]) -> None:
    """Note the nearest user frame as `code.*` attributes; there is none in a task that a framework has started.

    Asked from the flow of a call.
    """
    frame: FrameType | None = sys._getframe(OUR_FRAMES)
    libraries = _libraries_seen
    for _ in FRAMES:
        if frame is None:
            break
        code = frame.f_code
        if (file := code.co_filename) not in libraries and (file in _users_seen or _is_users(file)):
            attributes[names.CODE_FILE] = file
            attributes[names.CODE_LINE] = frame.f_lineno
            attributes[names.CODE_FUNCTION] = code.co_qualname
            break
        frame = frame.f_back


def _is_users(file: str) -> bool:
    """Whether a file that has not been seen is the user's."""
    library = _is_library(file)
    kind = _libraries_seen if library else _users_seen
    if len(kind) > MAX_KNOWN:  # names of code made at run time would pile up
        kind.clear()
    kind.add(file)
    return not library
