-- A page of the resources that have live leases, in the order of their names: each with the numbers of its holders and
-- waiters, and whether a waiter may be due for a grant.
-- $1 namespace, $2 the prefix of the names, $3 the last name of the page before, $4 the maximum number of rows
SELECT l.name, s.holders + u.holders AS holders, u.waiters,
  u.waiters > 0 AND (l.expires > 0 AND l.expires <= c.now OR u.expired > 0) AS is_stale
FROM {schema}.locks AS l,
  (SELECT {now} AS now) AS c,
  LATERAL (SELECT CASE WHEN l.id IS NOT NULL AND l.expires > c.now THEN 1 ELSE 0 END AS holders) AS s,
  LATERAL (
    SELECT count(*) FILTER (WHERE q.expires > c.now AND q.place < 0 AND q.id IS NOT NULL) AS holders,
      count(*) FILTER (WHERE q.expires > c.now AND q.place > 0) AS waiters,
      count(*) FILTER (WHERE q.expires <= c.now) AS expired
    FROM {schema}.leases AS q
    WHERE q.namespace = l.namespace AND q.name = l.name AND l.shared + l.waiting > 0
  ) AS u
WHERE l.namespace = $1 AND l.name > $3 AND l.name >= $2 AND starts_with(l.name, $2)
  AND s.holders + u.holders + u.waiters > 0
ORDER BY l.name LIMIT $4::bigint
