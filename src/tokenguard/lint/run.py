"""Lints many files: reads, asks the cache, lints in processes, keeps the order."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from tokenguard.lint.cache import Cache, digest
from tokenguard.lint.config import Config
from tokenguard.lint.engine import Linter
from tokenguard.lint.finding import Finding

_CHUNK = 40  # files a worker takes at a time
_SERIAL_BELOW = 60  # files; starting processes costs more than linting fewer


class Result(NamedTuple):
    """One file's outcome: its findings, the hash of its bytes, and the files they depend on."""

    path: str
    findings: list[Finding]
    key: str = ""
    consulted: tuple[str, ...] = ()


def read(path: str) -> bytes | str:
    """The bytes of a file, or a sentence why there are none. Devices and pipes are never opened."""
    try:
        if not os.path.isfile(path):
            return "Not a regular file."
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        return f"Cannot be read: {error.strerror or error}"


def lint_source(linter: Linter, source: bytes, path: str) -> list[Finding]:
    """The findings of a file's bytes: a notebook by its suffix, else Python."""
    if path.endswith(".ipynb"):
        from tokenguard.lint.notebooks import lint_notebook

        return lint_notebook(linter, source, path)
    return linter.lint(source, path)


def lint_file(linter: Linter, path: str) -> Result:
    """Lint one file of the disk."""
    source = read(path)
    if isinstance(source, str):
        return Result(path, linter.broken(path, source))
    linter.project.consulted = set()
    findings = lint_source(linter, source, path)
    return Result(path, findings, digest(source), tuple(sorted(linter.project.consulted)))


def lint_paths(config: Config, paths: Sequence[str], *, jobs: int = 0, cache: Cache | None = None) -> list[Finding]:
    """The findings of all `paths`, in order. `jobs` 0: one process per CPU; a few files are linted in this process."""
    gc.disable()  # syntax trees hold no cycles worth looking for, and looking costs as much as parsing
    linter = Linter(config)
    found: dict[str, list[Finding]] = {}
    todo: list[str] = []
    if cache is not None:
        for path in paths:
            known = cache.get(path)
            if known is None:
                todo.append(path)
            else:
                found[path] = known
    else:
        todo = list(paths)
    jobs = jobs or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else jobs or os.cpu_count() or 1
    serial = jobs == 1 or len(todo) < _SERIAL_BELOW
    for result in (lint_file(linter, p) for p in todo) if serial else _in_processes(config, todo, jobs):
        found[result.path] = result.findings
        if cache is not None and result.key:
            cache.put(result)
    if cache is not None:
        cache.save()
    gc.enable()
    return sorted((f for findings in found.values() for f in findings), key=lambda f: f.order)


def _in_processes(config: Config, paths: Sequence[str], jobs: int) -> Iterator[Result]:
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(jobs, initializer=_start, initargs=(config,)) as pool:
        for results in pool.map(_lint_chunk, _chunks(paths)):
            yield from results


_worker: Linter


def _start(config: Config) -> None:
    global _worker
    gc.disable()
    _worker = Linter(config)


def _lint_chunk(paths: list[str]) -> list[Result]:
    return [lint_file(_worker, path) for path in paths]


def _chunks(paths: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(paths)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
