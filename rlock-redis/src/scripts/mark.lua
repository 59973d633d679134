-- KEYS: the mark of the namespace
-- ARGV: the identity of the server
-- Returns for how many microseconds the mark has had that identity. The mark expires a month after its last use.

local MONTH = 30 * 24 * 3600 * 1000
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local since = now
local mark = redis.call('GET', KEYS[1])
if mark and string.sub(mark, 9) == ARGV[1] then since = math.min(struct.unpack('<d', mark), now) end
redis.call('SET', KEYS[1], struct.pack('<d', since) .. ARGV[1], 'PXAT', math.floor(now / 1000) + MONTH)
return now - since
