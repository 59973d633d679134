-- What is in an inbox, of which nothing stays, and in each row since when the server runs: behind a pooler nobody sees
-- it end.
-- $1 inbox
WITH collected AS (DELETE FROM {schema}.mail WHERE inbox = $1 RETURNING message, sent)
SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint AS started, message
FROM (SELECT) AS always LEFT JOIN collected ON true
ORDER BY sent
