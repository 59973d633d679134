-- Takes all mail out of an inbox. Each row also has the start time of the server: behind a pooler a client does not see
-- that the server ended.
-- $1 inbox
WITH collected AS (DELETE FROM {schema}.mail WHERE inbox = $1 RETURNING message, sent)
SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint AS started, message
FROM (SELECT) AS always LEFT JOIN collected ON true
ORDER BY sent
