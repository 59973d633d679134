-- ARGV: packed per lease the id and the rest in ms, for which its share stays taken without a holder; the rest of
--       the grace, if it is not over
-- Returns a letter per lease: r released, a absent, f failed, u undecided without its set; after the letters the error
-- texts of the failed ones.
--
-- This part releases leases that hold their resources alone. release_among.lua handles the others.

local SIZE, ENTRY = 24, '<c16d'
local call, sub, unpack_from = redis.call, string.sub, struct.unpack
local leases, answers, others = ARGV[1], {}, {}
local values, written = call('MGET', unpack(KEYS, 1, COUNT)), {} -- false for a missing key or one of another type
UNDECIDED = 'u'

for entry = 1, COUNT do
  local key, value, at = KEYS[entry], values[entry], (entry - 1) * SIZE + 1
  if written[key] then value = call('GET', key) end
  local id, rest = unpack_from(ENTRY, leases, at)
  local _, expires, capacity
  if value and rest == 0 and sub(value, ALONE_LENGTH + 1, ALONE_LENGTH + 16) == id then
    _, _, expires, capacity = unpack_from(ALONE, value)
  end
  if capacity and capacity > 0 then
    local set = redis.pcall('SET', key, sub(value, 1, IDLE_LENGTH), 'KEEPTTL')
    if set.err then call('DEL', key) end -- which needs no memory
    written[key] = true
    answers[entry] = expires > now and 'r' or 'a'
  else
    others[#others + 1] = entry
  end
end

if #others == 0 then return table.concat(answers) end
do
