"""A client or call waits for ever.

`timeout=None` is not the SDK's default (ten minutes): it switches the timeout off. One stuck request then holds a
worker for good, while the caller's own retry pays for another. Leave it out, or set a number of seconds. The fix
(unsafe) leaves it out.

Bad:

    from openai import OpenAI

    client = OpenAI(timeout=None, max_retries=1)  # TG116

    def ask(messages):
        return client.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=500, timeout=None)  # TG116

Good:

    from openai import OpenAI

    client = OpenAI(max_retries=1)  # TG116

    def ask(messages):
        return client.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=500)  # TG116
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tokenguard.lint.finding import Edit, Fix, Span
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.surface import CLIENTS

SEVERITY = "warning"
WORDS = ("timeout=None", "timeout = None")
_LAST = tuple({client.rpartition(".")[2] for client in CLIENTS})
_CALLS = (
    "*.chat.completions.create",
    "*.chat.completions.parse",
    "*.responses.create",
    "*.responses.parse",
    "*.messages.create",
)


def check(file: File) -> Iterator[Report]:
    """Report a literal `timeout=None` on the clients and requests that take it for "no timeout"."""
    clients = [c for c in file.module.calls_of(_LAST) if file.names.path(c.func) in CLIENTS]
    for call in [*clients, *(c for c, surface in file.generations if surface.path in _CALLS)]:
        if any(
            k.arg == "timeout" and isinstance(k.value, ast.Constant) and k.value.value is None for k in call.keywords
        ):
            fix = Fix("Leave timeout out", (Edit("unset", Span.of(call), "timeout"),))
            yield Report(
                call,
                "timeout=None switches the timeout off: a stuck request waits for ever. Leave it out, or set seconds.",
                None,
                fix,
            )
