"""The Lua scripts of `RedisLog`: each is one step that is done whole or not at all.

Every script is told the log's id and refuses another one: a server that was emptied must not go on counting under
the name of a log that is gone. Scripts that make room, or record how far readers have come, also run where the
server's memory is full (``allow-oom``, Redis 7).

Keys (`millrace.stream.redis_server.Keys`): ``meta`` hash; ``records`` stream, one entry per row of an append, its
id the offset after the row; ``data`` hash from that offset to lengths and bytes, beside the stream because entries
of a stream cannot be changed and purged records must be; ``known`` set and ``order`` list of the duplicate window.
"""

from __future__ import annotations

from typing import Final

GONE: Final = "MILLRACE_GONE"
AFTER: Final = "MILLRACE_AFTER"
LOST: Final = "MILLRACE_LOST"

_CHECK: Final = f"""
if redis.call('HGET', KEYS[1], 'log_id') ~= ARGV[1] then return redis.error_reply('{GONE} another log') end
"""

# KEYS: meta. ARGV: a log id if there is none yet, partitions, window.
OPEN: Final = """
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'log_id', ARGV[1], 'n_partitions', ARGV[2], 'duplicate_window', ARGV[3],
    'begin', 0, 'end', 0, 'purges', 0, 'letter_id', 0, 'letter_bytes', 0, 'letters_dropped', 0)
end
return redis.call('HMGET', KEYS[1], 'log_id', 'n_partitions', 'duplicate_window')
"""

# KEYS: meta, topics. ARGV: log id, the most there may be, names. Returns all names with their codes.
TOPICS: Final = (
    _CHECK
    + """
for i = 3, #ARGV do
  local n = redis.call('HLEN', KEYS[2])
  if n < tonumber(ARGV[2]) then redis.call('HSETNX', KEYS[2], ARGV[i], n) end
end
return redis.call('HGETALL', KEYS[2])
"""
)

# KEYS: meta, records, data, known, order, appender. ARGV: log id, number of the append, now, then for every row its
# digests, topic codes, partitions, lengths (16, 2, 2, 4 bytes a record) and data. Returns first and end as int64, and a
# byte per record, 1 for new ones; no bytes if all are. An appender's last answer is kept: an append that is sent
# again because its answer was lost is answered with it. Which ids are new: `dedup.ReferenceDuplicateWindow`.
APPEND: Final = (
    _CHECK
    + """
local records, data, known, order, appender = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local last = redis.call('HMGET', appender, 'number', 'answer')
if last[1] == ARGV[2] then return last[2] end
local about = redis.call('HMGET', KEYS[1], 'duplicate_window', 'end')
local window, first = tonumber(about[1]), tonumber(about[2])
local CHUNK = 4000
local ids, n = {}, 0
for row = 4, #ARGV, 5 do
  local digests = ARGV[row]
  for i = 1, #digests, 16 do
    n = n + 1
    ids[n] = string.sub(digests, i, i + 15)
  end
end
local found = {}
for start = 1, n, CHUNK do
  local answers = redis.call('SMISMEMBER', known, unpack(ids, start, math.min(start + CHUNK - 1, n)))
  for i = 1, #answers do found[start + i - 1] = answers[i] == 1 end
end
local size = redis.call('LLEN', order)
local excess = size + n - window
local oldest = {}
if excess > 0 and size > 0 then oldest = redis.call('LRANGE', order, 0, math.min(excess, size) - 1) end
local is_in, new, n_new, n_out, flags = {}, {}, 0, 0, {}
for i = 1, n do
  local id = ids[i]
  local is_known = is_in[id]
  if is_known == nil then is_known = found[i] end
  if is_known then
    flags[i] = '\\0'
  else
    if size == window then
      n_out = n_out + 1
      is_in[oldest[n_out] or new[n_out - #oldest]] = false
    else
      size = size + 1
    end
    n_new = n_new + 1
    new[n_new] = id
    is_in[id] = true
    flags[i] = '\\1'
  end
end
local function in_chunks(command, key, values)
  for start = 1, #values, CHUNK do
    redis.call(command, key, unpack(values, start, math.min(start + CHUNK - 1, #values)))
  end
end
local n_old = math.min(n_out, #oldest)
local out, kept = {}, {}
for i = 1, n_old do
  if not is_in[oldest[i]] then out[#out + 1] = oldest[i] end
end
for i = n_out - n_old + 1, n_new do kept[#kept + 1] = new[i] end
in_chunks('SADD', known, kept)
in_chunks('SREM', known, out)
if n_old > 0 then redis.call('LTRIM', order, n_old, -1) end
in_chunks('RPUSH', order, kept)
local offset, base = first, 0
for row = 4, #ARGV, 5 do
  local codes, partitions, lengths, bytes = ARGV[row + 1], ARGV[row + 2], ARGV[row + 3], ARGV[row + 4]
  local n_row, n_in = #codes / 2, 0
  for i = base + 1, base + n_row do
    if flags[i] == '\\1' then n_in = n_in + 1 end
  end
  if n_in > 0 then
    if n_in < n_row then
      local c, p, l, b, at = {}, {}, {}, {}, 1
      for i = 1, n_row do
        local length = struct.unpack('<I4', lengths, 4 * i - 3)
        if flags[base + i] == '\\1' then
          c[#c + 1] = string.sub(codes, 2 * i - 1, 2 * i)
          p[#p + 1] = string.sub(partitions, 2 * i - 1, 2 * i)
          l[#l + 1] = string.sub(lengths, 4 * i - 3, 4 * i)
          b[#b + 1] = string.sub(bytes, at, at + length - 1)
        end
        at = at + length
      end
      codes, partitions, lengths, bytes = table.concat(c), table.concat(p), table.concat(l), table.concat(b)
    end
    offset = offset + n_in
    local id = string.format('%.0f', offset)
    redis.call('XADD', records, id .. '-0', 't', ARGV[3], 'c', codes, 'p', partitions)
    redis.call('HSET', data, id, lengths .. bytes)
  end
  base = base + n_row
end
if n_new > 0 then redis.call('HSET', KEYS[1], 'end', string.format('%.0f', offset)) end
local answer = struct.pack('<i8i8', first, offset)
if n_new < n then answer = answer .. table.concat(flags) end
redis.call('HSET', appender, 'number', ARGV[2], 'answer', answer)
redis.call('EXPIRE', appender, 3600)
return answer
"""
)

# Overwrites records of one row: `places` count from 1. Returns how many had data.
_EMPTY: Final = """
local function empty(data, id, n, places)
  local value = redis.call('HGET', data, id)
  if not value then return 0 end
  local is_wanted, n_changed, lengths, bytes, at = {}, 0, {}, {}, 4 * n + 1
  for _, place in ipairs(places) do is_wanted[place] = true end
  for i = 1, n do
    local length = struct.unpack('<I4', value, 4 * i - 3)
    if is_wanted[i] then
      if length > 0 then n_changed = n_changed + 1 end
      lengths[i] = '\\0\\0\\0\\0'
    else
      lengths[i] = string.sub(value, 4 * i - 3, 4 * i)
      bytes[#bytes + 1] = string.sub(value, at, at + length - 1)
    end
    at = at + length
  end
  if n_changed > 0 then
    redis.call('HSET', data, id, table.concat(lengths) .. table.concat(bytes))
    redis.call('HINCRBY', KEYS[1], 'purges', 1)
  end
  return n_changed
end
"""

# KEYS: meta, records, data. ARGV: log id, before, most rows. Returns how many records went, and whether there is more.
TRIM: Final = (
    "#!lua flags=allow-oom\n"
    + _CHECK
    + _EMPTY
    + """
local records, data, before = KEYS[2], KEYS[3], tonumber(ARGV[2])
local begin = tonumber(redis.call('HGET', KEYS[1], 'begin'))
if before <= begin then return {0, 0} end
local rows = redis.call('XRANGE', records, '-', ARGV[2], 'COUNT', ARGV[3])
local n_gone = 0
if #rows > 0 then
  local last
  for _, row in ipairs(rows) do
    last = string.match(row[1], '%d+')
    redis.call('HDEL', data, last)
  end
  redis.call('XTRIM', records, 'MINID', string.format('%.0f', tonumber(last) + 1))
  redis.call('HSET', KEYS[1], 'begin', last)
  return {tonumber(last) - begin, 1}
end
local row = redis.call('XRANGE', records, ARGV[2], '+', 'COUNT', 1)[1]
if row then
  local id, n = string.match(row[1], '%d+'), #row[2][4] / 2
  local first = tonumber(id) - n
  local places = {}
  for i = 1, before - first do places[i] = i end
  empty(data, id, n, places)
end
redis.call('HSET', KEYS[1], 'begin', ARGV[2])
return {before - begin, 0}
"""
)

# KEYS: meta, records, data. ARGV: log id, offsets, ascending. Returns how many records had data.
PURGE: Final = (
    "#!lua flags=allow-oom\n"
    + _CHECK
    + _EMPTY
    + """
local n_changed, i = 0, 2
while i <= #ARGV do
  local row = redis.call('XRANGE', KEYS[2], string.format('%.0f', tonumber(ARGV[i]) + 1), '+', 'COUNT', 1)[1]
  if not row then break end
  local id, n = string.match(row[1], '%d+'), #row[2][4] / 2
  local first, places = tonumber(id) - n, {}
  while i <= #ARGV and tonumber(ARGV[i]) < tonumber(id) do
    if tonumber(ARGV[i]) >= first then places[#places + 1] = tonumber(ARGV[i]) - first + 1 end
    i = i + 1
  end
  n_changed = n_changed + empty(KEYS[3], id, n, places)
end
return n_changed
"""
)

# KEYS: meta, commits of the group, names of groups, leases of the group. ARGV: log id, group, member or empty, then
# partition and offset for each. Returns 1.
COMMIT: Final = (
    "#!lua flags=allow-oom\n"
    + _CHECK
    + f"""
local newest = tonumber(redis.call('HGET', KEYS[1], 'end'))
for i = 4, #ARGV, 2 do
  if tonumber(ARGV[i + 1]) > newest then return redis.error_reply('{AFTER} the end') end
  if ARGV[3] ~= '' and redis.call('HGET', KEYS[4], ARGV[i]) ~= ARGV[3] then
    return redis.error_reply('{LOST} ' .. ARGV[i])
  end
end
for i = 4, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
redis.call('SADD', KEYS[3], ARGV[2])
return 1
"""
)

# KEYS: meta, leases of the group, members of the group. ARGV: log id, member, lease_ms, partitions of the log, and
# whether the member stays (1) or leaves (0). Returns the partitions that are the member's now.
SHARE: Final = (
    "#!lua flags=allow-oom\n"
    + _CHECK
    + """
local leases, members, me = KEYS[2], KEYS[3], ARGV[2]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if ARGV[5] == '0' then
  redis.call('HDEL', members, me)
else
  redis.call('HSET', members, me, string.format('%.0f', now + tonumber(ARGV[3])))
end
local alive, names, all = {}, {}, redis.call('HGETALL', members)
for i = 1, #all, 2 do
  if tonumber(all[i + 1]) > now then
    alive[all[i]] = true
    names[#names + 1] = all[i]
  else
    redis.call('HDEL', members, all[i])
  end
end
table.sort(names)
local n, owner, mine = tonumber(ARGV[4]), {}, {}
all = redis.call('HGETALL', leases)
for i = 1, #all, 2 do
  if alive[all[i + 1]] then owner[tonumber(all[i])] = all[i + 1] else redis.call('HDEL', leases, all[i]) end
end
if not alive[me] then return {} end
local share = 0
for rank, name in ipairs(names) do
  if name == me then share = math.floor(n / #names) + (rank <= n % #names and 1 or 0) end
end
for partition = 0, n - 1 do
  if owner[partition] == me then
    if #mine < share then mine[#mine + 1] = partition else redis.call('HDEL', leases, partition) end
  end
end
for partition = 0, n - 1 do
  if not owner[partition] and #mine < share then
    redis.call('HSET', leases, partition, me)
    mine[#mine + 1] = partition
  end
end
return mine
"""
)

# KEYS: meta, letters. ARGV: log id, now, most letters, most bytes, then topic, origin, reason and data for each.
ADD_LETTERS: Final = (
    _CHECK
    + """
local function count(field, by) return redis.call('HINCRBY', KEYS[1], field, by) end
local n_bytes = 0
for i = 5, #ARGV, 4 do
  local id = count('letter_id', 1)
  redis.call('XADD', KEYS[2], string.format('%.0f-0', id), 'at', ARGV[2], 'topic', ARGV[i], 'origin', ARGV[i + 1],
    'reason', ARGV[i + 2], 'data', ARGV[i + 3])
  n_bytes = count('letter_bytes', #ARGV[i + 3])
end
while redis.call('XLEN', KEYS[2]) > tonumber(ARGV[3]) or n_bytes > tonumber(ARGV[4]) do
  local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
  redis.call('XDEL', KEYS[2], oldest[1])
  n_bytes = count('letter_bytes', -#oldest[2][10])
  count('letters_dropped', 1)
end
return 1
"""
)

# KEYS: meta, letters. ARGV: log id, ids. Returns how many there were.
REMOVE_LETTERS: Final = (
    "#!lua flags=allow-oom\n"
    + _CHECK
    + """
local n = 0
for i = 2, #ARGV do
  local letter = redis.call('XRANGE', KEYS[2], ARGV[i] .. '-0', ARGV[i] .. '-0')[1]
  if letter then
    redis.call('HINCRBY', KEYS[1], 'letter_bytes', -#letter[2][10])
    n = n + redis.call('XDEL', KEYS[2], letter[1])
  end
end
return n
"""
)
