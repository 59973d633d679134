-- ARGV: the rest of the grace, if it is not over
-- Returns the time, the capacity or 0, the end of the rest or 0, and per lease its data for snapshots, the token (0 for
-- a waiter), the weight, the start and the expiry. Waiters come in the order of the queue.

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
