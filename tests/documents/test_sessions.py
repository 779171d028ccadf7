"""The quickstarts are sessions: their files are written, their commands are run, and print what the page says.

Each page has an environment of its own, with the newest versions of what its `pip install` names, made under .venvs.
The provider is simulated; everything else is what the page names.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys

import pytest

from documents.blocks import ROOT, blocks
from tokenguard.demo.provider import SimulatedProvider

PAGES = sorted((ROOT / "docs" / "start").glob("*.md"))
SESSIONS = [page for page in PAGES if any(block.language == "console" for block in blocks(page))]
MARK = "@@@"
SECONDS = 240
pytestmark = pytest.mark.apart


def steps(page):
    """The page in order: a file with its text, or a command with the output that is shown."""
    for block in blocks(page):
        if block.title:
            yield "file", block.title, block.text
        elif block.language == "console":
            parts = re.split(r"(?m)^\$ ", block.text.replace("\\\n", " "))
            for part in parts[1:]:
                command, _, shown = part.partition("\n")
                yield "command", command.strip(), shown.strip()


def environment(page):
    """The folder of the environment that the page's `pip install` lines make."""
    wanted = [word for kind, line, _ in steps(page) if kind == "command" and line.startswith("pip install ") for word in
              line.replace("'", "").split()[2:]]  # fmt: skip
    ours = [re.sub(r"^tokenguard-otel", str(ROOT), word) for word in wanted]
    key = hashlib.sha256(" ".join(ours).encode()).hexdigest()[:12]
    folder = ROOT / ".venvs" / f"start-{page.stem}-{key}"
    if not (folder / ".done").exists():
        editable = [part for word in ours for part in (["--editable", word] if word.startswith(str(ROOT)) else [word])]
        subprocess.run([sys.executable, ROOT / "scripts" / "make_venv.py", folder, *editable], check=True)
        (folder / ".done").touch()
    return folder


def script(page, folder):
    """The page as a program of bash."""
    lines = ["set -e", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]
    for n, (kind, what, text) in enumerate(steps(page)):
        if kind == "file":
            path = folder / f"page-{n}"
            path.write_text(text)
            lines.append(f"mkdir -p $(dirname '{what}'); cp '{path}' '{what}'")
        elif what.startswith("pip install "):
            continue
        elif what.endswith("&"):
            lines.append(f"{what.removesuffix('&')} >background-{n}.log 2>&1 &")
            if port := re.search(r"(?:--port |:)(\d{4,5})\b", what):
                lines.append(f"until (: < /dev/tcp/127.0.0.1/{port[1]}) 2>/dev/null; do sleep 0.2; done")
        else:
            lines.append(f"echo; echo '{MARK} {n}'; {what}")
    return "\n".join(lines) + "\n"


def matches(shown, printed):
    """Whether what was printed has what is shown; `...` stands for anything, and the amount of space does not count."""
    wanted = r".*?".join(r"\s+".join(map(re.escape, part.split())) for part in shown.split("..."))
    return re.search(wanted, printed, re.DOTALL) is not None


@pytest.mark.parametrize("page", SESSIONS, ids=lambda page: page.stem)
def test_session(page, tmp_path):
    """Every command of the page succeeds, and prints what the page shows."""
    named = " ".join(what for kind, what, _ in steps(page) if kind == "command")
    for program in ("redis-server", "curl"):
        if program in named and shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir()
    home.mkdir()
    venv = environment(page)
    with SimulatedProvider(tool_rounds=2) as provider:
        ours = ("TOKENGUARD", "OTEL", "PYTEST")
        env = {key: value for key, value in os.environ.items() if not key.startswith(ours)} | {
            "HOME": str(home),
            "PATH": f"{venv / 'bin'}:{os.environ['PATH']}",
            "OPENAI_BASE_URL": provider.openai_url,
            "OPENAI_API_KEY": "sk-simulated",
            "ANTHROPIC_BASE_URL": provider.anthropic_url,
            "ANTHROPIC_API_KEY": "sk-ant-simulated",
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": provider.url,
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_DEFAULT_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1,localhost",
            "TOKENGUARD_INCLUDE_USAGE": "always",
            "TOKENGUARD_HOSTS": "127.0.0.1=sdk",
            "COLUMNS": "120",
        }  # fmt: skip
        done = subprocess.run(
            ["bash", "-c", script(page, tmp_path)],
            cwd=work, env=env, timeout=SECONDS, check=False, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    logs = "".join(f"\n--- {log.name}\n{log.read_text()[-3000:]}" for log in sorted(work.glob("background-*.log")))
    assert done.returncode == 0, f"{done.stdout[-4000:]}{logs}"
    printed = {
        int(n): text
        for n, text in re.findall(rf"^{MARK} (\d+)\n(.*?)(?=^{MARK} |\Z)", done.stdout, re.MULTILINE | re.DOTALL)
    }
    for n, (kind, what, shown) in enumerate(steps(page)):
        if kind == "command" and shown:
            assert matches(shown, printed.get(n, "")), f"$ {what}\n{printed.get(n)}\n--- is not\n{shown}{logs}"


def test_other_pages_have_nothing_to_run():
    """A quickstart without a session says that it is not run: it needs what a test has not."""
    rest = [page for page in PAGES if page not in SESSIONS and page.stem != "index"]
    assert [page.name for page in rest if "not run by the tests" not in page.read_text()] == []
