"""A project with a policy, in which commands are run."""

from __future__ import annotations

from pathlib import Path

import pytest

POLICY = """
[[budget]]
name = "tenant per day"
per = ["tenant"]
limit_usd = 20.0
limit_tokens = 5000
[[budget]]
name = "everyone"
window = "total"
limit_usd = 1.0
then = "warn"
[[budget]]
name = "nobody yet"
when = { model = "other" }
limit_usd = 3
[[breaker]]
name = "down"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("TOKENGUARD_POLICY", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tokenguard.toml").write_text(POLICY)
    return tmp_path
