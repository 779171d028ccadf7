"""Functions of an application, which the policies of tests name."""

from __future__ import annotations

import threading

seen: list[dict] = []
wait = threading.Event()


def easy(call):
    """Says yes to short questions of the free plan."""
    seen.append(call)
    return call["input_tokens"] < 50 and call["attribution"].get("tenant") == "free"


def slow(call):
    """Hangs until it is let go."""
    seen.append(call)
    return wait.wait(10)


def broken(call):
    """Fails."""
    raise LookupError("no table")


def fails(answer):
    """An answer that does not know fails."""
    seen.append(answer)
    return "know" in answer["answer"]
