"""What metering a call costs: TokenGuard, a hand-written floor, and other instrumentations, in one interleaved run.

    python3 benchmarks/run.py [--quick] [--only NAME ...] [--rounds N] [--readme]

Needs nothing but Python and the package index: each contender gets a process in a cached virtual environment under
`.venvs/` (those that ask for the same packages share one), and the rounds go over all of them in shuffled order.
Writes benchmarks/results.md and results.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import counting
import table
from contenders import CONTENDERS, ROOT, Contender

TURNS = {
    "chat": 50,
    "stream": 4,
    "stream short": 30,
    "async 64": 1,
    "responses": 50,
    "embeddings": 80,
    "anthropic": 80,
    "anthropic stream": 8,
    "anthropic stream short": 60,
    "google": 30,
    "bedrock": 30,
    "mistral": 30,
}
"""Turns of each scenario in a round: each takes a few hundredths of a second."""
CALLS_PER_TURN = {"async 64": 64}

FOREIGN = (
    "OTEL_",
    "TOKENGUARD_",
    "OPENAI_",
    "ANTHROPIC_",
    "LOGFIRE_",
    "OPENLIT_",
    "TRACELOOP_",
    "PYTHONPATH",
    "PYTHONDONT",
)
"""Environment variables that would change what is measured."""


class Failed(Exception):
    """A contender cannot be measured; the message is the reason that the table gives."""


# --- environments ----------------------------------------------------------------------------------------------------


def environment(requires: Iterable[str]) -> Path:
    """The Python of a virtual environment with these packages, made unless it is there already."""
    asked = [*requires]
    key = [platform.python_version(), *asked]
    if any(each.startswith("--editable") for each in asked):
        key.append((ROOT / "pyproject.toml").read_text())
    target = ROOT / ".venvs" / f"bench-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:10]}"
    done = target / ".done"
    if not done.exists():
        note(f"installing {' '.join(each for each in asked if not each.startswith('--'))}")
        shutil.rmtree(target, ignore_errors=True)
        made = subprocess.run(
            [sys.executable, str(ROOT / "scripts" / "make_venv.py"), str(target), *asked],
            capture_output=True,
            text=True,
        )
        if made.returncode:
            errors = [line for line in made.stderr.splitlines() if line.startswith("ERROR")] or ["ERROR: pip failed"]
            raise Failed(f"cannot be installed: {errors[0].removeprefix('ERROR: ')}")
        done.touch()
    return target / "bin" / "python"


def environ(contender: Contender, folder: Path) -> dict[str, str]:
    """The worker's environment: nothing that is set here by chance, and a local store of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    store = folder / f"{hashlib.sha256(contender.name.encode()).hexdigest()[:8]}.db"
    return {**kept, "TOKENGUARD_STORE": str(store), **contender.environ}


# --- workers ---------------------------------------------------------------------------------------------------------


class Process:
    """A worker, and what it said of itself; with `counts`, one that counts the instructions of these scenarios."""

    def __init__(
        self,
        contender: Contender,
        python: Path,
        folder: Path,
        base: str = "bare",
        counts: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        self.contender, self.python, self.base = contender, python, base
        self.errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - it lives as long as the process
        program = [str(python), str(ROOT / "benchmarks" / "worker.py"), contender.name, *counts]
        self.process = subprocess.Popen(
            counting.command(folder, program) if counts else program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            cwd=folder,
            env=environ(contender, folder) | (counting.environ(seed) if counts else {}),
        )
        self.hello = self.answer()
        self.rounds: dict[str, list[dict[str, int]]] = {}

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            said = self.errors.read().strip().splitlines() or ["it said nothing"]
            raise Failed(f"its process ended: {said[-1]}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def ask(self, do: str, **command: Any) -> dict[str, Any]:
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"do": do, **command}) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def turn(self, scenario: str, turns: int) -> None:
        """One round of a scenario; keeps nanoseconds per call."""
        took = self.ask("run", scenario=scenario, n=turns)
        each = turns * CALLS_PER_TURN.get(scenario, 1)
        self.rounds.setdefault(scenario, []).append({clock: round(ns / each) for clock, ns in took.items()})

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()
        self.errors.close()


class Field:
    """All workers of a run, and the reasons of those that are missing."""

    def __init__(self, contenders: list[Contender], folder: Path) -> None:
        self.folder = folder
        self.workers: dict[str, Process] = {}
        self.missing: dict[str, str] = {}
        for contender in contenders:
            try:
                self.start(contender)
            except Failed as reason:
                self.missing[contender.name] = str(reason)
                note(f"{contender.name}: {reason}")

    def start(self, contender: Contender) -> None:
        python = environment(contender.requires)
        worker = Process(contender, python, self.folder)
        base = self.workers.get("bare")
        if base is not None and base.hello["sdks"] != worker.hello["sdks"]:
            # Other versions of the SDKs: a bare worker beside it, in the same environment.
            worker.base = f"bare beside {contender.name}"
            self.workers[worker.base] = Process(CONTENDERS[0], python, self.folder, base=worker.base)
        self.workers[contender.name] = worker
        note(f"{contender.name}: ready")

    def rounds(self, count: int, shuffle: random.Random) -> None:
        """Short turns of every scenario by every worker, in an order that changes from round to round."""
        for number in range(count):
            note(f"round {number + 1} of {count}")
            for scenario in shuffle.sample([*TURNS], len(TURNS)):
                for name in shuffle.sample([*self.workers], len(self.workers)):
                    worker = self.workers[name]
                    if scenario in worker.hello["scenarios"]:
                        try:
                            worker.turn(scenario, TURNS[scenario])
                        except (Failed, OSError) as reason:
                            if worker.base == name:
                                raise  # others are compared with it
                            self.missing[name] = f"{scenario}: {reason}"
                            del self.workers[name]

    def starts(self, count: int) -> dict[str, float]:
        """Milliseconds of CPU of a start up to the end of the first calls, the median over fresh processes."""
        took: dict[str, list[float]] = {name: [worker.hello["start_ms"]] for name, worker in self.workers.items()}
        for _ in range(count - 1):
            for name, worker in self.workers.items():
                again = Process(worker.contender, worker.python, self.folder)
                took[name].append(again.hello["start_ms"])
                again.close()
        return {name: statistics.median(each) for name, each in took.items()}

    def report(self, starts: dict[str, float]) -> dict[str, Any]:
        """Contender -> what was measured and seen."""
        rows = {}
        for name, worker in self.workers.items():
            all_scenarios = not worker.contender.scenarios  # else its start and its memory are not the bare one's
            rows[name] = {
                **worker.hello,
                "base": worker.base,
                "start_ms": starts[name],
                "added_start_ms": starts[name] - starts[worker.base] if all_scenarios else None,
                "added_rss": worker.hello["rss"] - self.workers[worker.base].hello["rss"] if all_scenarios else None,
                "seen": worker.ask("check"),
                "rounds": worker.rounds,
            }
        return rows

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()


# --- beside the calls ------------------------------------------------------------------------------------------------

API_ONLY = "from opentelemetry import context, metrics, trace"
INSTALL = "import tokenguard; tokenguard.install()"
TIMED = """\
import sys, time
started = time.perf_counter()
{code}
took = (time.perf_counter() - started) * 1e3
print(took, *sys.modules.keys() & {{"openai", "anthropic", "groq", "together", "cerebras", "httpx", "httpx2"}})
"""


def imports(python: Path, folder: Path, runs: int) -> dict[str, Any]:
    """Milliseconds of importing and installing TokenGuard with no SDK imported, and of OpenTelemetry's API alone."""
    took: dict[str, list[float]] = {API_ONLY: [], INSTALL: []}
    sdks: set[str] = set()
    env = environ(CONTENDERS[0], folder)
    for _ in range(runs):
        for code, each in took.items():
            ran = subprocess.run(
                [str(python), "-c", TIMED.format(code=code)], capture_output=True, text=True, cwd=folder, env=env
            )
            if ran.returncode:
                raise Failed(ran.stderr.strip().splitlines()[-1])
            milliseconds, *loaded = ran.stdout.split()
            each.append(float(milliseconds))
            sdks.update(loaded)
    medians = [statistics.median(each) for each in took.values()]
    return {"api_ms": medians[0], "tokenguard_ms": medians[1], "runs": runs, "sdks": sorted(sdks)}


def growth(names: Iterable[str], field: Field, calls: int) -> dict[str, Any]:
    """Bytes by which fresh workers grow from a fifth of so many chats to all of them."""
    grown = {}
    for name in names:
        if name not in field.workers:
            continue
        note(f"{name}: {calls:,} calls")
        worker = Process(field.workers[name].contender, field.workers[name].python, field.folder)
        sizes = []
        for _ in range(5):
            for _ in range(5):
                worker.ask("run", scenario="chat", n=calls // 25)
            sizes.append(worker.ask("rss")["rss"])
        worker.close()
        grown[name] = {"from": calls // 5, "to": calls, "grown": sizes[-1] - sizes[0], "sizes": sizes}
    return grown


def count(field: Field, rows: dict[str, Any], folder: Path) -> None:
    """Put into the rows the instructions that each contender adds to a call of chat, where valgrind is there."""
    from counted import counted  # it starts its processes as this module does

    if (missing := counting.missing()) is not None:
        note(f"instructions are not counted: {missing}")
        return
    counts = counted({name: worker.python for name, worker in field.workers.items()}, {"chat": 4}, folder)
    for name, row in rows.items():
        mine, base = (counts.get(each, {}).get("chat") for each in (name, row["base"]))
        if mine is not None and base is not None:
            row["added_instructions"] = mine - base


def machine() -> str:
    """Processor, cores and Python."""
    cpu = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        cpu = models[0] if models else cpu
    return f"{cpu}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def note(text: str) -> None:
    """Progress, beside the table."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description="What metering a call costs.")
    parser.add_argument("--quick", action="store_true", help="few rounds: a look, not a figure to publish")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these contenders (bare and floor are always there)")
    parser.add_argument("--rounds", type=int, help="rounds to measure (default 50, quick 9)")
    parser.add_argument("--calls", type=int, help="calls over which memory is watched (default 100,000, quick 0)")
    parser.add_argument("--readme", action="store_true", help="put the table into docs/benchmarks.md too")
    parser.add_argument(
        "--clock", choices=("wall", "thread"), default="thread", help="of the caller's path in the table"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the order in which the rounds go")
    asked = parser.parse_args()
    known = [contender.name for contender in CONTENDERS]
    if unknown := set(asked.only or ()) - set(known):
        parser.error(f"no contender {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    rounds = asked.rounds or (9 if asked.quick else 50)
    calls = asked.calls if asked.calls is not None else (0 if asked.quick else 100_000)
    wanted = {"bare", "floor", *(asked.only or known)}

    load = os.getloadavg()[0]
    if load > 0.5:
        note(f"the machine is busy (load {load:.1f}): the noise line will show it; figures to publish need it idle")

    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder = Path(temporary)
        field = Field([contender for contender in CONTENDERS if contender.name in wanted], folder)
        if "bare" not in field.workers:
            sys.exit(f"The bare SDK cannot be measured, so nothing can: {field.missing['bare']}")
        field.rounds(1, random.Random(asked.seed))  # warms up
        for worker in field.workers.values():
            worker.rounds.clear()
        field.rounds(rounds, random.Random(asked.seed))
        results: dict[str, Any] = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": machine(),
            "load": load,
            "rounds": rounds,
            "clock": asked.clock,
            "contenders": field.report(field.starts(1 if asked.quick else 5)),
            "missing": field.missing,
        }
        field.close()
        count(field, results["contenders"], folder)
        if "tokenguard" in field.workers:
            python = field.workers["tokenguard"].python
            try:
                results["imports"] = imports(python, folder, 5 if asked.quick else 15)
            except Failed as reason:
                field.missing["import time"] = str(reason)
            if calls:
                results["growth"] = growth(("tokenguard", "floor"), field, calls)
    table.write(results, readme=asked.readme)


if __name__ == "__main__":
    main()
