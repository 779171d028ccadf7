"""The options of the command line beside rules and reports: which settings hold, which files are looked at, and when."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tokenguard.cli.lint import lint
from tokenguard.lint import arguments

BAD = "from openai import OpenAI\nclient = OpenAI(timeout=60)\nreply = client.responses.create(model='m', input='x')\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project that is the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOKENGUARD_POLICY", raising=False)
    (tmp_path / "tokenguard.toml").write_text("")
    (tmp_path / "bad.py").write_text(BAD)
    return tmp_path


def run(*args: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(lint, args, input=stdin)


def found(*args: str) -> list[tuple[str, str]]:
    return [(row["path"], row["rule"]) for row in json.loads(run("--format", "json", *args).stdout)["findings"]]


def test_each_file_has_the_settings_nearest_above_it(project: Path) -> None:
    """Projects inside a project have their own settings, patterns from their own root, and their own cache."""
    for name in ("one", "one/deep", "two"):
        (project / name).mkdir()
        (project / name / "bad.py").write_text(BAD)
    (project / "one" / "pyproject.toml").write_text('[tool.tokenguard.lint]\nignore = ["TG101"]\n')
    (project / "two" / "tokenguard.toml").write_text('[lint]\nexclude = ["bad.py"]\n')
    (project / "one" / "deep" / "pyproject.toml").write_text("[project]\n")  # of no concern
    assert found(".") == [("bad.py", "TG101")]
    assert found(".") == [("bad.py", "TG101")]
    assert found("one/deep/bad.py") == []
    assert found("--force-exclude", "two/bad.py") == []
    assert (project / "one" / ".tokenguard" / "lint").is_dir()
    settings = str(project / "tokenguard.toml")
    assert len(found("--config", settings, ".")) == 4
    assert len(found("--isolated", ".")) == 4
    assert run("--stdin-filename", "one/x.py", "-", stdin=BAD.encode()).exit_code == 0
    assert run("--stdin-filename", "x.py", "-", stdin=BAD.encode()).exit_code == 1


def test_extend_select(project: Path) -> None:
    """Rules are added to those selected, by the settings or the command line."""
    (project / "tokenguard.toml").write_text('[lint]\nselect = ["TG102"]\n')
    assert found(".") == []
    assert found("--extend-select", "TG101", ".") == [("bad.py", "TG101")]
    assert found("--select", "TG103", "--extend-select", "TG101,TG104", ".") == [("bad.py", "TG101")]
    (project / "tokenguard.toml").write_text('[lint]\nselect = ["TG102"]\nextend-select = ["TG101"]\n')
    assert found(".") == [("bad.py", "TG101")]


def test_quiet_and_exit_zero(project: Path) -> None:
    """--quiet leaves the summary out, --exit-zero the status."""
    assert "finding" in run(".").stderr
    quiet = run("--quiet", ".")
    assert (quiet.exit_code, quiet.stderr) == (1, "")
    assert "TG101" in quiet.stdout
    assert run("--exit-zero", ".").exit_code == 0
    assert run("--exit-zero", "missing.py").exit_code == 2


def test_show_files(project: Path) -> None:
    """The files that would be linted, stubs and notebooks among them, and nothing else."""
    (project / "stub.pyi").write_text("def f() -> int: ...\n")
    (project / "notes.ipynb").write_text('{"cells": []}')
    (project / "text.md").write_text("")
    result = run("--show-files", ".")
    assert result.stdout.split() == ["bad.py", "notes.ipynb", "stub.pyi"]
    assert result.exit_code == 0


def test_show_settings(project: Path) -> None:
    """What holds for a path, where it comes from, and the rules that are on; it reads as settings again."""
    (project / "tokenguard.toml").write_text('[lint]\nignore = ["TG116"]\n[lint.rules.TG101]\ndefault_cap = 7\n')
    shown = run("--show-settings", "--exclude", "gen/**", "bad.py").stdout
    assert f"# bad.py: {project / 'tokenguard.toml'}" in shown
    assert "default_cap = 7" in shown
    assert "#   TG101 no-output-cap" in shown
    assert "TG116 no-timeout" not in shown
    (project / "tokenguard.toml").write_text(shown)
    assert "default_cap = 7" in run("--show-settings", "bad.py").stdout


def test_stubs_are_linted(project: Path) -> None:
    """A stub may hold code that runs nowhere; what it says is linted all the same."""
    (project / "bad.pyi").write_text(BAD)
    assert found(".") == [("bad.py", "TG101"), ("bad.pyi", "TG101")]


def test_watch(project: Path) -> None:
    """--watch lints again when a file changes, and ends when it is told to."""
    command = [sys.executable, "-u", "-m", "tokenguard", "lint", "--watch", "."]
    with contextlib.ExitStack() as end:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits none
        process = end.enter_context(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
        signal.signal(signal.SIGINT, before)
        end.callback(process.kill)
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any("TG101" in line for line in lines)
        assert any("Watching" in line for line in lines)
        time.sleep(1)
        (project / "bad.py").write_text(BAD.replace("input='x'", "input='x', max_output_tokens=9"))
        assert any("No findings." in line for line in lines)
        (project / "other.py").write_text(BAD)
        assert any("other.py" in line for line in lines)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (0, 1, 130)


@pytest.mark.parametrize("args", [("--watch", "-"), ("--watch", "--fix", ".")])
def test_watch_changes_nothing(project: Path, args: tuple[str, ...]) -> None:
    """Watching goes neither with fixes nor with standard input."""
    result = run(*args)
    assert result.exit_code == 2
    assert "--watch" in result.stderr


def test_options_and_paths_in_any_order(project: Path) -> None:
    """Paths may stand between options, and an unknown option is a usage error."""
    (project / "more.py").write_text(BAD)
    assert found("bad.py", "--select", "TG101", "more.py") == [("bad.py", "TG101"), ("more.py", "TG101")]
    paths, options = arguments.read(["--select", "TG101", "a.py", "--", "-x.py", "--fix"])
    assert (paths, options.select, options.fix) == (("a.py", "-x.py", "--fix"), ("TG101",), False)
    refused = run("--selects", "TG101")
    assert (refused.exit_code, "Did you mean --select?" in refused.stderr) == (2, True)
    assert run("--jobs", "-1").exit_code == 2


def test_a_renamed_file_is_looked_at_again(project: Path) -> None:
    """The cache tells files apart that have the same size and the same time of change."""
    (project / "good.py").write_text("x = 1\n".ljust(len(BAD), "#"))
    assert found(".") == [("bad.py", "TG101")]
    status = (project / "bad.py").stat()
    os.utime(project / "good.py", ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(project / "good.py", project / "bad.py")
    assert (project / "bad.py").stat().st_mtime_ns == status.st_mtime_ns
    assert found(".") == []


def test_virtual_environments_are_left_out(tmp_path, monkeypatch):
    """A folder with `pyvenv.cfg` is a virtual environment whatever it is called: it is linted only when it is named."""
    from tokenguard.lint.config import Settings
    from tokenguard.lint.files import discover

    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text("")
    installed = tmp_path / "my-env" / "lib" / "site-packages"
    installed.mkdir(parents=True)
    (installed / "openai.py").write_text("")
    (tmp_path / "my-env" / "pyvenv.cfg").write_text("home = /usr/bin\n")
    settings = Settings(None, isolated=True)
    assert [file.path for file in discover((".",), settings)] == ["app.py"]
    assert [file.path for file in discover(("my-env",), settings)] == ["my-env/lib/site-packages/openai.py"]


@pytest.mark.parametrize(
    ("settings", "args", "rules"),
    [
        ('ignore = ["TG101"]', (), []),
        ('ignore = ["TG101"]', ("--select", "TG101"), ["TG101"]),
        ('ignore = ["TG101"]', ("--select", "TG1"), ["TG101"]),
        ('ignore = ["TG101"]', ("--extend-select", "TG101"), ["TG101"]),
        ('ignore = ["TG1"]', ("--extend-select", "TG101"), ["TG101"]),
        ('ignore = ["TG101"]', ("--extend-select", "TG10"), ["TG101"]),
        ('ignore = ["TG101"]', ("--ignore", "TG102"), []),
        ('select = ["TG101"]', ("--ignore", "TG1"), []),
        ('select = ["TG101"]', ("--ignore", "ALL"), []),
        ('select = ["TG101"]', ("--ignore", "TG102"), ["TG101"]),
        ('select = ["TG102"]', ("--extend-select", "TG101", "--ignore", "TG10"), ["TG101"]),
        ('select = ["tg101"]', (), ["TG101"]),
        ('ignore = ["tg101"]', (), []),
        ("", ("--select", "tg102,tg101"), ["TG101"]),
        ('per-file-ignores = {"*.py" = ["ALL"]}', (), []),
        ('per-file-ignores = {"*.py" = ["TG"]}', (), []),
        ('per-file-ignores = {"*.py" = ["tg101"]}', (), []),
        ('per-file-ignores = {"other.py" = ["ALL"]}', (), ["TG101"]),
    ],
)
def test_the_command_line_wins(project: Path, settings: str, args: tuple[str, ...], rules: list[str]) -> None:
    """What is chosen on the command line is said later than the settings, and adds to what they leave out."""
    (project / "tokenguard.toml").write_text(f"[lint]\n{settings}\n")
    assert [rule for _, rule in found(*args, ".")] == rules


def test_broken_files_and_stale_comments_are_rules_like_others(project: Path) -> None:
    """TG000 and TG001 have a severity, and can be ignored for files."""
    (project / "bad.py").write_text(BAD + "x = (\n")
    (project / "stale.py").write_text("import openai  # tokenguard: ignore[TG101]\n")
    rows = [(row["rule"], row["severity"]) for row in json.loads(run("--format", "json", ".").stdout)["findings"]]
    assert rows == [("TG000", "error"), ("TG001", "warning")]
    (project / "tokenguard.toml").write_text('[lint.severity]\nTG000 = "info"\ntg001 = "info"\n')
    assert run(".").exit_code == 0
    for codes in (["TG000", "TG001"], ["TG0"], ["ALL"]):
        (project / "tokenguard.toml").write_text(f'[lint.per-file-ignores]\n"*.py" = {json.dumps(codes)}\n')
        assert found(".") == []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("lint = 3", "lint = 3; it must be a table"),
        ("lint.select = 3", "it must be a list of strings"),
        ("lint.select = [3]", "it must be a list of strings"),
        ('lint.select = [""]', "There is no rule ''"),
        ('lint.select = ["no-output-cap"]', "There is no rule 'no-output-cap'; did you mean TG101?"),
        ('lint.select = ["TG1011"]', "did you mean TG1"),
        ('lint.severity = "x"', "lint.severity = 'x'; it must be a table"),
        ('lint.severity.TG101 = "bad"', "it must be one of info, warning, error"),
        ('lint.severity.TG1 = "info"', "settings of a rule 'TG1'"),
        ("lint.rules = 3", "lint.rules = 3; it must be a table"),
        ("lint.rules.TG103 = 3", "lint.rules.TG103 = 3; it must be a table"),
        ("lint.rules.TG10 = {}", "settings of a rule 'TG10'"),
        ('lint.rules.TG103.max_top_k = "x"', "max_top_k = 'x'; its default is 20"),
        ("lint.rules.TG103.max_top_k = true", "its default is 20"),
        ("lint.per-file-ignores = []", "lint.per-file-ignores = []; it must be a table"),
        ('lint.per-file-ignores."a.py" = "TG101"', "it must be a list of strings"),
        ('lint.per-file-ignores."a.py" = ["TG999"]', "There is no rule 'TG999'"),
        ('lint.respect-gitignore = "no"', "it must be true or false"),
    ],
)
def test_settings_of_a_wrong_shape(project: Path, settings: str, says: str) -> None:
    """Settings that cannot be followed are one line on standard error and status 2."""
    (project / "tokenguard.toml").write_text(f"{settings}\n")
    refused = run(".")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert says in refused.stderr


@pytest.mark.parametrize("limit", ["limit = 3", "limit = [3]", "[[limit]]\nmax_output_tokens = 3\nwhen = 4",
                                   "[[limit]]\nmax_output_tokens = 3\nwhen = {model = 4}"])  # fmt: skip
def test_limits_of_a_wrong_shape_are_the_policys_to_report(project: Path, limit: str) -> None:
    """They are left aside here."""
    (project / "tokenguard.toml").write_text(f"{limit}\n")
    assert found(".") == [("bad.py", "TG101")]


def test_a_choice_of_no_rules(project: Path) -> None:
    """`--select "$RULES"` with an empty variable would find nothing for ever."""
    assert run("--select", "", ".").exit_code == 2


def test_a_file_given_twice(project: Path) -> None:
    """A file is linted once, however it is spelled, and named without a leading `./`."""
    assert found("bad.py", "./bad.py", str(project / "bad.py"), ".") == [("bad.py", "TG101")]
    assert found("./bad.py") == [("bad.py", "TG101")]


def test_services_are_given_paths_from_here(project: Path) -> None:
    """GitHub finds no file by an absolute path."""
    absolute = str(project / "bad.py")
    (result,) = json.loads(run("--output-format", "sarif", absolute).stdout)["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "bad.py"
    assert ",file=bad.py," in run("--output-format", "github", absolute).stdout


@pytest.mark.parametrize("wrong", ["--fix", "src", "--watch", "--format=json"])
def test_what_the_server_takes(project: Path, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its help is its own, and what could not hold for an editor is refused rather than passed over."""
    command = [sys.executable, "-m", "tokenguard", "lint", "server"]
    helped = subprocess.run([*command, "--help"], capture_output=True, text=True, stdin=subprocess.PIPE)
    assert helped.stdout.startswith("Usage: tokenguard lint server [OPTIONS]\n")
    assert "--allow-plugins" in helped.stdout
    assert "--fix" not in helped.stdout
    assert subprocess.run([*command, "--stdio"], input=b"").returncode == 0
    refused = subprocess.run([*command, wrong], capture_output=True, text=True, stdin=subprocess.PIPE)
    assert (refused.returncode, "unrecognized arguments" in refused.stderr) == (2, True)


def test_standard_input_takes_what_a_file_does(project: Path) -> None:
    """A baseline, excludes and `--show-files` hold for it; what cannot be done to a text without a file is refused."""
    named = ("--stdin-filename", "bad.py", "-")
    assert run("--write-baseline", "known.json", "bad.py").exit_code == 0
    (project / "bad.py").unlink()
    assert run("--baseline", "known.json", *named, stdin=BAD.encode()).exit_code == 0
    assert run("--baseline", "known.json", *named, stdin=(BAD + BAD).encode()).exit_code == 1
    assert run("--show-files", *named, stdin=BAD.encode()).stdout == "bad.py\n"
    (project / "tokenguard.toml").write_text('[lint]\nexclude = ["bad.py"]\n')
    assert run(*named, stdin=BAD.encode()).exit_code == 1
    assert run("--force-exclude", *named, stdin=BAD.encode()).exit_code == 0
    assert run("--force-exclude", "--show-files", *named, stdin=b"").stdout == ""
    assert run("--force-exclude", "--unsafe-fixes", *named, stdin=BAD.encode()).stdout == BAD
    fixed = run("--unsafe-fixes", *named, stdin=(BAD + "for _ in range(3): x = 1  # noqa: TG104\n").encode())
    assert "max_output_tokens=1024" in fixed.stdout
    assert fixed.stderr == "Fixed 1 finding.\n1 finding (1 warning).\n"
    for wrong in (("--add-ignore", "-"), ("--write-baseline", "x.json", "-"), ("-", "bad.py")):
        refused = run(*wrong, stdin=BAD.encode())
        assert (refused.exit_code, "standard input" in refused.stderr) == (2, True)


@pytest.mark.parametrize("option", ["-o", "--write-baseline"])
@pytest.mark.parametrize("place", ["missing/file", "."])
def test_a_report_that_cannot_be_written(project: Path, option: str, place: str) -> None:
    """It is one line on standard error, and status 2."""
    refused = run(option, place, "bad.py")
    assert (refused.exit_code, refused.stderr.startswith(f"error: Cannot write {place}: ")) == (2, True)


@pytest.mark.parametrize(
    ("redirected", "status", "says"),
    [(">&-", 1, ""), ("2>&-", 1, ""), (">&- 2>&-", 1, ""), ("<&-", 1, ""), (">/dev/full", 2, "Cannot write the report")],
)  # fmt: skip
def test_closed_and_full_streams(project: Path, redirected: str, status: int, says: str) -> None:
    """A stream that is not there, or takes nothing, ends in no traceback."""
    command = f"exec {sys.executable} -m tokenguard lint bad.py {redirected}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr, says in done.stderr) == (status, False, True)


def test_statistics_as_json(project: Path) -> None:
    """Counts are for programs, too."""
    shown = json.loads(run("--statistics", "--format", "json", ".").stdout)
    assert shown["statistics"] == [{"rule": "TG101", "name": "no-output-cap", "count": 1, "fixable": 1}]


def test_nothing_to_lint(project: Path) -> None:
    """A folder without Python in it is said, for a path may be misspelt."""
    (project / "docs").mkdir()
    result = run("docs")
    assert (result.exit_code, result.stderr) == (0, "There are no Python files or notebooks to lint.\n")


def test_two_answers_about_settings(project: Path) -> None:
    """No settings file and this settings file cannot both hold."""
    assert run("--isolated", "--config", "tokenguard.toml", ".").exit_code == 2


def test_a_diff_says_how_much_it_would_fix(project: Path) -> None:
    """The difference goes to standard output, the count to standard error, of a file and of standard input."""
    for args, stdin in ((("bad.py",), None), (("-",), BAD.encode())):
        shown = run("--unsafe-fixes", "--diff", *args, stdin=stdin)
        assert (shown.exit_code, shown.stderr) == (1, "Would fix 1 finding.\n")
        assert "+reply = client.responses.create(model='m', input='x', max_output_tokens=1024)\n" in shown.stdout
        assert run("--fix", "--diff", *args, stdin=stdin).stderr == "Would fix 0 findings.\n"


def test_options_by_ruffs_names(project: Path) -> None:
    """What does the same has the same name, too."""
    assert run("--extend-exclude", "bad.py", "--no-respect-gitignore", "--output-file", "out", ".").exit_code == 0
