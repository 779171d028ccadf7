"""`tokenguard policy`, as a user calls it."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from tokenguard import policy as policies
from tokenguard.cli import policy as commands


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


ROUTE = """
[[route]]
name = "easy"
when = { feature = "faq", model = "gpt-4o*" }
to = "gpt-4.1-mini"
[[limit]]
name = "none"
when = { feature = "other" }
max_input_tokens = 1
"""


def test_try_prints_every_decision(folder: Path) -> None:
    """What each rule decides of a call, and why; at the end, what is sent."""
    (folder / "tokenguard.toml").write_text(ROUTE)
    told = run(commands.policy, "try", "--feature", "faq", "--model", "gpt-4o", "--input", "900")
    assert told.exit_code == 0
    assert "goes to gpt-4.1-mini instead of gpt-4o" in told.output
    assert 'its feature is "faq", not "other"' in " ".join(told.output.split())
    assert "sent to gpt-4.1-mini, no output cap, at most $0.00" in told.output


def test_try_says_by_its_exit_code_what_is_refused(folder: Path) -> None:
    """Exit code 1 is a refusal, 2 a call that cannot be put."""
    (folder / "tokenguard.toml").write_text(ROUTE)
    assert run(commands.policy, "try", "--feature", "other", "--model", "gpt-4o").exit_code == 1
    assert run(commands.policy, "try", "--attr", "x", "--model", "gpt-4o").exit_code == 2
    assert run(commands.policy, "try", "--model", "gpt-4o", "--format", "json").exit_code == 0


def test_check_warns_of_models_of_others(folder: Path) -> None:
    """The file is valid, and what is probably not meant is said beside."""
    (folder / "tokenguard.toml").write_text(ROUTE.replace("gpt-4.1-mini", "claude-haiku-4-5"))
    told = run(commands.policy, "check")
    assert told.exit_code == 0
    assert 'warning: [[route]] "easy": to = "claude-haiku-4-5" is a model of anthropic' in told.output
