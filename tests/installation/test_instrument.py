"""`tokenguard-instrument`, as a user runs it: programs that never heard of TokenGuard, started in every way."""

from __future__ import annotations

import gzip
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import zipapp
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tokenguard.demo.provider import SimulatedProvider
from tokenguard.facts.record import CallRecord
from tokenguard.installation.instrument import deaf_option, environment
from tokenguard.store.store import read_store

BIN = Path(sys.executable).parent
INSTRUMENT = [sys.executable, "-c", "from tokenguard.installation.instrument import main; main()"]

APP = """
import openai, sys
client = openai.OpenAI()
messages = [{"role": "user", "content": "Hello"}]
answer = client.chat.completions.create(model="gpt-4o-mini", messages=messages, max_tokens=20)
print(answer.usage.total_tokens)
"""
FORKED = """
import multiprocessing, openai
def ask():
    messages = [{"role": "user", "content": "Hello"}]
    openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=messages, max_tokens=20)
if __name__ == "__main__":
    ask()
    workers = [multiprocessing.get_context("fork").Process(target=ask) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
"""
PARENT = """
import subprocess, sys
subprocess.run([sys.executable, "app.py"], check=True)
"""
WEB = """
import openai
client = openai.OpenAI()
ask = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20}
def app(environ, start_response):
    answer = client.chat.completions.create(**ask)
    start_response("200 OK", [("content-type", "text/plain")])
    return [str(answer.usage.total_tokens).encode()]
async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    client = openai.AsyncOpenAI()
    answer = await client.chat.completions.create(**ask)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(answer.usage.total_tokens).encode()})
"""


@pytest.fixture(scope="module")
def provider():
    with SimulatedProvider() as running:
        yield running


@pytest.fixture
def folder(tmp_path):
    for name, text in (("app.py", APP), ("parent.py", PARENT), ("forked.py", FORKED), ("web.py", WEB)):
        (tmp_path / name).write_text(text)
    return tmp_path


def env(provider, folder, **more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "TOKENGUARD_"))}
    return {
        **kept,
        "OPENAI_BASE_URL": provider.openai_url,
        "OPENAI_API_KEY": "k",
        "TOKENGUARD_STORE": str(folder / "usage.db"),
        **more,
    }


def run(command, folder, environ, code=0):
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    return done


def calls(folder):
    return [record for record in read_store(folder / "usage.db") if isinstance(record, CallRecord)]


@pytest.mark.parametrize(
    "command",
    [
        ["python", "app.py"],
        ["app.py"],
        ["python", "-m", "app"],
        ["-m", "app"],
        ["python", "parent.py"],
    ],
    ids=" ".join,
)
def test_ways_to_start(command, provider, folder):
    """A script, a module, a subprocess of a program: each call is in the store, and the program runs as before."""
    command = [sys.executable if word == "python" else word for word in command]
    done = run([*INSTRUMENT, *command], folder, env(provider, folder))
    assert int(done.stdout) > 0
    assert done.stderr == ""
    (call,) = calls(folder)
    assert call.model == "gpt-4o-mini-2024-07-18"
    assert call.cost_usd > 0
    assert call.call_site.endswith("app.py:5")


@pytest.mark.parametrize("name", ["app.pyz", "./app.pyz", "packed", "folder", "folder/"])
def test_applications_that_are_no_commands(name, provider, folder):
    """An archive that may not be executed, whatever its name, and a folder with a `__main__.py` are run with Python."""
    (folder / "folder").mkdir()
    (folder / "folder" / "__main__.py").write_text(APP)
    for archive in ("app.pyz", "packed"):
        zipapp.create_archive(folder / "folder", folder / archive)
        assert not os.access(folder / archive, os.X_OK)
    done = run([*INSTRUMENT, name, "an argument"], folder, env(provider, folder))
    assert int(done.stdout) > 0
    assert done.stderr == ""
    (call,) = calls(folder)
    assert call.model == "gpt-4o-mini-2024-07-18"


@pytest.mark.skipif(os.name != "posix", reason="the first line of a file")
def test_an_archive_that_is_a_command(provider, folder):
    """An archive that may be executed is run by the Python that its first line names."""
    (folder / "folder").mkdir()
    (folder / "folder" / "__main__.py").write_text(APP)
    zipapp.create_archive(folder / "folder", folder / "app.pyz", interpreter=sys.executable)
    (folder / "app.pyz").chmod(0o755)
    run([*INSTRUMENT, "./app.pyz"], folder, env(provider, folder))
    assert len(calls(folder)) == 1


def test_files_that_cannot_be_run(provider, folder):
    """What is there but cannot be run is told from what is not there, with what to do."""
    (folder / "start").write_text("print(1)")
    (folder / "empty").mkdir()

    def said(name, code):
        return run([*INSTRUMENT, name], folder, env(provider, folder), code=code).stderr

    told = said("start", 126)
    assert "tokenguard-instrument python start" in told
    assert "chmod +x ./start" in told
    (folder / "start").chmod(0o755)
    assert "tokenguard-instrument ./start" in said("start", 126)
    assert "without a __main__.py" in said("empty", 126)
    assert "no command 'app.pyz' on PATH" in said("app.pyz", 127)


def test_forked_workers(provider, folder):
    """Each process records its own calls once, also one that leaves without exit handlers."""
    run([*INSTRUMENT, sys.executable, "forked.py"], folder, env(provider, folder))
    assert len(calls(folder)) == 4


@pytest.mark.skipif(os.name != "posix", reason="the shell's way to close them")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_service_without_streams(closed, provider, folder):
    """Started with its output closed, a program runs as it would, and its calls are kept."""
    command = " ".join(map(shlex.quote, [*INSTRUMENT, sys.executable, "app.py"]))
    done = subprocess.run(["sh", "-c", f"{command} {closed}"], cwd=folder, env=env(provider, folder), timeout=120)
    assert done.returncode == 0
    assert len(calls(folder)) == 1


def test_a_store_that_cannot_be_written(provider, folder):
    """What is said is which file that is, what is lost and what to do; the program runs as before."""
    place = folder / "app.py" / "usage.db"
    done = run([*INSTRUMENT, sys.executable, "app.py"], folder, env(provider, folder, TOKENGUARD_STORE=str(place)))
    assert "Traceback" not in done.stderr
    assert f"lost: {place} cannot be written. Set TOKENGUARD_STORE to a file that can be, or to off." in done.stderr


def test_exit_code_and_arguments(provider, folder):
    """The command's exit code and arguments are its own."""
    (folder / "exit.py").write_text("import sys; print(sys.argv[1:]); sys.exit(7)")
    done = run([*INSTRUMENT, sys.executable, "exit.py", "--help", "-m"], folder, env(provider, folder), code=7)
    assert done.stdout.strip() == "['--help', '-m']"


def test_usage_and_missing_command(provider, folder):
    """Without a command it says how to use it; a command that is not there is named."""
    assert "usage: tokenguard-instrument COMMAND" in run(INSTRUMENT, folder, env(provider, folder), code=2).stderr
    done = run([*INSTRUMENT, "no-such-command"], folder, env(provider, folder), code=127)
    assert "no command 'no-such-command' on PATH" in done.stderr


def test_other_sitecustomize_still_runs(provider, folder):
    """A `sitecustomize` that was there before ours runs after it."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text("print('mine')")
    environ = env(provider, folder, PYTHONPATH=str(folder / "site"))
    assert run([*INSTRUMENT, sys.executable, "app.py"], folder, environ).stdout.startswith("mine\n")
    assert len(calls(folder)) == 1


@pytest.mark.parametrize(
    "trouble",
    [
        {"OTEL_TRACES_EXPORTER": "no_such_exporter", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        {"OTEL_PYTHON_CONFIGURATOR": "no_such", "OTEL_PYTHON_DISTRO": "no_such"},
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"},
        {"OTEL_SDK_DISABLED": "true"},
    ],
    ids=lambda trouble: next(iter(trouble)),
)
def test_telemetry_trouble_does_not_take_the_meter_down(trouble, provider, folder):
    """When OpenTelemetry cannot start, calls are measured all the same."""
    done = run([*INSTRUMENT, sys.executable, "app.py"], folder, env(provider, folder, **trouble))
    assert int(done.stdout) > 0
    assert len(calls(folder)) == 1


def test_guard_needs_no_code(provider, folder):
    """A `tokenguard.toml` beside the program is enforced."""
    (folder / "tokenguard.toml").write_text('[[limit]]\nname = "tiny"\nmax_input_tokens = 1\n')
    done = run([*INSTRUMENT, sys.executable, "app.py"], folder, env(provider, folder), code=1)
    assert 'LimitExceeded: chat gpt-4o-mini: input tokens 8, and the limit "tiny" allows 1.' in done.stderr


def test_broken_policy_fails_the_start(provider, folder):
    """A policy that cannot be read stops the program before it starts, with the file, the line and the fix."""
    (folder / "tokenguard.toml").write_text('[[limit]]\nname = "tiny"\nmax_inptu_tokens = 1\n')
    done = run([*INSTRUMENT, sys.executable, "app.py"], folder, env(provider, folder), code=2)
    assert "tokenguard.toml:3" in done.stderr
    assert "max_input_tokens" in done.stderr
    assert "Traceback" not in done.stderr


def test_plain_opentelemetry_instrument(provider, folder):
    """`opentelemetry-instrument` finds TokenGuard by its entry point."""
    environ = env(provider, folder, OTEL_TRACES_EXPORTER="none", OTEL_METRICS_EXPORTER="none")
    command = [str(BIN / "opentelemetry-instrument"), sys.executable, "app.py"]
    run(command, folder, environ)
    assert len(calls(folder)) == 1


def ask(port, process):
    for _ in range(200):
        assert process.poll() is None, process.communicate()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as response:
                return response.read()
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server did not answer")


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("server", ["gunicorn", "gunicorn --preload", "uvicorn", "uvicorn workers"])
def test_servers(server, provider, folder):
    """Workers of gunicorn and uvicorn, forked or spawned, are measured, and lose nothing when they are stopped."""
    port = free_port()
    if server.startswith("gunicorn"):
        command = [str(BIN / "gunicorn"), "-w", "2", "-b", f"127.0.0.1:{port}", *server.split()[1:], "web:app"]
    else:
        workers = ["--workers", "2"] if "workers" in server else []
        command = [str(BIN / "uvicorn"), "--port", str(port), *workers, "web:asgi"]
    process = subprocess.Popen(
        [*INSTRUMENT, *command],
        cwd=folder,
        env=env(provider, folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        for _ in range(4):
            assert int(ask(port, process)) > 0
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert len(calls(folder)) == 4


# --- OTLP ------------------------------------------------------------------------------------------------------------


class Received:
    """What a collector got."""

    def __init__(self):
        self.spans = []
        self.metrics = set()

    def trace(self, request):
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans

    def measure(self, request):
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                self.metrics |= {metric.name for metric in scope.metrics}


@pytest.fixture
def http_collector():
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/traces":
                received.trace(trace_service_pb2.ExportTraceServiceRequest.FromString(body))
            elif self.path == "/v1/metrics":
                received.measure(metrics_service_pb2.ExportMetricsServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", "http/protobuf", received
    server.shutdown()
    server.server_close()


@pytest.fixture
def grpc_collector():
    received = Received()

    class Traces(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request, context):
            received.trace(request)
            return trace_service_pb2.ExportTraceServiceResponse()

    class Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
        def Export(self, request, context):
            received.measure(request)
            return metrics_service_pb2.ExportMetricsServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Traces(), server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(Metrics(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}", None, received
    server.stop(None).wait()


@pytest.mark.parametrize("collector", ["http_collector", "grpc_collector"])
def test_otlp(collector, request, provider, folder):
    """With an endpoint set, spans and metrics go there over HTTP or gRPC, at the latest when the program ends."""
    endpoint, protocol, received = request.getfixturevalue(collector)
    environ = env(provider, folder, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_SERVICE_NAME="shop")
    del environ["TOKENGUARD_STORE"]
    if protocol:
        environ["OTEL_EXPORTER_OTLP_PROTOCOL"] = protocol
    run([*INSTRUMENT, sys.executable, "app.py"], folder, environ)
    (span,) = [span for span in received.spans if span.name.startswith("chat ")]
    attributes = {each.key: each.value for each in span.attributes}
    assert attributes["tokenguard.cost.usd"].double_value > 0
    assert {"gen_ai.client.operation.duration", "gen_ai.client.token.usage", "tokenguard.cost.usd"} <= received.metrics
    assert not (folder / ".tokenguard").exists()


@pytest.mark.parametrize("other", [False, True], ids=["nothing", "another package"])
def test_what_auto_instrumentation_would_load(tmp_path, other):
    """It is imported where a package asks to be loaded by it, and takes no time where none does."""
    if other:
        metadata = tmp_path / "other-1.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
        (metadata / "entry_points.txt").write_text("[opentelemetry_post_instrument]\nother = other:loaded\n")
        (tmp_path / "other.py").write_text("def loaded():\n    print('loaded')\n")
    code = "import sys; print('opentelemetry.instrumentation' in sys.modules)"
    env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    said = subprocess.run(
        [*INSTRUMENT, sys.executable, "-c", code],
        env={**env, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.split() == (["loaded", "True"] if other else ["False"])


def test_protocol_is_guessed_from_the_port():
    """The port of OTLP over HTTP means OTLP over HTTP; what the user says stays."""
    assert (
        environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"})["OTEL_EXPORTER_OTLP_PROTOCOL"] == "http/protobuf"
    )
    assert "OTEL_EXPORTER_OTLP_PROTOCOL" not in environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"})
    said = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert environment(said)["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc"
    assert json.dumps(environment({})["OTEL_TRACES_EXPORTER"]) == '"none"'


def test_empty_elements_of_the_path_stay():
    """An empty element of PYTHONPATH is the working directory, and stays where it is; an empty variable has none."""
    from tokenguard.installation.instrument import AUTOLOAD, environment

    assert environment({"PYTHONPATH": ":/x"})["PYTHONPATH"] == f"{AUTOLOAD}::/x"
    assert environment({"PYTHONPATH": f"{AUTOLOAD}:/x:"})["PYTHONPATH"] == f"{AUTOLOAD}:/x:"
    assert environment({"PYTHONPATH": ""})["PYTHONPATH"] == AUTOLOAD
    assert environment({})["PYTHONPATH"] == AUTOLOAD


def test_the_programs_own_sitecustomize(tmp_path):
    """It runs once, and is what the program gets that imports it by name."""
    import subprocess
    import sys

    from tokenguard.installation.instrument import environment

    (tmp_path / "sitecustomize.py").write_text("runs = globals().get('runs', 0) + 1\nmine = 'yes'\n")
    env = environment({**os.environ, "PYTHONPATH": str(tmp_path), "TOKENGUARD_STORE": "off"})
    program = "import sitecustomize; print(sitecustomize.mine, sitecustomize.runs)"
    done = subprocess.run([sys.executable, "-c", program], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == ["yes", "1"], done.stderr


DEAF = {
    "python -I app.py": "-I",
    "/usr/bin/python3.13 -sE app.py": "-E",
    "python -X dev -S -c pass": "-S",
    "python -Wignore -W error -IS app.py": "-I",
    "/usr/bin/env -S python3 -I": "-I",
    "python -P -s -B -OO -X dev app.py": None,
    "python app.py -I": None,
    "python -c pass -I": None,
    "python -m app -S": None,
    "python -mapp -S": None,
    "python -XI app.py": None,
    "python": None,
    "gunicorn -S app": None,
}


@pytest.mark.parametrize("command", DEAF)
def test_which_options_python_is_deaf_with(command: str) -> None:
    """Options of Python's with which it loads no `sitecustomize` are found where they are Python's own."""
    assert deaf_option(command.split()) == DEAF[command]


@pytest.mark.parametrize("how", ["-I", "-E", "-S", "script"])
def test_python_that_would_not_load_us(tmp_path: Path, how: str) -> None:
    """It is refused with a sentence: it would run with nothing measured and no limit, and nobody would know."""
    (tmp_path / "app.py").write_text(f"#!{sys.executable} -I\nprint('ran')\n")
    (tmp_path / "app.py").chmod(0o755)
    (tmp_path / "app.py").rename(tmp_path / "app")
    command = [str(tmp_path / "app")] if how == "script" else [sys.executable, how, "app"]
    done = subprocess.run([*INSTRUMENT, *command], cwd=tmp_path, capture_output=True, text=True)
    option = "-I" if how == "script" else how
    assert (done.returncode, done.stdout) == (2, "")
    assert f"with {option}, Python loads nothing" in done.stderr


def test_a_start_loads_what_its_provider_needs(tmp_path):
    """A process that imports openai has the formats of OpenAI and Anthropic, and those of others when it calls them."""
    code = (
        "import sys, tokenguard; tokenguard.install(); import openai\n"
        "print(*sorted(name.rpartition('.')[2] for name in sys.modules if name.startswith('tokenguard.providers.')))\n"
        "from tokenguard.providers import api_of\n"
        "print(api_of('/v1beta/models/gemini-2.5-flash:generateContent').id)"
    )
    run = [sys.executable, "-c", code]
    loaded, found = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {"openai", "anthropic"} <= set(loaded.split())
    assert not {"google", "mistral", "cohere", "bedrock", "xai", "batches"} & set(loaded.split())
    assert found == "generate_content"


def test_a_start_with_a_policy_makes_the_guard_with_the_first_sdk(tmp_path):
    """A process that imports no SDK reads the policy, and makes no guard of it; the first SDK's calls are under it."""
    (tmp_path / "tokenguard.toml").write_text(
        '[[budget]]\nname = "all"\nlimit_usd = 1\n[[limit]]\nname = "short"\nmax_input_tokens = 5\n'
    )
    code = (
        "import sys, tokenguard; tokenguard.install()\n"
        "made = {'tokenguard.guard.admission', 'tokenguard.metering.meter', 'opentelemetry.trace'} & {*sys.modules}\n"
        "import openai\n"
        "try:\n"
        "    openai.OpenAI(api_key='k').completions.create(model='gpt-4o', prompt='a long text ' * 20, max_tokens=1)\n"
        "except tokenguard.LimitExceeded as error:\n"
        "    print(made or 'nothing', tokenguard.remaining('all'), error.rule)"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("TOKENGUARD_")}
    run = [sys.executable, "-c", code]
    said = subprocess.run(run, cwd=tmp_path, env=env, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["nothing", "1.0", "short"]


@pytest.mark.parametrize(
    "needs", ["[ledger]\nurl = 'redis://h'", "[[cache]]\nname = 'c'\n[answers]\nurl = 'redis://h'"]
)
def test_a_policy_that_lacks_a_package_stops_the_start(tmp_path, needs):
    """What a policy needs and is not there is told at once, whether the program ever imports an SDK or not."""
    (tmp_path / "tokenguard.toml").write_text(f'{needs}\n[[budget]]\nname = "all"\nlimit_usd = 1\n')
    (tmp_path / "redis.py").write_text("raise ImportError('not here')")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = [*INSTRUMENT, sys.executable, "-c", "print('ran')"]
    done = subprocess.run(run, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "redis" in done.stderr


HEAVY = ("dataclasses", "inspect", "logging", "pathlib", "re", "typing", "opentelemetry")
"""What takes long to import, and a program may never need."""


@pytest.mark.parametrize("other", [False, True], ids=["nothing", "a project of another kind"])
def test_a_program_that_calls_no_model_starts_with_little(tmp_path, other):
    """What is imported for it is little: programs that start many processes pay for each of them."""
    if other:
        (tmp_path / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    code = f"import sys; print(*sorted({{*{HEAVY!r}}} & {{*sys.modules}}))"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("TOKENGUARD_", "OTEL_", "PYTHON"))}
    bare, ours = (
        subprocess.run([*command, sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
        for command in ([], INSTRUMENT)
    )
    assert (ours.returncode, ours.stderr) == (0, "")
    assert ours.stdout == bare.stdout
