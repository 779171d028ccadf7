"""Writes the dashboards and the alert rules.

    python grafana/build.py [--check]

Dashboards are Grafana's classic JSON (schemaVersion 42): what file provisioning takes in every Grafana from 11 to 13.
Alert rules are written as Prometheus rules, and Grafana's own form is made from those. Nothing of it is edited by hand;
`--check` exits 1 where a file is not what this would write.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import alerting  # noqa: E402 - beside this file, which is no package
import boards  # noqa: E402
import recording  # noqa: E402
import runbooks  # noqa: E402


class File(NamedTuple):
    """One generated file: its path in this folder, and its text."""

    path: str
    text: str


def files() -> Iterator[File]:
    """Everything that is generated."""
    for board in (*boards.BOARDS, runbooks.RUNBOOKS):
        yield File(f"dashboards/{board.uid}.json", as_json(board.model()))
    yield File("rules/tokenguard.yaml", alerting.as_yaml(recording.prometheus(), "recording.py"))
    rules = alerting.prometheus()
    yield File("alerts/tokenguard.yaml", alerting.as_yaml(rules, "alerting"))
    yield File("provisioning/alerting/tokenguard.yaml", alerting.as_yaml(alerting.grafana(rules), "alerting"))


def as_json(document: Any) -> str:
    """A document as it is committed."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Write or check; the exit code."""
    stale = []
    for file in files():
        path = HERE / file.path
        if not path.exists() or path.read_text() != file.text:
            stale.append(file.path)
            if "--check" not in sys.argv:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(file.text)
    for name in stale:
        print(f"{'stale' if '--check' in sys.argv else 'wrote'}: grafana/{name}")  # noqa: T201
    return int("--check" in sys.argv and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
