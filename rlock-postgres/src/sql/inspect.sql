-- The leases and the rests of a resource, including expired ones: holders in the order of their grants, then waiters
-- in the order of the queue. The times are in µs. A rest has no owner.
-- $1 namespace, $2 name
SELECT l.capacity, u.weight, u.token, u.expires - c.now AS remaining, c.now - u.since AS passed, u.owner, u.data
FROM {schema}.locks AS l,
  (SELECT {now} AS now) AS c,
  LATERAL (
    SELECT l.weight, l.token, l.expires, l.since, l.owner, l.data, 0::bigint AS place WHERE l.expires > 0
    UNION ALL
    SELECT q.weight, greatest(-q.place, 0), q.expires, q.since, q.owner, q.data, greatest(q.place, 0)
    FROM {schema}.leases AS q
    WHERE q.namespace = l.namespace AND q.name = l.name AND l.shared + l.waiting > 0
  ) AS u
WHERE l.namespace = $1 AND l.name = $2
ORDER BY u.place, u.token
