"""The text of a file: its bytes, its encoding, its lines."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence

_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_PIECE = 1 << 20
Stamp = tuple[int, int, int]  # nanoseconds of the last change of the content and of the entry, bytes


def stamp(path: str) -> Stamp | None:
    """What tells one state of a file from another; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size


def read(path: str) -> bytes | str:
    """The bytes of a file, or a sentence why there are none. Devices and pipes are never waited for."""
    try:
        file = os.open(path, os.O_RDONLY | _WITHOUT_WAITING)
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                return "Not a regular file."
            parts = [os.read(file, status.st_size + 1)]
            while parts[-1] and len(parts[0]) != status.st_size:  # it grew, or came in pieces
                parts.append(os.read(file, _PIECE))
            return parts[0] if len(parts) == 1 else b"".join(parts)
        finally:
            os.close(file)
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
    if "\r" not in text:
        return text.split("\n")
    return re.split(r"\r\n|\r|\n", text)


def cell_texts(notebook: bytes) -> dict[int, str]:
    """The texts of a notebook's code cells by their numbers, counted from 1 over all cells. Raises ValueError."""
    import json

    try:
        cells = list(enumerate(json.loads(notebook.decode("utf-8-sig"))["cells"], 1))
        return {n: _joined(cell["source"]) for n, cell in cells if cell["cell_type"] == "code"}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"Not a notebook: {error}") from error


def _joined(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)


def shared(one: Sequence[str], other: Sequence[str]) -> int:
    """How many characters two texts, or lines two lists of them, have in common from the start."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
