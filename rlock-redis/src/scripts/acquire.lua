-- ARGV: packed per claim the id, weight, capacity, TTL in ms, 1 to queue or 0; the client's inbox; the data for
--       snapshots, for all claims or for each
--
-- This part grants idle resources. acquire_among.lua handles the others.

local SIZE, WHOLE = 33, ALONE .. 'c16c16c0'
local call, sub, pack, unpack_from = redis.call, string.sub, struct.pack, struct.unpack
local claims, inbox, answers, others = ARGV[1], ARGV[2], {}, {}
local shown_by_all = #ARGV == 3 and ARGV[3]
local values, written = read_all(), {}

for entry = 1, COUNT do
  local key, value, at = KEYS[entry], values[entry], (entry - 1) * SIZE + 1
  if written[key] then value = call('GET', key) end
  local weight, capacity, ttl, queue = unpack_from('<I4I4dB', claims, at + 16)
  local last, kept, until_when, actual = 0, 0, 0, capacity
  if not value then
    local set = KEYS[COUNT + entry]
    if not set or call('EXISTS', key, set) > 0 then actual = 0 end
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
    local token, life = last + 1, ttl * 1000
    if token < now then token = now end
    local expires, at_ms = now + life, (now + life) / 1000
    local is_moved = at_ms + HALF_AN_HOUR > kept
    if is_moved then kept = math.ceil(at_ms) + HOUR end
    local id, shown = sub(claims, at, at + 15), shown_by_all or ARGV[entry + 2]
    value = pack(WHOLE, token, kept, expires, capacity, id, inbox, shown)
    if is_moved then
      call('SET', key, value, 'PXAT', kept)
    else
      call('SET', key, value, 'KEEPTTL')
    end
    written[key] = true
    answers[entry] = pack('<Bdd', HELD, token, life)
  elseif queue == 0 and sub(value, ALONE_LENGTH + 1, ALONE_LENGTH + 16) ~= sub(claims, at, at + 15) then
    answers[entry] = pack('<Bdd', BUSY, 0, 0)
  else
    others[#others + 1] = entry
  end
end

if #others == 0 then return table.concat(answers) end
do
