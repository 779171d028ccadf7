"""The text of a file: its bytes, its encoding, its lines."""

from __future__ import annotations

import os
import re


def read(path: str) -> bytes | str:
    """The bytes of a file, or a sentence why there are none. Devices and pipes are never opened."""
    try:
        if not os.path.isfile(path):
            return "Not a regular file."
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        return f"Cannot be read: {error.strerror or error}"


def decode(source: bytes) -> str:
    """The text of a Python source, by its byte order mark or coding comment; the BOM is dropped."""
    encoding = "utf-8"
    if b"coding" in b"\n".join(source.split(b"\n", 2)[:2]):
        import contextlib
        import io
        import tokenize

        with contextlib.suppress(SyntaxError, LookupError):
            encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
    return source.decode(encoding, "replace").removeprefix("\ufeff")


def lines_of(text: str) -> list[str]:
    """The lines of a text as the parser counts them: only line feeds and carriage returns end one."""
    return re.split(r"\r\n|\r|\n", text)
