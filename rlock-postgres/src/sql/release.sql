-- Releases a lease that holds its resource alone; and grants the resource to whoever is next, if both want all of it.
-- Answers the token of that grant, and the inbox and the id to tell it to.
-- $1 namespace, $2 name, $3 id
WITH clock AS MATERIALIZED (
  SELECT {now} AS now
)
UPDATE {schema}.locks AS l SET
  last = CASE cardinality(ids) WHEN 1 THEN last ELSE greatest(last + 1, now) END,
  capacity = CASE cardinality(ids) WHEN 1 THEN 0 ELSE capacity END,
  ids = ids[2:], weights = weights[2:],
  tokens = CASE cardinality(ids) WHEN 1 THEN '{}' ELSE greatest(last + 1, now) || tokens[3:] END,
  expires = expires[2:],
  since = CASE cardinality(ids) WHEN 1 THEN '{}' ELSE now || since[3:] END,
  inboxes = inboxes[2:], owners = owners[2:]
FROM clock
WHERE namespace = $1 AND name = $2 AND ids[1] = $3::uuid AND tokens[1] > 0
  -- By the time of now, for this may have waited for somebody else at the row.
  AND {now} < ALL (expires)
  AND (cardinality(ids) = 1 OR weights[1] = capacity AND weights[2] = capacity AND starts_with(inboxes[2], 'rlock'))
RETURNING tokens[1] AS token, inboxes[1] AS inbox, replace(ids[1]::text, '-', '') AS id
