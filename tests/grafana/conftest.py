"""One product with a known spend, and three ways from it to Prometheus."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tokenguard.demo import INSTRUMENT
from tokenguard.demo.provider import SimulatedProvider
from tokenguard.facts.record import CallRecord
from tokenguard.store.store import read_store

from .parts import GRAFANA, Prometheus, free_ports, program, prometheus, running, until

HERE = Path(__file__).parent
WAYS = ("otlp", "scrape", "remote_write")
PROCESSES = {1: "", 2: "gen_ai_latest_experimental"}
"""Two processes, one after the other: how often each works, and by which names it has OpenTelemetry's metrics."""


class Run(NamedTuple):
    """What has happened, and where it is to be seen."""

    ways: dict[str, Prometheus]
    records: list
    """Every call and task, from the product's own store."""
    began: float
    ended: float
    traces: list
    """Bodies of the exports that reached the place of Tempo."""
    budgets: str
    """What `tokenguard budgets` said at the end."""

    @property
    def calls(self):
        return [record for record in self.records if isinstance(record, CallRecord)]

    @property
    def seconds(self):
        """A window that holds everything."""
        return int(self.ended - self.began) + 120


@contextlib.contextmanager
def sink():
    """Takes what is posted: (its address, the bodies that came). Tempo's place, or that of whom an alert is sent to."""
    bodies = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", bodies
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def stack(folder):
    """The collector as it is shipped, with two more ways beside its own: (endpoint, ways, traces).

    The Prometheus behind OTLP runs with the flags of the compose file, the others with none that change samples.
    """
    grpc, http, own, exporter = free_ports(4)
    everything = {"scrape_configs": [{"job_name": "collector", "honor_labels": True, "scrape_interval": "1s"}]}
    everything["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{exporter}"]}]
    with contextlib.ExitStack() as parts:
        otlp = parts.enter_context(
            prometheus(
                folder / "otlp",
                flags=["--web.enable-otlp-receiver", "--enable-feature=exemplar-storage"],
            )
        )
        scrape = parts.enter_context(prometheus(folder / "scrape", everything))
        written = parts.enter_context(prometheus(folder / "written", flags=["--web.enable-remote-write-receiver"]))
        tempo, bodies = parts.enter_context(sink())
        more = folder / "more.yaml"
        more.write_text(
            yaml.safe_dump(
                {
                    "exporters": {
                        "prometheus": {"endpoint": f"127.0.0.1:{exporter}"},
                        "prometheus_remote_write": {"endpoint": f"{written.url}/api/v1/write"},
                    },
                    "service": {
                        "pipelines": {
                            "metrics": {"exporters": ["otlp_http/prometheus", "prometheus", "prometheus_remote_write"]}
                        }
                    },
                }
            )
        )
        environ = {
            "OTLP_HOST": "127.0.0.1",
            "OTLP_GRPC_PORT": str(grpc),
            "OTLP_HTTP_PORT": str(http),
            "COLLECTOR_METRICS_PORT": str(own),
            "PROMETHEUS_URL": otlp.url,
            "TEMPO_URL": tempo,
        }
        command = [program("otelcol"), f"--config={GRAFANA / 'collector.yaml'}", f"--config={more}"]
        parts.enter_context(running(command, f"http://127.0.0.1:{own}/metrics", folder / "collector.log", environ))
        yield f"http://127.0.0.1:{grpc}", dict(zip(WAYS, (otlp, scrape, written), strict=True)), bodies


def environment(folder, provider, endpoint, policy, **more):
    """How a user runs a program: the endpoint, and nothing else about telemetry, but for faster exports."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TOKENGUARD_"))},
        "OPENAI_BASE_URL": provider.openai_url,
        "OPENAI_API_KEY": "sk-simulated",
        "ANTHROPIC_BASE_URL": provider.anthropic_url,
        "ANTHROPIC_API_KEY": "sk-ant-simulated",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        "TOKENGUARD_STORE": str(folder / "usage.db"),
        "TOKENGUARD_POLICY": str(policy),
        **more,
    }


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """The product has run twice against a simulated provider, and its metrics have arrived by each way."""
    for name in ("otelcol", "prometheus"):
        program(name)
    folder = tmp_path_factory.mktemp("run")
    policy = folder / "tokenguard.toml"
    policy.write_text((HERE / "product.toml").read_text() + f'\n[ledger]\nurl = "sqlite:///{folder}/ledger.db"\n')
    with stack(folder) as (endpoint, ways, traces):
        began = time.time()
        for rounds, profile in PROCESSES.items():
            with SimulatedProvider(fault_rate=0.05, latency=0.02, chunk_delay=0.001) as provider:
                provider.faults.retry_after = 0.05
                environ = environment(folder, provider, endpoint, policy, OTEL_SEMCONV_STABILITY_OPT_IN=profile)
                command = [*INSTRUMENT, sys.executable, str(HERE / "product.py"), str(rounds)]
                subprocess.run(command, env=environ, check=True, timeout=300, stdout=subprocess.DEVNULL)
        records = list(read_store(folder / "usage.db"))
        calls = sum(isinstance(record, CallRecord) for record in records)
        for way, server in ways.items():
            arrived = "sum(last_over_time(tokenguard_calls_total[10m]))"
            until(lambda s=server, q=arrived: dict_sum(s.instant(q)) == calls, 30, f"{calls} calls had come by {way}")
        command = [sys.executable, "-m", "tokenguard", "budgets"]
        budgets = subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout
        yield Run(ways, records, began, time.time(), traces, budgets)


def dict_sum(points):
    """The sum over an instant query's points."""
    return sum(value for _, value in points)
