"""What was said: prompts and answers in OpenTelemetry's form, for those who have asked to record them.

`OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` says where they go: `SPAN_ONLY`, `EVENT_ONLY`, `SPAN_AND_EVENT`, or
`NO_CONTENT`, which is also the default and what any other value means. The local store never gets them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tokenguard.facts import names
from tokenguard.facts.tuples import NamedTuple
from tokenguard.process.log import Log

if TYPE_CHECKING:
    from tokenguard.call.call import Call

log = Log("tokenguard")

EVENT = "gen_ai.client.inference.operation.details"


class Capture(NamedTuple):
    """Where content is recorded."""

    on_span: bool
    as_event: bool

    @classmethod
    def asked(cls) -> Capture | None:
        """What the environment asks for; `None` for no content, and a warning for a word that nobody knows."""
        asked = os.environ.get(names.ENV_CAPTURE_CONTENT, "").strip().upper()
        if asked in CAPTURES:
            return CAPTURES[asked]
        log.warning(
            "tokenguard: %s=%s is none of %s; no content is recorded",
            names.ENV_CAPTURE_CONTENT,
            asked,
            ", ".join(filter(None, CAPTURES)),
        )
        return None

    def record(self, call: Call) -> None:
        """Record what a finished call has sent and received."""
        answer, words = call.answer, call.api.words
        content = {
            names.SYSTEM_INSTRUCTIONS: words.instructed(call.request),
            names.INPUT_MESSAGES: words.messages(call.request),
            names.OUTPUT_MESSAGES: words.told(answer) if isinstance(answer, bytes) else words.answered(answer),
        }
        attributes = {name: _json(value) for name, value in content.items() if value}
        if self.on_span:
            call.span.write(attributes)
        if self.as_event:
            _emit(call, attributes)


CAPTURES = {
    "": None,
    "NO_CONTENT": None,
    "SPAN_ONLY": Capture(on_span=True, as_event=False),
    "EVENT_ONLY": Capture(on_span=False, as_event=True),
    "SPAN_AND_EVENT": Capture(on_span=True, as_event=True),
}


def _emit(call: Call, attributes: Mapping[str, str]) -> None:
    from opentelemetry._logs import LogRecord, get_logger

    facts = {names.OPERATION: call.api.operation, names.PROVIDER: call.endpoint.provider}
    if call.model is not None:
        facts[names.REQUEST_MODEL] = call.model
    get_logger("tokenguard").emit(
        LogRecord(event_name=EVENT, attributes={**facts, **attributes}, context=call.span.context)
    )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
