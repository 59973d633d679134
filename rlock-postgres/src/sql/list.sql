-- A page of the resources that have leases, the expired ones too, in the order of their names.
-- $1 namespace, $2 what the names begin with, $3 the name that the page before ended with, $4 how many at most
SELECT l.name, (clock.now >= ANY (l.expires)) AS is_stale,
  (SELECT count(*) FROM unnest(l.tokens) AS token WHERE token > 0) AS holders,
  (SELECT count(*) FROM unnest(l.tokens) AS token WHERE token = 0) AS waiters
FROM {schema}.locks AS l, (SELECT {now} AS now) AS clock
WHERE l.namespace = $1 AND l.name > $3 AND l.name >= $2 AND starts_with(l.name, $2) AND l.ids <> '{}'
ORDER BY l.name LIMIT $4::bigint
