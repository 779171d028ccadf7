"""How fast the linter is, beside ruff: on LLM libraries, on large packages that are none, and on any trees given.

    python benchmarks/lint.py [FOLDER] [TREE ...]

FOLDER (default .tokenguard/corpus) gets the packages' wheels, unpacked; TREEs are measured, too. The commands take turns,
ROUNDS times each, without settings; the table shows the medians of user and system time of all their processes, and the
medians of the rounds' ratios to ruff's.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from statistics import median

LLM = (
    "langchain==1.5.0", "langchain-core==1.8.1", "langchain-community==0.4.2", "langchain-openai==1.7.4",
    "langgraph==1.2.22", "llama-index-core==0.14.25", "openai-agents==0.24.0", "crewai==1.15.30", "dspy==3.4.1",
)  # fmt: skip
OTHER = ("django==5.2.8", "sqlalchemy==2.0.44")
ROUNDS = 5


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


def cpu(command: list[str], folder: Path) -> float:
    """The user and system time of `command`, run in `folder`, and its children, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the table, as Markdown."""
    top = Path(sys.argv[1] if len(sys.argv) > 1 else ".tokenguard/corpus").resolve()
    top.mkdir(parents=True, exist_ok=True)
    ruff = [str(Path(sys.executable).with_name("ruff")), "check", "--isolated", "--exit-zero", "--no-respect-gitignore"]
    lint = [str(Path(sys.executable).with_name("tokenguard")), "lint", "--isolated", "--no-gitignore", "-j1"]
    one = top / "one.py"
    one.write_text("from openai import OpenAI\n\nOpenAI().responses.create(model='gpt-4.1', input='x')\n")
    trees = {Path(tree).name: Path(tree).resolve() for tree in sys.argv[2:]}
    packages = {"LLM libraries": LLM, "Django and SQLAlchemy": OTHER}
    trees |= {name: fetch(wanted, top / name.replace(" ", "-").lower()) for name, wanted in packages.items()}
    print("| corpus | files | MB | ruff | tokenguard lint | ratio | warm | ratio |\n|---|---|---|---|---|---|---|---|")
    for name, tree in {**trees, "one file": one}.items():
        files = list(tree.rglob("*.py")) if tree.is_dir() else [tree]
        size = sum(file.stat().st_size for file in files) / 1e6
        cpu([*lint, str(tree)], top)  # fills the cache
        commands = [[*ruff, "--no-cache", str(tree)], [*lint, "--no-cache", str(tree)], [*lint, str(tree)]]
        times = [[cpu(command, top) for command in commands] for _ in range(ROUNDS)]
        theirs, cold, warm = map(median, zip(*times, strict=True))
        ratios = [f"{median(row[at] / row[0] for row in times):.2f}" if theirs > 0.05 else "" for at in (1, 2)]
        print(
            f"| {name} | {len(files):,} | {size:.1f} | {theirs:.2f} | {cold:.2f} | {ratios[0]} | {warm:.2f} | {ratios[1]} |"
        )
    shutil.rmtree(top / ".tokenguard", ignore_errors=True)


if __name__ == "__main__":
    main()
