-- Extends a lease that holds or waits, of a resource where none has expired. Answers its token, its life in µs, how many
-- wait in front of it, and for how long it is known to wait, in µs.
-- $1 namespace, $2 name, $3 id, $4 TTL in µs
WITH clock AS MATERIALIZED (
  SELECT {now} AS now
)
UPDATE {schema}.locks AS l
SET expires[array_position(ids, $3::uuid)] = greatest(expires[array_position(ids, $3::uuid)], now + $4::bigint)
FROM clock
WHERE namespace = $1 AND name = $2 AND $3::uuid = ANY (ids)
  -- By the time of now, for this may have waited for somebody else at the row.
  AND {now} < ALL (expires)
RETURNING tokens[array_position(ids, $3::uuid)] AS token, expires[array_position(ids, $3::uuid)] - now AS ttl,
  array_position(ids, $3::uuid) - array_position(tokens, 0::bigint) AS ahead,
  -- The end of the waiter in front, or of the first holder.
  CASE 0 WHEN tokens[array_position(ids, $3::uuid)] THEN coalesce(coalesce(
    CASE 0 WHEN tokens[array_position(ids, $3::uuid) - 1] THEN expires[array_position(ids, $3::uuid) - 1] END,
    (SELECT min(u.expires) FROM unnest(l.tokens, l.expires) AS u (token, expires) WHERE u.token > 0)
  ) - now, 0) END AS blocked
