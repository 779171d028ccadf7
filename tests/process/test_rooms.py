"""What ends, forks and threads are is known in one room: nobody goes past it."""

from __future__ import annotations

import ast
from pathlib import Path

import tokenguard

SOURCE = Path(tokenguard.__file__).parent
ROOM = SOURCE / "process"
OWN_PROCESS = ("demo", "cli", "testing", "lint", "report", "grafana", "page", "review")
"""Rooms that no program of a user's runs in: commands, and the test session's own reports."""
ELSEWHERE = {
    "atexit": "process.ends.at_end",
    "signal": "process.signals.heed",
    "multiprocessing": "process.ends.at_end",
    "os.register_at_fork": "process.forks.at_fork",
    "threading.Thread": "process.threads.Worker",
    "threading.Event": "process.threads.Worker",
    "threading.Condition": "process.threads.Worker",
    "threading.Semaphore": "process.threads.Worker",
    "_thread": "process.threads.Worker",
    "queue": "process.threads.Worker",
    **dict.fromkeys(
        (
            f"random.{name}"
            for name in ("random", "uniform", "choice", "randrange", "randint", "shuffle", "getrandbits")
        ),
        "process.chance.CHANCE",  # the module's sequence is the program's
    ),
    "concurrent.futures.ThreadPoolExecutor": "process.threads.Pool",
    "contextlib.contextmanager": "a function that is given what to do: an interrupt leaves a generator suspended",
}
ALLOWED = {
    ("__main__.py", "atexit"),  # of a command of ours, and after all that others have to do
    ("seams/threads.py", "concurrent.futures.ThreadPoolExecutor"),  # the frameworks' own, made to hand on the context
    ("seams/common/sending.py", "contextlib.contextmanager"),  # an SDK's method is one
    ("call/task_span.py", "contextlib.contextmanager"),  # around steps of a span, and nothing that is shared
    ("metering/sessions.py", "contextlib.contextmanager"),  # around a session's span, and nothing that is shared
    ("telemetry/delivery.py", "atexit"),  # in the place of OpenTelemetry's own handlers, which run by the same
    ("telemetry/delivery.py", "queue"),  # of a thread that nobody waits for longer than told
    ("seams/botocore_streams.py", "contextlib.contextmanager"),  # around what it sends, and nothing that is shared
    ("seams/transports/__init__.py", "contextlib.contextmanager"),  # gives back what it has, also when it is collected
}


def used(tree: ast.AST) -> set[str]:
    """The modules that a file imports, and the names that it takes from them, each with its module."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
    return found


def test_nobody_goes_past_the_room() -> None:
    """Exit, signal and fork handlers, threads, and locks that an interrupt could leave locked are made there."""
    files = {path.relative_to(SOURCE).as_posix(): path for path in SOURCE.rglob("*.py") if ROOM not in path.parents}
    assert [
        f"{name}: {what}; use {ELSEWHERE[what]}"
        for name, path in sorted(files.items())
        if not name.startswith(OWN_PROCESS)
        for what in sorted(used(ast.parse(path.read_text())) & ELSEWHERE.keys())
        if (name, what) not in ALLOWED
    ] == []
