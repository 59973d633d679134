-- A resource in any state: its string and its set. rlock-redis puts this text in front of library.lua.
--
-- A resource has a sorted set while leases share it or wait. All scores in it are 0, so that Redis keeps the
-- members in the order of their bytes. The first byte is the kind:
--   e  a holder of a part: its expiry, its id
--   f  the rest of a part: the same
--   q  a waiter: its place (a number above those of the waiters in front), its id
--   r  any of these leases: its id, weight, capacity, token or 0, place or 0, start, expiry, inbox, and
--      the data for snapshots
--   x  a waiter: its expiry, its id
-- The set is authoritative: a string that was deleted or evicted is rebuilt from it.
--
-- A server out of memory may refuse SET and ZADD at the start of a script, but accepts ZREM and DEL. So a step that
-- needs SET or ZADD begins with it: it happens as a whole or not at all.

local MOST_ARGUMENTS = 1000 -- Lua's stack bounds what unpack can push
local RECORD, RECORD_AT, RECORD_INBOX, RECORD_SHOWN = '<I4I4dddd', 18, 58, 74
local NO_ID = string.rep('\0', 16)

local function ordered(number) return struct.pack('>I8', number) end

local function first(set, from, to) return redis.call('ZRANGEBYLEX', set, from, to, 'LIMIT', '0', '1')[1] end

local function last(set, from, to) return redis.call('ZREVRANGEBYLEX', set, to, from, 'LIMIT', '0', '1')[1] end

local function unpack_record(member)
  local lease = { member = member, id = string.sub(member, 2, 17) }
  lease.weight, lease.capacity, lease.token, lease.place, lease.since, lease.expires =
    struct.unpack(RECORD, member, RECORD_AT)
  lease.inbox = string.sub(member, RECORD_INBOX, RECORD_SHOWN - 1)
  lease.shown = string.sub(member, RECORD_SHOWN)
  return lease
end

-- The record of the lease id, if it shares or waits.
local function record(r, id)
  local member = r.has_set and first(r.set, '[r' .. id, '+')
  if member and string.sub(member, 1, 17) == 'r' .. id then return unpack_record(member) end
end

-- The members of a lease, its record first.
local function members(lease)
  local packed = 'r' .. lease.id .. struct.pack(RECORD, lease.weight, lease.capacity, lease.token, lease.place,
    lease.since, lease.expires) .. lease.inbox .. lease.shown
  if lease.place > 0 then
    return packed, 'q' .. ordered(lease.place) .. lease.id, 'x' .. ordered(lease.expires) .. lease.id
  end
  return packed, (lease.token > 0 and 'e' or 'f') .. ordered(lease.expires) .. lease.id
end

-- Makes the keys live long enough for a lease until expires. If that changes r, save has to follow.
local function outlive(r, expires)
  local at = math.ceil(expires / 1000)
  if at + HALF_AN_HOUR > r.kept then r.kept, r.is_moved, r.is_changed = at + HOUR, true, true end
end

-- Rebuilds a lost string from the set: the taken permits, the capacity, and the expiry of the keys.
local function recover(r)
  for _, kind in ipairs({ 'e', 'f' }) do
    for _, member in ipairs(redis.call('ZRANGEBYLEX', r.set, '[' .. kind, '(' .. kind .. '\255')) do
      local lease = record(r, string.sub(member, 10))
      if lease then r.shared = r.shared + lease.weight end
    end
  end
  for _, kind in ipairs({ 'e', 'f', 'x' }) do
    local latest = last(r.set, '[' .. kind, '(' .. kind .. '\255')
    if latest then outlive(r, (struct.unpack('>I8', latest, 2))) end
  end
  local any = first(r.set, '[r', '(s')
  if any then r.capacity = unpack_record(any).capacity end
  r.is_changed = true
end

-- Opens the resource at key for an operation on the lease id. value is its string, if it is already known.
local function open(key, set, id, value)
  value = value or redis.call('GET', key)
  local r = { key = key, set = set, id = id, last = 0, kept = 0, expires = 0, token = 0, capacity = 0, shared = 0,
    has_set = false }
  if value and #value == IDLE_LENGTH then
    r.last, r.kept = struct.unpack(IDLE, value)
  elseif value then
    local at = ALONE_LENGTH
    if #value < at then error({ err = 'WRONGTYPE the string at ' .. key .. ' is not one of rlock' }) end
    r.last, r.kept, r.expires, r.capacity = struct.unpack(ALONE, value)
    r.token = r.last
    if r.capacity == 0 then
      at, r.has_set = AMONG_LENGTH, true
      r.token, r.capacity, r.shared = struct.unpack('<dI4I4', value, ALONE_LENGTH + 1)
    end
    if r.expires > 0 then
      r.sole, r.inbox = string.sub(value, at + 1, at + 16), string.sub(value, at + 17, at + 32)
      r.shown = string.sub(value, at + 33)
    end
  end
  if not r.has_set and redis.call('EXISTS', set) == 1 then
    r.has_set, r.shared = true, 0
    recover(r)
  end
  return r
end

local function is_live(r) return r.sole or r.shared > 0 or r.has_set end

local function is_held(r) return r.sole and r.sole ~= NO_ID end

local function save(r)
  if r.kept * 1000 <= now then outlive(r, now) end
  local value
  if r.has_set or r.shared > 0 or r.sole and r.last ~= r.token then
    value = struct.pack(AMONG, r.last, r.kept, r.sole and r.expires or 0, 0, r.token, r.capacity, r.shared)
  elseif r.sole then
    value = struct.pack(ALONE, r.last, r.kept, r.expires, r.capacity)
  else
    value = struct.pack(IDLE, r.last, r.kept)
  end
  if r.sole then value = value .. r.sole .. r.inbox .. r.shown end
  if r.is_moved then
    redis.call('SET', r.key, value, 'PXAT', r.kept)
    if r.has_set then redis.call('PEXPIREAT', r.set, r.kept) end
  else
    redis.call('SET', r.key, value, 'KEEPTTL')
  end
  r.is_moved, r.is_changed = false, false
end

-- Adds a lease to the set, and removes its previous members. If that changes r, save has to follow: it sets the expiry
-- of a new set.
local function put(r, lease, ...)
  outlive(r, lease.expires)
  if not r.has_set then r.has_set, r.is_moved, r.is_changed = true, true, true end
  local record_member, a, b = members(lease)
  if b then
    redis.call('ZADD', r.set, '0', record_member, '0', a, '0', b)
  else
    redis.call('ZADD', r.set, '0', record_member, '0', a)
  end
  if ... then redis.call('ZREM', r.set, ...) end
end

local function look_for_set(r)
  if redis.call('EXISTS', r.set) == 0 then r.has_set, r.shared, r.is_changed = false, 0, true end
end

local function take(r, ...)
  redis.call('ZREM', r.set, ...)
  look_for_set(r)
end

local function next_number(r)
  r.last, r.is_changed = math.max(r.last + 1, now), true
  return r.last
end

-- Removes the leases of one kind that have expired, or all of that kind.
local function take_all(r, kind, until_when)
  local found = redis.call('ZRANGEBYLEX', r.set, '[' .. kind, '(' .. kind .. ordered(until_when + 1))
  if #found == 0 then return found end
  local leases, weight, gone = {}, 0, {}
  for _, member in ipairs(found) do
    local lease = record(r, string.sub(member, 10))
    table.insert(gone, member)
    if lease then
      table.insert(leases, lease)
      if lease.place == 0 then weight = weight + lease.weight end
      for _, part in ipairs({ members(lease) }) do table.insert(gone, part) end
    end
  end
  if weight > 0 then
    r.shared = math.max(r.shared - weight, 0)
    save(r)
  end
  for at = 1, #gone, MOST_ARGUMENTS do
    take(r, unpack(gone, at, math.min(at + MOST_ARGUMENTS - 1, #gone)))
  end
  return leases
end

-- The leases of one kind, in order.
local function all(r, kind)
  local leases = {}
  if not r.has_set then return leases end
  for _, member in ipairs(redis.call('ZRANGEBYLEX', r.set, '[' .. kind, '(' .. kind .. '\255')) do
    local lease = record(r, string.sub(member, 10))
    if lease then table.insert(leases, lease) end
  end
  return leases
end

local function count(r, kind)
  return r.has_set and redis.call('ZLEXCOUNT', r.set, '[' .. kind, '(' .. kind .. '\255') or 0
end
