"""Test runs of their own: files of a project, and pytest as a user runs it."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from textwrap import dedent

# What runs inside one process must not be imported anew by each run in it.
import anthropic  # noqa: F401
import anyio.pytest_plugin  # noqa: F401
import genai_prices  # noqa: F401
import openai  # noqa: F401
import pytest
import pytest_asyncio.plugin  # noqa: F401

import canned
import tokenguard.guard
import tokenguard.ledger.sqlite
import tokenguard.policy.files
import tokenguard.seams.stainless
import tokenguard.testing.plugin
import tokenguard.testing.session
from tokenguard.installation import runtime
from tokenguard.telemetry.faults import Faults

WITHOUT = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")  # hypothesis takes a second and a half to import
INI = """\
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""
ASK = """
from canned import *

def ask(system="Be brief.", said="What is the capital of France?", model="gpt-4o-mini", client=None, **more):
    # 1,200 tokens in, 1,024 of them from the cache, 300 out: $0.0002832
    messages = [{"role": "system", "content": system}, {"role": "user", "content": said}]
    return (client or openai_client()).chat.completions.create(model=model, messages=messages, **more)
"""


class Project:
    """A project with tests in a directory of its own."""

    def __init__(self, pytester):
        self.pytester = pytester
        self.path = pytester.path
        self.written_s = itertools.count(int(time.time()) - 10_000)
        self.write("pytest.ini", INI)
        self.write("asking.py", ASK)

    def write(self, name, text):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
        # Python takes a compiled file for this one's, where the second it was written in and its length are the same.
        second = next(self.written_s)
        os.utime(path, (second, second))
        return path

    def ini(self, *lines):
        self.write("pytest.ini", INI + "\n".join(lines) + "\n")

    def run(self, text=None, *arguments, name="test_it.py", apart=False):
        """Run pytest, in this process or apart from it; `text` is what the test file has below its imports."""
        if text is not None:
            self.write(name, "import pytest\nfrom asking import *\n" + dedent(text))
        run = self.pytester.runpytest_subprocess if apart else self.pytester.runpytest_inprocess
        return run(*WITHOUT, *arguments)


@pytest.fixture
def project(pytester, monkeypatch):
    for name in ("GITHUB_STEP_SUMMARY", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    tests = str(Path(canned.__file__).parent)
    monkeypatch.setenv("PYTHONPATH", tests)
    tokenguard.uninstall()  # the run that tests is not the run that is tested
    if runtime._telemetry is not None:
        runtime._telemetry.faults = Faults()
    monkeypatch.syspath_prepend(pytester.path)
    return Project(pytester)


def said(result):
    """All that a run printed, on both streams."""
    return "\n".join([*result.outlines, *result.errlines])
