-- The shared start of the scripts. rlock-redis puts this text in front of each of them.
--
-- A resource is a string at its key, packed by struct:
--   idle    last assigned number (tokens and the numbers of rests are one sequence), expiry of the keys in ms
--   alone   the same, with the token of the lease that holds everything as the last number; expiry of that lease, the
--           capacity; then its id, the inbox of its client, and its data for snapshots
--   among   while leases share or wait: last number, expiry of the keys in ms, expiry of the lease that holds all
--           or 0, the number 0; the token of that lease, the capacity, the permits of the holders of a part; then id,
--           inbox and data, as above
-- With an id of zeros, the resource rests until that expiry: no lease holds it, and none is granted.
--
-- Ids and inboxes have 16 bytes. Times and durations are in microseconds of the server's clock, unless ms is given.
-- Numbers stay below 2^53; redis.call writes them in full, which the operator .. does not. Writing one takes 0.4 µs with
-- Redis 7.0, as long as a short command, so constants are strings.
--
-- Most calls find a resource that is idle, or held by one lease alone. The scripts handle those first, from the string.
-- Defining the functions of resource.lua and library.lua takes time, so their text is in a block that runs only for the
-- others.

local IDLE, ALONE, AMONG = '<dd', '<dddI4', '<dddI4dI4I4'
local IDLE_LENGTH, ALONE_LENGTH, AMONG_LENGTH = 16, 28, 44
-- The keys outlive every lease by at least half an hour. Their expiry is set an hour ahead, so that a lock in steady
-- use pays for it only every half hour.
local HOUR, HALF_AN_HOUR = 3600000, 1800000

local HELD, QUEUED, BUSY, MISMATCH, GONE, COUNTED, FAILED = 1, 2, 3, 4, 5, 6, 7
-- A packed answer of zeros: a script without sets has done nothing for this entry, because it needs the set.
local UNDECIDED = '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
