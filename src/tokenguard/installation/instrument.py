"""`tokenguard-instrument CMD...`: run a program with every provider SDK measured, and no line of it changed.

A directory with a `sitecustomize` goes first on PYTHONPATH, so that the program and every Python it starts (workers,
subprocesses) install TokenGuard before anything else, and OpenTelemetry's own auto-instrumentation after that: an
exporter that is missing, or an instrumentation that fails, takes the telemetry down and not the meter.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenguard.facts import names

AUTOLOAD = str(Path(__file__).parent / "autoload")

USAGE = """\
usage: tokenguard-instrument COMMAND [ARGS...]

Runs COMMAND with every LLM call measured: python app.py, python -m app, gunicorn app:app, and whatever they start.
A file, archive or module is run with this Python: `tokenguard-instrument app.py`, `app.pyz`, `-m app`.

With OTEL_EXPORTER_OTLP_ENDPOINT set, spans and metrics go there; with none, calls go to the local store
(TOKENGUARD_STORE, default .tokenguard/usage.db), and `tokenguard report` shows them.

Examples:
  tokenguard-instrument python app.py
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 tokenguard-instrument gunicorn app:app

It has no options but --help and --version: settings are environment variables, and tokenguard.toml.
"""

UNKNOWN_OPTION = """\
tokenguard-instrument: there is no option {option}. Options of your program go behind its name:

    tokenguard-instrument python app.py {option}

TokenGuard itself is set by environment variables and tokenguard.toml: see tokenguard-instrument --help.
"""

DEAF = """\
tokenguard-instrument: with {option}, Python loads nothing that is not named in the program: nothing would be measured,
and no limit would hold. Leave {option} out, or call tokenguard.install() in the program and start it as it is.
"""
DEAF_OPTIONS = "IES"
"""Of Python's: it reads no PYTHONPATH then (-I, -E), or no `sitecustomize` (-S)."""


def main() -> None:
    """The command `tokenguard-instrument`."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="", file=sys.stdout if arguments else sys.stderr)
        sys.exit(0 if arguments else 2)
    if arguments[0] == "--version":
        from tokenguard import __version__

        print(f"tokenguard-instrument {__version__}")  # noqa: T201
        sys.exit(0)
    if arguments[0] == "--":
        arguments.pop(0)
    if not arguments or (arguments[0].startswith("-") and arguments[0] != "-m"):
        option = arguments[0] if arguments else "--"
        print(UNKNOWN_OPTION.format(option=option), end="", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    program = shutil.which(arguments[0])
    if arguments[0] == "-m" or arguments[0].endswith(".py") or (program is None and _python_runs(arguments[0])):
        arguments.insert(0, sys.executable)
        program = sys.executable
    if program is None:
        print(_no_command(arguments[0]), file=sys.stderr)  # noqa: T201
        sys.exit(126 if Path(arguments[0]).exists() else 127)  # as a shell does
    if (deaf := deaf_option([*_interpreter(program), *arguments[1:]])) is not None:
        print(DEAF.format(option=deaf), end="", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    if sys.stdout is not None:  # a service may be started without
        sys.stdout.flush()
    if os.name == "nt":  # there, exec returns to the shell while the program still runs
        import subprocess

        sys.exit(subprocess.call([program, *arguments[1:]], env=environment(os.environ)))  # noqa: S603 - the same
    os.execve(program, arguments, environment(os.environ))  # noqa: S606 - running the user's command is the purpose


def _python_runs(path: str) -> bool:
    """Whether a path is an application for Python: an archive (`app.pyz`) or a folder with a `__main__.py`."""
    if os.path.isdir(path):
        return Path(path, "__main__.py").is_file()
    from zipfile import BadZipFile, ZipFile

    try:
        with ZipFile(path) as archive:
            return "__main__.py" in archive.namelist()
    except (OSError, BadZipFile):
        return False


def _no_command(name: str) -> str:
    """What is said where nothing can be run: what there is of that name, and what to do."""
    if os.path.isdir(name):
        return f"tokenguard-instrument: {name!r} is a folder without a __main__.py. Give what is to be run."
    if os.path.exists(name):
        path = name if os.sep in name else os.path.join(os.curdir, name)
        way = f"tokenguard-instrument {path}" if os.access(name, os.X_OK) else f"chmod +x {path}"
        return (
            f"tokenguard-instrument: {name!r} is a file, and no command on PATH. If it is a Python program: "
            f"tokenguard-instrument python {name}. If it runs by itself: {way}"
        )
    return (
        f"tokenguard-instrument: no command {name!r} on PATH. Give the whole command: "
        "tokenguard-instrument python app.py"
    )


def _interpreter(program: str) -> list[str]:
    """The words that the system runs a program with: a script's, by its first line, or the program itself."""
    try:
        with open(program, "rb") as file:
            line = file.readline(1000)
    except OSError:
        return [program]
    return [*line[2:].decode("utf-8", "replace").split(), program] if line.startswith(b"#!") else [program]


def deaf_option(command: Sequence[str]) -> str | None:
    """The option with which this Python would not load TokenGuard, if it is a Python and has one.

    >>> deaf_option(["/usr/bin/python3", "-X", "dev", "-sE", "app.py"])
    '-E'
    """
    words = iter(command)
    for word in words:
        if re.fullmatch(r"(python|pypy)w?[\d.]*t?(\.exe)?", Path(word).name):
            break
    for word in words:
        if not word.startswith("-") or word.startswith("--"):
            return None
        for at, letter in enumerate(word[1:], 2):
            if letter in DEAF_OPTIONS:
                return f"-{letter}"
            if letter in "cm":
                return None
            if letter in "WX":
                if at == len(word):
                    next(words, None)
                break
    return None


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """`base` with what makes a Python started in it measure itself."""
    env = dict(base)
    given = env.get("PYTHONPATH")
    # An empty element is the working directory; a variable that is empty as a whole is none.
    paths = [path for path in given.split(os.pathsep) if path != AUTOLOAD] if given else []
    env["PYTHONPATH"] = os.pathsep.join([AUTOLOAD, *paths])
    endpoints = [env[name] for name in names.OTLP_ENDPOINTS if env.get(name)]
    for signal in ("TRACES", "METRICS"):
        # With no endpoint nobody listens: the local store has the records.
        env.setdefault(f"OTEL_{signal}_EXPORTER", "otlp" if endpoints else "none")
    env.setdefault("OTEL_LOGS_EXPORTER", "none")
    if any(endpoint.rstrip("/").endswith(":4318") or "/v1/" in endpoint for endpoint in endpoints):
        # The port of OTLP over HTTP; Python's default protocol is gRPC.
        env.setdefault("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    return env
