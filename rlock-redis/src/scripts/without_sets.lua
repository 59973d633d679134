-- KEYS: the resources

local COUNT = #KEYS
