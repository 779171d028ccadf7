"""What commands print for programs: one JSON object, with the version of its schema in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

VERSION: Final = 1
"""Of all of these (`tokenguard schema`). A new one: a key was changed or removed. Keys may be added without."""


def document(facts: Mapping[str, Any], *, utf8: bool = True) -> str:
    """The facts as JSON, the version first. Money is USD, shares are of 1, unknown is null.

    >>> document({"rows": []}).replace(chr(10), "")
    '{  "version": 1,  "rows": []}'
    """
    return json.dumps({"version": VERSION, **facts}, indent=2, ensure_ascii=not utf8)
