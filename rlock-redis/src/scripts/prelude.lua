-- What all scripts share. rlock-redis puts this text in front of each of them, and library.lua behind it.
--
-- A resource is the hash KEY:
--   g     in general: the last number given out (tokens and places in the queue are one sequence), when the keys
--         expire in ms, and of the leases that share or wait: their capacity, the weight held, how many wait
--   h     the lease that holds everything, if there is one: when it expires, its token, since when, the capacity,
--         then its id, the inbox of its client and its owner
--   <id>  each other lease: its weight, its token or 0 while it waits, since when, then inbox and owner
-- Beside it, only while they have members:
--   KEY:e  holders of less than everything, by expiry
--   KEY:q  waiters, by their place
--   KEY:x  waiters, by expiry
--
-- Numbers are doubles packed by struct, which is the fastest that Lua has here; ids and inboxes are 32 digits.
-- Instants and durations are in microseconds of the server's clock unless they say ms. All stay below 2^53, and
-- redis.call writes them out in full, which the operator .. would not.
--
-- A server out of memory refuses HSET and ZADD for the length of a script and lets everything else pass. So a
-- step that needs one of them begins with it: it happens as a whole or not at all.
--
-- Most calls meet a resource that is free, or held by the caller alone. The scripts answer those by themselves and
-- define the functions of the library, which takes its time, only for the others.

local HELD, QUEUED, BUSY, MISMATCH, GONE, RELEASED, ABSENT, COUNTED, FAILED = 1, 2, 3, 4, 5, 6, 7, 8, 9
local GENERAL, SOLE, OTHER = '<ddddd', '<dddd', '<ddd'
-- The keys outlive every lease by half an hour at least. They are moved an hour ahead, so that a lock in steady use
-- pays for it every half an hour.
local HOUR, HALF_AN_HOUR = 3600000, 1800000

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- Runs act for each entry of a batch and answers three values for each: what became of it, and two numbers that
-- go with that. An entry that fails leaves the others alone, and answers its error.
local function for_each_entry(act)
  local answers = {}
  for entry = 1, #KEYS do
    local ran, status, a, b = pcall(act, entry)
    if not ran then
      status, a, b = FAILED, type(status) == 'table' and status.err or tostring(status), 0
    end
    local at = 3 * entry
    answers[at - 2], answers[at - 1], answers[at] = status, a or 0, b or 0
  end
  return answers
end

