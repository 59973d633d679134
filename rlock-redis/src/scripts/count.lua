-- ARGV: the rest of the grace, if it is not over
-- Returns for each the numbers of holders and of waiters.

local library = library_in(ARGV[1])
local all = {}
for entry = 1, COUNT do all[entry] = entry end
return pack_each({}, all, function(_, key, set)
  local r = library.open(key, set, '')
  library.settle(r)
  library.close(r)
  return COUNTED, library.is_held(r) and 1 or library.count(r, 'e'), library.count(r, 'q')
end)
