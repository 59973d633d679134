-- KEYS: the resource and the set beside it
-- Answers how many held leases were ended.

local r = library.open(KEYS[1], KEYS[2], '')
library.settle(r)
return #library.break_all(r)
