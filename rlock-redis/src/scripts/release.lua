-- KEYS: per lease the resource and the set beside it
-- ARGV: packed per lease the id and the rest in ms: for so long its share stays taken, though nobody holds it; the rest of
--       the grace, if it is not over
-- Answers a letter per lease: r released, a absent, f failed; behind the letters the texts of the errors of those that failed.
--
-- This part releases leases that hold their resources alone. release_among.lua does the others.

local SIZE = 24
local sub, unpack_from = string.sub, struct.unpack
local leases, answers, others = ARGV[1], {}, {}

for entry = 1, math.ceil(#KEYS / 2) do
  local key, at = KEYS[2 * entry - 1], (entry - 1) * SIZE + 1
  local value = redis.pcall('GET', key) -- an error, if it is the key of others
  local _, expires, capacity
  if type(value) == 'string' and sub(value, ALONE_LENGTH + 1, ALONE_LENGTH + 16) == sub(leases, at, at + 15)
    and unpack_from('<d', leases, at + 16) == 0 then
    _, _, expires, capacity = unpack_from(ALONE, value)
  end
  if capacity and capacity > 0 then
    local written = redis.pcall('SET', key, sub(value, 1, IDLE_LENGTH), 'KEEPTTL')
    if written.err then redis.call('DEL', key) end -- for which there is always memory
    answers[entry] = expires > now and 'r' or 'a'
  else
    table.insert(others, entry)
  end
end

if #others == 0 then return table.concat(answers) end
do
