
local library = library_in(ARGV[2])
return pack_each(answers, others, function(entry, key, set)
  local id, ttl = unpack_from(ENTRY, leases, (entry - 1) * SIZE + 1)
  local wanted = now + ttl * 1000

  local r = library.open(key, set, id, current(values, written, entry, key))
  library.settle(r)
  local expires, token, lease = library.find(r)
  if not expires then
    library.close(r)
    library.prove_writable(r)
    return GONE, (library.is_held(r) or library.count(r, 'e') > 0) and 1 or 0
  end
  if wanted > expires then
    if lease then
      local record, a, b = library.members(lease)
      lease.expires = wanted
      library.put(r, lease, record, b or a)
    else
      r.expires, r.is_changed = wanted, true
      library.outlive(r, wanted)
    end
    expires = wanted
  end
  library.close(r)
  if token > 0 then return HELD, token, expires - now end
  return library.place(r, lease)
end)
end
