-- KEYS: the resources, then their sets in the same order

local COUNT = #KEYS / 2
