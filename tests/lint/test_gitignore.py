"""Which files git ignores, as git itself says."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tokenguard.lint.config import Settings
from tokenguard.lint.files import SUFFIXES, discover

FOLDERS = ["a", "b", "build", "lib", "x.egg-info", ".env", "docs"]
FILES = ["x.py", "y.pyi", "keep.py", "gen.py", "n.ipynb", "a.py", "build.py", "[x].py", "x y.py"]
LINES = ["build", "build/", "/build", "*.py", "!keep.py", "a/", "a/b", "/a/b", "a/**", "**/b", "**/b/", "a/**/x.py",
         "*.egg-info/", "*.py[io]", "lib*", "!lib", "/*.py", "docs/*.py", "?.py", "[xy].py", "!a/", "!/a/b/",
         "x\\ y.py", "*", "!*/", "!*.py", "\\#x", "# c", "", "  ", "x.py ", "b/*", "!b/keep.py", "*.log", "/docs/",
         "docs/**/gen.py", "[!x].py", "{a,b}", "b/**/", "n.ipynb", "\\[x\\].py", "*/x.py", "a*/", "*a.py"]  # fmt: skip


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("seed", range(12))
def test_as_git_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """In random trees with random .gitignore files, the files to lint are those that git does not ignore."""
    rng = random.Random(seed)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    for number in range(5):
        top = tmp_path / str(number)
        folders = [top]
        for _ in range(rng.randint(2, 7)):
            folders.append(rng.choice(folders) / rng.choice(FOLDERS))
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            for name in rng.sample(FILES, 3):
                (folder / name).touch()
        for folder in (top, *rng.sample(folders, 2)):
            (folder / ".gitignore").write_text("\n".join(rng.choices(LINES, k=rng.randint(1, 5))))
        subprocess.run(["git", "init", "-q", top], check=True)
        command = ["git", "-C", str(top), "ls-files", "-z", "--others", "--exclude-standard"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
        monkeypatch.chdir(top)
        found = {file.path for file in discover((".",), Settings(None, isolated=True))}
        rules = {str(file): file.read_text() for file in top.rglob(".gitignore")}
        assert found == {name for name in listed if name.endswith(SUFFIXES)}, rules


def test_a_folder_that_is_named_is_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that git ignores: whoever names it wants it linted."""
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("build\n/out*/\ngen/\n*.skip.py\n")
    monkeypatch.chdir(tmp_path)
    for name in ("build", "out1", "gen"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "a.py").touch()
        (tmp_path / name / "x.skip.py").touch()
        found = [file.path for file in discover((name,), Settings(None, isolated=True))]
        assert found == [os.path.join(name, "sub", "a.py")]
    assert list(discover((".",), Settings(None, isolated=True))) == []
