"""What the programs of these tests begin with: TokenGuard under a budget, and a client with its provider beside it.

Each program runs in a folder of its own, where the store, the ledger and the policy are.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

BEGINNING = """
import atexit, json, multiprocessing, os, signal, sys, threading, time
import tokenguard
if sys.argv[1:] == ["guarded"]:
    tokenguard.install("tokenguard.toml")
else:
    tokenguard.install()
import httpx2, openai
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o",
         "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}
STREAM = b"data: %s\\n\\n" % json.dumps(CHUNK).encode() * 50
ANSWER = {"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o",
          "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}],
          "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}}
JOB = {"id": "resp_1", "object": "response", "created_at": 1, "status": "queued", "background": True,
       "model": "gpt-4.1", "output": [], "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
def provider(request):
    body = json.loads(request.content)
    if body.get("stream"):
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=STREAM)
    return httpx2.Response(200, json=JOB if body.get("background") else ANSWER)
client = openai.OpenAI(api_key="k", http_client=httpx2.Client(transport=httpx2.MockTransport(provider)))
ASK = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 50}
def one(*_):
    client.chat.completions.create(**ASK)
def stream():
    return client.chat.completions.create(**ASK, stream=True)
"""

POLICY = """
[ledger]
url = "sqlite:///ledger.db"
{slice}
[[budget]]
name = "all"
limit_usd = 10
window = "total"
"""


class Ended(NamedTuple):
    """What a program left behind."""

    code: int
    output: str
    seconds: float
    outcomes: list[str]
    """Of the calls in the store."""
    spent: float
    """USD in the ledger; -1 where the program was not guarded."""
    reserved: float
    """USD; this and what is spent are read without charging leases."""


def run(
    folder: Path,
    program: str,
    *,
    before: str = "",
    guarded: bool = True,
    slices: bool = False,
    kill_after: str = "",
    **environment: str,
) -> Ended:
    """Run a program to its end; `kill_after` is a line of its output at which it gets a SIGTERM.

    What it does `before` it installs TokenGuard needs `os` alone.
    """
    (folder / "tokenguard.toml").write_text(POLICY.format(slice="slice = 0.1" if slices else ""))
    env = {
        **os.environ,
        "TOKENGUARD_STORE": str(folder / "usage.db"),
        "TOKENGUARD_STRICT": "0",
        "PYTHONWARNINGS": "ignore::DeprecationWarning",
        **environment,
    }
    (folder / "program.py").write_text("import os\n" + before + BEGINNING + program)
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "program.py", *(["guarded"] if guarded else [])],
        cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    output = ""
    if kill_after:
        assert process.stdout is not None
        for line in process.stdout:
            output += line
            if line.strip() == kill_after:
                process.terminate()
                break
    try:
        rest, _ = process.communicate(timeout=180)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    seconds = time.monotonic() - began
    return Ended(process.returncode, output + rest, seconds, outcomes(folder), *balance(folder))


def outcomes(folder: Path) -> list[str]:
    """The outcomes of the calls in a folder's store."""
    if not (folder / "usage.db").exists():
        return []
    with closing(sqlite3.connect(folder / "usage.db")) as db:
        return [row[0] for row in db.execute("SELECT outcome FROM calls ORDER BY start_ns")]


def balance(folder: Path) -> tuple[float, float]:
    """What is spent and reserved in a folder's ledger, as it stands there."""
    if not (folder / "ledger.db").exists():
        return (-1, -1)
    with closing(sqlite3.connect(folder / "ledger.db")) as db:
        spent, reserved = db.execute("SELECT sum(spent_nano), sum(reserved_nano) FROM account").fetchone()
    return ((spent or 0) / 1e9, (reserved or 0) / 1e9)
