"""The ledger of a fleet: a Redis (or Valkey) server that all machines share, one Lua script per operation.

Keys, all in one hash slot: `{tokenguard}:a:<account>` is a hash per account, `{tokenguard}:r:<id>` one per reservation;
the sorted sets `{tokenguard}:leases` and `{tokenguard}:accounts` order them by the time at which they end. Numbers are
integers; Lua compares them as doubles, exact up to 2**53 (9 million USD), which is the policy's largest limit.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tokenguard.ledger.base import LEASE_S, Clock, Ledger, log
from tokenguard.ledger.entry import (
    _SEPARATOR,
    USD,
    Alert,
    Balance,
    Entry,
    LedgerError,
    Refusal,
    Reservation,
    new_id,
)
from tokenguard.ledger.redis_faults import doubts, sentence
from tokenguard.ledger.redis_scripts import LUA, SCRIPTS
from tokenguard.process.interrupts import interrupt
from tokenguard.process.redis_client import Server

_PREFIX: Final = "{tokenguard}:"
_JOIN: Final = "\x1e"
_PAGE: Final = 500
"""Accounts per script when all are listed: a few milliseconds of the server's time."""


class RedisLedger(Ledger):
    """Accounts in Redis, one round trip per operation. Needs the `redis` package (`tokenguard-otel[redis]`).

    Time is the server's, so that machines whose clocks differ agree on leases; a `clock` that is given replaces it.
    `timeout_s` bounds each operation, with all that it takes to connect. Raises `LedgerError`.
    """

    threads = 4

    def __init__(
        self, url: str, *, lease_s: float = LEASE_S, timeout_s: float = 1.0, clock: Clock | None = None
    ) -> None:
        super().__init__(lease_s=lease_s, clock=clock or time.time)
        try:
            import redis

            self._server = Server(url, timeout_s, {name: LUA + script for name, script in SCRIPTS.items()})
        except ImportError as error:
            raise LedgerError(
                'a redis:// ledger needs the redis package: pip install "tokenguard-otel[redis]"'
            ) from error
        self._errors = (redis.RedisError, OSError)
        self._given_clock = clock
        self._ahead_s = 0.0
        self._epoch: object = None
        """What the data of the server begins with: another one means that it was lost."""

    def now(self) -> float:
        """Unix seconds by the server's clock, as of the last answer."""
        return self._clock() + self._ahead_s

    def reserve(
        self, entries: Sequence[Entry], nano: int, tokens: int, key: str | None = None, *, lease_s: float | None = None
    ) -> Reservation | Refusal:
        """See `Ledger.reserve`."""
        lease = self.lease_s if lease_s is None else lease_s
        key = key or new_id()
        args: list[Any] = [key, nano, tokens, lease]
        for entry in entries:
            args += (*_limits(entry), int(entry.enforce), entry.window_end)
        answer = self._run("reserve", args)
        seen = answer.pop() if answer and isinstance(answer[-1], list) else []
        over = []
        for index, unit, spent, reserved in _groups(answer, 4):
            entry = entries[index - 1]
            limit, asked = (entry.limit_nano, nano) if unit == 1 else (entry.limit_tokens, tokens)
            over.append(Refusal(entry, USD if unit == 1 else entry.counts, spent, reserved, limit or 0, asked))
            if entry.enforce:
                return over[-1]
        made = Reservation(key, tuple(entries), nano, tokens, self.now() + lease, tuple(over))
        made.seen = list(_groups(seen, 2))
        return made

    def _close(self, reservation: Reservation, nano: int, tokens: int, *, alert: bool) -> tuple[Alert, ...]:
        watched = [entry for entry in reservation.entries if entry.alert_at] if alert else []
        # One that nobody has seen an answer to may still be on its way: then it is void when it comes.
        args: list[Any] = [reservation.id, nano, tokens, int(bool(watched)), int(not reservation.expires)]
        for entry in watched:
            args += (*_limits(entry), _thresholds(entry))
        return _alerts(self._run("close", args), watched)

    def read(self, entries: Sequence[Entry]) -> list[Balance]:
        """See `Ledger.read`."""
        answer = self._run("read", [entry.account for entry in entries])
        return [
            Balance(entry.budget, entry.key, entry.window_start, entry.window_end, *numbers)
            for entry, numbers in zip(entries, _groups(answer, 6), strict=True)
        ]

    def accounts(self) -> list[Balance]:
        """See `Ledger.accounts`."""
        (flat,) = self._run("list", [])
        found = [(account.decode(), int(float(end))) for account, end in _groups(flat, 2)]
        out = []
        for page in (found[at : at + _PAGE] for at in range(0, len(found), _PAGE)):
            answer = self._run("read", [account for account, _ in page])
            for (account, end), numbers in zip(page, _groups(answer, 6), strict=True):
                budget, key, start = account.split(_SEPARATOR)
                out.append(Balance(budget, key, int(start), end, *numbers))
        return sorted(out)

    def reset(self, budget: str) -> int:
        """See `Ledger.reset`."""
        (flat,) = self._run("list", [])
        mine = [account for account, _ in _groups(flat, 2) if account.decode().split(_SEPARATOR)[0] == budget]
        for at in range(0, len(mine), _PAGE):
            self._run("reset", mine[at : at + _PAGE])
        return len(mine)

    def alerts(self, entries: Sequence[Entry]) -> tuple[Alert, ...]:
        """See `Ledger.alerts`."""
        watched = [entry for entry in entries if entry.alert_at]
        args: list[Any] = []
        for entry in watched:
            args += (*_limits(entry), _thresholds(entry))
        return _alerts(self._run("alerts", args), watched)

    def refused(self, entry: Entry) -> tuple[Alert, ...]:
        """See `Ledger.refused`."""
        if not entry.alert_at:
            return ()
        answer = self._run("refused", [entry.account, entry.window_end, self.lease_s])
        return tuple(Alert(entry, 1.0, nano, tokens, refused=True) for nano, tokens in _groups(answer, 2))

    def drop(self, accounts: Sequence[str]) -> None:
        """See `Ledger.drop`."""
        self._run("drop", accounts)

    def doubts(self) -> list[str]:
        """See `Ledger.doubts`."""
        try:
            return doubts(self._server.info("memory"))
        except self._errors:  # not everybody may ask
            return []

    def _say_doubts(self) -> None:
        for doubt in self.doubts():
            log.warning("tokenguard: %s", doubt)

    def close(self) -> None:
        """See `Ledger.close`."""
        super().close()
        self._server.close()

    def _run(self, script: str, args: Sequence[Any]) -> list[Any]:
        """What a script answers, without the server's time, which is noted."""
        given = "" if self._given_clock is None else repr(self._given_clock())
        try:
            answer: list[Any] = self._server.run(script, [_PREFIX], [given, *args])
        except self._errors as error:
            if (raised := interrupt(error)) is not None:
                self._server.begin()
                raise raised from None
            raise LedgerError(f"the Redis ledger cannot be used: {sentence(error)}") from error
        except BaseException:
            # A signal handler's. An answer may be on its way that nobody has waited for: the next must not get it.
            self._server.begin()
            raise
        if not isinstance(answer, list) or len(answer) < 2:
            raise LedgerError(
                f"the Redis ledger cannot be used: it answers {str(answer)[:80]!r}, as no Redis does. "
                "Check [ledger] url"
            )
        self._ahead_s = float(answer[0]) - self._clock()
        epoch, self._epoch = self._epoch, answer[1]
        if epoch is None:
            self._threaded().soon(self._say_doubts)
        if epoch not in (None, answer[1]):
            log.warning(
                "tokenguard: the Redis ledger has lost its data: what was spent before is no longer counted. Let it "
                'append to a file ("appendonly yes"), and evict nothing ("maxmemory-policy noeviction").'
            )
        return answer[2:]


def _limits(entry: Entry) -> tuple[str, int | str, int | str]:
    return (
        entry.account,
        "" if entry.limit_nano is None else entry.limit_nano,
        "" if entry.limit_tokens is None else entry.limit_tokens,
    )


def _thresholds(entry: Entry) -> str:
    return " ".join(repr(at) for at in sorted(entry.alert_at))


def _alerts(answer: list[Any], watched: Sequence[Entry]) -> tuple[Alert, ...]:
    return tuple(
        Alert(watched[int(index) - 1], float(at), spent_nano, spent_tokens)
        for index, at, spent_nano, spent_tokens in _groups(answer, 4)
    )


def _groups(flat: Sequence[Any], size: int) -> Iterable[tuple[Any, ...]]:
    return zip(*[iter(flat)] * size, strict=True)
