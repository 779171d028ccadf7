"""What a budget decision costs: `python benchmarks/ledger.py [--json]`, about twenty seconds.

Microseconds per call for matching the policy, reserving and settling, with 20 limits and 10 budgets in the policy, all
of them matching. Medians over rounds. Redis needs `redis-server` on PATH and is left out without it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenguard import policy
from tokenguard.ledger import Ledger, MemoryLedger, Reservation, nano
from tokenguard.ledger.redis import RedisLedger
from tokenguard.ledger.slices import SlicedLedger
from tokenguard.ledger.sqlite import SqliteLedger
from tokenguard.policy import CompiledPolicy

WHO = {"tenant": "t1", "feature": "support_chat", "team": "search", "user": "u1"}
ROUNDS = 7
WARM = 50


def make_policy(budgets: int = 10, limits: int = 20) -> CompiledPolicy:
    text = ""
    for i in range(limits):
        text += f'[[limit]]\nname = "limit {i}"\nwhen = {{ feature = "support_*", model = ["gpt-*", "x{i}"] }}\n'
        text += "max_output_tokens = 800\n"
    for i in range(budgets):
        window = ("minute", "hour", "day", "week", "month", "total")[i % 6]
        text += f'[[budget]]\nname = "budget {i}"\nper = ["{("tenant", "team")[i % 2]}"]\nwindow = "{window}"\n'
        text += 'timezone = "Europe/Berlin"\nlimit_usd = 1e6\n'
    return CompiledPolicy(policy.loads(text))


def measure(call: Callable[[], object], count: int) -> float:
    """Microseconds per call: the median over rounds."""
    for _ in range(WARM):
        call()
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(count):
            call()
        rounds.append((time.perf_counter() - start) / count * 1e6)
    return statistics.median(rounds)


def decision(compiled: CompiledPolicy, ledger: Ledger) -> Callable[[], object]:
    """Match, reserve, settle: what a guarded call pays."""
    amount, tokens = nano(0.0001), 100

    def call() -> None:
        matched = compiled.match("openai", "gpt-4o-mini", "chat", WHO)
        made = ledger.reserve(matched.entries(ledger.now()), amount, tokens)
        assert isinstance(made, Reservation)
        ledger.settle(made, amount, tokens)

    return call


def reserving(compiled: CompiledPolicy, ledger: Ledger) -> Callable[[], object]:
    """Only what is before the call: match and reserve."""

    def call() -> None:
        matched = compiled.match("openai", "gpt-4o-mini", "chat", WHO)
        made = ledger.reserve(matched.entries(ledger.now()), 1, 1)
        assert isinstance(made, Reservation)

    return call


async def awaited(compiled: CompiledPolicy, ledger: Ledger, count: int) -> float:
    entries = compiled.match("openai", "gpt-4o-mini", "chat", WHO).entries(ledger.now())
    start = time.perf_counter()
    for _ in range(count):
        made = await ledger.run(ledger.reserve, entries, 1, 1)
        assert isinstance(made, Reservation)
        await ledger.run(ledger.settle, made, 1, 1)
    return (time.perf_counter() - start) / count * 1e6


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    args = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    server = subprocess.Popen(args, stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    figures: dict[str, float] = {}
    compiled = make_policy()
    one = make_policy(budgets=1, limits=1)
    figures["match, 20 limits and 10 budgets"] = measure(
        lambda: compiled.match("openai", "gpt-4o-mini", "chat", WHO), 20_000
    )
    figures["match, 1 limit and 1 budget"] = measure(lambda: one.match("openai", "gpt-4o-mini", "chat", WHO), 20_000)
    new = itertools.count()
    figures["match, new combination"] = measure(lambda: compiled.match("openai", f"gpt-{next(new)}", "chat", WHO), 2000)
    memory = MemoryLedger()
    figures["memory, 10 budgets: match + reserve"] = measure(reserving(compiled, MemoryLedger()), 2000)
    figures["memory, 10 budgets: match + reserve + settle"] = measure(decision(compiled, memory), 5000)
    figures["memory, 1 budget: match + reserve + settle"] = measure(decision(one, memory), 5000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sqlite = SqliteLedger(folder / "ledger.db")
        figures["sqlite, 10 budgets: match + reserve + settle"] = measure(decision(compiled, sqlite), 300)
        figures["sqlite, 1 budget: match + reserve + settle"] = measure(decision(one, sqlite), 300)
        entries = compiled.match("openai", "gpt-4o-mini", "chat", WHO).entries(sqlite.now())
        figures["sqlite, 10 budgets: reserve"] = measure(lambda: sqlite.reserve(entries, 1, 1), 300)
        figures["sqlite, 10 budgets, awaited: reserve + settle"] = asyncio.run(awaited(compiled, sqlite, 500))
        sliced = SlicedLedger(sqlite, share=0.01)
        figures["sqlite, slices, 10 budgets: match + reserve + settle"] = measure(decision(compiled, sliced), 5000)
        sliced.close()
        if shutil.which("redis-server"):
            with redis_server(folder) as url:
                redis = RedisLedger(url)
                figures["redis, bare PING"] = measure(redis._client.ping, 500)
                entries = compiled.match("openai", "gpt-4o-mini", "chat", WHO).entries(redis.now())
                figures["redis, 10 budgets: reserve (one round trip)"] = measure(
                    lambda: redis.reserve(entries, 1, 1), 300
                )
                figures["redis, 10 budgets: match + reserve + settle"] = measure(decision(compiled, redis), 300)
                figures["redis, 1 budget: match + reserve + settle"] = measure(decision(one, redis), 300)
                figures["redis, 10 budgets, awaited: reserve + settle"] = asyncio.run(awaited(compiled, redis, 500))
                sliced = SlicedLedger(redis, share=0.01)
                figures["redis, slices, 10 budgets: match + reserve + settle"] = measure(
                    decision(compiled, sliced), 5000
                )
                figures["redis, slices, 1 budget: match + reserve + settle"] = measure(decision(one, sliced), 5000)
                figures["redis, slices, 10 budgets, awaited: reserve + settle"] = asyncio.run(
                    awaited(compiled, sliced, 5000)
                )
                sliced.close()
    if "--json" in sys.argv:
        print(json.dumps(figures))
        return
    for what, microseconds in figures.items():
        print(f"{microseconds:9.2f} us  {what}")


if __name__ == "__main__":
    main()
