"""The ledger of a fleet: a Redis (or Valkey) server that all machines share, one Lua script per operation.

Keys, all in one hash slot: `{tokenguard}:a:<account>` is a hash per account, `{tokenguard}:r:<id>` one per reservation;
the sorted sets `{tokenguard}:leases` and `{tokenguard}:accounts` order them by the time at which they end. Numbers are
integers; Lua compares them as doubles, exact up to 2**53 (9 million USD), which is the policy's largest limit.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

from tokenguard.ledger.base import LEASE_S, RETAIN_S, Clock, Ledger, log
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
from tokenguard.process.interrupts import interrupt

_PREFIX: Final = "{tokenguard}:"
_JOIN: Final = "\x1e"
_PAGE: Final = 500
"""Accounts per script when all are listed: a few milliseconds of the server's time."""

# Redis runs a script alone, so every script is atomic. A repeated script (a client that retries after a lost answer)
# finds what the first run left and changes nothing.
_LUA: Final = f"""
local P = KEYS[1]
local function now()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local t = redis.call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1e6
end
local T = now()
local function text(n) return string.format('%.0f', n) end
local function add(key, field, n)
  if n ~= 0 then return redis.call('HINCRBY', key, field, text(n)) end
end
local function add_from_0(key, field, n)
  if n ~= 0 and redis.call('HINCRBY', key, field, text(n)) < 0 then redis.call('HSET', key, field, '0') end
end
local function account(id) return P .. 'a:' .. id end
local function numbers(key, ...)
  local out = redis.call('HMGET', key, ...)
  for i = 1, #out do out[i] = tonumber(out[i] or '0') end
  return out
end
local function charge_orphans()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', T, 'LIMIT', 0, 1000)) do
    local record = P .. 'r:' .. id
    local r = redis.call('HMGET', record, 'nano', 'tokens', 'accounts')
    local n, t = tonumber(r[1] or '0'), tonumber(r[2] or '0')
    for a in string.gmatch(r[3] or '', '[^\\30]+') do
      local key = account(a)
      if redis.call('EXISTS', key) == 1 then
        add(key, 'rn', -n); add(key, 'rt', -t)
        add(key, 'sn', n); add(key, 'st', t)
        add(key, 'on', n); add(key, 'ot', t)
      end
    end
    redis.call('HSET', record, 'orphaned', '1')
    redis.call('EXPIRE', record, {RETAIN_S})
    redis.call('ZREM', P .. 'leases', id)
  end
end
local function open(id, window_end, lease)
  if redis.call('EXISTS', account(id)) == 1 then return end
  charge_orphans()
  redis.call('HSET', account(id), 'al', '0')
  redis.call('ZADD', P .. 'accounts', window_end, id)
  local left = tonumber(window_end) - T
  if left < 1e9 then redis.call('EXPIRE', account(id), text(math.max(left, 0) + {RETAIN_S} + lease)) end
end
local function alerts(out, i, id, limit_nano, limit_tokens, thresholds)
  local key = account(id)
  local s = numbers(key, 'sn', 'st', 'al')
  local share = 0
  for k, limit in ipairs({{limit_nano, limit_tokens}}) do
    if limit ~= '' and s[k] > 0 then share = math.max(share, s[k] / tonumber(limit)) end
  end
  for at in string.gmatch(thresholds, '%S+') do
    if tonumber(at) > s[3] and tonumber(at) <= share then
      redis.call('HSET', key, 'al', at)
      out[#out + 1] = i; out[#out + 1] = at; out[#out + 1] = s[1]; out[#out + 1] = s[2]
    end
  end
end
local epoch = redis.call('GET', P .. 'epoch')
if not epoch then
  epoch = string.format('%.6f', T)
  redis.call('SET', P .. 'epoch', epoch)
end
local out = {{string.format('%.6f', T), epoch}}
"""

_RESERVE: Final = """
local id, n, t, lease = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local record = P .. 'r:' .. id
if redis.call('EXISTS', record) == 1 then return out end
local ids, seen = {}, {}
for i = 6, #ARGV, 5 do
  local a, enforce, window_end = ARGV[i], ARGV[i + 3], ARGV[i + 4]
  ids[#ids + 1] = a
  local s = numbers(account(a), 'sn', 'st', 'rn', 'rt')
  seen[#seen + 1] = s[1] + s[3] + n; seen[#seen + 1] = s[2] + s[4] + t
  for k = 1, 2 do
    local limit, asked = ARGV[i + k], k == 1 and n or t
    if limit ~= '' and s[k] + s[k + 2] + asked > tonumber(limit) then
      out[#out + 1] = #ids; out[#out + 1] = k; out[#out + 1] = s[k]; out[#out + 1] = s[k + 2]
      if enforce == '1' then return out end
      break
    end
  end
end
for i, a in ipairs(ids) do
  local key = account(a)
  open(a, ARGV[5 * i + 5], lease)
  add(key, 'rn', n); add(key, 'rt', t)
end
redis.call('HSET', record, 'nano', ARGV[3], 'tokens', ARGV[4], 'accounts', table.concat(ids, '\\30'))
redis.call('ZADD', P .. 'leases', string.format('%.6f', T + lease), id)
out[#out + 1] = seen
return out
"""

_CLOSE: Final = """
local id, n, t, alert = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local record = P .. 'r:' .. id
local r = redis.call('HMGET', record, 'nano', 'tokens', 'orphaned', 'accounts')
if not r[1] then return out end
local held_n, held_t = tonumber(r[1]), tonumber(r[2])
redis.call('DEL', record)
redis.call('ZREM', P .. 'leases', id)
for a in string.gmatch(r[4], '[^\\30]+') do
  local key = account(a)
  if redis.call('EXISTS', key) == 1 then
    if r[3] then
      add_from_0(key, 'sn', n - held_n); add_from_0(key, 'st', t - held_t)
      add_from_0(key, 'on', -held_n); add_from_0(key, 'ot', -held_t)
    else
      add(key, 'rn', -held_n); add(key, 'rt', -held_t)
      add(key, 'sn', n); add(key, 'st', t)
    end
  end
end
if alert == '1' then
  for i = 6, #ARGV, 4 do alerts(out, (i - 2) / 4, ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]) end
end
return out
"""

_READ: Final = """
charge_orphans()
for i = 2, #ARGV do
  for _, value in ipairs(numbers(account(ARGV[i]), 'sn', 'st', 'rn', 'rt', 'on', 'ot')) do out[#out + 1] = value end
end
return out
"""

_RESET: Final = """
charge_orphans()
for i = 2, #ARGV do
  if redis.call('EXISTS', account(ARGV[i])) == 1 then
    redis.call('HSET', account(ARGV[i]), 'sn', 0, 'st', 0, 'on', 0, 'ot', 0, 'al', '0', 'rf', '0')
  end
end
return out
"""

_ALERTS: Final = """
charge_orphans()
for i = 2, #ARGV, 4 do
  if redis.call('EXISTS', account(ARGV[i])) == 1 then
    alerts(out, (i + 2) / 4, ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3])
  end
end
return out
"""

_REFUSED: Final = """
local id, key = ARGV[2], account(ARGV[2])
open(id, ARGV[3], tonumber(ARGV[4]))
local s = numbers(key, 'sn', 'st', 'al', 'rf')
if s[3] < 1 and s[4] == 0 then
  redis.call('HSET', key, 'rf', '1')
  out[#out + 1] = s[1]; out[#out + 1] = s[2]
end
return out
"""

_DROP: Final = """
for i = 2, #ARGV do
  redis.call('DEL', account(ARGV[i]))
  redis.call('ZREM', P .. 'accounts', ARGV[i])
end
return out
"""

_LIST: Final = """
redis.call('ZREMRANGEBYSCORE', P .. 'accounts', '-inf', T - RETAIN)
local open_since = '(' .. string.format('%.6f', T)
return {out[1], out[2], redis.call('ZRANGEBYSCORE', P .. 'accounts', open_since, '+inf', 'WITHSCORES')}
""".replace("RETAIN", str(RETAIN_S))


class RedisLedger(Ledger):
    """Accounts in Redis, one round trip per operation. Needs the `redis` package (`tokenguard-otel[redis]`).

    Time is the server's, so that machines whose clocks differ agree on leases; a `clock` that is given replaces it.
    `timeout_s` bounds each round trip and each connect. Raises `LedgerError`.
    """

    threads = 4

    def __init__(
        self, url: str, *, lease_s: float = LEASE_S, timeout_s: float = 1.0, clock: Clock | None = None
    ) -> None:
        super().__init__(lease_s=lease_s, clock=clock or time.time)
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise LedgerError(
                'a redis:// ledger needs the redis package: pip install "tokenguard-otel[redis]"'
            ) from error
        self._errors = (redis.RedisError, OSError)
        self._given_clock = clock
        self._ahead_s = 0.0
        self._epoch: object = None
        """What the data of the server begins with: another one means that it was lost."""
        # One more try on a connection that the server has closed meanwhile; a timeout is a loss.
        retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
        self._connect = partial(
            redis.Redis.from_url, url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=retry
        )
        self._begin()

    def _begin(self) -> None:
        """Begin with new connections."""
        self._client: Any = self._connect()
        self._scripts = {
            name: self._client.register_script(_LUA + script)
            for name, script in {
                "reserve": _RESERVE,
                "close": _CLOSE,
                "read": _READ,
                "reset": _RESET,
                "alerts": _ALERTS,
                "refused": _REFUSED,
                "drop": _DROP,
                "list": _LIST,
            }.items()
        }

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
        args: list[Any] = [reservation.id, nano, tokens, int(bool(watched))]
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

    def close(self) -> None:
        """See `Ledger.close`."""
        super().close()
        self._client.close()

    def _run(self, script: str, args: Sequence[Any]) -> list[Any]:
        """What a script answers, without the server's time, which is noted."""
        given = "" if self._given_clock is None else repr(self._given_clock())
        try:
            answer: list[Any] = self._scripts[script](keys=[_PREFIX], args=[given, *args])
        except self._errors as error:
            if (raised := interrupt(error)) is not None:
                self._begin()
                raise raised from None
            raise LedgerError(f"the Redis ledger cannot be used: {error}") from error
        except BaseException:
            # A signal handler's. An answer may be on its way that nobody has waited for: the next must not get it.
            self._begin()
            raise
        self._ahead_s = float(answer[0]) - self._clock()
        epoch, self._epoch = self._epoch, answer[1]
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
