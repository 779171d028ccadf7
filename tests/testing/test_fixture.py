"""The fixture `tokenguard`: the running meter, and a policy for one test."""

from __future__ import annotations

import pytest

from .conftest import said


def test_the_running_meter(project):
    """What the test's calls have come to so far, call by call."""
    result = project.run(
        """
        @pytest.fixture
        def warm():
            ask()

        def test_it(warm, tokenguard):
            assert tokenguard.calls == 1
            ask(model="gpt-4o-mini")
            assert tokenguard.cost_usd == pytest.approx(2 * OPENAI_COST)
            assert (tokenguard.input_tokens, tokenguard.output_tokens) == (2400, 600)
            assert tokenguard.cache_read_tokens == 2048
            assert [record.model for record in tokenguard.records] == ["gpt-4o-mini-2024-07-18"] * 2
            assert tokenguard.records[1].call_site.endswith("asking.py:7")

        async def test_starts_at_nothing(tokenguard):
            assert (tokenguard.calls, tokenguard.cost_usd) == (0, 0)
            client = async_openai_client(Script().asynchronously)
            await client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
            await client.close()
            assert tokenguard.calls == 1
        """
    )
    result.assert_outcomes(passed=2)


def test_asked_for_by_name(project):
    """A test that asks for the fixture when it runs is measured from there."""
    result = project.run(
        """
        def test_it(request):
            tokenguard = request.getfixturevalue("tokenguard")
            ask()
            assert tokenguard.calls == 1

        def test_next():
            ask()
        """
    )
    result.assert_outcomes(passed=2)
    assert "in 2 calls" in said(result)


def test_a_policy_for_one_test(project):
    """A guard's behaviour can be tested; the next test is free of it."""
    project.write("strict.toml", '[[limit]]\nname = "short"\nmax_output_tokens = 10\nthen = "clamp"\n')
    result = project.run(
        """
        import tokenguard as package

        def test_limit(tokenguard):
            ask()
            tokenguard.policy(limit=[{"name": "answers", "max_output_tokens": 50}])
            with pytest.raises(package.LimitExceeded, match="answers"):
                ask(max_completion_tokens=100)
            assert [record.outcome for record in tokenguard.records] == ["ok", "blocked"]

        def test_budget(tokenguard):
            tokenguard.policy(budget=[{"name": "day", "limit_usd": 0.003}])
            ask(max_completion_tokens=1000)
            with pytest.raises(package.BudgetExceeded, match="day"):
                ask(max_completion_tokens=5000)

        def test_file(tokenguard):
            tokenguard.policy(limit=[{"name": "nothing", "max_input_tokens": 1}])
            tokenguard.policy("strict.toml")
            script = Script()
            ask(client=openai_client(script), max_completion_tokens=100)
            assert script.requests[0]["max_completion_tokens"] == 10

        def test_free(tokenguard):
            ask(max_completion_tokens=100)
            assert tokenguard.records[0].attributes.get("tokenguard.guard.action") is None

        def test_wrong(tokenguard):
            with pytest.raises(package.PolicyError, match='tokenguard.policy.*there is no such key; did you mean "limit"'):
                tokenguard.policy(limits=[])
            with pytest.raises(package.PolicyError, match="nowhere.toml"):
                tokenguard.policy("nowhere.toml")
        """
    )
    result.assert_outcomes(passed=5)
    assert not (project.path / ".tokenguard").exists()
    assert "2 refused by a guard" in said(result)
    assert "in 4 calls" in said(result)


@pytest.mark.apart
def test_an_installed_policy_stays(project):
    """A project that installs TokenGuard itself keeps its policy; the fixture's is on top for one test."""
    project.write(
        "conftest.py",
        """
        import tokenguard
        from tokenguard.policy import from_mapping
        tokenguard.install(from_mapping({"limit": [{"name": "own", "max_output_tokens": 50}]}))
        """,
    )
    result = project.run(
        """
        import tokenguard as package

        def test_on_top(tokenguard):
            tokenguard.policy(limit=[{"name": "wide", "max_output_tokens": 500}])
            ask(max_completion_tokens=100)

        def test_own(tokenguard):
            with pytest.raises(package.LimitExceeded, match="own"):
                ask(max_completion_tokens=100)
        """,
        apart=True,
    )
    result.assert_outcomes(passed=2)


def test_a_call_is_put_to_the_policy(project):
    """Routing rules are tested without a call: `trial` says where a call would go, and by which rule."""
    result = project.run(
        """
        def test_it(tokenguard):
            tokenguard.policy(
                route=[{"name": "easy", "when": {"feature": "faq"}, "max_input_tokens": 1200, "to": "gpt-4.1-mini"}],
                attribution={"keys": ["plan"]},
            )
            easy = tokenguard.trial("gpt-4o", feature="faq", input_tokens=900, plan="free")
            assert (easy.model, easy.route, easy.arm, easy.action) == ("gpt-4.1-mini", "easy", "treated", "allow")
            hard = tokenguard.trial("gpt-4o", feature="faq", input_tokens=9000)
            assert (hard.model, hard.route) == ("gpt-4o", None)
            assert "the most is 1,200" in hard.decisions[0].why
            assert tokenguard.calls == 0
        """
    )
    result.assert_outcomes(passed=1)
