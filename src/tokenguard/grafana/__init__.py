"""What Grafana needs: dashboards, alert rules, runbooks and the configuration of a stack to show them.

In a checkout they live in the top-level folder `grafana/`; in a wheel they are packed beside this file.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

_CHECKOUT = Path(__file__).resolve().parents[3] / "grafana"
FOLDER: Final = _CHECKOUT if (_CHECKOUT / "build.py").is_file() else Path(__file__).parent

EXPORTED: Final = (
    "README.md",
    "dashboards",
    "alerts",
    "runbooks",
    "provisioning",
    "compose.yaml",
    "collector.yaml",
    "prometheus.yaml",
    "tempo.yaml",
    "smoke.py",
)
RULES: Final = ("alerts/tokenguard.yaml", "provisioning/alerting/tokenguard.yaml")
_RUNBOOK: Final = "runbook_url: "
_HERE: Final = "runbooks/"


def export(target: Path, runbooks: str | None = None) -> list[Path]:
    """Write everything to a directory, which is made; files of the same names are replaced. Returns what was written.

    `runbooks` is the address under which the runbooks are published; alerts link to their pages there, and without it
    to the files. Raises `OSError` where something cannot be written.
    """
    written = []
    for name in EXPORTED:
        for source in _files(FOLDER / name):
            path = target / source.relative_to(FOLDER)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)
            written.append(path)
    if runbooks is not None:
        for name in RULES:
            rules = target / name
            text = rules.read_text(encoding="utf-8")
            rules.write_text(text.replace(_RUNBOOK + _HERE, f"{_RUNBOOK}{runbooks.rstrip('/')}/"), encoding="utf-8")
    return written


def _files(path: Path) -> list[Path]:
    return sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
