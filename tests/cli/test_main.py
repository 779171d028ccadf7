"""The command line: commands are found by name, imported when used, and end with one clear line and a right code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

import fresh
from tokenguard import cli
from tokenguard.facts import names
from tokenguard.facts.record import CallRecord
from tokenguard.store.store import Store


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
    monkeypatch.setitem(cli.COMMANDS, "absent", cli.Entry("tokenguard.cli.absent", "absent", "Not there."))
    monkeypatch.setitem(cli.COMMANDS, "deeper", cli.Entry("tokenguard.absent.absent", "absent", "Not there."))
    for name in ("absent", "deeper"):
        assert name not in cli.group.list_commands(cli.click.Context(cli.group))
        assert cli.group.get_command(cli.click.Context(cli.group), name) is None


def test_help_is_light():
    """`--help` loads nothing heavy: no rich, no SDK of OpenTelemetry, no prices, no database."""
    program = (
        "import sys\nfrom tokenguard.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'rich', 'opentelemetry.sdk', 'genai_prices', 'sqlite3', 'libcst', 'tiktoken', 'asyncio'}\n"
        "heavy.add('tokenguard.prices')\n"
        "print(*(heavy & set(sys.modules)), end='', file=sys.stderr)\n"
    )
    assert fresh.python(program).stderr == ""


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
    assert json.loads(out)["rows"][0]["keys"]["feature"] == "rag"
    code, out, _ = run("report", "--since", "2026-12-01")
    assert (code, "no call that matches" in out) == (0, True)


@pytest.mark.apart
def test_the_store_is_off(run, stored):
    """With the store switched off, by any of its words, the report says so and how to read one all the same."""
    for word in ("off", "0", "None", " OFF ", ""):
        code, out, err = run("report", TOKENGUARD_STORE=word)
        assert (code, err) == (0, "")
        assert f"TOKENGUARD_STORE={word} switches the local store off" in out
        assert f"--source {names.DEFAULT_STORE}" in out
        assert "rag" in run("report", "--source", names.DEFAULT_STORE, TOKENGUARD_STORE=word)[1]
    code, out, err = run("report", "--format", "json", TOKENGUARD_STORE="off")
    assert (json.loads(out)["total"]["calls"], "switches the local store off" in err) == (0, True)


def test_several_sources(run, stored, tmp_path):
    """Sources add up, a span that is in two of them is counted once, and the page says so."""
    attributes = [{"key": names.OPERATION, "value": {"stringValue": "chat"}}]
    spans = [{"traceId": "c" * 32, "spanId": "d" * 16, "startTimeUnixNano": "1", "attributes": attributes}] * 2
    (tmp_path / "t.json").write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}))
    code, out, err = run("report", "--source", names.DEFAULT_STORE, "--source", "t.json", "--source", "./t.json")
    assert (code, err) == (0, "")
    assert "calls 2 " in out
    assert ".tokenguard/usage.db + t.json" in out
    assert "Found more than once in the sources, by trace and span id, and counted once: 1" in out


def test_many_groups(run, tmp_path):
    """A table shows the dearest groups, and states the rest; programs get all."""
    store = Store(tmp_path / names.DEFAULT_STORE)
    now = time.time_ns()
    store.write(
        [
            CallRecord(now + n, 1, "ok", {names.OPERATION: "chat", names.COST: n / 1024, "tokenguard.user": f"u{n}"})
            for n in range(100)
        ]
    )
    store.close()
    _, out, _ = run("report", "--by", "user")
    rows = [line for line in out.splitlines() if line.startswith("u") and line[1].isdigit()]
    assert (len(rows), rows[0].split()[0]) == (20, "u99")
    assert "... and 80 more ($3.09, 64% of the cost)" in out
    assert len(json.loads(run("report", "--by", "user", "--format", "json")[1])["rows"]) == 100
    assert run("report", "--by", "user", "--format", "csv")[1].count("\n") == 101
    assert "... and 70 more" in run("report", "--by", "user", "--limit", "30")[1]


def test_alone(run, stored, tmp_path):
    """`tokenguard` alone shows what there is and what to do next, and that is no error."""
    code, out, err = run()
    assert (code, err) == (0, "")
    for name in cli.group.list_commands(None):
        assert f"  tokenguard {name}" in out
    assert "  tokenguard-instrument python app.py" in out
    assert "Recorded in .tokenguard/usage.db: 1 call, the last at 2026-11-02" in out
    assert "Next:  tokenguard report\n" in out
    assert len(out.splitlines()) <= 40
    assert max(map(len, out.splitlines())) <= 120
    assert "The local store is off" in run(TOKENGUARD_STORE="off")[1]
    _, out, _ = run(TOKENGUARD_STORE="elsewhere.db")
    assert "Nothing is recorded in elsewhere.db yet.\nNext:  tokenguard demo\n" in out
    (tmp_path / "text.db").write_text("no database" * 100)
    assert "Nothing is recorded in text.db yet." in run(TOKENGUARD_STORE="text.db")[1]


def on_a_terminal(folder, *arguments, **environment):
    """What a command writes to a terminal."""
    ours, theirs = os.openpty()
    env = {
        k: v for k, v in os.environ.items() if not k.startswith(("TOKENGUARD_", "COLUMNS", "NO_COLOR", "TERM", "LC_"))
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tokenguard", *arguments],
        cwd=folder,
        env=env | {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"} | environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = b""
    with open(ours, "rb", buffering=0) as terminal:
        try:
            while part := terminal.read(65_536):
                written += part
        except OSError:  # how Linux says that the other end is closed
            pass
    assert process.wait(timeout=60) == 0
    return written


@pytest.fixture
def exotic(tmp_path):
    """A store whose feature has a name that is not ASCII."""
    store = Store(tmp_path / names.DEFAULT_STORE)
    attributes = {names.OPERATION: "chat", names.COST: 0.5, "tokenguard.feature": "données"}
    store.write([CallRecord(time.time_ns() + n, 1, "ok", attributes) for n in range(2)])
    store.close()


@pytest.mark.apart
@pytest.mark.parametrize(
    "environment",
    [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}],
    ids=str,
)
@pytest.mark.parametrize("arguments", [("report",), ("prices", "gpt-4o"), ()], ids=["report", "prices", "alone"])
def test_plain_terminals(tmp_path, exotic, arguments, environment):
    """A terminal that cannot draw, or should not, gets plain text; of a name, what its encoding has."""
    written = on_a_terminal(tmp_path, *arguments, **environment)
    encoding = environment.get("PYTHONIOENCODING", "utf-8")
    text = written.decode(encoding)
    assert "\x1b" not in text
    if arguments == ("report",):
        name = "donn?es" if encoding == "ascii" else "données"
        assert name in text
        text = text.replace(name, "")
    assert text.isascii()


def test_other_terminals_are_drawn_on(tmp_path, exotic):
    """A terminal that can draw gets colour, lines and bars."""
    text = on_a_terminal(tmp_path, "report", COLUMNS="120").decode()
    assert {"\x1b", "─", "█", "╭"} <= {*text}
    assert "\x1b" in on_a_terminal(tmp_path).decode()


def test_a_pipe_without_utf8(run, exotic):
    """No encoding breaks a page; JSON stays JSON."""
    code, out, err = run("report", PYTHONIOENCODING="ascii")
    assert (code, err, "donn?es" in out) == (0, "", True)
    code, out, err = run("report", "--format", "json", PYTHONIOENCODING="ascii")
    assert (code, json.loads(out)["rows"][0]["keys"]) == (0, {"feature": "données"})


def test_a_reader_that_leaves(tmp_path, stored):
    """`tokenguard report | true` ends quietly."""
    command = f"{sys.executable} -m tokenguard report --format json | true"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
