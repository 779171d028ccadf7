"""Put the demo's real output into the README, between its `<!-- demo -->` marks: `python scripts/readme.py`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMAND = ("report", "--by", "feature", "--limit", "4")
FINDINGS = 1
"""How many findings are shown below the table, the most expensive first."""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "COLUMNS": "96"}
        tokenguard = str(Path(sys.executable).parent / "tokenguard")
        subprocess.run([tokenguard, "demo"], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        report = [tokenguard, *COMMAND, "--source", ".tokenguard/demo.db"]
        done = subprocess.run(report, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    readme = ROOT / "README.md"
    text = f"```text\n$ tokenguard {' '.join(COMMAND)}\n{excerpt(done.stdout)}\n```"
    page = re.sub(
        r"(<!-- demo -->\n).*?(<!-- /demo -->)", lambda m: f"{m[1]}{text}\n{m[2]}", readme.read_text(), flags=re.DOTALL
    )
    readme.write_text(page)


def excerpt(report: str) -> str:
    """The head, the table and the first findings of a report."""
    lines = [line.rstrip() for line in report.splitlines()]
    table = lines[: next(n for n, line in enumerate(lines) if line.startswith("total")) + 1]
    findings = [textwrap.fill(line, 96) for line in lines if line.startswith("! ")]
    return "\n".join([*table, "", *findings[:FINDINGS]])


if __name__ == "__main__":
    main()
