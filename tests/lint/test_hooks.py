"""What a repository hangs the linter on: the composite action and the hooks of pre-commit, run as their users run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BAD = "from openai import OpenAI\nclient = OpenAI(timeout=60)\nreply = client.responses.create(model='m', input='x')\n"


@pytest.mark.parametrize(
    ("args", "paths", "status"),
    [("", "src", 1), ("", "", 1), ("--ignore TG101\n-j 1", "src", 0), ("--select TG9", "src", 2),
     ("--select 'TG101,TG102'", "empty\n'with space' src\n", 1), ("", "\"with space\"", 0)],
)  # fmt: skip
def test_the_action(tmp_path: Path, args: str, paths: str, status: int) -> None:
    """Its steps write SARIF for the upload, annotate the pull request, and end as the linter ends."""
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    steps = action["runs"]["steps"]
    bin_ = tmp_path / "tokenguard" / "bin"
    bin_.mkdir(parents=True)
    for name in ("src", "empty", "with space"):
        (tmp_path / name).mkdir()
    (tmp_path / "src" / "bad.py").write_text(BAD)
    # Stand-ins for making an environment and installing into it: the rest is run as it stands.
    (bin_ / "python").write_text("#!/bin/sh\n")
    (bin_ / "tokenguard").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tokenguard "$@"\n')
    for file in bin_.iterdir():
        file.chmod(0o755)
    output = tmp_path / "output"
    given = {"args": args, "paths": paths, "python": "true", "version": "x"}
    variables = {name: given[value.split("inputs.")[1].split(" ")[0]] for name, value in steps[0]["env"].items()}
    env = {**os.environ, **variables, "RUNNER_TEMP": str(tmp_path), "GITHUB_OUTPUT": str(output)}
    shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]
    done = subprocess.run([*shell, steps[0]["run"]], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    outputs = dict(line.split("=", 1) for line in output.read_text().splitlines())
    if status == 2:  # a wrong option ends the job at once, with its message
        assert done.returncode == 2
        assert "There is no rule 'TG9'" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    assert ("::warning title=TokenGuard TG101" in done.stdout) == (status == 1)
    results = json.loads(Path(outputs["sarif"]).read_text())["runs"][0]["results"]
    assert len(results) == status
    last = subprocess.run([*shell, steps[-1]["run"]], env={**os.environ, "TG_STATUS": outputs["status"]}, check=False)
    assert last.returncode == status


def test_what_the_action_promises() -> None:
    """Each input is used, each output comes from a step, and no input is pasted into a script."""
    text = (ROOT / "action.yml").read_text()
    action = yaml.safe_load(text)
    assert all(f"inputs.{name} " in text for name in action["inputs"])
    assert all("${{" not in step.get("run", "") for step in action["runs"]["steps"])


def test_the_hooks_run_the_command(tmp_path: Path) -> None:
    """Each hook's entry is a command line that lints the files it is given, and respects the excludes of the project."""
    (tmp_path / "tokenguard.toml").write_text('[lint]\nexclude = ["skipped.py"]\n')
    for name in ("bad.py", "skipped.py"):
        (tmp_path / name).write_text(BAD)
    for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text()):
        command = [sys.executable, "-m", *hook["entry"].split(), "bad.py", "skipped.py"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr
        assert "bad.py:3:9" in done.stdout
        assert "skipped.py" not in done.stdout
        assert hook["require_serial"]
