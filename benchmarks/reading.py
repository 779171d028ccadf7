"""How long reading a large store takes: `python benchmarks/reading.py [--calls 1000000] [--store FILE]`, four minutes.

Makes a store of so many calls (8 features, 6 models, 500 tenants, 50,000 users, 30 days, 2 % errors), or takes one that
is there, and prints what the report and the page take on it: CPU seconds of a whole process for the commands, and for
the page what a browser waits for over HTTP. With Chromium on PATH, also when it has painted the page.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tokenguard.facts import names
from tokenguard.facts.record import CallRecord, TaskRecord
from tokenguard.store.store import Store

DAYS = 30
DAY_NS = 86_400 * 10**9
BATCH = 10_000
ROUNDS = 5
FEATURES = ("support", "rag", "search", "triage", "digest", "faq", "summary", "extract")
MODELS = (
    ("openai", "gpt-4o", 2.5, 10.0),
    ("openai", "gpt-4o-mini", 0.15, 0.6),
    ("openai", "gpt-4.1", 2.0, 8.0),
    ("anthropic", "claude-sonnet-4-5", 3.0, 15.0),
    ("anthropic", "claude-haiku-4-5", 1.0, 5.0),
    ("google", "gemini-2.5-flash", 0.3, 2.5),
)
SECTIONS = ("system", "tools", "history", "last")
COMMANDS = (
    "report",
    "report --by feature,model --since 7d",
    "report --by tenant",
    "report --by day",
    "report --by call_site --format json",
    "report --by user",
    "report --by hour --since 7d",
    "report --by section",
    "report --by task_run",
    "calls",
    "calls --sort latency",
    "whatif --suggest --since 24h",
)
PAGES = (
    "?period=7d",
    "?period=30d&by=tenant",
    "?period=all&by=model",
    "?period=7d&by=user",
    "later?period=7d",
    "state",
)


def records(count: int, seed: int = 7) -> Iterator[CallRecord | TaskRecord]:
    """Calls in the order of time, up to now, and a task for each hundredth."""
    rng = random.Random(seed)
    first = time.time_ns() - DAYS * DAY_NS
    step = DAYS * DAY_NS // count
    for n in range(count):
        provider, model, input_rate, output_rate = MODELS[int(rng.random() ** 2 * len(MODELS))]
        feature = FEATURES[int(rng.random() ** 2 * len(FEATURES))]
        number = rng.randrange(500, 6000)
        read = number // 2 if rng.random() < 0.4 else 0
        answer = rng.randrange(20, 700)
        part = number // len(SECTIONS)
        usd = ((number - read) * input_rate / 1e6, answer * output_rate / 1e6, read * input_rate / 1e7)
        start = first + n * step
        attributes = {
            names.OPERATION: "chat",
            names.PROVIDER: provider,
            names.REQUEST_MODEL: model,
            names.RESPONSE_MODEL: model,
            names.CODE_FILE: f"/srv/app/{feature}.py",
            names.CODE_LINE: 10 * (n % 4) + 12,
            names.CODE_FUNCTION: "answer",
            names.REQUEST_HASH: f"{rng.randrange(count * 8):016x}",
            names.TASK: f"{feature} task",
            names.TASK_RUN: f"{n // 4:016x}",
            "tokenguard.feature": feature,
            "tokenguard.tenant": f"tenant-{int(rng.random() ** 3 * 500)}",
            "tokenguard.user": f"user-{rng.randrange(50_000)}",
            "tokenguard.team": f"team-{n % 5}",
            "tokenguard.prompt_version": f"v{1 + (n * 3) // count}",
        }
        if rng.random() < 0.02:
            outcome = names.ERROR
            attributes[names.ERROR_TYPE] = rng.choice(("openai.RateLimitError", "openai.APITimeoutError"))
        else:
            outcome = names.OK
            attributes |= {
                names.INPUT_TOKENS: number,
                names.OUTPUT_TOKENS: answer,
                names.CACHE_READ_TOKENS: read,
                names.TIME_TO_FIRST_CHUNK: rng.random() / 2,
                names.COST: sum(usd),
                names.COST_STATUS: names.EXACT,
                names.COST_INPUT: usd[0],
                names.COST_OUTPUT: usd[1],
                names.COST_CACHE_READ: usd[2],
                names.COST_SAVED: 9 * usd[2],
                **{names.input_attribute(section): part for section in SECTIONS[1:]},
                names.input_attribute(SECTIONS[0]): number - part * (len(SECTIONS) - 1),
            }
            if n % 3 == 0:
                attributes[names.REQUEST_MAX_TOKENS] = 800
            if not read and n % 20 == 0:
                attributes |= {
                    names.BREAK_KIND: "changed",
                    names.BREAK_SECTION: "messages",
                    names.BREAK_INDEX: 0,
                    names.BREAK_OFFSET: 256,
                    names.BREAK_TOKENS: number // 2,
                    names.BREAK_USD: usd[0] / 2,
                }
        took = int(rng.lognormvariate(0, 0.8) * 1e9)
        yield CallRecord(start, took, outcome, attributes, f"{n // 4:032x}", f"{n:016x}")
        if n % 100 == 0:
            ended = names.OK if n % 700 else names.ERROR
            yield TaskRecord(f"{feature} task", start, took, ended, sum(usd), 1, {"feature": feature})


def make(path: Path, count: int) -> None:
    """Write the store, through the store's own writer, which keeps the daily sums as it goes."""
    store = Store(path, days=0)
    batch: list[CallRecord | TaskRecord] = []
    for record in records(count):
        batch.append(record)
        if len(batch) >= BATCH:
            store.write(batch)
            batch = []
    store.write(batch)
    for _ in range(20):
        store.write(())  # the rest of the sums
    store.close()


def command(store: Path, said: str) -> tuple[float, float, int]:
    """CPU and wall seconds of a whole process, and the most memory that it held, in MB."""
    began = time.perf_counter()
    program = [sys.executable, "-m", "tokenguard", *said.split(), "--source", str(store)]
    running = subprocess.Popen(program, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(running.pid, 0)
    running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise subprocess.CalledProcessError(running.returncode, program)
    return used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_maxrss // 1024


def get(url: str, server: int) -> tuple[float, float, float, int]:
    """Seconds to the first byte and to the last, CPU seconds of the server, and how many bytes."""
    began, spent = time.perf_counter(), cpu_of(server)
    with urllib.request.urlopen(url, timeout=120) as answer:
        first = answer.read(1)
        at = time.perf_counter() - began
        size = len(first + answer.read())
    return at, time.perf_counter() - began, cpu_of(server) - spent, size


def cpu_of(process: int) -> float:
    """CPU seconds of a process so far."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def painted(url: str) -> dict[str, float] | None:
    """Milliseconds until a browser has the first byte, and has painted the page, by its own trace."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
        options += [f"--user-data-dir={folder}/profile", "--window-size=1280,900", f"--screenshot={folder}/page.png"]
        options += [f"--trace-startup-file={trace}", "--trace-startup=devtools.timeline,loading,blink.user_timing"]
        options += ["--trace-startup-format=json", "--trace-startup-duration=0"]
        subprocess.run([chromium, *options, url], capture_output=True, check=True, timeout=120)
        events = json.loads(trace.read_text())["traceEvents"]
    starts = {event["name"]: event["ts"] for event in events if event.get("ph") in ("R", "I", "b", "i", "n")}
    begun = starts.get("navigationStart")
    if begun is None:
        return None
    wanted = ("responseStart", "domContentLoadedEventEnd", "firstContentfulPaint", "loadEventEnd")
    return {name: (starts[name] - begun) / 1000 for name in wanted if name in starts}


def served(store: Path) -> None:
    """What a browser waits for, from the command itself."""
    program = [sys.executable, "-m", "tokenguard", "dashboard", "--no-open", "--port", "0", "--source", str(store)]
    running = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        found = re.search(r"http://\S+", running.stdout.readline())
        assert found is not None
        url = found[0]
        for _ in range(100):
            try:
                first = get(url + PAGES[0], running.pid)
                break
            except OSError:
                time.sleep(0.05)
        print(f"the page, asked for the first time: first byte {first[0]:.2f} s, {first[2]:.2f} CPU s")
        print("\n| over HTTP | first byte, s | all, s | CPU s | kB |\n|---|---:|---:|---:|---:|")
        for page in PAGES:
            answers = [get(url + page, running.pid) for _ in range(ROUNDS)]
            byte, whole, cpu = (statistics.median(each[n] for each in answers) for n in (0, 1, 2))
            print(f"| `{page}` | {byte:.3f} | {whole:.3f} | {cpu:.2f} | {answers[0][3] / 1000:.0f} |", flush=True)
        for page in PAGES[:3]:
            print(f"in Chromium, `{page}`: {painted(url + page)}")
    finally:
        running.terminate()
        running.wait(timeout=20)


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--store", type=Path, help="a store to keep, or one that is there")
    parser.add_argument("--only", choices=["commands", "page"])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = asked.store or Path(folder) / "usage.db"
        if not store.exists():
            began = time.process_time()
            make(store, asked.calls)
            print(f"{asked.calls:,} calls written in {time.process_time() - began:.0f} CPU s")
        print(f"{store.stat().st_size / 1e6:,.0f} MB")
        if asked.only != "page":
            print("\n| command | CPU s | wall s | MB |\n|---|---:|---:|---:|")
            for said in COMMANDS:
                cpu, wall, memory = min(command(store, said) for _ in range(2))
                print(f"| `{said}` | {cpu:.2f} | {wall:.2f} | {memory} |", flush=True)
            print()
        if asked.only != "commands":
            served(store)


if __name__ == "__main__":
    main()
