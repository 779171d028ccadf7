"""What the Redis ledger runs on the server: one Lua script per operation, so that every operation is atomic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tokenguard.ledger.base import RETAIN_S

# Redis runs a script alone, so every script is atomic. A repeated script (a client that retries after a lost answer)
# finds what the first run left and changes nothing.
LUA: Final = f"""
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
if not r[1] then
  if ARGV[6] == '1' then
    redis.call('HSET', record, 'void', '1')
    redis.call('EXPIRE', record, 60)
  end
  return out
end
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
  for i = 7, #ARGV, 4 do alerts(out, (i - 3) / 4, ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]) end
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

SCRIPTS: Final[Mapping[str, str]] = {
    "reserve": _RESERVE,
    "close": _CLOSE,
    "read": _READ,
    "reset": _RESET,
    "alerts": _ALERTS,
    "refused": _REFUSED,
    "drop": _DROP,
    "list": _LIST,
}
"""By operation; each follows `LUA`."""
