"""What docs/routes.md shows of `tokenguard policy try` is what it prints, for the route of the same page."""

from __future__ import annotations

import shlex

from click.testing import CliRunner

from documents.blocks import ROOT, blocks
from documents.test_sessions import matches
from tokenguard.cli import group

LIMIT = '[[limit]]\nname = "answers"\nmax_output_tokens = 300\nthen = "clamp"\n'


def test_trial(tmp_path, monkeypatch):
    """The first policy of the page with the limit that the text names."""
    page = blocks(ROOT / "docs" / "routes.md")
    policy = next(block.text for block in page if block.language == "toml")
    shown = next(block.text for block in page if block.language == "console")
    (tmp_path / "tokenguard.toml").write_text(policy + LIMIT)
    monkeypatch.chdir(tmp_path)
    command, _, printed = shown.partition("\n")
    said = CliRunner().invoke(group, shlex.split(command)[2:])
    assert said.exit_code == 0
    assert matches(printed.strip(), said.output)
