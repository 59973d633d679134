-- The operations on a resource in any state. rlock-redis puts this text behind resource.lua, for the scripts that
-- need it.
--
-- During the grace after a start or a promotion nothing is granted.

-- The string of an entry as the first part of a script has read it, unless another entry may have written it since:
-- entries of one batch may use one resource.
local function current(values, written, entry, key)
  local value = not written[key] and values[entry]
  written[key] = true
  return value
end

local function text_of(error) return type(error) == 'table' and error.err or tostring(error) end

-- Packs three values for each resource, from act: a status, and two numbers that belong to it. An entry that fails does
-- not affect the others; its error text follows the packed answers.
local function pack_each(answers, entries, act)
  local errors = {}
  for _, entry in ipairs(entries) do
    local ran, status, a, b = pcall(act, entry, KEYS[entry], KEYS[COUNT + entry])
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
  grace = tonumber(grace) or 0

  local function hex(id)
    local a, b, c, d = struct.unpack('>I4I4I4I4', id)
    return string.format('%08x%08x%08x%08x', a, b, c, d)
  end

  -- Sends a hint: the server's access rules may forbid it, and nothing depends on it.
  local function tell(inbox, text)
    redis.pcall('PUBLISH', 'rlock:inbox:' .. hex(inbox), text)
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
      save(r)
      if ... then redis.call('ZREM', r.set, ...) end
    else
      put(r, lease, ...)
      r.shared = r.shared + lease.weight
      save(r)
    end
    return lease.token
  end

  -- Grants from the head of the queue while the capacity lasts, and skips expired waiters.
  local function grant(r)
    if grace > 0 then return end
    while r.has_set and not r.sole do
      local head, second = unpack(redis.call('ZRANGEBYLEX', r.set, '[q', '(r', 'LIMIT', '0', '2'))
      if not head then return look_for_set(r) end
      local lease = record(r, string.sub(head, 10))
      if not lease then
        take(r, head)
      elseif lease.expires <= now then
        take_all(r, 'x', now) -- and all others that have expired
        take(r, head)
      else
        if r.shared + lease.weight > r.capacity then return end
        -- A lease that takes everything shares with none, so the set has only waiters.
        if lease.weight == r.capacity and not second then r.has_set = false end
        local token = hold(r, lease, members(lease))
        tell(lease.inbox, 'g ' .. hex(lease.id) .. string.format(' %.0f', token))
      end
    end
  end

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

  -- Returns the number of waiters in front of a place, and the time until the lease in front of it expires. queued is
  -- the member of the waiter in front, if there is one.
  local function place_behind(r, queued)
    local ahead, blocked_until = 0, nil
    if queued then
      ahead = redis.call('ZLEXCOUNT', r.set, '[q', '[' .. queued)
      local in_front = record(r, string.sub(queued, 10))
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

  -- Returns the same for a waiter.
  local function place(r, lease)
    return place_behind(r, last(r.set, '[q', '(q' .. ordered(lease.place)))
  end

  -- Appends a lease to the queue, and returns the same. The number of its place is in the set alone, so that behind
  -- another waiter the string need not change.
  local function wait(r, lease)
    local queued = r.has_set and last(r.set, '[q', '(r')
    lease.token, lease.place, lease.since = 0, math.max(r.last + 1, now), now
    if queued then
      lease.place = math.max(lease.place, struct.unpack('>I8', queued, 2) + 1)
    else
      r.is_moved, r.is_changed = true, true -- the set may be new, without an expiry
    end
    put(r, lease)
    close(r)
    return place_behind(r, queued)
  end

  local function has_waiter(r) return r.has_set and first(r.set, '[q', '(r') end

  -- Precedes an answer that a lease is gone, or that none was held. It fails on a server that accepts no writes, such
  -- as a replica.
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
    if #broken == 0 then prove_writable(r) end
    return broken
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

