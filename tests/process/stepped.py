"""Calls under a budget, each with an exception at another of the points where a signal handler could raise it.

    python stepped.py POLICY FIRST EVERY KIND

Python runs signal handlers after a call and at the beginning of a function, of a generator's step and of a loop's turn.
Each of these points in our own code is met once, of which only each `EVERY`th from `FIRST` on. Prints one JSON object;
what was left behind is told with the place where it was interrupted.
"""

from __future__ import annotations

import asyncio
import dis
import faulthandler
import gc
import json
import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import httpx2
import openai
from interrupted import TimeLimit, installed, is_caused, open_calls, provider, sweep

CHECKED = {
    dis.opmap[name] for name in ("CALL", "CALL_KW", "CALL_FUNCTION_EX", "RESUME", "JUMP_BACKWARD") if name in dis.opmap
}
"""The instructions after which Python looks for signals."""
FAILED = {dis.opmap[name] for name in ("PUSH_EXC_INFO", "CLEANUP_THROW") if name in dis.opmap}
"""Where it goes on after one that has raised: then it has not looked."""
ASK = {"model": "gpt-4o", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}
CLIENT = openai.OpenAI(api_key="k", max_retries=0, http_client=httpx2.Client(transport=httpx2.MockTransport(provider)))


def plain() -> None:
    CLIENT.chat.completions.create(**ASK)


def stream() -> Any:
    return CLIENT.chat.completions.create(**ASK, stream=True)


def read() -> None:
    for _ in stream():
        pass


def broken_off() -> None:
    for _ in stream():
        break


def closed() -> None:
    with stream() as chunks:
        next(iter(chunks))


def collected() -> None:
    chunks = stream()
    next(iter(chunks))
    del chunks
    gc.collect()


def raw() -> None:
    with CLIENT.chat.completions.with_streaming_response.create(**ASK) as response:
        response.read()


async def _asynchronous(streams: bool) -> None:
    transport = httpx2.AsyncClient(transport=httpx2.MockTransport(provider))
    async with openai.AsyncOpenAI(api_key="k", max_retries=0, http_client=transport) as client:
        if streams:
            async for _ in await client.chat.completions.create(**ASK, stream=True):
                pass
        else:
            await client.chat.completions.create(**ASK)


KINDS: dict[str, Callable[[], None]] = {
    "plain": plain,
    "read": read,
    "broken off": broken_off,
    "closed": closed,
    "collected": collected,
    "raw": raw,
    "asynchronous": lambda: asyncio.run(_asynchronous(False)),
    "asynchronous stream": lambda: asyncio.run(_asynchronous(True)),
}


class Stepper:
    """Raises at one point."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._last: dict[FrameType, int] = {}
        self.points = 0

    def run(self, at: int = -1) -> None:
        """Make the call, with the exception at this point."""
        self.points, self._at = 0, at
        sys.settrace(self._trace)
        try:
            self._call()
        finally:
            sys.settrace(None)
            self._last.clear()

    def _trace(self, frame: FrameType, event: str, arg: object) -> Any:
        if "/tokenguard/" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step

    def _step(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "opcode":
            now = frame.f_code.co_code[frame.f_lasti]
            if self._last.get(frame) in CHECKED and now not in FAILED:
                self.points += 1
                if self.points == self._at:
                    raise TimeLimit
            self._last[frame] = now
        return self._step


def main() -> None:
    faulthandler.dump_traceback_later(240, exit=True)
    _, _, first, every, kind = sys.argv
    stepper = Stepper(KINDS[kind])
    ledger = installed().meter.guard.ledger
    for _ in range(3):
        stepper.run()
    gc.collect()
    gc.freeze()
    gc.disable()
    left, other, before = [], [], 0
    stepper.run()
    points = stepper.points
    for at in range(int(first), points + 1, int(every)):
        where = ""
        try:
            stepper.run(at)
        except BaseException as error:
            where = place(error)
            if not is_caused(error):
                other.append(f"{where}: {error!r}")
        if open_calls:
            gc.collect()
            sweep()
            sweep()
        for each in (ledger, getattr(ledger, "inner", None)):
            if each is not None and each._pool is not None:
                each.finish()
        (account,) = ledger.accounts()
        more, before = account.reserved_nano - before, account.reserved_nano
        if open_calls or more:
            left.append(f"{where}: {len(open_calls)} open, {more} reserved")
            for call in list(open_calls.values()):
                call.abandon()
    print(json.dumps({"points": points, "left": left, "other": other, "errors": installed().telemetry.faults.count}))
    sys.stdout.flush()
    os._exit(0)


def place(error: BaseException) -> str:
    """The innermost place of ours in a traceback."""
    found, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if "/tokenguard/" in code.co_filename:
            found = f"{code.co_filename.rpartition('/tokenguard/')[2]}:{trace.tb_lineno} {code.co_name}"
        trace = trace.tb_next
    return found


if __name__ == "__main__":
    main()
