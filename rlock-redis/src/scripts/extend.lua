-- KEYS: a resource per lease
-- ARGV: per lease the id and the TTL in ms

return for_each_entry(function(entry)
  local key, id, wanted = KEYS[entry], ARGV[2 * entry - 1], now + ARGV[2 * entry] * 1000

  local fields = redis.call('HMGET', key, 'g', 'h')
  local sole = fields[2]
  if sole and string.sub(sole, 33, 64) == id then
    local expires, token = struct.unpack('<dd', sole)
    if wanted <= expires then return HELD, token, expires - now end
    local _, kept = struct.unpack('<dd', fields[1])
    if expires > now and math.ceil(wanted / 1000) + HALF_AN_HOUR <= kept then
      redis.call('HSET', key, 'h', struct.pack('<d', wanted) .. string.sub(sole, 9))
      return HELD, token, wanted - now
    end
  end

  library = library or define_library()
  local r = library.open(key, id, fields)
  library.settle(r)
  local token, expires = library.find(r)
  if not token then return GONE, (r.sole or r.shared > 0) and 1 or 0 end
  if wanted > expires then
    expires = wanted
    local move = library.outlive(r, expires)
    if move then library.save(r) end
    if r.sole == id then
      r.expires = expires
      redis.call('HSET', key, 'h', struct.pack(SOLE, expires, token, r.since, r.capacity) .. id .. r.inbox .. r.owner)
    else
      redis.call('ZADD', key .. (token > 0 and ':e' or ':x'), expires, id)
    end
    if move then library.keep(r) end
  end
  if token > 0 then return HELD, token, expires - now end
  return library.place(r)
end)
