-- ARGV: packed per lease the id and the TTL in ms; the rest of the grace, if it is not over
--
-- This part extends leases that hold their resources alone. extend_among.lua handles the others.

local SIZE, ENTRY = 24, '<c16d'
local call, sub, pack, unpack_from = redis.call, string.sub, struct.pack, struct.unpack
local leases, answers, others = ARGV[1], {}, {}
local values, written = call('MGET', unpack(KEYS, 1, COUNT)), {} -- false for a missing key or one of another type

for entry = 1, COUNT do
  local key, value, at = KEYS[entry], values[entry], (entry - 1) * SIZE + 1
  if written[key] then value = call('GET', key) end
  local id, ttl = unpack_from(ENTRY, leases, at)
  local last, kept, expires, capacity = 0, 0, 0, 0
  if value and sub(value, ALONE_LENGTH + 1, ALONE_LENGTH + 16) == id then
    last, kept, expires, capacity = unpack_from(ALONE, value)
  end
  if capacity > 0 and expires > now then
    local wanted = now + ttl * 1000
    if wanted > expires then
      local at_ms = math.ceil(wanted / 1000)
      if at_ms + HALF_AN_HOUR > kept then
        kept = at_ms + HOUR
        call('SET', key, pack(ALONE, last, kept, wanted, capacity) .. sub(value, ALONE_LENGTH + 1), 'PXAT', kept)
      else
        call('SETRANGE', key, '16', pack('<d', wanted))
      end
      expires, written[key] = wanted, true
    end
    answers[entry] = pack('<Bdd', HELD, last, expires - now)
  else
    others[#others + 1] = entry
  end
end

if #others == 0 then return table.concat(answers) end
do
