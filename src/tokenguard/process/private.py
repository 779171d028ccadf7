"""Files of ours hold whose calls cost what: only their owner may read them."""

from __future__ import annotations

import os
from pathlib import Path


def private(path: Path) -> None:
    """Make the file at `path`, where there is none, readable by its owner alone, whatever the umask; its folders too.

    What is there already is left as it is. Raises `OSError` where a symbolic link stands: it could lead anywhere.
    """
    if path.is_symlink():
        raise OSError(f"{path} is a symbolic link, which is not followed; name the file itself")
    for folder in reversed([folder for folder in path.parents if not folder.exists()]):
        folder.mkdir(mode=0o700, exist_ok=True)
    if not path.exists():
        # SQLite gives the files beside it the mode of this one.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o600))
