"""What an answer cache adds to a call: `.venv/bin/python benchmarks/answers.py`.

The real SDK over an in-process transport, CPU of the calling thread, medians over interleaved rounds: the bare SDK, the
SDK measured under a limit, a miss (looked up, sent, kept) and a hit, with answers in memory. Each question of 1.5 kB is
new, but for the hits.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable

os.environ["TOKENGUARD_STORE"] = "off"

import openai
from openai import DefaultHttpxClient

import tokenguard
from tokenguard import policy

ROUNDS, CALLS = 31, 50
ANSWER = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Paris. " * 60}}],
    "usage": {"prompt_tokens": 400, "completion_tokens": 120, "total_tokens": 520},
}
LIMIT = '[[limit]]\nname = "l"\nmax_output_tokens = 9999\n[attribution]\ndefaults = { tenant = "t" }\n'
CACHE = '[[cache]]\nname = "c"\n'


def client() -> openai.OpenAI:
    """The SDK, over a transport that answers at once."""
    http = __import__(DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])  # httpx, or httpx2
    body = json.dumps(ANSWER).encode()

    def answer(request: object) -> object:
        return http.Response(200, headers={"content-type": "application/json"}, content=body)

    return openai.OpenAI(api_key="k", http_client=http.Client(transport=http.MockTransport(answer)))


def cpu(call: Callable[[], object]) -> float:
    """Microseconds of the thread per call."""
    call()
    gc.collect()
    began = time.thread_time_ns()
    for _ in range(CALLS):
        call()
    return (time.thread_time_ns() - began) / CALLS / 1e3


def main() -> None:
    asked, number = client(), itertools.count()

    def ask(question: str) -> object:
        said = [{"role": "user", "content": question}]
        return asked.chat.completions.create(model="gpt-4o-mini", messages=said, temperature=0, max_tokens=500)

    def new() -> object:
        return ask(f"{'word ' * 300}{next(number)}")

    def same() -> object:
        return ask("word " * 300)

    ways: dict[str, tuple[str | None, Callable[[], object]]] = {
        "the bare SDK": (None, new),
        "measured, with a limit": (LIMIT, new),
        "a miss": (CACHE + LIMIT, new),
        "a hit": (CACHE + LIMIT, same),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (rules, call) in ways.items():
            if rules is None:
                tokenguard.uninstall()
            else:
                tokenguard.install(policy.loads(rules, "tokenguard.toml"))
            times[name].append(cpu(call))
    medians = {name: statistics.median(found) for name, found in times.items()}
    for name, us in medians.items():
        print(f"{name:24}{us:8.0f} us")
    print(f"a miss adds {medians['a miss'] - medians['measured, with a limit']:.0f} us")


if __name__ == "__main__":
    main()
