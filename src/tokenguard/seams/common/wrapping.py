"""Putting something of ours in the place of an SDK's function, so that it can be taken back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

Restore = list[tuple[Any, str, Any]]
"""What was replaced: the owner, the name, and what was there."""


def replace(restore: Restore, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Put `make(original)` in the place of `owner.name`, and note it in `restore`.

    A version of the SDK without it is left alone: that fact is missing, and nothing else.
    """
    original = getattr(owner, name, None)
    if original is not None:
        restore.append((owner, name, original))
        setattr(owner, name, functools.wraps(original)(make(original)))
