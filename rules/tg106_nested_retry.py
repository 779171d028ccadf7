"""A retry around a client that also retries.

The SDKs of OpenAI, Anthropic and others send a failed request up to two more times themselves. A decorator with three
attempts around that makes nine requests for one answer, during an outage of all times. Let one of the two retry: set
`max_retries=0` on the client, or drop the decorator.

Bad:

    from openai import OpenAI
    from tenacity import retry, stop_after_attempt

    client = OpenAI()

    @retry(stop=stop_after_attempt(3))  # TG106
    def ask(messages):
        return client.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=500)

Good:

    from openai import OpenAI
    from tenacity import retry, stop_after_attempt

    client = OpenAI(max_retries=0)

    @retry(stop=stop_after_attempt(3))
    def ask(messages):
        return client.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=500)

    def make(settings):
        patient = OpenAI(**settings)

        @retry(stop=stop_after_attempt(3))
        def ask(messages):
            return patient.chat.completions.create(model="gpt-4.1", messages=messages, max_tokens=500)

        return ask
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tokenguard.lint.facts import Presence
from tokenguard.lint.loops import made_by, retry_decorators
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.surface import CALL_WORDS, CLIENTS

SEVERITY = "warning"
WORDS = CALL_WORDS


def check(file: File) -> Iterator[Report]:
    """Report retry decorators around calls of a client that is known to keep its own retries."""
    seen: set[ast.expr] = set()
    for call, _ in file.generations:
        decorators = [d for d in retry_decorators(file, call) if d[0] not in seen]
        if not decorators:
            continue
        client = made_by(file, call.func)
        if client is None or file.names.path(client.func) not in CLIENTS or _retries_off(file, call, client):
            continue
        for decorator, library in decorators:
            seen.add(decorator)
            name = file.names.path(client.func).rpartition(".")[2]
            yield Report(
                decorator,
                f"{library} retries what {name} already retries twice: attempts multiply. Set max_retries=0 on "
                f"the client, or drop this.",
            )


def _retries_off(file: File, call: ast.Call, client: ast.Call) -> bool:
    fact = file.look(client, "max_retries")
    if fact.presence is Presence.UNKNOWN or (
        fact.presence is Presence.PRESENT and file.constant(fact.value) in (0, None)
    ):
        return True
    return "with_options" in ast.unparse(call.func)
