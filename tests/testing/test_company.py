"""Beside other plugins: xdist, asyncio, anyio, rerunfailures, vcrpy; and where TokenGuard is not wanted."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tokenguard.demo.provider import SimulatedProvider

from .conftest import said


@pytest.mark.apart
def test_xdist(project):
    """Failures, properties and totals are as without workers."""
    result = project.run(
        """
        @pytest.fixture(scope="session")
        def index():
            ask()

        @pytest.mark.token_budget(max_calls=1)
        @pytest.mark.parametrize("n", [1, 2, 3])
        def test_it(n, index):
            for _ in range(n):
                ask()
        """,
        "-n2",
        "--junitxml=junit.xml",
        "--tokenguard-json=spent.json",
        apart=True,
    )
    result.assert_outcomes(passed=1, failed=2)
    assert "token budget: calls 3 of 1" in said(result)
    assert "test_it.py::test_it[3]      3  3,600" in said(result)
    spent = json.loads((project.path / "spent.json").read_text())
    assert {name: test["calls"] for name, test in spent["tests"].items()} == {
        f"test_it.py::test_it[{n}]": n for n in (1, 2, 3)
    }
    assert len(spent["tests"]["test_it.py::test_it[2]"]["records"]) == 2
    assert 'name="tokenguard.calls" value="3"' in (project.path / "junit.xml").read_text()


@pytest.mark.apart
def test_xdist_groups(project):
    """The name of a group is no part of a test's name: the baseline is the same with and without workers."""
    text = """
        @pytest.mark.xdist_group("g")
        def test_it():
            ask()
    """
    project.run(text, "--tokenguard-update", "-n1", "--dist=loadgroup", apart=True)
    tests = json.loads((project.path / ".tokenguard" / "baseline.json").read_text())["tests"]
    assert list(tests) == ["test_it.py::test_it"]
    assert "new," not in said(project.run(text))


@pytest.mark.apart
def test_a_worker_that_crashes(project):
    """What its tests had spent is in the totals."""
    result = project.run(
        """
        import os

        def test_one():
            ask()

        def test_two():
            os._exit(1)
        """,
        "-n1",
        "--tokenguard-max-calls=0",
        apart=True,
    )
    assert "FAILED the run made 1 call, and --tokenguard-max-calls allows 0." in said(result)


def test_asyncio_fixtures(project):
    """Asynchronous fixtures of any scope, generators included, and tasks that outlive their coroutine."""
    result = project.run(
        """
        import asyncio, pytest_asyncio

        async def ask_async():
            client = async_openai_client(Script().asynchronously)
            await client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
            await client.close()

        @pytest_asyncio.fixture(scope="module", loop_scope="module")
        async def shared():
            await ask_async()
            yield
            await ask_async()

        @pytest_asyncio.fixture
        async def own():
            await ask_async()
            yield
            await ask_async()

        @pytest.mark.token_budget(max_calls=1)
        @pytest.mark.asyncio(loop_scope="module")
        async def test_shared(shared):
            await asyncio.create_task(ask_async())

        @pytest.mark.token_budget(max_calls=1)
        async def test_own(own):
            await ask_async()
        """
    )
    result.assert_outcomes(passed=1, failed=1)
    text = said(result)
    assert "token budget: calls 2 of 1" in text
    assert "module fixture shared (test_it.py)      2" in text
    assert "test_it.py::test_own         3" in text


def test_anyio(project):
    """The same under anyio's plugin."""
    project.ini("addopts = -p no:asyncio")
    (project.path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    result = project.run(
        """
        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.fixture
        async def client():
            yield async_openai_client(Script().asynchronously)

        @pytest.mark.anyio
        @pytest.mark.token_budget(max_calls=1)
        async def test_it(client, tokenguard):
            for _ in range(2):
                await client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
            assert tokenguard.calls == 2
            await client.close()
        """,
        "-p",
        "no:asyncio",
    )
    result.assert_outcomes(failed=1)
    assert "token budget: calls 2 of 1" in said(result)


@pytest.mark.apart
@pytest.mark.parametrize("workers", [[], ["-n1"]], ids=["here", "xdist"])
def test_reruns(project, workers):
    """Each attempt is judged by itself; the run pays for all; the baseline has the last one."""
    result = project.run(
        """
        tries = []

        @pytest.mark.token_budget(max_calls=1)
        def test_it():
            tries.append(1)
            ask()
            assert len(tries) == 3
        """,
        "--reruns=2",
        "--tokenguard-update",
        "--tokenguard-max-calls=2",
        *workers,
        apart=bool(workers),
    )
    text = said(result)
    assert "1 passed, 2 rerun" in text
    assert "test_it.py::test_it, 3 attempts      3" in text
    assert "FAILED the run made 3 calls" in text
    tests = json.loads((project.path / ".tokenguard" / "baseline.json").read_text())["tests"]
    assert tests["test_it.py::test_it"]["calls"] == 1


def test_a_budget_is_rerun_as_any_failure(project):
    """A test over its budget fails all its attempts."""
    result = project.run(
        "@pytest.mark.token_budget(max_calls=0)\ndef test_it():\n    ask()\n", "--reruns=1", "--junitxml=junit.xml"
    )
    result.assert_outcomes(failed=1)
    assert "1 failed, 1 rerun" in said(result)
    assert (project.path / "junit.xml").read_text().count('name="tokenguard.calls"') == 2  # JUnit lists attempts


@pytest.mark.apart
def test_a_cassette(project):
    """Calls that vcrpy answers from a recording cost what they cost when they were made."""
    with SimulatedProvider() as provider:
        text = f"""
            import groq, vcr

            @pytest.mark.token_budget(max_calls=0)
            def test_it():
                with (
                    vcr.use_cassette("cassette.yaml"),
                    groq.Groq(base_url="{provider.openai_url.removesuffix("/v1")}", api_key="k") as client,
                ):
                    client.chat.completions.create(model="llama-3.3-70b-versatile", messages=MESSAGES)
        """
        made = said(project.run(text, apart=True))
        assert "token budget: calls 1 of 0" in made
        assert len(provider.requests) == 1
    spent = next(line for line in made.splitlines() if line.startswith("spent $0.0000"))
    assert spent in said(project.run(text, apart=True))  # the provider is gone


def test_not_wanted(project):
    """`-p no:tokenguard`: the marker and the options are unknown, and nothing is measured."""
    result = project.run("def test_it():\n    ask()\n", "-p", "no:tokenguard", "--tokenguard")
    assert result.ret == 4
    assert "unrecognized arguments: --tokenguard" in said(result)
    result = project.run("def test_it():\n    ask()\n", "-p", "no:tokenguard")
    assert result.ret == 0


@pytest.mark.apart
def test_nothing_is_imported_until_asked(project):
    """A run that does not ask has neither OpenTelemetry nor TokenGuard's runtime, and pays under 5 ms at its start."""
    project.write(
        "test_plain.py",
        """
        import sys

        def test_it():
            ours = {name for name in sys.modules if name.partition(".")[0] in ("tokenguard", "opentelemetry", "openai")}
            assert ours == {
                "tokenguard", "tokenguard.pytest_plugin", "tokenguard.testing", "tokenguard.testing.options"
            }
        """,
    )
    result = project.run(None, "test_plain.py", apart=True)
    assert result.ret == 0
    code = (
        "import pytest, time; before = time.process_time(); import tokenguard.pytest_plugin; "
        "print(time.process_time() - before)"
    )
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    ]
    assert min(times) < 0.005


@pytest.mark.apart
def test_measuring_waits_for_an_sdk(project):
    """A run that measures imports OpenTelemetry with the first SDK; a test may be what imports it."""
    project.write(
        "test_late.py",
        """
        import sys

        def test_before(tokenguard):
            assert not {"openai", "anthropic", "opentelemetry"} & set(sys.modules)

        def test_here(tokenguard):
            from asking import ask
            tokenguard.policy(limit=[{"name": "short", "max_output_tokens": 10}])
            try:
                ask(max_completion_tokens=20)
            except Exception as error:
                assert type(error).__name__ == "LimitExceeded"
            assert tokenguard.calls == 1

        def test_after(tokenguard):
            from asking import ask
            ask(max_completion_tokens=20)
            assert tokenguard.calls == 1
        """,
    )
    result = project.run(None, "test_late.py", apart=True)
    result.assert_outcomes(passed=3)


def test_the_marker_is_registered(project):
    """`--strict-markers` knows it, and `--markers` and `--help` tell of it."""
    text = "@pytest.mark.token_budget(max_calls=0)\ndef test_it():\n    pass\n"
    assert project.run(text, "--strict-markers").ret == 0
    assert "@pytest.mark.token_budget(max_cost_usd, max_input_tokens," in said(project.run(None, "--markers"))
    assert "--tokenguard-max-cost=USD" in said(project.run(None, "--help"))


def test_outside_of_tests(project):
    """A module that makes a call when it is imported is charged apart; a thread that goes on pays where it is."""
    result = project.run("ask()\n\ndef test_it():\n    pass\n", "--tokenguard")
    assert "outside of tests      1" in said(result)


@pytest.mark.apart
def test_instrumented(project):
    """Under `tokenguard-instrument`, which imports TokenGuard before pytest does, it is no different."""
    project.write(
        "test_it.py",
        "import pytest\nfrom asking import *\n\ndef test_it(tokenguard):\n    ask()\n"
        "    assert tokenguard.calls == 1\n",
    )
    command = str(Path(sys.executable).with_name("tokenguard-instrument"))
    done = subprocess.run(
        [command, sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider"],
        cwd=project.path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_ends_as_it_began(project):
    """After a run in this process nothing is installed, and nothing watches."""
    from tokenguard.call import scope
    from tokenguard.installation import runtime

    before = runtime.installed(), scope.hooks.on_call, runtime.default_store
    threads = set(threading.enumerate())
    project.run("def test_it(tokenguard):\n    ask()\n", "--tokenguard-max-calls=3", "--tokenguard-then=stop")
    assert (runtime.installed(), scope.hooks.on_call, runtime.default_store) == before
    new = set(threading.enumerate()) - threads
    assert not [thread for thread in new if thread.name.startswith("tokenguard-ledger")]
