-- Deletes, from one stretch of the table, the rows whose last lease ended long ago, and all old mail that no client has
-- read. The tokens of new rows start above theirs, even if the clock was set back. Returns the end of the stretch, and
-- the resources in it whose waiters and shared holders ended long ago.
-- $1, $2 the last namespace and name of the stretch before, $3 the minimum age in µs, $4 the number of rows to scan
WITH stretch AS MATERIALIZED (
  SELECT namespace, name FROM {schema}.locks WHERE (namespace, name) > ($1, $2)
  ORDER BY namespace, name LIMIT $4::bigint
), unused AS MATERIALIZED (
  SELECT l.namespace, l.name, l.last FROM stretch AS s, LATERAL (
    SELECT * FROM {schema}.locks AS l
    WHERE l.namespace = s.namespace AND l.name = s.name
      AND l.last < {now} - $3::bigint AND l.expires < {now} - $3::bigint AND l.shared = 0 AND l.waiting = 0
    FOR UPDATE SKIP LOCKED
  ) AS l
), deleted AS (
  DELETE FROM {schema}.locks AS l USING unused AS u WHERE l.namespace = u.namespace AND l.name = u.name RETURNING u.last
), raised AS (
  UPDATE {schema}.state SET floor = greatest(floor, d.last) FROM (SELECT max(last) AS last FROM deleted) AS d
  WHERE id = 1 AND d.last > floor
), read AS (
  DELETE FROM {schema}.mail WHERE sent < {now} - $3::bigint
)
SELECT * FROM (
  SELECT s.namespace, s.name, row_number() OVER (ORDER BY s.namespace DESC, s.name DESC) = 1 AS is_last,
    l.shared + l.waiting > 0 AND NOT EXISTS (
      SELECT FROM {schema}.leases AS q
      WHERE q.namespace = s.namespace AND q.name = s.name AND q.expires > {now} - $3::bigint
    ) AS is_abandoned
  FROM stretch AS s JOIN {schema}.locks AS l ON l.namespace = s.namespace AND l.name = s.name
) AS r
WHERE is_last OR is_abandoned ORDER BY namespace, name
