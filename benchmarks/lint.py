"""How fast the linter is, beside ruff, on a million lines of LLM libraries and of large packages that are none.

    python benchmarks/lint.py [FOLDER]

FOLDER (default .tokenguard/corpus) gets the packages' wheels, unpacked. Each command runs three times; the table shows
the fastest wall time and the CPU time of all its processes in that run.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

LLM = (
    "langchain==1.5.0", "langchain-core==1.8.1", "langchain-community==0.4.2", "langchain-openai==1.7.4",
    "langgraph==1.2.22", "llama-index-core==0.14.25", "openai-agents==0.24.0", "crewai==1.15.30", "dspy==3.4.1",
)  # fmt: skip
OTHER = ("django==5.2.8", "sqlalchemy==2.0.44")
ROUNDS = 3


def fetch(packages: tuple[str, ...], folder: Path) -> Path:
    """The Python files of `packages`, unpacked under `folder`."""
    for package in packages:
        target = folder / package.replace("==", "-")
        if target.exists():
            continue
        wheels = folder.parent / "wheels" / package
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--only-binary",
            ":all:",
            "-d",
            str(wheels),
        ]
        subprocess.run([*command, package], check=True)
        with zipfile.ZipFile(next(wheels.glob("*.whl"))) as archive:
            archive.extractall(target, [n for n in archive.namelist() if n.endswith(".py")])
    return folder


def measure(command: list[str], before: Path | None = None) -> tuple[float, float]:
    """The fastest wall time of `command` in seconds, and that run's CPU time; `before` is removed ahead of each run."""
    best = (float("inf"), 0.0)
    for _ in range(ROUNDS):
        if before is not None:
            shutil.rmtree(before, ignore_errors=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
        best = min(best, (wall, cpu))
    return best


def main() -> None:
    """Print the table, as Markdown."""
    top = Path(sys.argv[1] if len(sys.argv) > 1 else ".tokenguard/corpus").resolve()
    (top / "tokenguard.toml").parent.mkdir(parents=True, exist_ok=True)
    (top / "tokenguard.toml").write_text("")
    ruff = str(Path(sys.executable).with_name("ruff"))
    lint = [sys.executable, "-m", "tokenguard.lint", "--config", str(top / "tokenguard.toml"), "--no-gitignore"]
    cache = top / ".tokenguard"
    one = top / "one.py"
    one.write_text("from openai import OpenAI\n\nOpenAI().responses.create(model='gpt-4.1', input='x')\n")
    print("| corpus | files | lines | command | wall s | CPU s |\n|---|---|---|---|---|---|")
    for name, packages in (("LLM libraries", LLM), ("Django and SQLAlchemy", OTHER), ("one file", ())):
        folder = fetch(packages, top / name.replace(" ", "-").lower()) if packages else one
        files = list(folder.rglob("*.py")) if packages else [one]
        lines = sum(file.read_bytes().count(b"\n") for file in files)
        path = str(folder)
        for label, command, clear in (
            ("ruff check --no-cache", [ruff, "check", "--isolated", "--no-cache", "--exit-zero", path], None),
            ("tokenguard lint --no-cache", [*lint, "--no-cache", path], None),
            ("tokenguard lint, warm cache", [*lint, path], None),
        ):
            if "warm" in label:
                subprocess.run(command, capture_output=True, check=False)
            wall, cpu = measure(command, clear)
            print(f"| {name} | {len(files):,} | {lines:,} | {label} | {wall:.2f} | {cpu:.2f} |")
    shutil.rmtree(cache, ignore_errors=True)


if __name__ == "__main__":
    main()
