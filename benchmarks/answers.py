"""What an answer cache adds to a call: `.venv/bin/python benchmarks/answers.py [--counted]`.

The real SDK over an in-process transport, CPU of the calling thread, medians over interleaved rounds: the bare SDK, the
SDK measured under a limit, a miss (looked up, sent, kept) and a hit, with answers in memory. Each question of 1.5 kB is
new, but for the hits. Beside them, what looking up takes by itself, and what the SDK takes to read an answer.

With `--counted`, instructions in place of microseconds (`counting.py`): no load of the machine is in them. Valgrind
offers no instructions for SHA-256, which a processor does in a tenth of what is counted for it.
"""

from __future__ import annotations

import functools
import gc
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
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

ROUNDS, CALLS = 31, 50
WARM, TURNS = 60, 20
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
        for _ in answers.look_up(*asked, serves=True):
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


def timed() -> dict[str, float]:
    """Microseconds of each way."""
    measured, times = ways(), dict[str, list[float]]()
    for _ in range(ROUNDS):
        for name, (rules, call) in measured.items():
            installed(rules)
            times.setdefault(name, []).append(cpu(call))
    return {name: statistics.median(found) for name, found in times.items()}


def installed(rules: str | None) -> None:
    if rules is None:
        tokenguard.uninstall()
    else:
        tokenguard.install(policy.loads(rules, "tokenguard.toml"))


def repeated(call: Callable[[], object]) -> None:
    for _ in range(TURNS):
        call()


def counted(folder: Path) -> dict[str, float]:
    """Thousands of instructions of each way."""
    counter, found = counting.Counter(folder), dict[str, float]()
    for name, (rules, call) in ways().items():
        installed(rules)
        for _ in range(WARM):
            call()
        found[name] = counter.count(functools.partial(repeated, call)) / TURNS / 1e3
    return found


def main() -> int:
    """Measure, and print."""
    if "--counted" in sys.argv:
        if (missing := counting.missing()) is not None:
            print(f"not counted: {missing}. Debian: apt-get install valgrind gcc", file=sys.stderr)
            return 0
        with tempfile.TemporaryDirectory(prefix="counted-") as folder:
            again = [sys.executable, __file__, "--within", folder]
            environ = {**os.environ, **counting.environ(0)}
            return subprocess.run(counting.command(Path(folder), again), env=environ, check=False).returncode
    within = sys.argv[1:2] == ["--within"]
    found = counted(Path(sys.argv[2])) if within else timed()
    unit = "thousand instructions" if within else "us"
    for name, value in found.items():
        print(f"{name:24}{value:8,.0f} {unit}")
    print(f"a miss adds {found['a miss'] - found['measured, with a limit']:,.0f} {unit} to a measured call")
    print(f"a hit adds {found['a hit'] - found['the bare SDK']:,.0f} {unit} to the bare SDK's call")
    return 0


if __name__ == "__main__":
    sys.exit(main())
