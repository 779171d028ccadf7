"""Lints many files: asks the caches, reads, lints in processes where that pays, keeps the order."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from tokenguard.lint.cache import Cache, Result
from tokenguard.lint.config import Config
from tokenguard.lint.files import Found
from tokenguard.lint.finding import Finding
from tokenguard.lint.sources import read, stamp

TYPE_CHECKING = False
if TYPE_CHECKING:  # where every answer is kept, nothing is linted
    from tokenguard.lint.engine import Linter

_CHUNK = 40  # files a worker takes at a time
_SERIAL_BELOW = 8_000_000  # bytes; starting processes costs more than linting fewer
_ROOM = 16_000_000  # bytes, so that what a tree has freed is there for the next one


def lint_source(linter: Linter, source: bytes, path: str) -> list[Finding]:
    """The findings of a file's bytes: a notebook by its suffix, else Python."""
    if path.endswith(".ipynb"):
        from tokenguard.lint.notebooks import lint_notebook

        return lint_notebook(linter, source, path)
    return linter.lint(source, path)


def lint_file(linter: Linter, path: str) -> Result:
    """Lint one file of the disk."""
    before = stamp(path)  # a file that changes while it is read is read again next time
    source = read(path)
    if isinstance(source, str):
        return Result(path, linter.broken(path, source))
    findings = lint_source(linter, source, path)
    return Result(path, findings, before, linter.consulted())


class Run:
    """Files under one or several settings, linted once or again and again."""

    def __init__(self, *, jobs: int = 0, cached: bool = True) -> None:
        """`jobs` 0: one process per CPU, where there is work for them."""
        self._jobs = jobs or _cpus()
        self._cached = cached
        self._linters: dict[int, Linter] = {}

    def linter(self, config: Config) -> Linter:
        """The linter for these settings, made when it is first asked for. Raises ConfigError."""
        known = self._linters.get(id(config))
        if known is None:
            from tokenguard.lint.engine import Linter

            known = self._linters[id(config)] = Linter(config)
        return known

    def lint(self, files: Iterable[Found], linted: Callable[[], None] = lambda: None) -> list[Finding]:
        """The findings of `files`, in order; `linted` is called after each file."""
        collects = gc.isenabled()
        gc.disable()  # syntax trees hold no cycles worth looking for, and looking costs as much as parsing
        try:
            return sorted(self._lint(files, linted), key=lambda f: f.order)
        finally:
            if collects:  # to enable it is to look through all there is, at once
                gc.enable()

    def _lint(self, files: Iterable[Found], linted: Callable[[], None]) -> Iterator[Finding]:
        caches: dict[int, Cache] = {}
        todo: list[Found] = []
        for file in files:
            if self._cached:
                cache = caches.get(id(file.config))
                if cache is None:
                    cache = caches[id(file.config)] = Cache(file.config, self._code(file.config))
                known = cache.get(file.path)
                if known is not None:
                    linted()
                    yield from known
                    continue
            todo.append(file)
        for file, result in self._results(todo):
            linted()
            yield from result.findings
            if self._cached:
                caches[id(file.config)].put(result)
        for cache in caches.values():
            cache.save()

    def _code(self, config: Config) -> list[str]:
        """The files of third-party rules, as far as the settings select any."""
        if not config.plugins and all(code.startswith("TG") for code in config.select):
            return []
        return sorted(rule.source for rule in self.linter(config).all_rules.values())

    def _results(self, todo: Sequence[Found]) -> Iterator[tuple[Found, Result]]:
        for config in {id(file.config): file.config for file in todo}.values():
            self.linter(config)
        bytes(_ROOM)  # once a large block has been freed, glibc keeps twice as much of what is freed later
        if self._jobs > 1 and _bytes(todo) >= _SERIAL_BELOW:
            yield from self._in_processes(todo)
        else:
            for file in todo:
                yield file, lint_file(self.linter(file.config), file.path)

    def _in_processes(self, todo: Sequence[Found]) -> Iterator[tuple[Found, Result]]:
        from tokenguard.lint.shared import MOST, shared

        size = max(_CHUNK, len(todo) // MOST + 1)
        chunks = [todo[start : start + size] for start in range(0, len(todo), size)]

        def lint(number: int) -> list[Result]:
            return [lint_file(self.linter(file.config), file.path) for file in chunks[number]]

        for number, results in shared(lint, len(chunks), self._jobs):
            yield from zip(chunks[number], results, strict=True)


def _cpus() -> int:
    """How many processes can be at work; one where none can be forked."""
    if not hasattr(os, "fork"):
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _bytes(files: Sequence[Found]) -> int:
    """The size of the files, as far as it matters."""
    size = 0
    for file in files:
        known = stamp(file.path)
        size += known[2] if known else 0
        if size >= _SERIAL_BELOW:
            break
    return size
