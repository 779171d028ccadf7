"""An alert goes all the way: a call, its metrics, compose's Prometheus, an Alertmanager, a person's webhook.

It wants an `alertmanager` on PATH, or Debian's `prometheus-alertmanager`, and is skipped without.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys

import yaml

from tokenguard.demo import INSTRUMENT
from tokenguard.demo.provider import SimulatedProvider

from .conftest import environment, sink
from .parts import GRAFANA, RECORDING, RULES, free_ports, program, prometheus, running, until

POLICY = """
[[budget]]
name = "tenant per day"
per = ["tenant"]
window = "day"
limit_usd = 0.0000001
then = "warn"
"""
CALLS = """
import time, openai, tokenguard
with openai.OpenAI() as client, tokenguard.attribution(tenant="acme"):
    client.chat.completions.create(model="gpt-4.1-nano", messages=[{"role": "user", "content": "Hello"}])
time.sleep(4)
"""


def often(path, folder):
    """A rule file as it is shipped, evaluated every second."""
    rules = yaml.safe_load(path.read_text())
    for group in rules["groups"]:
        group["interval"] = "1s"
    target = folder / f"{path.parent.name}.yaml"
    target.write_text(yaml.safe_dump(rules))
    return str(target)


def test_an_alert_reaches_somebody(tmp_path):
    """A tenant's used-up budget is one message, with the budget's name and a link to its runbook."""
    alertmanager = shutil.which("prometheus-alertmanager") or program("alertmanager")
    program("prometheus")
    (port,) = free_ports(1)
    config = yaml.safe_load((GRAFANA / "prometheus.yaml").read_text())
    config["rule_files"] = [often(path, tmp_path) for path in (RULES, RECORDING)]
    config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}]}
    (tmp_path / "usage.toml").write_text(POLICY)
    with contextlib.ExitStack() as parts:
        address, bodies = parts.enter_context(sink())
        route = {"receiver": "us", "group_by": ["alertname"], "group_wait": "1s"}
        receivers = [{"name": "us", "webhook_configs": [{"url": address}]}]
        (tmp_path / "alertmanager.yaml").write_text(yaml.safe_dump({"route": route, "receivers": receivers}))
        command = [alertmanager, f"--config.file={tmp_path / 'alertmanager.yaml'}"]
        command += [f"--storage.path={tmp_path / 'am'}", f"--web.listen-address=127.0.0.1:{port}"]
        command += ["--cluster.listen-address="]
        parts.enter_context(running(command, f"http://127.0.0.1:{port}/-/ready", tmp_path / "am.log"))
        server = parts.enter_context(prometheus(tmp_path / "p", config, ["--web.enable-otlp-receiver"]))
        provider = parts.enter_context(SimulatedProvider())
        environ = environment(
            tmp_path,
            provider,
            f"{server.url}/api/v1/otlp",
            tmp_path / "usage.toml",
            OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
            OTEL_TRACES_EXPORTER="none",
            OTEL_SERVICE_NAME="shop",
        )
        subprocess.run([*INSTRUMENT, sys.executable, "-c", CALLS], env=environ, check=True, timeout=120)
        spent = until(
            lambda: [
                alert
                for body in bodies
                for alert in json.loads(body)["alerts"]
                if alert["labels"]["alertname"] == "TokenGuardBudgetSpent"
            ],
            60,
            "an alert came",
        )
    assert spent[0]["status"] == "firing"
    assert (spent[0]["labels"]["job"], spent[0]["labels"]["budget"]) == ("shop", "tenant per day")
    assert spent[0]["annotations"]["summary"] == "Budget tenant per day of shop is used up"
    assert "TokenGuardBudgetSpent" in spent[0]["annotations"]["runbook_url"]
    assert "error" not in (tmp_path / "p" / "log").read_text()
