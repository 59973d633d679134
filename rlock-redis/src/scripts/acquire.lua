-- KEYS: per claim the resource and the set beside it
-- ARGV: packed per claim the id, weight, capacity, TTL in ms, 1 to queue or 0; the client's inbox; what to show of the
--       holder, for all claims or for each
--
-- This part grants resources that are idle. acquire_among.lua does the others.

local SIZE = 33
local sub, pack, unpack_from = string.sub, struct.pack, struct.unpack
local claims, inbox, answers, others = ARGV[1], ARGV[2], {}, {}

for entry = 1, math.ceil(#KEYS / 2) do
  local key, at = KEYS[2 * entry - 1], (entry - 1) * SIZE + 1
  local value = redis.pcall('GET', key) -- an error, if it is the key of others
  local weight, capacity, ttl, queue = unpack_from('<I4I4dB', claims, at + 16)
  local last, kept, until_when, actual = 0, 0, 0, capacity
  if not value then
    if not KEYS[2 * entry] or redis.call('EXISTS', KEYS[2 * entry]) == 1 then actual = 0 end
  elseif type(value) == 'string' and #value == IDLE_LENGTH then
    last, kept = unpack_from(IDLE, value)
  elseif type(value) == 'string' and #value > ALONE_LENGTH then
    last, kept, until_when, actual = unpack_from(ALONE, value)
  else
    actual = 0
  end
  if actual ~= capacity or weight ~= capacity then
    table.insert(others, entry)
  elseif until_when <= now then
    local token, expires = math.max(last + 1, now), now + ttl * 1000
    local at_ms = math.ceil(expires / 1000)
    local lease = sub(claims, at, at + 15) .. inbox .. ARGV[math.min(entry + 2, #ARGV)]
    if at_ms + HALF_AN_HOUR > kept then
      kept = at_ms + HOUR
      redis.call('SET', key, pack(ALONE, token, kept, expires, capacity) .. lease, 'PXAT', kept)
    else
      redis.call('SET', key, pack(ALONE, token, kept, expires, capacity) .. lease, 'KEEPTTL')
    end
    answers[entry] = pack('<Bdd', HELD, token, expires - now)
  elseif queue == 0 and sub(value, ALONE_LENGTH + 1, ALONE_LENGTH + 16) ~= sub(claims, at, at + 15) then
    answers[entry] = pack('<Bdd', BUSY, 0, 0)
  else
    table.insert(others, entry)
  end
end

if #others == 0 then return table.concat(answers) end
do
