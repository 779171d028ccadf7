"""`tokenguard lint` as its users meet it: exit codes, formats, fixes, baselines, ignores, settings, caches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import fresh
from tokenguard.cli.lint import explain, lint

BAD = "from openai import OpenAI\nclient = OpenAI(timeout=60)\nreply = client.responses.create(model='m', input='x')\n"
FIXED = BAD.replace("input='x'", "input='x', max_output_tokens=1024")
CLEAN = "print('hello')\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project that is the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOKENGUARD_POLICY", raising=False)
    (tmp_path / "tokenguard.toml").write_text("")
    return tmp_path


def run(*args: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(lint, args, input=stdin)


def test_exit_codes(project: Path) -> None:
    """0 is clean, 1 findings, 2 a usage or settings error."""
    (project / "clean.py").write_text(CLEAN)
    assert run(".").exit_code == 0
    (project / "bad.py").write_text(BAD)
    assert run(".").exit_code == 1
    assert run("missing.py").exit_code == 2
    assert run("--select", "TG999", ".").exit_code == 2
    assert run("--format", "yaml").exit_code == 2


def test_info_alone_does_not_fail(project: Path) -> None:
    """Notes are reported without failing the run, unless asked to."""
    (project / "bad.py").write_text(BAD)
    (project / "tokenguard.toml").write_text('[lint.severity]\nTG101 = "info"\n')
    result = run(".")
    assert "info TG101" in result.output
    assert result.exit_code == 0
    assert run("--fail-on", "info", ".").exit_code == 1


def test_text_shows_the_line_and_a_caret(project: Path) -> None:
    """The text format names place, rule and message, and points at the code, also behind wide characters."""
    (project / "bad.py").write_text("# é\n" + BAD.replace("reply =", "réply ="))
    lines = run("--no-cache", "bad.py").output.splitlines()
    assert lines[0].startswith("bad.py:4:9: warning TG101 no-output-cap: ")
    assert lines[1] == "    réply = client.responses.create(model='m', input='x')"
    assert lines[2] == "    " + " " * 8 + "^" * len("client.responses.create(model='m', input='x')")
    assert "\x1b[" in run("--color", "bad.py").output


def test_json(project: Path) -> None:
    """JSON is a list of objects with the documented keys."""
    (project / "bad.py").write_text(BAD)
    (row,) = json.loads(run("--format", "json", ".").stdout)["findings"]
    assert row.pop("message").startswith("This call sets no output cap")
    assert row == {
        "rule": "TG101", "name": "no-output-cap", "path": "bad.py", "line": 3, "column": 9, "end_line": 3,
        "severity": "warning", "fix": {"summary": "Set max_output_tokens to 1024", "safe": False},
    }  # fmt: skip
    (project / "bad.py").write_text(CLEAN)
    assert json.loads(run("--format", "json", ".").stdout)["findings"] == []


def test_sarif(project: Path) -> None:
    """SARIF names its schema, describes each rule once, and locates each result."""
    (project / "bad.py").write_text(BAD)
    document = json.loads(run("--format", "sarif", ".").stdout)
    (sarif_run,) = document["runs"]
    assert document["version"] == "2.1.0"
    assert [r["id"] for r in sarif_run["tool"]["driver"]["rules"]] == ["TG101"]
    (result,) = sarif_run["results"]
    region = result["locations"][0]["physicalLocation"]["region"]
    assert (result["ruleIndex"], result["level"]) == (0, "warning")
    assert (region["startLine"], region["startColumn"], region["endLine"]) == (3, 9, 3)


def test_github_and_junit(project: Path) -> None:
    """GitHub annotations and JUnit XML carry each finding, and special characters survive."""
    (project / "b,a:d.py").write_text(BAD)
    (line,) = run("--format", "github", ".").stdout.splitlines()
    assert line.startswith("::warning title=TokenGuard TG101 no-output-cap,file=b%2Ca%3Ad.py,line=3,col=9,endLine=3::")
    suite = ET.fromstring(run("--format", "junit", ".").stdout)
    assert suite.get("failures") == "1"
    assert suite.find(".//failure") is not None
    assert ET.fromstring(run("--format", "junit", "--select", "TG106", ".").stdout).get("failures") == "0"


def test_fixes(project: Path) -> None:
    """`--fix` leaves unsafe fixes alone, `--unsafe-fixes` makes them, `--diff` only shows them."""
    file = project / "bad.py"
    file.write_text(BAD)
    file.chmod(0o640)
    assert run("--fix", ".").exit_code == 1
    assert file.read_text() == BAD
    shown = run("--unsafe-fixes", "--diff", ".")
    assert shown.exit_code == 1
    assert "+reply = client.responses.create(model='m', input='x', max_output_tokens=1024)" in shown.stdout
    assert file.read_text() == BAD
    assert run("--unsafe-fixes", ".").exit_code == 0
    assert file.read_text() == FIXED
    assert file.stat().st_mode & 0o777 == 0o640


def test_stdin(project: Path) -> None:
    """`-` lints standard input under the given name; with fixes, the mended source comes out."""
    result = run("--stdin-filename", "app/x.py", "-", stdin=BAD.encode())
    assert result.stdout.startswith("app/x.py:3:9:")
    assert run("--unsafe-fixes", "-", stdin=BAD.encode()).stdout == FIXED


def test_baseline_survives_shifted_lines(project: Path) -> None:
    """Known findings stay silent when lines move; a new one is reported, also when it is the same text again."""
    file = project / "bad.py"
    file.write_text(BAD)
    assert run("--baseline", "b.json", ".").exit_code == 2
    assert run("--write-baseline", "b.json", ".").exit_code == 0
    file.write_text("# one\n\n" + BAD)
    assert run("--baseline", "b.json", ".").exit_code == 0
    file.write_text(BAD + BAD.splitlines()[2] + "\n")
    result = run("--baseline", "b.json", "--format", "json", ".")
    assert result.exit_code == 1
    assert len(json.loads(result.stdout)["findings"]) == 1


def test_add_ignore_silences_everything(project: Path) -> None:
    """`--add-ignore` leaves the program as it is and the linter quiet, inside multi-line code and strings, too."""
    file = project / "bad.py"
    call = 'client.responses.create(\n    model="m",\n    input="x",\n)\n'
    source = f'{BAD}text = f"""\n{{client.responses.create(model="m", input="x")}}\n"""\nvalue = {call}'
    file.write_text(source)
    assert run(".").exit_code == 1
    assert run("--add-ignore", ".").exit_code == 0
    assert run(".").exit_code == 0
    assert file.read_text().count("tokenguard: ignore[TG101]") >= 2


def test_ignores_and_unused_ignores(lint) -> None:
    """Both comment styles silence on any line of the finding; those with nothing to silence are reported."""
    call = "import litellm\nx = litellm.completion({}\n    model='m',\n    messages=[],{}\n)\n"
    assert lint(call.format("  # noqa: TG101", "")) == []
    assert lint(call.format("", "  # tokenguard: ignore[TG101] tests only")) == []
    assert lint(call.format("", "  # noqa")) == []
    assert lint("import litellm\n# tokenguard: ignore[TG101]\nx = litellm.completion(model='m', messages=[])\n") == []
    assert [f.rule for f in lint(call.format("", "  # noqa: E501"))] == ["TG101"]
    assert [f.rule for f in lint("x = 1  # tokenguard: ignore[TG101]\n")] == ["TG001"]
    assert [f.rule for f in lint("x = 1  # noqa: TG101, E501\n")] == ["TG001"]
    assert lint("x = '# tokenguard: ignore[TG101]'  # noqa: E501\n") == []


def test_settings(project: Path) -> None:
    """select, ignore, severity, per-file-ignores, exclude and options come from the settings file."""
    (project / "app").mkdir()
    for name in ("app/a.py", "app/gen.py", "app/skip.py"):
        (project / name).write_text(BAD)
    (project / "tokenguard.toml").write_text(
        '[lint]\nselect = ["TG1"]\nexclude = ["app/skip.py"]\n[lint.severity]\nTG101 = "error"\n'
        '[lint.per-file-ignores]\n"app/gen*" = ["TG101"]\n[lint.rules.TG101]\ndefault_cap = 77\n'
    )
    (row,) = json.loads(run("--format", "json", ".").stdout)["findings"]
    assert (row["path"], row["severity"], row["fix"]["summary"]) == ("app/a.py", "error", "Set max_output_tokens to 77")
    assert run("--ignore", "TG101", ".").exit_code == 0


def test_settings_of_pyproject(project: Path) -> None:
    """`[tool.tokenguard.lint]` is read where there is no tokenguard.toml."""
    (project / "tokenguard.toml").unlink()
    (project / "pyproject.toml").write_text('[tool.tokenguard.lint]\nignore = ["TG101"]\n')
    (project / "bad.py").write_text(BAD)
    assert run(".").exit_code == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [("[lint]\nselects = []\n", "did you mean 'select'"), ('[lint]\nignore = ["XX1"]\n', "no rule 'XX1'"),
     ("[lint.rules.TG103]\nmax_k = 3\n", "no option 'max_k'"), ("lint = 3\n", "must be a table"),
     ("[lint\n", "not valid TOML")],
)  # fmt: skip
def test_wrong_settings_say_what_is_wrong(project: Path, text: str, says: str) -> None:
    """A settings error names the key and the nearest valid one, and exits 2."""
    (project / "tokenguard.toml").write_text(text)
    result = run(".")
    assert result.exit_code == 2
    assert says in result.stderr


def test_gitignore_is_respected(project: Path) -> None:
    """Files that git ignores are left out, negated patterns included, unless asked for."""
    (project / ".git").mkdir()
    (project / ".gitignore").write_text("build/\n*.gen.py\n!keep.gen.py\n/top.py\n")
    for name in ("build/a.py", "x.gen.py", "keep.gen.py", "top.py", "sub/top.py"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(BAD)
    paths = {row["path"] for row in json.loads(run("--format", "json", ".").stdout)["findings"]}
    assert paths == {"keep.gen.py", "sub/top.py"}
    assert len(json.loads(run("--no-gitignore", "--format", "json", ".").stdout)["findings"]) == 5


def test_the_cache_answers_only_for_the_same_bytes(project: Path) -> None:
    """A second run answers from the cache; changed files, helpers and settings are linted anew."""
    (project / "helper.py").write_text("def params():\n    return {'max_tokens': 3}\n")
    (project / "bad.py").write_text(
        "from helper import params\ndef f(c):\n    return c.chat.completions.create(**params())\n"
    )
    assert run(".").exit_code == 0
    assert list((project / ".tokenguard" / "lint").glob("*.cache"))
    assert run(".").exit_code == 0
    (project / "helper.py").write_text("def params():\n    return {'n': 3}\n")
    assert run(".").exit_code == 1
    assert run(".").exit_code == 1
    assert run("--ignore", "TG101", ".").exit_code == 0
    for file in (project / ".tokenguard" / "lint").glob("*.cache"):
        file.write_text("{broken")
    assert run(".").exit_code == 1


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_a_cache_is_its_owners(project: Path) -> None:
    """Nobody else reads what was found, nothing half written is left, and git does not see the folder."""
    (project / "bad.py").write_text(BAD)
    run(".")
    kept = sorted((project / ".tokenguard" / "lint").iterdir())
    assert [file.suffix for file in kept] == ["", ".cache"]
    assert kept[0].read_text() == "*\n"
    assert not any(file.stat().st_mode & 0o077 for file in (*kept, project / ".tokenguard" / "lint"))


@pytest.mark.parametrize("of", ["stamp", "findings", "tail", "lines"])
def test_a_cache_that_was_written_over(project: Path, of: str) -> None:
    """Whatever a line of it has become, the file is linted, and the line is right afterwards."""
    (project / "bad.py").write_text(BAD)
    expected = run(".").stdout
    (file,) = (project / ".tokenguard" / "lint").glob("*.cache")
    settings, *lines = file.read_text().split("\n")
    path, stamp, more = next(line for line in lines if "bad.py" in line).split("\t")
    broken = {
        "stamp": f"{path}\tyesterday\t{more}", "findings": f"{path}\t{stamp}\t[[[1]],[]]",
        "tail": f"{path}\t{stamp}\t{more[:-9]}", "lines": "\n\t\t\n\t",
    }[of]  # fmt: skip
    file.write_text(f"{settings}\n{broken}")
    assert run(".").stdout == expected
    assert file.read_text().split("\n")[0] == settings
    assert f"{path}\t{stamp}\t{more}" in file.read_text().split("\n")


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems have no such names")
@pytest.mark.parametrize("name", ["a\tb.py", "a\nb.py", os.fsdecode(b"a\xffb.py"), "a\rb.py", "ä \x85.py"])
def test_odd_names_are_cached_or_linted_again(project: Path, name: str) -> None:
    """A name that cannot stand in a line of the cache is linted each time; all others are known."""
    (project / name).write_text(BAD)
    command = [sys.executable, "-m", "tokenguard.lint", "--format", "json", "."]
    first, again = (subprocess.run(command, capture_output=True, check=False) for _ in range(2))
    assert first.stdout == again.stdout
    assert first.returncode == again.returncode == 1


def test_many_files_are_linted_in_processes(project: Path) -> None:
    """Above the serial threshold the answers are the same, in the same order."""
    for number in range(130):
        (project / f"m{number:03}.py").write_text((BAD if number % 2 else CLEAN) + "#" * 70_000)
    serial = run("--no-cache", "-j", "1", "--format", "json", ".").stdout
    command = [sys.executable, "-m", "tokenguard.lint", "--no-cache", "-j", "2", "--format", "json", "."]
    parallel = subprocess.run(command, capture_output=True, text=True, check=False)
    assert parallel.stdout == serial
    assert len(json.loads(serial)["findings"]) == 65


def test_statistics(project: Path) -> None:
    """Counts by rule, and how many can be fixed."""
    (project / "bad.py").write_text(BAD)
    assert run("--statistics", ".").stdout == "     1  TG101  no-output-cap  (1 fixable)\n"


def test_plugins(project: Path) -> None:
    """A folder of rule files named in the settings adds its rules, where the command line allows it: it is code."""
    (project / "my_rules").mkdir()
    (project / "my_rules" / "acme1_no_print.py").write_text(
        '"""No print.\n\nBad:\n\n    print()  # ACME1\n\nGood:\n\n    pass\n"""\n'
        "from tokenguard.lint.rulebook import Report\nWORDS = ('print',)\n"
        "def check(file):\n    for call in file.module.calls_of(['print']):\n        yield Report(call, 'no print')\n"
    )
    (project / "tokenguard.toml").write_text('[lint]\nselect = ["TG", "ACME"]\nplugins = ["./my_rules"]\n')
    (project / "a.py").write_text("print(1)\n")
    result = run("--allow-plugins", ".")
    assert "ACME1 no-print" in result.stdout
    assert result.exit_code == 1
    (project / "my_rules" / "acme1_no_print.py").write_text("raise SystemExit('this code was run')\n")
    refused = run(".")
    assert refused.exit_code == 2
    assert "pass --allow-plugins" in refused.stderr
    assert run("--isolated", ".").exit_code == 0
    (project / "my_rules" / "acme1_no_print.py").write_text("WORDS = (('print',),)\ndef check(file): yield from ()\n")
    lone = run("--allow-plugins", ".")
    assert lone.exit_code == 2
    assert "WORDS has ('print',), which no text matches" in lone.stderr


def test_explain() -> None:
    """A rule's page by id or name; without one, the list; an unknown rule is a usage error."""
    runner = CliRunner()
    assert "Good:" in runner.invoke(explain, ["tg101"]).output
    assert "max_top_k = 20" in runner.invoke(explain, ["oversized-top-k"]).output
    assert "TG117" in runner.invoke(explain, []).output
    assert runner.invoke(explain, ["TG999"]).exit_code == 2


def test_start_up_is_light(project: Path) -> None:
    """Linting a clean file imports nothing that is not needed for it."""
    (project / "clean.py").write_text(CLEAN)
    code = (
        "import sys\nfrom tokenguard.lint.arguments import main\n"
        "try: main(['clean.py'])\nexcept SystemExit: pass\n"
        "print([m for m in ('opentelemetry', 'libcst', 'rich', 'click', 'asyncio', 'multiprocessing', 'inspect',"
        " 'dataclasses', 'tokenize', 'hashlib', 'tempfile', 'difflib') if m in sys.modules])"
    )
    assert fresh.python(code).stdout.strip() == "[]"


def test_kept_answers_need_no_parser(project: Path) -> None:
    """A run over unchanged files shows their findings without the parser, the rules and `typing`; `-j1` needs no argparse."""
    (project / "bad.py").write_text(BAD)
    first = run("--isolated", "bad.py")  # to read TOML takes typing
    code = (
        "import sys\nbefore = {*sys.modules}\nfrom tokenguard.lint.arguments import main\n"
        "try: main(['-j1', '--isolated', 'bad.py'])\nexcept SystemExit: pass\n"
        "heavy = {'argparse', 'typing', 'tokenguard.lint.engine', 'tokenguard.lint.syntax'}\n"
        "print([*heavy & (sys.modules.keys() - before)])"
    )
    assert fresh.python(code).stdout == f"{first.stdout}[]\n"


def test_the_project_lints_itself_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """The linter has nothing to say about its own repository."""
    monkeypatch.chdir(Path(__file__).parents[2])
    result = run("--no-cache", ".")
    assert result.stdout == ""
    assert result.exit_code == 0
