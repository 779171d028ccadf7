"""The files of a multipart request, described: so that what they come to is known, and requests are told apart.

Nothing of a file is copied, and it is read from where it was: of an audio file in WAV its head says how long it plays.
A batch's requests are the exception: `read_again` reads them whole, as they are what is to be paid for.
"""

from __future__ import annotations

import inspect
import io
import json
import os
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

HEAD = 4096
"""Bytes of a file that are looked at."""
BATCH_PURPOSES = ("batch", "batch-api")
"""What files of a batch's requests are uploaded for: OpenAI's and Mistral's word, and Together's."""
MAX_UPLOAD = 256 * 2**20
"""Bytes of a batch's input; OpenAI takes 200 MB, Mistral 512."""


def described(files: Any) -> dict[str, Any]:
    """The files of a request by name, one or several under each, as `{"type": "file", "bytes": 1200, ...}`.

    `files` is a mapping, or pairs, of names to contents, or to tuples of a file's name, its content and more.
    """
    pairs: Iterable[tuple[str, Any]] = files.items() if isinstance(files, Mapping) else files
    found: dict[str, list[dict[str, Any]]] = {}
    for name, given in pairs:
        content = given[1] if isinstance(given, tuple) and len(given) > 1 else given
        found.setdefault(name.removesuffix("[]"), []).append(describe(content))
    return {name: several if len(several) > 1 else several[0] for name, several in found.items()}


def multipart(stream: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of an httpx request that is yet to be sent, files described, and what it takes to send the files."""
    fields: dict[str, Any] = {}
    files: dict[str, Any] = {}
    for field in stream.fields:
        if hasattr(field, "file"):
            fields[field.name] = describe(field.file)
            files[field.name] = (field.filename, field.file, field.headers.get("Content-Type"))
        else:
            fields[field.name] = field.value
    return fields, files


def describe(content: Any) -> dict[str, Any]:
    """A file's size in bytes, a checksum of its beginning, and the seconds of one in WAV, as far as they are told."""
    size, head = beginning(content)
    told: dict[str, Any] = {"type": "file", "head": zlib.crc32(head)}
    if size is not None:
        told["bytes"] = size
        if (seconds := _seconds(head, size)) is not None:
            told["seconds"] = seconds
    return told


def beginning(content: Any) -> tuple[int | None, bytes]:
    """The size of a content, and its beginning; from a file, which stays where it was."""
    if isinstance(content, str):
        content = content.encode()
    if isinstance(content, bytes | bytearray | memoryview):
        return len(content), bytes(content[:HEAD])
    if isinstance(content, os.PathLike):
        with open(content, "rb") as file:
            return beginning(file)
    try:
        if not _seekable(content):
            return None, b""
        at = content.tell()
        try:
            head = content.read(HEAD)
            content.seek(0, io.SEEK_END)
            size = content.tell() - at
        finally:
            content.seek(at)
    except (AttributeError, OSError, TypeError, ValueError):  # no file, or one of another kind
        return None, b""
    return size, head if isinstance(head, bytes) else str(head).encode()


def _seconds(head: bytes, size: int) -> float | None:
    """How long a WAV file plays: its data, by its bytes a second (http://soundfile.sapp.org/doc/WaveFormat)."""
    if len(head) < 44 or head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    at, rate = 12, 0
    while at + 8 <= len(head):
        kind, length = head[at : at + 4], int.from_bytes(head[at + 4 : at + 8], "little")
        if kind == b"fmt ":
            rate = int.from_bytes(head[at + 16 : at + 20], "little")
        if kind == b"data":
            played = min(length, size - at - 8)
            return played / rate if rate else None
        at += 8 + length + length % 2
    return None


def _seekable(file: Any) -> bool:
    """Whether a file can be read, without waiting, and put back: what boto3 reads a part of a file by does not say."""
    if not all(hasattr(file, name) for name in ("read", "seek", "tell")) or inspect.iscoroutinefunction(file.read):
        return False
    said = getattr(file, "seekable", None)
    return said is None or bool(said())


def written(content: Any) -> Any:
    """The JSON that is sent as bytes, in parts or from a file, which stays where it was; `None` for what is none."""
    if isinstance(content, list | tuple) and all(isinstance(each, bytes | bytearray) for each in content):
        content = b"".join(content)
    if not isinstance(content, str | bytes | bytearray):
        content = read_again(content) if _seekable(content) else None
    try:
        return None if content is None else json.loads(content)
    except ValueError:  # UnicodeDecodeError is one
        return None


def read_again(file: Any) -> bytes | None:
    """The content of a file as SDKs take them, which they are to read after this; `None` where that cannot be."""
    if isinstance(file, str):
        return file.encode()
    if isinstance(file, bytes | bytearray):
        return bytes(file)
    if isinstance(file, os.PathLike):
        with open(file, "rb") as opened:
            return read_again(opened)
    if not _seekable(file):
        return None
    here = file.tell()
    try:
        file.seek(0)  # as httpx does
        content = file.read(MAX_UPLOAD + 1)
    finally:
        file.seek(here)
    return content if isinstance(content, bytes) and len(content) <= MAX_UPLOAD else None
