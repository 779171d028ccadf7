"""The user's folder for what can be made again, and files in it that nobody else has written."""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress


def folder() -> str:
    """Ours among the user's caches, which may not be there yet; "" where the user has none."""
    above = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(above, "tokenguard") if os.path.isabs(above) else ""


def ours(found: os.stat_result) -> bool:
    """Whether nobody else can have written a file."""
    uid = getattr(os, "geteuid", lambda: found.st_uid)()
    others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) if os.name == "posix" else 0
    return found.st_uid == uid and not others and stat.S_ISREG(found.st_mode)


def put(path: str, content: bytes) -> None:
    """Write a file, readable by the user alone, in one step; its folder, too. Raises `OSError`."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    begun = f"{path}.{os.getpid()}-{time.time_ns()}"
    try:
        with open(os.open(begun, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(content)
        os.replace(begun, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(begun)
        raise
