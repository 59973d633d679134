-- KEYS: a resource per lease
-- ARGV: per lease the id

return for_each_entry(function(entry)
  local key, id = KEYS[entry], ARGV[entry]

  local fields = redis.call('HMGET', key, 'g', 'h')
  local sole = fields[2]
  if sole and string.sub(sole, 33, 64) == id then
    local _, _, _, _, waiting = struct.unpack(GENERAL, fields[1])
    if waiting == 0 then
      redis.call('HDEL', key, 'h')
      return struct.unpack('<d', sole) > now and RELEASED or ABSENT
    end
  end

  library = library or define_library()
  local r = library.open(key, id, fields)
  library.drop_expired(r)
  r = library.grant_if_possible(r)
  local token = library.find(r)
  if not token then return ABSENT end
  if r.sole == id then
    library.erase_sole(r)
  elseif token > 0 then
    library.erase_holders(r, { id })
  else
    library.erase_waiters(r, { id })
  end
  library.grant_if_possible(r)
  return RELEASED
end)
