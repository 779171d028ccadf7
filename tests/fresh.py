"""Python started anew, to see what it loads: without what measures the tests' coverage, which loads much itself."""

from __future__ import annotations

import os
import subprocess
import sys


def python(code: str, cwd: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run `code` in a new interpreter, in this working directory or that folder."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env, cwd=cwd)


def loaded(statement: str) -> set[str]:
    """The modules that are there after `statement`, in a folder without a policy."""
    done = python(f"import sys; {statement}; print(' '.join(sys.modules))", cwd="/")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())
