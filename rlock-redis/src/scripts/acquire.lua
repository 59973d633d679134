-- ARGV: the packed ids of the claims, then the packed terms of all of them or of each: weight, capacity, TTL in ms,
--       1 to queue or 0; the client's inbox; the data for snapshots, for all claims or for each
--
-- This part grants idle resources. acquire_among.lua handles the others.

local ID_LENGTH, TERMS, TERMS_LENGTH, WHOLE = 16, '<I4I4dB', 17, ALONE .. 'c16c0'
local call, sub, pack, unpack_from = redis.call, string.sub, struct.pack, struct.unpack
local claims, inbox, answers, others = ARGV[1], ARGV[2], {}, {}
local values, written = call('MGET', unpack(KEYS, 1, COUNT)), {} -- false for a missing key or one of another type
local terms_at = COUNT * ID_LENGTH + 1
-- The distance between the terms of two claims.
local step = #claims < terms_at + TERMS_LENGTH and 0 or TERMS_LENGTH
local weight, capacity, ttl, queue = unpack_from(TERMS, claims, terms_at)
local shown_by_all = #ARGV == 3 and ARGV[3]
local inbox_and_shown = inbox .. ARGV[3]
-- Most claims of a batch have the same answer.
local held, held_token, held_life

for entry = 1, COUNT do
  local key, value, at = KEYS[entry], values[entry], (entry - 1) * ID_LENGTH + 1
  if written[key] then value = call('GET', key) end
  if step > 0 then weight, capacity, ttl, queue = unpack_from(TERMS, claims, terms_at + (entry - 1) * step) end
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
    if not shown_by_all then inbox_and_shown = inbox .. ARGV[entry + 2] end
    value = pack(WHOLE, token, kept, expires, capacity, sub(claims, at, at + 15), inbox_and_shown)
    if is_moved then
      call('SET', key, value, 'PXAT', kept)
    else
      call('SET', key, value, 'KEEPTTL')
    end
    written[key] = true
    if token ~= held_token or life ~= held_life then
      held, held_token, held_life = pack('<Bdd', HELD, token, life), token, life
    end
    answers[entry] = held
  elseif queue == 0 and sub(value, ALONE_LENGTH + 1, ALONE_LENGTH + 16) ~= sub(claims, at, at + 15) then
    answers[entry] = pack('<Bdd', BUSY, 0, 0)
  else
    others[#others + 1] = entry
  end
end

if #others == 0 then return table.concat(answers) end
do
