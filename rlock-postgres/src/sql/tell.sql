-- Not worth a flush of the log: whoever does not hear it looks for itself, later. For the end of this transaction alone.
-- $1 channels, $2 messages
WITH unsynced AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
SELECT pg_notify(channel, message) FROM unsynced, unnest($1::text[], $2::text[]) AS told (channel, message)
