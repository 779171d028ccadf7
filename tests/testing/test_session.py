"""Budgets of a whole run."""

from __future__ import annotations

import pytest

from .conftest import said

THREE = """
    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_it(n):
        ask(max_completion_tokens=400)
"""


def test_the_run_fails_at_its_end(project):
    """All tests run and pass; the run fails and says why."""
    result = project.run(THREE, "--tokenguard-max-cost=0.0008", "--tokenguard-max-calls=2")
    assert result.ret == 1
    result.assert_outcomes(passed=3)
    text = said(result)
    assert "FAILED the run cost $0.00085, and --tokenguard-max-cost=0.0008 allows $0.0008." in text
    assert "FAILED the run made 3 calls, and --tokenguard-max-calls allows 2." in text


def test_within_the_budget(project):
    """What just fits is fine; calls that are refused by a provider or a guard do not count as spent."""
    assert project.run(THREE, "--tokenguard-max-cost=$0.00085", "--tokenguard-max-calls=3").ret == 0


def test_ini_keys(project):
    """The same in the ini file; the command line wins."""
    project.ini("tokenguard_max_calls = 2", "tokenguard_then = fail")
    assert project.run(THREE).ret == 1
    assert project.run(THREE, "--tokenguard-max-calls=5").ret == 0


@pytest.mark.parametrize(
    ("option", "line"),
    [
        (
            "--tokenguard-max-calls=2",
            "budget spent: chat gpt-4o-mini: 2 of --tokenguard-max-calls=2 calls are made. Raise",
        ),
        (
            "--tokenguard-max-cost=0.0008",
            "budget spent: chat gpt-4o-mini: its worst case is $0.000243, and $0.000566 of --tokenguard-max-cost=0.0008 "
            "is spent or reserved. Raise it, or lower",
        ),
    ],
)
def test_spending_stops(project, option, line):
    """Calls that do not fit are refused; their tests fail as `budget spent`, others go on."""
    result = project.run(
        THREE
        + """
    def test_catches():
        try:
            ask(max_completion_tokens=400)
        except Exception:
            pass

    def test_makes_no_calls():
        pass
    """,
        option,
        "--tokenguard-then=stop",
    )
    assert result.ret == 1
    result.assert_outcomes(passed=3, failed=2)
    text = said(result)
    assert text.count(f"\n{line}") == 2
    assert "FAILED test_it.py::test_it[3] - Failed: budget spent: chat gpt-4o-mini" in text
    assert "site-packages" not in text.partition("FAILURES")[2]
    assert "in 2 calls" in text
    assert "2 refused by a guard" in text


def test_spending_stops_in_fixtures(project):
    """A fixture's call is refused, too."""
    result = project.run(
        """
        @pytest.fixture
        def own():
            ask()

        def test_it(own):
            pass
        """,
        "--tokenguard-max-calls=0",
        "--tokenguard-then=stop",
    )
    result.assert_outcomes(errors=1)
    assert "\nbudget spent: chat gpt-4o-mini: 0 of --tokenguard-max-calls=0 calls are made" in said(result)


def test_a_policy_and_the_run(project):
    """A test's own policy holds beside the run's budget, and its refusals cost the run nothing."""
    result = project.run(
        """
        import tokenguard as package

        def test_refused(tokenguard):
            tokenguard.policy(limit=[{"name": "short", "max_output_tokens": 10}])
            for _ in range(3):
                with pytest.raises(package.LimitExceeded):
                    ask(max_completion_tokens=100)

        def test_last():
            ask()

        def test_spent(tokenguard):
            tokenguard.policy(limit=[{"name": "wide", "max_output_tokens": 500}])
            ask(max_completion_tokens=100)
        """,
        "--tokenguard-max-calls=1",
        "--tokenguard-then=stop",
    )
    result.assert_outcomes(passed=2, failed=1)
    assert "test_it.py::test_spent - Failed: budget spent" in said(result)


def test_a_model_without_a_price(project):
    """Nobody can say whether it fits: it is refused, or the run fails at its end."""
    text = """
        def test_it():
            openai_client(lambda r: httpx2.Response(200, json={**chat_body(), "model": "made-up"})).chat.completions.create(
                model="made-up", messages=MESSAGES)
    """
    result = project.run(text, "--tokenguard-max-cost=1")
    assert result.ret == 1
    assert (
        "FAILED 1 call without a known price, so --tokenguard-max-cost=1 cannot be kept; add the models under [prices]"
        in said(result)
    )
    result = project.run(text, "--tokenguard-max-cost=1", "--tokenguard-then=stop")
    result.assert_outcomes(failed=1)
    assert "no price is known for it at openai" in said(result)


@pytest.mark.apart
def test_spending_stops_over_workers(project):
    """The workers share one budget: of 12 calls in 2 processes, 5 are made."""
    result = project.run(
        """
        @pytest.mark.parametrize("n", range(12))
        def test_it(n):
            ask(max_completion_tokens=400)
        """,
        "-n2",
        "--tokenguard-max-calls=5",
        "--tokenguard-then=stop",
        apart=True,
    )
    result.assert_outcomes(passed=5, failed=7)
    assert "in 5 calls" in said(result)
    assert "7 refused by a guard" in said(result)


@pytest.mark.apart
def test_the_controller_adds_up(project):
    """Under xdist the run's cost is over all workers, shared fixtures included, as each worker makes its own."""
    result = project.run(
        """
        @pytest.fixture(scope="session")
        def index():
            ask()

        @pytest.mark.parametrize("n", range(4))
        def test_it(n, index):
            ask()
        """,
        "-n2",
        "--dist=each",
        "--tokenguard-max-calls=9",
        apart=True,
    )
    assert result.ret == 1
    text = said(result)
    assert "FAILED the run made 10 calls, and --tokenguard-max-calls allows 9." in text
    assert "session fixture index (test_it.py), 2 workers      2" in text


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("--tokenguard-max-cost=-1", "--tokenguard-max-cost: '-1': it must not be negative."),
        ("--tokenguard-max-cost=", "--tokenguard-max-cost: '': it must be a number."),
        ("--tokenguard-max-cost=inf", "--tokenguard-max-cost: 'inf': it must be a number."),
        ("--tokenguard-max-calls=many", "--tokenguard-max-calls: 'many': it must be a number."),
        ("--tokenguard-then=explode", "--tokenguard-then: 'explode': it must be one of fail, stop."),
        ("--tokenguard-tolerance=-5%", "--tokenguard-tolerance: '-5%': it must not be negative."),
        ("--tokenguard-growth=maybe", "--tokenguard-growth: 'maybe': it must be one of fail, warn, ignore."),
        ("--tokenguard-json=", "--tokenguard-json: '': it must not be empty."),
    ],
)
def test_wrong_options(project, option, line):
    """A usage error that names the option and the value; exit code 4."""
    result = project.run(THREE, option)
    assert result.ret == 4
    assert f"ERROR: {line}" in said(result)


@pytest.mark.apart
def test_a_wrong_policy_file(project):
    """The project's policy is read for its prices; a wrong one is a usage error that names its line."""
    project.write("tokenguard.toml", "[prices]\nx = 1\n")
    result = project.run(THREE, "--tokenguard")
    assert result.ret == 4
    assert "tokenguard.toml:2" in said(result)
    # Found by a worker, which is the first to see that a test asks.
    result = project.run("def test_it(tokenguard):\n    pass\n", "-n1", apart=True)
    assert result.ret == 4
    assert "tokenguard.toml:2" in said(result)
    assert "INTERNALERROR" not in said(result)
