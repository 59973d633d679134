-- The operations on a resource in any state. rlock-redis appends this text to prelude.lua, for the scripts that
-- need it.
--
-- A resource has a sorted set while leases share it or wait. All scores in it are 0, so that Redis keeps the
-- members in the order of their bytes. The first byte is the kind:
--   e  a holder of a part: its expiry, its id
--   f  the rest of a part: the same
--   q  a waiter: its place, its id
--   r  any of these leases: its id, weight, capacity, token or 0, place or 0, start, expiry, inbox, and
--      the data for snapshots
--   x  a waiter: its expiry, its id
-- The set is authoritative: a string that was deleted or evicted is rebuilt from it.
--
-- A server out of memory may refuse SET and ZADD at the start of a script, but accepts ZREM and DEL. So a step that
-- needs SET or ZADD begins with it: it happens as a whole or not at all.
--
-- While a slot of a cluster moves to another server, each of the two keys may be on either. A script then gets only the
-- string, and fails if it needs the set.
--
-- During the grace after a start or a promotion nothing is granted.

-- The string that the first part of a script has read, if it is still current: entries of one batch may use one
-- resource.
local function only_read(value) return #KEYS == 2 and type(value) == 'string' and value or nil end

local function text_of(error) return type(error) == 'table' and error.err or tostring(error) end

-- Packs three values for each resource, from act: a status, and two numbers that belong to it. An entry that fails does
-- not affect the others; its error text follows the packed answers.
local function pack_each(answers, entries, act)
  local errors = {}
  for _, entry in ipairs(entries) do
    local ran, status, a, b = pcall(act, entry, KEYS[2 * entry - 1], KEYS[2 * entry])
    if not ran then
      table.insert(errors, text_of(status))
      status, a, b = FAILED, #errors, 0
    end
    answers[entry] = struct.pack('<Bdd', status, a or 0, b or 0)
  end
  local packed = table.concat(answers)
  if #errors > 0 then return { packed, unpack(errors) } end
  return packed
end

-- The functions. grace is the rest of the grace in microseconds, or nil once it is over.
local function library_in(grace)
  local MOST_ARGUMENTS = 1000 -- Lua's stack bounds what unpack can push
  local RECORD, RECORD_AT, RECORD_INBOX, RECORD_SHOWN = '<I4I4dddd', 18, 58, 74
  local NO_ID = string.rep('\0', 16)
  grace = tonumber(grace) or 0

  local function ordered(number) return struct.pack('>I8', number) end

  local HEX = string.rep('%02x', 16)
  local function hex(id) return string.format(HEX, string.byte(id, 1, 16)) end

  local function first(set, from, to) return redis.call('ZRANGEBYLEX', set, from, to, 'LIMIT', 0, 1)[1] end

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
      local last = redis.call('ZREVRANGEBYLEX', r.set, '(' .. kind .. '\255', '[' .. kind, 'LIMIT', 0, 1)[1]
      if last then outlive(r, (struct.unpack('>I8', last, 2))) end
    end
    local any = first(r.set, '[r', '(s')
    if any then r.capacity = unpack_record(any).capacity end
    r.is_changed = true
  end

  -- Opens the resource at key for an operation on the lease id. value is its string, if it is already known.
  local function open(key, set, id, value)
    if not set then error({ err = 'TRYAGAIN the slot of ' .. key .. ' is being moved' }) end
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

  -- Adds a lease to the set, and removes its previous members.
  local function put(r, lease, ...)
    outlive(r, lease.expires)
    if not r.has_set then r.has_set, r.is_changed = true, true end
    local record_member, a, b = members(lease)
    if b then
      redis.call('ZADD', r.set, 0, record_member, 0, a, 0, b)
    else
      redis.call('ZADD', r.set, 0, record_member, 0, a)
    end
    if ... then redis.call('ZREM', r.set, ...) end
    redis.call('PEXPIREAT', r.set, r.kept)
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

  -- Sends a hint: the server's access rules may forbid it, and nothing depends on it.
  local function tell(inbox, text)
    redis.pcall('PUBLISH', 'rlock:inbox:' .. hex(inbox), text)
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

  local function drop_expired_holders(r)
    if r.sole then
      if r.expires <= now then r.sole, r.is_changed = nil, true end
    elseif r.shared > 0 then
      take_all(r, 'e', now)
      take_all(r, 'f', now)
    end
  end

  -- Makes a lease a holder. The capacity is set, and there is room. Its previous members are removed.
  local function hold(r, lease, ...)
    lease.token, lease.place, lease.since = next_number(r), 0, now
    if lease.weight == r.capacity then
      r.sole, r.expires, r.token, r.inbox, r.shown = lease.id, lease.expires, lease.token, lease.inbox, lease.shown
      outlive(r, lease.expires)
      local leaves = select('#', ...)
      if leaves > 0 then r.has_set = redis.call('ZCARD', r.set) > leaves end
      save(r)
      if leaves > 0 then redis.call('ZREM', r.set, ...) end
    else
      put(r, lease, ...)
      r.shared = r.shared + lease.weight
      save(r)
    end
    return lease.token
  end

  -- Appends a lease to the queue.
  local function wait(r, lease)
    lease.token, lease.place, lease.since = 0, next_number(r), now
    put(r, lease)
    save(r)
  end

  -- Grants from the head of the queue while the capacity lasts, and skips expired waiters.
  local function grant(r)
    if grace > 0 then return end
    while r.has_set and not r.sole do
      local head = first(r.set, '[q', '(r')
      if not head then return look_for_set(r) end
      local lease = record(r, string.sub(head, 10))
      if not lease then
        take(r, head)
      elseif lease.expires <= now then
        take_all(r, 'x', now) -- and all others that have expired
        take(r, head)
      else
        if r.shared + lease.weight > r.capacity then return end
        local token = hold(r, lease, members(lease))
        tell(lease.inbox, 'g ' .. hex(lease.id) .. string.format(' %.0f', token))
      end
    end
  end

  local function is_held(r) return r.sole and r.sole ~= NO_ID end

  -- Drops expired leases and grants the waiters that then fit. Every operation but a release begins with it.
  local function settle(r)
    drop_expired_holders(r)
    if r.has_set then take_all(r, 'x', now) end
    grant(r)
  end

  -- Ends every operation.
  local function close(r)
    if r.is_changed then save(r) end
  end

  -- Ends an operation that has freed capacity; this succeeds even without memory for a grant. Without memory, the last
  -- token is lost, and a later operation grants.
  local function close_and_grant(r)
    local is_free = not r.sole and r.shared == 0
    local ran = pcall(function()
      grant(r)
      close(r)
    end)
    if ran then return r end
    if is_free then redis.call('DEL', r.key) end
    return open(r.key, r.set, r.id)
  end

  -- Returns the expiry and the token (0 while it waits or rests) of the lease r.id, and its record if it shares or
  -- waits; nothing if it does not exist.
  local function find(r)
    if is_held(r) and r.sole == r.id then return r.expires, r.token end
    local lease = record(r, r.id)
    if lease and lease.expires > now and (lease.token > 0 or lease.place > 0) then return lease.expires, lease.token, lease end
  end

  -- Returns the number of waiters in front of a lease, and the time until the lease in front of it expires.
  local function place(r, lease)
    local own, blocked_until = ordered(lease.place)
    local ahead = redis.call('ZLEXCOUNT', r.set, '[q', '(q' .. own)
    if ahead > 0 then
      local before = redis.call('ZREVRANGEBYLEX', r.set, '(q' .. own, '[q', 'LIMIT', 0, 1)[1]
      local in_front = record(r, string.sub(before, 10))
      blocked_until = in_front and in_front.expires
    elseif r.sole then
      blocked_until = r.expires
    else
      for _, kind in ipairs({ 'e', 'f' }) do
        local soonest = first(r.set, '[' .. kind, '(' .. kind .. '\255')
        if soonest then
          blocked_until = math.min(blocked_until or math.huge, (struct.unpack('>I8', soonest, 2)))
        end
      end
    end
    -- A release during the grace grants nothing, so the first waiter must ask again when the grace is over.
    return QUEUED, ahead, ahead == 0 and grace > 0 and grace or (blocked_until or now) - now
  end

  local function has_waiter(r) return r.has_set and first(r.set, '[q', '(r') end

  -- Precedes an answer that a lease is gone. It fails on a server that accepts no writes, such as a replica.
  local function prove_writable(r) redis.call('ZREM', r.set, '') end

  -- Releases the lease r.id; its share stays taken for the rest. Returns a letter, as in release.lua.
  local function release(r, rest)
    drop_expired_holders(r)
    r = close_and_grant(r)
    local expires, token, lease = find(r)
    if not expires then
      prove_writable(r)
      return 'a'
    end
    if not lease then
      r.sole, r.is_changed = nil, true
      if rest > 0 then
        r.sole, r.expires, r.inbox, r.shown = NO_ID, now + rest, NO_ID, ''
        outlive(r, r.expires)
      end
    elseif token > 0 and rest > 0 then
      local record_member, expiry = members(lease)
      -- Change the id, because a repeated claim may still arrive.
      lease.id = string.rep('\0', 8) .. ordered(next_number(r))
      lease.token, lease.since, lease.expires = 0, now, now + rest
      put(r, lease, record_member, expiry)
    else
      if token > 0 then
        r.shared = r.shared - lease.weight
        save(r)
      end
      take(r, members(lease))
    end
    close_and_grant(r)
    return 'r'
  end

  -- Ends all held leases and rests, and returns the leases that were held.
  local function break_all(r)
    local ALL = 2 ^ 52
    local broken = {}
    if r.sole then
      if r.sole ~= NO_ID then broken = { { id = r.sole, inbox = r.inbox } } end
      r.sole, r.is_changed = nil, true
    elseif r.shared > 0 then
      broken = take_all(r, 'e', ALL)
      take_all(r, 'f', ALL)
    end
    for _, lease in ipairs(broken) do
      tell(lease.inbox, 'b ' .. hex(lease.id))
    end
    close_and_grant(r)
    return broken
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

  return {
    open = open,
    is_live = is_live,
    is_held = is_held,
    save = save,
    members = members,
    put = put,
    outlive = outlive,
    hold = hold,
    wait = wait,
    settle = settle,
    close = close,
    find = find,
    place = place,
    has_waiter = has_waiter,
    prove_writable = prove_writable,
    release = release,
    break_all = break_all,
    all = all,
    count = count,
  }
end

