"""Asks a running Grafana whether everything has been loaded.

    python smoke.py [http://localhost:3000]

Looks for the dashboards, the data sources and every alert rule, has the first panel's query answered through
Grafana, and exits 1 with what is missing. Needs nothing but Python. GRAFANA_TOKEN is a service account's token, where
Grafana asks for one.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
WAIT_SECONDS = 60
"""How long Grafana may take to start."""


def ask(base: str, path: str, body: Any = None) -> Any:
    """What Grafana's API answers; raises `URLError`."""
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get("GRAFANA_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data, headers)  # noqa: S310 - the user's own address
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - as above
        return json.load(response)


def wait(base: str) -> str:
    """Grafana's version, once it answers."""
    end = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return str(ask(base, "/api/health")["version"])
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > end:
                sys.exit(f"no Grafana at {base}: {error}. Start it, or give its address: python smoke.py URL")
            time.sleep(1)


def missing(base: str) -> list[str]:
    """What is not there, a line each."""
    lines = []
    for file in sorted((HERE / "dashboards").glob("*.json")):
        ours = json.loads(file.read_text(encoding="utf-8"))
        try:
            loaded = ask(base, f"/api/dashboards/uid/{ours['uid']}")["dashboard"]
        except urllib.error.HTTPError as error:
            lines.append(f"dashboard {ours['uid']}: {error}")
        else:
            if len(loaded.get("panels", ())) != len(ours["panels"]):
                lines.append(f"dashboard {ours['uid']}: has other panels than {file.name}")
    kinds = {source["type"]: source["uid"] for source in ask(base, "/api/datasources")}
    lines += [f"data source of type {kind}: there is none" for kind in ("prometheus", "tempo") if kind not in kinds]
    text = (HERE / "provisioning/alerting/tokenguard.yaml").read_text(encoding="utf-8")
    rules = {rule["title"] for rule in ask(base, "/api/v1/provisioning/alert-rules")}
    lines += [f"alert rule {name}: is not loaded" for name in re.findall(r"title: (\w+)", text) if name not in rules]
    if "prometheus" in kinds:
        query = {"refId": "A", "datasource": {"uid": kinds["prometheus"]}, "expr": "vector(1)", "instant": True}
        answer = ask(base, "/api/ds/query", {"queries": [query], "from": "now-1h", "to": "now"})["results"]["A"]
        if "error" in answer:
            lines.append(f"query through Grafana: {answer['error']}")
    return lines


def main() -> int:
    """Check, print, and return the exit code."""
    base = (sys.argv[1] if len(sys.argv) > 1 else "http://localhost:3000").rstrip("/")
    version = wait(base)
    lines = missing(base)
    print(f"Grafana {version} at {base}: " + ("all there" if not lines else f"{len(lines)} missing"))  # noqa: T201
    print(*lines, sep="\n", end="\n" if lines else "")  # noqa: T201
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
