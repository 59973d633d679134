-- KEYS: per lease the resource and its set
-- ARGV: packed per lease the id and the rest in ms, for which its share stays taken without a holder; the rest of
--       the grace, if it is not over
-- Returns a letter per lease: r released, a absent, f failed; after the letters the error texts of the failed ones.
--
-- This part releases leases that hold their resources alone. release_among.lua handles the others.

local SIZE = 24
local call, sub, unpack_from = redis.call, string.sub, struct.unpack
local leases, answers, others = ARGV[1], {}, {}
local keys, values = read_all()
local written = {}

for entry, key in ipairs(keys) do
  local value, at = values[entry], (entry - 1) * SIZE + 1
  if written[key] then value = call('GET', key) end
  local _, expires, capacity
  if value and sub(value, ALONE_LENGTH + 1, ALONE_LENGTH + 16) == sub(leases, at, at + 15)
    and unpack_from('<d', leases, at + 16) == 0 then
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
