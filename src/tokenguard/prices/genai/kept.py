"""The price list as plain data in the user's cache: to read it takes a hundredth of the time that making it does.

It is kept by the release that it was made of and ours, and made anew for others. Several processes may write it at
once; what is torn, what somebody else owns, and a folder that cannot be written to, are as if there were none.
"""

from __future__ import annotations

import marshal
import os
import sys
import time
from binascii import crc32
from contextlib import suppress
from typing import Any, Final

from tokenguard.prices.genai.sellers import ModelInfo
from tokenguard.prices.sieve import leaves
from tokenguard.process import caches

SHAPE: Final = 2
"""Of `types`, of `sieve` and of this file: another number whenever one of them changes."""
PREFIX: Final = "prices-"
KEPT_S: Final = 30 * 86_400
"""What nobody has asked for so long is deleted."""
KEPT_MOST: Final = 16
"""As are those beyond so many, the longest ago first: environments that are made for one run have a file each."""
TOUCHED_S: Final = 86_400
"""How often it is noted that somebody has asked."""
SUM_BYTES: Final = 4

Packed = tuple[list[str], list[tuple[str, list[str], bytes, bytes]]]
"""The days on which prices take effect, and of each seller its id, those whose models it sells, too, and its own ones
as marshal's bytes, and then what names they can have (`sieve.Leaves`)."""


def packed(sellers: list[Any]) -> Packed:
    """The sellers of `types`, each in bytes of its own. Raises `ValueError` for what is no plain data."""
    priced = [prices for _, _, models in sellers for _, _, prices, _ in models if isinstance(prices, list)]
    days = {when[1] for prices in priced for when, _ in prices if when is not None and when[0] == "date"}
    return sorted(days), [(name, others, *_in_bytes(models)) for name, others, models in sellers]


def _in_bytes(models: list[Any]) -> tuple[bytes, bytes]:
    """Models, and what names they can have."""
    return marshal.dumps(models), marshal.dumps(leaves([ModelInfo(*plain) for plain in models]))


def read(source: str, release: str) -> Packed | None:
    """What was made of the data in the file `source` of that release of genai-prices; `None`: nothing that is whole."""
    try:
        path, key = _place(source, release)
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            if not caches.ours(found):
                return None
            content = file.read()
        if crc32(content[SUM_BYTES:]) != int.from_bytes(content[:SUM_BYTES], "big"):
            return None
        made_of, kept = marshal.loads(content[SUM_BYTES:])  # noqa: S302 - our own file, and whole
        if made_of != key:
            return None
        if time.time() - found.st_mtime > TOUCHED_S:
            with suppress(OSError):
                os.utime(path)
    except (OSError, ValueError, EOFError, TypeError):
        return None
    whole: Packed = kept
    return whole


def write(source: str, release: str, made: Packed) -> None:
    """Keep it, if there is a place for it."""
    with suppress(OSError):
        path, key = _place(source, release)
        content = marshal.dumps((key, made))
        caches.put(path, crc32(content).to_bytes(SUM_BYTES, "big") + content)
        _tidy(os.path.dirname(path))


def _place(source: str, release: str) -> tuple[str, tuple[Any, ...]]:
    """The file, and what is in it; raises `OSError` where there is no folder for it or no source."""
    from tokenguard import __version__

    folder = caches.folder()
    if not folder:
        raise FileNotFoundError("no folder for caches")
    data = os.stat(source)
    key = (SHAPE, __version__, sys.implementation.cache_tag, release, source, data.st_mtime_ns, data.st_size)
    return os.path.join(folder, f"{PREFIX}{crc32(repr(key).encode()):08x}"), key


def _tidy(folder: str) -> None:
    found: list[tuple[float, str]] = []
    with os.scandir(folder) as files:
        for file in files:
            with suppress(OSError):  # another process has taken it away
                if file.name.startswith(PREFIX):
                    found.append((file.stat().st_mtime, file.path))
    before = time.time() - KEPT_S
    for place, (asked, path) in enumerate(sorted(found, reverse=True)):
        if place >= KEPT_MOST or asked < before:
            with suppress(OSError):
                os.unlink(path)
