-- The operations on a resource in whatever state it is.

local function define_library()
  local MOST_ARGUMENTS = 1000 -- Lua's stack bounds what unpack can push

  local function in_parts(list, act)
    for first = 1, #list, MOST_ARGUMENTS do
      act(unpack(list, first, math.min(first + MOST_ARGUMENTS - 1, #list)))
    end
  end

  -- The resource at key as an operation on the lease id sees it. Of its two parts, fields has what was read.
  local function open(key, id, fields)
    fields = fields or redis.call('HMGET', key, 'g', 'h')
    local r = { key = key, id = id, last = 0, kept = 0, capacity = 0, shared = 0, waiting = 0 }
    if fields[1] then
      r.last, r.kept, r.capacity, r.shared, r.waiting = struct.unpack(GENERAL, fields[1])
    end
    local sole = fields[2]
    if sole then
      r.expires, r.token, r.since, r.capacity = struct.unpack(SOLE, sole)
      r.sole, r.inbox, r.owner = string.sub(sole, 33, 64), string.sub(sole, 65, 96), string.sub(sole, 97)
    end
    return r
  end

  local function unpack_other(record)
    local weight, token, since = struct.unpack(OTHER, record)
    return { weight = weight, token = token, since = since,
      inbox = string.sub(record, 25, 56), owner = string.sub(record, 57) }
  end

  local function is_live(r) return r.sole or r.shared > 0 or r.waiting > 0 end

  -- Writes what is in general, and other fields with it.
  local function save(r, ...)
    if not is_live(r) then r.capacity = 0 end
    redis.call('HSET', r.key, 'g', struct.pack(GENERAL, r.last, r.kept, r.capacity, r.shared, r.waiting), ...)
  end

  local function next_number(r)
    r.last = math.max(r.last + 1, now)
    return r.last
  end

  -- Hints: the server's access rules may forbid them, and nothing depends on them.
  local function tell(inbox, text)
    redis.pcall('PUBLISH', 'rlock:inbox:' .. inbox, text)
  end

  -- Whether the keys have to be kept for longer than they are, for a lease until expires. Then save has to follow,
  -- and keep.
  local function outlive(r, expires)
    local at = math.ceil(expires / 1000)
    if at + HALF_AN_HOUR <= r.kept then return false end
    r.kept = at + HOUR
    return true
  end

  local function keep(r)
    redis.call('PEXPIREAT', r.key, r.kept)
    if r.shared > 0 then redis.call('PEXPIREAT', r.key .. ':e', r.kept) end
    if r.waiting > 0 then
      redis.call('PEXPIREAT', r.key .. ':q', r.kept)
      redis.call('PEXPIREAT', r.key .. ':x', r.kept)
    end
  end

  -- The only step that the lack of memory never hinders: what is in general stays as it was.
  local function erase_sole(r)
    redis.call('HDEL', r.key, 'h')
    r.sole = nil
  end

  local function erase_holders(r, ids)
    local weight = 0
    in_parts(ids, function(...)
      for _, record in ipairs(redis.call('HMGET', r.key, ...)) do
        weight = weight + (record and struct.unpack(OTHER, record) or 0)
      end
    end)
    r.shared = r.shared - weight
    save(r)
    in_parts(ids, function(...)
      redis.call('ZREM', r.key .. ':e', ...)
      redis.call('HDEL', r.key, ...)
    end)
  end

  local function erase_waiters(r, ids)
    r.waiting = r.waiting - #ids
    save(r)
    in_parts(ids, function(...)
      redis.call('ZREM', r.key .. ':q', ...)
      redis.call('ZREM', r.key .. ':x', ...)
      redis.call('HDEL', r.key, ...)
    end)
  end

  local function drop_expired_holders(r)
    if r.sole then
      if r.expires <= now then erase_sole(r) end
    elseif r.shared > 0 then
      local first = redis.call('ZRANGE', r.key .. ':e', 0, 0, 'WITHSCORES')
      if not first[1] then -- evicted, and with it the word of when its members end
        r.shared = 0
        save(r)
      elseif tonumber(first[2]) <= now then
        erase_holders(r, redis.call('ZRANGEBYSCORE', r.key .. ':e', '-inf', now))
      end
    end
  end

  local function drop_expired(r)
    drop_expired_holders(r)
    if r.waiting > 0 then
      local ids = redis.call('ZRANGEBYSCORE', r.key .. ':x', '-inf', now)
      if #ids > 0 then erase_waiters(r, ids) end
    end
  end

  -- Makes the lease id a holder. The capacity is set, and there is room.
  local function hold(r, id, weight, expires, inbox, owner)
    local token = next_number(r)
    local move, first = outlive(r, expires), r.shared == 0
    if weight == r.capacity then
      r.sole, r.expires, r.token, r.since, r.inbox, r.owner = id, expires, token, now, inbox, owner
      save(r, 'h', struct.pack(SOLE, expires, token, now, r.capacity) .. id .. inbox .. owner)
    else
      r.shared = r.shared + weight
      save(r, id, struct.pack(OTHER, weight, token, now) .. inbox .. owner)
      redis.call('ZADD', r.key .. ':e', expires, id)
    end
    if move then
      keep(r)
    elseif first and not r.sole then
      redis.call('PEXPIREAT', r.key .. ':e', r.kept)
    end
    return token
  end

  -- Puts the lease r.id at the end of the queue.
  local function wait(r, weight, expires, inbox, owner)
    local place = next_number(r)
    local move, first = outlive(r, expires), r.waiting == 0
    r.waiting = r.waiting + 1
    save(r, r.id, struct.pack(OTHER, weight, 0, now) .. inbox .. owner)
    redis.call('ZADD', r.key .. ':q', place, r.id)
    redis.call('ZADD', r.key .. ':x', expires, r.id)
    if move then
      keep(r)
    elseif first then
      redis.call('PEXPIREAT', r.key .. ':q', r.kept)
      redis.call('PEXPIREAT', r.key .. ':x', r.kept)
    end
  end

  -- Grants from the head of the queue as far as the capacity goes. Nothing expired is left in it.
  local function grant(r)
    while r.waiting > 0 and not r.sole do
      local id = redis.call('ZRANGE', r.key .. ':q', 0, 0)[1]
      local record = id and redis.call('HGET', r.key, id)
      local expires = record and redis.call('ZSCORE', r.key .. ':x', id)
      if not expires then -- evicted: an order that is lost cannot be kept
        r.waiting = 0
        save(r)
        redis.call('DEL', r.key .. ':q', r.key .. ':x')
        return
      end
      local waiter = unpack_other(record)
      if r.shared + waiter.weight > r.capacity then return end
      r.waiting = r.waiting - 1
      local token = hold(r, id, waiter.weight, tonumber(expires), waiter.inbox, waiter.owner)
      if r.sole then redis.call('HDEL', r.key, id) end
      redis.call('ZREM', r.key .. ':q', id)
      redis.call('ZREM', r.key .. ':x', id)
      tell(waiter.inbox, string.format('g %s %.0f', id, token))
    end
  end

  -- Drops what has expired and grants what that makes room for. Every operation begins with it.
  local function settle(r)
    drop_expired(r)
    grant(r)
  end

  -- For what takes leases out: that happens whether or not there is memory for a grant. Where there is none, a
  -- later operation grants. Answers the resource as it is then.
  local function grant_if_possible(r)
    if r.waiting == 0 or pcall(grant, r) then return r end
    return open(r.key, r.id)
  end

  -- The token (0 while it waits), the expiry and the record of the lease r.id; nothing if it is not there.
  local function find(r)
    if r.sole == r.id then return r.token, r.expires end
    if r.shared == 0 and r.waiting == 0 then return end
    local record = redis.call('HGET', r.key, r.id)
    if not record then return end
    local _, token = struct.unpack(OTHER, record)
    local expires = redis.call('ZSCORE', r.key .. (token > 0 and ':e' or ':x'), r.id)
    if expires then return token, tonumber(expires) end
    redis.call('HDEL', r.key, r.id) -- its other key was evicted
  end

  -- How many wait in front of the lease r.id, and the time until the lease in front of it expires.
  local function place(r)
    local ahead = redis.call('ZRANK', r.key .. ':q', r.id) or 0
    local blocked_until
    if ahead > 0 then
      local before = redis.call('ZRANGE', r.key .. ':q', ahead - 1, ahead - 1)[1]
      blocked_until = tonumber(redis.call('ZSCORE', r.key .. ':x', before))
    elseif r.sole then
      blocked_until = r.expires
    else
      blocked_until = tonumber(redis.call('ZRANGE', r.key .. ':e', 0, 0, 'WITHSCORES')[2])
    end
    return QUEUED, ahead, (blocked_until or now) - now
  end

  return {
    in_parts = in_parts,
    open = open,
    unpack_other = unpack_other,
    is_live = is_live,
    save = save,
    tell = tell,
    outlive = outlive,
    keep = keep,
    erase_sole = erase_sole,
    erase_holders = erase_holders,
    erase_waiters = erase_waiters,
    drop_expired = drop_expired,
    hold = hold,
    wait = wait,
    settle = settle,
    grant_if_possible = grant_if_possible,
    find = find,
    place = place,
  }
end

local library

