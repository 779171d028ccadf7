"""Run the tests of SDKs and frameworks with the versions that are supported, each set in an environment of its own.

tests/sdk runs with the oldest and the newest version of each SDK, tests/frameworks with what sits on top of them.

    python3 scripts/matrix.py            # all sets
    python3 scripts/matrix.py openai-1   # one

Environments are made once, under .venvs, and made again when their line here changes. As many sets run at a time as the
machine has processors.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The newest of mistralai, cohere, ollama, huggingface_hub and xai-sdk are in the development environment.
SETS = {
    "openai-1": [
        *("openai>=1.109,<2", "anthropic<1", "groq<1", "together<3", "cerebras-cloud-sdk<1.60"),
        *("google-genai>=2,<2.1", "boto3>=1.35,<1.36", "aiobotocore>=2.15,<2.16"),
    ],
    "openai-2": ["openai>=2,<3", "anthropic>=1,<2", "google-genai>=2.34,<3"],
    "openai-3": [
        *("openai>=3", "anthropic>=2", "groq", "together", "cerebras-cloud-sdk"),
        *("google-genai>=3", "boto3>=1.43", "aiobotocore>=3"),
    ],
    "wires-old": [
        *("mistralai[agents,gcp]>=2,<2.1", "cohere>=5.13,<5.14", "ollama>=0.4.5,<0.5"),
        *("huggingface_hub[inference]>=0.30,<0.31", "xai-sdk>=1,<1.1"),
    ],
    "wires-6": ["cohere>=6,<7", "huggingface_hub>=1,<1.1", "xai-sdk>=1.3,<1.4"],
    "mistral-3": ["mistralai[agents,gcp]>=3"],  # with what its own loop around an agent needs
}
FRAMEWORKS = {
    "frameworks": ["openai-agents", "langchain", "langchain-openai", "langchain-anthropic", "pydantic-ai-slim[openai]"],
    "llama-index": ["llama-index-core", "llama-index-llms-openai"],
    "litellm": ["litellm", "dspy", "instructor", "haystack-ai", "crewai[anthropic,google-genai,bedrock]", "pillow"],
    "litellm-all": ["litellm[proxy]", "boto3"],  # responses and streamed messages want the proxy's packages
    "langchain": [
        *("langchain-mistralai", "langchain-cohere", "langchain-google-genai", "langchain-aws", "langchain-ollama"),
        "langchain-groq",
    ],
    "integrations": [
        *("llama-index-llms-mistralai", "llama-index-llms-cohere", "llama-index-llms-ollama"),
        *("llama-index-llms-bedrock-converse", "llama-index-llms-google-genai", "smolagents[openai]"),
        "pydantic-ai-slim[mistral,bedrock,google,groq,huggingface]",
    ],
    "haystack": [
        *("cohere-haystack", "ollama-haystack", "amazon-bedrock-haystack", "mistral-haystack"),
        *("ag2[openai]", "semantic-kernel"),
    ],
}
TOOLS = ["pytest>=9", "pytest-asyncio>=1.2", "httpx2>=2"]


def main() -> None:
    names = sys.argv[1:] or [*SETS, *FRAMEWORKS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        failed = [name for name, code in zip(names, pool.map(run, names), strict=True) if code]
    sys.exit(f"failed with: {', '.join(failed)}" if failed else 0)


def run(name: str) -> int:
    """Print how the tests went with one set, and return their exit code."""
    packages = {**SETS, **FRAMEWORKS}[name]
    tests = "sdk" if name in SETS else "frameworks"
    wanted = [*packages, *TOOLS]
    key = hashlib.sha256(repr((wanted, (ROOT / "pyproject.toml").read_text())).encode()).hexdigest()[:10]
    venv = ROOT / ".venvs" / f"sdk-{name}-{key}"
    if not (venv / ".done").exists():
        maker = [sys.executable, str(ROOT / "scripts" / "make_venv.py"), str(venv)]
        subprocess.run([*maker, "--editable", str(ROOT), *wanted], check=True)
        (venv / ".done").touch()
    command = [str(venv / "bin" / "python"), "-m", "pytest", "-q", "--rootdir", str(ROOT), str(ROOT / "tests" / tests)]
    # What frameworks warn of, at their end too, is theirs; of an old SDK only that it is old.
    ignored = "ignore::DeprecationWarning" if name in SETS else "ignore"
    ran = subprocess.run(
        [*command, "-W", ignored], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    # In one piece: another set may be at work beside it.
    print(f"== {name}: {', '.join(packages)}\n{ran.stdout}", end="", flush=True)
    return ran.returncode


if __name__ == "__main__":
    main()
