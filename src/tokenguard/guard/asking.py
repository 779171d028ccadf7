"""The application's own functions, asked about a call: whether a route takes it, whether an answer fails.

They are asked in a thread, and a `decide` for a few milliseconds: it stands in the way of the call. A function that
fails, or takes longer, has no say, and the log names it, once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TimedOut
from contextvars import copy_context
from typing import Any, Final

from tokenguard.call.call import Call
from tokenguard.guard.worst_case import WorstCase
from tokenguard.inputs import asked
from tokenguard.process.log import Log
from tokenguard.process.named import named
from tokenguard.process.threads import Pool

log = Log("tokenguard")

DECIDE_S: Final = 0.005
CHECK_S: Final = 1.0
"""How long a function may take."""
_functions: Final = Pool("tokenguard-ask", 4)


class Functions:
    """The functions that a policy names, each found when it is first asked."""

    def __init__(self) -> None:
        self._found: dict[str, Callable[[Mapping[str, Any]], object]] = {}
        self._late: dict[str, Future[object]] = {}
        """The last answer of a function that was not waited for."""
        self._told: set[str] = set()

    def says(self, name: str, facts: Mapping[str, Any], seconds: float) -> bool:
        """Whether a function says yes of a call; no where it fails, or takes longer than this."""
        late = self._late.get(name)
        if late is not None and not late.done():
            return False  # it is still at an earlier call: no other has to wait for it
        try:
            function = self._found.get(name) or self._find(name)
            answer = _functions.submit(copy_context().run, function, facts)
            try:
                return bool(answer.result(seconds))
            except TimedOut:
                if answer.done():  # its own
                    raise
                self._late[name] = answer
                self._tell(name, f"took longer than {seconds * 1000:g} ms")
        except Exception as failure:
            self._tell(name, f"failed ({type(failure).__name__}: {failure})")
        return False

    def _find(self, name: str) -> Callable[[Mapping[str, Any]], object]:
        self._found[name] = named(name)
        return self._found[name]

    def _tell(self, name: str, why: str) -> None:
        if name not in self._told:
            self._told.add(name)
            log.warning("tokenguard: %s %s, so it has no say", name, why)


def facts_of(call: Call, worst_case: WorstCase, *, content: bool) -> dict[str, Any]:
    """What a function is told of a call; what was said only if `content`.

    `provider`, `model`, `operation`, `stream`, `input_tokens` (counted), `output_cap` (or `None`), `turns`,
    `tool_steps`, `tools`, `images`, `schema` (each true or false), `attribution` (a copy); with content also
    `messages`, in OpenTelemetry's form.
    """
    body, words = call.request, call.api.words
    facts: dict[str, Any] = {
        "provider": call.endpoint.provider,
        "model": call.model,
        "operation": call.api.operation,
        "stream": call.stream,
        "input_tokens": worst_case.count(call),
        "output_cap": call.output_cap,
        "turns": asked.turns(words, body),
        "tool_steps": call.tool_steps,
        "tools": asked.offers_tools(body),
        "images": asked.has_media(words, body),
        "schema": asked.wants_json(body),
        "attribution": dict(call.attribution),
    }
    if content:
        facts["messages"] = words.asked(body)
    return facts
