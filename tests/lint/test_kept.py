"""Compiled patterns that are kept from run to run, and what is not kept: the trees of linted files."""

from __future__ import annotations

import gc
import marshal
import os
import re
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from tokenguard.lint import shelf
from tokenguard.lint.config import Config
from tokenguard.lint.engine import Linter
from tokenguard.lint.kept import Kept
from tokenguard.lint.syntax import Module

PATTERNS = [
    (r"(?:^|_)(?P<what>prompt|text)s?$", re.IGNORECASE, "the_Prompts"),
    (r"(?P<a>x)(?P<b>y)?z", 0, "xz"),
    (rb"k(?=((?:=(?<=top_k=))))", 0, b"f(top_k=3)"),
    ("ä+", re.IGNORECASE, "ÄÄ"),
    (r"  a [bc]  # a comment", re.VERBOSE, "ac"),
]


@pytest.fixture(autouse=True)
def _writing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)


@pytest.mark.parametrize(("text", "flags", "subject"), PATTERNS, ids=[str(p[0]) for p in PATTERNS])
def test_a_kept_pattern_is_the_compiled_one(tmp_path: Path, text: str, flags: int, subject: str) -> None:
    """Read from the file, a pattern finds what `re.compile` finds, and says the same of itself."""
    first = Kept(str(tmp_path))
    first.compile(text, flags)
    first.save()
    again = Kept(str(tmp_path))
    assert again.has((text, flags)), "the work was kept"
    kept, plain = again.compile(text, flags), re.compile(text, flags)
    assert (kept, kept.flags, kept.groups, dict(kept.groupindex)) == (
        plain, plain.flags, plain.groups, dict(plain.groupindex),
    )  # fmt: skip
    found, expected = kept.search(subject), plain.search(subject)
    assert found is not None
    assert expected is not None
    assert (found.span(), found.groups(), found.groupdict()) == (
        expected.span(), expected.groups(), expected.groupdict(),
    )  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"\xff\xff", b"i\x01\x00\x00\x00", b"(\x02\x00\x00\x00"])
def test_a_file_that_says_nothing(tmp_path: Path, content: bytes) -> None:
    """What cannot be read is compiled anew, and written over; so is what another build of Python wrote."""
    kept = Kept(str(tmp_path))
    Path(kept._file).write_bytes(content)
    assert kept.compile("a+").fullmatch("aa")
    kept.save()
    assert Kept(str(tmp_path)).has(("a+", 0))


def test_a_value_that_says_nothing(tmp_path: Path) -> None:
    """A single value that cannot be read is made anew, too."""
    kept = Kept(str(tmp_path))
    kept._all()["key"] = b"\xff"
    assert (kept.get("key", lambda: 3), kept.get("key", lambda: 4)) == (3, 3)


def test_what_others_wrote_is_not_read(tmp_path: Path) -> None:
    """A file that others may write is as good as none: what is in it would be run."""
    kept = Kept(str(tmp_path))
    kept.compile("a+")
    kept.save()
    Path(kept._file).chmod(0o666)
    assert not Kept(str(tmp_path)).has(("a+", 0))


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"XDG_CACHE_HOME": "/caches", "HOME": "/home/ann"}, "/caches/tokenguard"),
        ({"XDG_CACHE_HOME": "here", "HOME": "/home/ann"}, ""),
        ({"HOME": "/home/ann"}, "/home/ann/.cache/tokenguard"),
        ({"HOME": "~"}, ""),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="the folders of other systems")
def test_the_folder(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], folder: str) -> None:
    """The user's caches; a folder that is none's own, or has no whole path, is not written to."""
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    kept = Kept()
    assert kept._folder == folder
    if not folder:
        kept.compile("a+")
        kept.save()
        assert not kept._read()


def test_what_is_kept_grows_together(tmp_path: Path) -> None:
    """Two runs side by side leave the work of both."""
    one, other = Kept(str(tmp_path)), Kept(str(tmp_path))
    one.compile("a+")
    other.compile("b+")
    one.save()
    other.save()
    assert all(Kept(str(tmp_path)).has((text, 0)) for text in ("a+", "b+"))


def test_a_python_that_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the parts of `re` that this leans on are not there, patterns are compiled as ever."""
    monkeypatch.setitem(sys.modules, "_sre", None)
    assert Kept(str(tmp_path)).compile("a+").fullmatch("aa")


def test_an_error_in_a_pattern_is_told(tmp_path: Path) -> None:
    """A pattern that is none raises what `re.compile` raises."""
    with pytest.raises(re.error):
        Kept(str(tmp_path)).compile("(")


@pytest.mark.parametrize("wanted", [True, False])
def test_a_command_keeps_its_patterns(tmp_path: Path, wanted: bool) -> None:
    """`tokenguard lint` writes one file into the user's caches, unless Python is told to write no bytecode."""
    (tmp_path / "a.py").write_text("from openai import OpenAI\nOpenAI().responses.create(model='m', input='x')\n")
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environ |= {"XDG_CACHE_HOME": str(tmp_path / "kept")}
    if not wanted:
        environ["PYTHONDONTWRITEBYTECODE"] = "1"
    command = [sys.executable, "-m", "tokenguard.lint", "--isolated", "--no-cache", "a.py"]
    outputs = {subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True).stdout for _ in range(2)}
    assert len(outputs) == 1
    assert "TG101" in outputs.pop().decode()
    assert len([*(tmp_path / "kept" / "tokenguard").glob("patterns-*")]) == wanted


def test_linted_trees_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cycle holds a file's tree when it has been linted: no collector runs while many files are, nor in an editor."""
    (tmp_path / "helpers.py").write_text("from datetime import datetime\n\n\ndef now():\n    return datetime.now()\n")
    source = (
        "import uuid\nfrom helpers import now\nfrom openai import OpenAI\nclient = OpenAI()\n\n\ndef ask(q, tools):\n"
        "    system_prompt = f'It is {now()} in {uuid.uuid4()}. Be brief.'\n    while True:\n"
        "        client.responses.create(model='m', input=[{'role': 'system', 'content': system_prompt},"
        " {'role': 'user', 'content': q}], tools=sorted(tools))\n"
    )
    seen: list[weakref.ref[Module]] = []
    plain = Module.__init__

    def made(self: Module, path: str, source: bytes) -> None:
        plain(self, path, source)
        seen.append(weakref.ref(self))

    monkeypatch.setattr(Module, "__init__", made)
    linter = Linter(Config(root=tmp_path))
    gc.collect()
    gc.disable()
    try:
        found = linter.lint(source.encode(), str(tmp_path / "app.py"))
        linter.lint(b"from openai import OpenAI\nOpenAI().responses.create(model='m')\n", "other.py")
        linter.project._modules.clear()
        assert {f.rule for f in found} >= {"TG101", "TG102"}
        assert len(seen) == 3, "the helper is looked into"
        assert [ref for ref in seen if ref() is not None] == seen[2:], "but for the last one"
    finally:
        gc.enable()


LOADED = """
import sys
from tokenguard.lint.shelf import load
print(sum(name.startswith("tokenguard.rules.") for name in sys.modules))
rules = load()
print(sum(name.startswith("tokenguard.rules.") for name in sys.modules), "ast" in sys.modules, len(rules))
from tokenguard.lint.kept import KEPT
KEPT.save()
"""


def test_rules_are_kept_as_their_files_say(tmp_path: Path) -> None:
    """What our rules say of themselves is the same from the file; none is imported before it is asked for more."""
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}
    outs = [
        subprocess.run([sys.executable, "-c", LOADED], env=environ, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    number = len(list(Path("rules").glob("tg*.py")))
    assert outs == [f"0\n{number} True {number}\n", f"0\n0 False {number}\n"]
    made = shelf._ours()
    plain: dict[int, object] = {}
    rows = marshal.loads(marshal.dumps([shelf._row(rule, plain) for rule in made.values()]))
    entries: dict[int, object] = {}
    for row, rule in zip(rows, made.values(), strict=True):
        kept = shelf.Rule(*row)
        assert kept._replace(words=(), module="") == rule._replace(words=(), module="")
        assert kept.check is rule.check
        assert kept.page == rule.page
        words = [shelf._entry(part, entries) for part in kept.words]
        assert [_shown(w) for w in words] == [_shown(w) for w in rule.words]
    assert len(entries) == len(plain), "what rules share is one object again, and searched for once"


def _shown(entry: object) -> object:
    if isinstance(entry, tuple):
        return tuple(map(_shown, entry))
    return entry if isinstance(entry, str) else (entry.pattern, entry.flags)
