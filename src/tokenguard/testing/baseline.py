"""`.tokenguard/baseline.json`: what each test spent when it was last accepted. Sorted, a line a value, no content."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tokenguard.facts.tuples import NamedTuple
from tokenguard.testing.figures import Figures

VERSION: Final = 1


class Entry(NamedTuple):
    """What one test spent."""

    calls: int
    cost_usd: float | None
    """`None` when the cost of a call is not known."""
    input_tokens: int | None
    output_tokens: int | None
    prefixes: tuple[str, ...] = ()
    """The hashes of its prompts' cacheable beginnings."""


class CorruptBaseline(Exception):
    """A baseline that cannot be read; the text names the file, what is wrong and what to do."""


def entry_of(figures: Figures, prefixes: tuple[str, ...]) -> Entry:
    """The entry of a test: money to the nano-dollar, so that the file does not tell float from float."""
    known = not figures.unreported
    return Entry(
        figures.calls,
        None if figures.unpriced else round(figures.cost_usd, 9),
        figures.input_tokens if known else None,
        figures.output_tokens if known else None,
        prefixes,
    )


def read(path: Path) -> dict[str, Entry] | None:
    """The entries by test; `None` without a file. Raises `CorruptBaseline`."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CorruptBaseline(f"{path}: the baseline cannot be read: {error.strerror or error}.") from error
    try:
        raw = json.loads(data)
        if not isinstance(raw, dict) or not isinstance(raw.get("tests"), dict):
            raise ValueError("it has no object `tests`")  # noqa: TRY004 - all of these are about the file
        if raw.get("version") != VERSION:
            raise ValueError(f"its version is {raw.get('version')!r}, and this one reads {VERSION}")
        return {test: _entry(test, values) for test, values in raw["tests"].items()}
    except (ValueError, RecursionError) as error:  # JSON's and Unicode's errors are ValueErrors
        raise CorruptBaseline(
            f"{path}: the baseline is corrupt: {error}. Restore it from version control, or delete it and run "
            "pytest --tokenguard-update."
        ) from error


def _entry(test: str, values: Any) -> Entry:
    def number(key: str, kind: type[int | float], *, known: bool = False) -> Any:
        value = values.get(key) if isinstance(values, dict) else None
        if value is None and not known and isinstance(values, dict) and key in values:
            return None
        if not isinstance(value, int | kind) or isinstance(value, bool) or not 0 <= float(value) < float("inf"):
            raise ValueError(f"{test}: {key} is {value!r}, and not a number from 0 on")
        return value

    prefixes = values.get("prefixes", []) if isinstance(values, dict) else []
    if not isinstance(prefixes, list) or not all(isinstance(each, str) for each in prefixes):
        raise ValueError(f"{test}: prefixes is {prefixes!r}, and not a list of texts")
    return Entry(
        number("calls", int, known=True),
        number("cost_usd", float),
        number("input_tokens", int),
        number("output_tokens", int),
        tuple(prefixes),
    )


def write(path: Path, entries: Mapping[str, Entry]) -> None:
    """Replace the file as a whole, or leave it as it is; may raise `OSError`."""
    tests = {test: {**entry._asdict(), "prefixes": list(entry.prefixes)} for test, entry in entries.items()}
    text = json.dumps({"version": VERSION, "tests": tests}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    write_atomically(path, text)


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that whoever reads it finds the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        with contextlib.suppress(OSError):  # mkstemp's files are private, and this one is for everybody
            os.chmod(name, path.stat().st_mode if path.exists() else 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
