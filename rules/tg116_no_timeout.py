"""A client or call waits for ever, or as long as its SDK likes.

`timeout=None` is not the SDK's default: it switches the timeout off. One stuck request then holds a worker for good,
while the caller's own retry pays for another. That is a warning; the fix (unsafe) writes `seconds`.

The default alone is a note. OpenAI's and Anthropic's clients wait ten minutes for an answer and try three times, so a
request that hangs is given up after half an hour. Where someone waits for the answer, say how long: the answers of
most calls are there within a minute. There is one such note a file, at its first client. Clients with an `http_client`
of their own, and files in which calls name a timeout, are left alone; `default = false` silences these notes.

Bad:

    from openai import OpenAI

    client = OpenAI(timeout=None, max_retries=1)  # TG116

    def ask(messages):
        return client.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=500, timeout=None)  # TG116

Good:

    from openai import OpenAI

    client = OpenAI(timeout=120, max_retries=1)  # TG116

    def ask(messages):
        return client.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=500, timeout=120)  # TG116

Bad:

    import anthropic

    client = anthropic.Anthropic()  # TG116

Good:

    import anthropic

    client = anthropic.Anthropic(timeout=120)  # TG116
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tokenguard.lint.facts import Presence
from tokenguard.lint.finding import Edit, Fix, Span
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.surface import CALL_WORDS

SEVERITY = "warning"
OPTIONS = {"seconds": 120, "default": True}

# The SDKs in which `timeout=None` means no timeout; Cohere and Mistral take it for "the default".
_WAITING = (
    "openai.OpenAI",
    "openai.AsyncOpenAI",
    "openai.AzureOpenAI",
    "openai.AsyncAzureOpenAI",
    "anthropic.Anthropic",
    "anthropic.AsyncAnthropic",
    "anthropic.AnthropicBedrock",
    "anthropic.AsyncAnthropicBedrock",
    "anthropic.AnthropicVertex",
    "anthropic.AsyncAnthropicVertex",
)  # fmt: skip ; wait 600 s by default
_OTHERS = (
    "groq.Groq",
    "groq.AsyncGroq",
    "together.Together",
    "together.AsyncTogether",
    "cerebras.cloud.sdk.Cerebras",
    "cerebras.cloud.sdk.AsyncCerebras",
)  # fmt: skip ; wait 60 s
_LAST = tuple({client.rpartition(".")[2] for client in (*_WAITING, *_OTHERS)})
WORDS = (
    *(words for name in _LAST for words in (f"{name}(", f"{name} as")),
    *((off, "with_options", *CALL_WORDS) for off in ("timeout=None", "timeout = None", "Timeout(None")),
)
_CALLS = (
    "*.chat.completions.create",
    "*.chat.completions.parse",
    "*.responses.create",
    "*.responses.parse",
    "*.messages.create",
)
_TIMEOUTS = ("httpx.Timeout", "httpx2.Timeout", "openai.Timeout", "anthropic.Timeout")


def check(file: File) -> Iterator[Report]:
    """Report timeouts that are switched off, and clients that are made without one."""
    clients = [
        (c, path) for c in file.module.calls_of(_LAST) if (path := file.names.path(c.func)) in _WAITING + _OTHERS
    ]
    calls = [c for c, surface in file.generations if surface.path in _CALLS]
    options = [c for c in file.module.calls_of(("with_options",)) if _written(c) is not None]
    for call in [*(c for c, _ in clients), *calls, *options]:
        if _is_off(file, _written(call)):
            yield Report(
                call,
                "timeout=None switches the timeout off: a stuck request waits for ever. Set the seconds.",
                None,
                _fix(file, call),
            )
    if not file.options["default"] or any(_written(c) is not None for c in (*calls, *options)):
        return
    waiting = [
        call
        for call, path in clients
        if path in _WAITING
        and _written(call) is None
        and file.any_of(call, ("timeout", "http_client")).presence is Presence.ABSENT
    ]
    if waiting:
        first, *others = sorted(waiting, key=lambda c: (c.lineno, c.col_offset))
        more = f" So do {len(others)} more in this file." if others else ""
        yield Report(
            first,
            f"No timeout is set: this client waits ten minutes for an answer{_tries(file, first)}. Say how long an "
            f"answer is worth waiting for.{more}",
            "info",
            _fix(file, first),
        )


def _tries(file: File, client: ast.Call) -> str:
    """How often a client asks for an answer that does not come, by its `max_retries`; the SDKs' default is 2."""
    retries = file.look(client, "max_retries")
    number = 2 if retries.presence is Presence.ABSENT else file.constant(retries.value)
    if not isinstance(number, int) or isinstance(number, bool):
        return ", as often as its retries say"
    return ", once" if number == 0 else f", up to {number + 1} times"


def _written(call: ast.Call) -> ast.expr | None:
    return next((k.value for k in call.keywords if k.arg == "timeout"), None)


def _is_off(file: File, value: ast.expr | None) -> bool:
    """Whether a timeout is None, or one of httpx's with nothing but None."""
    if isinstance(value, ast.Call) and file.names.path(value.func) in _TIMEOUTS:
        parts = [*value.args, *(k.value for k in value.keywords)]
        return len(parts) == 1 and _is_off(file, parts[0])
    return isinstance(value, ast.Constant) and value.value is None


def _fix(file: File, call: ast.Call) -> Fix:
    seconds = str(file.options["seconds"])
    return Fix(f"Set timeout to {seconds}", (Edit("set", Span.of(call), "timeout", seconds),))
