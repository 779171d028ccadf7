"""Calls under a budget, each of them with an alarm at a random moment whose handler raises: run as a program.

    python interrupted.py POLICY CALLS SEED KIND

`KIND` is `call` or `stream`, or either with `bare-` before it: TokenGuard is not installed, to see how many exceptions
the SDK itself swallows. Prints one JSON
object.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import random
import signal
import sys
import time

if len(sys.argv) > 4 and not sys.argv[4].startswith("bare"):
    import tokenguard

    tokenguard.install(sys.argv[1])
    from tokenguard.call.open import _sweep as sweep
    from tokenguard.call.open import open_calls
    from tokenguard.installation.runtime import installed

import httpx2
import openai

ANSWER = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}],
    "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
}
CHUNK = {
    "id": "c",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "gpt-4o",
    "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}],
}
LAST = {**CHUNK, "choices": [], "usage": ANSWER["usage"]}
STREAM = b"".join(b"data: %s\n\n" % json.dumps(chunk).encode() for chunk in [*[CHUNK] * 5, LAST]) + b"data: [DONE]\n\n"


LONGEST_S = 150


class TimeLimit(Exception):
    """What the handler raises: like celery's, an `Exception`."""


fired = sent = 0


def limit(number, frame):
    global fired
    fired += 1
    raise TimeLimit


def provider(request):
    global sent
    sent += 1
    if b'"stream":true' in request.content.replace(b" ", b""):
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=STREAM)
    return httpx2.Response(200, json=ANSWER)


def main() -> None:
    faulthandler.dump_traceback_later(240, exit=True)  # says where it hangs, before the test gives up
    _, _, calls, seed, kind = sys.argv
    client = openai.OpenAI(
        api_key="k", max_retries=0, http_client=httpx2.Client(transport=httpx2.MockTransport(provider))
    )
    ask = {"model": "gpt-4o", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}

    def call():
        if kind.endswith("stream"):
            for _ in client.chat.completions.create(**ask, stream=True):
                pass
        else:
            client.chat.completions.create(**ask)

    for _ in range(20):
        call()
    began = time.perf_counter()
    for _ in range(50):
        call()
    usual = (time.perf_counter() - began) / 50
    signal.signal(signal.SIGALRM, limit)
    chance = random.Random(int(seed))
    reached = other = 0
    slowest = 0.0
    until = time.monotonic() + LONGEST_S
    for made in range(1, int(calls) + 1):
        if time.monotonic() > until:  # the machine is busy: what has been made tells as much
            break
        if made % 50 == 0:  # beside the stacks, should it hang: whether it was slow
            print(f"{made} calls, {time.monotonic() - until + LONGEST_S:.0f} s", file=sys.stderr, flush=True)
        began = time.perf_counter()
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, max(chance.uniform(0, 1.3 * usual), 1e-6))
                call()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except BaseException as error:
            if is_caused(error):
                reached += 1
            else:
                other += 1
                print(repr(error), file=sys.stderr)
        slowest = max(slowest, time.perf_counter() - began)
    result = {"fired": fired, "reached": reached, "other": other, "slowest": slowest, "sent": sent}
    if not kind.startswith("bare"):
        here = installed()
        result["errors"] = here.telemetry.faults.count
        if (ledger := here.meter.guard.ledger) is not None:
            gc.collect()  # the last stream may still be held by a cycle
            sweep()
            sweep()  # what was dropped a moment ago is given up when it is seen so twice
            ledger.finish()
            (account,) = ledger.accounts()
            result["spent"], result["reserved"] = account.spent_nano, account.reserved_nano
        result["open"] = len(open_calls)
    print(json.dumps(result))
    sys.stdout.flush()
    os._exit(0)


def is_caused(error: BaseException | None) -> bool:
    seen = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, TimeLimit):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    main()
