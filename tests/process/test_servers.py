"""Workers of servers and queues: what they had finished is kept when they are recycled, reloaded and stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from process.programs import BEGINNING, POLICY, balance, outcomes

pytestmark = pytest.mark.apart

COST = 0.00035


def start(folder: Path, module: str, lines: str, command: list[str]) -> subprocess.Popen[str]:
    """A program that runs `module`, which begins as all programs of these tests do."""
    (folder / "tokenguard.toml").write_text(POLICY.format(slice=""))
    (folder / f"{module}.py").write_text(BEGINNING.replace('if sys.argv[1:] == ["guarded"]:', "if True:") + lines)
    env = {
        **os.environ,
        "TOKENGUARD_STORE": str(folder / "usage.db"),
        "TOKENGUARD_STRICT": "0",
        "PYTHONPATH": str(folder),
        "PYTHONWARNINGS": "ignore",
    }
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def get(port: int, path: str = "/") -> str:
    """What a server answers; it may still be starting. One that is slow is not asked again: it would count twice."""
    until = time.monotonic() + 90
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=90) as answer:
                return answer.read().decode()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def stop(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> str:
    """Stop a program; what it printed."""
    process.send_signal(number)
    try:
        return process.communicate(timeout=90)[0]
    finally:
        process.kill()


WSGI = """
def app(environ, start_response):
    one()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


@pytest.mark.parametrize(
    "options", [["--preload"], ["--max-requests", "2"], ["--threads", "4"], ["-k", "gevent"]], ids=" ".join
)
def test_gunicorn(tmp_path: Path, options: list[str]) -> None:
    """Workers that are recycled, reloaded (SIGHUP) and stopped (SIGTERM) lose no call and leave nothing reserved."""
    pytest.importorskip("gunicorn")
    if "gevent" in options:
        pytest.importorskip("gevent")
    port = free_port()
    server = start(
        tmp_path, "wsgi", WSGI,
        ["gunicorn", "-w", "2", "-b", f"127.0.0.1:{port}", "--graceful-timeout", "60", *options, "wsgi:app"],
    )  # fmt: skip
    try:
        for _ in range(3):
            get(port)
        server.send_signal(signal.SIGHUP)
        for _ in range(3):
            get(port)
    finally:
        said = stop(server)
    assert outcomes(tmp_path) == ["ok"] * 6, said
    assert balance(tmp_path) == (pytest.approx(6 * COST), 0)


ASGI = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        one()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""


def test_uvicorn_reload(tmp_path: Path) -> None:
    """A server that is reloaded because a file has changed, and then stopped, loses no call."""
    pytest.importorskip("uvicorn")
    port = free_port()
    server = start(
        tmp_path, "asgi", ASGI, ["uvicorn", "asgi:app", "--port", str(port), "--reload", "--lifespan", "off"]
    )
    try:
        first = get(port)
        (tmp_path / "asgi.py").write_text((tmp_path / "asgi.py").read_text() + "\n")
        until = time.monotonic() + 60
        calls = 1
        while get(port) == first and time.monotonic() < until:
            calls += 1
            time.sleep(0.5)
    finally:
        said = stop(server)
    assert outcomes(tmp_path) == ["ok"] * (calls + 1), said
    assert balance(tmp_path)[1] == 0


CELERY = """
import celery
queue = celery.Celery("jobs", broker="filesystem://", broker_transport_options={
    "data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"})
queue.conf.task_ignore_result = True

@queue.task
def job():
    one()

@queue.task(soft_time_limit=4)
def long_job():
    one()
    time.sleep(30)
"""


@pytest.mark.parametrize("recycled", [True, False], ids=["one task a worker", "many"])
def test_celery(tmp_path: Path, recycled: bool) -> None:
    """Prefork workers of celery end through an exit of billiard's own: nothing that they finished is lost."""
    pytest.importorskip("celery")
    (tmp_path / "queue").mkdir()
    more = ["--max-tasks-per-child", "1"] if recycled else []
    worker = start(
        tmp_path, "jobs", CELERY,
        ["celery", "-A", "jobs.queue", "worker", "--pool", "prefork", "-c", "2", "-l", "INFO", *more],
    )  # fmt: skip
    (tmp_path / "send.py").write_text("import jobs\nfor _ in range(5): jobs.job.delay()\njobs.long_job.delay()\n")
    env = {**os.environ, "TOKENGUARD_STORE": "off", "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "send.py"], cwd=tmp_path, env=env, check=True)
    until = time.monotonic() + 120
    while balance(tmp_path)[0] < 5.9 * COST and time.monotonic() < until:
        time.sleep(0.5)
    time.sleep(2)
    said = stop(worker)
    assert outcomes(tmp_path) == ["ok"] * 6, said
    assert balance(tmp_path) == (pytest.approx(6 * COST), 0)
