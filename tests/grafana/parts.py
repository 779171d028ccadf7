"""The real collector and Prometheus, started for a test, and the dashboards' queries put to them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
RULES = GRAFANA / "alerts" / "tokenguard.yaml"
RECORDING = GRAFANA / "rules" / "tokenguard.yaml"
MISSING = 'not on PATH; build it once with: PATH="$(grafana/stack.sh):$PATH"'


def program(name):
    """A program of the stack; skips the test without it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is {MISSING}")
    return found


def free_ports(count):
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def running(command, ready, log, environ=None):
    """A server, from when `ready` answers until the block ends."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, env={**os.environ, **(environ or {})}, stdout=out, stderr=out)
    try:
        until(lambda: answers(ready) or process.poll() is not None, 60, f"{command[0]} did not start")
        assert process.poll() is None, log.read_text()[-3000:]
        yield process
    finally:
        process.terminate()
        process.wait(30)


def until(true, seconds, what):
    """Wait until `true()` is, and return what it gave."""
    end = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < end, f"{what} within {seconds} s"
        time.sleep(0.1)
    return value


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status < 400
    except (urllib.error.URLError, OSError):
        return False


class Prometheus:
    """A Prometheus, asked over its HTTP API."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path, **query):
        body = urllib.parse.urlencode(query).encode()
        request = urllib.request.Request(f"{self.url}/api/v1/{path}", body)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{error.read().decode()[:400]}\n{query.get('query')}") from error

    def instant(self, query, at=None):
        """[(labels, value)] at a moment."""
        result = self.get("query", query=query, **({} if at is None else {"time": at}))
        if result["resultType"] == "scalar":
            return [({}, float(result["result"][1]))]
        return [(each["metric"], float(each["value"][1])) for each in result["result"]]

    def range(self, query, start, end, step):
        """[(labels, [(time, value)])] over a time."""
        result = self.get("query_range", query=query, start=start, end=end, step=step)["result"]
        return [(each["metric"], [(at, float(value)) for at, value in each["values"]]) for each in result]

    def one(self, query, at=None):
        """The value of a query that gives one."""
        ((_, value),) = self.instant(query, at)
        return value

    def by(self, query, label, at=None):
        """{label: value}."""
        return {labels.get(label): value for labels, value in self.instant(query, at)}


@contextlib.contextmanager
def prometheus(folder, config=None, flags=(), data=None):
    """A Prometheus with this configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config or {}))
    command = [
        program("prometheus"),
        f"--config.file={folder}/prometheus.yaml",
        f"--storage.tsdb.path={data or folder / 'data'}",
        "--storage.tsdb.retention.time=1y",
        f"--web.listen-address=127.0.0.1:{port}",
        *flags,
    ]
    with running(command, f"http://127.0.0.1:{port}/-/ready", folder / "log"):
        yield Prometheus(port)


# --- the dashboards' queries -----------------------------------------------------------------------------------------

RAW, RECORDED = "no|", "yes"
"""What the variable `recorded` is without the recording rules, and with them."""
CHOSEN = {
    **dict.fromkeys(
        ("service", "environment", "team", "provider", "tenant", "feature", "route", "version", "model"), ".*"
    ),
    "budget": ".*",
    "account": ".*",
    "by": "tokenguard_tenant",
    "large": "2",
    "recorded": RAW,
}


def seconds_since(time_from, now):
    """How long a panel's own time range is: `now/d` since midnight, `now/M` since the first, UTC."""
    moment = datetime.fromtimestamp(now, UTC)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    start = {"now/d": midnight, "now/M": midnight.replace(day=1)}[time_from]
    return max(int(now - start.timestamp()), 1)


def filled_in(expr, seconds, interval=300, **chosen):
    """An expression as Grafana sends it."""
    values = {
        **CHOSEN,
        **chosen,
        "__range_s": seconds,
        "__range": f"{seconds}s",
        "__interval": f"{interval}s",
        "bucket": f"{interval}s",
    }
    filled = re.sub(r"\$\{?([A-Za-z_]+)\b\}?", lambda found: str(values[found[1]]), expr)
    assert "$__" not in filled, filled
    return filled


def step_of(target, otherwise=300):
    """The step of a range, as Grafana has it for a day."""
    return {"$bucket": 3600, "15m": 900, "1h": 3600, "5m": 300}.get(target.get("interval"), otherwise)


def targets():
    """(dashboard, panel, target) of every query that is shipped."""
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                yield board, panel, target


def panel(uid, title):
    """One panel of one dashboard."""
    board = json.loads((GRAFANA / "dashboards" / f"{uid}.json").read_text())
    return next(each for each in board["panels"] if each["title"] == title)


def alerts():
    """Every rule."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def recordings():
    """Every recording rule."""
    return [rule for group in yaml.safe_load(RECORDING.read_text())["groups"] for rule in group["rules"]]
