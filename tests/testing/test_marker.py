"""The marker `token_budget`: what a test may come to, and what its failure says."""

from __future__ import annotations

import pytest

from .conftest import said


def test_a_test_over_its_budget_fails(project):
    """What was spent against what was allowed, call by call, and which call went over."""
    result = project.run(
        """
        @pytest.mark.token_budget(max_cost_usd=0.0004, max_calls=1)
        def test_refund():
            ask()
            ask()
        """
    )
    assert result.ret == 1
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "token budget: cost $0.000566 of $0.0004; calls 2 of 1",
            "  cost: $0.000566 spent, $0.0004 allowed by max_cost_usd; call 2 went over. Send less, cap the output, use a "
            "cheaper model, or raise max_cost_usd.",
            "  calls: 2 spent, 1 allowed by max_calls; call 2 went over. Make fewer calls, or raise max_calls.",
            "",
            "   call  model                   where        input  cached  output       cost",
            "   1     gpt-4o-mini-2024-07-18  asking.py:7  1,200   1,024     300  $0.000283",
            ">  2     gpt-4o-mini-2024-07-18  asking.py:7  1,200   1,024     300  $0.000283",
            "*= tokenguard =*",
            "spent $0.000566 in 2 calls: 2,400 tokens in (cache hit 85.3%), 600 out",
        ],
        consecutive=False,
    )
    assert "FAILED test_it.py::test_refund - Failed: token budget: cost $0.000566" in said(result)
    assert "_pytest" not in said(result)  # no traceback of ours
    assert "traceback" not in said(result)


@pytest.mark.parametrize(
    ("limit", "body", "line"),
    [
        (
            "max_input_tokens=1000",
            "ask()",
            "input tokens: 1,200 spent, 1,000 allowed by max_input_tokens; call 1 went over.",
        ),
        (
            "max_output_tokens=500",
            "ask(); ask()",
            "output tokens: 600 spent, 500 allowed by max_output_tokens; call 2 went",
        ),
        ("max_calls=0", "ask()", "calls: 1 spent, 0 allowed by max_calls; call 1 went over."),
        (
            "max_retries=0",
            "ask(client=openai_client(Script(httpx2.Response(500, headers={'retry-after-ms': '1'}))))",
            "retries: 1 spent, 0 allowed by max_retries; call 1 went over. See why requests fail, or raise max_retries.",
        ),
        (
            "max_tool_steps=0",
            """openai_client().chat.completions.create(model="gpt-4o-mini", messages=[
                {"role": "user", "content": "x"},
                {"role": "assistant", "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "1", "content": "y"}])""",
            "tool steps: 1 spent, 0 allowed by max_tool_steps; call 1 went over.",
        ),
        (
            "min_cache_hit='90%'",
            "ask()",
            "cache hit: 1,024 of 1,200 input tokens came from the prompt cache, 85.3%; min_cache_hit wants 90%. Put",
        ),
    ],
)
def test_every_limit(project, limit, body, line):
    """Each key of the marker, passed: the line names what was spent, what was allowed and what to do."""
    result = project.run(f"@pytest.mark.token_budget({limit})\ndef test_it():\n    {body}\n")
    result.assert_outcomes(failed=1)
    assert line in said(result)


def test_within_all_limits(project):
    """A test within its budget passes; a limit is what may be reached."""
    result = project.run(
        """
        @pytest.mark.token_budget(
            max_cost_usd=0.0002832, max_input_tokens=1200, max_output_tokens=300, max_calls=1, max_retries=0,
            max_tool_steps=0, min_cache_hit=0.85,
        )
        def test_it():
            ask()
        """
    )
    assert result.ret == 0
    result.assert_outcomes(passed=1)


def test_the_nearest_marker_wins_key_by_key(project):
    """Module, class and test add up to one budget; `None` takes a key away."""
    result = project.run(
        """
        pytestmark = pytest.mark.token_budget(max_calls=0, max_output_tokens=100)

        @pytest.mark.token_budget(max_calls=1)
        class TestIt:
            def test_class_calls_module_output(self):
                ask()

            @pytest.mark.token_budget(max_output_tokens=None)
            def test_no_output_limit(self):
                ask()

            @pytest.mark.token_budget(max_output_tokens=300)
            def test_own(self):
                ask()

        def test_module():
            ask()
        """
    )
    result.assert_outcomes(passed=2, failed=2)
    text = said(result)
    assert "output tokens 300 of 100\n" in text
    assert "calls 1 of 0; output tokens 300 of 100" not in text.partition("test_module ")[0]
    assert "token budget: output tokens 300 of 100; calls 1 of 0" in text


def test_calls_in_threads_tasks_and_streams(project):
    """Whatever thread or task makes a call, the running test pays; a stream when it has been read."""
    result = project.run(
        """
        import asyncio, threading

        @pytest.mark.token_budget(max_calls=0)
        def test_thread():
            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()

        @pytest.mark.token_budget(max_calls=1)
        async def test_tasks():
            client = async_openai_client(Script().asynchronously)
            one = lambda: client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
            await asyncio.gather(one(), one())
            await client.close()

        @pytest.mark.token_budget(max_output_tokens=299)
        def test_stream():
            for _ in ask(stream=True):
                pass

        @pytest.mark.token_budget(max_cost_usd=0.005)
        def test_anthropic():
            anthropic_client().messages.create(model=SONNET, max_tokens=10, messages=MESSAGES)
        """
    )
    result.assert_outcomes(failed=4)
    text = said(result)
    for first in ("calls 1 of 0", "calls 2 of 1", "output tokens 300 of 299", "cost $0.0055 of $0.005"):
        assert f"token budget: {first}\n" in text


def test_fixtures_are_charged(project):
    """A fixture of the test is the test's, at setup and at teardown; one that tests share is charged apart."""
    result = project.run(
        """
        @pytest.fixture(scope="session")
        def index():
            ask()
            yield
            ask()

        @pytest.fixture(scope="module")
        def corpus(index):
            ask()

        @pytest.fixture
        def own(corpus):
            ask()

        @pytest.fixture
        def after():
            yield
            ask()

        @pytest.mark.token_budget(max_calls=0)
        def test_shared(corpus):
            pass

        @pytest.mark.token_budget(max_calls=0)
        def test_setup(own):
            pass

        @pytest.mark.token_budget(max_calls=0)
        def test_teardown(after):
            pass
        """
    )
    result.assert_outcomes(passed=2, failed=1, errors=1)
    text = said(result)
    assert "ERROR at teardown of test_teardown" in text
    assert "session fixture index (test_it.py)      2  2,400" in text
    assert "module fixture corpus (test_it.py)      1  1,200" in text
    assert "spent $0.0014 in 5 calls" in text


def test_an_unknown_cost_is_not_zero(project):
    """A call without a known price cannot be shown to be within a budget; neither can tokens nobody reported."""
    result = project.run(
        """
        @pytest.mark.token_budget(max_cost_usd=1)
        def test_price():
            openai_client(lambda r: httpx2.Response(200, json={**chat_body(), "model": "made-up"})).chat.completions.create(
                model="made-up", messages=MESSAGES)

        @pytest.mark.token_budget(max_output_tokens=1000)
        def test_tokens():
            openai_client(lambda r: httpx2.Response(200, json={**chat_body(), "usage": None})).chat.completions.create(
                model="gpt-4o-mini", messages=MESSAGES)

        @pytest.mark.token_budget(max_cost_usd=0.01, max_output_tokens=0)
        def test_refused_by_the_provider():
            with pytest.raises(Exception):
                ask(client=openai_client(lambda r: httpx2.Response(400, json={})))
        """
    )
    result.assert_outcomes(failed=2, passed=1)
    text = said(result)
    assert (
        "cost: at least $0 spent, $1.00 allowed by max_cost_usd, and call 1 has no known price. Add its model under "
        "[prices] in tokenguard.toml." in text
    )
    assert (
        "output tokens: at least 0 spent, 1,000 allowed by max_output_tokens, and call 1 came back without token"
        in text
    )
    assert "1 call without a known price" in text


def test_prices_of_the_project_are_used(project):
    """The policy file's prices are used in tests; its limits and budgets are not."""
    project.write(
        "tokenguard.toml",
        """
        [prices]
        "openai/*" = { input = 1000, output = 1000 }
        [[limit]]
        name = "nothing"
        max_output_tokens = 1
        """,
    )
    result = project.run("@pytest.mark.token_budget(max_cost_usd=1)\ndef test_it():\n    ask()\n")
    result.assert_outcomes(failed=1)
    assert "token budget: cost $1.50 of $1.00" in said(result)


def test_a_failure_of_its_own_stays(project):
    """A test that fails by itself fails with that, and the budget is told beside it."""
    result = project.run(
        """
        @pytest.mark.token_budget(max_calls=0)
        def test_it():
            ask()
            assert "Paris" == "London"

        @pytest.mark.token_budget(max_calls=0)
        def test_skips():
            ask()
            pytest.skip("not today")

        @pytest.mark.xfail(strict=True)
        @pytest.mark.token_budget(max_calls=0)
        def test_expected():
            ask()
        """
    )
    result.assert_outcomes(failed=1, skipped=1, xfailed=1)
    text = said(result)
    assert "AssertionError: assert 'Paris' == 'London'" in text
    assert "- Captured tokenguard call -" in text
    assert text.count("token budget: calls 1 of 0") == 1


def test_unittest(project):
    """`unittest.TestCase` methods have budgets, too."""
    result = project.run(
        """
        import unittest

        @pytest.mark.token_budget(max_calls=1)
        class TestOld(unittest.TestCase):
            @classmethod
            def setUpClass(cls):
                ask()

            def setUp(self):
                ask()

            def test_one(self):
                pass

            def test_two(self):
                ask()
        """
    )
    result.assert_outcomes(passed=1, failed=1)
    assert "calls 2 of 1" in said(result)


def test_retries_are_those_of_the_test(project):
    """The same request failing in two tests is no retry."""
    result = project.run(
        """
        def failing():
            with pytest.raises(Exception):
                ask(client=openai_client(lambda r: httpx2.Response(500, json={}), max_retries=0))

        @pytest.mark.token_budget(max_retries=0)
        @pytest.mark.parametrize("n", [1, 2])
        def test_it(n):
            failing()

        @pytest.mark.token_budget(max_retries=0)
        def test_repeats():
            failing()
            failing()
        """
    )
    result.assert_outcomes(passed=2, failed=1)
    assert "retries 1 of 0" in said(result)


@pytest.mark.parametrize(
    ("mark", "line"),
    [
        (
            "max_cost=1",
            'token_budget(max_cost=1): there is no such key; did you mean "max_cost_usd"? Keys: max_cost_usd,',
        ),
        ("max_cost_usd=-1", "token_budget(max_cost_usd=-1): it must not be negative."),
        ("max_calls=1.5", "token_budget(max_calls=1.5): it must be a whole number."),
        ("max_calls=True", "token_budget(max_calls=True): it must be a number."),
        ("max_cost_usd='a lot'", "token_budget(max_cost_usd='a lot'): it must be a number."),
        ("max_cost_usd=float('nan')", "token_budget(max_cost_usd=nan): it must be a number."),
        ("min_cache_hit=60", "token_budget(min_cache_hit=60): it must be a share from 0 to 1, or from 0% to 100%."),
        ("tolerance='x%'", "token_budget(tolerance='x%'): it must be a number."),
        (
            "0.01",
            "token_budget(0.01): a value without a name; write token_budget(max_cost_usd=...). Keys: max_cost_usd,",
        ),
        ("", "token_budget() allows anything; give it one of max_cost_usd,"),
    ],
)
def test_a_wrong_marker_is_a_usage_error(project, mark, line):
    """Before anything runs: the test, the key, the value and what is wrong; exit code 4."""
    result = project.run(WRONG.replace("MARK", mark))
    assert result.ret == 4
    assert f"ERROR: test_it.py::test_it: {line}" in said(result)
    assert not (project.path / "ran").exists()


WRONG = """
    def test_other():
        open("ran", "w")

    @pytest.mark.token_budget(MARK)
    def test_it():
        pass
"""


@pytest.mark.apart
def test_a_wrong_marker_under_xdist(project):
    """The same where workers collect."""
    result = project.run(WRONG.replace("MARK", "max_tokens=1"), "-n2", apart=True)
    assert result.ret == 4
    assert "ERROR: test_it.py::test_it: token_budget(max_tokens=1): there is no such key" in said(result)
    assert not (project.path / "ran").exists()


def test_what_is_not_measured_fails_a_budget(project, monkeypatch):
    """A test with a budget fails where TokenGuard itself could not measure its calls; one without is told of it."""
    monkeypatch.setenv("TOKENGUARD_STRICT", "0")
    result = project.run(
        """
        @pytest.mark.token_budget(max_cost_usd=1)
        def test_it(monkeypatch):
            from tokenguard.metering.meter import Meter

            def fail(*_):
                raise OSError("disk full")

            monkeypatch.setattr(Meter, "begin", fail)
            ask()
        """
    )
    result.assert_outcomes(failed=1)
    why = "1 call went out unmeasured; the last: beginning a call failed (OSError: disk full)."
    result.stdout.fnmatch_lines(
        [
            f"token budget: not known, for a fault of TokenGuard's own: {why}",
            f"*these figures are too low, for a fault of TokenGuard's own: {why}*",
        ]
    )
