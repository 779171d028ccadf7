"""Files that are read as a source: how they begin, and what is said of one that cannot be read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tokenguard.facts.errors import TokenGuardError

GZIP_MAGIC: Final = b"\x1f\x8b"
WOULD_DO: Final = (
    "Give a store, the lines that the OpenTelemetry collector's file exporter writes (format: json), or a folder that "
    "tokenguard store export wrote."
)


class SourceError(TokenGuardError):
    """A source that cannot be read; the message says what it is and what would do."""


def begins(path: Path, *magics: bytes) -> bool:
    """Whether a file begins with one of these; not, where there is none."""
    try:
        with path.open("rb") as file:
            return file.read(16).lstrip().startswith(magics)
    except FileNotFoundError:
        return False


def is_address(source: str) -> bool:
    """Whether a source is a table in ClickHouse."""
    return source.startswith(("clickhouse://", "clickhouses://"))


def shown(source: Path | str) -> str:
    """A source without its password."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1@", str(source)) if isinstance(source, str) else str(source)
