"""`--watch`: lint again whenever a file changes. The operating system tells; nothing is polled."""

from __future__ import annotations

import gc
import os
import sys

from tokenguard.lint.config import FILES, ConfigError
from tokenguard.lint.files import SUFFIXES
from tokenguard.lint.session import Options, Session


def watch(paths: tuple[str, ...], options: Options) -> int:
    """Lint `paths` until the person stops it; the status of the last look. Raises ConfigError without watchfiles."""
    try:
        from watchfiles import watch as changes
    except ImportError as error:
        raise ConfigError("--watch needs watchfiles: pip install 'tokenguard-otel[editor]'") from error
    if paths == ("-",) or options.fixing or options.add_ignore:
        raise ConfigError(
            "--watch lints files whenever they change; it cannot be combined with `-` (standard input) or with fixes."
        )
    status = _look(paths, options)
    folders = {path if os.path.isdir(path) else os.path.dirname(path) or "." for path in paths}
    for _ in changes(*folders, watch_filter=lambda _, path: _matters(path), raise_interrupt=False):
        status = _look(paths, options)
    return status


def _matters(path: str) -> bool:
    return path.endswith(SUFFIXES) or os.path.basename(path) in (*FILES, ".gitignore")


def _look(paths: tuple[str, ...], options: Options) -> int:
    """One run, on a cleared terminal; settings that are wrong for a moment end nothing."""
    if sys.stdout.isatty():
        sys.stdout.write("\x1b[2J\x1b[H")
    try:
        status = Session(options).run(paths)
    except ConfigError as error:
        sys.stderr.write(f"error: {error}\n")
        status = 2
    gc.collect()  # the command line runs without, as short as it mostly lives
    sys.stderr.write("Watching for changes; Ctrl-C ends this.\n")
    return status
