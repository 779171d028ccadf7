"""The answers of a fleet: a Redis (or Valkey) server that all machines share.

Keys, all in one hash slot: `{tokenguard-answers}:e:<key>` is a hash per entry, which ends by itself. Beside them are
the books: the sorted sets `:used` and `:expires` order the entries, the hash `:sizes` and the number `:bytes` say what
they come to. A server that is full evicts what it likes, a book too: then all books begin anew, and what was in them
is listed and served until its time is over. The entries alone say what is kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tokenguard.answers.store import OVERHEAD, Item, Stat, Store
from tokenguard.facts.tuples import NamedTuple
from tokenguard.process.redis_client import Server

_PREFIX: Final = "{tokenguard-answers}:"
_LUA: Final = """
local P = KEYS[1]
local t = redis.call('TIME')
local T = tonumber(t[1]) + tonumber(t[2]) / 1e6
local function drop(id)
  local size = redis.call('HGET', P .. 'sizes', id)
  local group = redis.call('HGET', P .. 'e:' .. id, 'g')
  if group and group ~= '' then redis.call('ZREM', P .. 'g:' .. group, id) end
  redis.call('DEL', P .. 'e:' .. id)
  redis.call('ZREM', P .. 'used', id)
  redis.call('ZREM', P .. 'expires', id)
  redis.call('HDEL', P .. 'sizes', id)
  if size then redis.call('DECRBY', P .. 'bytes', size) end
end
"""
_GET: Final = """
local data = redis.call('HGET', P .. 'e:' .. ARGV[1], 'd')
if data then redis.pcall('ZADD', P .. 'used', 'XX', T, ARGV[1]) end
return data
"""
"""A server that is full, or takes no writes, still serves what it has."""
_PUT: Final = """
local id, size, most, left, group = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[8]
local entry = P .. 'e:' .. id
local full = redis.pcall('HSET', entry, 'd', ARGV[5], 'r', ARGV[6], 't', ARGV[7], 'g', group)
if type(full) == 'table' then
  for _, old in ipairs(redis.call('ZRANGE', P .. 'used', 0, 31)) do drop(old) end
  return full
end
local ms = math.max(1, math.floor(left * 1000))
redis.call('PEXPIRE', entry, ms)
if group ~= '' then
  redis.call('ZADD', P .. 'g:' .. group, T, id)
  if redis.call('PTTL', P .. 'g:' .. group) < ms then redis.call('PEXPIRE', P .. 'g:' .. group, ms) end
end
if redis.call('EXISTS', P .. 'used', P .. 'expires', P .. 'sizes', P .. 'bytes') < 4 then
  redis.call('DEL', P .. 'used', P .. 'expires', P .. 'sizes', P .. 'bytes')
end
redis.call('ZADD', P .. 'used', T, id)
redis.call('ZADD', P .. 'expires', T + left, id)
redis.call('INCRBY', P .. 'bytes', size - (redis.call('HGET', P .. 'sizes', id) or 0))
redis.call('HSET', P .. 'sizes', id, size)
for _, old in ipairs(redis.call('ZRANGEBYSCORE', P .. 'expires', '-inf', T, 'LIMIT', 0, 100)) do drop(old) end
while tonumber(redis.call('GET', P .. 'bytes')) > most do
  local oldest = redis.call('ZRANGE', P .. 'used', 0, 0)[1]
  if not oldest then break end
  drop(oldest)
end
return 1
"""
"""The entry is written first: a Redis that is full refuses a script's first write alone, and lets others go past it."""
_DELETE: Final = "for _, id in ipairs(ARGV) do drop(id) end return 1"
_PAGE: Final = 500
"""Keys per script when all are looked at, or deleted: a few milliseconds of the server's time."""
_LIST: Final = """
local page = redis.call('SCAN', ARGV[1], 'MATCH', P .. 'e:*', 'COUNT', ARGV[2])
local out = { page[1] }
for _, entry in ipairs(page[2]) do
  local found = redis.call('HMGET', entry, 'r', 't', 'g')
  out[#out + 1] = string.sub(entry, #P + 3)
  out[#out + 1] = found[1] or ''
  out[#out + 1] = found[2] or ''
  out[#out + 1] = tostring(redis.call('HSTRLEN', entry, 'd'))
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


class _Listed(NamedTuple):
    """An item, as it is listed."""

    key: str
    rule: str
    tenant: str
    size: int
    group: str


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
        gone = [each for each in self._all() if rule in (None, each.rule) and tenant in (None, each.tenant)]
        for at in range(0, len(gone), _PAGE):
            self._run("delete", *(each.key for each in gone[at : at + _PAGE]))
        return sum(not each.group for each in gone)

    def stats(self) -> list[Stat]:
        """See `Store.stats`."""
        found: dict[str, Stat] = {}
        for each in self._all():
            _, entries, so_far = found.get(each.rule, Stat(each.rule, 0, 0))
            found[each.rule] = Stat(each.rule, entries + (not each.group), so_far + each.size)
        return sorted(found.values())

    def close(self) -> None:
        """See `Store.close`."""
        self._server.close()

    def _all(self) -> Iterable[_Listed]:
        """Every item that is there."""
        found: dict[str, _Listed] = {}
        cursor = "0"
        while True:
            cursor, *texts = (each.decode() for each in self._run("list", cursor, _PAGE))
            for key, rule, tenant, length, group in zip(*[iter(texts)] * 5, strict=True):
                found[key] = _Listed(key, rule, tenant, int(length) + OVERHEAD, group)
            if cursor == "0":
                return found.values()

    def _run(self, script: str, *arguments: Any) -> Any:
        return self._server.run(script, [_PREFIX], list(arguments))
