-- KEYS: per claim the resource and its set
-- ARGV: packed per claim the id, weight, capacity, TTL in ms, 1 to queue or 0; the client's inbox; the data for
--       snapshots, for all claims or for each
--
-- This part grants idle resources. acquire_among.lua handles the others.

local SIZE = 33
local call, sub, pack, unpack_from = redis.call, string.sub, struct.pack, struct.unpack
local claims, inbox, answers, others = ARGV[1], ARGV[2], {}, {}
local keys, values = read_all()
local written = {}

for entry, key in ipairs(keys) do
  local value, at = values[entry], (entry - 1) * SIZE + 1
  if written[key] then value = call('GET', key) end
  local weight, capacity, ttl, queue = unpack_from('<I4I4dB', claims, at + 16)
  local last, kept, until_when, actual = 0, 0, 0, capacity
  if not value then
    if not KEYS[2 * entry] or call('EXISTS', key, KEYS[2 * entry]) > 0 then actual = 0 end
  elseif #value == IDLE_LENGTH then
    last, kept = unpack_from(IDLE, value)
  elseif #value > ALONE_LENGTH then
    last, kept, until_when, actual = unpack_from(ALONE, value)
  else
    actual = 0
  end
  if actual ~= capacity or weight ~= capacity then
    others[#others + 1] = entry
  elseif until_when <= now then
    local token, expires = math.max(last + 1, now), now + ttl * 1000
    local at_ms = math.ceil(expires / 1000)
    local id, shown = sub(claims, at, at + 15), ARGV[math.min(entry + 2, #ARGV)]
    if at_ms + HALF_AN_HOUR > kept then
      kept = at_ms + HOUR
      call('SET', key, pack(ALONE, token, kept, expires, capacity) .. id .. inbox .. shown, 'PXAT', kept)
    else
      call('SET', key, pack(ALONE, token, kept, expires, capacity) .. id .. inbox .. shown, 'KEEPTTL')
    end
    written[key] = true
    answers[entry] = pack('<Bdd', HELD, token, expires - now)
  elseif queue == 0 and sub(value, ALONE_LENGTH + 1, ALONE_LENGTH + 16) ~= sub(claims, at, at + 15) then
    answers[entry] = pack('<Bdd', BUSY, 0, 0)
  else
    others[#others + 1] = entry
  end
end

if #others == 0 then return table.concat(answers) end
do
