"""`tokenguard budgets`, as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tokenguard import policy as policies
from tokenguard.cli import budgets as commands
from tokenguard.ledger import Balance, Reservation, nano, open_ledger
from tokenguard.policy import CompiledPolicy
from tokenguard.report.budgets import standings


def run(command, *args: str) -> Result:
    return CliRunner().invoke(command, args, catch_exceptions=False, env={"COLUMNS": "160"})


def standing(folder: Path) -> list[dict]:
    return json.loads(run(commands.budgets, "--format", "json", "--policy", str(folder / "tokenguard.toml")).stdout)[
        "budgets"
    ]


def test_unused(folder: Path) -> None:
    """A budget that nobody used yet is listed with its limit; looking makes no file."""
    assert {(each["budget"], each["unit"], each["limit"], each["used_share"]) for each in standing(folder)} == {
        ("everyone", "usd", 1.0, 0.0),
        ("nobody yet", "usd", 3.0, 0.0),
        ("tenant per day", "usd", 20.0, 0.0),
        ("tenant per day", "tokens", 5000, 0.0),
    }
    assert "unused" in run(commands.budgets).stdout
    assert not (folder / ".tokenguard").exists()


def test_budgets(folder: Path) -> None:
    """Each account has what is used of its limit, spent, reserved and remaining; the fullest first; one is reset."""
    found = policies.load()
    ledger = open_ledger(found.ledger, found.source)
    entries = CompiledPolicy(found).match("openai", "gpt", "chat", {"tenant": "t1"}).entries(ledger.now())
    made = ledger.reserve(entries, nano(1.5), 100)
    assert isinstance(made, Reservation)
    ledger.settle(made, nano(1.25), 80)
    ledger.reserve(entries, nano(0.5), 10)
    first, second, third, _ = standing(folder)
    assert (first["budget"], first["spent"], first["reserved"], first["remaining"]) == ("everyone", 1.25, 0.5, -0.75)
    assert (first["used_share"], first["then"], first["window_end"]) == (1.75, "warn", None)
    assert (second["budget"], second["key"], second["unit"]) == ("tenant per day", "tenant=t1", "usd")
    assert (second["remaining"], second["used_share"]) == (18.25, pytest.approx(0.0875))
    assert (third["unit"], third["spent"], third["reserved"], third["remaining"]) == ("tokens", 80, 10, 4910)
    table = run(commands.budgets).stdout
    head, one, *_ = (line.split() for line in table.splitlines())
    assert head[:5] == ["budget", "key", "used", "limit", "spent"]
    assert one[:5] == ["everyone", "(none)", "175.0%", "$1.0000", "$1.2500"]
    assert table.isascii()

    done = run(commands.budgets, "--reset", "tenant per day")
    assert done.output == '"tenant per day": 1 account set to 0; calls in flight stay reserved\n'
    assert [balance.spent_nano for balance in ledger.read(entries)] == [0, nano(1.25)]
    done = run(commands.budgets, "--reset", "tenant per dya")
    assert done.exit_code == 2
    assert 'did you mean "tenant per day"?' in done.stderr
    ledger.close()


def test_when_it_runs_out(folder: Path) -> None:
    """At the window's rate so far; not where it lasts, nor at a window's first moments, nor without an end."""
    day = 86_400

    def of(spent: float, now: float, end: int = day) -> float | None:
        balance = Balance("tenant per day", "tenant=t1", 0, end, nano(spent), 0)
        return next(each for each in standings(policies.load(), [balance]) if each.unit == "usd").runs_out(now)

    assert of(10.0, day / 4) == pytest.approx(day / 2)
    assert of(25.0, day / 4) == day / 4  # already passed
    assert of(4.0, day / 4) is None
    assert of(4.0, day / 100) is None
    assert of(10.0, day / 4, end=2**40) is None


def test_an_account_without_a_budget(folder: Path) -> None:
    """What a budget spent that is no longer in the policy is still told."""
    found = standings(policies.load(), [Balance("old", "", 0, 86_400, nano(1.0), 0)])
    old = next(each for each in found if each.budget == "old")
    assert (old.limit, old.spent, old.remaining, old.used_share, old.then) == (None, 1.0, None, None, None)


def test_budgets_without_a_ledger(folder: Path) -> None:
    """A ledger that cannot be reached is exit code 1 with its reason; one in memory is explained."""
    file = folder / "tokenguard.toml"
    rules = file.read_text()
    file.write_text(rules + '[ledger]\nurl = "redis://127.0.0.1:1/0"\n')
    done = run(commands.budgets)
    assert done.exit_code == 1
    assert "Redis ledger cannot be used" in done.stderr
    file.write_text(rules + '[ledger]\nurl = "memory:"\n')
    assert "memory:" in run(commands.budgets).stdout
    assert json.loads(run(commands.budgets, "--format", "json").stdout) == {"version": 1, "budgets": []}


def test_table_on_a_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """On a terminal the list is a table."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "160")
    commands.budgets.main(["--policy", "tokenguard.toml"], standalone_mode=False)
    out = capsys.readouterr().out
    assert "─" in out
    assert "░" * 10 in out
    assert "tenant per day" in out
