"""Whatever a file contains: it is reported as TG000 or linted, the rest goes on, and no byte of it changes."""

from __future__ import annotations

import json
import os
import random
import sysconfig
from pathlib import Path

import pytest
from click.testing import CliRunner

from tokenguard.cli.lint import lint
from tokenguard.lint.config import Config, Settings
from tokenguard.lint.engine import Linter
from tokenguard.lint.files import discover
from tokenguard.lint.run import lint_file

CALL = "import litellm\nlitellm.completion(model='m', messages=[])\n"
BROKEN = {
    "syntax error": b"def broken(:\n" + CALL.encode(),
    "null byte": b"x = 1\x00\n" + CALL.encode(),
    "unknown encoding": b"# coding: nonsense\n" + CALL.encode(),
    "not utf-8": b"x = '\xff\xfe'\n" + CALL.encode(),
    "deep nesting": b"x = " + b"(" * 1000 + b")" * 1000 + b"\n" + CALL.encode(),
    "deep expression": CALL.encode() + b"x = " + b"+".join([b"1"] * 60_000) + b"\n",
    "generated": CALL.encode() + b"x = 1\n" * 1_000_000,
    "python 2": b"print 'x'\n" + CALL.encode(),
    "bad notebook": b"{not json",
    "notebook of another shape": b'{"cells": [1, 2]}',
}
LINTED = {
    "byte order mark": b"\xef\xbb\xbf" + CALL.encode(),
    "latin-1": b"# -*- coding: latin-1 -*-\nx = '\xe9'\n" + CALL.encode(),
    "form feed": b"x = 1\n\x0c\n" + CALL.encode(),
    "carriage returns": CALL.replace("\n", "\r\n").encode(),
    "old carriage returns": CALL.replace("\n", "\r").encode(),
    "no last newline": CALL.rstrip().encode(),
    "line separators in a string": "x = 'a\u2028b\x85c'\n".encode() + CALL.encode(),
    "invalid escape": b"x = '\\d'\n" + CALL.encode(),
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project that is the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tokenguard.toml").write_text("")
    return tmp_path


def report(*args: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(CliRunner().invoke(lint, ["--format", "json", *args]).stdout)["findings"]
    return rows


@pytest.mark.parametrize("source", BROKEN.values(), ids=list(BROKEN))
def test_broken_files_are_reported_and_left_alone(project: Path, source: bytes) -> None:
    """TG000 for the broken file, findings for the others, and the broken one keeps every byte under --unsafe-fixes."""
    broken = project / ("broken.ipynb" if source.startswith(b"{") else "broken.py")
    broken.write_bytes(source)
    (project / "good.py").write_text(CALL)
    assert [(r["rule"], r["path"]) for r in report(".")] == [("TG000", broken.name), ("TG101", "good.py")]
    assert [r["rule"] for r in report("--unsafe-fixes", ".")] == ["TG000"]
    assert broken.read_bytes() == source


def test_syntax_errors_elsewhere_are_reported_when_asked(project: Path) -> None:
    """A broken file that no rule is concerned with is another linter's, unless TG000 is selected by its full id."""
    (project / "broken.py").write_bytes(b"def broken(:\n")
    assert report(".") == []
    assert [r["rule"] for r in report("--select", "TG,TG000", ".")] == ["TG000"]


@pytest.mark.parametrize("source", LINTED.values(), ids=list(LINTED))
def test_odd_files_are_linted_and_fixed_in_place(project: Path, source: bytes) -> None:
    """Marks, encodings and line ends are understood and survive a fix."""
    file = project / "odd.py"
    file.write_bytes(source)
    assert [r["rule"] for r in report(".")] == ["TG101"]
    assert report("--unsafe-fixes", ".") == []
    assert file.read_bytes() == source.replace(b"messages=[]", b"messages=[], max_tokens=1024")


def test_unreadable_files_and_loops(project: Path) -> None:
    """A loop of links ends, a dangling link and a pipe are reported, a file without permission too."""
    (project / "a").mkdir()
    (project / "a" / "loop").symlink_to(project)
    (project / "dangling.py").symlink_to(project / "nowhere")
    os.mkfifo(project / "pipe.py")
    (project / "good.py").write_text(CALL)
    rows = [(r["rule"], r["path"]) for r in report(".") if "loop" not in str(r["path"])]
    assert rows == [("TG000", "dangling.py"), ("TG101", "good.py"), ("TG000", "pipe.py")]


@pytest.mark.parametrize("top", [".", "a", "a/", "b/../a"])
def test_links_between_folders(project: Path, monkeypatch: pytest.MonkeyPatch, top: str) -> None:
    """What a link leads to is linted, by the link's path; a link to a folder that it is in leads nowhere new."""
    for folder in ("a/deep", "b"):
        (project / folder).mkdir(parents=True)
    for file in ("a/x.py", "a/deep/y.py", "b/z.py"):
        (project / file).write_text(CALL)
    links = {"a/b": "b", "b/back": "a", "a/deep/up": "a", "a/deep/home": ".", "a/deep/self": "a/deep"}
    for link, target in links.items():
        (project / link).symlink_to(project / target)
    found = [file.path for file in discover((top,), Settings(None, isolated=True))]
    seen = ["a/b/z.py", "a/deep/y.py", "a/x.py"]
    if top == ".":
        seen += ["b/back/deep/y.py", "b/back/x.py", "b/z.py"]
    assert sorted(found) == seen


def test_the_standard_library_and_its_tests_are_survived() -> None:
    """A sample of the standard library and its tests: no exception, the same answers with and without the prefilter."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("**/*.py"))
    config = Config(root=Path(), ignore=("TG000",))  # the prefilter leaves most syntax errors unseen
    fast = Linter(config)
    full = Linter(config, prefilter=False)
    for file in random.Random(7).sample(files, min(150, len(files))):
        assert lint_file(fast, str(file)).findings == lint_file(full, str(file)).findings


def test_a_template_of_a_file_is_not_broken(tmp_path: Path) -> None:
    """What cookiecutter fills in is no Python yet; where it is, it is linted."""
    folder = tmp_path / "{{cookiecutter.name}}"
    folder.mkdir()
    (folder / "app.py").write_text("class {{ cookiecutter.name }}(Base):\n    pass\n" + CALL)
    (folder / "plain.py").write_text(CALL)
    linter = Linter(Config(root=tmp_path))
    assert lint_file(linter, str(folder / "app.py")).findings == []
    assert [f.rule for f in lint_file(linter, str(folder / "plain.py")).findings if f.severity != "info"] == ["TG101"]
