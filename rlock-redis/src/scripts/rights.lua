-- KEYS: a key of the namespace that belongs to no resource
-- Returns the commands that the access rules forbid this user, and 'key' before them if they forbid the keys.
--
-- The script tries every command that the other scripts and the client run. It changes nothing, for its keys do not exist.
-- HSET lacks an argument, which the server notices only after the access rules.

local key = KEYS[1]
local beside = key .. ':e'
-- The denials of versions before 7.2, of later versions, and outside scripts.
local DENIALS = { 'The user executing the script', 'ACL failure in script', 'NOPERM' }
-- The denials of a key. A user's name has no spaces, so it cannot look like one.
local KEY_DENIALS = { "can't access ", 'ermissions to access ' }

local function has_one(text, parts)
  for _, part in ipairs(parts) do
    if string.find(text, part, 1, true) then return true end
  end
  return false
end

local forbidden, key_is_forbidden = {}, false
local function try(command, ...)
  local answer = redis.pcall(command, ...)
  local text = type(answer) == 'table' and answer.err or ''
  if not has_one(text, DENIALS) then return end
  if has_one(text, KEY_DENIALS) then
    key_is_forbidden = true
  else
    table.insert(forbidden, string.lower(command))
  end
end

try('PING')
try('TIME')
try('SCAN', 0, 'COUNT', 1, 'TYPE', 'hash')
try('HGET', key, 'g')
try('HMGET', key, 'g')
try('HSET', key, 'g', '', 'h')
try('HDEL', key, 'g')
try('ZADD', beside, 'XX', 0, 'g')
try('ZCARD', beside)
try('ZRANGE', beside, 0, 0)
try('ZRANGEBYSCORE', beside, 0, 0)
try('ZRANK', beside, 'g')
try('ZREM', beside, 'g')
try('ZSCORE', beside, 'g')
try('PEXPIREAT', key, 1)
try('DEL', beside)
if key_is_forbidden then table.insert(forbidden, 1, 'key') end
return forbidden
