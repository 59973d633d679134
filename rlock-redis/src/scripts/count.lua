-- KEYS: resources
-- Answers for each how many hold it and how many wait for it.

library = define_library()

return for_each_entry(function(entry)
  local r = library.open(KEYS[entry], '')
  library.settle(r)
  local holders = r.sole and 1 or 0
  if r.shared > 0 then holders = redis.call('ZCARD', r.key .. ':e') end
  return COUNTED, holders, r.waiting
end)
