-- KEYS: the resource
-- Answers the time, the capacity or 0, and per lease the owner, the token (0 for a waiter), the weight, since when
-- and until when. Waiters come in their order.

library = define_library()
local r = library.open(KEYS[1], '')
library.settle(r)

local answer = { now, library.is_live(r) and r.capacity or 0 }
local function add(owner, token, weight, since, expires)
  table.insert(answer, owner)
  table.insert(answer, token)
  table.insert(answer, weight)
  table.insert(answer, since)
  table.insert(answer, expires)
end
local function add_other(id, expires)
  local record = redis.call('HGET', r.key, id)
  if record and expires then
    local lease = library.unpack_other(record)
    add(lease.owner, lease.token, lease.weight, lease.since, tonumber(expires))
  end
end

if r.sole then add(r.owner, r.token, r.capacity, r.since, r.expires) end
if r.shared > 0 then
  for _, id in ipairs(redis.call('ZRANGE', r.key .. ':e', 0, -1)) do
    add_other(id, redis.call('ZSCORE', r.key .. ':e', id))
  end
end
if r.waiting > 0 then
  for _, id in ipairs(redis.call('ZRANGE', r.key .. ':q', 0, -1)) do
    add_other(id, redis.call('ZSCORE', r.key .. ':x', id))
  end
end
return answer
