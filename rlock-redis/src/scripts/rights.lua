-- KEYS: a key of the namespace that belongs to no resource
-- Answers the commands that the server's access rules forbid this user, of all that the scripts run and the client sends.
--
-- No call changes anything, for nothing is there that it could change. HSET is short of an argument, which the server
-- notices only once it has looked at the rules.

local key = KEYS[1]
local beside = key .. ':e'
-- As versions before 7.2 say it, the later ones, and what is not called by a script.
local DENIALS = { 'The user executing the script', 'ACL failure in script', 'NOPERM' }

local forbidden = {}
local function try(command, ...)
  local answer = redis.pcall(command, ...)
  local text = type(answer) == 'table' and answer.err or ''
  for _, denial in ipairs(DENIALS) do
    if string.find(text, denial, 1, true) then
      table.insert(forbidden, string.lower(command))
      return
    end
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
return forbidden
