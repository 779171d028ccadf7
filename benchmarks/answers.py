"""What an answer cache adds to a call: `.venv/bin/python benchmarks/answers.py [--counted]`.

The real SDK over an in-process transport: the bare SDK, the SDK measured under a limit, a miss (looked up, sent, kept)
and a hit, with answers in memory. Each question of 1.5 kB is new, but for the hits. Beside them, what looking up takes
in a loop by itself, and what the SDK takes to read an answer.

Each is measured in processes of its own, which install once, as a program does: to install another policy in between
makes the interpreter forget what it had adapted itself to. The processes take turns. CPU of the calling thread; the
median of a process's rounds, and the mean over processes, for where a process's names lie in memory is worth some
microseconds.

With `--counted`, instructions in place of microseconds (`counting.py`): no load of the machine is in them. Valgrind
runs what is counted on a simple processor, for which hashing takes more instructions.
"""

from __future__ import annotations

import functools
import gc
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ["TOKENGUARD_STORE"] = "off"

import counting
import openai
from openai import DefaultHttpxClient
from openai._models import construct_type
from openai.types.chat import ChatCompletion

import tokenguard
from tokenguard import policy

PROCESSES, ROUNDS, CALLS = 4, 31, 60
WARM, TURNS = 400, 20
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


class Looking:
    """One call's look-up, again and again."""

    def __init__(self) -> None:
        self._asked: tuple[Any, ...] = ()

    def remember(self, ask: Callable[[], object]) -> None:
        """Have a call looked up, and keep in mind how."""
        from tokenguard.answers.answers import Answers

        look_up = Answers.look_up

        def remembering(*asked: Any, serves: bool) -> Any:
            self._asked = asked
            return look_up(*asked, serves=serves)

        Answers.look_up = remembering  # type: ignore[method-assign, assignment]
        ask()
        Answers.look_up = look_up  # type: ignore[method-assign]
        self._asked[0].finish()
        self._asked[0].store.clear()

    def __call__(self) -> None:
        answers, *asked = self._asked
        if answers.look_up(*asked, serves=True) is not None:
            raise RuntimeError("memory has no round trip")


def ways() -> dict[str, tuple[str | None, Callable[[], object]]]:
    """What is measured: under which rules, and a call."""
    asked, number, looking = client(), itertools.count(), Looking()

    def ask(question: str) -> object:
        said = [{"role": "user", "content": question}]
        return asked.chat.completions.create(model="gpt-4o-mini", messages=said, temperature=0, max_tokens=500)

    def new() -> object:
        return ask(f"{'word ' * 300}{next(number)}")

    def same() -> object:
        return ask("word " * 300)

    def look_up() -> None:
        if not looking._asked:
            looking.remember(new)
        looking()

    said = json.dumps(ANSWER).encode()

    def parse() -> object:
        return construct_type(type_=ChatCompletion, value=json.loads(said))

    return {
        "the bare SDK": (None, new),
        "of that, its reading": (None, parse),
        "measured, with a limit": (LIMIT, new),
        "a miss": (CACHE + LIMIT, new),
        "of that, looking up": (CACHE + LIMIT, look_up),
        "a hit": (CACHE + LIMIT, same),
    }


def installed(rules: str | None) -> None:
    if rules is not None:
        tokenguard.install(policy.loads(rules, "tokenguard.toml"))


def repeated(call: Callable[[], object]) -> None:
    for _ in range(TURNS):
        call()


def within(name: str, folder: str) -> None:
    """One way in this process: counted in `folder`, or timed as often as a line comes in."""
    rules, call = ways()[name]
    installed(rules)
    for _ in range(WARM):
        call()
    if folder:
        counter = counting.Counter(Path(folder))
        print(min(counter.count(functools.partial(repeated, call)) for _ in range(3)) / TURNS / 1e3)
        return
    print("ready", flush=True)
    for _ in sys.stdin:
        print(cpu(call), flush=True)


def timed() -> dict[str, float]:
    """Microseconds of each way."""
    times = dict[tuple[str, int], list[float]]()
    started = {
        (name, number): subprocess.Popen(
            [sys.executable, __file__, "--within", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ways()
        for number in range(PROCESSES)
    }
    for each in started.values():
        said(each)
    for _ in range(ROUNDS):
        for which in random.sample(list(started), len(started)):
            each = started[which]
            assert each.stdin is not None
            each.stdin.write("\n")
            each.stdin.flush()
            times.setdefault(which, []).append(float(said(each)))
    for each in started.values():
        each.communicate()
    medians = {which: statistics.median(found) for which, found in times.items()}
    return {name: statistics.mean(median for (its, _), median in medians.items() if its == name) for name, _ in medians}


def said(process: subprocess.Popen[str]) -> str:
    """What a process says next."""
    assert process.stdout is not None
    return process.stdout.readline()


def counted() -> dict[str, float]:
    """Thousands of instructions of each way."""
    with tempfile.TemporaryDirectory(prefix="counted-") as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        there = [(name, seed, Path(tempfile.mkdtemp(dir=folder))) for name in ways() for seed in range(counting.SEEDS)]
        counts = dict[str, list[float]]()
        for name, count in pool.map(counted_once, there):
            counts.setdefault(name, []).append(count)
    return {name: statistics.median(found) for name, found in counts.items()}


def counted_once(what: tuple[str, int, Path]) -> tuple[str, float]:
    """One way, in a process of its own."""
    name, seed, folder = what
    program = counting.command(folder, [sys.executable, __file__, "--within", name, str(folder)])
    ran = subprocess.run(
        program, env={**os.environ, **counting.environ(seed)}, stdout=subprocess.PIPE, text=True, check=True
    )
    return name, float(ran.stdout)


def main() -> int:
    """Measure, and print."""
    if sys.argv[1:2] == ["--within"]:
        within(sys.argv[2], "".join(sys.argv[3:4]))
        return 0
    counts = "--counted" in sys.argv
    if counts and (missing := counting.missing()) is not None:
        print(f"not counted: {missing}. Debian: apt-get install valgrind gcc", file=sys.stderr)
        return 0
    found, unit = (counted(), "thousand instructions") if counts else (timed(), "us")
    for name, value in found.items():
        print(f"{name:24}{value:8,.0f} {unit}")
    print(f"a miss adds {found['a miss'] - found['measured, with a limit']:,.0f} {unit} to a measured call")
    print(f"a hit adds {found['a hit'] - found['the bare SDK']:,.0f} {unit} to the bare SDK's call")
    return 0


if __name__ == "__main__":
    sys.exit(main())
