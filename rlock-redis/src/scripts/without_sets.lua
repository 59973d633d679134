-- KEYS: the resources; a part in front of undecided.lua needs no more

local COUNT = #KEYS
