"""Notebooks are linted by cell, with magics and broken cells, and fixed without touching anything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tokenguard.cli.lint import lint

CELLS = [
    ("markdown", "# Title\n"),
    ("code", "%pip install openai\nfrom openai import OpenAI\nclient = OpenAI(timeout=60)"),
    ("code", "files = !ls\nfor f in files:\n    %time print(f)\n"),
    ("code", "%%bash\necho (\n"),
    ("code", "def broken(:\n"),
    ("code", "# ask\nreply = client.responses.create(\n    model='m',\n    input='é',\n)\n!ls\nawait client.close()"),
]


def notebook(indent: int | None, *, ascii_only: bool, as_list: bool) -> str:
    cells = [
        {"cell_type": kind, "metadata": {}, "source": text.splitlines(keepends=True) if as_list else text, "id": str(n)}
        | ({"outputs": [{"text": "ü"}], "execution_count": None} if kind == "code" else {})
        for n, (kind, text) in enumerate(CELLS)
    ]
    document = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(document, indent=indent, ensure_ascii=ascii_only) + "\n"


@pytest.mark.parametrize("as_list", [True, False])
@pytest.mark.parametrize(("indent", "ascii_only"), [(1, False), (2, True), (None, False)])
def test_findings_and_fixes_by_cell(tmp_path: Path, indent: int | None, ascii_only: bool, as_list: bool) -> None:
    """Cell and line are reported; a fix changes that cell's source alone."""
    file = tmp_path / "n.ipynb"
    before = notebook(indent, ascii_only=ascii_only, as_list=as_list)
    file.write_text(before, encoding="utf-8")
    result = CliRunner().invoke(lint, ["--no-cache", "--format", "json", str(file)])
    assert [(r["rule"], r["cell"], r["line"]) for r in json.loads(result.stdout)] == [("TG000", 5, 1), ("TG101", 6, 2)]
    text = CliRunner().invoke(lint, ["--no-cache", str(file)]).stdout
    assert ":cell 6:2:9: warning TG101" in text
    assert "    reply = client.responses.create(\n" in text
    CliRunner().invoke(lint, ["--no-cache", "--unsafe-fixes", str(file)])
    new = "    input='é',\n    max_output_tokens=1024,\n"
    expected = json.loads(before)
    fixed = CELLS[5][1].replace("    input='é',\n", new)
    expected["cells"][5]["source"] = fixed.splitlines(keepends=True) if as_list else fixed
    assert file.read_text(encoding="utf-8") == json.dumps(expected, indent=indent, ensure_ascii=ascii_only) + "\n"


def test_an_unusual_layout_is_not_reformatted(tmp_path: Path) -> None:
    """A notebook whose bytes cannot be reproduced is reported but not rewritten."""
    file = tmp_path / "n.ipynb"
    text = notebook(1, ascii_only=False, as_list=True).replace('"nbformat": 4', '"nbformat" :4')
    file.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(lint, ["--no-cache", "--unsafe-fixes", str(file)])
    assert result.exit_code == 1
    assert file.read_text(encoding="utf-8") == text
