"""Values put into a policy file, whose other lines stay as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tokenguard.policy.locate import Lines


def with_values(text: str, table: tuple[str | int, ...], values: Mapping[str, float | int | str]) -> str:
    """The file with these values in a table, such as `("cache", 0)`: in place of what it says, or below its header."""
    lines, found = text.splitlines(), Lines(text)
    header = found.of(table)
    for key, value in reversed(list(values.items())):
        line = f"{key} = {json.dumps(value)}"
        at = found.of((*table, key))
        if at == header:  # it is not there
            lines.insert(header, line)
            found = Lines("\n".join(lines))
        else:
            lines[at - 1] = line
    return "\n".join(lines) + "\n"
