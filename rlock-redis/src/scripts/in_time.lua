-- The part of the scripts that must not run late. rlock-redis puts this text behind prelude.lua.
--
-- ARGV: last the time after which the client may no longer wait for the answer; this part removes it
-- Returns the time in a table if that deadline has passed. Nothing is done then, because the client may have sent its
-- next requests on another connection.

if now > tonumber(table.remove(ARGV)) then return { now } end
