"""Put the demo's real output into the README, between its `<!-- demo -->` marks: `python scripts/readme.py`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = (
    ("report", "--by", "feature"),
    ("report", "--by", "prompt_version", "--where", "feature=support_bot"),
)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "COLUMNS": "96"}
        tokenguard = str(Path(sys.executable).parent / "tokenguard")
        subprocess.run([tokenguard, "demo"], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        shown = []
        for command in COMMANDS:
            done = subprocess.run(
                [tokenguard, *command, "--source", ".tokenguard/demo.db"],
                cwd=folder,
                env=environment,
                check=True,
                capture_output=True,
                text=True,
            )
            lines = [line.rstrip() for line in done.stdout.splitlines()]
            shown.append("\n".join([f"$ tokenguard {' '.join(command)}", *lines]))
    text = "```text\n" + "\n\n".join(shown) + "\n```"
    readme = ROOT / "README.md"
    page = re.sub(
        r"(<!-- demo -->\n).*?(<!-- /demo -->)", lambda m: f"{m[1]}{text}\n{m[2]}", readme.read_text(), flags=re.DOTALL
    )
    readme.write_text(page)


if __name__ == "__main__":
    main()
