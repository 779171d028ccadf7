"""`tokenguard policy` and `tokenguard budgets`, as a user calls them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tokenguard import policy as policies
from tokenguard.cli import policy as commands
from tokenguard.ledger import Reservation, nano, open_ledger
from tokenguard.policy import CompiledPolicy

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


def run(command, *args: str) -> Result:
    return CliRunner().invoke(command, args, catch_exceptions=False)


def test_check(folder: Path) -> None:
    """A valid file is summed up; a broken one is exit code 2 with its line; none is not an error."""
    done = run(commands.policy, "check")
    assert (done.exit_code, done.output) == (
        0,
        f"{folder}/tokenguard.toml: valid; 3 budgets, 1 breaker; mode enforce\n",
    )
    (folder / "bad.toml").write_text("\nmod = 1\n")
    done = run(commands.policy, "check", "bad.toml")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith('bad.toml:2: mod = 1: there is no such key; did you mean "mode"?')
    (folder / "tokenguard.toml").unlink()
    done = run(commands.policy, "check")
    assert done.exit_code == 0
    assert "nothing is limited" in done.stdout


def test_show(folder: Path) -> None:
    """The effective policy is TOML that can be read back."""
    done = run(commands.policy, "show")
    assert done.exit_code == 0
    assert policies.loads(done.stdout) == policies.load()
    assert run(commands.policy, "show", "gone.toml").exit_code == 2


def test_budgets(folder: Path) -> None:
    """Each account has its limit, spent, reserved and remaining; looking makes no file; one budget can be reset."""
    done = run(commands.budgets)
    assert done.exit_code == 0
    assert not (folder / ".tokenguard").exists()
    assert [line.split("\t")[:4] for line in done.stdout.splitlines()[1:]] == [
        ["everyone", "", "unused", "$1.0000"],
        ["nobody yet", "", "unused", "$3.0000"],
        ["tenant per day", "", "unused", "$20.0000"],
        ["tenant per day", "", "unused", "5,000 tokens"],
    ]
    found = policies.load()
    ledger = open_ledger(found.ledger, found.source)
    entries = CompiledPolicy(found).match("openai", "gpt", "chat", {"tenant": "t1"}).entries(ledger.now())
    made = ledger.reserve(entries, nano(1.5), 100)
    assert isinstance(made, Reservation)
    ledger.settle(made, nano(1.25), 80)
    ledger.reserve(entries, nano(0.5), 10)
    done = run(commands.budgets, "--policy", str(folder / "tokenguard.toml"))
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert rows[0] == ["budget", "key", "window ends", "limit", "spent", "reserved", "remaining", "orphaned"]
    assert rows[1] == ["everyone", "", "never", "$1.0000", "$1.2500", "$0.5000", "-$0.7500", "$0.0000"]
    assert rows[3][3:] == ["$20.0000", "$1.2500", "$0.5000", "$18.2500", "$0.0000"]
    assert rows[4][:2] == ["tenant per day", "tenant=t1"]
    assert rows[4][3:] == ["5,000 tokens", "80 tokens", "10 tokens", "4,910 tokens", "0 tokens"]

    done = run(commands.budgets, "--reset", "tenant per day")
    assert done.output == '"tenant per day": 1 account set to 0; calls in flight stay reserved\n'
    assert [balance.spent_nano for balance in ledger.read(entries)] == [0, nano(1.25)]
    done = run(commands.budgets, "--reset", "tenant per dya")
    assert done.exit_code == 2
    assert 'did you mean "tenant per day"?' in done.stderr
    ledger.close()


def test_budgets_without_a_ledger(folder: Path) -> None:
    """A ledger that cannot be reached is exit code 1 with its reason; one in memory is explained."""
    (folder / "tokenguard.toml").write_text(POLICY + '[ledger]\nurl = "redis://127.0.0.1:1/0"\n')
    done = run(commands.budgets)
    assert done.exit_code == 1
    assert "Redis ledger cannot be used" in done.stderr
    (folder / "tokenguard.toml").write_text(POLICY + '[ledger]\nurl = "memory:"\n')
    assert "memory:" in run(commands.budgets).stdout


def test_table_on_a_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """On a terminal the list is a table."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "160")
    commands.budgets.main(["--policy", "tokenguard.toml"], standalone_mode=False)
    out = capsys.readouterr().out
    assert "━" in out
    assert "tenant per day" in out
