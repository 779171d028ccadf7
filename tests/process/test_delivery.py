"""An OTLP endpoint gets everything at each kind of end, and one that is dead or hangs keeps no program from ending."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from process.programs import BEGINNING, outcomes

pytestmark = pytest.mark.apart

INSTRUMENT = (
    "import sys; sys.argv[1:] = [sys.executable, 'program.py']\n"
    "from tokenguard.installation.instrument import main; main()"
)
END = "\nprint('ended', time.time(), flush=True)\n"
SLOWER_S = 1.0
"""How much later than without an endpoint a program may end."""
NOISE_S = 1.0 + os.getloadavg()[0] / 10
"""By so much two ends of one program may differ where others use the machine; OpenTelemetry itself waits 10 s."""


@contextmanager
def collector() -> Iterator[tuple[str, list[str], list[str]]]:
    """An endpoint that takes OTLP over HTTP: its URL, and the names of the spans and of the metrics that it got."""
    spans: list[str] = []
    metrics: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces":
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    spans.extend(span.name for scope in resource.scope_spans for span in scope.spans)
            elif self.path == "/v1/metrics":
                for each in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    metrics.extend(metric.name for scope in each.scope_metrics for metric in scope.metrics)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", spans, metrics
    finally:
        server.shutdown()
        server.server_close()


def run(folder: Path, lines: str, **environment: str) -> tuple[float, str]:
    """Run a program under `tokenguard-instrument`: seconds from its last line to its end, and what it has printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TOKENGUARD_"))}
    (folder / "program.py").write_text(BEGINNING + lines)
    done = subprocess.run(
        [sys.executable, "-c", INSTRUMENT], cwd=folder, env={**kept, "PYTHONWARNINGS": "ignore", **environment},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=180, check=False,
    )  # fmt: skip
    ended = time.time()
    last = [line for line in done.stdout.splitlines() if line.startswith("ended ")]
    return ended - float(last[-1].split()[1]) if last else 0.0, done.stdout


ENDS = {
    "normally": "one()",
    "an exit handler calls a model": "atexit.register(one)",
    "through os._exit": "one(); os._exit(0)",
    "becoming another program": "one(); os.execv(sys.executable, [sys.executable, '-c', ''])",
    "by a signal": "one(); os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)",
    "a forked child": "if not os.fork(): one(); os._exit(0)\nos.wait()",
}


@pytest.mark.parametrize("how", ENDS)
def test_everything_arrives(tmp_path: Path, how: str) -> None:
    """The span and the metrics of the last call reach the endpoint, and nothing is kept here."""
    with collector() as (url, spans, metrics):
        _, printed = run(
            tmp_path, ENDS[how], OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf"
        )
    assert spans == ["chat gpt-4o"], printed
    assert {"tokenguard.calls", "tokenguard.cost.usd"} <= set(metrics)
    assert "tokenguard: the OTLP" not in printed
    assert not (tmp_path / ".tokenguard").exists()


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("endpoint", ["dead", "hangs"])
def test_the_end_waits_for_no_endpoint(tmp_path: Path, endpoint: str, protocol: str) -> None:
    """The program ends a second later at the most, says so in one line, and the call is in the local store."""
    bare, _ = run(tmp_path, f"one(){END}")
    (tmp_path / ".tokenguard/usage.db").unlink()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if endpoint == "hangs":
            server.listen(16)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
        took, printed = run(tmp_path, f"one(){END}", **settings)
    assert took < bare + SLOWER_S + NOISE_S, printed
    assert printed.count("tokenguard: the OTLP endpoint") == 1
    assert len([line for line in printed.splitlines() if "tokenguard" in line]) == 1
    with closing(sqlite3.connect(tmp_path / ".tokenguard/usage.db")) as db:
        assert db.execute("SELECT outcome FROM calls").fetchall() == [("ok",)]


def test_no_store_where_none_is_allowed(tmp_path: Path) -> None:
    """With `TOKENGUARD_STORE=off` nothing is kept, and the endpoint's failure is told all the same."""
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "TOKENGUARD_STORE": "off"}
    _, printed = run(tmp_path, f"one(){END}", **settings)
    assert printed.count("tokenguard: the OTLP endpoint") == 1
    assert not (tmp_path / ".tokenguard").exists()


def test_a_program_that_goes_on(tmp_path: Path) -> None:
    """Where an export fails while the program runs, what was made before and after is in the store, once."""
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    waits = "from pathlib import Path\nwhile not Path('.tokenguard/usage.db').exists(): time.sleep(0.05)\n"
    took, printed = run(tmp_path, f"one()\n{waits}one(){END}", **settings)
    assert took < SLOWER_S + NOISE_S
    assert printed.count("tokenguard: the OTLP endpoint") == 1
    os.rename(tmp_path / ".tokenguard/usage.db", tmp_path / "usage.db")
    assert outcomes(tmp_path) == ["ok", "ok"]


def test_who_sets_opentelemetry_up_waits_as_long_as_it_does(tmp_path: Path) -> None:
    """The exit handlers of a program's own provider stay; what it does not deliver is kept here all the same."""
    lines = (
        "from opentelemetry import trace\nfrom opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import BatchSpanProcessor\n"
        "from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter\n"
        "provider_ = TracerProvider(); trace.set_tracer_provider(provider_)\n"
        "provider_.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=1)))\none()\n"
    )
    program = BEGINNING + lines
    (tmp_path / "program.py").write_text(program)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TOKENGUARD_"))}
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, env={**env, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=180, check=True,
    )  # fmt: skip
    assert "Failed to export spans" in done.stdout, "the exporter's own words are the program's"
    assert done.stdout.count("tokenguard: the OTLP endpoint") == 1
    os.rename(tmp_path / ".tokenguard/usage.db", tmp_path / "usage.db")
    assert outcomes(tmp_path) == ["ok"]
