"""Run tests with the versions that are supported: of Python, of the dependencies, of SDKs and of frameworks.

    python3 scripts/matrix.py                       # all sets
    python3 scripts/matrix.py openai-1 'python-*'   # some
    python3 scripts/matrix.py --but 'python-*'      # the others

Each set has an environment of its own, made once under .venvs, and again when its line here changes. As many sets run
at a time as the machine has processors. Where an interpreter is missing, its set is skipped, and says so.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ("pytest>=9", "pytest-asyncio>=1.2", "pytest-xdist>=3.8", "httpx2>=2", "blockbuster>=1.5")
CONTRACT = "contract or not table"
"""Of the tables over every seam, one synchronous and one asynchronous variant a kind: caps, downgrades, resends,
budgets, streams. The whole of them runs with the newest versions, which are the development environment's."""
QUICK = "not everywhere and not apart"
"""What `make test` runs."""


class Set(NamedTuple):
    """An environment, and the tests that run in it."""

    packages: Sequence[str] = ()
    tests: Sequence[str] = ("tests/sdk",)
    marks: str = CONTRACT
    python: str = ""
    """The version, `3.12`, where it is not the one that runs this."""
    lowest: bool = False
    """Whether the dependencies are the lowest that pyproject.toml allows."""
    ignore: str = "ignore::DeprecationWarning"
    """Warnings that are not ours: an old SDK's, that it is old; all of a framework's, at its end too."""


def frameworks(*packages: str) -> Set:
    """A set of frameworks, with their newest versions."""
    return Set(packages, ("tests/frameworks",), "", ignore="ignore")


# The newest of all SDKs are in the development environment, which `make test-all` runs.
SETS = {
    "python-3.12": Set(tests=("tests",), marks=QUICK, python="3.12", ignore="ignore:ast.:DeprecationWarning"),
    "python-3.13": Set(tests=("tests",), marks=QUICK, python="3.13", ignore="ignore:ast.:DeprecationWarning"),
    "python-3.14": Set(tests=("tests",), marks=QUICK, python="3.14"),
    "lowest": Set(
        ("openai>=3", "anthropic>=2", "redis>=5.2,<5.3", "boto3", "google-genai", "jsonschema"),
        [f"tests/{room}" for room in ("metering/test_measure.py", "guard", "telemetry", "store", "prices", "policy")],
        QUICK,
        lowest=True,
    ),
    "openai-1": Set(
        (
            *("openai>=1.109,<2", "anthropic<1", "groq<1", "together<3", "cerebras-cloud-sdk<1.60"),
            *("google-genai>=2,<2.1", "boto3>=1.35,<1.36", "aiobotocore>=2.15,<2.16"),
        )
    ),
    "openai-2": Set(("openai>=2,<3", "anthropic>=1,<2", "google-genai>=2.34,<3")),
    "wires-old": Set(
        (
            *("mistralai[agents,gcp]>=2,<2.1", "cohere>=5.13,<5.14", "ollama>=0.4.5,<0.5"),
            *("huggingface_hub[inference]>=0.30,<0.31", "xai-sdk>=1,<1.1"),
        )
    ),
    "voyage": Set(("voyageai", "pillow"), marks=f"({CONTRACT}) or everywhere"),
    "wires-6": Set(("cohere>=6,<7", "huggingface_hub>=1,<1.1", "xai-sdk>=1.3,<1.4")),
    "mistral-3": Set(("mistralai[agents,gcp]>=3",)),  # with what its own loop around an agent needs
    "frameworks": frameworks(
        *("openai-agents[voice]", "langchain", "langchain-openai", "langchain-anthropic", "langchain-community"),
        "pydantic-ai-slim[openai]",
    ),
    "sessions": Set(
        (
            *("openai-agents", "livekit-plugins-openai", "pipecat-ai[openai]", "pydantic-ai-slim[openai,realtime]"),
            "websockets<17",
        ),
        ("tests/frameworks/test_sessions.py", "tests/sdk/test_websocket_clients.py"),
        "",
        ignore="ignore",
    ),
    "llama-index": frameworks("llama-index-core", "llama-index-llms-openai"),
    "litellm": frameworks("litellm", "instructor", "haystack-ai", "pillow", "pypdfium2"),
    # With another that wants litellm, the newest of one is the oldest of the other.
    "dspy": frameworks("dspy>=3"),
    "agents": frameworks("agno", "autogen-agentchat", "autogen-ext[openai]", "pillow", "tiktoken"),
    "crewai": frameworks("crewai[anthropic,google-genai,bedrock]>=1.10"),
    "litellm-all": frameworks("litellm[proxy]", "boto3"),  # responses and streamed messages want the proxy's packages
    "langchain": frameworks(
        *("langchain-mistralai", "langchain-cohere", "langchain-google-genai", "langchain-aws", "langchain-ollama"),
        "langchain-groq",
    ),
    "integrations": frameworks(
        *("llama-index-llms-mistralai", "llama-index-llms-cohere", "llama-index-llms-ollama"),
        *("llama-index-llms-bedrock-converse", "llama-index-llms-google-genai", "smolagents[openai]"),
        "pydantic-ai-slim[mistral,bedrock,google,groq,huggingface]",
    ),
    "haystack": frameworks(
        *("cohere-haystack", "ollama-haystack", "amazon-bedrock-haystack", "mistral-haystack"),
        *("ag2[openai]", "semantic-kernel"),
    ),
    # ClickHouse's engine is half a gigabyte, so it is in no other environment.
    "clickhouse": Set(("chdb>=4.1", "clickhouse-connect>=0.8", "duckdb>=1.1"), ("tests/clickhouse",), ""),
    "neighbours": Set(
        (
            *("openai>=3", "anthropic>=2", "openinference-instrumentation-openai", "logfire", "langfuse"),
            *("openinference-instrumentation-anthropic", "opentelemetry-instrumentation-openai"),
            "opentelemetry-instrumentation-anthropic",
            *("opentelemetry-instrumentation-genai-openai", "opentelemetry-instrumentation-genai-anthropic"),
        ),
        ("tests/neighbours",),
        "",
        ignore="ignore",
    ),
    # These two want other versions of OpenTelemetry's packages, and of the SDKs.
    "neighbours-v2": Set(
        ("openai<3", "anthropic", "opentelemetry-instrumentation-openai-v2", "opentelemetry-util-genai<1", "httpx"),
        ("tests/neighbours",),
        "",
        ignore="ignore",
    ),
    "neighbours-openlit": Set(("openlit", "openai", "anthropic"), ("tests/neighbours",), "", ignore="ignore"),
    "neighbours-others": Set(
        ("ddtrace", "sentry-sdk", "traceloop-sdk", "httpx", "openai", "anthropic"),
        ("tests/neighbours",),
        "",
        ignore="ignore",
    ),
    "neighbours-platforms": Set(
        ("mlflow", "weave", "agentops", "lmnr", "openai", "anthropic"), ("tests/neighbours",), "", ignore="ignore"
    ),
    "neighbours-clients": Set(
        (
            *("braintrust", "judgeval", "langsmith", "newrelic", "opik", "posthog", "azure-ai-projects"),
            *("openai", "anthropic"),
        ),
        ("tests/neighbours",),
        "",
        ignore="ignore",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sets", nargs="*", default=["*"], help="names of sets, or globs of them")
    parser.add_argument("--but", default="", help="a glob of sets to leave out")
    asked = parser.parse_args()
    wanted = [name for name in SETS if any(fnmatch(name, glob) for glob in asked.sets)]
    names = [name for name in wanted if not fnmatch(name, asked.but)]
    if not names:
        parser.error(f"no set is called {' '.join(asked.sets)}; there are {', '.join(SETS)}")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        failed = [name for name, code in zip(names, pool.map(run, names), strict=True) if code]
    sys.exit(f"failed with: {', '.join(failed)}" if failed else 0)


def run(name: str) -> int:
    """Print how the tests went with one set, and return their exit code."""
    chosen, began = SETS[name], time.monotonic()
    python = interpreter(chosen.python)
    if python is None:
        print(f"== {name}: SKIPPED, there is no python{chosen.python} on this machine", flush=True)
        return 0
    venv = environment(name, chosen, python)
    command = [str(venv / "bin" / "python"), "-m", "pytest", "-q", "--rootdir", str(ROOT), *chosen.tests]
    command += ["-m", chosen.marks] if chosen.marks else []
    command += ["-W", chosen.ignore] if chosen.ignore else []
    ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    # In one piece: another set may be at work beside it.
    took = f"{time.monotonic() - began:.0f} s"
    print(f"== {name} ({took}): {', '.join(chosen.packages) or chosen.python}\n{ran.stdout}", end="", flush=True)
    return ran.returncode


def environment(name: str, chosen: Set, python: str) -> Path:
    """The set's environment, made if it is not there."""
    project = (ROOT / "pyproject.toml").read_text()
    wanted = [*chosen.packages, *TOOLS]
    if chosen.python:
        wanted = tomllib.loads(project)["dependency-groups"]["dev"]
    if chosen.lowest:
        wanted += [*map(lower_bound, tomllib.loads(project)["project"]["dependencies"]), "hypothesis"]
    key = hashlib.sha256(repr((chosen, wanted, project)).encode()).hexdigest()[:10]
    venv = ROOT / ".venvs" / f"{name}-{key}"
    if not (venv / ".done").exists():
        for old in (ROOT / ".venvs").glob(f"{name}-??????????"):
            shutil.rmtree(old, ignore_errors=True)
        maker = [python, str(ROOT / "scripts" / "make_venv.py"), str(venv)]
        subprocess.run([*maker, "--editable", str(ROOT), *wanted], check=True)
        (venv / ".done").touch()
    return venv


def lower_bound(requirement: str) -> str:
    """A requirement at the lowest version that it allows: `click>=8.1` as `click==8.1.*`, or as it is.

    >>> lower_bound("opentelemetry-instrumentation>=0.59b0")
    'opentelemetry-instrumentation==0.59b0'
    """
    name, version = re.match(r"([\w.-]+)>=([\w.]+)", requirement).groups()
    return f"{name}=={version}" if "b" in version or version.count(".") > 1 else f"{name}=={version}.*"


def interpreter(version: str) -> str | None:
    """A Python of this version, on PATH or under pyenv; `None` where there is none."""
    if not version:
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [*sorted(map(str, pyenv.glob(f"{version}.*/bin/python"))), f"python{version}"]
    for candidate in candidates:
        if (found := shutil.which(candidate)) is not None:
            told = subprocess.run(
                [found, "-c", "import sys, venv; print(*sys.version_info[:2], sep='.')"], capture_output=True
            )
            if told.stdout.decode().strip() == version:
                return found
    return None


if __name__ == "__main__":
    main()
