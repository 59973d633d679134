-- What the scripts share. rlock-redis puts this text in front of each of them.
--
-- A resource is a string at its key, packed by struct:
--   idle    last number given out (tokens and places in the queue are one sequence), when the keys expire in ms
--   alone   the same, with the token of the lease that holds everything as the last number; when that lease expires, the
--           capacity; then its id, the inbox of its client, and what to show of its holder
--   among   while others share or wait: last number, when the keys expire in ms, when the lease that holds everything
--           expires or 0, the number 0; the token of that lease, the capacity, the permits of those who hold a part; then id,
--           inbox and what to show, as above
-- Without an id, the resource rests until then: nobody holds it, and nobody gets it.
--
-- Ids and inboxes are 16 bytes. Instants and durations are in microseconds of the server's clock unless they say ms.
-- Numbers stay below 2^53; redis.call writes them out in full, which the operator .. would not.
--
-- Most calls meet a resource that is idle, or held by one lease alone. The scripts answer those from the string first. The
-- functions of library.lua take their time to be made, so that text stands in a block that runs only for the others.

local IDLE, ALONE, AMONG = '<dd', '<dddI4', '<dddI4dI4I4'
local IDLE_LENGTH, ALONE_LENGTH, AMONG_LENGTH = 16, 28, 44
-- The keys outlive every lease by half an hour at least. They are moved an hour ahead, so that a lock in steady use
-- pays for it every half an hour.
local HOUR, HALF_AN_HOUR = 3600000, 1800000

local HELD, QUEUED, BUSY, MISMATCH, GONE, COUNTED, FAILED = 1, 2, 3, 4, 5, 6, 7

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- The keys of resources, and the strings there, which are read in one command: false where there is none, or a key of others.
local function read_all()
  local keys = {}
  for at = 1, #KEYS, 2 do keys[#keys + 1] = KEYS[at] end
  return keys, redis.call('MGET', unpack(keys))
end
