"""Bodies that came compressed, as far as they came: an SDK reads a stream to its last event, and not to its end."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

MOST: Final = 2**25
"""Bytes of a body that are looked at."""
ANY_HEADER: Final = 47
"""zlib's `wbits` for gzip and for zlib."""


def unzipped(encoding: str, body: bytes) -> bytes | None:
    """What a body says by its `content-encoding`, as far as it came; `None` where that cannot be read here.

    >>> unzipped("gzip", zlib.compress(b"data: [DONE]", wbits=31)[:-8]), unzipped("", b"{}"), unzipped("x", b"{}")
    (b'data: [DONE]', b'{}', None)
    """
    try:
        return BY_ENCODING[encoding.strip().lower()](body)
    except Exception:  # another encoding, damaged data, a package that is not there: the SDK could not read it either
        return None


def _zlib(body: bytes) -> bytes:
    return zlib.decompressobj(ANY_HEADER).decompress(body, MOST)


def _brotli(body: bytes) -> bytes:
    try:
        package = import_module("brotli")
    except ImportError:
        package = import_module("brotlicffi")
    reader: Any = package.Decompressor()
    found: bytes = (getattr(reader, "process", None) or reader.decompress)(body)
    return found


def _zstandard(body: bytes) -> bytes:
    try:
        reader: Any = import_module("zstandard").ZstdDecompressor().decompressobj()
    except ImportError:
        reader = import_module("compression.zstd").ZstdDecompressor()
    found: bytes = reader.decompress(body)
    return found


BY_ENCODING: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    **dict.fromkeys(("", "identity"), lambda body: body),
    **dict.fromkeys(("gzip", "x-gzip", "deflate"), _zlib),
    "br": _brotli,
    "zstd": _zstandard,
}
