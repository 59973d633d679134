-- KEYS: the resource
-- Answers how many held leases were ended.

library = define_library()
local r = library.open(KEYS[1], '')
library.settle(r)

local ended = {} -- ids, and the inboxes of their clients behind them
if r.sole then
  ended = { r.sole, r.inbox }
  library.erase_sole(r)
elseif r.shared > 0 then
  local ids = redis.call('ZRANGE', r.key .. ':e', 0, -1)
  for _, id in ipairs(ids) do
    local record = redis.call('HGET', r.key, id)
    table.insert(ended, id)
    table.insert(ended, record and library.unpack_other(record).inbox or '')
  end
  library.erase_holders(r, ids)
end
for i = 1, #ended, 2 do
  library.tell(ended[i + 1], 'b ' .. ended[i])
end
library.grant_if_possible(r)
return #ended / 2
