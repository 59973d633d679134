-- Any number of operations on resources in whatever state they are: drops what has expired, does what is asked for, and
-- grants what that makes room for. A row is locked only if it has to change, in the order of the names.
-- $1 namespace; per operation: $2 names, $3 ids, $4 verbs, $5 TTLs in µs, $6 weights, $7 capacities, $8 owners; $9 inbox
-- Verbs: 1 extend, 2 release, 3 claim and queue, 4 claim and do not queue, 5 break what is held, 6 only drop and grant.
-- $10 how old the tables have to be for claims, in µs.
-- Answers, per operation and per client that has to be told: what has come of it (as in answers.rs), which operation,
-- two numbers, an inbox, an id.
WITH asked AS MATERIALIZED (
  SELECT nr, name, id::uuid, verb, ttl, weight, capacity, owner
  FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[])
    WITH ORDINALITY AS a (name, id, verb, ttl, weight, capacity, owner, nr)
), seen AS MATERIALIZED (
  -- One look-up by the primary key for each name, whatever the planner thinks of the table.
  SELECT l.*, {now} >= ANY (l.expires) AND EXISTS (
    -- Whoever waits in front of everybody may have been waiting for what has expired.
    SELECT FROM unnest(l.tokens, l.expires) AS u (token, expires) WHERE u.token = 0 AND u.expires > {now}
  ) OR EXISTS (
    SELECT FROM asked AS a WHERE a.name = l.name AND CASE
      WHEN a.verb IN (1, 2) THEN a.id = ANY (l.ids)
      WHEN a.verb = 4 THEN a.id = ANY (l.ids) OR NOT EXISTS (
        SELECT FROM unnest(l.weights, l.tokens, l.expires) AS u (weight, token, expires) WHERE u.expires > {now}
        HAVING bool_or(u.token = 0) OR sum(u.weight) + a.weight > l.capacity
          OR l.capacity <> a.capacity AND count(*) > 0)
      ELSE true
    END
  ) AS is_needed
  FROM (SELECT DISTINCT name FROM asked) AS n,
    LATERAL (SELECT * FROM {schema}.locks AS l WHERE l.namespace = $1 AND l.name = n.name OFFSET 0) AS l
), locked AS MATERIALIZED (
  SELECT l.* FROM (SELECT name FROM seen WHERE is_needed ORDER BY name) AS n,
    LATERAL (SELECT * FROM {schema}.locks AS l WHERE l.namespace = $1 AND l.name = n.name FOR NO KEY UPDATE) AS l
), clock AS MATERIALIZED (
  -- Read when all rows are locked.
  SELECT {now} AS now FROM (SELECT count(*) FROM locked) AS l
), found AS MATERIALIZED (
  SELECT *, true AS is_locked FROM locked
  UNION ALL
  SELECT namespace, name, last, capacity, ids, weights, tokens, expires, since, inboxes, owners, false
  FROM seen WHERE NOT is_needed
), live AS MATERIALIZED (
  SELECT f.name, f.last, f.capacity, f.is_locked, u.*
  FROM found AS f, unnest(f.ids, f.weights, f.tokens, f.expires, f.since, f.inboxes, f.owners)
    WITH ORDINALITY AS u (id, weight, token, expires, since, inbox, owner, pos)
  WHERE u.expires > (SELECT now FROM clock)
), unsettled AS MATERIALIZED (
  -- Where somebody waits for what has expired, that is granted first, and what takes leases out comes late.
  SELECT f.name FROM found AS f
  WHERE f.is_locked AND (SELECT now FROM clock) >= ANY (f.expires)
    AND EXISTS (SELECT FROM live AS v WHERE v.name = f.name AND v.token = 0)
), grace AS MATERIALIZED (
  -- How much of it is left.
  SELECT made + $10::bigint - (SELECT now FROM clock) AS rest FROM {schema}.state WHERE id = 1
), claims AS MATERIALIZED (
  -- Those that may be refused come last, the smallest first: then one that is refused makes room for none behind it.
  SELECT a.*, coalesce(v.capacity, first_value(a.capacity) OVER turn) AS actual,
    1000000000 + row_number() OVER turn AS pos
  FROM asked AS a LEFT JOIN (SELECT DISTINCT name, capacity FROM live) AS v ON v.name = a.name
  WHERE a.verb IN (3, 4) AND (a.name IN (SELECT name FROM seen) OR (SELECT rest <= 0 FROM grace))
    AND NOT EXISTS (SELECT FROM live AS there WHERE there.name = a.name AND there.id = a.id)
  WINDOW turn AS (PARTITION BY a.name ORDER BY a.verb, CASE a.verb WHEN 4 THEN a.weight END, a.nr)
), kept AS (
  SELECT v.name, v.last, v.capacity, v.is_locked, v.pos, 0 AS claimed, v.id, v.weight, v.token,
    CASE a.verb WHEN 1 THEN greatest(v.expires, (SELECT now FROM clock) + a.ttl) ELSE v.expires END AS expires,
    v.since, v.inbox, v.owner
  FROM live AS v LEFT JOIN asked AS a ON a.name = v.name AND a.id = v.id
  WHERE v.name IN (SELECT name FROM unsettled) OR a.verb IS DISTINCT FROM 2
    AND NOT (v.token > 0 AND EXISTS (SELECT FROM asked AS b WHERE b.verb = 5 AND b.name = v.name))
  UNION ALL
  SELECT a.name, coalesce(f.last, (SELECT floor FROM {schema}.state WHERE id = 1)), a.actual,
    coalesce(f.is_locked, true), a.pos, a.verb, a.id, a.weight, 0, (SELECT now FROM clock) + a.ttl,
    (SELECT now FROM clock), $9::text, a.owner
  FROM claims AS a LEFT JOIN found AS f ON f.name = a.name
  WHERE a.capacity = a.actual
), fitting AS (
  -- Holders come first, so what does not fit is in front of nothing that does.
  SELECT *, is_locked AND token = 0 AND sum(weight) OVER (PARTITION BY name ORDER BY pos) <= capacity AS is_new
  FROM kept
), numbered AS MATERIALIZED (
  SELECT k.name, k.capacity, k.is_locked, k.pos, k.claimed, k.is_new, k.id, k.weight, k.expires, k.inbox, k.owner,
    CASE WHEN is_new THEN (SELECT now FROM clock) ELSE k.since END AS since,
    CASE WHEN is_new THEN greatest(k.last + 1, (SELECT now FROM clock)) - 1
      + count(*) FILTER (WHERE is_new) OVER (PARTITION BY name ORDER BY pos)
    ELSE k.token END AS token
  FROM fitting AS k WHERE is_new OR claimed <> 4
), next AS MATERIALIZED (
  SELECT name, max(capacity) AS capacity, max(token) AS last, array_agg(id ORDER BY pos) AS ids,
    array_agg(weight ORDER BY pos) AS weights, array_agg(token ORDER BY pos) AS tokens,
    array_agg(expires ORDER BY pos) AS expires, array_agg(since ORDER BY pos) AS since,
    array_agg(inbox ORDER BY pos) AS inboxes, array_agg(owner ORDER BY pos) AS owners
  FROM numbered WHERE is_locked GROUP BY name
), changed AS (
  UPDATE {schema}.locks AS l SET
    last = greatest(f.last, n.last), capacity = coalesce(n.capacity, 0), ids = coalesce(n.ids, '{}'),
    weights = coalesce(n.weights, '{}'), tokens = coalesce(n.tokens, '{}'), expires = coalesce(n.expires, '{}'),
    since = coalesce(n.since, '{}'), inboxes = coalesce(n.inboxes, '{}'), owners = coalesce(n.owners, '{}')
  FROM found AS f LEFT JOIN next AS n ON n.name = f.name
  WHERE l.namespace = f.namespace AND l.name = f.name AND f.is_locked
    AND (coalesce(n.ids, '{}'), coalesce(n.tokens, '{}'), coalesce(n.expires, '{}'))
      IS DISTINCT FROM (f.ids, f.tokens, f.expires)
), made AS (
  INSERT INTO {schema}.locks
  SELECT $1, name, last, capacity, ids, weights, tokens, expires, since, inboxes, owners
  FROM next WHERE NOT EXISTS (SELECT FROM seen WHERE seen.name = next.name)
  ORDER BY name ON CONFLICT DO NOTHING RETURNING name
), told AS MATERIALIZED (
  SELECT 9 AS what, token, inbox, id FROM numbered WHERE is_new AND claimed = 0 AND is_locked
  UNION ALL
  SELECT 10, token, inbox, v.id FROM live AS v JOIN asked AS b ON b.name = v.name AND b.verb = 5
  WHERE v.token > 0 AND v.name NOT IN (SELECT name FROM unsettled)
), mailed AS (
  INSERT INTO {schema}.mail
  SELECT inbox, CASE what WHEN 9 THEN 'g ' ELSE 'b ' END || replace(id::text, '-', '')
    || CASE what WHEN 9 THEN ' ' || token ELSE '' END, (SELECT now FROM clock)
  FROM told WHERE inbox LIKE 'mail%'
), standing AS (
  SELECT name, id, token, expires, count(*) FILTER (WHERE token = 0) OVER turn - 1 AS ahead,
    min(expires) FILTER (WHERE token > 0) OVER (PARTITION BY name) AS holder,
    lag(CASE token WHEN 0 THEN expires END) OVER turn AS before
  FROM numbered WINDOW turn AS (PARTITION BY name ORDER BY pos)
), answers AS (
  SELECT a.nr, a.verb, s.token, s.expires, s.ahead, coalesce(s.before, s.holder, 0) AS blocked, was.token AS before,
    CASE WHEN c.actual <> a.capacity THEN c.actual END AS other_capacity,
    -- Somebody made the row, or deleted it, after this statement began to look.
    f.name IS NULL AND (EXISTS (SELECT FROM seen WHERE seen.name = a.name)
      OR s.name IS NOT NULL AND NOT EXISTS (SELECT FROM made WHERE made.name = a.name))
      OR a.verb IN (2, 5) AND a.name IN (SELECT name FROM unsettled) AS is_late,
    a.verb IN (3, 4) AND f.name IS NULL AND (SELECT rest > 0 FROM grace) AS is_early,
    CASE a.verb
      WHEN 1 THEN (SELECT count(*) FROM numbered AS o WHERE o.name = a.name AND o.token > 0)
      WHEN 2 THEN (SELECT count(*) FROM numbered AS o WHERE o.name = a.name)
      WHEN 5 THEN (SELECT count(*) FROM live AS o WHERE o.name = a.name AND o.token > 0)
    END AS others
  FROM asked AS a
    LEFT JOIN found AS f ON f.name = a.name
    LEFT JOIN claims AS c ON c.nr = a.nr
    LEFT JOIN standing AS s ON s.name = a.name AND s.id = a.id
    LEFT JOIN live AS was ON was.name = a.name AND was.id = a.id
)
SELECT 0 AS what, nr, 0 AS x, 0 AS y, NULL AS inbox, NULL AS id FROM answers WHERE is_late AND NOT is_early
UNION ALL
SELECT 11, nr, (SELECT rest FROM grace), 0, NULL, NULL FROM answers WHERE is_early
UNION ALL
SELECT
  CASE
    WHEN verb = 2 THEN CASE WHEN before IS NULL THEN 7 ELSE 6 END
    WHEN verb IN (5, 6) THEN 8
    WHEN token > 0 THEN 1
    WHEN token = 0 THEN 2
    WHEN verb = 1 THEN 5
    WHEN other_capacity > 0 THEN 4
    ELSE 3
  END,
  nr,
  coalesce(CASE WHEN token > 0 THEN token WHEN token = 0 THEN ahead ELSE coalesce(other_capacity, others) END, 0),
  coalesce(CASE WHEN token > 0 THEN expires WHEN token = 0 THEN blocked END - (SELECT now FROM clock), 0),
  NULL, NULL
FROM answers WHERE NOT is_late AND NOT is_early
UNION ALL
SELECT what, 0, token, 0, inbox, replace(id::text, '-', '') FROM told WHERE inbox LIKE 'rlock%'
