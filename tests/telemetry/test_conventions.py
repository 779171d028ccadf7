"""OpenTelemetry's newer names: asked for by the environment, alone or beside the older ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tokenguard import __version__
from tokenguard.demo.provider import SimulatedProvider
from tokenguard.facts import names
from tokenguard.telemetry.conventions import profile

PROGRAM = """
import json
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

reader, spans = InMemoryMetricReader(), InMemorySpanExporter()
metrics.set_meter_provider(MeterProvider([reader]))
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)

import openai, tokenguard
tokenguard.install()
client = openai.OpenAI()
ask = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Hello"}], "max_completion_tokens": 20}
with tokenguard.attribution(prompt_version="v7"):
    client.chat.completions.create(**ask, reasoning_effort="low")
    list(client.chat.completions.create(**ask, stream=True))
client.embeddings.create(model="text-embedding-3-small", input="Paris")
[scope] = [s for r in reader.get_metrics_data().resource_metrics for s in r.scope_metrics]
print(json.dumps({
    "scope": [scope.scope.version, scope.schema_url],
    "points": {
        m.name: sorted(tuple(map(p.attributes.get, ("gen_ai.operation.name", "gen_ai.token.modality")))
                       for p in m.data.data_points)
        for m in scope.metrics if m.name.startswith("gen_ai.") and m.data.data_points
    },
    "span": dict(spans.get_finished_spans()[0].attributes),
    "traced": spans.get_finished_spans()[0].instrumentation_scope.schema_url,
}))
"""

OLDER = {"gen_ai.client.operation.duration", "gen_ai.client.operation.time_to_first_chunk", "gen_ai.client.token.usage"}
NEWER = {
    "gen_ai.client.inference.duration",
    "gen_ai.client.inference.time_to_first_chunk",
    "gen_ai.client.inference.usage.input_tokens",
    "gen_ai.client.inference.usage.output_tokens",
    "gen_ai.client.inference.operation.input_tokens",
    "gen_ai.client.inference.operation.output_tokens",
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What a program measures that asks for names: `measured(setting)`."""
    with SimulatedProvider() as server:
        folder = tmp_path_factory.mktemp("conventions")
        (folder / "app.py").write_text(PROGRAM)

        def run(setting: str | None):
            env = {k: v for k, v in os.environ.items() if k != names.ENV_SEMCONV}
            env |= {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": "k", names.ENV_STORE: "off"}
            if setting is not None:
                env[names.ENV_SEMCONV] = setting
            done = subprocess.run(
                [sys.executable, "app.py"], cwd=folder, env=env, capture_output=True, text=True, check=True
            )
            return json.loads(done.stdout)

        yield run


@pytest.mark.apart
@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, OLDER),
        ("http", OLDER),
        ("http,gen_ai_latest_experimental", NEWER),
        ("gen_ai_latest_experimental/dup", OLDER | NEWER),
    ],
)
def test_the_environment_decides(measured, setting, expected):
    """The older names are the default, the newer are asked for, and `/dup` gives both; the scope has a schema."""
    found = measured(setting)
    assert found["points"].keys() - {"gen_ai.client.inference.usage.reasoning.output_tokens"} - {
        f"gen_ai.client.inference.usage.{kind}.input_tokens" for kind in ("cache_read", "cache_write")
    } == expected | {"gen_ai.client.operation.duration"}
    assert found["scope"] == [__version__, names.SCHEMA_URL]
    assert found["traced"] == names.SCHEMA_URL
    newer = profile(setting).newer
    assert (found["span"].get("gen_ai.prompt.version") == "v7") is newer
    assert (found["span"].get("gen_ai.request.reasoning.level") == "low") is newer


@pytest.mark.apart
def test_what_is_no_inference_keeps_its_name(measured):
    """An embedding's duration goes by the older name, an inference's by the newer: neither is counted twice."""
    points = measured("gen_ai_latest_experimental")["points"]
    assert [operation for operation, _ in points["gen_ai.client.operation.duration"]] == ["embeddings"]
    assert {operation for operation, _ in points["gen_ai.client.inference.duration"]} == {"chat"}
    assert all(modality for _, modality in points["gen_ai.client.inference.usage.input_tokens"])
