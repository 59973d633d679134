-- Reads the mail in an inbox, and deletes only mail that its client has read before: the answer may get lost, and a late
-- poll may run after the client has given it up. Each row also has the start time of the server: behind a pooler a
-- client does not see that the server ended.
-- $1 inbox, $2 messages that were read
WITH deleted AS (DELETE FROM {schema}.mail WHERE inbox = $1 AND message = ANY ($2::text[]))
SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint AS started, message
FROM (SELECT) AS always
LEFT JOIN (SELECT message, sent FROM {schema}.mail WHERE inbox = $1 AND message <> ALL ($2::text[])) AS unread ON true
ORDER BY sent
