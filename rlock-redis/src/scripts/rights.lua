-- KEYS: two keys of the namespace that belong to no resource
-- Returns the commands that the access rules forbid this user.
--
-- The script tries every command that the other scripts and the client run. It changes nothing, because its keys do not
-- exist.

local key, set = KEYS[1], KEYS[2]
-- The denials of versions before 7.2, of later versions, and outside scripts.
local DENIALS = { 'The user executing the script', 'ACL failure in script', 'NOPERM' }

local forbidden = {}
local function try(command, ...)
  local answer = redis.pcall(command, ...)
  local text = type(answer) == 'table' and answer.err or ''
  for _, denial in ipairs(DENIALS) do
    if string.find(text, denial, 1, true) then return table.insert(forbidden, string.lower(command)) end
  end
end

try('PING')
try('TIME')
try('SCAN', 0, 'COUNT', 1, 'TYPE', 'string')
try('GET', key)
try('MGET', key)
try('SET', key, '', 'XX')
try('SETRANGE', key, 0, '')
try('EXISTS', key)
try('DEL', key)
try('PEXPIREAT', key, 1)
try('ZADD', set, 'XX', 0, '')
try('ZREM', set, '')
try('ZLEXCOUNT', set, '-', '+')
try('ZRANGEBYLEX', set, '-', '+')
try('ZREVRANGEBYLEX', set, '+', '-')
return forbidden
