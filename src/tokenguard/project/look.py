"""What a project is made of: the SDKs and frameworks it imports, how it is started, its CI, its tools. Only reads."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tokenguard.providers import SDKS

FRAMEWORKS: Final = {
    "agents": "OpenAI Agents",
    "autogen": "AutoGen",
    "celery": "Celery",
    "crewai": "CrewAI",
    "django": "Django",
    "dspy": "DSPy",
    "fastapi": "FastAPI",
    "flask": "Flask",
    "haystack": "Haystack",
    "instructor": "Instructor",
    "langchain": "LangChain",
    "langchain_core": "LangChain",
    "langgraph": "LangGraph",
    "llama_index": "LlamaIndex",
    "pydantic_ai": "pydantic-ai",
}
"""Packages that call SDKs, or that programs are served with, by the name they are imported by."""
SKIPPED: Final = {"node_modules", "site-packages", "build", "dist", "venv", "__pycache__"}
MAX_FILES: Final = 20_000
MAX_BYTES: Final = 1_000_000

_IMPORT = re.compile(r"^[ \t]*(?:import|from)[ \t]+([\w.]+)(?:[ \t]+import[ \t]+(\w+))?", re.MULTILINE)
_MAIN = re.compile(r"^if __name__ == ['\"]__main__['\"]", re.MULTILINE)
_APP = re.compile(r"^(\w+)\s*(?::[^=\n]+)?=\s*(FastAPI|Flask|Celery)\(", re.MULTILINE)


@dataclass
class Project:
    """What was found in a folder. Paths are relative to it."""

    root: Path
    sdks: list[str] = field(default_factory=list)
    """Supported SDKs that are imported, by their package."""
    frameworks: list[str] = field(default_factory=list)
    starts: list[str] = field(default_factory=list)
    """Commands that start it, as far as they can be told."""
    workflows: bool = False
    """Whether it has GitHub workflows."""
    pre_commit: bool = False
    tests: bool = False
    """Whether it is tested with pytest."""
    policy: str = ""
    """The policy file that it has already."""
    pyproject: dict[str, Any] = field(default_factory=dict)

    @property
    def ruff(self) -> str:
        """The file with ruff's settings; empty without."""
        for name in ("ruff.toml", ".ruff.toml"):
            if (self.root / name).is_file():
                return name
        return "pyproject.toml" if "ruff" in self.pyproject.get("tool", {}) else ""


def look(root: Path) -> Project:
    """Look at the project in `root`. Files that cannot be read are passed over."""
    found = Project(root)
    imported: set[str] = set()
    for file in _python_files(root):
        try:
            text = file.read_text(encoding="utf-8", errors="replace") if file.stat().st_size <= MAX_BYTES else ""
        except OSError:
            continue
        for module, name in _IMPORT.findall(text):
            imported.update((module, f"{module}.{name}") if name else (module,))
        found.starts += _starts(file.relative_to(root), text)
    modules = {module.split(".")[0] for module in imported}
    found.sdks = sorted({name for name, module in _sdks().items() if _is_imported(module, imported)})
    found.frameworks = sorted({shown for name, shown in FRAMEWORKS.items() if name in modules})
    found.starts = found.starts[:5]
    found.workflows = any((root / ".github" / "workflows").glob("*.y*ml"))
    found.pre_commit = (root / ".pre-commit-config.yaml").is_file()
    try:
        found.pyproject = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found.pyproject = {}
    tool = found.pyproject.get("tool", {})
    found.tests = "pytest" in tool or "pytest" in modules or (root / "pytest.ini").is_file()
    if (root / "tokenguard.toml").is_file():
        found.policy = "tokenguard.toml"
    elif set(tool.get("tokenguard", {})) - {"lint"}:
        found.policy = "pyproject.toml, [tool.tokenguard]"
    return found


def _sdks() -> dict[str, str]:
    """The module that a program imports of each supported SDK, by its package."""
    found = {}
    for sdk in SDKS:
        first = sdk.module.split(".")[0]
        package = sdk.package or first
        if package not in ("botocore", *FRAMEWORKS):
            module = {"google-genai": "google.genai", "cerebras-cloud-sdk": "cerebras.cloud.sdk", "boto3": "boto3"}
            found[package] = module.get(package, first)
    return found


def _is_imported(module: str, imported: set[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for name in imported)


def _python_files(root: Path) -> Iterator[Path]:
    count = 0
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in SKIPPED and not name.startswith("."))
        for name in sorted(files):
            if name.endswith(".py"):
                count += 1
                if count > MAX_FILES:
                    return
                yield Path(folder, name)


def _starts(path: Path, text: str) -> Iterator[str]:
    """The commands by which a file is started."""
    module = ".".join(path.with_suffix("").parts)
    if path.name == "manage.py":
        yield "python manage.py runserver"
        return
    for name, kind in _APP.findall(text):
        yield (
            f"celery -A {module} worker"
            if kind == "Celery"
            else (f"uvicorn {module}:{name}" if kind == "FastAPI" else f"gunicorn {module}:{name}")
        )
    if _MAIN.search(text) and not path.name.startswith("test_") and "tests" not in path.parts:
        yield f"python {path.as_posix()}"
