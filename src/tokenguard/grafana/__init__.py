"""What Grafana needs: dashboards, alert rules, runbooks and the configuration of a stack to show them.

In a checkout they live in the top-level folder `grafana/`; in a wheel they are packed beside this file.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

_CHECKOUT = Path(__file__).resolve().parents[3] / "grafana"
FOLDER: Final = _CHECKOUT if (_CHECKOUT / "build.py").is_file() else Path(__file__).parent

EXPORTED: Final = (
    "README.md",
    "dashboards",
    "alerts",
    "rules",
    "runbooks",
    "provisioning",
    "compose.yaml",
    "collector.yaml",
    "prometheus.yaml",
    "tempo.yaml",
    "smoke.py",
)
RULES: Final = ("alerts/tokenguard.yaml", "provisioning/alerting/tokenguard.yaml")
LOCAL: Final = "http://localhost:3000"
"""Grafana in our compose file."""
_RUNBOOK: Final = re.compile(r"(?<=runbook_url: )" + re.escape(LOCAL) + r"(/d/tokenguard-runbooks/(\w+)\S*)")
"""A link to a panel of the dashboard of runbooks: its path, and the alert's name in it."""


def export(target: Path, runbooks: str | None = None, grafana: str = LOCAL) -> list[Path]:
    """Write everything to a directory, which is made; files of the same names are replaced. Returns what was written.

    Alerts link to their runbooks: pages under the address `runbooks`, or else the dashboard of runbooks in the Grafana
    at `grafana` (our compose file's). Raises `OSError` where something cannot be written.
    """
    written = []
    for name in EXPORTED:
        for source in _files(FOLDER / name):
            path = target / source.relative_to(FOLDER)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)
            written.append(path)
    for name in RULES:
        rules = target / name
        text = rules.read_text(encoding="utf-8")
        rules.write_text(_RUNBOOK.sub(lambda found: _linked(found, runbooks, grafana), text), encoding="utf-8")
    return written


def _linked(found: re.Match[str], runbooks: str | None, grafana: str) -> str:
    return f"{runbooks.rstrip('/')}/{found[2]}.md" if runbooks else grafana.rstrip("/") + found[1]


def _files(path: Path) -> list[Path]:
    return sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
