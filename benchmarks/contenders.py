"""Who is measured: one row each. Importable by the driver (standard library only); `install` runs in the worker."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

BASE = ("openai>=3", "anthropic>=2", "opentelemetry-sdk>=1.38")
NATIVE_OFF = {"ANTHROPIC_OPEN_TELEMETRY": "false"}


@dataclasses.dataclass(frozen=True)
class Contender:
    """A row of the table."""

    name: str
    packages: Sequence[str]
    """The distributions whose versions are named beside the row."""
    requires: Sequence[str]
    """What pip is asked for; contenders that ask for the same share an environment."""
    install: Callable[[Any, Any], None]
    """Switches it on; gets a span processor and a metric reader, for those that insist on providers of their own."""
    environ: dict[str, str] = dataclasses.field(default_factory=dict)
    own_providers: bool = False
    scenarios: str = ""
    """A prefix: only the scenarios that start with it."""
    clouds: Callable[[str], None] = lambda _: None
    """Wraps what a scenario of `clouds` calls, where `install` did not."""
    settle: Callable[[], None] = lambda: None
    """Waits until work queued off the caller's path is done, so that its CPU time is counted."""


def nothing(processor: Any, reader: Any) -> None:
    """Bare: the SDK as it is."""


def floor(processor: Any, reader: Any) -> None:
    """The hand-written floor."""
    import floor as by_hand

    by_hand.install()


def wide_floor(processor: Any, reader: Any) -> None:
    """The floor with as many attributes as TokenGuard's span has: what they alone cost in OpenTelemetry's SDK."""
    import floor as by_hand

    by_hand.install({f"more.{n}": f"value {n}" if n % 2 else n / 7 for n in range(14)})


def floor_of_clouds(scenario: str) -> None:
    """The floor around Gemini, Bedrock and Mistral."""
    import clouds

    clouds.floor(scenario)


def tokenguard(processor: Any, reader: Any) -> None:
    """TokenGuard with everything on, as `tokenguard.install()` leaves it."""
    import tokenguard

    tokenguard.install()


POLICY = """
[attribution]
defaults = { tenant = "acme" }
[[limit]]
name = "long questions"
max_input_tokens = 100000
max_output_tokens = 4000
[[budget]]
name = "tenant per day"
per = ["tenant"]
window = "day"
limit_usd = 1000000
[ledger]
url = "memory:"
"""
"""A limit and a budget that every call is within."""


def guarded(processor: Any, reader: Any) -> None:
    """TokenGuard with a policy."""
    import tokenguard
    from tokenguard import policy

    tokenguard.install(policy.loads(POLICY))


def drained() -> None:
    """Wait for TokenGuard's queue: its metrics and its local store are written off the caller's path."""
    from tokenguard.installation import runtime

    if runtime._installed is not None:
        runtime.installed().telemetry.flush()


def openllmetry(processor: Any, reader: Any) -> None:
    """OpenLLMetry's two instrumentors."""
    from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()
    AnthropicInstrumentor().instrument()


def genai(processor: Any, reader: Any) -> None:
    """OpenTelemetry's own GenAI instrumentors."""
    from opentelemetry.instrumentation.genai.anthropic import AnthropicInstrumentor
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()
    AnthropicInstrumentor().instrument()


def openinference(processor: Any, reader: Any) -> None:
    """OpenInference's two instrumentors."""
    from openinference.instrumentation.anthropic import AnthropicInstrumentor
    from openinference.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()
    AnthropicInstrumentor().instrument()


def openlit(processor: Any, reader: Any) -> None:
    """OpenLIT, with its prices in a local file, since it fetches them from the network otherwise."""
    import openlit as package

    price = {"promptPrice": 0.00015, "completionPrice": 0.0006}
    prices = {
        "chat": {"gpt-4o-mini": price, "claude-sonnet-4-6": price},
        "embeddings": {"text-embedding-3-small": 0.00002},
    }
    path = Path(tempfile.gettempdir(), f"bench-prices-{os.getpid()}.json")
    path.write_text(json.dumps(prices))
    package.init(pricing_json=str(path))


def logfire(processor: Any, reader: Any) -> None:
    """Logfire, exporting to our own processor and reader instead of its service."""
    import logfire as package

    package.configure(
        send_to_logfire=False,
        console=False,
        additional_span_processors=[processor],
        metrics=package.MetricsOptions(additional_readers=[reader]),
    )
    package.instrument_openai()
    package.instrument_anthropic()


OURS = (*BASE, "google-genai>=3", "boto3>=1.43", "mistralai>=3", f"--editable={ROOT}")

CONTENDERS = (
    Contender("bare", ("openai", "anthropic", "opentelemetry-sdk"), OURS, nothing, NATIVE_OFF),
    Contender("floor", (), OURS, floor, NATIVE_OFF, clouds=floor_of_clouds),
    Contender("floor with 26 attributes", (), OURS, wide_floor, NATIVE_OFF, clouds=floor_of_clouds),
    Contender("tokenguard", ("tokenguard-otel",), OURS, tokenguard, settle=drained),
    Contender("tokenguard, guarded", (), OURS, guarded, settle=drained),
    Contender("tokenguard, no local store", (), OURS, tokenguard, {"TOKENGUARD_STORE": "off"}, settle=drained),
    Contender(
        "tokenguard, anthropic's own span off", (), OURS, tokenguard, NATIVE_OFF, scenarios="anthropic", settle=drained
    ),
    Contender("anthropic's own span", ("anthropic",), OURS, nothing, scenarios="anthropic"),
    Contender(
        "OpenTelemetry GenAI",
        ("opentelemetry-instrumentation-genai-openai",),
        (*BASE, "opentelemetry-instrumentation-genai-openai", "opentelemetry-instrumentation-genai-anthropic"),
        genai,
    ),
    Contender(
        "OpenInference",
        ("openinference-instrumentation-openai", "openinference-instrumentation-anthropic"),
        (*BASE, "openinference-instrumentation-openai", "openinference-instrumentation-anthropic"),
        openinference,
    ),
    Contender(
        "OpenLLMetry",
        ("opentelemetry-instrumentation-openai",),
        (*BASE, "opentelemetry-instrumentation-openai", "opentelemetry-instrumentation-anthropic"),
        openllmetry,
    ),
    # Its releases want openai < 3 and anthropic < 1, hence SDKs and a bare baseline of its own.
    Contender("OpenLIT", ("openlit",), ("openlit>=1.40", "openai", "anthropic", "opentelemetry-sdk"), openlit),
    Contender("Logfire", ("logfire",), (*BASE, "logfire", "genai-prices"), logfire, own_providers=True),
)
