"""The smoke script, against a server that answers as Grafana's API does: it sees what is missing."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from .parts import DASHBOARDS, GRAFANA


@pytest.fixture
def grafana():
    """A server with everything loaded; `grafana.answers` may be changed."""
    rules = yaml.safe_load((GRAFANA / "provisioning/alerting/tokenguard.yaml").read_text())
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/tokenguard.yaml").read_text())["datasources"]
    answers = {
        "/api/health": {"version": "13.2.0"},
        "/api/datasources": sources,
        "/api/v1/provisioning/alert-rules": [rule for group in rules["groups"] for rule in group["rules"]],
        "/api/ds/query": {"results": {"A": {"frames": []}}},
    }
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        answers[f"/api/dashboards/uid/{board['uid']}"] = {"dashboard": board}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            known = self.path in answers
            body = json.dumps(answers.get(self.path, {"message": "Dashboard not found"})).encode()
            self.send_response(200 if known else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.do_GET()

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answers = answers
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def smoke(server):
    url = f"http://127.0.0.1:{server.server_port}"
    return subprocess.run([sys.executable, str(GRAFANA / "smoke.py"), url], capture_output=True, text=True)


def test_all_there(grafana):
    """With everything loaded it says so, and exits 0."""
    done = smoke(grafana)
    assert done.stdout.startswith("Grafana 13.2.0 at ")
    assert done.stdout.endswith(": all there\n")
    assert done.returncode == 0


def test_what_is_missing_is_named(grafana):
    """A dashboard, a data source and a rule that are not there are named, and the exit code is 1."""
    del grafana.answers["/api/dashboards/uid/tokenguard-waste"]
    del grafana.answers["/api/datasources"][1]
    del grafana.answers["/api/v1/provisioning/alert-rules"][0]
    done = smoke(grafana)
    assert done.returncode == 1
    assert "3 missing" in done.stdout
    assert "dashboard tokenguard-waste: HTTP Error 404" in done.stdout
    assert "data source of type tempo: there is none" in done.stdout
    assert "alert rule TokenGuardSpendAnomaly: is not loaded" in done.stdout
