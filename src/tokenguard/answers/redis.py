"""The answers of a fleet: a Redis (or Valkey) server that all machines share.

Keys, all in one hash slot: `{tokenguard-answers}:e:<key>` is a hash per entry; the sorted sets `:used` and `:expires`
order them, the hash `:sizes` and the number `:bytes` say what they come to. An entry ends by itself, too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from tokenguard.answers.store import Item, Stat, Store
from tokenguard.process.redis_client import Server

_PREFIX: Final = "{tokenguard-answers}:"
_LUA: Final = """
local P = KEYS[1]
local t = redis.call('TIME')
local T = tonumber(t[1]) + tonumber(t[2]) / 1e6
local function drop(id)
  local size = redis.call('HGET', P .. 'sizes', id)
  local group = redis.call('HGET', P .. 'e:' .. id, 'g')
  if group then redis.call('ZREM', P .. 'g:' .. group, id) end
  redis.call('DEL', P .. 'e:' .. id)
  redis.call('ZREM', P .. 'used', id)
  redis.call('ZREM', P .. 'expires', id)
  redis.call('HDEL', P .. 'sizes', id)
  if size then redis.call('DECRBY', P .. 'bytes', size) end
end
"""
_GET: Final = """
local data = redis.call('HGET', P .. 'e:' .. ARGV[1], 'd')
if data then redis.call('ZADD', P .. 'used', T, ARGV[1]) end
return data
"""
_PUT: Final = """
local id, size, most, left = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
drop(id)
redis.call('HSET', P .. 'e:' .. id, 'd', ARGV[5], 'r', ARGV[6], 't', ARGV[7])
local ms = math.max(1, math.floor(left * 1000))
redis.call('PEXPIRE', P .. 'e:' .. id, ms)
if ARGV[8] ~= '' then
  redis.call('HSET', P .. 'e:' .. id, 'g', ARGV[8])
  redis.call('ZADD', P .. 'g:' .. ARGV[8], T, id)
  local group = P .. 'g:' .. ARGV[8]
  if redis.call('PTTL', group) < ms then redis.call('PEXPIRE', group, ms) end
end
redis.call('ZADD', P .. 'used', T, id)
redis.call('ZADD', P .. 'expires', T + left, id)
redis.call('HSET', P .. 'sizes', id, size)
local total = redis.call('INCRBY', P .. 'bytes', size)
for _, old in ipairs(redis.call('ZRANGEBYSCORE', P .. 'expires', '-inf', T, 'LIMIT', 0, 100)) do drop(old) end
while tonumber(redis.call('GET', P .. 'bytes')) > most do
  local oldest = redis.call('ZRANGE', P .. 'used', 0, 0)[1]
  if not oldest then break end
  drop(oldest)
end
return 1
"""
_DELETE: Final = "for _, id in ipairs(ARGV) do drop(id) end return 1"
_PAGE: Final = 500
"""Entries per script when all are looked at, or deleted: a few milliseconds of the server's time."""
_LIST: Final = """
local out = {}
for _, id in ipairs(redis.call('ZRANGE', P .. 'used', ARGV[1], ARGV[2])) do
  local found = redis.call('HMGET', P .. 'e:' .. id, 'r', 't', 'g')
  out[#out + 1] = id
  out[#out + 1] = found[1] or ''
  out[#out + 1] = found[2] or ''
  out[#out + 1] = found[1] and redis.call('HGET', P .. 'sizes', id) or '0'
  out[#out + 1] = found[3] or ''
end
return out
"""
_GROUP: Final = """
local out = { tostring(t[1] + t[2] / 1e6) }
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'g:' .. ARGV[1], ARGV[2], '+inf')) do
  local data = redis.call('HGET', P .. 'e:' .. id, 'd')
  if data then
    out[#out + 1] = id
    out[#out + 1] = data
  else
    redis.call('ZREM', P .. 'g:' .. ARGV[1], id)
  end
end
return out
"""


class RedisStore(Store):
    """Entries on a Redis server. `timeout_s` is how long it may take to answer."""

    def __init__(self, url: str, max_bytes: int, *, timeout_s: float) -> None:
        super().__init__(max_bytes)
        scripts = {"get": _GET, "put": _PUT, "delete": _DELETE, "list": _LIST, "group": _GROUP}
        self._server = Server(url, timeout_s, {name: _LUA + script for name, script in scripts.items()})

    def get(self, key: bytes) -> bytes | None:
        """See `Store.get`."""
        found: bytes | None = self._run("get", key.hex())
        return found

    def get_all(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Store.get_all`: one round trip."""
        if len(keys) == 1:
            return [self.get(keys[0])]
        found: list[bytes | None] = self._server.run_each("get", [_PREFIX], ([key.hex()] for key in keys))
        return found

    def put(self, key: bytes, item: Item) -> None:
        """See `Store.put`."""
        left = item.expires - time.time()
        if left > 0:
            self._run("put", key.hex(), item.size, self.max_bytes, left, item.data, item.rule, item.tenant, item.group)

    def group(self, name: str, since: float) -> tuple[list[tuple[bytes, bytes]], float]:
        """See `Store.group`."""
        now, *flat = self._run("group", name, since)
        return [(bytes.fromhex(key.decode()), data) for key, data in zip(*[iter(flat)] * 2, strict=True)], float(now)

    def delete(self, key: bytes) -> None:
        """See `Store.delete`."""
        self._run("delete", key.hex())

    def clear(self, rule: str | None = None, tenant: str | None = None) -> int:
        """See `Store.clear`."""
        gone = [
            (key, size > 0 and not group)
            for key, own, whose, size, group in self._all()
            if size == 0 or (rule in (None, own) and tenant in (None, whose))
        ]
        for at in range(0, len(gone), _PAGE):
            self._run("delete", *(key for key, _ in gone[at : at + _PAGE]))
        return sum(counts for _, counts in gone)

    def stats(self) -> list[Stat]:
        """See `Store.stats`."""
        found: dict[str, Stat] = {}
        for _, rule, _, size, group in self._all():
            if size:
                _, entries, so_far = found.get(rule, Stat(rule, 0, 0))
                found[rule] = Stat(rule, entries + (not group), so_far + size)
        return sorted(found.values())

    def close(self) -> None:
        """See `Store.close`."""
        self._server.close()

    def _all(self) -> list[tuple[str, str, str, int, str]]:
        """Key, rule, tenant, size and group of every item; a size of 0 where its time is over."""
        found: list[tuple[str, str, str, int, str]] = []
        at = 0
        while flat := self._run("list", at, at + _PAGE - 1):
            texts = [each.decode() for each in flat]
            found += [
                (key, rule, tenant, int(size), group)
                for key, rule, tenant, size, group in zip(*[iter(texts)] * 5, strict=True)
            ]
            at += _PAGE
        return found

    def _run(self, script: str, *arguments: Any) -> Any:
        return self._server.run(script, [_PREFIX], list(arguments))
