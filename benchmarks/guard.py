"""What the guard's decision adds to a call: 20 limits and 10 budgets, against the same calls with no policy.

    .venv/bin/python benchmarks/guard.py

The path of a call without its SDK: from the exchange to the settled budget, in one process, medians over interleaved
rounds. The prompt is 100 kB, so that only its length may decide.
"""

from __future__ import annotations

import gc
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ["TOKENGUARD_STORE"] = "off"

import openai
from openai._models import FinalRequestOptions

import tokenguard
from tokenguard import policy, runtime
from tokenguard.metering import drive
from tokenguard.seams import stainless

BODY = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "system", "content": "word " * 20_000}, {"role": "user", "content": "?"}],
    "max_tokens": 100,
}
RULES = "".join(
    f'[[limit]]\nname = "l{n}"\nwhen = {{ feature = "f*" }}\nmax_input_tokens = {200_000 + n}\n'
    f"max_output_tokens = {500 + n}\nmax_tool_steps = {9 + n}\n"
    for n in range(20)
) + "".join(
    f'[[budget]]\nname = "b{n}"\nper = ["tenant"]\nwindow = "{window}"\nlimit_usd = 1000000\n'
    for n, window in enumerate(["minute", "hour", "day", "week", "month"] * 2)
)
LEDGERS = {
    "memory": '[ledger]\nurl = "memory:"\n',
    "sqlite": '[ledger]\nurl = "sqlite:///{folder}/ledger.db"\n',
    "sqlite, slices": '[ledger]\nurl = "sqlite:///{folder}/sliced.db"\nslice = 0.01\n',
}
ROUNDS, TURNS = 31, 60


def main() -> None:
    client = openai.OpenAI(api_key="k")
    options = FinalRequestOptions.construct(method="post", url="/chat/completions", json_data=BODY)
    answer = {
        "id": "c",
        "model": "gpt-4o-mini",
        "choices": [{"finish_reason": "stop", "message": {"content": "."}}],
        "usage": {"prompt_tokens": 20_000, "completion_tokens": 10},
    }
    tokenguard.install(policy.Policy())
    meter = runtime._installed.meter
    guards = {"no policy": None}
    with tempfile.TemporaryDirectory() as folder:
        for name, ledger in LEDGERS.items():
            tokenguard.install(policy.loads(ledger.format(folder=folder) + RULES, str(Path(folder, "tokenguard.toml"))))
            guards[name] = meter.guard

        def call() -> None:
            exchange = stainless._exchange(client, dict, options, False, "openai", False)
            drive(meter.flow(exchange), lambda: answer)

        times: dict[str, list[float]] = {name: [] for name in guards}
        with tokenguard.attribution(tenant="t", feature="f"):
            for _ in range(ROUNDS):
                for name in random.sample(list(guards), len(guards)):
                    meter.guard = guards[name]
                    call()
                    gc.collect()
                    start = time.thread_time_ns() if name != "sqlite" else time.perf_counter_ns()
                    for _ in range(TURNS):
                        call()
                    end = time.thread_time_ns() if name != "sqlite" else time.perf_counter_ns()
                    times[name].append((end - start) / TURNS / 1000)
        bare = statistics.median(times["no policy"])
        print(f"{'a call without its SDK':24}{bare:9.1f} us")
        for name in LEDGERS:
            print(f"{'added, ' + name:24}{statistics.median(times[name]) - bare:9.1f} us")
        for guard in guards.values():
            if guard is not None:
                guard.close()


if __name__ == "__main__":
    sys.exit(main())
