"""From the policy's `[answers]` to a store."""

from __future__ import annotations

from pathlib import Path

from tokenguard.answers.store import MemoryStore, Store
from tokenguard.facts.errors import PolicyError
from tokenguard.policy import AnswersConfig


def open_store(config: AnswersConfig, source: str = "") -> Store:
    """The store of `config`; nothing is connected to yet.

    `source` is the policy's file, where a relative SQLite path starts. Raises `PolicyError` where a package is missing.
    """
    most = config.max_mib * 2**20
    if config.url == "memory:":
        return MemoryStore(most)
    if (path := sqlite_file(config, source)) is not None:
        from tokenguard.answers.sqlite import SqliteStore

        return SqliteStore(path, most, timeout_s=config.timeout)
    try:
        import redis  # noqa: F401 - an extra
    except ImportError as error:
        raise PolicyError(
            f'{source or "[answers]"}: answers in Redis need the package redis: pip install "tokenguard-otel[redis]"'
        ) from error
    from tokenguard.answers.redis import RedisStore

    return RedisStore(config.url, most, timeout_s=config.timeout)


def sqlite_file(config: AnswersConfig, source: str = "") -> Path | None:
    """The file of `config`; `None` where answers are in none."""
    scheme, _, path = config.url.partition(":")
    return Path(source).parent / path.removeprefix("///") if scheme == "sqlite" else None
