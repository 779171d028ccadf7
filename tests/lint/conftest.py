"""A linter for one rule, and findings as the lines they stand in."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tokenguard.lint.config import Config
from tokenguard.lint.engine import Linter
from tokenguard.lint.finding import Finding

Lint = Callable[..., list[Finding]]


@pytest.fixture
def lint() -> Lint:
    """`lint(code, "TG101")`: the findings of a dedented source; options go to the config."""

    def run(code: str, *rules: str, path: str = "example.py", **config: object) -> list[Finding]:
        settings = Config(root=Path(), select=rules or ("TG",))._replace(**config)
        return Linter(settings).lint(textwrap.dedent(code).encode(), path)

    return run
