"""From the policy's `[ledger]` to a ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from tokenguard.facts.errors import PolicyError
from tokenguard.ledger.base import Ledger
from tokenguard.ledger.entry import LedgerError
from tokenguard.ledger.memory import MemoryLedger


class LedgerSettings(Protocol):
    """What the policy's `[ledger]` says (`policy.LedgerConfig`)."""

    @property
    def url(self) -> str: ...  # noqa: D102 - the policy's page describes them
    @property
    def lease(self) -> float: ...  # noqa: D102
    @property
    def timeout(self) -> float: ...  # noqa: D102
    @property
    def on_loss(self) -> str: ...  # noqa: D102
    @property
    def slice(self) -> float: ...  # noqa: D102
    @property
    def slice_lease(self) -> float: ...  # noqa: D102
    @property
    def slice_idle(self) -> float: ...  # noqa: D102


def file_of(config: LedgerSettings, source: str = "") -> Path:
    """The file of a SQLite ledger; a relative one is looked for beside the policy's file."""
    return Path(source).parent / config.url.partition(":")[2].removeprefix("///")


def open_ledger(config: LedgerSettings, source: str = "") -> Ledger:
    """The ledger of `config`, with slices and survival of its loss as configured. Nothing is connected to yet.

    `source` is the policy's file (`Policy.source`), where a relative SQLite path starts. Raises `PolicyError` where a
    package is missing.
    """
    scheme = config.url.partition(":")[0]
    if scheme == "memory":
        return MemoryLedger(lease_s=config.lease)
    shared: Ledger
    if scheme == "sqlite":
        from tokenguard.ledger.sqlite import SqliteLedger

        shared = SqliteLedger(file_of(config, source), lease_s=config.lease, timeout_s=config.timeout)
    else:
        from tokenguard.ledger.redis import RedisLedger

        try:
            shared = RedisLedger(config.url, lease_s=config.lease, timeout_s=config.timeout)
        except LedgerError as error:
            raise PolicyError(f"{source or '[ledger]'}: {error}") from error
    from tokenguard.ledger.loss import SurvivingLedger

    surviving = SurvivingLedger(shared, on_loss=config.on_loss)
    if not config.slice:
        return surviving
    from tokenguard.ledger.slices import SlicedLedger

    return SlicedLedger(surviving, share=config.slice, slice_lease_s=config.slice_lease, idle_s=config.slice_idle)
