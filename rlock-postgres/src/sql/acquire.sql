-- Claims one lease of a resource without live leases. Answers its token and its life; or nothing but whether what is
-- there is in the way of every claim like it; or nothing at all if somebody else was quicker.
-- $1 namespace, $2 name, $3 id, $4 weight, $5 capacity, $6 TTL in µs, $7 inbox, $8 owner, $9 how old the tables have to
-- be, in µs
WITH clock AS MATERIALIZED (
  SELECT {now} AS now
), seen AS MATERIALIZED (
  SELECT l.capacity, l.ids, clock.now >= ANY (l.expires) AS is_stale FROM {schema}.locks AS l, clock
  WHERE l.namespace = $1 AND l.name = $2 AND clock.now < ANY (l.expires)
), held AS (
  INSERT INTO {schema}.locks AS l
  SELECT $1, $2, token, $5::bigint, ARRAY[$3::uuid], ARRAY[$4::bigint], ARRAY[token], ARRAY[now + $6::bigint],
    ARRAY[now], ARRAY[$7::text], ARRAY[$8::text]
  FROM clock, LATERAL (
    SELECT greatest(now, floor + 1) AS token FROM {schema}.state WHERE id = 1 AND made <= now - $9::bigint
  ) AS next
  WHERE NOT EXISTS (SELECT FROM seen)
  ON CONFLICT (namespace, name) DO UPDATE SET
    last = greatest(l.last + 1, excluded.last), capacity = excluded.capacity, ids = excluded.ids,
    weights = excluded.weights, tokens = ARRAY[greatest(l.last + 1, excluded.last)], expires = excluded.expires,
    since = excluded.since, inboxes = excluded.inboxes, owners = excluded.owners
  -- Somebody else may have been at the row since, and this may have waited for that.
  WHERE NOT {now} < ANY (l.expires)
  RETURNING l.last
)
SELECT last AS token, $6::bigint AS ttl, NULL AS is_busy FROM held
UNION ALL
SELECT NULL, NULL, capacity = $5::bigint AND $4::bigint = $5::bigint AND NOT $3::uuid = ANY (ids) AND NOT is_stale
FROM seen
