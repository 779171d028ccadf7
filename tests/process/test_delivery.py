"""An OTLP endpoint gets everything at each kind of end, and one that is dead or hangs keeps no program from ending."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider

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
def collector(slow_s: float = 0.0) -> Iterator[tuple[str, list[str], list[str]]]:
    """An endpoint that takes OTLP over HTTP: its URL, and the names of the spans and of the metrics that it got."""
    spans: list[str] = []
    metrics: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            time.sleep(slow_s)
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


def run(folder: Path, lines: str, command: Sequence[str] = ("-c", INSTRUMENT), **environment: str) -> tuple[float, str]:
    """Run a program under `tokenguard-instrument`: seconds from its last line to its end, and what it has printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TOKENGUARD_"))}
    (folder / "program.py").write_text(BEGINNING + lines)
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env={**kept, "PYTHONWARNINGS": "ignore", **environment},
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


OWN = """
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.exporter.otlp.proto.{protocol}.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.{protocol}.trace_exporter import OTLPSpanExporter
given = TracerProvider()
given.add_span_processor(BatchSpanProcessor(OTLPSpanExporter({arguments})))
trace.set_tracer_provider(given)
metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter({arguments}))]))
"""


def run_own(folder: Path, lines: str, protocol: str, arguments: str = "", **environment: str) -> tuple[float, str]:
    """The same for a program that installs TokenGuard and sets OpenTelemetry's SDK up, both by itself."""
    return run(folder, OWN.format(protocol=protocol, arguments=arguments) + lines, ["program.py"], **environment)


@pytest.mark.parametrize("where", ["in the environment", "in code"])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_dead_endpoint_of_the_programs_own(tmp_path: Path, protocol: str, where: str) -> None:
    """Where the program has set the SDK up, a refused export adds no more than a second either, is said, and kept."""
    url, settings = "http://127.0.0.1:1", {}
    if where == "in the environment":
        settings, arguments = {"OTEL_EXPORTER_OTLP_ENDPOINT": url}, ""
    else:
        arguments = f"endpoint={url!r}"
    bare, _ = run_own(tmp_path, END, protocol, arguments, **settings)
    took, printed = run_own(tmp_path, f"one(){END}", protocol, arguments, **settings)
    assert took < bare + SLOWER_S + NOISE_S, printed
    assert printed.count("tokenguard: the OTLP endpoint") == 1
    assert "Transient error" in printed, "the exporter's own words are the program's"
    os.rename(tmp_path / ".tokenguard/usage.db", tmp_path / "usage.db")
    assert outcomes(tmp_path) == ["ok"]


OWN_SPAN = "with trace.get_tracer('theirs').start_as_current_span('theirs'): one()\n"


@pytest.mark.parametrize("how", ["", "os._exit(0)", "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)"])
def test_what_the_programs_own_sdk_has_arrives(tmp_path: Path, how: str) -> None:
    """Spans of the program and of TokenGuard reach an endpoint at each kind of end, and are not kept here."""
    with collector() as (url, spans, _):
        _, printed = run_own(tmp_path, OWN_SPAN + how, "http", OTEL_EXPORTER_OTLP_ENDPOINT=url)
    assert sorted(spans) == ["chat gpt-4o", "theirs"], printed
    assert "tokenguard: the OTLP" not in printed
    assert not (tmp_path / ".tokenguard").exists()


def test_an_sdk_that_the_program_has_shut_down(tmp_path: Path) -> None:
    """It is left alone: it would say that it takes no more."""
    with collector() as (url, spans, _):
        shut = "trace.get_tracer_provider().shutdown(); metrics.get_meter_provider().shutdown()"
        _, printed = run_own(tmp_path, OWN_SPAN + shut, "http", OTEL_EXPORTER_OTLP_ENDPOINT=url)
    assert sorted(spans) == ["chat gpt-4o", "theirs"]
    assert printed == ""


@pytest.mark.parametrize("own", ["", "with trace.get_tracer('theirs').start_as_current_span('theirs'): pass\n"])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_silent_endpoint_of_the_programs_own(tmp_path: Path, protocol: str, own: str) -> None:
    """The end waits as long as without TokenGuard, and a second: for spans of the program, or for nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_TIMEOUT": "5"}
        bare, _ = run_own(tmp_path, own + END, protocol, **settings)
        took, printed = run_own(tmp_path, f"{own}one(){END}", protocol, **settings)
    if not hasattr(TracerProvider(shutdown_on_exit=False), "_tracers") and not own:
        pytest.skip("this SDK does not show who has asked for a tracer")
    assert took < bare + SLOWER_S + NOISE_S, printed
    assert printed.count("tokenguard: the OTLP endpoint") == 1
    os.rename(tmp_path / ".tokenguard/usage.db", tmp_path / "usage.db")
    assert outcomes(tmp_path) == ["ok"]


def test_a_slow_endpoint_of_the_programs_own(tmp_path: Path) -> None:
    """One that keeps silent for longer than TokenGuard waits gets what the program has all the same."""
    with collector(1.5) as (url, spans, _):
        _, printed = run_own(tmp_path, OWN_SPAN, "http", OTEL_EXPORTER_OTLP_ENDPOINT=url)
    assert sorted(spans) == ["chat gpt-4o", "theirs"], printed
    assert "tokenguard: the OTLP" not in printed
