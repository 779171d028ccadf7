"""Other instrumentations, the real packages, installed before TokenGuard or after it: measured once, guarded, one span.

Each case runs in a process of its own, as nobody can be uninstalled for sure. `scripts/matrix.py neighbours` has the
packages; without one its cases are skipped.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NEIGHBOURS = {
    # Package to find, then the kinds of call that end with more spans than one: what cannot be joined.
    "openinference": ("openinference.instrumentation.openai", {"anthropic helper"}),
    "logfire": ("logfire", {"stream", "async stream", "anthropic stream", "anthropic helper"}),
    "logfire-client": ("logfire", {"stream", "async stream", "anthropic stream", "anthropic helper"}),
    "openllmetry": (
        "opentelemetry.instrumentation.openai.shared",
        {"responses", "anthropic", "anthropic stream", "anthropic helper"},
    ),
    "openai-v2": ("opentelemetry.instrumentation.openai_v2.patch", set()),
    "genai": ("opentelemetry.instrumentation.genai.openai.patch", set()),
    "openlit": ("openlit", None),
    "langfuse": ("langfuse", None),
    "traceloop": ("traceloop", {"responses", "anthropic", "anthropic stream", "anthropic helper"}),
    "ddtrace": ("ddtrace", set()),
    "sentry": ("sentry_sdk", set()),
    "mlflow": ("mlflow.openai", set()),
    "weave": ("weave.integrations.patch", set()),
    "agentops": ("agentops", set()),
    "newrelic": ("newrelic.agent", set()),
    "laminar": ("lmnr", set()),
    "azure-ai-projects": ("azure.ai.projects.telemetry", set()),
    "posthog": ("posthog.ai", set()),
    "braintrust": ("braintrust", set()),
    "langsmith": ("langsmith.wrappers", set()),
    "opik": ("opik", set()),
    "judgeval": ("judgeval.trace", set()),
}
"""By neighbour: a module of it, and the calls with a second span of its own (`None`: any may have one)."""


def there(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("neighbour", NEIGHBOURS)
def test_neighbour(neighbour, order, tmp_path):
    """Sync and async, plain and streamed, class and client: one measured call, one span with the cost, limits hold."""
    module, joined_not = NEIGHBOURS[neighbour]
    if not there(module):
        pytest.skip(f"{module} is not installed")
    env = {**os.environ, "TOKENGUARD_STORE": "off", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(Path(__file__).with_name("beside.py")), neighbour, order]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert ran.returncode == 0, ran.stderr[-3000:]
    told = json.loads(ran.stdout.splitlines()[-1])
    for what, seen in told["calls"].items():
        assert seen["measured"] == 1, (what, seen)
        assert seen["with cost"] == 1, (what, seen)
        if joined_not is not None:
            assert (len(seen["spans"]) == 1) == (what not in joined_not), (what, seen)
    assert set(told["limited"].values()) == {"LimitExceeded"}, told["limited"]
