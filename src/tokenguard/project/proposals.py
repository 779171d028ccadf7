"""The files that `tokenguard init` writes or changes, each with its text as it would be. Nothing is written here."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from typing import Final

from tokenguard.facts.tuples import NamedTuple
from tokenguard.project.look import Project
from tokenguard.project.policy import Traffic, first_policy

HOOK: Final = """\
- repo: local
  hooks:
    - id: tokenguard-lint
      name: tokenguard lint
      entry: tokenguard lint --force-exclude
      language: system
      types_or: [python, jupyter]
      require_serial: true
"""

WORKFLOW: Final = """\
name: tokenguard
on: [pull_request]
permissions: { contents: read }
jobs:
  lint:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: { python-version: "3.13" }
      - run: pip install tokenguard-otel
      - run: tokenguard lint --format github
"""

IGNORED: Final = ".tokenguard/*\n!.tokenguard/baseline.json\n"


class Proposal(NamedTuple):
    """A file, with what it holds now (`None`: it does not exist), what it would hold, and why."""

    path: str
    now: str | None
    then: str
    why: str


class Advice(NamedTuple):
    """What is to be done by hand, and why it is not done here."""

    path: str
    says: str


def proposals(found: Project, seen: Traffic) -> list[Proposal | Advice]:
    """What would be written, and what would not; nothing for what is there already."""
    made: list[Proposal | Advice] = []
    for propose in (_policy, _hook, _workflow, _ruff, _ignored):
        made += propose(found, seen)
    return made


def _text(found: Project, path: str) -> str | None:
    try:
        with (found.root / path).open(encoding="utf-8", newline="") as file:
            return file.read()
    except OSError:
        return None


def _policy(found: Project, seen: Traffic) -> Iterator[Proposal | Advice]:
    if not found.policy:
        yield Proposal("tokenguard.toml", None, first_policy(seen), "limits and budgets, in observe mode")


def _hook(found: Project, _seen: Traffic) -> Iterator[Proposal | Advice]:
    path = ".pre-commit-config.yaml"
    now = _text(found, path)
    if now is None or "tokenguard" in now:
        return
    then = with_hook(now)
    if then is None:
        yield Advice(path, f"it has no list of `repos` to add to; add this:\n{HOOK}")
    else:
        yield Proposal(path, now, then, "the linter, before each commit")


def with_hook(text: str) -> str | None:
    r"""A pre-commit configuration with the hook behind its last repository; `None` where it has none.

    >>> print(with_hook("repos:\n- repo: local\n  hooks: []\n")[:36])
    repos:
    - repo: local
      hooks: []
    - r
    """
    lines = text.splitlines(keepends=True)
    starts = [n for n, line in enumerate(lines) if re.match(r" *- +repo:", line)]
    if not starts:
        return None
    indent = len(lines[starts[-1]]) - len(lines[starts[-1]].lstrip(" "))
    last = end = starts[-1] + 1
    while end < len(lines) and _goes_on(lines[end], indent):
        end += 1
        if lines[end - 1].strip() and not lines[end - 1].startswith("#"):
            last = end
    newline = "\r\n" if "\r\n" in text else "\n"
    before = "".join(lines[:last])
    if not before.endswith("\n"):
        before += newline
    hook = "".join(f"{' ' * indent}{line}{newline}" for line in HOOK.splitlines())
    return before + hook + "".join(lines[last:])


def _goes_on(line: str, indent: int) -> bool:
    """Whether a line still belongs to a list's entry that begins `indent` characters in."""
    return not line.strip() or line.startswith(" " * (indent + 1)) or line.lstrip().startswith("#")


def _workflow(found: Project, _seen: Traffic) -> Iterator[Proposal | Advice]:
    path = ".github/workflows/tokenguard.yml"
    if not found.workflows:
        return
    there = (_text(found, f".github/workflows/{file.name}") for file in (found.root / ".github/workflows").iterdir())
    if not any("tokenguard" in (text or "") for text in there):
        yield Proposal(path, None, WORKFLOW, "the linter on pull requests, as annotations")


def _ruff(found: Project, _seen: Traffic) -> Iterator[Proposal | Advice]:
    path = found.ruff
    now = _text(found, path) if path else None
    if now is None:
        return
    table = "tool.ruff.lint" if path == "pyproject.toml" else "lint"
    read: Callable[[str], list[str]] = lambda text: _at(tomllib.loads(text), table).get("external", [])  # noqa: E731
    try:
        known = read(now)
        if "TG" in known:
            return
        then = with_external(now, table)
        if read(then) == [*known, "TG"]:
            yield Proposal(path, now, then, "ruff leaves `# noqa: TG101` alone")
            return
    except (ValueError, AttributeError, TypeError):
        pass
    yield Advice(path, f'ruff removes `# noqa: TG101` comments; under [{table}] add:  external = ["TG"]')


def _at(tables: dict[str, object], path: str) -> dict[str, list[str]]:
    found: object = tables
    for name in path.split("."):
        found = found.get(name, {}) if isinstance(found, dict) else {}
    return found if isinstance(found, dict) else {}


def with_external(text: str, table: str) -> str:
    r"""Ruff's settings with `TG` in `external`. The caller checks what came of it: TOML has many ways to say this.

    >>> with_external('[lint]\nselect = ["E"]\n', "lint")
    '[lint]\nexternal = ["TG"]\nselect = ["E"]\n'
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    head = re.search(rf"(?m)^\[{re.escape(table)}\][ \t]*(#[^\r\n]*)?(?=\r?$)", text)
    if head is None:
        gap = "" if not text or text.endswith("\n\n") else newline if text.endswith("\n") else newline * 2
        return f'{text}{gap}[{table}]{newline}external = ["TG"]{newline}'
    rest = text[head.end() :]
    body = rest[: end.start()] if (end := re.search(r"(?m)^\[", rest)) else rest
    listed = re.search(r"(?m)^(external[ \t]*=[ \t]*\[)([^\]]*?)(,?\s*)\]", body)
    if listed is None:
        return f'{text[: head.end()]}{newline}external = ["TG"]{rest}'
    inside = f'{listed[2]}{", " if listed[2].strip() else ""}"TG"'
    start = head.end() + listed.start()
    return text[:start] + listed[1] + inside + listed[3].lstrip(",") + "]" + text[head.end() + listed.end() :]


def _ignored(found: Project, _seen: Traffic) -> Iterator[Proposal | Advice]:
    now = _text(found, ".gitignore")
    if (now is None and not (found.root / ".git").exists()) or ".tokenguard" in (now or ""):
        return
    before = now or ""
    gap = "" if not before or before.endswith("\n") else "\n"
    yield Proposal(".gitignore", now, f"{before}{gap}{IGNORED}", "git ignores the local store, not the baseline")
