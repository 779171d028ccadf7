"""Everything at once, for long: what the provider billed against what the ledger says.

    python scripts/soak.py [--calls 200000] [--minutes 60] [--processes 8] [--ledger sqlite|redis] [--limit USD]
                            [--pause SECONDS]

It ends after so many calls or minutes, whichever is first.

Worker processes call a provider that counts what it answers (an append to a file of its own, which `kill -9` does not
lose). Meanwhile they get alarms whose handlers raise, SIGTERM, SIGKILL; streams are dropped, closed and kept; another
process locks the SQLite file, or redis-server is restarted. The limit is reached before the end, unless it is given.
At the end, when all leases are over, everything in `PROMISES` must hold.

Prints a line of JSON and the verdict; exit 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PRICE = 0.00035
"""USD that the provider bills for each request: 100 tokens in and 10 out of gpt-4o."""
LEASE_S = 20
TELL_S = 30
HANGS_S = 60
"""A worker that has not made a call for so long, and was found waiting each time that it was looked at, hangs. One that
would run, and gets no processor, does not."""
STARTS_S = 300
"""What it takes to start one, at most, where other work has the processors."""
TOLD_S = 5.0
"""What a lock or a restart does to a worker is in the log within this time of its end; the machine is busy."""

PROMISES: dict[str, Callable[[dict[str, Any]], bool]] = {
    "no worker hangs": lambda found: found["hung"] == 0,
    "no worker ends but by a signal that it was sent": lambda found: found["crashed"] == 0,
    "the provider never bills more than the limit": lambda found: found["billed_usd"] <= found["limit_usd"] + 1e-9,
    "the ledger has what was billed, less a hundredth at the most, as calls that were interrupted are estimated": (
        lambda found: found["ledger_usd"] >= 0.99 * found["billed_usd"]
    ),
    "it has no more than a tenth above that, but for leases of killed workers": (
        lambda found: found["ledger_usd"] - found["of_it_orphaned_usd"] <= 1.1 * found["billed_usd"]
    ),
    "nothing stays reserved": lambda found: found["reserved_usd"] == 0,
    "nothing is said to fail, but while the ledger is locked or restarts": lambda found: found["unexplained"] == 0,
}

WORKER = """
import faulthandler, json, logging, os, random, signal, sys, time
faulthandler.enable()
faulthandler.register(signal.SIGUSR1)
logging.basicConfig(format="LOG %(created).3f %(name)s %(process)d %(message)s")
import tokenguard
tokenguard.install("tokenguard.toml")
import httpx2, openai

folder, calls, seed, pause = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
billed = os.open(f"{folder}/billed-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
done = os.open(f"{folder}/done-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
chance = random.Random(seed)
USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
ANSWER = {"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o", "usage": USAGE,
          "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}]}
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o",
         "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}
LAST = {**CHUNK, "choices": [], "usage": USAGE}
STREAM = b"".join(b"data: %s\\n\\n" % json.dumps(c).encode() for c in [*[CHUNK] * 8, LAST]) + b"data: [DONE]\\n\\n"

class Limit(Exception):
    pass

armed = False

def alarm(number, frame):
    if armed:  # one that was on its way when the call ended is late
        raise Limit

def provider(request):
    os.write(billed, b".")
    if b'"stream":true' in request.content.replace(b" ", b""):
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=STREAM)
    return httpx2.Response(200, json=ANSWER)

http_client = httpx2.Client(transport=httpx2.MockTransport(provider))
client = openai.OpenAI(api_key="k", max_retries=0, http_client=http_client)
signal.signal(signal.SIGALRM, alarm)
ask = dict(model="gpt-4o", max_tokens=10, messages=[{"role": "user", "content": "word " * 90}])
kept = []
for n in range(calls):
    try:
        try:
            if armed := chance.random() < 0.1:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, 0.004))
            if chance.random() < 0.3:
                stream = client.chat.completions.create(**ask, stream=True)
                how = chance.random()
                for number, _ in enumerate(stream):
                    if number == 3 and how < 0.6:
                        break
                if how < 0.2:
                    stream.close()
                elif how < 0.3:
                    kept[:] = [stream]
            else:
                client.chat.completions.create(**ask)
        finally:
            armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
    except (Limit, tokenguard.BudgetExceeded, openai.APIConnectionError):
        pass
    except Exception as error:
        if "Limit" not in str(error):  # pydantic's, which makes another of it where a model is built at its first use
            raise
    os.write(done, b".")
    time.sleep(chance.uniform(0, 2 * pause))
"""


def sizes(folder: Path, kind: str) -> int:
    """How many requests were billed, or calls made, by all workers there ever were."""
    return sum(path.stat().st_size for path in folder.glob(f"{kind}-*"))


def would_run(pid: int) -> bool:
    """Whether a process has something to do at this moment, or is kept by a disk: it is late, and does not hang."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "RD"
    return False


class Soak:
    """One run."""

    def __init__(self, wanted: argparse.Namespace) -> None:
        self.wanted = wanted
        self.chance = random.Random(wanted.seed)
        self.folder = Path(tempfile.mkdtemp(prefix="soak-"))
        self.workers: list[subprocess.Popen[bytes]] = []
        self.limit = 0.8 * wanted.calls * PRICE if wanted.limit is None else wanted.limit
        self.counts = {"kills": 0, "terms": 0, "locks": 0, "restarts": 0, "hung": 0, "crashed": 0}
        self.outages: list[tuple[float, float]] = []
        """When the ledger could not be used, for our doing: Unix times."""
        self.redis: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        url = "sqlite:///ledger.db" if wanted.ledger == "sqlite" else f"redis://127.0.0.1:{self.port}/0"
        (self.folder / "tokenguard.toml").write_text(
            f'on_internal_error = "block"\n[ledger]\nurl = "{url}"\nlease = {LEASE_S}\non_loss = "block"\n'
            f'[[budget]]\nname = "all"\nlimit_usd = {self.limit}\nwindow = "total"\n'
        )
        (self.folder / "worker.py").write_text(WORKER)
        if wanted.ledger == "redis":
            self.start_redis()

    def start_redis(self) -> None:
        """A server that keeps what it was told when it is stopped."""
        self.redis = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--dir", str(self.folder), "--save", "", "--appendonly", "yes",
             "--appendfsync", "always"], stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def start(self) -> None:
        """One more worker."""
        seed, pause = str(self.chance.randrange(2**31)), str(self.wanted.pause)
        command = [sys.executable, "worker.py", str(self.folder), "100000000", seed, pause]
        env = {**os.environ, "TOKENGUARD_STORE": str(self.folder / "usage.db"), "TOKENGUARD_STRICT": "0"}
        log = (self.folder / "log").open("ab")
        self.workers.append(subprocess.Popen(command, cwd=self.folder, env=env, stdout=subprocess.DEVNULL, stderr=log))

    def disturb(self) -> None:
        """Something happens to one of the workers that make calls, or to the ledger."""
        busy = [worker for worker in self.workers if self.made_by(worker)]
        if not busy:
            return
        worker, what = self.chance.choice(busy), self.chance.random()
        if what < 0.15:
            worker.kill()
            self.counts["kills"] += 1
        elif what < 0.4:
            worker.terminate()
            self.counts["terms"] += 1
        elif what < 0.5:
            began = time.time()
            if self.redis is not None:
                self.restart(self.redis)
            else:
                self.lock()
            self.outages.append((began, time.time() + TOLD_S))

    def restart(self, redis: subprocess.Popen[bytes]) -> None:
        """The server is away for a moment."""
        redis.terminate()
        redis.wait()
        time.sleep(self.chance.uniform(0.1, 2))
        self.start_redis()
        while not self.answers():  # it reads its file first
            time.sleep(0.1)
        self.counts["restarts"] += 1

    def answers(self) -> bool:
        """Whether the server takes commands."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as server:
            server.settimeout(1)
            server.sendall(b"PING\r\n")
            return server.recv(64).startswith(b"+PONG")
        return False

    def lock(self) -> None:
        """Another process has the file: a backup, a shell."""
        with contextlib.suppress(sqlite3.Error):
            db = sqlite3.connect(self.folder / "ledger.db", timeout=5, isolation_level=None)
            db.execute("BEGIN IMMEDIATE")
            time.sleep(self.chance.uniform(0.05, 3))
            db.execute("ROLLBACK")
            db.close()
            self.counts["locks"] += 1

    def run(self) -> dict[str, Any]:
        """All of it."""
        for _ in range(self.wanted.processes):
            self.start()
        moved: dict[int, tuple[int, float]] = {}
        until, tell_at = time.monotonic() + 60 * self.wanted.minutes, time.monotonic()
        while (made := sizes(self.folder, "done")) < self.wanted.calls and time.monotonic() < until:
            if time.monotonic() > tell_at:
                print(f"{made:,} calls, {self.counts}", file=sys.stderr, flush=True)
                tell_at += TELL_S
            time.sleep(self.chance.uniform(1, 6))
            self.disturb()
            for worker in list(self.workers):
                self.look_at(worker, moved)
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            try:
                worker.wait(HANGS_S)
                self.note_end(worker)
            except subprocess.TimeoutExpired:
                self.counts["hung"] += 1
                worker.kill()
        time.sleep(LEASE_S + 2)
        return self.judge()

    def look_at(self, worker: subprocess.Popen[bytes], moved: dict[int, tuple[int, float]]) -> None:
        """Replace a worker that has ended, and end one that hangs."""
        now = time.monotonic()
        if worker.poll() is not None:
            self.note_end(worker)
            self.workers.remove(worker)
            self.start()
            return
        size = self.made_by(worker)
        before, since = moved.get(worker.pid, (-1, now))
        moved[worker.pid] = (size, now if size != before or would_run(worker.pid) else since)
        if now - moved[worker.pid][1] > (HANGS_S if size else STARTS_S):
            self.counts["hung"] += 1
            worker.send_signal(signal.SIGUSR1)  # its stacks go to the log
            time.sleep(1)
            worker.kill()

    def made_by(self, worker: subprocess.Popen[bytes]) -> int:
        """How many calls it has made."""
        path = self.folder / f"done-{worker.pid}"
        return path.stat().st_size if path.exists() else 0

    def note_end(self, worker: subprocess.Popen[bytes]) -> None:
        """A worker ends by a signal, and in no other way."""
        if worker.returncode not in (-signal.SIGTERM, -signal.SIGKILL):
            self.counts["crashed"] += 1
            print(f"worker {worker.pid} ended with {worker.returncode}", file=sys.stderr, flush=True)

    def unexplained(self) -> list[str]:
        """What the workers' log says while the ledger could be used, thresholds and good news aside."""
        out = []
        for line in (self.folder / "log").read_text(errors="replace").splitlines():
            if line.startswith("LOG "):
                _, at, logger, _ = line.split(maxsplit=3)
                expected = any(began <= float(at) <= end for began, end in self.outages)
                if not expected and logger != "tokenguard.budget" and "reached again" not in line:
                    out.append(line)
        return out

    def judge(self) -> dict[str, Any]:
        """What the provider says, and what the ledger does."""
        code = (
            "import json; from tokenguard import policy; from tokenguard.ledger import open_ledger\n"
            "p = policy.load('tokenguard.toml'); l = open_ledger(p.ledger, p.source); a = l.accounts()[0]\n"
            "print(json.dumps([a.spent_nano, a.reserved_nano, a.orphaned_nano]))"
        )
        out = subprocess.run(
            [sys.executable, "-c", code], cwd=self.folder, check=True, capture_output=True, text=True
        ).stdout
        spent, reserved, orphaned = (value / 1e9 for value in json.loads(out))
        billed = sizes(self.folder, "billed") * PRICE
        if self.redis is not None:
            self.redis.terminate()
        strange = self.unexplained()
        print(*strange[:20], sep="\n", file=sys.stderr)
        return {
            "calls": sizes(self.folder, "done"),
            "billed_usd": round(billed, 6),
            "ledger_usd": round(spent, 6),
            "of_it_orphaned_usd": round(orphaned, 6),
            "reserved_usd": reserved,
            "limit_usd": self.limit,
            "unexplained": len(strange),
            **self.counts,
        }


def main() -> int:
    """Run it, and say what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--ledger", choices=("sqlite", "redis"), default="sqlite")
    parser.add_argument("--limit", type=float, help="USD; by default what four fifths of the calls come to")
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between a worker's calls, on average")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    wanted = parser.parse_args()
    soak = Soak(wanted)
    found = soak.run()
    broken = [promise for promise, holds in PROMISES.items() if not holds(found)]
    print(json.dumps(found))
    if not broken and not wanted.keep:
        shutil.rmtree(soak.folder)
    else:
        print(f"what it left is in {soak.folder}")
    print(f"{wanted.ledger}: all promises were kept" if not broken else f"{wanted.ledger}: BROKEN: {'; '.join(broken)}")
    return 1 if broken else 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
