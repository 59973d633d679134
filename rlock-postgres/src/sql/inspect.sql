-- The leases of a resource, the expired ones too. The times are in µs.
-- $1 namespace, $2 name
SELECT l.capacity, u.weight, u.token, u.expires - c.now AS remaining, c.now - u.since AS passed, u.owner
FROM {schema}.locks AS l,
  (SELECT {now} AS now) AS c,
  unnest(l.weights, l.tokens, l.expires, l.since, l.owners)
    WITH ORDINALITY AS u (weight, token, expires, since, owner, pos)
WHERE l.namespace = $1 AND l.name = $2
ORDER BY u.pos
