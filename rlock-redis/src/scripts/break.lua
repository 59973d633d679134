-- KEYS: the resource and the set beside it
-- ARGV: the rest of the grace, if it is not over
-- Answers how many held leases were ended.

local library = library_in(ARGV[1])
local r = library.open(KEYS[1], KEYS[2], '')
library.settle(r)
return #library.break_all(r)
