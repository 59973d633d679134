-- KEYS: a resource per claim
-- ARGV: the client's inbox; then per claim the id, weight, capacity, TTL in ms, 1 to queue or 0, and the owner,
--       empty if it is that of the claim before

local ARGUMENTS = 6
local inbox, owner = ARGV[1], ''

return for_each_entry(function(entry)
  local at = (entry - 1) * ARGUMENTS + 1
  local key, id, weight, capacity = KEYS[entry], ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local expires, refuse = now + ARGV[at + 4] * 1000, ARGV[at + 5] == '0'
  if ARGV[at + 6] ~= '' then owner = ARGV[at + 6] end

  local fields = redis.call('HMGET', key, 'g', 'h')
  local last, kept, shared, waiting = 0, 0, 0, 0
  if fields[1] then
    local _
    last, kept, _, shared, waiting = struct.unpack(GENERAL, fields[1])
  end
  if shared == 0 and waiting == 0 then
    local sole_until, sole_token, _, sole_capacity = 0
    if fields[2] then sole_until, sole_token, _, sole_capacity = struct.unpack(SOLE, fields[2]) end
    if sole_until > now then
      if string.sub(fields[2], 33, 64) == id then return HELD, sole_token, sole_until - now end
      if sole_capacity ~= capacity then return MISMATCH, sole_capacity end
      if refuse then return BUSY end
    elseif weight == capacity then
      local token, at_ms = math.max(last + 1, now), math.ceil(expires / 1000)
      local move = at_ms + HALF_AN_HOUR > kept
      if move then kept = at_ms + HOUR end
      redis.call('HSET', key, 'g', struct.pack(GENERAL, token, kept, 0, 0, 0),
        'h', struct.pack(SOLE, expires, token, now, capacity) .. id .. inbox .. owner)
      if move then redis.call('PEXPIREAT', key, kept) end
      return HELD, token, expires - now
    end
  end

  library = library or define_library()
  local r = library.open(key, id, fields)
  library.settle(r)
  local token, until_when = library.find(r)
  if token then
    if token > 0 then return HELD, token, until_when - now end
    return library.place(r)
  end
  if not library.is_live(r) then
    r.capacity = capacity
  elseif r.capacity ~= capacity then
    return MISMATCH, r.capacity
  end
  if r.waiting == 0 and not r.sole and r.shared + weight <= capacity then
    return HELD, library.hold(r, id, weight, expires, inbox, owner), expires - now
  end
  if refuse then return BUSY end
  library.wait(r, weight, expires, inbox, owner)
  return library.place(r)
end)
