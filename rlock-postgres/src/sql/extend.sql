-- Extends a lease that holds its resource, has no other beside it, and nobody behind it.
-- $1 namespace, $2 name, $3 id, $4 TTL in µs
UPDATE {schema}.locks
SET expires = ARRAY[greatest(expires[1], (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + $4::bigint)]
WHERE namespace = $1 AND name = $2 AND ids = ARRAY[$3::uuid] AND tokens[1] > 0
  AND expires[1] > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
RETURNING tokens[1] AS token, expires[1] - (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS ttl
