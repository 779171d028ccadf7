"""The command line: commands are found by name, imported when used, and end with one clear line and a right code."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tokenguard import cli, names
from tokenguard.call import CallRecord
from tokenguard.store import Store


@pytest.fixture
def run(tmp_path):
    """Runs a command in an empty folder: exit code, output, errors."""

    def run(*arguments, **environment):
        done = subprocess.run(
            [sys.executable, "-m", "tokenguard", *arguments],
            cwd=tmp_path,
            env={k: v for k, v in os.environ.items() if not k.startswith(("TOKENGUARD_", "COLUMNS"))} | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def stored(tmp_path):
    """The default store, with one call in it."""
    store = Store(tmp_path / names.DEFAULT_STORE)
    attributes = {names.OPERATION: "chat", names.COST: 0.5, names.COST_STATUS: "exact", "tokenguard.feature": "rag"}
    store.write([CallRecord(1_793_610_000 * 10**9, 1, "ok", attributes)])
    store.close()


def test_help_lists_what_is_there(run, monkeypatch):
    """`--help` lists the commands that are installed, and imports none of them."""
    code, out, _ = run("--help")
    assert code == 0
    for name in ("report", "demo", "policy", "budgets", "prices"):
        assert f"  {name} " in out
    monkeypatch.setitem(cli.COMMANDS, "absent", cli.Row("tokenguard.cli.absent", "absent", "Not there."))
    monkeypatch.setitem(cli.COMMANDS, "deeper", cli.Row("tokenguard.absent.absent", "absent", "Not there."))
    for name in ("absent", "deeper"):
        assert name not in cli.group.list_commands(cli.click.Context(cli.group))
        assert cli.group.get_command(cli.click.Context(cli.group), name) is None


def test_help_is_light():
    """`--help` loads nothing heavy: no rich, no SDK of OpenTelemetry, no prices, no database."""
    program = (
        "import sys\nfrom tokenguard.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'rich', 'opentelemetry.sdk', 'genai_prices', 'sqlite3', 'libcst', 'tiktoken', 'asyncio'}\n"
        "print(*(heavy & set(sys.modules)), end='', file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == ""


@pytest.mark.parametrize("name", [name for name in cli.COMMANDS if name in cli.group.list_commands(None)])
def test_every_command_has_help(run, name):
    """Each listed command can be imported and explains itself."""
    code, out, err = run(name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: tokenguard {name}")


def test_version(run):
    """`--version` says which."""
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("tokenguard 0.")


def test_usage_errors(run):
    """A command that there is none of, and a bad option, are exit code 2."""
    for arguments in (("reprot",), ("report", "--fromat", "json"), ("report", "--limit", "0")):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--source", "nowhere"),
        ("--since", "yesterday"),
        ("--where", "feature"),
        ("--sort", "beauty"),
        ("--by", "it's"),
    ],
)
def test_errors_of_ours_are_one_line(run, stored, arguments):
    """What cannot be done is told in one line, with exit code 2."""
    code, out, err = run("report", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("tokenguard: ")
    assert err.count("\n") == 1


def test_no_data(run):
    """With nothing recorded, the report says where it looked and what to run; programs get an empty report."""
    code, out, err = run("report")
    assert (code, err) == (0, "")
    assert names.DEFAULT_STORE in out
    assert "tokenguard-instrument python app.py" in out
    code, out, err = run("report", "--format", "json")
    assert (code, json.loads(out)["total"]["calls"]) == (0, 0)
    assert names.DEFAULT_STORE in err
    code, out, err = run("report", "--format", "csv", TOKENGUARD_STORE="elsewhere.db")
    assert (code, out.count("\n")) == (0, 1)
    assert "elsewhere.db" in err


def test_report(run, stored):
    """The report reads the default store; keys may be given together or one by one."""
    code, out, err = run("report", "--by", "feature,model", "--by", "feature")
    assert (code, err) == (0, "")
    assert "rag" in out
    assert "$0.5000" in out
    code, out, _ = run("report", "--format", "json", "--by", "feature", "--where", "feature=r*")
    assert json.loads(out)["rows"][0]["feature"] == "rag"
    code, out, _ = run("report", "--since", "2026-12-01")
    assert (code, "no call that matches" in out) == (0, True)


def test_a_reader_that_leaves(tmp_path, stored):
    """`tokenguard report | true` ends quietly."""
    command = f"{sys.executable} -m tokenguard report --format json | true"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
