-- KEYS: per lease the resource and the set beside it
-- ARGV: packed per lease the id and the TTL in ms; the rest of the grace, if it is not over
--
-- This part extends leases that hold their resources alone. extend_among.lua does the others.

local SIZE = 24
local sub, pack, unpack_from = string.sub, struct.pack, struct.unpack
local leases, answers, others = ARGV[1], {}, {}

for entry = 1, math.ceil(#KEYS / 2) do
  local key, at = KEYS[2 * entry - 1], (entry - 1) * SIZE + 1
  local value = redis.pcall('GET', key) -- an error, if it is the key of others
  local last, kept, expires, capacity = 0, 0, 0, 0
  if type(value) == 'string' and sub(value, ALONE_LENGTH + 1, ALONE_LENGTH + 16) == sub(leases, at, at + 15) then
    last, kept, expires, capacity = unpack_from(ALONE, value)
  end
  if capacity > 0 and expires > now then
    local wanted = now + unpack_from('<d', leases, at + 16) * 1000
    if wanted > expires then
      local at_ms = math.ceil(wanted / 1000)
      if at_ms + HALF_AN_HOUR > kept then
        kept = at_ms + HOUR
        redis.call('SET', key, pack(ALONE, last, kept, wanted, capacity) .. sub(value, ALONE_LENGTH + 1), 'PXAT', kept)
      else
        redis.call('SETRANGE', key, 16, pack('<d', wanted))
      end
      expires = wanted
    end
    answers[entry] = pack('<Bdd', HELD, last, expires - now)
  else
    table.insert(others, entry)
  end
end

if #others == 0 then return table.concat(answers) end
do
