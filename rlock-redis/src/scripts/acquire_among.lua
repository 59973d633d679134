
local library = library_in()
return pack_each(answers, others, function(entry, key, set)
  local at = (entry - 1) * ID_LENGTH + 1
  local id = sub(claims, at, at + 15)
  weight, capacity, ttl, queue = unpack_from(TERMS, claims, terms_at + (entry - 1) * step)
  local expires, shown = now + ttl * 1000, shown_by_all or ARGV[entry + 2]

  local r = library.open(key, set, id, current(values, written, entry, key))
  library.settle(r)
  library.close(r)
  local lives_until, token, lease = library.find(r)
  if lives_until then
    if token > 0 then return HELD, token, lives_until - now end
    return library.place(r, lease)
  end
  if not library.is_live(r) then
    r.capacity = capacity
  elseif r.capacity ~= capacity then
    return MISMATCH, r.capacity
  end
  lease = { id = id, weight = weight, capacity = capacity, expires = expires, inbox = inbox, shown = shown }
  if not r.sole and r.shared + weight <= capacity and not library.has_waiter(r) then
    return HELD, library.hold(r, lease), expires - now
  end
  if queue == 0 then return BUSY end
  return library.wait(r, lease)
end)
end
