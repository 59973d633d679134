-- KEYS: the resource and the set beside it
-- ARGV: the rest of the grace, if it is not over
-- Answers the time, the capacity or 0, until when it rests or 0, and per lease what to show of it, the token (0 for a
-- waiter), the weight, since when and until when. Waiters come in their order.

local library = library_in(ARGV[1])
local r = library.open(KEYS[1], KEYS[2], '')
library.settle(r)
library.close(r)

local answer = { now, library.is_live(r) and r.capacity or 0, 0 }
local function rest(expires) answer[3] = math.max(answer[3], expires) end
local function add(lease)
  for _, value in ipairs({ lease.shown, lease.token, lease.weight, lease.since, lease.expires }) do
    table.insert(answer, value)
  end
end

if library.is_held(r) then
  -- A token is the time of its grant, unless the server's clock went back.
  r.weight, r.since = r.capacity, math.min(r.token, now)
  add(r)
elseif r.sole then
  rest(r.expires)
end
for _, lease in ipairs(library.all(r, 'e')) do add(lease) end
for _, lease in ipairs(library.all(r, 'f')) do rest(lease.expires) end
for _, lease in ipairs(library.all(r, 'q')) do add(lease) end
return answer
