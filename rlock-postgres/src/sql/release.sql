-- Releases a lease that holds its resource, has no other beside it, and nobody behind it.
-- $1 namespace, $2 name, $3 id
UPDATE {schema}.locks
SET capacity = 0, ids = '{}', weights = '{}', tokens = '{}', expires = '{}', since = '{}', inboxes = '{}', owners = '{}'
WHERE namespace = $1 AND name = $2 AND ids = ARRAY[$3::uuid] AND tokens[1] > 0
  AND expires[1] > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
RETURNING last
