"""Finding and reading the policy file."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Callable, Mapping
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any, Final

from tokenguard.facts import names
from tokenguard.facts.errors import PolicyError
from tokenguard.policy.find import FILE, PLATFORM, PYPROJECT, candidates, floors
from tokenguard.policy.layers import Layer, alone, laid
from tokenguard.policy.locate import Lines
from tokenguard.policy.locate import Path as Keys
from tokenguard.policy.model import Policy
from tokenguard.policy.read import read

MAX_BYTES: Final = 1_000_000
"""A policy is a page or two; a file beyond this was not meant."""


def load(path: str | os.PathLike[str] | None = None, *, floor: bool = False) -> Policy:
    """The policy in `path`, or else the one that is found; without one, a `Policy` that limits nothing.

    Found are a floor, which `/etc/tokenguard/tokenguard.toml` and `TOKENGUARD_POLICY` lay, and on it the nearest file,
    from the working directory upwards: `tokenguard.toml`, or `pyproject.toml` with a `[tool.tokenguard]` table. A
    `path` is taken as it is, or with `floor` as the nearest file. Raises `PolicyError`.
    """
    if path is not None and not floor:
        return alone(_layer(Path(path)))
    hint = f" (named by the environment variable {names.ENV_POLICY})"
    layers = [_layer(Path(each), hint if each != PLATFORM else "") for each in floors()]
    near = _nearest() if path is None else _layer(Path(path))
    if near is not None and all(near.policy.source != each.policy.source for each in layers):
        layers.append(near)
    if not layers:
        return Policy()
    return alone(layers[0]) if len(layers) == 1 else reduce(laid, layers).policy


def loads(text: str, filename: str = "<policy>") -> Policy:
    """The policy that `text` (TOML) states; `filename` is for messages, and for where relative paths start."""
    return alone(_parsed(text, filename, Path(filename).name == PYPROJECT))


def from_mapping(raw: Mapping[str, Any], filename: str = "<policy>") -> Policy:
    """The policy that an already parsed mapping states, in the grammar of the file."""
    return read(raw, filename, None)


def _nearest() -> Layer | None:
    for candidate in map(Path, candidates()):
        if candidate.name == FILE:
            return _layer(candidate)
        if (layer := _in_pyproject(candidate)) is not None:
            return layer
    return None


def _layer(path: Path, hint: str = "") -> Layer:
    return _parsed(_text(path, _bytes(path, hint)), str(path), path.name == PYPROJECT)


def _in_pyproject(path: Path) -> Layer | None:
    """The policy of a `pyproject.toml` that was come across; `None` if it has none, however broken it may be."""
    try:
        data = _bytes(path)
        if b"tokenguard" not in data:
            return None
        raw, _ = _tables(_text(path, data).replace("\r\n", "\n"))
    except PolicyError:
        return None
    except tomllib.TOMLDecodeError:
        raw = {"tool": {"tokenguard": {}}}  # it names us and is broken: `_parsed` says where
    table = raw.get("tool", {})
    return _layer(path) if isinstance(table, dict) and "tokenguard" in table else None


def _bytes(path: Path, hint: str = "") -> bytes:
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            raise PolicyError(f"{path}: this is not a file{hint}; name the policy file itself, such as {path / FILE}")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        fix = "check the path" if isinstance(error, FileNotFoundError) else "check that this user may read it"
        raise PolicyError(f"{path}: the policy cannot be read: {error.strerror or error}{hint}; {fix}") from error
    if len(data) > MAX_BYTES:
        size = max(info.st_size, len(data))
        raise PolicyError(
            f"{path}: {size:,} bytes is too large for a policy (at most {MAX_BYTES:,}); is this the right file?"
        )
    return data


def _text(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")  # editors on Windows put a byte order mark in front, which tomllib refuses
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PolicyError(
            f"{path}:{line}: byte {data[error.start]:#04x} is not UTF-8, and TOML always is; save the file as UTF-8"
        ) from error


def _parsed(text: str, filename: str, in_pyproject: bool) -> Layer:
    raw, line_of, source = _raw(text, filename, in_pyproject)
    return Layer(read(raw, filename, line_of, source), raw, line_of, filename)


@lru_cache(maxsize=1)
def _tables(text: str) -> tuple[dict[str, Any], Lines]:
    """What a TOML file says, and where; of the last one, as a pyproject.toml is looked into before it is read."""
    return tomllib.loads(text), Lines(text)


Raw = tuple[Mapping[str, Any], Callable[[Keys], int], str]
"""The tables of a policy file, the line of a key in it, and where relative paths start; empty for no file."""


def raw(path: str | os.PathLike[str]) -> Raw:
    """The tables of a policy file before they are read, for what reads more than the policy from it.

    Raises `PolicyError` for a file that cannot be read or is no TOML.
    """
    file = Path(path)
    return _raw(_text(file, _bytes(file)), str(file), file.name == PYPROJECT)


def _raw(text: str, filename: str, in_pyproject: bool) -> Raw:
    text = text.replace("\r\n", "\n")
    try:
        raw, lines = _tables(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)", str(error))
        line = int(found[1]) if found and found[1] else text.count("\n") + 1
        why = str(error)[: found.start()] if found else str(error)
        shown = text.split("\n")[line - 1].strip()[:60]
        raise PolicyError(f"{filename}:{line}: this is not valid TOML: {why}, in `{shown}`") from error
    except RecursionError as error:
        raise PolicyError(f"{filename}: its values are nested too deeply for a policy; flatten them") from error
    source = str(Path(filename).absolute()) if Path(filename).suffix == ".toml" else ""
    if not in_pyproject:
        return raw, lines.of, source
    table = raw.get("tool")
    if not isinstance(table, dict) or "tokenguard" not in table:
        raise PolicyError(f"{filename}: it has no [tool.tokenguard] table; add one, or put the policy into {FILE}")
    return table["tokenguard"], lambda path: lines.of(("tool", "tokenguard", *path)), source
